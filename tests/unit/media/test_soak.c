/* A session that is never replaced does not grow. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "lib/media/session.h"
#include "make_media.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* keeps freed blocks, and counts by itself */
#else
#define SANITIZED 0
#endif

#define SIDE 32
#define FILES 6

static uint8_t slot[256 << 10];

static bool on_answer(void *arg, const struct media_result *r)
{
    *(uint64_t *)arg += r->reason == 0;
    return true;
}

static double tone(int n, int channel)
{
    (void)channel;
    return 0.3 * sin(2 * M_PI * 440 * n / 16000.0);
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(f, "%ld %ld", &pages, &resident), 2);
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void spoil(const char *path)
{
    int fd = open(path, O_WRONLY);
    for (int i = 0; i < 40; i++)
        assert_int_equal(pwrite(fd, "\xff", 1, 900 + 211 * i), 1);
    close(fd);
}

static void make_files(char paths[FILES][128])
{
    static const struct make_media files[FILES] = {
        {.path = "a.mov", .frames = 50, .fps = 10, .video_codec = "libx264", .audio_s = 5, .sample = tone},
        {.path = "b.mkv", .frames = 50, .fps = 10, .video_codec = "libx264", .audio_s = 5, .sample = tone},
        {.path = "c.avi", .frames = 50, .fps = 10},
        {.path = "d.mp4", .frames = 50, .fps = 25, .width = 320, .height = 240},
        {.path = "damaged.mp4", .frames = 50, .fps = 10},
        {.path = "silent.wav", .audio_s = 3},
    };
    for (int i = 0; i < FILES; i++) {
        struct make_media m = files[i];
        m.path = media_path(paths[i], m.path);
        make_media(&m);
    }
    spoil(paths[4]);
}

/* Over thousands of clips of good, damaged and silent files the live heap stays as large as after a quarter
 * of them, to a page or so, and the process grows by 4 MiB at most. XDC_LONG: 20,000 clips. */
static void test_flat(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    char paths[FILES][128];
    make_files(paths);
    struct media_session *s = NULL;
    struct err e = {0};
    assert_int_equal(media_session_create(&s, &e), 0);
    uint64_t good = 0, clips = getenv("XDC_LONG") ? 20000 : 2000;
    size_t live = 0;
    long resident = 0;
    for (uint64_t i = 0; i < clips; i++) {
        struct media_job job = {
            .kind = MEDIA_JOB_DECODE,
            .video_stream = -1,
            .audio_stream = -1,
            .clips = 1,
            .clip = {{.start_s = (double)(i * 37 % 40) / 10, .augment_seed = i, .key_pos = -1}},
            .recipe = {.frames = 8,
                       .fps = 10,
                       .resize_min = SIDE,
                       .resize_max = SIDE + 16,
                       .crop = SIDE,
                       .crop_jitter_px = -1,
                       .augment = true,
                       .want_video = true,
                       .want_audio = i & 1,
                       .scaling = i % 3 == 0}};
        int fd = open_media(paths[i % FILES]);
        media_session_run(s, &job, fd, slot, sizeof slot, on_answer, &good);
        close(fd);
        /* at the same point of the cycle of files and options */
        if (i == clips / 4 / 120 * 120) {
            live = mallinfo2().uordblks;
            resident = resident_kib();
        }
        if (i > clips / 4 && i % 120 == 0)
            assert_in_range(mallinfo2().uordblks, 0, live + 16384);
    }
    assert_in_range(resident_kib(), 0, resident + 4096);
    assert_true(good > clips / 3);
    media_session_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flat)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
