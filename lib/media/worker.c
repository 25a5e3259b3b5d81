#include "lib/media/worker.h"

#include <errno.h>
#include <libavutil/log.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "lib/media/sandbox.h"
#include "lib/media/session.h"

#define EXIT_SOFTWARE 70
#define EXIT_PROTOCOL 76

struct worker {
    struct worker_limits limits;
    uint8_t *slot;                 /* owned mapping */
    struct media_session *session; /* owned */
    timer_t timer;
    uint32_t sandbox; /* enum sandbox_part, as far as this system has them */
    bool heard;       /* somebody takes the answers */
};

static void set_deadline(struct worker *w, uint32_t seconds)
{
    struct itimerspec t = {.it_value.tv_sec = seconds};
    timer_settime(w->timer, 0, &t, NULL);
}

static bool answer(const void *data, size_t size)
{
    return send(WORKER_SOCKET, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool on_result(void *arg, const struct media_result *r)
{
    struct worker *w = arg;
    w->heard = answer(r, sizeof *r);
    return w->heard;
}

static void do_job(struct worker *w, const struct media_job *job, int file)
{
    uint32_t cpu_s = job->cpu_s ? job->cpu_s : w->limits.cpu_s;
    set_deadline(w, job->kind == MEDIA_JOB_DECODE ? cpu_s * job->clips : cpu_s);
    media_session_run(w->session, job, file, w->slot, w->limits.slot_bytes, on_result, w);
    set_deadline(w, 0);
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
    *w = (struct worker){.limits = *limits, .heard = true};
    av_log_set_level(AV_LOG_QUIET);
    void *slot = mmap(NULL, limits->slot_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_SLOT, 0);
    if (slot == MAP_FAILED)
        return -errno;
    w->slot = slot;
    int rc = media_session_create(&w->session, NULL);
    if (rc < 0)
        return rc;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGXCPU};
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &w->timer) < 0)
        return -errno;
    return sandbox_enter(limits->memory_mib, WORKER_SOCKET, &w->sandbox);
}

static void worker_close(struct worker *w)
{
    media_session_destroy(w->session);
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
        if ((job.kind == MEDIA_JOB_DECODE || job.kind == MEDIA_JOB_CUT) &&
            (job.clips < 1 || job.clips > MEDIA_CLIPS_MAX ||
             job.clips * media_clip_bytes(&job) > w->limits.slot_bytes))
            return EXIT_PROTOCOL;
        do_job(w, &job, file);
        if (file >= 0)
            close(file);
        if (!w->heard)
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
