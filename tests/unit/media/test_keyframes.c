/* probe: the key frames that it lists of containers without an index of their own: each is where it says, and
 * as many as there are, or evenly thinned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <libavformat/avformat.h>
#include <math.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/media/child.h"

static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-keyframes-XXXXXX");
    return mkdtemp(dir) && setenv("XDC_MEDIA_WORKER", XDC_BIN_DIR "/xdc-media-worker", 1) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

/* 25 frames a second, a key frame every `gop`; skips without the program ffmpeg. */
static void make(const char *name, int seconds, int gop, const char *options)
{
    char command[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(
        command, sizeof command,
        "ffmpeg -nostdin -loglevel error -f lavfi -i testsrc2=size=64x48:rate=25:duration=%d -f lavfi -i "
        "sine=duration=%d -c:v mpeg2video -bf 0 -sc_threshold 1000000000 -g %d -c:a mp2 %s %s",
        seconds, seconds, gop, options, path);
    if (system("command -v ffmpeg > /dev/null") != 0)
        skip();
    assert_int_equal(system(command), 0);
}

static uint32_t probe(struct media_child *c, const struct media_keyframe **out_keys)
{
    struct media_child_limits limits = {.cpu_s = 20, .memory_mib = 512, .slot_bytes = 4096};
    struct media_job job = {.kind = MEDIA_JOB_PROBE, .video_stream = -1, .audio_stream = -1};
    struct media_result r;
    struct err e;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(media_child_start(c, &limits, &e), 0);
    assert_int_equal(media_child_run(c, &job, fd, &r, &e), 0);
    assert_int_equal(r.reason, 0);
    assert_int_equal((r.facts & media_fact_bit(MEDIA_NO_SEEK_INDEX)) != 0, r.keyframes > 0);
    close(fd);
    *out_keys = (const struct media_keyframe *)(const void *)c->slot;
    return r.keyframes;
}

/* Reading from the byte given, the first key frame is that one; in a transport stream it is the first packet.
 */
static void check_place(AVFormatContext *ic, int video, double first_s, const struct media_keyframe *k,
                        bool exact)
{
    AVPacket *pkt = av_packet_alloc();
    assert_non_null(pkt);
    assert_true(av_seek_frame(ic, video, k->pos, AVSEEK_FLAG_BYTE) >= 0);
    do {
        av_packet_unref(pkt);
        assert_true(av_read_frame(ic, pkt) >= 0);
    } while (pkt->stream_index != video || (!exact && !(pkt->flags & AV_PKT_FLAG_KEY)));
    double at = (double)pkt->pts * av_q2d(ic->streams[video]->time_base) - first_s;
    assert_true(pkt->flags & AV_PKT_FLAG_KEY);
    assert_true(fabs(at - k->time_s) < 1e-6 || (!exact && pkt->pts == AV_NOPTS_VALUE));
    av_packet_free(&pkt);
}

/* Every key frame of a transport and of a program stream, by time and by byte. */
static void test_places(void **state)
{
    (void)state;
    static const char *const names[] = {"a.ts", "a.mpg"};
    for (size_t i = 0; i < 2; i++) {
        struct media_child c = {0};
        const struct media_keyframe *keys;
        make(names[i], 4, 10, "");
        assert_int_equal(probe(&c, &keys), 10);
        AVFormatContext *ic = NULL;
        assert_true(avformat_open_input(&ic, path, NULL, NULL) >= 0 &&
                    avformat_find_stream_info(ic, NULL) >= 0);
        int video = av_find_best_stream(ic, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
        double first_s = (double)ic->streams[video]->start_time * av_q2d(ic->streams[video]->time_base);
        for (uint32_t k = 0; k < 10; k++) {
            assert_true(fabs(keys[k].time_s - 0.4 * k) < 1e-3);
            check_place(ic, video, first_s, &keys[k], i == 0);
        }
        avformat_close_input(&ic);
        media_child_stop(&c);
    }
}

/* More key frames than there is room for: every second or fourth stays, from the first on. */
static void test_thinned(void **state)
{
    (void)state;
    struct media_child c = {0};
    const struct media_keyframe *keys;
    make("long.ts", 24, 1, "");
    uint32_t n = probe(&c, &keys);
    assert_int_equal(n, 150); /* of 600 */
    for (uint32_t k = 0; k < n; k++)
        assert_true(fabs(keys[k].time_s - 0.16 * k) < 1e-3 && (k == 0 || keys[k].pos > keys[k - 1].pos));
    media_child_stop(&c);
}

/* Containers with an index of their own have none of ours. */
static void test_own_index(void **state)
{
    (void)state;
    static const char *const names[] = {"a.mkv", "a.avi", "a.mov"};
    for (size_t i = 0; i < 3; i++) {
        struct media_child c = {0};
        const struct media_keyframe *keys;
        make(names[i], 2, 10, "");
        assert_int_equal(probe(&c, &keys), 0);
        media_child_stop(&c);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_places), TEST(test_thinned), TEST(test_own_index)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
