#include "cli/doctor_report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/fsutil.h"
#include "lib/progress.h"

#define SYNC_S 5.0

/* JSON is UTF-8; file names are any bytes. */
static void printable(char *text)
{
    json_t *good = json_string(text);
    for (char *c = text; !good && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json_decref(good);
}

static double finite_or_0(double v)
{
    return isfinite(v) ? v : 0;
}

bool doctor_entry_is_of(const struct doctor_entry *d, const char *uri)
{
    char name[MANIFEST_URI_MAX];
    snprintf(name, sizeof name, "%s", uri);
    printable(name);
    return strcmp(name, d->uri) == 0;
}

static json_t *facts_json(uint32_t facts)
{
    json_t *list = json_array();
    for (unsigned f = MEDIA_ROTATED; f < MEDIA_FACTS_END; f++)
        if (facts & media_fact_bit((enum media_fact)f))
            json_array_append_new(list, json_string(media_code_name(f)));
    return list;
}

static json_t *needs_json(const struct doctor_entry *d)
{
    json_t *list = json_array();
    if (d->video)
        json_array_append_new(list, json_string("video"));
    if (d->audio)
        json_array_append_new(list, json_string("audio"));
    return list;
}

char *doctor_entry_print(const struct doctor_entry *d)
{
    char uri[MANIFEST_URI_MAX], detail[sizeof d->detail], *text = NULL, *line = NULL;
    snprintf(uri, sizeof uri, "%s", d->uri);
    snprintf(detail, sizeof detail, "%s", d->detail);
    printable(uri);
    printable(detail);
    json_t *fault = d->fault ? json_string(media_code_name(d->fault)) : json_null();
    json_t *j =
        json_pack("{s:I, s:s, s:o, s:o, s:s, s:{s:I, s:I, s:I, s:f, s:f}, s:I, s:I, s:o, s:f}", "index",
                  (json_int_t)d->index, "uri", uri, "fault", fault, "facts", facts_json(d->facts), "detail",
                  detail, "counts", "video_frames", (json_int_t)d->counts.video_frames, "audio_samples",
                  (json_int_t)d->counts.audio_samples, "damaged", (json_int_t)d->counts.faults, "video_end_s",
                  finite_or_0(d->counts.video_end_s), "audio_end_s", finite_or_0(d->counts.audio_end_s),
                  "size_bytes", (json_int_t)d->size_bytes, "mtime_ns", (json_int_t)d->mtime_ns, "needs",
                  needs_json(d), "min_sound_s", d->min_sound_s);
    if (j)
        text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    json_decref(j);
    return line;
}

static bool parse_facts(const json_t *list, uint32_t *out)
{
    size_t i;
    json_t *name;
    *out = 0;
    json_array_foreach((json_t *)list, i, name)
    {
        int code = json_is_string(name) ? media_code_find(json_string_value(name)) : -1;
        if (code < 0 || !media_code_is_fact((unsigned)code))
            return false;
        *out |= media_fact_bit((enum media_fact)code);
    }
    return json_is_array(list);
}

static bool parse_needs(const json_t *list, struct doctor_entry *out)
{
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)list, i, name)
    {
        const char *s = json_is_string(name) ? json_string_value(name) : "";
        out->video |= strcmp(s, "video") == 0;
        out->audio |= strcmp(s, "audio") == 0;
    }
    return json_is_array(list);
}

static bool from_json(const json_t *j, struct doctor_entry *out)
{
    json_t *fault, *facts, *needs;
    json_int_t index, frames, samples, damaged, size, mtime;
    const char *uri, *detail;
    struct media_examination *c = &out->counts;
    if (json_unpack((json_t *)j, "{s:I, s:s, s:o, s:o, s:s, s:{s:I, s:I, s:I, s:F, s:F}, s:I, s:I, s:o, s:F}",
                    "index", &index, "uri", &uri, "fault", &fault, "facts", &facts, "detail", &detail,
                    "counts", "video_frames", &frames, "audio_samples", &samples, "damaged", &damaged,
                    "video_end_s", &c->video_end_s, "audio_end_s", &c->audio_end_s, "size_bytes", &size,
                    "mtime_ns", &mtime, "needs", &needs, "min_sound_s", &out->min_sound_s) < 0)
        return false;
    int code = json_is_null(fault)     ? 0
               : json_is_string(fault) ? media_code_find(json_string_value(fault))
                                       : -1;
    if (code < 0 || code >= MEDIA_REASONS || index < 0 || size < 0 || strlen(uri) >= sizeof out->uri)
        return false;
    out->index = (uint64_t)index;
    out->fault = (uint32_t)code;
    c->video_frames = (uint64_t)frames;
    c->audio_samples = (uint64_t)samples;
    c->faults = (uint64_t)damaged;
    out->size_bytes = (uint64_t)size;
    out->mtime_ns = mtime;
    snprintf(out->uri, sizeof out->uri, "%s", uri);
    snprintf(out->detail, sizeof out->detail, "%s", detail);
    return parse_facts(facts, &out->facts) && parse_needs(needs, out);
}

bool doctor_entry_parse(const char *line, size_t size, struct doctor_entry *out)
{
    memset(out, 0, sizeof *out);
    json_t *j = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    bool good = j && from_json(j, out);
    json_decref(j);
    return good;
}

/* Copies what is to stay from `in` to `out`. Returns the number of lines that are not. */
static uint64_t sift(FILE *in, FILE *out, bool (*keep)(void *arg, const struct doctor_entry *d), void *arg)
{
    struct doctor_entry *d = malloc(sizeof *d);
    char *line = NULL;
    size_t room = 0;
    uint64_t dropped = 0;
    ssize_t n;
    while (d && (n = getline(&line, &room, in)) > 0) {
        if (line[n - 1] == '\n' && doctor_entry_parse(line, (size_t)n, d) && keep(arg, d))
            fwrite(line, 1, (size_t)n, out);
        else
            dropped++;
    }
    free(line);
    free(d);
    return dropped;
}

static int lock(struct doctor_report *r, int fd, struct err *e)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
        return errno == EAGAIN || errno == EACCES
                   ? err_set(e, XDC_ELOCKED,
                             "another xdc doctor writes %s; wait for it, or choose another --out", r->path)
                   : err_sys(e, errno, "lock %s", r->path);
    return 0;
}

/* The lines that hold go to a new file, which takes the old one's place if any did not. */
static int renew(struct doctor_report *r, bool (*keep)(void *arg, const struct doctor_entry *d), void *arg,
                 struct err *e)
{
    char tmp[PATH_MAX];
    int rc = fs_path(tmp, e, "%s.tmp", r->path);
    if (rc < 0)
        return rc;
    FILE *in = fopen(r->path, "re"), *out = fopen(tmp, "we");
    if (!in || !out)
        rc = err_sys(e, errno, "read %s, write %s", r->path, tmp);
    uint64_t dropped = rc == 0 ? sift(in, out, keep, arg) : 0;
    if (rc == 0 && (ferror(in) || fflush(out) || fsync(fileno(out)) < 0))
        rc = err_sys(e, errno ? errno : EIO, "write %s", tmp);
    if (in)
        fclose(in);
    if (out)
        fclose(out);
    int fd = rc == 0 && dropped ? open(tmp, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    if (fd >= 0) {
        rc = lock(r, fd, e);
        if (rc == 0 && rename(tmp, r->path) < 0)
            rc = err_sys(e, errno, "replace %s", r->path);
        close(r->fd);
        r->fd = fd;
    } else {
        unlink(tmp);
    }
    return rc;
}

int doctor_report_open(struct doctor_report *r, const char *path,
                       bool (*keep)(void *arg, const struct doctor_entry *d), void *arg, struct err *e)
{
    *r = (struct doctor_report){.fd = -1, .synced_s = progress_now_s()};
    int rc = fs_path(r->path, e, "%s", path);
    if (rc < 0)
        return rc;
    r->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return err_sys(e, errno, "open %s", path);
    rc = lock(r, r->fd, e);
    return rc == 0 ? renew(r, keep, arg, e) : rc;
}

int doctor_report_add(struct doctor_report *r, const struct doctor_entry *d, struct err *e)
{
    char *line = doctor_entry_print(d);
    if (!line)
        return err_sys(e, ENOMEM, "write %s", r->path);
    int rc = fs_write_all(r->fd, line, strlen(line), r->path, e);
    free(line);
    if (rc == 0 && progress_now_s() - r->synced_s > SYNC_S) {
        r->synced_s = progress_now_s();
        if (fdatasync(r->fd) < 0)
            rc = err_sys(e, errno, "write %s", r->path);
    }
    return rc;
}

int doctor_report_close(struct doctor_report *r, struct err *e)
{
    int rc = 0;
    if (r->path[0] && r->fd >= 0) {
        if (fsync(r->fd) < 0 && errno != EINVAL)
            rc = err_sys(e, errno, "write %s", r->path);
        close(r->fd);
        r->fd = -1;
    }
    return rc;
}
