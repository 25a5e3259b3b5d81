/* memory_need: what a step is said to take is what real steps take. How networks are counted:
 * tests/unit/torch/test_net_cost.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/memory.h"
#include "services/trainer/memory_check.h"
#include "services/trainer/memory_need.h"

#define SPEC(kind, flavour_, depth, width, stem, a_depth, a_width, t, p)                                    \
    {                                                                                                       \
        .video = kind, .flavour = flavour_, .video_depth = depth, .video_width = width, .audio_stem = stem, \
        .audio_depth = a_depth, .audio_width = a_width, .frames = t, .crop = p, .seed = 1, .threads = 1     \
    }

static const struct measured {
    struct net_spec spec;
    uint32_t batch, micro;
    bool recompute;
} cases[] = {
    {SPEC(NET_R2PLUS1D, NET_XDC, 18, 16, NET_STEM_TORCHVISION, 10, 4, 8, 64), 5, 0, false},
    {SPEC(NET_R2PLUS1D, NET_XDC, 10, 16, NET_STEM_TORCHVISION, 10, 4, 8, 96), 6, 0, true},
    {SPEC(NET_S3D, NET_XDC, 18, 16, NET_STEM_TORCHVISION, 10, 4, 16, 96), 6, 3, false},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static double peak_bytes(void)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "VmHWM: %lf kB", &kib);
    if (f)
        fclose(f);
    return kib * 1024;
}

/* A net and a step of its video encoder. */
static int make_steps(const struct measured *m)
{
    struct net *net = NULL;
    struct err e;
    struct net_step out;
    uint32_t classes = 8;
    uint64_t seed = 1;
    size_t clip = (size_t)3 * m->spec.frames * m->spec.crop * m->spec.crop;
    uint8_t *video = malloc(m->batch * clip);
    int64_t labels[32] = {0};
    const struct net_sgd sgd = {
        .lr = 0.01, .momentum = 0.9, .micro_batch = m->micro, .recompute = m->recompute};
    struct net_batch b = {m->batch, video};
    int rc = video ? net_create(&m->spec, &net, &e) : -1;
    if (rc == 0)
        rc = net_reset_heads(net, NET_VIDEO, NET_HEAD_LINEAR, 1, &classes, &seed, &e);
    for (size_t i = 0; video && i < m->batch * clip; i++)
        video[i] = (uint8_t)(i * 2654435761u >> 13);
    if (rc == 0)
        rc = net_train_step(net, NET_VIDEO, &b, (const int64_t *const[]){labels}, NULL, &sgd, &out, &e);
    net_destroy(net);
    free(video);
    return rc;
}

/* A process of its own: prints what its peak grew by, the libraries' own pages left out. */
static int measure(const struct measured *m)
{
    struct measured small = *m;
    small.spec.video_width = 4;
    small.spec.crop = 32;
    small.batch = 2;
    if (make_steps(&small) < 0)
        return 1;
    double before = peak_bytes();
    if (make_steps(m) < 0)
        return 1;
    printf("%.0f\n", peak_bytes() - before);
    return 0;
}

/* The need of a step, as the trainer says it, is between 1 / 1.6 and 1 / 0.6 of what the process grew by. */
static void steps_take_what_is_said(void **state)
{
    (void)state;
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    for (unsigned i = 0; i < CASES; i++) {
        const struct measured *m = &cases[i];
        struct conf c = {.train = {.batch = m->batch, .micro_batch = m->micro, .recompute = m->recompute},
                         .video = {.frames = m->spec.frames, .crop = m->spec.crop}};
        struct memory_need need;
        char command[700];
        double grown = 0;
        memory_need(&c, &m->spec, &need);
        /* Freed memory is used again at once, as without a sanitizer. */
        snprintf(command, sizeof command,
                 "ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=1:thread_local_quarantine_size_kb=64 %s %u",
                 self, i);
        FILE *f = popen(command, "r");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "%lf", &grown), 1);
        assert_int_equal(pclose(f), 0);
        double said = need.activations + need.weights;
        print_message("case %u: said %.0f MiB, grown by %.0f MiB, ratio %.2f\n", i, said / 1048576,
                      grown / 1048576, said / grown);
        assert_true(said / grown > 0.6 && said / grown < 1.6);
    }
}

/* A rank takes its share of a batch: as much as a run of one rank takes with a batch of that size. */
static void a_rank_needs_its_share(void **state)
{
    (void)state;
    struct net_spec s = SPEC(NET_R2PLUS1D, NET_XDC, 18, 64, NET_STEM_TORCHVISION, 18, 64, 8, 224);
    for (int64_t micro = 0; micro <= 64; micro += 16) {
        struct conf ranks = {.run.ranks = 8, .train = {.batch = 256, .micro_batch = micro}};
        struct conf alone = {.run.ranks = 1, .train = {.batch = 32, .micro_batch = micro}};
        ranks.video.frames = alone.video.frames = s.frames;
        ranks.video.crop = alone.video.crop = s.crop;
        struct memory_need a, b;
        memory_need(&ranks, &s, &a);
        memory_need(&alone, &s, &b);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

/* What does not fit is refused with the figures and the keys to change; what fits is not. */
static void what_cannot_fit_is_refused(void **state)
{
    (void)state;
    struct net_spec s = SPEC(NET_R2PLUS1D, NET_XDC, 34, 64, NET_STEM_VMZ, 18, 64, 32, 224);
    struct conf c = {.train = {.batch = 4096}, .video = {.frames = 32, .crop = 224}};
    struct err e = {0};
    double available = memory_free();
    assert_true(available > 1e6);
    assert_int_equal(memory_check(&c, &s, &e), XDC_ECONF);
    static const char *const words[] = {"GiB of memory (activations ", "GiB are free",
                                        "train.micro_batch (now 0",    "train.recompute: true (now false)",
                                        "train.batch (now 4096)",      "video.crop (now 224)",
                                        "video.frames (now 32)"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_non_null(strstr(e.msg, words[i]));
    c.train.batch = 2;
    c.video.frames = s.frames = 2;
    c.video.crop = s.crop = 32;
    s.video_width = s.audio_width = 4;
    assert_int_equal(memory_check(&c, &s, &e), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return measure(&cases[strtoul(argv[1], NULL, 10) % CASES]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_take_what_is_said),
        cmocka_unit_test(a_rank_needs_its_share),
        cmocka_unit_test(what_cannot_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
