/* ranks: two processes with halves of a batch train as one process with the whole; a rank without clips takes
 * part; a lost rank ends the step with an error. The test starts itself as the ranks. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { CROP = 48, N = 8, THREADS = 1, STEPS = 2, SEEDS = 3, MOST = 2, WORLD = 2 };

#include "tests/unit/torch/clips.h"

static const int64_t labels[N] = {0, 1, 2, -1, 1, 2, 0, 0};
static const float weights[N] = {1, 2, 0.5f, 9, 1, 1, 3, 1};
static char self[256];
static int port;
static uint64_t weights_seed = 1;

static struct net *create(uint64_t seed)
{
    struct net_spec spec = small;
    const uint32_t classes[] = {3, 3};
    const uint64_t seeds[] = {7, 8};
    struct net *net = NULL;
    struct err e = {0};
    spec.seed = seed;
    int rc = net_create(&spec, &net, &e);
    for (int enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        rc = net_reset_heads(net, (enum net_encoder)enc, NET_HEAD_LINEAR, 2, classes, seeds, &e);
    if (rc < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return net;
}

/* One step on the rows rank, rank + world, ... of the batch; with `lopsided` rank 0 has all of them. */
static int step(struct net *net, int enc, int rank, int world, bool lopsided, uint32_t micro,
                struct net_step *out, struct err *e)
{
    static uint8_t mine[N * VIDEO_CLIP > N * AUDIO_CLIP * 4 ? N * VIDEO_CLIP : N * AUDIO_CLIP * 4];
    size_t clip = enc == NET_VIDEO ? VIDEO_CLIP : AUDIO_CLIP * sizeof(float);
    const uint8_t *all = enc == NET_VIDEO ? video : (const uint8_t *)audio;
    struct net_sgd sgd = {
        .lr = 0.01, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true, .micro_batch = micro};
    int64_t y[N];
    float w[N];
    uint32_t n = 0;
    for (int i = 0; i < N; i++) {
        if (lopsided ? rank > 0 : i % world != rank)
            continue;
        memcpy(mine + n * clip, all + (size_t)i * clip, clip);
        y[n] = labels[i];
        w[n++] = weights[i];
    }
    const int64_t *ys[] = {y, y};
    const float *ws[] = {w, w};
    struct net_batch b = {n, mine};
    return net_train_step(net, (enum net_encoder)enc, &b, ys, ws, &sgd, out, e);
}

static _Atomic int lost = -1;

static void on_lost(void *arg, uint32_t rank)
{
    (void)arg;
    lost = (int)rank;
}

/* Every rank has the bytes of all, in their order. */
static int gather(struct net *net, int rank, struct err *e)
{
    const char mine[3] = {(char)('a' + rank), '-', (char)('A' + rank)};
    char all[WORLD * sizeof mine];
    int rc = net_gather(net, mine, sizeof mine, all, e);
    if (rc == 0 && memcmp(all, "a-Ab-B", sizeof all) != 0)
        rc = err_set(e, -EINVAL, "gathered %.6s", all);
    return rc;
}

/* A rank's life: "rank R PORT MODE DIR SEED"; writes what it ended with. */
static int rank_main(char **argv)
{
    int rank = atoi(argv[2]);
    const char *mode = argv[4];
    bool sync = strcmp(mode, "local") != 0;
    struct net_ranks r = {(uint32_t)rank, WORLD,   "127.0.0.1", (uint16_t)atoi(argv[3]), 20, sync,
                          NULL,           on_lost, NULL};
    struct net *net = create(strtoull(argv[6], NULL, 10));
    struct net_step out = {0};
    struct err e = {0};
    char path[128];
    fill(3);
    int rc = net_join(net, &r, &e);
    for (int i = 0; rc == 0 && i < (strcmp(mode, "lost") == 0 ? 1000000 : STEPS); i++)
        for (int enc = 0; rc == 0 && enc < NET_ENCODERS; enc++) {
            rc = step(net, enc, rank, WORLD, strcmp(mode, "lopsided") == 0,
                      strcmp(mode, "micro") == 0 ? 3 : 0, &out, &e);
            if (strcmp(mode, "lost") == 0 && i == 2 && rank == 1)
                raise(SIGKILL);
        }
    if (rc == 0)
        rc = gather(net, rank, &e);
    if (rc == 0)
        rc = net_average_statistics(net, &e);
    if (rc == 0)
        rc = net_leave(net, &e);
    if (rc < 0 && strcmp(mode, "lost") == 0 && net_lost_rank(net, 5) == 1 && lost == 1)
        rc = XDC_ELOST;
    snprintf(path, sizeof path, "%s/rank-%d.safetensors", argv[5], rank);
    if (rc == 0)
        rc = net_save(net, path, &e);
    if (rc < 0)
        fprintf(stderr, "rank %d: %s\n", rank, e.msg);
    else
        printf("%.9g %u %u\n", out.loss[0], out.correct[1], out.labelled[0]);
    net_destroy(net);
    return err_exit_status(rc);
}

static pid_t start(int rank, const char *mode)
{
    pid_t pid = fork();
    if (pid == 0) {
        char number[16], at[16], seed[24];
        snprintf(number, sizeof number, "%d", rank);
        snprintf(at, sizeof at, "%d", port);
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)weights_seed);
        execl(self, self, "rank", number, at, mode, dir, seed, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int status_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void run_both(const char *mode, int expected)
{
    port++;
    pid_t first = start(0, mode), second = start(1, mode);
    assert_int_equal(status_of(first), expected);
    assert_int_equal(status_of(second), expected);
}

static struct safetensors *open_net(const char *name)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    const char *path = at(name);
    ok(safetensors_open(path, &s, &e), &e);
    unlink(path);
    return s;
}

/* The largest difference over all floats, as a share of the tensor's largest number (at least 1). */
static double distance(const struct safetensors *a, const struct safetensors *b)
{
    double worst = 0;
    assert_int_equal(safetensors_count(a), safetensors_count(b));
    for (size_t i = 0; i < safetensors_count(a); i++) {
        const struct tensor *x = safetensors_at(a, i), *y = safetensors_find(b, x->name);
        assert_non_null(y);
        if (x->dtype != TENSOR_F32)
            continue;
        const float *p = x->data, *q = y->data;
        double scale = 1, apart = 0;
        for (uint64_t k = 0; k < tensor_count(x); k++) {
            scale = fmax(scale, fabs((double)p[k]));
            apart = fmax(apart, fabs((double)p[k] - (double)q[k]));
        }
        worst = fmax(worst, apart / scale);
    }
    return worst;
}

/* The whole batch in one process. */
static struct safetensors *alone(void)
{
    struct net *net = create(weights_seed);
    struct net_step out;
    struct err e = {0};
    for (int i = 0; i < STEPS; i++)
        for (int enc = 0; enc < NET_ENCODERS; enc++)
            ok(step(net, enc, 0, 1, false, 0, &out, &e), &e);
    struct safetensors *s = saved(net);
    net_destroy(net);
    return s;
}

/* Two ranks that synchronise batch-norm end where one with the whole batch ends, weights, momentum and
 * statistics within 1e-4, and both at the same bits; also when one of them has no clip at all. Sums of other
 * order round otherwise, and where that carries one activation over a ReLU's kink all gradients below it move
 * by a hundredth (so they do in one process whose rows change places): it happens to few initial weights,
 * hence most of several. */
static void two_ranks_are_one(void **state)
{
    (void)state;
    static const char *const modes[] = {"sync", "lopsided"};
    unsigned near[2] = {0, 0};
    for (unsigned seed = 0; seed < SEEDS && (near[0] < MOST || near[1] < MOST); seed++) {
        weights_seed = 1 + seed;
        struct safetensors *whole = alone();
        for (size_t i = 0; i < 2; i++) {
            run_both(modes[i], 0);
            struct safetensors *a = open_net("rank-0.safetensors"), *b = open_net("rank-1.safetensors");
            assert_true(distance(a, b) == 0);
            double apart = distance(a, whole);
            near[i] += apart < 1e-4;
            printf("%s: %.2g from one process\n", modes[i], apart);
            safetensors_close(a);
            safetensors_close(b);
        }
        safetensors_close(whole);
    }
    assert_true(near[0] >= MOST && near[1] >= MOST);
}

/* Batches in parts, and batch-norm of each rank's own rows, leave the ranks equal to each other (the running
 * statistics once they are averaged) and near to the whole. */
static void ranks_stay_equal(void **state)
{
    (void)state;
    static const char *const modes[] = {"micro", "local"};
    for (size_t i = 0; i < 2; i++) {
        run_both(modes[i], 0);
        struct safetensors *a = open_net("rank-0.safetensors"), *b = open_net("rank-1.safetensors");
        assert_true(distance(a, b) == 0);
        safetensors_close(a);
        safetensors_close(b);
    }
}

/* When a rank dies the other's step ends long before the time-out of 20 s (in half a second, on a machine
 * that is not busy), and it is known which one has died. */
static void a_lost_rank_ends_the_step(void **state)
{
    (void)state;
    port++;
    pid_t first = start(0, "lost"), second = start(1, "lost");
    struct timespec begin, end;
    assert_int_equal(status_of(second), 128 + SIGKILL);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(status_of(first), err_exit_status(XDC_ELOST));
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true(end.tv_sec - begin.tv_sec <= 12);
}

static int start_ports(void **state)
{
    port = 20000 + getpid() % 20000;
    return setup(state);
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "rank") == 0)
        return rank_main(argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks_are_one),
        cmocka_unit_test(ranks_stay_equal),
        cmocka_unit_test(a_lost_rank_ends_the_step),
    };
    return cmocka_run_group_tests(tests, start_ports, teardown);
}
