/* manifest: what was appended is what is read, the identity covers what it should, and nothing torn or
 * altered opens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/manifest.h"

static char dir[64], path[128], tmp[160];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-manifest-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/m.lmdb", dir);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* Video i of a made-up data set: every field differs from its neighbours' and from 0. */
static struct manifest_video example(uint64_t i)
{
    struct manifest_video v = {
        .size_bytes = 1000003 * (i + 1),
        .duration_s = 10.0 + 0.37 * (double)i,
        .fps = 30000.0 / 1001 + (double)(i % 3),
        .width = 320 + (uint32_t)(i % 5),
        .height = 240 + (uint32_t)(i % 7),
        .video_stream = (int32_t)(i % 3) - 1,
        .audio_stream = (int32_t)(i % 4) - 1,
        .sample_rate = i % 2 ? 44100 : 48000,
        .channels = 1 + (uint32_t)(i % 6),
        .probe_reason = (uint32_t)(i % 16),
        .truth = (int32_t)(i % 3) - 1,
        .split = (enum manifest_split)(i % 4),
        .mtime_ns = 1700000000123456789 + (int64_t)i,
        .facts = (uint32_t)(i % 7) << 11,
    };
    snprintf(v.uri, sizeof v.uri, "class %llu/video-%08llu.mp4", (unsigned long long)(i % 10),
             (unsigned long long)i);
    return v;
}

static void assert_same_video(const struct manifest_video *a, const struct manifest_video *b)
{
    assert_string_equal(a->uri, b->uri);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_true(a->duration_s == b->duration_s && a->fps == b->fps);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->video_stream, b->video_stream);
    assert_int_equal(a->audio_stream, b->audio_stream);
    assert_int_equal(a->sample_rate, b->sample_rate);
    assert_int_equal(a->channels, b->channels);
    assert_int_equal(a->probe_reason, b->probe_reason);
    assert_int_equal(a->truth, b->truth);
    assert_int_equal(a->split, b->split);
    assert_true(a->mtime_ns == b->mtime_ns && a->facts == b->facts);
}

/* Writes n examples with two classes; `change` alters video 1 first. Returns the identity. */
static uint64_t write_manifest(uint64_t n, void (*change)(struct manifest_video *))
{
    struct manifest *m;
    struct err e;
    int32_t class;
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    assert_int_equal(manifest_class(m, "dog", &class, &e), 0);
    assert_int_equal(manifest_class(m, "cat", &class, &e), 0);
    for (uint64_t i = 0; i < n; i++) {
        struct manifest_video v = example(i);
        if (i == 1 && change)
            change(&v);
        assert_int_equal(manifest_append(m, &v, &e), 0);
    }
    assert_int_equal(manifest_commit(m, &e), 0);
    uint64_t identity = manifest_identity(m);
    manifest_close(m);
    return identity;
}

/* All fields of all videos, the classes and the media root come back, by the writer's handle and by a new
 * one. */
static void test_round_trip(void **state)
{
    (void)state;
    enum { N = 30000 };
    uint64_t identity = write_manifest(N, NULL);
    assert_true(access(tmp, F_OK) < 0);
    struct manifest *m;
    struct manifest_video v;
    struct err e;
    int32_t class;
    assert_int_equal(manifest_open(path, &m, &e), 0);
    assert_int_equal(manifest_count(m), N);
    assert_true(identity != 0 && manifest_identity(m) == identity);
    assert_string_equal(manifest_media_root(m), "/media");
    assert_int_equal(manifest_classes(m), 2);
    assert_string_equal(manifest_class_name(m, 0), "dog");
    assert_string_equal(manifest_class_name(m, 1), "cat");
    assert_null(manifest_class_name(m, 2));
    assert_null(manifest_class_name(m, -1));
    assert_int_equal(manifest_class(m, "cat", &class, &e), 0);
    assert_int_equal(class, 1);
    assert_int_equal(manifest_class(m, "cow", &class, &e), -EROFS);
    for (uint64_t i = 0; i < N; i++) {
        struct manifest_video want = example(i);
        assert_int_equal(manifest_get(m, i, &v, &e), 0);
        assert_same_video(&v, &want);
    }
    assert_int_equal(manifest_get(m, N, &v, &e), -ENOENT);
    assert_int_equal(manifest_append(m, &v, &e), -EROFS);
    assert_int_equal(manifest_verify(m, &e), 0);
    manifest_close(m);
}

/* After commit the writer reads on, also when the file has been replaced meanwhile. */
static void test_writer_reads_after_commit(void **state)
{
    (void)state;
    struct manifest *m;
    struct manifest_video v = example(0), got;
    struct err e;
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    assert_int_equal(manifest_append(m, &v, &e), 0);
    assert_int_equal(manifest_identity(m), 0);
    assert_int_equal(manifest_commit(m, &e), 0);
    assert_int_equal(manifest_commit(m, &e), -EROFS);
    write_manifest(5, NULL);
    assert_int_equal(manifest_get(m, 0, &got, &e), 0);
    assert_same_video(&got, &v);
    assert_int_equal(manifest_count(m), 1);
    manifest_close(m);
    assert_int_equal(access(path, F_OK), 0);
}

/* A manifest of no videos is one, too. */
static void test_empty(void **state)
{
    (void)state;
    struct manifest *m;
    struct manifest_video v;
    struct err e;
    uint64_t identity = write_manifest(0, NULL);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    assert_int_equal(manifest_count(m), 0);
    assert_true(manifest_identity(m) == identity);
    assert_int_equal(manifest_get(m, 0, &v, &e), -ENOENT);
    manifest_close(m);
}

static void change_uri(struct manifest_video *v)
{
    v->uri[0]++;
}
static void change_size(struct manifest_video *v)
{
    v->size_bytes++;
}
static void change_duration(struct manifest_video *v)
{
    v->duration_s += 1e-9;
}
static void change_fps(struct manifest_video *v)
{
    v->fps = 25;
}
static void change_width(struct manifest_video *v)
{
    v->width++;
}
static void change_height(struct manifest_video *v)
{
    v->height++;
}
static void change_video(struct manifest_video *v)
{
    v->video_stream++;
}
static void change_audio(struct manifest_video *v)
{
    v->audio_stream++;
}
static void change_truth(struct manifest_video *v)
{
    v->truth = v->truth == 1 ? 0 : 1;
}
static void change_probed(struct manifest_video *v)
{
    v->mtime_ns++;
    v->facts++;
    v->probe_reason++;
}
static void change_split(struct manifest_video *v)
{
    v->split = MANIFEST_SPLIT_NONE;
}

/* The identity is a function of what clips are made of: it changes with each such field, not with truth and
 * split. */
static void test_identity(void **state)
{
    (void)state;
    static const struct {
        void (*change)(struct manifest_video *);
        bool changes;
    } cases[] = {{NULL, false},        {change_uri, true},    {change_size, true},   {change_duration, true},
                 {change_fps, true},   {change_width, true},  {change_height, true}, {change_video, true},
                 {change_audio, true}, {change_truth, false}, {change_split, false}, {change_probed, false}};
    uint64_t base = write_manifest(10, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(write_manifest(10, cases[i].change) != base, cases[i].changes);
    assert_true(write_manifest(11, NULL) != base);
}

/* At 100,000 videos the file takes at most 150 bytes a video beyond the uris. */
static void test_size(void **state)
{
    (void)state;
    enum { N = 100000 };
    write_manifest(N, NULL);
    uint64_t uris = 0;
    struct stat st;
    for (uint64_t i = 0; i < N; i++)
        uris += strlen(example(i).uri);
    assert_int_equal(stat(path, &st), 0);
    double beyond = ((double)st.st_size - (double)uris) / N;
    print_message("%.1f bytes a video beyond its uri\n", beyond);
    assert_true(beyond <= 150);
}

/* The map grows with the data: 120 MB of long uris, written in batches, all come back. */
static void test_grows(void **state)
{
    (void)state;
    enum { N = 15000 };
    struct manifest *m;
    struct manifest_video v = example(3), got;
    struct err e;
    v.truth = -1;
    memset(v.uri, 'u', sizeof v.uri);
    v.uri[MANIFEST_URI_MAX - 1] = '\0';
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    for (uint64_t i = 0; i < N; i++) {
        v.size_bytes = i;
        if (manifest_append(m, &v, &e) < 0)
            fail_msg("video %llu: %s", (unsigned long long)i, e.msg);
    }
    assert_int_equal(manifest_commit(m, &e), 0);
    manifest_close(m);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    for (uint64_t i = 0; i < N; i += 777) {
        v.size_bytes = i;
        assert_int_equal(manifest_get(m, i, &got, &e), 0);
        assert_same_video(&got, &v);
    }
    manifest_close(m);
}

/* Numbers at both ends of their ranges survive the packing. */
static void test_extremes(void **state)
{
    (void)state;
    struct manifest *m;
    struct err e;
    struct manifest_video got, v[2] = {
                                   {.uri = "x", .video_stream = -1, .audio_stream = -1, .truth = -1},
                                   {.uri = "/y",
                                    .size_bytes = UINT64_MAX,
                                    .duration_s = 1e300,
                                    .fps = 1e-300,
                                    .width = UINT32_MAX,
                                    .height = UINT32_MAX,
                                    .video_stream = INT32_MAX - 1,
                                    .audio_stream = INT32_MAX - 1,
                                    .sample_rate = UINT32_MAX,
                                    .channels = UINT32_MAX,
                                    .probe_reason = UINT32_MAX,
                                    .truth = -1,
                                    .split = MANIFEST_SPLIT_TEST,
                                    .mtime_ns = INT64_MIN,
                                    .facts = UINT32_MAX},
                               };
    assert_int_equal(manifest_create(path, "/", &m, &e), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(manifest_append(m, &v[i], &e), 0);
    assert_int_equal(manifest_commit(m, &e), 0);
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(manifest_get(m, i, &got, &e), 0);
        assert_same_video(&got, &v[i]);
    }
    manifest_close(m);
}

static void bad_uri(struct manifest_video *v)
{
    v->uri[0] = '\0';
}
static void bad_long(struct manifest_video *v)
{
    memset(v->uri, 'a', sizeof v->uri);
}
static void bad_duration(struct manifest_video *v)
{
    v->duration_s = NAN;
}
static void bad_fps(struct manifest_video *v)
{
    v->fps = -1;
}
static void bad_truth(struct manifest_video *v)
{
    v->truth = 2;
}
static void bad_stream(struct manifest_video *v)
{
    v->audio_stream = -2;
}
static void bad_split(struct manifest_video *v)
{
    v->split = (enum manifest_split)9;
}

/* Videos that make no sense are refused, and the manifest goes on as if they had not been tried. */
static void test_refuses_bad_videos(void **state)
{
    (void)state;
    static void (*const cases[])(struct manifest_video *) = {bad_uri,   bad_long,   bad_duration, bad_fps,
                                                             bad_truth, bad_stream, bad_split};
    uint64_t identity = write_manifest(2, NULL);
    struct manifest *m;
    struct err e;
    int32_t class;
    assert_int_equal(manifest_create(path, "media", &m, &e), -EINVAL);
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    assert_int_equal(manifest_class(m, "", &class, &e), -EINVAL);
    assert_int_equal(manifest_class(m, "dog", &class, &e), 0);
    assert_int_equal(manifest_class(m, "cat", &class, &e), 0);
    for (uint64_t i = 0; i < 2; i++) {
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            struct manifest_video v = example(i);
            cases[c](&v);
            assert_int_equal(manifest_append(m, &v, &e), -EINVAL);
        }
        struct manifest_video v = example(i);
        assert_int_equal(manifest_append(m, &v, &e), 0);
    }
    assert_int_equal(manifest_commit(m, &e), 0);
    assert_true(manifest_identity(m) == identity);
    manifest_close(m);
}

/* Many classes keep the order of their first use. */
static void test_classes(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct manifest *m;
    struct err e;
    int32_t class;
    char name[32];
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof name, "class %d", i * 7);
            assert_int_equal(manifest_class(m, name, &class, &e), 0);
            assert_int_equal(class, i);
        }
    assert_int_equal(manifest_commit(m, &e), 0);
    manifest_close(m);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    assert_int_equal(manifest_classes(m), N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "class %d", i * 7);
        assert_string_equal(manifest_class_name(m, i), name);
        assert_int_equal(manifest_class(m, name, &class, &e), 0);
        assert_int_equal(class, i);
    }
    manifest_close(m);
}

/* A writer that is closed without commit leaves the old manifest and nothing else; a crash's leftover is
 * replaced. */
static void test_uncommitted_leaves_nothing(void **state)
{
    (void)state;
    uint64_t identity = write_manifest(3, NULL);
    struct manifest *m;
    struct manifest_video v = example(9);
    struct err e;
    v.truth = -1;
    assert_int_equal(manifest_create(path, "/other", &m, &e), 0);
    assert_int_equal(manifest_append(m, &v, &e), 0);
    manifest_close(m);
    assert_true(access(tmp, F_OK) < 0);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    assert_true(manifest_identity(m) == identity);
    manifest_close(m);

    assert_int_equal(fs_write_atomic(tmp, "leftover of a crash", 19, &e), 0);
    assert_true(write_manifest(3, NULL) == identity);
    assert_true(access(tmp, F_OK) < 0);
}

/* Of two writers to one name the first finds out at its commit; the second's manifest is whole. */
static void test_two_writers(void **state)
{
    (void)state;
    struct manifest *a, *b;
    struct manifest_video v = example(0);
    struct err e;
    assert_int_equal(manifest_create(path, "/a", &a, &e), 0);
    assert_int_equal(manifest_create(path, "/b", &b, &e), 0);
    assert_int_equal(manifest_append(b, &v, &e), 0);
    assert_int_equal(manifest_commit(a, &e), XDC_ELOCKED);
    manifest_close(a);
    assert_int_equal(manifest_commit(b, &e), 0);
    manifest_close(b);
    assert_int_equal(manifest_open(path, &b, &e), 0);
    assert_string_equal(manifest_media_root(b), "/b");
    manifest_close(b);
}

static int try_open(void)
{
    struct manifest *m;
    struct err e;
    int rc = manifest_open(path, &m, &e);
    if (rc == 0)
        manifest_close(m);
    else
        assert_non_null(strstr(e.msg, "xdc index"));
    return rc;
}

/* No file, an empty one, text, a folder: each is told from a manifest. */
static void test_open_refuses_others(void **state)
{
    (void)state;
    struct err e;
    char text[10000];
    memset(text, 'x', sizeof text);
    assert_int_equal(try_open(), -ENOENT);
    assert_int_equal(fs_write_atomic(path, "", 0, &e), 0);
    assert_int_equal(try_open(), XDC_EFORMAT);
    assert_int_equal(fs_write_atomic(path, text, sizeof text, &e), 0);
    assert_int_equal(try_open(), XDC_EFORMAT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(try_open(), XDC_EFORMAT);
}

/* Cut anywhere, or with any one byte altered (tried at 2,000 places, all of the last page among them), it
 * does not open. */
static void test_open_refuses_altered(void **state)
{
    (void)state;
    write_manifest(300, NULL);
    char *data;
    size_t size;
    struct err e;
    assert_int_equal(fs_read(path, 1 << 24, &data, &size, &e), 0);
    for (size_t cut = 1; cut < size; cut += 1 + size / 50) {
        assert_int_equal(truncate(path, (off_t)(size - cut)), 0);
        assert_int_equal(try_open(), XDC_EFORMAT);
        assert_int_equal(fs_write_atomic(path, data, size, &e), 0);
    }
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    size_t step = size / 1500;
    for (size_t at = 0; at < size; at += at + 500 < size ? step : 1) {
        char other = (char)(data[at] ^ (1 << at % 8));
        assert_int_equal(pwrite(fd, &other, 1, (off_t)at), 1);
        if (try_open() != XDC_EFORMAT)
            fail_msg("byte %zu of %zu altered, and it opens", at, size);
        assert_int_equal(pwrite(fd, &data[at], 1, (off_t)at), 1);
    }
    close(fd);
    free(data);
    assert_int_equal(try_open(), 0);
}

/* A full disk (here: a limit of the file's size) is -ENOSPC with a clear sentence, stays so, and leaves the
 * old manifest. */
static void test_full_disk(void **state)
{
    (void)state;
    uint64_t identity = write_manifest(3, NULL);
    struct rlimit old, small = {.rlim_cur = 1 << 20};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct manifest *m;
    struct err e;
    assert_int_equal(manifest_create(path, "/media", &m, &e), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < 200000; i++) {
        struct manifest_video v = example(i);
        v.truth = -1;
        rc = manifest_append(m, &v, &e);
    }
    int again = manifest_commit(m, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(again, -ENOSPC);
    assert_non_null(strstr(e.msg, "space"));
    manifest_close(m);
    assert_true(access(tmp, F_OK) < 0);
    assert_int_equal(manifest_open(path, &m, &e), 0);
    assert_true(manifest_identity(m) == identity);
    manifest_close(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_writer_reads_after_commit),
        TEST(test_empty),
        TEST(test_identity),
        TEST(test_size),
        TEST(test_grows),
        TEST(test_extremes),
        TEST(test_refuses_bad_videos),
        TEST(test_classes),
        TEST(test_uncommitted_leaves_nothing),
        TEST(test_two_writers),
        TEST(test_open_refuses_others),
        TEST(test_open_refuses_altered),
        TEST(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
