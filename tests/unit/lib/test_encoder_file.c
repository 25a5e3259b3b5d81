/* encoder_file: the metadata of an export becomes the settings of a run, and what it lacks or says wrong is
 * named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/encoder_file.h"
#include "lib/fsutil.h"
#include "lib/tensor.h"

#define PAIRS_MAX 16

static char dir[64], path[128];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-encoder-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/e.safetensors", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

#define LOGMEL                                                                                          \
    "16 kHz mono, n_fft 512, win 400 Hann periodic, hop 320, 40 HTK mels 0-8000 Hz, power 2, centred, " \
    "ln(x + 1e-6), first 100 frames of 2 s"

static const char *const video[][2] = {
    {"xdc.encoder", "video"}, {"xdc.network", "r2plus1d_34"}, {"xdc.flavour", "xdc"}, {"xdc.depth", "34"},
    {"xdc.width", "48"},      {"xdc.frames", "32"},           {"xdc.fps", "29.97"},   {"xdc.resize", "140"},
    {"xdc.crop", "128"},      {"xdc.scaling", "exact"}};
static const char *const audio[][2] = {
    {"xdc.encoder", "audio-b"},     {"xdc.network", "resnet18_vmz"},
    {"xdc.flavour", "torchvision"}, {"xdc.width", "64"},
    {"xdc.front_end", LOGMEL},      {"xdc.log_mel", "{\"mean\": -5.5, \"deviation\": 2}"}};

/* Writes the pairs with `key` altered to `value`, or without it where that is NULL, and reads the file. */
static int read_altered(const char *const (*pairs)[2], size_t n, const char *key, const char *value,
                        struct encoder_file *out, struct err *e)
{
    const char *altered[PAIRS_MAX][2];
    size_t kept = 0;
    float one = 1;
    const struct tensor t = {.name = "fc.bias", .dtype = TENSOR_F32, .ndim = 1, .shape = {1}, .data = &one};
    for (size_t i = 0; i < n; i++) {
        bool here = key && strcmp(pairs[i][0], key) == 0;
        if (here && !value)
            continue;
        altered[kept][0] = pairs[i][0];
        altered[kept++][1] = here ? value : pairs[i][1];
    }
    struct err written;
    assert_int_equal(safetensors_write(path, &t, 1, (const char *const(*)[2])altered, kept, &written), 0);
    return encoder_file_read(path, out, e);
}

#define READ(pairs, key, value, f, e) read_altered(pairs, sizeof pairs / sizeof pairs[0], key, value, f, e)

static void expect(const struct encoder_file *f, const char *const (*want)[2], size_t n)
{
    assert_int_equal(f->n, n);
    assert_int_equal(f->n_missing, 0);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(encoder_file_value(f, want[i][0]), want[i][1]);
    assert_null(encoder_file_value(f, "train.lr"));
}

/* All that an export of a run records comes through; the hash changes with the file. */
static void an_export_is_settings(void **state)
{
    (void)state;
    static const char *const of_video[][2] = {
        {"net.video", "r2plus1d"}, {"net.video_depth", "34"}, {"net.video_width", "48"},
        {"net.flavour", "xdc"},    {"video.frames", "32"},    {"video.fps", "29.97"},
        {"video.resize", "140"},   {"video.crop", "128"},     {"video.scaling", "exact"}};
    static const char *const of_audio[][2] = {{"net.audio_depth", "18"},
                                              {"net.audio_stem", "vmz"},
                                              {"net.audio_width", "64"},
                                              {"audio.frontend", "logmel"}};
    struct encoder_file f, g;
    struct err e;
    assert_int_equal(READ(video, NULL, NULL, &f, &e), 0);
    assert_int_equal(f.sees, NET_VIDEO);
    expect(&f, of_video, sizeof of_video / sizeof of_video[0]);
    assert_int_equal(READ(audio, NULL, NULL, &g, &e), 0);
    assert_int_equal(g.sees, NET_AUDIO);
    expect(&g, of_audio, sizeof of_audio / sizeof of_audio[0]);
    assert_true(f.hash != g.hash);
    assert_int_equal(READ(video, "xdc.network", "s3d", &f, &e), 0);
    assert_string_equal(encoder_file_value(&f, "net.video"), "s3d");
    assert_null(encoder_file_value(&f, "net.video_depth"));
}

/* The checkpoint's hash, where there is one that can be such. */
static void the_checkpoint_is_known(void **state)
{
    (void)state;
    static const char *const weights[][2] = {{"xdc.encoder", "audio"},
                                             {"xdc.network", "resnet18"},
                                             {"xdc.width", "64"},
                                             {"xdc.front_end", LOGMEL},
                                             {"xdc.log_mel", "{\"mean\": -5.5, \"deviation\": 2}"},
                                             {"xdc.weights", "0123456789abcdef"}};
    struct encoder_file f;
    struct err e;
    assert_int_equal(READ(weights, NULL, NULL, &f, &e), 0);
    assert_string_equal(f.weights, "0123456789abcdef");
    assert_int_equal(READ(weights, "xdc.weights", NULL, &f, &e), 0);
    assert_string_equal(f.weights, "");
    assert_int_equal(READ(weights, "xdc.weights", "0123456789abcdef\"}", &f, &e), 0);
    assert_string_equal(f.weights, "");
}

/* A key of the input that is not recorded is listed; the caller may have it from elsewhere. */
static void what_is_missing_is_listed(void **state)
{
    (void)state;
    struct encoder_file f;
    struct err e;
    assert_int_equal(READ(video, "xdc.fps", NULL, &f, &e), 0);
    assert_int_equal(f.n_missing, 1);
    assert_string_equal(f.missing[0], "video.fps");
    assert_null(encoder_file_value(&f, "video.fps"));
    assert_int_equal(READ(audio, "xdc.front_end", NULL, &f, &e), 0);
    assert_string_equal(f.missing[0], "audio.frontend");
}

/* What no run can start from is refused with the file's name and what is wrong. */
static void others_are_refused(void **state)
{
    (void)state;
    static const struct {
        bool audio;
        const char *key, *value, *says;
    } rows[] = {
        {false, "xdc.encoder", NULL, "lacks xdc.encoder"},
        {false, "xdc.encoder", "text", "neither video nor audio"},
        {false, "xdc.network", NULL, "lacks xdc.network"},
        {false, "xdc.network", "r2plus1d", "network r2plus1d is unknown"},
        {false, "xdc.width", "64, 64", "net.video_width"},
        {false, "xdc.crop", "", "video.crop"},
        {false, "xdc.fps", "29.97000000000000000000000000000000", "video.fps"},
        {true, "xdc.network", "resnet", "network resnet is unknown"},
        {true, "xdc.network", "resnet18_other", "network resnet18_other is unknown"},
        {true, "xdc.network", "vggish", "network vggish is unknown"},
        {true, "xdc.front_end", "8 kHz", "front end is unknown: 8 kHz"},
        {true, "xdc.log_mel", NULL, "lacks xdc.log_mel"},
        {true, "xdc.log_mel", "{\"mean\": 1, \"deviation\": 0}", "xdc.log_mel is"},
        {true, "xdc.log_mel", "{\"mean\": nan, \"deviation\": 1}", "xdc.log_mel is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct encoder_file f;
        struct err e;
        int rc = rows[i].audio ? READ(audio, rows[i].key, rows[i].value, &f, &e)
                               : READ(video, rows[i].key, rows[i].value, &f, &e);
        assert_int_equal(rc, XDC_EFORMAT);
        assert_non_null(strstr(e.msg, path));
        if (!strstr(e.msg, rows[i].says))
            fail_msg("\"%s\" does not say \"%s\"", e.msg, rows[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_is_settings),
        cmocka_unit_test(the_checkpoint_is_known),
        cmocka_unit_test(what_is_missing_is_listed),
        cmocka_unit_test(others_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
