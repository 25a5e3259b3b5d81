/* hostile: gives files to the real media child, a probe, an examination and two clips of each, as the command
 * and a decoder would. Usage: hostile CPU_SECONDS MEMORY_MIB CANARY < paths; the canary's bytes must be in
 * nothing that comes back. One line per file: reasons of probe, examination and first clip; most seconds of
 * CPU that one job took, a clip; seconds of all; peak memory in KiB beyond what the worker has at start;
 * workers that ended; canary found; path; detail; tab-separated. Used by test_hostile.py. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "lib/media/child.h"
#include "lib/rng.h"

#define WALL_S 60
#define CANARY_BYTES 16 /* of the canary at once: no chance makes so many */

struct hostile {
    struct media_child child;
    struct media_child_limits limits;
    uint8_t *canary; /* owned */
    size_t canary_bytes;
    long start_kib; /* of a worker that has done nothing */
    unsigned ended; /* workers */
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "hostile: %s: %s\n", what, e->msg);
    exit(70);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line "name: number" of the worker's /proc/PID/status; 0 where it has gone. */
static long status_kib(pid_t pid, const char *name)
{
    char path[64], line[128];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

/* CPU seconds of the worker, or of all workers that have ended where there is none. */
static double cpu_s(const struct hostile *h)
{
    struct timespec t;
    struct rusage u;
    clockid_t clock;
    double s = 0;
    if (h->child.pid > 0 && clock_getcpuclockid(h->child.pid, &clock) == 0 && clock_gettime(clock, &t) == 0)
        s = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    getrusage(RUSAGE_CHILDREN, &u);
    return s + (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static bool holds_canary(const struct hostile *h, const void *data, size_t size)
{
    for (size_t i = 0; i + CANARY_BYTES <= h->canary_bytes; i += CANARY_BYTES)
        if (memmem(data, size, h->canary + i, CANARY_BYTES))
            return true;
    return false;
}

static void start(struct hostile *h)
{
    struct err e = {0};
    if (media_child_start(&h->child, &h->limits, &e) < 0)
        die("start", &e);
    while (!h->child.ready) {
        struct media_result r;
        struct pollfd p = {.fd = h->child.fd, .events = POLLIN};
        poll(&p, 1, 1000);
        int rc = media_child_recv(&h->child, &r, &e);
        if (rc < 0 && rc != -EAGAIN)
            die("start", &e);
    }
    h->start_kib = status_kib(h->child.pid, "VmRSS");
}

/* What is known of a file's jobs. */
struct trial {
    double cpu_s;  /* of the dearest job, a clip */
    long peak_kib; /* as far as it could be seen */
    bool canary;
};

static void look(struct hostile *h, struct trial *t)
{
    long kib = status_kib(h->child.pid, "VmHWM") - h->start_kib;
    t->peak_kib = kib > t->peak_kib ? kib : t->peak_kib;
}

/* The first answer goes to *first; with a death, the rest is given up. */
static void run_job(struct hostile *h, const struct media_job *job, int fd, struct media_result *first,
                    struct trial *t)
{
    struct err e = {0};
    struct media_result r;
    if (h->child.pid <= 0)
        start(h);
    double end = now_s() + WALL_S, cpu = cpu_s(h);
    if (media_child_send(&h->child, job, fd, &e) < 0)
        die("send", &e);
    do {
        int rc = media_child_recv(&h->child, &r, &e);
        if (rc == -EAGAIN && now_s() < end) {
            struct pollfd p = {.fd = h->child.fd, .events = POLLIN};
            poll(&p, 1, 20);
            look(h, t);
            continue;
        }
        if (rc < 0 && rc != -EPIPE)
            die("no answer", &e);
        h->ended += rc == -EPIPE;
        *first = r.clip == 0 ? r : *first;
        t->canary |= holds_canary(h, &r, sizeof r);
    } while (h->child.busy);
    cpu = (cpu_s(h) - cpu) / (job->clips ? job->clips : 1); /* each clip has a deadline's worth */
    t->cpu_s = cpu > t->cpu_s ? cpu : t->cpu_s;
    t->canary |= holds_canary(h, h->child.slot, h->child.slot_bytes);
}

/* Recipes and hints differ from file to file, the same for the same path. */
static struct media_job clip_job(const char *path)
{
    struct rng r;
    uint64_t key = 0;
    for (const char *name = strrchr(path, '/'); name && *name; name++)
        key = key * 31 + (unsigned char)*name;
    rng_init(&r, key);
    struct media_job job = {.kind = MEDIA_JOB_DECODE,
                            .video_stream = -1,
                            .audio_stream = -1,
                            .clips = 2,
                            .recipe = {.frames = 4,
                                       .fps = rng_below(&r, 4) ? 10 : 0,
                                       .resize_min = 40,
                                       .resize_max = 40,
                                       .crop = 32,
                                       .want_video = true,
                                       .want_audio = true,
                                       .scaling = (uint32_t)rng_below(&r, 2),
                                       .frontend = (uint32_t)rng_below(&r, 2),
                                       .short_clip = (uint32_t)rng_below(&r, 3),
                                       .keep_silent = rng_below(&r, 2) == 0}};
    for (uint32_t i = 0; i < job.clips; i++) {
        struct media_clip *c = &job.clip[i];
        c->start_s = 0.5 + (double)i * rng_uniform(&r);
        c->key_s = rng_below(&r, 2) ? 0.4 : 0;
        c->key_pos = rng_below(&r, 2) ? (int64_t)rng_below(&r, 20000) : -1;
    }
    return job;
}

static void try_file(struct hostile *h, const char *path)
{
    struct media_job probe = {.kind = MEDIA_JOB_PROBE, .video_stream = -1, .audio_stream = -1},
                     examine = probe;
    struct media_job clip = clip_job(path);
    struct media_result p, x, r;
    struct trial t = {0};
    struct err e = {0};
    unsigned ended = h->ended;
    double wall = now_s();
    struct media_file file;
    examine.kind = MEDIA_JOB_EXAMINE;
    if (media_file_open(NULL, path, &file, &e) < 0)
        die("open", &e);
    run_job(h, &probe, file.fd, &p, &t);
    run_job(h, &examine, file.fd, &x, &t);
    run_job(h, &clip, file.fd, &r, &t);
    close(file.fd);
    const char *detail = r.reason ? r.detail : x.reason ? x.detail : p.detail;
    printf("%s\t%s\t%s\t%.3f\t%.3f\t%ld\t%u\t%d\t%s\t%s\n", media_code_name(p.reason),
           media_code_name(x.reason), media_code_name(r.reason), t.cpu_s, now_s() - wall, t.peak_kib,
           h->ended - ended, t.canary, path, detail);
    fflush(stdout);
}

static void read_canary(struct hostile *h, const char *path)
{
    struct err e = {0};
    FILE *f = fopen(path, "re");
    h->canary = malloc(1 << 20);
    if (!f || !h->canary) {
        err_sys(&e, errno, "open %s", path);
        die("canary", &e);
    }
    h->canary_bytes = fread(h->canary, 1, 1 << 20, f);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: hostile CPU_SECONDS MEMORY_MIB CANARY < paths\n", stderr);
        return 64;
    }
    struct hostile h = {.limits = {.cpu_s = (uint32_t)strtoul(argv[1], NULL, 10),
                                   .memory_mib = (uint32_t)strtoul(argv[2], NULL, 10),
                                   .slot_bytes = 1 << 16}};
    read_canary(&h, argv[3]);
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = '\0';
        try_file(&h, path);
    }
    media_child_stop(&h.child);
    free(h.canary);
    return 0;
}
