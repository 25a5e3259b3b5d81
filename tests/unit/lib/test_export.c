/* export: an encoder's file has the checkpoint's tensors of that encoder under their bare names, bit for bit,
 * nothing of its training, and the recipe that its user needs; the heads' file all heads, under the names
 * that they have. Both name the checkpoint. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/checkpoint_dir.h"
#include "lib/export.h"
#include "lib/fsutil.h"
#include "lib/tensor.h"

static char dir[64];

static const char *at(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* What a checkpoint's weights hold, by name and shape; `as` is the exported name, NULL when it must not be
 * exported. */
static const struct {
    const char *name;
    uint32_t ndim;
    uint64_t shape[4];
    enum tensor_dtype dtype;
    int encoder; /* 0 video, 1 audio */
    const char *as;
} weights[] = {
    {"video.stem.0.weight", 4, {2, 3, 1, 2}, TENSOR_F32, 0, "stem.0.weight"},
    {"video.stem.1.running_mean", 1, {2}, TENSOR_F32, 0, "stem.1.running_mean"},
    {"video.stem.1.num_batches_tracked", 0, {0}, TENSOR_I64, 0, "stem.1.num_batches_tracked"},
    {"video.heads.0.weight", 2, {3, 2}, TENSOR_F32, 0, NULL},
    {"video.heads.0.bias", 1, {3}, TENSOR_F32, 0, NULL},
    {"video.momentum.stem.0.weight", 4, {2, 3, 1, 2}, TENSOR_F32, 0, NULL},
    {"video.momentum.heads.0.weight", 2, {3, 2}, TENSOR_F32, 0, NULL},
    {"audio.conv1.weight", 4, {2, 1, 2, 2}, TENSOR_F32, 1, "conv1.weight"},
    {"audio.headstrong.weight", 1, {2}, TENSOR_F32, 1, "headstrong.weight"},
    {"audio.heads.0.weight", 2, {3, 2}, TENSOR_F32, 1, NULL},
    {"audio.momentum.conv1.weight", 4, {2, 1, 2, 2}, TENSOR_F32, 1, NULL},
};
enum { WEIGHTS = sizeof weights / sizeof weights[0] };

/* Where a run keeps averages: of video's first weight alone. */
static bool with_average;

static const double audio_stats[2] = {-4.123456789012345, 2.0 / 3.0};

/* A function of tensor and step, so that a mix-up shows. */
static void values_of(size_t tensor, uint64_t step, float out[16])
{
    for (unsigned i = 0; i < 16; i++)
        out[i] = (float)tensor + 0.01f * (float)i + 1000.0f * (float)step;
}

static void make_checkpoint(uint64_t step)
{
    float data[WEIGHTS][16];
    float average[16];
    struct tensor list[WEIGHTS + 2] = {0};
    char name[64], text[128];
    uint64_t hash;
    struct err e = {0};
    for (size_t i = 0; i < WEIGHTS; i++) {
        values_of(i, step, data[i]);
        snprintf(list[i].name, sizeof list[i].name, "%s", weights[i].name);
        list[i].dtype = weights[i].dtype;
        list[i].ndim = weights[i].ndim;
        memcpy(list[i].shape, weights[i].shape, sizeof weights[i].shape);
        list[i].data = data[i];
    }
    snprintf(list[WEIGHTS].name, sizeof list[WEIGHTS].name, "audio_stats");
    list[WEIGHTS].dtype = TENSOR_F64;
    list[WEIGHTS].ndim = 1;
    list[WEIGHTS].shape[0] = 2;
    list[WEIGHTS].data = audio_stats;
    values_of(77, step, average);
    list[WEIGHTS + 1] = list[0];
    snprintf(list[WEIGHTS + 1].name, sizeof list[0].name, "video.ema.stem.0.weight");
    list[WEIGHTS + 1].data = average;
    snprintf(name, sizeof name, "checkpoints/step-%012llu", (unsigned long long)step);
    assert_int_equal(fs_mkdirs(at(name), &e), 0);
    snprintf(name, sizeof name, "checkpoints/step-%012llu/" CHECKPOINT_WEIGHTS, (unsigned long long)step);
    if (safetensors_write(at(name), list, WEIGHTS + (with_average ? 2 : 1), NULL, 0, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(checkpoint_dir_hash(at(name), &hash, &e), 0);
    snprintf(text, sizeof text, "{\"round\": %llu, \"weights_xxh3\": \"%016llx\"}", (unsigned long long)step,
             (unsigned long long)hash);
    snprintf(name, sizeof name, "checkpoints/step-%012llu/" CHECKPOINT_STATE, (unsigned long long)step);
    assert_int_equal(fs_write_atomic(at(name), text, strlen(text), &e), 0);
    assert_int_equal(checkpoint_dir_hash(at(name), &hash, &e), 0);
    snprintf(text, sizeof text, "%016llx\n", (unsigned long long)hash);
    snprintf(name, sizeof name, "checkpoints/step-%012llu/" CHECKPOINT_DONE, (unsigned long long)step);
    assert_int_equal(fs_write_atomic(at(name), text, strlen(text), &e), 0);
}

static void make_record(void)
{
    static const char text[] = "{\"run\": \"00000000000000aa\", \"manifest\": \"00000000000000bb\", "
                               "\"config\": {\"method\": \"xdc\", "
                               "\"cluster.k\": \"64\", \"net.video_depth\": \"18\", \"net.video_width\": "
                               "\"64\", \"net.audio_depth\": \"10\", "
                               "\"net.audio_width\": \"32\", \"video.frames\": \"8\", \"video.fps\": \"30\", "
                               "\"video.resize\": \"128\", "
                               "\"video.crop\": \"112\", \"train.ema\": \"0.99\"}}";
    struct err e;
    assert_int_equal(fs_write_atomic(at("run.json"), text, strlen(text), &e), 0);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-export-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    make_record();
    make_checkpoint(3);
    make_checkpoint(4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static int setup_average(void **state)
{
    with_average = true;
    int rc = setup(state);
    with_average = false;
    return rc;
}

static const char *const encoders[] = {"video", "audio"};

static unsigned refused;

static void on_refused(void *arg, const char *why)
{
    assert_null(arg);
    assert_non_null(strstr(why, "step-000000000004"));
    refused++;
}

static struct safetensors *export_and_open(int enc)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    char out[96];
    snprintf(out, sizeof out, "%s/out.safetensors", dir);
    refused = 0;
    if (export_encoder(dir, encoders[enc], 0, out, on_refused, &e) < 0 || safetensors_open(out, &s, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void assert_tensors(const struct safetensors *s, int enc, uint64_t step)
{
    size_t want = 0;
    for (size_t i = 0; i < WEIGHTS; i++) {
        if (weights[i].encoder != enc || !weights[i].as)
            continue;
        float values[16];
        values_of(i, step, values);
        const struct tensor *t = safetensors_find(s, weights[i].as);
        assert_non_null(t);
        assert_int_equal(t->dtype, weights[i].dtype);
        assert_int_equal(t->ndim, weights[i].ndim);
        for (uint32_t d = 0; d < t->ndim; d++)
            assert_int_equal(t->shape[d], weights[i].shape[d]);
        assert_memory_equal(t->data, values, tensor_count(t) * tensor_dtype_size(t->dtype));
        want++;
    }
    assert_int_equal(safetensors_count(s), want);
}

/* Each encoder's own tensors, of the newest checkpoint, and no other. */
static void the_encoders_tensors_are_all_there_is(void **state)
{
    (void)state;
    for (int enc = 0; enc < 2; enc++) {
        struct safetensors *s = export_and_open(enc);
        assert_tensors(s, enc, 4);
        safetensors_close(s);
    }
}

/* The averaged weights take the place of the others, under their names, with all else as it is; without being
 * asked for they are left out. A run without an average says so. */
static void the_average_on_demand(void **state)
{
    (void)state;
    struct safetensors *s = export_and_open(0);
    struct err e = {0};
    char out[96];
    float want[16];
    assert_tensors(s, 0, 4);
    assert_null(safetensors_metadata(s, "xdc.ema"));
    size_t count = safetensors_count(s);
    safetensors_close(s);
    snprintf(out, sizeof out, "%s/average.safetensors", dir);
    assert_int_equal(export_encoder(dir, "video", EXPORT_EMA | EXPORT_CLASSIFIER, out, NULL, &e), 0);
    assert_int_equal(safetensors_open(out, &s, &e), 0);
    assert_int_equal(safetensors_count(s), count + 2); /* fc.weight and fc.bias */
    values_of(77, 4, want);
    const struct tensor *t = safetensors_find(s, "stem.0.weight");
    assert_memory_equal(t->data, want, tensor_count(t) * sizeof *want);
    values_of(1, 4, want);
    t = safetensors_find(s, "stem.1.running_mean");
    assert_memory_equal(t->data, want, tensor_count(t) * sizeof *want);
    assert_string_equal(safetensors_metadata(s, "xdc.ema"), "0.99");
    assert_null(safetensors_metadata(s, "xdc.weights")); /* the heads are not of averages */
    safetensors_close(s);
    assert_int_equal(export_encoder(dir, "audio", EXPORT_EMA, out, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "no average"));
}

/* The metadata is the recipe: nets and pictures of the run record, the round of the checkpoint. */
static void the_metadata_is_the_recipe(void **state)
{
    (void)state;
    static const struct {
        const char *key, *want[2]; /* NULL: not in this encoder's file */
    } rows[] = {{"format", {"pt", "pt"}},
                {"xdc.encoder", {"video", "audio"}},
                {"xdc.flavour", {"xdc", "torchvision"}},
                {"xdc.depth", {"18", "10"}},
                {"xdc.width", {"64", "32"}},
                {"xdc.bn_eps", {"1e-3", "1e-5"}},
                {"xdc.run", {"00000000000000aa", "00000000000000aa"}},
                {"xdc.manifest", {"00000000000000bb", "00000000000000bb"}},
                {"xdc.round", {"4", "4"}},
                {"xdc.method", {"xdc", "xdc"}},
                {"xdc.k", {"64", "64"}},
                {"xdc.frames", {"8", NULL}},
                {"xdc.fps", {"30", NULL}},
                {"xdc.resize", {"128", NULL}},
                {"xdc.crop", {"112", NULL}}};
    for (int enc = 0; enc < 2; enc++) {
        struct safetensors *s = export_and_open(enc);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            const char *got = safetensors_metadata(s, rows[i].key);
            if (!rows[i].want[enc])
                assert_null(got);
            else if (!got || strcmp(got, rows[i].want[enc]) != 0)
                fail_msg("%s of %s is %s", rows[i].key, encoders[enc], got ? got : "missing");
        }
        assert_int_equal(safetensors_metadata(s, "xdc.rgb") != NULL, enc == 0);
        assert_int_equal(safetensors_metadata(s, "xdc.front_end") != NULL, enc == 1);
        safetensors_close(s);
    }
}

/* Mean and deviation of the log-mel come through JSON as the very same doubles. */
static void the_log_mel_figures_are_exact(void **state)
{
    (void)state;
    struct safetensors *s = export_and_open(1);
    json_t *j = json_loads(safetensors_metadata(s, "xdc.log_mel"), 0, NULL);
    assert_true(json_real_value(json_object_get(j, "mean")) == audio_stats[0]);
    assert_true(json_real_value(json_object_get(j, "deviation")) == audio_stats[1]);
    json_decref(j);
    safetensors_close(s);
}

/* Heads of both encoders, without momentum, and the same checkpoint's hash as in the encoders' files. */
static void the_heads_and_their_checkpoint(void **state)
{
    (void)state;
    static const char record[] = "{\"run\": \"00000000000000aa\", \"config\": {\"method\": \"selavi\", "
                                 "\"selavi.heads\": \"1\"}}";
    static const size_t heads[] = {3, 4, 9}; /* of `weights` */
    struct safetensors *s = export_and_open(0), *h;
    struct err e = {0};
    uint64_t hash;
    char out[96], text[24];
    snprintf(out, sizeof out, "%s/heads.safetensors", dir);
    assert_int_equal(checkpoint_dir_hash(at("checkpoints/step-000000000004/" CHECKPOINT_WEIGHTS), &hash, &e),
                     0);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    assert_string_equal(safetensors_metadata(s, "xdc.weights"), text);
    safetensors_close(s);
    assert_int_equal(export_heads(dir, out, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "its method is xdc"));
    assert_int_equal(fs_write_atomic(at("run.json"), record, strlen(record), &e), 0);
    assert_int_equal(export_heads(dir, out, NULL, &e), 0);
    assert_int_equal(safetensors_open(out, &h, &e), 0);
    assert_int_equal(safetensors_count(h), 3);
    for (size_t i = 0; i < 3; i++) {
        float values[16];
        values_of(heads[i], 4, values);
        const struct tensor *t = safetensors_find(h, weights[heads[i]].name);
        assert_non_null(t);
        assert_memory_equal(t->data, values, tensor_count(t) * sizeof *values);
    }
    assert_string_equal(safetensors_metadata(h, "xdc.weights"), text);
    assert_string_equal(safetensors_metadata(h, "xdc.heads"), "1");
    assert_string_equal(safetensors_metadata(h, "xdc.round"), "4");
    safetensors_close(h);
}

/* A torn newest checkpoint is not exported, and heard of; the one before is, with its round. */
static void a_torn_checkpoint_is_not_exported(void **state)
{
    (void)state;
    assert_int_equal(truncate(at("checkpoints/step-000000000004/" CHECKPOINT_WEIGHTS), 100), 0);
    struct safetensors *s = export_and_open(0);
    assert_int_equal(refused, 1);
    assert_tensors(s, 0, 3);
    assert_string_equal(safetensors_metadata(s, "xdc.round"), "3");
    safetensors_close(s);
}

/* Each way to fail has its code and a sentence, and the file of before stays as it was. */
static void failures_leave_the_old_file(void **state)
{
    (void)state;
    struct err e = {0};
    char out[96];
    char *text;
    size_t size;
    snprintf(out, sizeof out, "%s/out.safetensors", dir);
    assert_int_equal(fs_write_atomic(out, "before", 6, &e), 0);
    assert_int_equal(export_encoder(dir, "joint", 0, out, NULL, &e), XDC_EUSAGE);
    assert_non_null(strstr(e.msg, "video or audio"));
    struct rlimit old, low;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){64, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    int rc = export_encoder(dir, "video", 0, out, NULL, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, -EFBIG);
    assert_non_null(strstr(e.msg, "export the video encoder"));
    assert_int_equal(fs_remove_tree(at("checkpoints"), &e), 0);
    assert_int_equal(export_encoder(dir, "video", 0, out, NULL, &e), -ENOENT);
    assert_int_equal(fs_write_atomic(at("run.json"), "{", 1, &e), 0);
    assert_int_equal(export_encoder(dir, "video", 0, out, NULL, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "run.json:1: is not JSON"));
    assert_int_equal(unlink(at("run.json")), 0);
    assert_int_equal(export_encoder(dir, "video", 0, out, NULL, &e), -ENOENT);
    assert_int_equal(fs_read(out, 100, &text, &size, &e), 0);
    assert_string_equal(text, "before");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_encoders_tensors_are_all_there_is, setup, teardown),
        cmocka_unit_test_setup_teardown(the_average_on_demand, setup_average, teardown),
        cmocka_unit_test_setup_teardown(the_metadata_is_the_recipe, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_mel_figures_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(the_heads_and_their_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_checkpoint_is_not_exported, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_leave_the_old_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
