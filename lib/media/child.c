#include "lib/media/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/media/wide.h"
#include "lib/media/worker.h"

#define RUN_CPU_S 5
#define RUN_MEMORY_MIB 512
#define RUN_WALL_S 120
#define ENVIRONMENT_MAX 8
#define FIRST_FREE_FD 16 /* above the numbers that the worker's descriptors get */

/* The size is sealed: a worker that shrank the slot would kill its parent by SIGBUS. */
static int make_slot(uint64_t bytes, int *out_fd, uint8_t **out_map, struct err *e)
{
    int fd = memfd_create("xdc-slot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_sys(e, errno, "create media slot");
    void *map = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int errnum = errno;
        close(fd);
        return err_sys(e, errnum, "media slot of %llu bytes", (unsigned long long)bytes);
    }
    *out_fd = fd;
    *out_map = map;
    return 0;
}

/* All that a worker sees of the parent's environment: what finds libraries and steers sanitizers. */
static void make_environment(char *out[ENVIRONMENT_MAX])
{
    static const char *const kept[] = {
        "LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "LSAN_OPTIONS="};
    static char utc[] = "TZ=UTC0";
    size_t n = 0;
    out[n++] = utc;
    for (char **v = environ; v && *v; v++)
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            if (n + 1 < ENVIRONMENT_MAX && strncmp(*v, kept[i], strlen(kept[i])) == 0)
                out[n++] = *v;
    out[n] = NULL;
}

/* Between fork and exec: nothing here allocates or locks, for the parent may have threads. Never returns. */
static void become_worker(const char *program, char *const argv[], char *const env[], int sock, int slot,
                          pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGXCPU, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(126);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Moved up first: a descriptor may sit on the very number that another one is to get. */
    sock = fcntl(sock, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    slot = fcntl(slot, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (null < 0 || sock < 0 || slot < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
        dup2(sock, WORKER_SOCKET) < 0 || dup2(slot, WORKER_SLOT) < 0 ||
        syscall(SYS_close_range, WORKER_SLOT + 1, ~0u, 0) < 0)
        _exit(126);
    execve(program, argv, env);
    _exit(127);
}

static void reap(struct media_child *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    while (c->pid > 0 && waitpid(c->pid, &c->exit_status, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
    c->busy = false;
}

static int spawn(struct media_child *c, const char *program, const struct media_child_limits *l, int slot,
                 struct err *e)
{
    char cpu[16], memory[16], bytes[24];
    snprintf(cpu, sizeof cpu, "%u", l->cpu_s);
    snprintf(memory, sizeof memory, "%u", l->memory_mib);
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)l->slot_bytes);
    char name[] = "xdc-media-worker";
    char *argv[] = {name, cpu, memory, bytes, NULL}, *env[ENVIRONMENT_MAX];
    make_environment(env);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, errno, "start media worker: socket");
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become_worker(program, argv, env, pair[1], slot, parent);
    int errnum = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_sys(e, errnum, "start media worker: fork");
    }
    c->pid = pid;
    c->fd = pair[0];
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0) {
        errnum = errno;
        kill(pid, SIGKILL);
        reap(c);
        return err_sys(e, errnum, "start media worker: socket");
    }
    return 0;
}

int media_child_start(struct media_child *c, const struct media_child_limits *limits, struct err *e)
{
    char program[PATH_MAX];
    int slot = -1;
    media_child_stop(c);
    int rc = limits->slot_bytes == 0 || limits->cpu_s == 0 || limits->memory_mib == 0
                 ? err_set(e, -EINVAL, "start media worker: a limit of 0")
                 : fs_program("xdc-media-worker", "XDC_MEDIA_WORKER", program, e);
    if (rc == 0)
        rc = make_slot(limits->slot_bytes, &slot, &c->slot, e);
    if (rc < 0)
        return rc;
    c->slot_bytes = limits->slot_bytes;
    rc = spawn(c, program, limits, slot, e);
    close(slot);
    if (rc < 0)
        media_child_stop(c);
    return rc;
}

void media_child_stop(struct media_child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        reap(c);
    }
    if (c->slot)
        munmap(c->slot, c->slot_bytes);
    int status = c->exit_status;
    *c = (struct media_child){.fd = -1, .exit_status = status};
}

static bool makes_samples(const struct media_job *job)
{
    return job->kind == MEDIA_JOB_DECODE || job->kind == MEDIA_JOB_CUT;
}

int media_child_send(struct media_child *c, const struct media_job *job, int file, struct err *e)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    if (c->pid <= 0)
        return err_set(e, -EPIPE, "the media worker is not running");
    if (c->busy)
        return err_set(e, -EBUSY, "the media worker has a job");
    uint32_t most = job->kind == MEDIA_JOB_CUT ? 1 : MEDIA_CLIPS_MAX;
    if (makes_samples(job) && (job->clips < 1 || job->clips > most))
        return err_set(e, -EINVAL, "a job of %u clips", job->clips);
    if (makes_samples(job) && job->clips * media_clip_bytes(job) > c->slot_bytes)
        return err_set(e, -EINVAL, "%u samples take %llu bytes each, the slot has %llu", job->clips,
                       (unsigned long long)media_clip_bytes(job), (unsigned long long)c->slot_bytes);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)job, .iov_len = sizeof *job};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    *h = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof file)};
    memcpy(CMSG_DATA(h), &file, sizeof file);
    if (sendmsg(c->fd, &msg, MSG_NOSIGNAL) < 0) {
        int errnum = errno;
        if (errnum != EPIPE && errnum != ECONNRESET)
            return err_sys(e, errnum, "send a job to the media worker");
        kill(c->pid, SIGKILL);
        reap(c);
        return err_set(e, -EPIPE, "the media worker has gone");
    }
    c->busy = true;
    c->job = *job;
    c->answered = 0;
    return 0;
}

/* nonsense: it lives, but said something it should not. */
static int died(struct media_child *c, bool nonsense, struct media_result *out, struct err *e)
{
    bool ready = c->ready;
    kill(c->pid, SIGKILL); /* no more than a zombie where it died by itself, so that its own status stands */
    reap(c);
    int status = c->exit_status;
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const char *how = sig ? "signal" : "exit status";
    int number = sig ? sig : WEXITSTATUS(status);
    *out = (struct media_result){.id = c->job.id, .clip = c->answered, .reason = MEDIA_WORKER_DIED};
    out->probe.video_stream = out->probe.audio_stream = -1;
    if (!ready && nonsense)
        return err_set(e, -ENOEXEC, "the media worker is of another build");
    if (!ready && sig != SIGKILL)
        return err_set(e, -ENOEXEC, "the media worker does not start: %s %d", how, number);
    if (!nonsense && sig == SIGXCPU)
        out->reason = MEDIA_DECODE_TIMEOUT;
    else if (!nonsense && ready && sig == SIGKILL)
        out->reason = MEDIA_MEMORY_LIMIT; /* nobody but the kernel's out-of-memory killer sends it */
    else if (!nonsense && sig == SIGSYS)
        out->reason = MEDIA_SANDBOX_VIOLATION;
    if (nonsense)
        snprintf(out->detail, sizeof out->detail, "the media worker sent an answer that cannot be");
    else
        snprintf(out->detail, sizeof out->detail, "the media worker ended by %s %d", how, number);
    return err_set(e, -EPIPE, "%s", out->detail);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Whether the bytes lie, aligned, in clip's part of the slot. */
static bool in_part(const struct media_child *c, uint32_t clip, uint64_t offset, uint64_t bytes)
{
    uint64_t begin = clip * media_clip_bytes(&c->job);
    uint64_t end = min_u64(begin + media_slot_bytes(&c->job.recipe), c->slot_bytes);
    return bytes == 0 || ((offset & 63) == 0 && offset >= begin && offset <= end && bytes <= end - offset);
}

/* Whether a manifest can hold it. */
static bool probe_plausible(const struct media_probe *p)
{
    return isfinite(p->duration_s) && p->duration_s >= 0 && isfinite(p->fps) && p->fps >= 0 &&
           p->video_stream >= -1 && p->video_stream < INT32_MAX && p->audio_stream >= -1 &&
           p->audio_stream < INT32_MAX;
}

/* What a worker says is bytes from outside: a file may have taken it over. */
static bool plausible(const struct media_child *c, const struct media_result *r)
{
    const struct media_recipe *q = &c->job.recipe;
    bool decode = makes_samples(&c->job);
    if (!c->busy || r->id != c->job.id || r->reason >= MEDIA_REASONS ||
        !memchr(r->detail, 0, sizeof r->detail))
        return false;
    if (r->clip != (decode ? c->answered : 0) || r->facts >> MEDIA_FACTS ||
        r->keyframes > MEDIA_KEYFRAMES_MAX)
        return false;
    if (c->job.kind == MEDIA_JOB_PROBE && r->reason == 0 && !probe_plausible(&r->probe))
        return false;
    uint64_t video = decode && q->want_video ? (uint64_t)q->frames * q->crop * q->crop * 3 : 0;
    uint64_t audio = decode && q->want_audio ? MEDIA_AUDIO_FLOATS * sizeof(float) : 0;
    if ((r->video_bytes && r->video_bytes != video) || (r->audio_bytes && r->audio_bytes != audio))
        return false;
    for (int part = 0; part < MEDIA_PARTS; part++)
        if (r->wide_bytes[part] && (!c->job.keep || r->wide_bytes[part] < WIDE_HEAD ||
                                    r->wide_bytes[part] > media_wide_bytes(&c->job, part)))
            return false;
    return in_part(c, r->clip, r->video_offset, r->video_bytes) &&
           in_part(c, r->clip, r->audio_offset, r->audio_bytes) &&
           r->keyframes * sizeof(struct media_keyframe) <= c->slot_bytes;
}

int media_child_recv(struct media_child *c, struct media_result *out, struct err *e)
{
    if (c->pid <= 0)
        return err_set(e, -EPIPE, "the media worker is not running");
    for (;;) {
        union {
            struct media_result result;
            struct worker_hello hello;
        } in;
        ssize_t n = recv(c->fd, &in, sizeof in, MSG_TRUNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return -EAGAIN;
        if (n <= 0)
            return died(c, false, out, e);
        if (!c->ready && n == (ssize_t)sizeof in.hello && in.hello.magic == WORKER_MAGIC &&
            in.hello.job_bytes == sizeof(struct media_job) &&
            in.hello.result_bytes == sizeof(struct media_result)) {
            c->ready = true;
            c->sandbox = in.hello.sandbox;
            continue;
        }
        if (!c->ready || n != (ssize_t)sizeof in.result || !plausible(c, &in.result))
            return died(c, true, out, e);
        *out = in.result;
        c->answered++;
        c->busy = c->job.kind == MEDIA_JOB_DECODE && c->answered < c->job.clips;
        return 0;
    }
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int await(struct media_child *c, struct media_result *out, struct err *e)
{
    int64_t end = now_ms() + RUN_WALL_S * 1000;
    for (;;) {
        int rc = media_child_recv(c, out, e);
        if (rc != -EAGAIN)
            return rc == -EPIPE ? 0 : rc;
        int64_t left = end - now_ms();
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (left > 0 && (poll(&p, 1, (int)left) >= 0 || errno == EINTR))
            continue;
        kill(c->pid, SIGKILL);
        reap(c);
        *out = (struct media_result){.id = c->job.id, .reason = MEDIA_DECODE_TIMEOUT};
        snprintf(out->detail, sizeof out->detail, "no answer in %d s", RUN_WALL_S);
        return 0;
    }
}

int media_child_run(struct media_child *c, const struct media_job *job, int file, struct media_result *out,
                    struct err *e)
{
    uint64_t bytes = media_clip_bytes(job) * (job->clips ? job->clips : 1);
    struct media_child_limits limits = {
        .cpu_s = RUN_CPU_S, .memory_mib = RUN_MEMORY_MIB, .slot_bytes = bytes > 64 ? bytes : 64};
    int rc = -EPIPE;
    /* Twice: an idle worker may have died unnoticed. */
    for (int i = 0; i < 2 && rc == -EPIPE; i++) {
        rc = 0;
        if (c->pid <= 0 || (makes_samples(job) && c->slot_bytes < bytes))
            rc = media_child_start(c, &limits, e);
        if (rc == 0)
            rc = media_child_send(c, job, file, e);
    }
    do {
        if (rc == 0)
            rc = await(c, out++, e);
    } while (rc == 0 && c->busy);
    return rc;
}
