/* sandbox: what decoding in a sandboxed process of its own costs: the same jobs through a media child and in
 * this process, in turns. Usage: bench_sandbox FILE... [-n ROUNDS]; prints milliseconds of CPU and of time
 * per clip, and how long a worker takes to start. */
#include <errno.h>
#include <libavutil/log.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "lib/media/child.h"
#include "lib/media/sandbox.h"
#include "lib/media/session.h"

enum { ROUNDS = 20, ROUNDS_MAX = 1000, STARTS = 20, CLIPS = 4, NICENESS = 10 /* a worker's */ };

struct cost {
    double cpu_s, wall_s;
};

struct bench {
    struct media_child child;
    struct media_session *session; /* owned */
    uint8_t *slot;                 /* owned */
    uint64_t slot_bytes;
    struct media_job job;
    struct media_result out[MEDIA_CLIPS_MAX];
    uint32_t answers;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "bench_sandbox: %s: %s\n", what, e->msg);
    exit(70);
}

static double clock_s(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of this process and the worker. */
static double cpu_s(const struct bench *b)
{
    clockid_t clock;
    double s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    if (b->child.pid > 0 && clock_getcpuclockid(b->child.pid, &clock) == 0)
        s += clock_s(clock);
    return s;
}

static bool on_result(void *arg, const struct media_result *r)
{
    struct bench *b = arg;
    b->out[b->answers++] = *r;
    return true;
}

/* Adds the cost of one job; the answers are in b->out. */
static void run(struct bench *b, int file, bool in_child, struct cost *sum)
{
    struct err e = {0};
    double cpu = cpu_s(b), wall = clock_s(CLOCK_MONOTONIC);
    b->answers = 0;
    if (!in_child)
        media_session_run(b->session, &b->job, file, b->slot, b->slot_bytes, on_result, b);
    else if (media_child_run(&b->child, &b->job, file, b->out, &e) < 0)
        die("media child", &e);
    sum->cpu_s += cpu_s(b) - cpu;
    sum->wall_s += clock_s(CLOCK_MONOTONIC) - wall;
}

/* The same clips, both ways; they must come out the same. */
static void compare(struct bench *b, int file, int round, struct cost sum[2])
{
    uint64_t hash[2][CLIPS];
    for (uint32_t i = 0; i < CLIPS; i++)
        b->job.clip[i] = (struct media_clip){
            .start_s = 0.3 * (double)((unsigned)round % 5) + 0.5 * i, .augment_seed = i, .key_pos = -1};
    for (int k = 0; k < 2; k++) {
        int way = (k + round) & 1;
        run(b, file, way, &sum[way]);
        for (int i = 0; i < CLIPS; i++)
            hash[way][i] = b->out[i].hash;
    }
    if (memcmp(hash[0], hash[1], sizeof hash[0]) != 0) {
        fputs("bench_sandbox: the two ways do not make the same samples\n", stderr);
        exit(70);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return v[n / 2];
}

static void bench_file(struct bench *b, const char *path, int rounds)
{
    struct cost sum[2] = {{0}};
    double cpu[ROUNDS_MAX], wall[ROUNDS_MAX];
    struct err e = {0};
    struct media_file file;
    if (media_file_open(NULL, path, &file, &e) < 0)
        die("open", &e);
    for (int i = -2; i < rounds; i++) {
        struct cost now[2] = {{0}};
        compare(b, file.fd, i + 2, now);
        if (i < 0)
            continue; /* warming up */
        for (int k = 0; k < 2; k++) {
            sum[k].cpu_s += now[k].cpu_s;
            sum[k].wall_s += now[k].wall_s;
        }
        cpu[i] = now[1].cpu_s / now[0].cpu_s;
        wall[i] = now[1].wall_s / now[0].wall_s;
    }
    close(file.fd);
    double ms = 1e3 / (rounds * CLIPS);
    printf("%-40s %8.3f %8.3f %6.3f   %8.3f %8.3f %6.3f\n", path, sum[0].cpu_s * ms, sum[1].cpu_s * ms,
           median(cpu, rounds), sum[0].wall_s * ms, sum[1].wall_s * ms, median(wall, rounds));
}

/* From the call to the worker's hello. */
static void bench_start(const struct bench *b)
{
    const struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = b->slot_bytes};
    struct media_child c = {0};
    struct err e = {0};
    char missing[200];
    double start = clock_s(CLOCK_MONOTONIC);
    for (int i = 0; i < STARTS; i++) {
        if (media_child_start(&c, &limits, &e) < 0)
            die("start", &e);
        while (!c.ready) {
            struct media_result r;
            struct pollfd p = {.fd = c.fd, .events = POLLIN};
            poll(&p, 1, 1000);
            if (media_child_recv(&c, &r, &e) != -EAGAIN)
                die("start", &e);
        }
    }
    double ms = 1e3 * (clock_s(CLOCK_MONOTONIC) - start) / STARTS;
    printf("a worker starts in %.1f ms; %s\n", ms,
           c.sandbox == SANDBOX_ALL ? "the whole sandbox is in force"
                                    : sandbox_missing(c.sandbox, missing, sizeof missing));
    media_child_stop(&c);
}

int main(int argc, char **argv)
{
    struct bench b = {.job = {.kind = MEDIA_JOB_DECODE,
                              .id = 1,
                              .video_stream = -1,
                              .audio_stream = -1,
                              .clips = CLIPS,
                              .recipe = {.frames = 8,
                                         .fps = 15,
                                         .resize_min = 128,
                                         .resize_max = 128,
                                         .crop = 112,
                                         .want_video = true,
                                         .want_audio = true}}};
    struct err e = {0};
    int option, rounds = ROUNDS;
    while ((option = getopt(argc, argv, "n:")) == 'n')
        rounds = atoi(optarg);
    if (option != -1 || optind == argc || rounds < 1 || rounds > ROUNDS_MAX) {
        fputs("usage: bench_sandbox FILE... [-n ROUNDS]\n", stderr);
        return 64;
    }
    errno = 0;
    if (nice(NICENESS) == -1 && errno)
        perror("bench_sandbox: nice");
    av_log_set_level(AV_LOG_QUIET);
    b.slot_bytes = CLIPS * media_slot_bytes(&b.job.recipe);
    b.slot = malloc(b.slot_bytes);
    if (!b.slot || media_session_create(&b.session, &e) < 0)
        die("session", &e);
    bench_start(&b);
    printf("%-40s %8s %8s %6s   %8s %8s %6s\n", "per clip", "ms CPU", "child", "ratio", "ms", "child",
           "ratio");
    for (int i = optind; i < argc; i++)
        bench_file(&b, argv[i], rounds);
    media_child_stop(&b.child);
    media_session_destroy(b.session);
    free(b.slot);
    return 0;
}
