#include "cli/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/doctor_report.h"
#include "lib/fsutil.h"
#include "lib/progress.h"
#include "lib/quarantine_file.h"

#define CPU_LEAST_S 10.0
#define CPU_PER_S 4.0   /* of duration: large pictures decode at a fourth of their speed */
#define BYTES_PER_S 1e6 /* of files whose duration is not known */
#define CPU_MOST_S 7200.0
#define WALL_PER_CPU 4.0
#define WALL_LEAST_S 60.0

struct doctor {
    const struct doctor_options *o;
    struct doctor_summary *s;
    struct manifest *m; /* owned */
    uint8_t *known;     /* owned, a byte a video: 0, or the fault + 1 */
    struct doctor_report report;
    struct progress progress;
    uint64_t next;
    struct manifest_video video; /* scratch */
    struct doctor_entry entry;   /* scratch */
};

static void count(struct doctor *d, const struct doctor_entry *entry)
{
    d->known[entry->index] = (uint8_t)(entry->fault + 1);
    d->s->faults[entry->fault]++;
    d->s->faulty += entry->fault != 0;
    for (unsigned f = 0; f < MEDIA_FACTS; f++)
        d->s->facts[f] += entry->facts >> f & 1;
}

/* Whether an entry of an earlier doctor still says what this one would find. */
static bool keep(void *arg, const struct doctor_entry *entry)
{
    struct doctor *d = arg;
    const struct doctor_options *o = d->o;
    uint64_t size;
    int64_t mtime;
    if (o->fresh || entry->index >= d->s->videos || d->known[entry->index] ||
        entry->fault == MEDIA_OPEN_FAILED || entry->video != o->video || entry->audio != o->audio ||
        (o->audio && entry->min_sound_s != o->min_sound_s) ||
        manifest_get(d->m, entry->index, &d->video, NULL) < 0 || !doctor_entry_is_of(entry, d->video.uri))
        return false;
    if (media_file_stat(manifest_media_root(d->m), d->video.uri, &size, &mtime) < 0 ||
        size != entry->size_bytes || mtime != entry->mtime_ns)
        return false;
    bool changed = entry->size_bytes != d->video.size_bytes;
    if (changed != (entry->fault == MEDIA_CHANGED_SINCE_INDEX))
        return false;
    count(d, entry);
    d->s->kept++;
    return true;
}

static int settle(struct doctor *d, struct doctor_entry *entry, struct err *e)
{
    int rc = doctor_report_add(&d->report, entry, e);
    if (rc == 0) {
        count(d, entry);
        d->s->examined++;
    }
    return rc;
}

static void begin_entry(const struct doctor *d, uint64_t index, struct doctor_entry *entry)
{
    memset(entry, 0, sizeof *entry);
    entry->index = index;
    entry->video = d->o->video;
    entry->audio = d->o->audio;
    entry->min_sound_s = d->o->min_sound_s;
    memcpy(entry->uri, d->video.uri, sizeof entry->uri);
}

/* 1: the file is open, in t->fd; 0: it is settled without; negative: an error. */
static int open_file(struct doctor *d, uint64_t index, struct pool_task *t, struct err *e)
{
    struct doctor_entry *entry = &d->entry;
    struct err why = {0};
    begin_entry(d, index, entry);
    int rc = media_file_open(manifest_media_root(d->m), d->video.uri, &t->file, &why);
    entry->size_bytes = t->file.size;
    entry->mtime_ns = t->file.mtime_ns;
    if (rc == 0 && entry->size_bytes == d->video.size_bytes)
        return 1;
    if (rc == 0) {
        close(t->file.fd);
        entry->fault = MEDIA_CHANGED_SINCE_INDEX;
        err_set(&why, 0, "%llu bytes, %llu in the manifest", (unsigned long long)entry->size_bytes,
                (unsigned long long)d->video.size_bytes);
    } else {
        entry->fault = rc == XDC_EMISMATCH ? MEDIA_CHANGED_SINCE_INDEX : MEDIA_OPEN_FAILED;
    }
    snprintf(entry->detail, sizeof entry->detail, "%.*s", (int)sizeof entry->detail - 1, why.msg);
    return settle(d, entry, e);
}

static uint32_t cpu_limit_s(const struct doctor *d)
{
    double s = (double)d->video.size_bytes / BYTES_PER_S, by_duration = CPU_PER_S * d->video.duration_s;
    s = CPU_LEAST_S + (by_duration > s ? by_duration : s);
    return d->o->cpu_s ? d->o->cpu_s : (uint32_t)(s < CPU_MOST_S ? s : CPU_MOST_S);
}

static int on_next(void *arg, struct pool_task *t, struct err *e)
{
    struct doctor *d = arg;
    int rc = 0;
    for (; rc == 0 && d->next < d->s->videos; d->next++) {
        if (d->known[d->next])
            continue;
        rc = manifest_get(d->m, d->next, &d->video, e);
        if (rc == 0)
            rc = open_file(d, d->next, t, e);
        if (rc > 0)
            break;
    }
    if (rc <= 0)
        return rc;
    t->id = d->next++;
    t->job = (struct media_job){
        .kind = MEDIA_JOB_EXAMINE,
        .id = t->id,
        .video_stream = d->video.video_stream,
        .audio_stream = d->video.audio_stream,
        .cpu_s = cpu_limit_s(d),
        .duration_s = d->video.duration_s,
        .recipe = {.want_video = d->o->video, .want_audio = d->o->audio, .min_sound_s = d->o->min_sound_s}};
    t->wall_s = WALL_LEAST_S + WALL_PER_CPU * t->job.cpu_s;
    return 1;
}

static int on_done(void *arg, const struct pool_task *t, const struct media_result *r, const uint8_t *slot,
                   struct err *e)
{
    struct doctor *d = arg;
    struct doctor_entry *entry = &d->entry;
    struct media_file now = t->file;
    (void)slot;
    int rc = manifest_get(d->m, t->id, &d->video, e);
    if (rc == 0)
        rc = media_file_again(&now, d->video.uri, e);
    if (rc < 0)
        return rc;
    begin_entry(d, t->id, entry);
    entry->size_bytes = now.size;
    entry->mtime_ns = now.mtime_ns;
    entry->fault = entry->size_bytes == d->video.size_bytes ? r->reason : MEDIA_CHANGED_SINCE_INDEX;
    entry->facts = r->facts;
    entry->counts = r->examination;
    memcpy(entry->detail, r->detail, sizeof entry->detail);
    return settle(d, entry, e);
}

static void on_tick(void *arg)
{
    struct doctor *d = arg;
    progress_set(&d->progress, d->s->examined);
    progress_print(&d->progress, stderr, false);
}

static int write_quarantine(struct doctor *d, struct err *e)
{
    struct quarantine_list q = {.manifest = d->s->identity};
    q.videos = malloc(d->s->faulty * sizeof *q.videos + 1);
    if (!q.videos)
        return err_sys(e, ENOMEM, "quarantine of %llu videos", (unsigned long long)d->s->faulty);
    for (uint64_t i = 0; i < d->s->videos; i++)
        if (d->known[i] > 1)
            q.videos[q.n++] = (struct quarantined_video){.video = i, .code = d->known[i] - 1u};
    int rc = quarantine_file_write(d->s->quarantine, &q, e);
    free(q.videos);
    return rc;
}

static int examine_all(struct doctor *d, const volatile sig_atomic_t *stop, struct err *e)
{
    static const struct pool_calls calls = {on_next, on_done, on_tick};
    struct media_child_limits limits = {
        .cpu_s = (uint32_t)CPU_LEAST_S, .memory_mib = d->o->memory_mib, .slot_bytes = 4096};
    progress_init(&d->progress, "examine", d->s->videos - d->s->kept);
    int rc = pool_run(&calls, d, &limits, d->o->jobs, stop, e);
    progress_print(&d->progress, stderr, true);
    if (rc == XDC_ESTOPPED)
        err_set(e, rc, "stopped after %llu of %llu files; the same command goes on from here",
                (unsigned long long)(d->s->kept + d->s->examined), (unsigned long long)d->s->videos);
    return rc;
}

static int open_all(struct doctor *d, struct err *e)
{
    const struct doctor_options *o = d->o;
    struct doctor_summary *s = d->s;
    int rc = manifest_open(o->manifest, &d->m, e);
    if (rc == 0)
        rc = o->out ? fs_path(s->report, e, "%s", o->out)
                    : fs_path(s->report, e, "%s.doctor.jsonl", o->manifest);
    if (rc == 0)
        rc = fs_path(s->quarantine, e, "%s.quarantine", o->manifest);
    if (rc < 0)
        return rc;
    s->videos = manifest_count(d->m);
    s->identity = manifest_identity(d->m);
    d->known = calloc(s->videos + 1, 1);
    if (!d->known)
        return err_sys(e, ENOMEM, "%llu videos", (unsigned long long)s->videos);
    return doctor_report_open(&d->report, s->report, keep, d, e);
}

int doctor_run(const struct doctor_options *o, const volatile sig_atomic_t *stop, struct doctor_summary *out,
               struct err *e)
{
    double start_s = progress_now_s();
    struct doctor *d = calloc(1, sizeof *d);
    if (!d)
        return err_sys(e, ENOMEM, "doctor");
    d->o = o;
    d->s = out;
    d->report.fd = -1;
    int rc = open_all(d, e);
    if (rc == 0)
        rc = examine_all(d, stop, e);
    struct err late = {0};
    int closed = doctor_report_close(&d->report, &late);
    if (rc == 0 && closed < 0) {
        rc = closed;
        *e = late;
    }
    if (rc == 0)
        rc = write_quarantine(d, e);
    out->seconds = progress_now_s() - start_s;
    manifest_close(d->m);
    free(d->known);
    free(d);
    return rc;
}
