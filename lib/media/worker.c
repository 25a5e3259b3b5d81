#include "lib/media/worker.h"

#include <errno.h>
#include <libavutil/log.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/media/audio_decode.h"
#include "lib/media/logmel.h"
#include "lib/media/probe.h"
#include "lib/media/sandbox.h"
#include "lib/media/video_decode.h"

#define EXIT_SOFTWARE 70
#define EXIT_PROTOCOL 76

struct worker {
    struct worker_limits limits;
    uint8_t *slot;         /* owned mapping */
    struct logmel *logmel; /* owned */
    float *wave;           /* owned: LOGMEL_SAMPLES */
    XXH3_state_t *hash;    /* owned */
    struct picture picture;
    timer_t timer;
    uint32_t sandbox; /* enum sandbox_part, as far as this system has them */
};

/* A clip of a file that is open, and what becomes of it. */
struct clip_job {
    struct input *in;
    const struct media_job *job;
    const struct media_clip *clip;
    struct augment augment;
    uint8_t *slot; /* this clip's part */
    struct media_result *out;
};

static int decode_audio_part(struct worker *w, const struct clip_job *c, struct err *e)
{
    int rc = audio_decode(c->in, c->job, c->clip, &c->augment, w->wave, e);
    if (rc && rc != MEDIA_AUDIO_SILENT)
        return rc;
    uint64_t offset = (c->out->video_bytes + 63) & ~63u;
    float *logmel = (float *)(void *)(c->slot + offset);
    logmel_compute(w->logmel, w->wave, logmel);
    augment_mask(&c->augment, logmel);
    c->out->audio_offset = (uint64_t)(c->slot - w->slot) + offset;
    c->out->audio_bytes = MEDIA_AUDIO_FLOATS * sizeof(float);
    return rc;
}

/* What is there is decoded even where the other stream is missing: the caller may do without it. */
static int decode_parts(struct worker *w, struct clip_job *c, struct err *e)
{
    const struct media_recipe *r = &c->job->recipe;
    double duration = c->job->duration_s > 0 ? c->job->duration_s : c->in->duration_s;
    int reason = probe_check(c->in, r, duration, &c->out->missing, e);
    if (reason && reason != MEDIA_NO_AUDIO && reason != MEDIA_NO_VIDEO)
        return reason;
    augment_draw(r, c->clip->augment_seed, &c->augment);
    if (r->want_video && c->in->video >= 0) {
        int rc = video_decode(c->in, c->job, c->clip, &c->augment, &w->picture, c->slot, e);
        if (rc)
            return rc;
        c->out->video_offset = (uint64_t)(c->slot - w->slot);
        c->out->video_bytes = r->frames * r->crop * r->crop * 3;
    }
    if (r->want_audio && c->in->audio >= 0) {
        int rc = decode_audio_part(w, c, e);
        reason = reason ? reason : rc;
    }
    return reason;
}

static void hash_sample(struct worker *w, struct media_result *out)
{
    if (!out->video_bytes && !out->audio_bytes)
        return;
    XXH3_64bits_reset(w->hash);
    XXH3_64bits_update(w->hash, w->slot + out->video_offset, out->video_bytes);
    XXH3_64bits_update(w->hash, w->slot + out->audio_offset, out->audio_bytes);
    out->hash = XXH3_64bits_digest(w->hash);
}

static int do_clip(struct worker *w, const struct media_job *job, uint32_t i, int file,
                   struct media_result *out, struct err *e)
{
    struct input in;
    int rc = input_open(&in, file, job->video_stream, job->audio_stream, false, e);
    if (rc == 0)
        rc = input_find_origin(&in, e);
    if (rc == 0) {
        struct clip_job c = {.in = &in, .job = job, .clip = &job->clip[i], .out = out};
        c.slot = w->slot + i * media_slot_bytes(&job->recipe);
        probe_fill(&in, &out->probe);
        rc = decode_parts(w, &c, e);
    }
    input_close(&in);
    hash_sample(w, out);
    return rc;
}

static int do_probe(const struct media_job *job, int file, struct media_result *out, struct err *e)
{
    struct input in;
    int rc = input_open(&in, file, job->video_stream, job->audio_stream, true, e);
    bool estimated = rc == 0 && in.ic->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE;
    if (rc == 0 && (in.video >= 0 || in.audio >= 0) && (estimated || in.duration_s <= 0)) {
        in.duration_s = 0;
        rc = input_find_origin(&in, e);
        if (rc == 0)
            rc = probe_scan_duration(&in, e);
    }
    if (rc == 0) {
        probe_fill(&in, &out->probe);
        rc = probe_check(&in, &job->recipe, in.duration_s, &out->missing, e);
    }
    input_close(&in);
    return rc;
}

static void set_deadline(struct worker *w, uint32_t seconds)
{
    struct itimerspec t = {.it_value.tv_sec = seconds};
    timer_settime(w->timer, 0, &t, NULL);
}

static void begin_result(const struct media_job *job, uint32_t clip, struct media_result *out)
{
    memset(out, 0, sizeof *out);
    out->id = job->id;
    out->clip = clip;
    out->probe.video_stream = out->probe.audio_stream = -1;
}

static void end_result(struct media_result *out, int reason, const struct err *e)
{
    out->reason = (uint32_t)reason;
    if (reason)
        snprintf(out->detail, sizeof out->detail, "%.*s", (int)sizeof out->detail - 1, e->msg);
}

static bool answer(const void *data, size_t size)
{
    return send(WORKER_SOCKET, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Answers every clip of the job, or the one probe. False when nobody listens any more. */
static bool do_job(struct worker *w, const struct media_job *job, int file)
{
    struct media_result out;
    uint32_t n = job->kind == MEDIA_JOB_DECODE ? job->clips : 1;
    for (uint32_t i = 0; i < n; i++) {
        struct err e = {0};
        int reason;
        begin_result(job, i, &out);
        set_deadline(w, job->cpu_s ? job->cpu_s : w->limits.cpu_s);
        if (file < 0)
            reason = fault_set(&e, MEDIA_OPEN_FAILED, "no descriptor came with the job");
        else if (job->kind == MEDIA_JOB_PROBE)
            reason = do_probe(job, file, &out, &e);
        else
            reason = do_clip(w, job, i, file, &out, &e);
        set_deadline(w, 0);
        end_result(&out, reason, &e);
        if (!answer(&out, sizeof out))
            return false;
    }
    return true;
}

/* 1: a job, and its descriptor or -1; 0: the parent has gone; negative: protocol error. */
static int receive(struct media_job *job, int *out_file)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = job, .iov_len = sizeof *job};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(WORKER_SOCKET, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return 0;
    *out_file = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(out_file, CMSG_DATA(c), sizeof *out_file);
    return n == (ssize_t)sizeof *job ? 1 : -EPROTO;
}

static int worker_init(struct worker *w, const struct worker_limits *limits)
{
    *w = (struct worker){.limits = *limits};
    av_log_set_level(AV_LOG_QUIET);
    void *slot = mmap(NULL, limits->slot_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_SLOT, 0);
    if (slot == MAP_FAILED)
        return -errno;
    w->slot = slot;
    w->wave = malloc(LOGMEL_SAMPLES * sizeof *w->wave);
    w->hash = XXH3_createState();
    if (!w->wave || !w->hash)
        return -ENOMEM;
    int rc = logmel_create(&w->logmel, NULL);
    if (rc < 0)
        return rc;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGXCPU};
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &w->timer) < 0)
        return -errno;
    return sandbox_enter(limits->memory_mib, &w->sandbox);
}

static void worker_close(struct worker *w)
{
    picture_close(&w->picture);
    logmel_destroy(w->logmel);
    free(w->wave);
    XXH3_freeState(w->hash);
    if (w->slot)
        munmap(w->slot, w->limits.slot_bytes);
}

static int serve(struct worker *w)
{
    struct worker_hello hello = {.magic = WORKER_MAGIC,
                                 .job_bytes = sizeof(struct media_job),
                                 .result_bytes = sizeof(struct media_result),
                                 .sandbox = w->sandbox};
    if (!answer(&hello, sizeof hello))
        return 0;
    for (;;) {
        struct media_job job;
        int file = -1;
        int rc = receive(&job, &file);
        if (rc <= 0)
            return rc == 0 ? 0 : EXIT_PROTOCOL;
        if (job.kind == MEDIA_JOB_DECODE &&
            (job.clips < 1 || job.clips > MEDIA_CLIPS_MAX ||
             job.clips * media_slot_bytes(&job.recipe) > w->limits.slot_bytes))
            return EXIT_PROTOCOL;
        bool heard = do_job(w, &job, file);
        if (file >= 0)
            close(file);
        if (!heard)
            return 0;
    }
}

int worker_run(const struct worker_limits *limits)
{
    struct worker w;
    int rc = worker_init(&w, limits);
    int status = rc < 0 ? EXIT_SOFTWARE : serve(&w);
    worker_close(&w);
    return status;
}
