#include "cli/explain_clip.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/explain_round.h"
#include "lib/checkpoint_dir.h"
#include "lib/clip.h"
#include "lib/fsutil.h"
#include "lib/ledger.h"
#include "lib/manifest.h"
#include "lib/media/codes.h"
#include "lib/quarantine_file.h"

/* One clip of a run. */
struct subject {
    struct conf conf;
    struct manifest *m;           /* owned */
    struct manifest_video *video; /* owned */
    uint64_t clip, per_video;
    json_t *out; /* owned */
};

static double start_of(const struct subject *s, const struct manifest_video *v, uint64_t clip,
                       double *out_span)
{
    const struct clip_times times = conf_clip_times(&s->conf);
    *out_span = conf_clip_span_s(&s->conf, v->fps);
    return clip_times_start_s(&times, clip, v->duration_s, *out_span);
}

/* The clip of video `index`, which s->video is, that starts nearest to `at` seconds. */
static uint64_t nearest_clip(const struct subject *s, uint64_t index, double at)
{
    uint64_t best = index * s->per_video;
    double least = INFINITY, span;
    for (uint64_t c = index * s->per_video; c < (index + 1) * s->per_video; c++) {
        double off = fabs(start_of(s, s->video, c, &span) - at);
        if (off < least) {
            least = off;
            best = c;
        }
    }
    return best;
}

/* Goes through the manifest for the uri; behind its last @ there may be a time. */
static int find_uri(struct subject *s, const char *text, struct err *e)
{
    const char *mark = strrchr(text, '@');
    double at = 0;
    size_t n = mark && cli_parse_real(mark + 1, 0, 1e9, &at) ? (size_t)(mark - text) : 0;
    for (uint64_t i = 0; i < manifest_count(s->m); i++) {
        int rc = manifest_get(s->m, i, s->video, e);
        if (rc)
            return rc;
        bool whole = strcmp(s->video->uri, text) == 0;
        if (whole || (n && strncmp(s->video->uri, text, n) == 0 && !s->video->uri[n])) {
            s->clip = whole ? i * s->per_video : nearest_clip(s, i, at);
            return 0;
        }
    }
    return err_set(e, XDC_EUSAGE, "no video of %s is called %s; `xdc labels` lists clips with their videos",
                   s->conf.data.manifest, text);
}

static int find_clip(struct subject *s, const char *text, struct err *e)
{
    uint64_t clips = manifest_count(s->m) * s->per_video;
    if (text[strspn(text, "0123456789")] || !*text)
        return find_uri(s, text, e);
    if (clips == 0 || !cli_parse_count(text, 0, clips - 1, &s->clip))
        return err_set(e, XDC_EUSAGE, "there is no clip %s; those of this run are 0 to %" PRIu64, text,
                       clips ? clips - 1 : 0);
    return manifest_get(s->m, s->clip / s->per_video, s->video, e);
}

static void put_clip(struct subject *s)
{
    double span, start = start_of(s, s->video, s->clip, &span);
    struct clip_holdout h;
    clip_holdout_init(&h, (uint64_t)s->conf.run.seed, s->conf.train.holdout,
                      (uint64_t)s->conf.train.holdout_min_clips, manifest_count(s->m),
                      (uint32_t)s->per_video);
    const char *truth = s->video->truth >= 0 ? manifest_class_name(s->m, s->video->truth) : NULL;
    s->out = json_pack("{s:I, s:I, s:o, s:f, s:f, s:f, s:b, s:s?}", "clip", (json_int_t)s->clip, "video",
                       (json_int_t)(s->clip / s->per_video), "uri", cli_json_uri(s->video->uri), "start_s",
                       start, "length_s", span, "duration_s", s->video->duration_s, "held_out",
                       clip_holdout_has(&h, s->clip / s->per_video), "truth", truth);
}

static void put_fault(json_t *list, uint32_t code, const char *by)
{
    json_array_append_new(
        list, json_pack("{s:i, s:s, s:s}", "code", (int)code, "name", media_code_name(code), "by", by));
}

/* What the doctor's list that the run took says of the video. */
static int put_doctor(const struct subject *s, json_t *list, struct err *e)
{
    char path[PATH_MAX];
    struct quarantine_list q;
    int rc = fs_path(path, e, "%s/videos.quarantine", s->conf.run.dir);
    if (rc == 0)
        rc = quarantine_file_read(path, &q, e);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    for (size_t i = 0; i < q.n; i++)
        if (q.videos[i].video == s->clip / s->per_video)
            put_fault(list, q.videos[i].code, "doctor");
    free(q.videos);
    return 0;
}

/* Faults that keep the clip from being used: of the index, the doctor and, up to the newest checkpoint, the
 * run. */
static int put_faults(struct subject *s, struct err *e)
{
    char path[PATH_MAX];
    json_t *state = NULL, *list = json_array(), *entry;
    size_t i;
    if (s->video->probe_reason)
        put_fault(list, s->video->probe_reason, "index");
    int rc = put_doctor(s, list, e);
    if (rc == 0)
        rc = checkpoint_dir_latest(s->conf.run.dir, path, &state, NULL, NULL, e);
    json_array_foreach(json_object_get(state, "quarantine"), i, entry)
    {
        if ((uint64_t)json_integer_value(json_array_get(entry, 0)) == s->clip)
            put_fault(list, (uint32_t)json_integer_value(json_array_get(entry, 1)), "run");
    }
    json_decref(state);
    json_object_set_new(s->out, "faults", list);
    return rc == -ENOENT ? 0 : rc;
}

/* What the ledgers say of the clip. */
struct counts {
    uint64_t clip;
    uint64_t of[LEDGER_UNSTABLE + 1];
    uint64_t records, last_step;
};

static void on_record(void *arg, const struct ledger_record *r)
{
    struct counts *c = arg;
    c->records++;
    if (r->clip != c->clip || r->disposition > LEDGER_UNSTABLE)
        return;
    c->of[r->disposition]++;
    if (r->disposition == LEDGER_TRAINED && r->step > c->last_step)
        c->last_step = r->step;
}

static int read_rank(const char *dir, struct counts *c, struct err *e)
{
    char path[PATH_MAX];
    DIR *d = opendir(dir);
    if (!d)
        return err_sys(e, errno, "open %s", dir);
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        unsigned epoch;
        if (sscanf(entry->d_name, "epoch-%u.led", &epoch) != 1)
            continue;
        rc = fs_path(path, e, "%s/%s", dir, entry->d_name);
        if (rc == 0)
            rc = ledger_read(path, on_record, c, NULL, e);
    }
    closedir(d);
    return rc;
}

static int put_training(struct subject *s, struct err *e)
{
    struct counts c = {.clip = s->clip};
    char dir[PATH_MAX];
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && rank < CONF_RANKS_MAX; rank++) {
        rc = fs_path(dir, e, "%s/ledger/rank-%u", s->conf.run.dir, rank);
        if (rc == 0)
            rc = read_rank(dir, &c, e);
    }
    if (rc && rc != -ENOENT)
        return rc;
    json_t *j = json_pack("{s:I, s:I, s:I, s:I, s:I}", "trained", (json_int_t)c.of[LEDGER_TRAINED],
                          "quarantined", (json_int_t)c.of[LEDGER_QUARANTINED], "unlabelled",
                          (json_int_t)c.of[LEDGER_UNLABELLED], "held_out", (json_int_t)c.of[LEDGER_HELD_OUT],
                          "unstable", (json_int_t)c.of[LEDGER_UNSTABLE]);
    if (c.of[LEDGER_TRAINED])
        json_object_set_new(j, "last_step", json_integer((json_int_t)c.last_step));
    if (c.records == 0)
        json_object_set_new(j, "missing", json_string("there is no ledger"));
    json_object_set_new(s->out, "training", j);
    return 0;
}

static int put_rounds(struct subject *s, struct err *e)
{
    json_t *list = json_array();
    uint32_t last = 0;
    int rc = cli_round(s->conf.run.dir, "labels", "last", &last, e);
    for (uint32_t r = 0; rc == 0 && r <= last; r++)
        rc = explain_round(&s->conf, manifest_identity(s->m), r, s->clip, list, e);
    json_object_set_new(s->out, "rounds", list);
    return rc == -ENOENT ? 0 : rc;
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *v = json_string_value(json_object_get(j, key));
    return v ? v : "-";
}

static double number_of(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

static void print_source(const json_t *j)
{
    if (!json_is_integer(json_object_get(j, "label"))) {
        printf("  %-8s no label\n", text_of(j, "source"));
        return;
    }
    printf("  %-8s cluster %.0f of %.0f, with %.0f clips", text_of(j, "source"), number_of(j, "label"),
           number_of(j, "k"), number_of(j, "size"));
    const json_t *second = json_object_get(j, "second");
    if (json_object_get(j, "distance"))
        printf("; distance %.4g", number_of(j, "distance"));
    if (second)
        printf(", to the second nearest (%.0f) %.4g, margin %.4g", number_of(second, "cluster"),
               number_of(second, "distance"), number_of(j, "margin"));
    if (json_object_get(j, "missing"))
        printf("; no distances: %s", text_of(j, "missing"));
    putchar('\n');
}

static void print_text(const struct subject *s)
{
    const json_t *j = s->out, *t = json_object_get(j, "training");
    json_t *entry, *source;
    size_t i, n;
    printf("clip %.0f: video %.0f, %s, %.3f s to %.3f s of %.3f%s%s\n", number_of(j, "clip"),
           number_of(j, "video"), s->video->uri, number_of(j, "start_s"),
           number_of(j, "start_s") + number_of(j, "length_s"), number_of(j, "duration_s"),
           json_is_string(json_object_get(j, "truth")) ? ", of class " : "",
           json_is_string(json_object_get(j, "truth")) ? text_of(j, "truth") : "");
    if (json_is_true(json_object_get(j, "held_out")))
        puts("held out: never trained, labelled by the nearest centroid");
    if (json_array_size(json_object_get(j, "faults")) == 0)
        puts("decoding: no fault is known");
    json_array_foreach(json_object_get(j, "faults"), i, entry)
    {
        printf("decoding: %s (%.0f), found by the %s; see xdc explain %s\n", text_of(entry, "name"),
               number_of(entry, "code"), text_of(entry, "by"), text_of(entry, "name"));
    }
    if (json_array_size(json_object_get(j, "rounds")) == 0)
        puts("no round has labels yet");
    json_array_foreach(json_object_get(j, "rounds"), i, entry)
    {
        printf("round %.0f\n", number_of(entry, "round"));
        json_array_foreach(json_object_get(entry, "sources"), n, source) print_source(source);
    }
    printf("training: trained %.0f times", number_of(t, "trained"));
    if (json_object_get(t, "last_step"))
        printf(", last in step %.0f", number_of(t, "last_step"));
    printf("; drawn and not trained: quarantined %.0f, unlabelled %.0f, held out %.0f, unstable %.0f%s%s\n",
           number_of(t, "quarantined"), number_of(t, "unlabelled"), number_of(t, "held_out"),
           number_of(t, "unstable"), json_object_get(t, "missing") ? "; " : "",
           json_object_get(t, "missing") ? text_of(t, "missing") : "");
}

int explain_clip(const char *clip, const char *run, bool json, struct err *e)
{
    struct subject s = {0};
    int rc = cli_run_conf(run, &s.conf, e);
    if (rc == 0)
        rc = manifest_open(s.conf.data.manifest, &s.m, e);
    if (rc == 0 && !(s.video = malloc(sizeof *s.video)))
        rc = err_sys(e, ENOMEM, "explain");
    s.per_video = rc == 0 ? (uint64_t)s.conf.data.clips_per_video : 1;
    if (rc == 0)
        rc = find_clip(&s, clip, e);
    if (rc == 0) {
        put_clip(&s);
        rc = put_faults(&s, e);
    }
    if (rc == 0)
        rc = put_rounds(&s, e);
    if (rc == 0)
        rc = put_training(&s, e);
    if (rc == 0 && json) {
        json_dumpf(s.out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (rc == 0) {
        print_text(&s);
    }
    json_decref(s.out);
    free(s.video);
    manifest_close(s.m);
    return rc;
}
