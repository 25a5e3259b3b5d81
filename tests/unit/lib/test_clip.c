/* clip: times, orders and sets are exact functions of their keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include "lib/clip.h"
#include "lib/rng.h"

/* Every position gives another value below n, and find is the inverse of at; once over 10 million positions.
 */
static void test_order_is_a_bijection(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 17, 1000, (1u << 20) + 7, 10000000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (uint64_t key = 1; key <= (sizes[s] > 1000 ? 1 : 20); key++) {
            struct clip_order o;
            clip_order_init(&o, rng_key(key, "order", 0, 0, 0), sizes[s]);
            uint8_t *seen = calloc(sizes[s], 1);
            assert_non_null(seen);
            for (uint64_t i = 0; i < sizes[s]; i++) {
                uint64_t v = clip_order_at(&o, i);
                if (v >= sizes[s] || seen[v]++ || (i % 7 == 0 && clip_order_find(&o, v) != i))
                    fail_msg("n %llu, key %llu: position %llu gives %llu", (unsigned long long)sizes[s],
                             (unsigned long long)key, (unsigned long long)i, (unsigned long long)v);
            }
            free(seen);
        }
    }
}

/* The largest sizes work too: 2^62 and 2^63 + 1 positions, checked by the inverse. */
static void test_order_of_huge_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {(uint64_t)1 << 62, ((uint64_t)1 << 63) + 1, UINT64_MAX};
    for (size_t s = 0; s < 3; s++) {
        struct clip_order o;
        clip_order_init(&o, 99, sizes[s]);
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t at = i * (sizes[s] / 1000);
            uint64_t v = clip_order_at(&o, at);
            assert_true(v < sizes[s]);
            assert_int_equal(clip_order_find(&o, v), at);
        }
    }
}

/* An order looks random: over 20,000 keys each of 8 values comes first equally often (chi-square, 7 degrees,
 * p = 1e-6), and neighbours in a long order do not follow each other. */
static void test_order_is_spread(void **state)
{
    (void)state;
    uint64_t first[8] = {0};
    for (uint64_t key = 0; key < 20000; key++) {
        struct clip_order o;
        clip_order_init(&o, key, 8);
        first[clip_order_at(&o, 0)]++;
    }
    double chi2 = 0;
    for (int v = 0; v < 8; v++)
        chi2 += pow((double)first[v] - 2500, 2) / 2500;
    assert_true(chi2 < 42);

    struct clip_order o;
    uint64_t n = 100000, ascents = 0, neighbours = 0;
    clip_order_init(&o, 5, n);
    uint64_t before = clip_order_at(&o, 0);
    for (uint64_t i = 1; i < n; i++) {
        uint64_t v = clip_order_at(&o, i);
        ascents += v > before;
        neighbours += v == before + 1 || before == v + 1;
        before = v;
    }
    assert_in_range(ascents, 49000, 51000);
    assert_true(neighbours < 20);
}

/* Another key gives another order. */
static void test_order_depends_on_key(void **state)
{
    (void)state;
    struct clip_order a, b;
    clip_order_init(&a, 1, 1000);
    clip_order_init(&b, 2, 1000);
    unsigned same = 0;
    for (uint64_t i = 0; i < 1000; i++)
        same += clip_order_at(&a, i) == clip_order_at(&b, i);
    assert_true(same < 12);
}

/* Starts fill [0, duration - span] evenly: 20 bins over 100,000 clips, chi-square of 19 degrees below its
 * 1e-6 point. */
static void test_start_is_uniform(void **state)
{
    (void)state;
    enum { BINS = 20, CLIPS = 100000 };
    unsigned bins[BINS] = {0};
    for (uint64_t clip = 0; clip < CLIPS; clip++) {
        double t = clip_start_s(7, clip, 10.0, 2.0);
        assert_true(t >= 0 && t < 8.0);
        bins[(int)(t / 8.0 * BINS)]++;
    }
    double chi2 = 0;
    for (int b = 0; b < BINS; b++)
        chi2 += pow((double)bins[b] - CLIPS / BINS, 2) / ((double)CLIPS / BINS);
    assert_true(chi2 < 66);
}

/* A video that is not longer than the span starts at 0, whatever its duration says. */
static void test_start_of_short_videos(void **state)
{
    (void)state;
    static const double durations[] = {0, 1.5, 2.0, -3, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++)
        assert_true(clip_start_s(7, 3, durations[i], 2.0) == 0);
    assert_true(clip_start_s(7, 3, 100, 2.0) == clip_start_s(7, 3, 100, 2.0));
    assert_true(clip_start_s(7, 3, 100, 2.0) != clip_start_s(8, 3, 100, 2.0));
    assert_true(clip_start_s(7, 3, 100, 2.0) != clip_start_s(7, 4, 100, 2.0));
}

/* Clip j of n is j / (n - 1) on the way from the first to the last possible start; one alone is in the
 * middle; videos after the first have the same. */
static void test_uniform_times(void **state)
{
    (void)state;
    static const struct {
        uint32_t n, j;
        double duration_s, span_s, start_s;
    } rows[] = {{3, 0, 10, 2, 0},     {3, 1, 10, 2, 4}, {3, 2, 10, 2, 8}, {1, 0, 10, 2, 4},
                {10, 9, 5, 0.5, 4.5}, {3, 2, 2, 2, 0},  {3, 1, 0, 2, 0},  {3, 1, INFINITY, 2, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct clip_times t = {.placing = CLIP_UNIFORM, .clips_per_video = rows[i].n};
        for (uint64_t video = 0; video < 3; video++)
            assert_true(fabs(clip_times_start_s(&t, video * rows[i].n + rows[i].j, rows[i].duration_s,
                                                rows[i].span_s) -
                             rows[i].start_s) < 1e-12);
        assert_int_equal(clip_times_count(&t, rows[i].duration_s, rows[i].span_s), rows[i].n);
        assert_int_equal(clip_times_cover(&t, rows[i].span_s), 1);
    }
    const struct clip_times random = {.placing = CLIP_RANDOM, .seed = 7, .clips_per_video = 4};
    assert_true(clip_times_start_s(&random, 9, 10, 2) == clip_start_s(7, 9, 10, 2));
}

/* By hand: how many windows a video has, how many clips cover one, and where clip j starts. */
static void test_windows(void **state)
{
    (void)state;
    static const struct {
        double window_s, stride_s, duration_s, span_s;
        uint64_t windows;
        uint32_t cover;
        uint64_t j;
        double start_s;
    } rows[] = {
        {2, 1, 10, 2, 10, 1, 3, 3},       /* the last one begins at 9 and has its middle at 10 */
        {2, 1, 10, 2, 10, 1, 9, 8},       /* and its clip is moved into the video */
        {0, 0, 10, 2, 5, 1, 4, 8},        /* a clip's span, side by side */
        {1, 0, 9.98, 2, 10, 1, 0, 0},     /* shorter than a clip: around its middle, not before the start */
        {1, 0, 9.98, 2, 10, 1, 5, 4.5},   /* window [5, 6] */
        {1, 0, 10.3, 2, 10, 1, 0, 0},     /* the eleventh has its middle at 10.5 */
        {5, 5, 10, 2, 2, 3, 4, 6.5},      /* [5, 10] by clips at 5, 6.5 and 8 */
        {4, 2, 10, 2, 5, 2, 1, 2},        /* [0, 4] by clips at 0 and 2 */
        {2, 2, 0.5, 2, 1, 1, 0, 0},       /* shorter than half a window */
        {2, 2, 0, 2, 1, 1, 0, 0},         /* of unknown length */
        {0.3, 0.1, 1, 0.1, 9, 3, 2, 0.2}, /* quotients that are whole but for rounding */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct clip_times t = {.placing = CLIP_WINDOWS,
                                     .clips_per_video = 1000,
                                     .window_s = rows[i].window_s,
                                     .stride_s = rows[i].stride_s};
        assert_int_equal(clip_times_cover(&t, rows[i].span_s), rows[i].cover);
        assert_int_equal(clip_times_count(&t, rows[i].duration_s, rows[i].span_s),
                         rows[i].windows * rows[i].cover);
        double start_s = clip_times_start_s(&t, 2000 + rows[i].j, rows[i].duration_s, rows[i].span_s);
        assert_true(fabs(start_s - rows[i].start_s) < 1e-9);
    }
}

/* The augmentation changes with each of seed, round, epoch and clip, and with nothing else. */
static void test_augment_seed(void **state)
{
    (void)state;
    uint64_t base = clip_augment_seed(1, 2, 3, 4);
    assert_true(base == clip_augment_seed(1, 2, 3, 4));
    assert_true(base != clip_augment_seed(2, 2, 3, 4));
    assert_true(base != clip_augment_seed(1, 3, 3, 4));
    assert_true(base != clip_augment_seed(1, 2, 2, 4));
    assert_true(base != clip_augment_seed(1, 2, 3, 5));
    assert_true(clip_augment_seed(1, 2, 3, 4) != clip_augment_seed(1, 3, 2, 4));
}

/* at() walks exactly the members in ascending order, for empty, full, sparse and ragged sets. */
static void test_set_select(void **state)
{
    (void)state;
    static const struct {
        uint64_t videos;
        uint32_t clips_per_video;
        uint64_t every; /* members: multiples; 0: none */
    } cases[] = {{0, 1, 0},   {1, 1, 1},     {1, 5, 1},    {63, 2, 1},   {64, 1, 1},        {65, 3, 64},
                 {512, 1, 1}, {513, 1, 512}, {5000, 4, 1}, {5000, 2, 3}, {100000, 1, 1777}, {2000, 1, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct clip_set s;
        struct err e;
        assert_int_equal(clip_set_init(&s, cases[c].videos, cases[c].clips_per_video, &e), 0);
        for (uint64_t v = 0; cases[c].every && v < cases[c].videos; v += cases[c].every)
            clip_set_add(&s, v);
        clip_set_finish(&s);
        uint64_t i = 0;
        for (uint64_t v = 0; v < cases[c].videos; v++) {
            assert_int_equal(clip_set_has(&s, v), cases[c].every && v % cases[c].every == 0);
            for (uint32_t j = 0; clip_set_has(&s, v) && j < cases[c].clips_per_video; j++)
                assert_int_equal(clip_set_at(&s, i++), v * cases[c].clips_per_video + j);
        }
        assert_int_equal(clip_set_size(&s), i);
        assert_false(clip_set_has(&s, cases[c].videos));
        clip_set_close(&s);
    }
}

/* Sizes whose clip ids would not fit are refused. */
static void test_set_refuses(void **state)
{
    (void)state;
    struct clip_set s;
    struct err e;
    assert_int_equal(clip_set_init(&s, 10, 0, &e), -EINVAL);
    assert_int_equal(clip_set_init(&s, UINT64_MAX, 1, &e), -EINVAL);
    assert_int_equal(clip_set_init(&s, UINT64_MAX / 4, 100, &e), -EINVAL);
    clip_set_close(&s);
}

static void every_third(struct clip_set *s, uint64_t videos)
{
    struct err e;
    assert_int_equal(clip_set_init(s, videos, 2, &e), 0);
    for (uint64_t v = 0; v < videos; v += 3)
        clip_set_add(s, v);
    clip_set_finish(s);
}

/* A drawn set has so many members, all of them of the whole set and of the larger draw, and as many in either
 * half; another seed draws others; more than there are is refused and leaves the set as it was. */
static void test_set_draw(void **state)
{
    (void)state;
    enum { VIDEOS = 30000, FEW = 1000, MORE = 3000 };
    struct clip_set whole, few, more, other;
    struct err e;
    uint64_t low = 0, same = 0;
    every_third(&whole, VIDEOS);
    every_third(&few, VIDEOS);
    every_third(&more, VIDEOS);
    every_third(&other, VIDEOS);
    assert_int_equal(clip_set_draw(&few, 7, FEW, &e), 0);
    assert_int_equal(clip_set_draw(&more, 7, MORE, &e), 0);
    assert_int_equal(clip_set_draw(&other, 8, FEW, &e), 0);
    assert_int_equal(clip_set_size(&few), 2 * FEW);
    assert_int_equal(clip_set_size(&more), 2 * MORE);
    for (uint64_t v = 0; v < VIDEOS; v++) {
        assert_true(!clip_set_has(&more, v) || clip_set_has(&whole, v));
        assert_true(!clip_set_has(&few, v) || clip_set_has(&more, v));
        low += v < VIDEOS / 2 && clip_set_has(&few, v);
        same += clip_set_has(&few, v) && clip_set_has(&other, v);
    }
    assert_in_range(low, FEW / 2 - 80, FEW / 2 + 80); /* five standard deviations */
    assert_in_range(same, FEW / 10 - 50, FEW / 10 + 50);
    assert_int_equal(clip_set_draw(&few, 7, FEW + 1, &e), -EINVAL);
    assert_int_equal(clip_set_draw(&whole, 7, VIDEOS / 3, &e), 0);
    assert_int_equal(clip_set_size(&whole), 2 * (VIDEOS / 3));
    assert_int_equal(clip_set_size(&few), 2 * FEW);
    clip_set_close(&whole);
    clip_set_close(&few);
    clip_set_close(&more);
    clip_set_close(&other);
}

/* How many videos are held out: the share, rounded down, no more than the most clips, none of small sets;
 * has() says so of exactly as many videos, and of none beyond the last. */
static void test_holdout_share(void **state)
{
    (void)state;
    static const struct {
        double share;
        uint64_t min_clips, videos;
        uint32_t clips_per_video;
        uint64_t held;
    } rows[] = {{0.01, 5000, 5000, 1, 50},
                {0.01, 5000, 4999, 1, 0},
                {0.01, 5000, 2500, 2, 25},
                {0.01, 5000, 2499, 2, 0},
                {0, 0, 100000, 1, 0},
                {0.1, 0, 40, 1, 4},
                {0.1, 0, 9, 1, 0},
                {0.5, 0, 2, 1, 1},
                {0.25, 0, 399, 3, 99},
                {0.01, 0, 1000000, 1, 10000},
                {0.01, 0, 2000000, 1, 10000},
                {0.01, 0, 1000000, 4, 2500},
                {0.5, 0, 100, 1000, 10},
                {0.01, 0, 0, 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct clip_holdout h;
        uint64_t n = 0;
        clip_holdout_init(&h, 3, rows[i].share, rows[i].min_clips, rows[i].videos, rows[i].clips_per_video);
        assert_int_equal(h.held, rows[i].held);
        for (uint64_t v = 0; v < rows[i].videos; v++)
            n += clip_holdout_has(&h, v);
        assert_int_equal(n, rows[i].held);
        assert_false(clip_holdout_has(&h, rows[i].videos));
    }
}

/* The same seed holds out the same videos, another one others; they lie scattered (each hundredth of the set
 * has between 1 and 25 of the 1,000), and are those at the beginning of the order. */
static void test_holdout_is_of_the_seed(void **state)
{
    (void)state;
    enum { VIDEOS = 100000 };
    struct clip_holdout a, b, c;
    unsigned parts[100] = {0}, both = 0;
    clip_holdout_init(&a, 7, 0.01, 0, VIDEOS, 1);
    clip_holdout_init(&b, 7, 0.01, 0, VIDEOS, 1);
    clip_holdout_init(&c, 8, 0.01, 0, VIDEOS, 1);
    for (uint64_t v = 0; v < VIDEOS; v++) {
        assert_int_equal(clip_holdout_has(&a, v), clip_holdout_has(&b, v));
        parts[v / (VIDEOS / 100)] += clip_holdout_has(&a, v);
        both += clip_holdout_has(&a, v) && clip_holdout_has(&c, v);
    }
    for (unsigned i = 0; i < 100; i++)
        assert_in_range(parts[i], 1, 25);
    assert_in_range(both, 0, 40); /* 10 by chance */
    for (uint64_t i = 0; i < 2 * a.held; i++)
        assert_int_equal(clip_holdout_has(&a, clip_order_at(&a.order, i)), i < a.held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_a_bijection), cmocka_unit_test(test_order_of_huge_sizes),
        cmocka_unit_test(test_order_is_spread),      cmocka_unit_test(test_order_depends_on_key),
        cmocka_unit_test(test_start_is_uniform),     cmocka_unit_test(test_start_of_short_videos),
        cmocka_unit_test(test_uniform_times),        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_augment_seed),         cmocka_unit_test(test_set_select),
        cmocka_unit_test(test_set_refuses),          cmocka_unit_test(test_set_draw),
        cmocka_unit_test(test_holdout_share),        cmocka_unit_test(test_holdout_is_of_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
