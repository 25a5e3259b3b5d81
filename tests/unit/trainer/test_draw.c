/* draw: what stands at a position is a pure function of the key; shuffled orders are passes over all clips,
 * resampled ones are uniform over the clusters. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "services/trainer/draw.h"
#include "tests/unit/trainer/tables.h"

enum { VIDEOS = 120, PER_VIDEO = 3, CLIPS = VIDEOS * PER_VIDEO };

/* Every video but each fifth. */
static void open_set(struct clip_set *set)
{
    struct err e;
    assert_int_equal(clip_set_init(set, VIDEOS, PER_VIDEO, &e), 0);
    for (uint64_t v = 0; v < VIDEOS; v++)
        if (v % 5 != 2)
            clip_set_add(set, v);
    clip_set_finish(set);
}

static bool in_set(uint64_t clip)
{
    return clip < CLIPS && clip / PER_VIDEO % 5 != 2;
}

/* Extraction's order: the ids of the set, ascending, none left out. */
static void clip_order_ascends(void **state)
{
    (void)state;
    struct clip_set set;
    struct draw d;
    open_set(&set);
    draw_init_clip_order(&d, &set, 0);
    uint64_t position = 0;
    for (uint64_t clip = 0; clip < CLIPS; clip++)
        if (in_set(clip))
            assert_int_equal(draw_at(&d, position++), clip);
    assert_int_equal(position, clip_set_size(&set));
    draw_close(&d);
    clip_set_close(&set);
}

/* Given clips stand where the list has them. */
static void a_list_is_followed(void **state)
{
    (void)state;
    static const uint64_t list[] = {4, 9, 200, 201};
    struct draw d;
    draw_init_listed(&d, list);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(draw_at(&d, i), list[i]);
    draw_close(&d);
}

/* Five passes, asked for in slices that do not fall together with the passes: each pass has each clip once,
 * and no two passes have the same order. */
static void shuffled_passes_are_bijections(void **state)
{
    (void)state;
    struct clip_set set;
    open_set(&set);
    uint64_t n = clip_set_size(&set), slice = n - 37, passes = 5, at = 0;
    uint64_t *order = malloc(passes * n * sizeof *order);
    assert_non_null(order);
    for (uint64_t epoch = 0; at < passes * n; epoch++) {
        struct draw d;
        draw_init_shuffled(&d, &set, 11, "train", 2, 0, epoch * slice);
        for (uint64_t p = 0; p < slice && at < passes * n; p++)
            order[at++] = draw_at(&d, p);
        draw_close(&d);
    }
    for (uint64_t pass = 0; pass < passes; pass++) {
        unsigned seen[CLIPS] = {0};
        uint64_t same = 0;
        for (uint64_t i = 0; i < n; i++) {
            assert_true(in_set(order[pass * n + i]));
            seen[order[pass * n + i]]++;
            same += order[pass * n + i] == order[(pass + 1) % passes * n + i];
        }
        for (uint64_t clip = 0; clip < CLIPS; clip++)
            assert_int_equal(seen[clip], in_set(clip));
        assert_true(same < 12); /* 1 is expected of two random orders */
    }
    free(order);
    clip_set_close(&set);
}

/* Positions may be asked for in any order, back over a pass's boundary too. */
static void shuffled_is_random_access(void **state)
{
    (void)state;
    struct clip_set set;
    struct draw forth, back;
    open_set(&set);
    uint64_t n = clip_set_size(&set), first[CLIPS * 2];
    draw_init_shuffled(&forth, &set, 5, "train", 0, 0, 100);
    draw_init_shuffled(&back, &set, 5, "train", 0, 0, 0);
    for (uint64_t p = 0; p < 2 * n - 100; p++)
        first[p] = draw_at(&forth, p);
    for (uint64_t p = 2 * n - 100; p-- > 0;)
        assert_int_equal(draw_at(&back, p + 100), first[p]);
    clip_set_close(&set);
}

/* Seed, purpose, round and stream each make another order; nothing else does. */
static void every_part_of_the_key_counts(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        const char *purpose;
        uint32_t round, stream;
        bool same;
    } rows[] = {{1, "train", 2, 0, true},
                {9, "train", 2, 0, false},
                {1, "stats", 2, 0, false},
                {1, "train", 3, 0, false},
                {1, "train", 2, 1, false}};
    struct clip_set set;
    struct draw base, other;
    open_set(&set);
    uint64_t n = clip_set_size(&set);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        draw_init_shuffled(&base, &set, 1, "train", 2, 0, 0);
        draw_init_shuffled(&other, &set, rows[i].seed, rows[i].purpose, rows[i].round, rows[i].stream, 0);
        uint64_t same = 0;
        for (uint64_t p = 0; p < n; p++)
            same += draw_at(&base, p) == draw_at(&other, p);
        if (rows[i].same)
            assert_int_equal(same, n);
        else
            assert_true(same < 12);
    }
    clip_set_close(&set);
}

enum { K = 9 };

/* Cluster 0 holds most clips, 3 none, 8 one of the set, 5 only clips outside the set; every eleventh has no
 * label. */
static uint32_t label_of(uint64_t clip)
{
    if (clip == 4)
        return 8;
    if (!in_set(clip))
        return 5;
    if (clip % 11 == 0)
        return LABEL_NONE;
    static const uint32_t spread[10] = {0, 0, 0, 0, 0, 1, 2, 4, 6, 7};
    return spread[clip % 10];
}

static struct targets open_targets(void)
{
    static const char *const names[] = {"video", "audio"};
    static const uint32_t k[] = {K, K};
    uint32_t video[CLIPS], audio[CLIPS];
    for (uint64_t c = 0; c < CLIPS; c++) {
        audio[c] = label_of(c);
        video[c] = (uint32_t)(c % K);
    }
    struct targets t;
    struct err e = {0};
    if (targets_adopt(&t, method_of(METHOD_XDC),
                      table_make(2, names, k, (const uint32_t *const[]){video, audio}, CLIPS), &e) < 0)
        fail_msg("%s", e.msg);
    table_drop();
    return t;
}

/* Chi-square of counts against equal shares, over those that may occur. */
static double chi_square(const unsigned *counts, const bool *may, size_t n, unsigned draws,
                         unsigned *out_cells)
{
    *out_cells = 0;
    for (size_t i = 0; i < n; i++)
        *out_cells += may[i];
    double want = (double)draws / *out_cells, x = 0;
    for (size_t i = 0; i < n; i++)
        if (may[i])
            x += (counts[i] - want) * (counts[i] - want) / want;
    return x;
}

/* Of 70,000 draws each non-empty cluster gets its equal share, whatever its size, within it each clip; clips
 * without label, outside the set or of an empty cluster never come. Bound: mean + 4 deviations of chi-square
 * at a fixed seed. */
static void resampled_is_uniform_over_clusters(void **state)
{
    (void)state;
    enum { DRAWS = 70000 };
    struct clip_set set;
    struct draw d;
    struct err e;
    unsigned by_cluster[K] = {0}, by_clip[CLIPS] = {0}, cells;
    bool clusters[K], members[CLIPS];
    open_set(&set);
    struct targets t = open_targets();
    assert_int_equal(draw_init_resampled(&d, &set, 21, 1, 0, &t, NET_VIDEO, &e), 0);
    assert_int_equal(d.clusters, 7);
    for (unsigned i = 0; i < DRAWS; i++) {
        uint64_t clip = draw_at(&d, i);
        assert_true(in_set(clip));
        assert_true(label_of(clip) != LABEL_NONE);
        by_cluster[label_of(clip)]++;
        by_clip[clip]++;
    }
    for (uint32_t c = 0; c < K; c++)
        clusters[c] = c != 3 && c != 5;
    assert_int_equal(by_cluster[3] + by_cluster[5], 0);
    double x = chi_square(by_cluster, clusters, K, DRAWS, &cells);
    assert_int_equal(cells, 7);
    assert_true(x < 6 + 4 * 3.47);
    for (uint64_t clip = 0; clip < CLIPS; clip++)
        members[clip] = in_set(clip) && label_of(clip) == 0;
    x = chi_square(by_clip, members, CLIPS, by_cluster[0], &cells);
    double df = cells - 1.0;
    assert_true(cells > 100 && x < df + 4 * sqrt(2 * df));
    draw_close(&d);
    targets_close(&t);
    clip_set_close(&set);
}

/* Equal keys give equal draws whatever the slice; another seed, round or encoder gives others. */
static void resampled_is_a_function_of_its_key(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        uint32_t round;
        uint64_t offset;
        enum net_encoder enc;
        bool same;
    } rows[] = {{1, 2, 0, NET_AUDIO, true},
                {1, 2, 150, NET_AUDIO, true},
                {2, 2, 0, NET_AUDIO, false},
                {1, 3, 0, NET_AUDIO, false},
                {1, 2, 0, NET_VIDEO, false}};
    struct clip_set set;
    struct err e;
    open_set(&set);
    struct targets t = open_targets();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct draw base, other;
        assert_int_equal(draw_init_resampled(&base, &set, 1, 2, 0, &t, NET_AUDIO, &e), 0);
        assert_int_equal(draw_init_resampled(&other, &set, rows[i].seed, rows[i].round, rows[i].offset, &t,
                                             rows[i].enc, &e),
                         0);
        unsigned same = 0;
        for (uint64_t p = 0; p < 500; p++)
            same += draw_at(&base, p + rows[i].offset) == draw_at(&other, p);
        assert_true(rows[i].same ? same == 500 : same < 40);
        draw_close(&base);
        draw_close(&other);
    }
    targets_close(&t);
    clip_set_close(&set);
}

/* A set without a labelled clip, and more clips than a list holds, are refused with a sentence; nothing stays
 * allocated. */
static void what_cannot_be_drawn_is_refused(void **state)
{
    (void)state;
    struct clip_set set;
    struct draw d;
    struct err e = {0};
    assert_int_equal(clip_set_init(&set, VIDEOS, 1, &e), 0);
    clip_set_add(&set, 0); /* clip 0 has no label */
    clip_set_finish(&set);
    struct targets t = open_targets();
    assert_int_equal(draw_init_resampled(&d, &set, 1, 0, 0, &t, NET_VIDEO, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "no clip"));
    assert_null(d.first);
    struct targets huge = t;
    huge.clips = (uint64_t)1 << 33;
    assert_int_equal(draw_init_resampled(&d, &set, 1, 0, 0, &huge, NET_VIDEO, &e), -EOVERFLOW);
    assert_non_null(strstr(e.msg, "balance: weight"));
    draw_close(&d);
    targets_close(&t);
    clip_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clip_order_ascends),
        cmocka_unit_test(a_list_is_followed),
        cmocka_unit_test(shuffled_passes_are_bijections),
        cmocka_unit_test(shuffled_is_random_access),
        cmocka_unit_test(every_part_of_the_key_counts),
        cmocka_unit_test(resampled_is_uniform_over_clusters),
        cmocka_unit_test(resampled_is_a_function_of_its_key),
        cmocka_unit_test(what_cannot_be_drawn_is_refused),
    };
    return cmocka_run_group_tests(tests, tables_setup, tables_teardown);
}
