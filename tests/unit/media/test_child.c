/* The media worker as a process: jobs and answers, how it ends, and that a bad file costs
 * one clip. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include <xxhash.h>
#include "lib/media/child.h"
#include "make_media.h"

#define DATA XDC_SOURCE_DIR "/../shared/data"

static double tone(int n, int channel)
{
    (void)channel;
    return 0.3 * sin(2 * M_PI * 440 * n / 16000.0);
}

static struct media_job clip_job(uint64_t id, double start_s, double duration_s)
{
    return (struct media_job){.kind = MEDIA_JOB_DECODE,
                              .id = id,
                              .video_stream = -1,
                              .audio_stream = -1,
                              .clips = 1,
                              .clip = {{.start_s = start_s, .augment_seed = id, .key_pos = -1}},
                              .duration_s = duration_s,
                              .recipe = {.frames = 8,
                                         .fps = 10,
                                         .resize_min = 40,
                                         .resize_max = 48,
                                         .crop = 32,
                                         .crop_jitter_px = -1,
                                         .flip_probability = 0.5,
                                         .audio_shift_s = 0.3,
                                         .time_mask_frames = 10,
                                         .augment = true,
                                         .want_video = true,
                                         .want_audio = true,
                                         .min_sound_s = 1.1}};
}

static const char *make_good(char path[128])
{
    make_media(&(struct make_media){.path = media_path(path, "good.mp4"),
                                    .frames = 50,
                                    .fps = 10,
                                    .audio_s = 5,
                                    .audio_codec = AV_CODEC_ID_AAC,
                                    .sample = tone});
    return path;
}

static struct media_result run(struct media_child *c, const struct media_job *job, const char *path)
{
    struct media_result r;
    struct err e = {0};
    int fd = open_media(path);
    if (media_child_run(c, job, fd, &r, &e) != 0)
        fail_msg("%s: %s", path, e.msg);
    close(fd);
    assert_true(r.id == job->id);
    return r;
}

/* A job gives frames, log-mel, their hash and what is known of the file; the same job the same bytes, in the
 * same worker and in a fresh one; another seed another view. */
static void test_decode(void **state)
{
    (void)state;
    char path[128];
    make_good(path);
    struct media_child c = {0};
    struct media_job job = clip_job(7, 1.2, 5);
    struct media_result a = run(&c, &job, path);
    assert_int_equal(a.reason, MEDIA_OK);
    assert_int_equal(a.missing, 0);
    assert_int_equal(a.video_bytes, 8 * 32 * 32 * 3);
    assert_int_equal(a.audio_bytes, 16000);
    assert_int_equal(a.audio_offset, 8 * 32 * 32 * 3);
    assert_true(a.probe.duration_s > 4.9 && a.probe.duration_s < 5.1);
    assert_int_equal(a.probe.width, 64);
    for (int i = 0; i < 8; i++)
        assert_int_equal(frame_number(c.slot + i * 32 * 32 * 3), 12 + i);
    XXH3_state_t *x = XXH3_createState();
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, c.slot, a.video_bytes);
    XXH3_64bits_update(x, c.slot + a.audio_offset, a.audio_bytes);
    assert_true(XXH3_64bits_digest(x) == a.hash);
    XXH3_freeState(x);
    pid_t pid = c.pid;
    assert_true(run(&c, &job, path).hash == a.hash);
    assert_int_equal(c.pid, pid);
    media_child_stop(&c);
    assert_int_equal(c.pid, 0);
    assert_true(run(&c, &job, path).hash == a.hash);
    job.clip[0].augment_seed++;
    assert_true(run(&c, &job, path).hash != a.hash);
    media_child_stop(&c);
}

/* What is missing is said, and what is there still comes; what cannot be used has its own reason and a
 * sentence. */
static void test_reasons(void **state)
{
    (void)state;
    char path[8][128];
    make_media(&(struct make_media){.path = media_path(path[0], "mute.mp4"), .frames = 30, .fps = 10});
    make_media(&(struct make_media){.path = media_path(path[1], "sound.wav"), .audio_s = 3, .sample = tone});
    make_media(&(struct make_media){
        .path = media_path(path[2], "brief.mkv"), .frames = 8, .fps = 10, .audio_s = 0.8, .sample = tone});
    make_media(&(struct make_media){
        .path = media_path(path[3], "silent.mkv"), .frames = 30, .fps = 10, .audio_s = 3});
    FILE *f = fopen(media_path(path[4], "text.mp4"), "w");
    for (int i = 0; i < 1000; i++)
        fprintf(f, "no media here %d\n", i);
    fclose(f);
    f = fopen(media_path(path[5], "empty.mp4"), "w");
    fclose(f);
    f = fopen(media_path(path[6], "list.m3u8"), "w"); /* names another file, which must not be opened */
    fprintf(f, "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n%s\n#EXT-X-ENDLIST\n", path[0]);
    fclose(f);
    static const struct {
        uint32_t reason, missing, video_bytes, audio_bytes;
    } want[] = {
        {MEDIA_NO_AUDIO, 2, 8 * 32 * 32 * 3, 0},
        {MEDIA_NO_VIDEO, 1, 0, 16000},
        {MEDIA_TOO_SHORT, 0, 0, 0},
        {MEDIA_AUDIO_SILENT, 0, 8 * 32 * 32 * 3, 16000},
        {MEDIA_UNREADABLE, 0, 0, 0},
        {MEDIA_EMPTY_FILE, 0, 0, 0},
        {MEDIA_PLAYLIST, 0, 0, 0},
    };
    struct media_child c = {0};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct media_job job = clip_job(i, 0.5, 0);
        struct media_result r = run(&c, &job, path[i]);
        if (r.reason != want[i].reason)
            fail_msg("%s: %s (%s)", path[i], media_code_name(r.reason), r.detail);
        assert_true(r.detail[0]);
        assert_int_equal(r.missing, want[i].missing);
        assert_int_equal(r.video_bytes, want[i].video_bytes);
        assert_int_equal(r.audio_bytes, want[i].audio_bytes);
    }
    /* Not wanted is not missing. */
    struct media_job job = clip_job(1, 0.5, 0);
    job.recipe.want_audio = false;
    assert_int_equal(run(&c, &job, path[0]).reason, MEDIA_OK);
    assert_int_equal(run(&c, &job, path[2]).reason, MEDIA_OK);
    media_child_stop(&c);
}

/* A probe tells duration, rate, size and streams; also the duration of a file whose header has none. */
static void test_probe(void **state)
{
    (void)state;
    char path[128];
    struct media_child c = {0};
    struct media_job job = {.kind = MEDIA_JOB_PROBE, .id = 3, .video_stream = -1, .audio_stream = -1};
    struct media_result r = run(&c, &job, make_good(path));
    assert_int_equal(r.reason, MEDIA_OK);
    assert_float_equal((float)r.probe.duration_s, 5, 0.01f);
    assert_float_equal((float)r.probe.fps, 10, 0.01f);
    assert_int_equal(r.probe.width, 64);
    assert_int_equal(r.probe.height, 48);
    assert_int_equal(r.probe.video_stream, 0);
    assert_int_equal(r.probe.audio_stream, 1);
    assert_int_equal(r.probe.sample_rate, 16000);
    assert_int_equal(r.probe.channels, 1);
    make_media(&(struct make_media){.path = media_path(path, "bare.m4v"), .frames = 40, .fps = 10});
    r = run(&c, &job, path);
    assert_int_equal(r.missing, 2);
    assert_int_equal(r.reason, MEDIA_OK);
    make_media(&(struct make_media){
        .path = media_path(path, "bare.adts"), .audio_s = 4, .audio_codec = AV_CODEC_ID_AAC, .sample = tone});
    r = run(&c, &job, path);
    assert_float_equal((float)r.probe.duration_s, 4, 0.2f);
    assert_int_equal(r.missing, 1);
    assert_int_equal(r.probe.video_stream, -1);
    media_child_stop(&c);
}

static int await(struct media_child *c, struct media_result *r, struct err *e)
{
    int rc;
    while ((rc = media_child_recv(c, r, e)) == -EAGAIN) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        assert_true(poll(&p, 1, 30000) > 0);
    }
    return rc;
}

/* However a worker ends, the parent learns why, can start it again, and the next job works. */
static void test_death(void **state)
{
    (void)state;
    static const struct {
        int signal;
        uint32_t reason;
    } cases[] = {
        {SIGABRT, MEDIA_WORKER_DIED}, {SIGXCPU, MEDIA_DECODE_TIMEOUT}, {SIGKILL, MEDIA_MEMORY_LIMIT}};
    char path[128];
    make_good(path);
    const struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 1 << 20};
    struct media_child c = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        struct media_result r;
        struct media_job job = clip_job(100 + i, 0, 5);
        int fd = open_media(path);
        assert_int_equal(media_child_start(&c, &limits, &e), 0);
        assert_int_equal(media_child_send(&c, &job, fd, &e), 0);
        assert_int_equal(media_child_send(&c, &job, fd, &e), -EBUSY);
        assert_int_equal(await(&c, &r, &e), 0);
        assert_int_equal(kill(c.pid, SIGSTOP), 0);
        assert_int_equal(media_child_send(&c, &job, fd, &e), 0);
        assert_int_equal(media_child_recv(&c, &r, &e), -EAGAIN);
        assert_int_equal(kill(c.pid, cases[i].signal), 0);
        assert_int_equal(kill(c.pid, SIGCONT), 0);
        int rc = await(&c, &r, &e);
        assert_int_equal(rc, -EPIPE);
        assert_int_equal(r.reason, cases[i].reason);
        assert_true(r.id == job.id && r.detail[0]);
        assert_int_equal(c.pid, 0);
        assert_int_equal(media_child_send(&c, &job, fd, &e), -EPIPE);
        close(fd);
        assert_int_equal(run(&c, &job, path).reason, MEDIA_OK);
    }
    media_child_stop(&c);
}

/* CPU time over the limit ends the worker and is called a timeout. */
static void test_cpu_limit(void **state)
{
    (void)state;
    char path[128];
    make_media(&(struct make_media){
        .path = media_path(path, "big.mkv"), .frames = 50, .fps = 10, .width = 320, .height = 240});
    const struct media_child_limits limits = {.cpu_s = 1, .memory_mib = 4096, .slot_bytes = 512u << 20};
    struct media_child c = {0};
    struct err e = {0};
    struct media_result r;
    struct media_job job = clip_job(1, 0, 0);
    job.recipe.want_audio = false;
    /* Fifty large frames, each enlarged: more than a second's work on any machine. */
    job.recipe.frames = 50;
    job.recipe.resize_min = job.recipe.resize_max = 6000;
    job.recipe.crop = 1000;
    job.recipe.scaling = MEDIA_SCALING_EXACT; /* which enlarges all of a frame */
    int fd = open_media(path);
    assert_int_equal(media_child_start(&c, &limits, &e), 0);
    assert_int_equal(media_child_send(&c, &job, fd, &e), 0);
    assert_int_equal(await(&c, &r, &e), -EPIPE);
    assert_int_equal(r.reason, MEDIA_DECODE_TIMEOUT);
    close(fd);
    media_child_stop(&c);
}

/* Memory over the limit is a reason, not a crash; sanitizers map too much for any limit. */
static void test_memory_limit(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    char path[128];
    make_media(&(struct make_media){.path = media_path(path, "wide.mkv"),
                                    .frames = 4,
                                    .fps = 10,
                                    .width = 4096,
                                    .height = 2160,
                                    .video_codec = "ffv1"});
    const struct media_child_limits limits = {.cpu_s = 20, .memory_mib = 12, .slot_bytes = 1 << 20};
    struct media_child c = {0};
    struct err e = {0};
    struct media_result r;
    struct media_job job = clip_job(1, 0, 0);
    job.recipe.want_audio = false;
    int fd = open_media(path);
    assert_int_equal(media_child_start(&c, &limits, &e), 0);
    assert_int_equal(media_child_send(&c, &job, fd, &e), 0);
    int rc = await(&c, &r, &e);
    assert_true(rc == 0 || rc == -EPIPE);
    if (r.reason != MEDIA_MEMORY_LIMIT)
        fail_msg("%s (%s)", media_code_name(r.reason), r.detail);
    close(fd);
    media_child_stop(&c);
}

/* A slot too small for the recipe is refused before the worker sees the job; a worker program that does not
 * run is its own error, for it is no file's fault. */
static void test_refusals(void **state)
{
    (void)state;
    char path[128];
    struct err e = {0};
    struct media_result r;
    struct media_child c = {0};
    struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4096};
    struct media_job job = clip_job(1, 0, 5);
    int fd = open_media(make_good(path));
    assert_int_equal(media_child_start(&c, &limits, &e), 0);
    assert_int_equal(media_child_send(&c, &job, fd, &e), -EINVAL);
    media_child_stop(&c);
    limits.slot_bytes = 1 << 20;
    assert_int_equal(setenv("XDC_MEDIA_WORKER", "/nowhere/worker", 1), 0);
    assert_int_equal(media_child_start(&c, &limits, &e), -ENOENT);
    assert_int_equal(setenv("XDC_MEDIA_WORKER", "/bin/false", 1), 0);
    assert_int_equal(media_child_start(&c, &limits, &e), 0);
    int rc = media_child_send(&c, &job, fd, &e);
    if (rc == 0)
        assert_int_equal(await(&c, &r, &e), -ENOEXEC);
    else
        assert_int_equal(rc, -EPIPE);
    assert_int_equal(unsetenv("XDC_MEDIA_WORKER"), 0);
    close(fd);
    media_child_stop(&c);
}

/* Every reason has a name of its own and a sentence. */
static void test_codes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MEDIA_REASONS; i++) {
        assert_non_null(media_code_name(i));
        assert_true(media_code_text(i)[0] != '\0');
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(media_code_name(i), media_code_name(k));
    }
    assert_string_equal(media_code_name(MEDIA_NO_AUDIO), "no_audio");
    assert_string_equal(media_code_name(999), "unknown");
}

static void check_folder(struct media_child *c, const char *folder, int most, bool all_good)
{
    DIR *d = opendir(folder);
    struct dirent *entry;
    for (int n = 0; d && n < most && (entry = readdir(d)); n++) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct media_job probe = {.kind = MEDIA_JOB_PROBE, .id = 9, .video_stream = -1, .audio_stream = -1};
        struct media_result p = run(c, &probe, path);
        for (int k = 0; k < 3; k++) {
            struct media_job job = clip_job(10 + (uint64_t)k, p.probe.duration_s * k / 3, p.probe.duration_s);
            job.recipe.fps = k == 1 ? 0 : 30;
            struct media_result a = run(c, &job, path), b = run(c, &job, path);
            assert_true(a.hash == b.hash && a.reason == b.reason);
            assert_true(a.reason != MEDIA_WORKER_DIED && a.reason != MEDIA_DECODE_TIMEOUT);
            assert_true(a.reason || (a.video_bytes && a.audio_bytes));
            if (all_good && a.reason)
                fail_msg("%s: %s (%s)", path, media_code_name(a.reason), a.detail);
        }
    }
    if (d)
        closedir(d);
}

/* Real files, awkward ones among them, where they are at hand: no worker dies, the same job gives the same
 * answer. */
static void test_real_files(void **state)
{
    (void)state;
    struct stat st;
    if (stat(DATA, &st) < 0)
        skip();
    struct media_child c = {0};
    check_folder(&c, DATA "/media", 1000, false);
    check_folder(&c, DATA "/avmnist/clips", 10, true);
    media_child_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode),    cmocka_unit_test(test_reasons),
                                       cmocka_unit_test(test_probe),     cmocka_unit_test(test_death),
                                       cmocka_unit_test(test_cpu_limit), cmocka_unit_test(test_memory_limit),
                                       cmocka_unit_test(test_refusals),  cmocka_unit_test(test_codes),
                                       cmocka_unit_test(test_real_files)};
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
