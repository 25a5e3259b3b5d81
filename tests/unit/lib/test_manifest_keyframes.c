/* The key frames that a manifest keeps beside its records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>
#include "lib/fsutil.h"
#include "lib/keyframe_list.h"
#include "lib/manifest.h"

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-keyframes-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/m.lmdb", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static struct manifest_video example(uint64_t i)
{
    struct manifest_video v = {
        .size_bytes = 1000 + i, .duration_s = 100, .fps = 25, .width = 320, .height = 240, .truth = -1};
    snprintf(v.uri, sizeof v.uri, "video-%llu.ts", (unsigned long long)i);
    return v;
}

/* Key frame k of video i: uneven distances, up to gigabytes. */
static struct media_keyframe example_key(uint64_t i, uint32_t k)
{
    return (struct media_keyframe){.time_s = k * (0.4 + 0.001 * (double)i) + (k > 0) / 3.0,
                                   .pos = (int64_t)(k * (123457 + i * 12345678))};
}

static void append_keys(struct manifest *m, uint64_t i, uint32_t n)
{
    struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
    struct err e;
    for (uint32_t k = 0; k < n; k++)
        keys[k] = example_key(i, k);
    assert_int_equal(manifest_append_keyframes(m, keys, n, &e), 0);
}

/* The key frame at or before a time, for every third video; the others have none, and the identity knows
 * nothing of them. */
static void test_keyframes(void **state)
{
    (void)state;
    enum { N = 60 };
    struct manifest *m;
    struct err e;
    uint64_t identity[2];
    for (int with = 0; with < 2; with++) {
        assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
        for (uint64_t i = 0; i < N; i++) {
            struct manifest_video v = example(i);
            assert_int_equal(manifest_append(m, &v, &e), 0);
            if (with && i % 3 == 0)
                append_keys(m, i, i == 0 ? MEDIA_KEYFRAMES_MAX : (uint32_t)i);
        }
        assert_int_equal(manifest_commit(m, &e), 0);
        identity[with] = manifest_identity(m);
        manifest_close(m);
    }
    assert_true(identity[0] == identity[1]);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    for (uint64_t i = 0; i < N; i++) {
        struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
        uint32_t n;
        double at;
        int64_t pos;
        assert_int_equal(manifest_keyframes(m, i, keys, &n, &e), 0);
        assert_int_equal(n, i % 3 ? 0 : i == 0 ? MEDIA_KEYFRAMES_MAX : i);
        manifest_keyframe(m, i, 1e9, &at, &pos);
        assert_true(n ? pos == example_key(i, n - 1).pos : pos == -1);
        for (uint32_t k = 0; k < n; k++) {
            struct media_keyframe want = example_key(i, k);
            assert_true(keys[k].pos == want.pos && keys[k].time_s <= want.time_s + 1e-9 &&
                        keys[k].time_s > want.time_s - 1.1e-6);
            manifest_keyframe(m, i, want.time_s + 0.1, &at, &pos);
            assert_true(at == keys[k].time_s && pos == want.pos);
            manifest_keyframe(m, i, want.time_s - 0.1, &at, &pos);
            assert_true(k ? pos == keys[k - 1].pos : pos == -1);
        }
    }
    manifest_close(m);
}

/* Keys that do not ascend, lie before the start or are too many are refused; a list that is encoded again is
 * the same. */
static void test_keyframes_refused(void **state)
{
    (void)state;
    struct manifest *m;
    struct err e;
    struct manifest_video v = example(1);
    uint8_t a[KEYFRAME_LIST_BYTES], b[KEYFRAME_LIST_BYTES];
    static struct media_keyframe many[MEDIA_KEYFRAMES_MAX + 1];
    static const struct media_keyframe wrong[][2] = {{{2, 10}, {1, 20}},
                                                     {{1, 20}, {2, 10}},
                                                     {{-1, 0}, {1, 5}},
                                                     {{1, -1}, {2, 5}},
                                                     {{NAN, 0}, {2, 5}},
                                                     {{0, 0}, {INFINITY, 5}},
                                                     {{0, 0}, {KEYFRAME_LIST_END_S, 5}}};
    assert_int_equal(manifest_create(path, "/", &m, &e), 0);
    assert_int_equal(manifest_append_keyframes(m, many, 1, &e), -EINVAL);
    assert_int_equal(manifest_append(m, &v, &e), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(manifest_append_keyframes(m, wrong[i], 2, &e), -EINVAL);
    assert_int_equal(manifest_append_keyframes(m, many, MEDIA_KEYFRAMES_MAX + 1, &e), -EINVAL);
    assert_int_equal(manifest_append_keyframes(m, many, 0, &e), 0);
    manifest_close(m);
    for (uint32_t k = 0; k < MEDIA_KEYFRAMES_MAX; k++)
        many[k] = (struct media_keyframe){.time_s = k * 0.29, .pos = k};
    size_t size = keyframe_list_encode(7, many, MEDIA_KEYFRAMES_MAX, a);
    assert_int_equal(keyframe_list_decode(7, a, size, many), MEDIA_KEYFRAMES_MAX);
    assert_int_equal(keyframe_list_encode(7, many, MEDIA_KEYFRAMES_MAX, b), size);
    assert_memory_equal(a, b, size);
    assert_int_equal(keyframe_list_decode(8, a, size, many), -1);
    assert_int_equal(keyframe_list_decode(7, a, size - 1, many), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_keyframes), TEST(test_keyframes_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
