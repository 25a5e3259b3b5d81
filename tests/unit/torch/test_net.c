#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/export.h"

enum { CROP = 32, N = 6, THREADS = 2 };

#include "tests/unit/torch/clips.h"

static const struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
static const int64_t classes_of[N] = {0, 1, 2, 0, 1, 2};
static const int64_t *const labels[] = {classes_of};

static struct net *create(const struct net_spec *spec)
{
    struct net *net = NULL;
    struct err e = {0};
    ok(net_create(spec, &net, &e), &e);
    return net;
}

static void heads(struct net *net, int enc, uint32_t n, uint32_t classes)
{
    uint32_t c[NET_HEADS_MAX];
    uint64_t seeds[NET_HEADS_MAX];
    for (uint32_t h = 0; h < n; h++) {
        c[h] = classes + h;
        seeds[h] = 100 + h;
    }
    struct err e = {0};
    if (net_reset_heads(net, (enum net_encoder)enc, NET_HEAD_LINEAR, n, c, seeds, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Trains one encoder with one head for `steps` steps; returns the last loss. */
static double train(struct net *net, int enc, int steps)
{
    struct net_batch b = batch_of(enc);
    struct net_step out = {0};
    struct err e = {0};
    for (int i = 0; i < steps; i++)
        ok(net_train_step(net, (enum net_encoder)enc, &b, labels, NULL, &sgd, &out, &e), &e);
    return out.loss[0];
}

static void features(struct net *net, int enc, float *out)
{
    struct net_batch b = batch_of(enc);
    struct err e = {0};
    ok(net_features(net, (enum net_encoder)enc, &b, out, &e), &e);
}

/* Parameters (not buffers) of an exported encoder. */
static uint64_t exported_parameters(const struct net_spec *spec, enum net_encoder enc, size_t *out_entries)
{
    struct net *net = create(spec);
    struct err e = {0};
    const char *weights = at("weights.safetensors"), *path = at("export.safetensors");
    assert_int_equal(net_save(net, weights, &e), 0);
    assert_int_equal(export_weights(weights, enc == NET_VIDEO ? "video" : "audio", NULL, 0, path, &e), 0);
    unlink(weights);
    net_destroy(net);
    struct safetensors *file;
    assert_int_equal(safetensors_open(path, &file, &e), 0);
    uint64_t count = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *t = safetensors_at(file, i);
        if (!strstr(t->name, "running_") && !strstr(t->name, "num_batches"))
            count += tensor_count(t);
    }
    *out_entries = safetensors_count(file);
    if (enc == NET_VIDEO && spec->video_width == 64) {
        const struct tensor *t =
            safetensors_find(file, "layer4.0.conv2.0.0.weight"); /* the xdc flavour's mark */
        assert_non_null(t);
        const uint64_t shape[] = {1152, 512, 1, 3, 3};
        assert_memory_equal(t->shape, shape, sizeof shape);
    }
    safetensors_close(file);
    unlink(path);
    return count;
}

/* The published sizes: algorithms.md 1.3, 1.6 and 9. */
static void sizes_are_the_published_ones(void **state)
{
    (void)state;
    struct net_spec spec = small;
    size_t entries;
    spec.video_width = spec.audio_width = 64;
    spec.video_depth = spec.audio_depth = 18;
    assert_int_equal(exported_parameters(&spec, NET_VIDEO, &entries), 33165639);
    assert_int_equal(entries, 222);
    assert_int_equal(exported_parameters(&spec, NET_AUDIO, &entries), 11170240);
    assert_int_equal(entries, 120);
    spec.video_depth = 10;
    spec.audio_depth = 10;
    assert_int_equal(exported_parameters(&spec, NET_AUDIO, &entries), 4899520);
    assert_int_equal(entries, 72);
}

/* Equal seeds give equal weights, other seeds others. */
static void weights_follow_the_seed(void **state)
{
    (void)state;
    struct net_spec other = small;
    other.seed++;
    struct net *a = create(&small), *b = create(&small), *c = create(&other);
    assert_int_equal(hash(a), hash(b));
    assert_int_not_equal(hash(a), hash(c));
    net_destroy(a);
    net_destroy(b);
    net_destroy(c);
}

/* The same batches give the same weights bit for bit, and the loss falls. */
static void training_is_deterministic(void **state)
{
    (void)state;
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        uint64_t after[2];
        for (int i = 0; i < 2; i++) {
            struct net *net = create(&small);
            heads(net, enc, 1, 3);
            double first = train(net, enc, 1), last = train(net, enc, 14);
            assert_true(fabs(first - log(3)) < 0.5);
            assert_true(last < 0.5 * first);
            after[i] = hash(net);
            net_destroy(net);
        }
        assert_int_equal(after[0], after[1]);
    }
}

/* Training one encoder leaves the other as it was. */
static void encoders_are_not_coupled(void **state)
{
    (void)state;
    struct net *net = create(&small);
    float before[N * DIM], after[N * DIM];
    features(net, NET_AUDIO, before);
    heads(net, NET_VIDEO, 1, 3);
    train(net, NET_VIDEO, 2);
    features(net, NET_AUDIO, after);
    assert_memory_equal(before, after, sizeof before);
    net_destroy(net);
}

/* A clip's features are the same whatever the other clips of the batch are. */
static void features_do_not_depend_on_neighbours(void **state)
{
    (void)state;
    static uint8_t kept_video[VIDEO_CLIP];
    static float kept_audio[AUDIO_CLIP];
    float a[NET_ENCODERS][N * DIM], b[N * DIM];
    struct net *net = create(&small);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        assert_int_equal(net_feature_dim(net, (enum net_encoder)enc), DIM);
        heads(net, enc, 1, 3);
        train(net, enc, 2);
        features(net, enc, a[enc]);
    }
    memcpy(kept_video, video + 2 * VIDEO_CLIP, sizeof kept_video);
    memcpy(kept_audio, audio + 2 * AUDIO_CLIP, sizeof kept_audio);
    fill(2);
    memcpy(video + 2 * VIDEO_CLIP, kept_video, sizeof kept_video);
    memcpy(audio + 2 * AUDIO_CLIP, kept_audio, sizeof kept_audio);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        features(net, enc, b);
        assert_memory_equal(a[enc] + 2 * DIM, b + 2 * DIM, DIM * sizeof(float));
        assert_memory_not_equal(a[enc], b, DIM * sizeof(float));
    }
    net_destroy(net);
    fill(3);
}

/* Saved in the middle and continued in a new process' place: equal to uninterrupted, momentum and heads
 * included. */
static void a_loaded_net_continues_bit_for_bit(void **state)
{
    (void)state;
    struct net_spec other = small;
    other.seed = 77;
    struct err e = {0};
    const char *path = at("net.safetensors");
    struct net *straight = create(&small), *resumed = create(&other);
    assert_int_equal(net_set_audio_stats(straight, 1.5, 2.5, &e), 0);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        heads(straight, enc, 1, 3);
        train(straight, enc, 3);
    }
    if (net_save(straight, path, &e) < 0 || net_load(resumed, path, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(hash(straight), hash(resumed));
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        double a = train(straight, enc, 3), b = train(resumed, enc, 3);
        assert_memory_equal(&a, &b, sizeof a);
    }
    assert_int_equal(hash(straight), hash(resumed));
    net_destroy(straight);
    net_destroy(resumed);
    unlink(path);
}

/* A snapshot is what net_save would have written when it was made, whatever is trained meanwhile; a file in
 * which one byte of the data differs is refused with the tensor's name. */
static void a_snapshot_holds_its_moment(void **state)
{
    (void)state;
    struct err e = {0};
    const char *then = at("then.safetensors"), *written = at("written.safetensors");
    struct net *net = create(&small), *other = create(&small);
    struct net_snapshot *s = NULL;
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        heads(net, enc, 1, 3);
        train(net, enc, 2);
    }
    uint64_t before = hash(net);
    assert_int_equal(net_save(net, then, &e), 0);
    assert_int_equal(net_snapshot_create(net, &s, &e), 0);
    for (int enc = 0; enc < NET_ENCODERS; enc++)
        train(net, enc, 1);
    assert_int_not_equal(hash(net), before);
    assert_int_equal(net_snapshot_write(s, written, &e), 0);
    assert_int_equal(net_snapshot_compare(s, written, &e), 0);
    assert_int_equal(net_snapshot_compare(s, then, &e), 0);
    assert_int_equal(net_load(other, written, &e), 0);
    assert_int_equal(hash(other), before);

    uint8_t byte;
    int fd = open(written, O_RDWR);
    off_t middle = lseek(fd, 0, SEEK_END) / 2;
    assert_int_equal(pread(fd, &byte, 1, middle), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, middle), 1);
    close(fd);
    assert_int_equal(net_snapshot_compare(s, written, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "reads back differently"));
    assert_int_equal(net_save(net, then, &e), 0);
    assert_int_equal(net_snapshot_compare(s, then, &e), XDC_EFORMAT);
    net_snapshot_destroy(s);
    net_snapshot_destroy(NULL);
    net_destroy(net);
    net_destroy(other);
    unlink(then);
    unlink(written);
}

/* A file of another architecture, a truncated one and a missing one are refused, and nothing changes. */
static void misfits_are_refused_by_name(void **state)
{
    (void)state;
    const char *path = at("net.safetensors");
    struct err e = {0};
    struct net_spec wide = small, deep = small;
    wide.audio_width = 12;
    deep.video_depth = 18;
    struct net *net = create(&small), *a = create(&wide), *b = create(&deep);
    uint64_t before = hash(net);
    assert_int_equal(net_save(a, path, &e), 0);
    assert_int_equal(net_load(net, path, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "audio.conv1.weight is f32 [12, 1, 7, 7], expected f32 [8, 1, 7, 7]"));
    assert_int_equal(net_save(b, path, &e), 0);
    assert_int_equal(net_load(net, path, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "video.layer1.1.conv1.0.0.weight is not part of this network"));
    assert_int_equal(net_save(net, path, &e), 0);
    assert_int_equal(net_load(b, path, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "video.layer1.1.conv1.0.0.weight is missing"));
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(net_load(net, path, &e), XDC_EFORMAT);
    unlink(path);
    assert_int_equal(net_load(net, path, &e), -ENOENT);
    assert_int_equal(hash(net), before);
    net_destroy(net);
    net_destroy(a);
    net_destroy(b);
}

/* Clips without a label change nothing: their label is masked and the loss is divided by what is there. */
static void unlabelled_clips_are_masked(void **state)
{
    (void)state;
    struct net_batch b = batch_of(NET_AUDIO);
    const int64_t none[N] = {-1, -1, -1, -1, -1, -1}, some[N] = {0, -1, 2, -1, -1, -1};
    const float ones[N] = {1, 0.5f, 1, 7, 7, 7}, twos[N] = {2, 1, 2, 0, 0, 0};
    const int64_t *l_none[] = {none}, *l_some[] = {some};
    const float *w_ones[] = {ones}, *w_twos[] = {twos};
    struct net_step out;
    struct err e = {0};
    struct net *net[3];
    for (int i = 0; i < 3; i++) {
        net[i] = create(&small);
        heads(net[i], NET_AUDIO, 1, 3);
    }
    uint64_t start = hash(net[0]);
    assert_int_equal(net_train_step(net[0], NET_AUDIO, &b, l_none, NULL, &sgd, &out, &e), 0);
    assert_int_equal(out.labelled[0], 0);
    assert_int_equal(hash(net[0]), start);
    assert_int_equal(net_train_step(net[0], NET_AUDIO, &b, l_some, NULL, &sgd, &out, &e), 0);
    assert_int_equal(out.labelled[0], 2);
    assert_int_not_equal(hash(net[0]), start);
    assert_int_equal(net_train_step(net[1], NET_AUDIO, &b, l_some, w_ones, &sgd, &out, &e), 0);
    assert_int_equal(net_train_step(net[2], NET_AUDIO, &b, l_some, w_twos, &sgd, &out, &e), 0);
    assert_int_equal(hash(net[0]), hash(net[1]));
    assert_int_equal(hash(net[0]), hash(net[2]));
    for (int i = 0; i < 3; i++)
        net_destroy(net[i]);
}

/* Each head of several gets its own figures; a head without any label in the batch keeps its zero bias. */
static void heads_are_counted_apart(void **state)
{
    (void)state;
    struct net_batch b = batch_of(NET_VIDEO);
    const int64_t none[N] = {-1, -1, -1, -1, -1, -1};
    const int64_t *both[] = {classes_of, none};
    struct net_step out;
    struct err e = {0};
    struct net *net = create(&small);
    heads(net, NET_VIDEO, 2, 3);
    assert_int_equal(net_train_step(net, NET_VIDEO, &b, both, NULL, &sgd, &out, &e), 0);
    assert_int_equal(out.labelled[0], N);
    assert_int_equal(out.labelled[1], 0);
    assert_true(out.loss[0] > 0.5 && out.loss[0] < 2);
    assert_true(out.loss[1] == 0);
    assert_true(out.correct[0] <= N);
    struct safetensors *file = saved(net);
    const struct tensor *bias0 = safetensors_find(file, "video.heads.0.bias");
    const struct tensor *bias1 = safetensors_find(file, "video.heads.1.bias");
    assert_true(bias0 && bias1 && bias1->shape[0] == 4);
    const float zeros[4] = {0};
    assert_memory_equal(bias1->data, zeros, sizeof zeros);
    assert_memory_not_equal(bias0->data, zeros, 3 * sizeof(float));
    safetensors_close(file);
    net_destroy(net);
}

/* What is out of range is refused with a code, and the weights stay. */
static void bad_arguments_are_refused(void **state)
{
    (void)state;
    struct net *net = NULL;
    struct err e = {0};
    const struct {
        struct net_spec spec;
        const char *word;
    } bad[] = {
        {{.video_depth = 12, .video_width = 8, .audio_depth = 10, .audio_width = 8, .frames = 4, .crop = 32},
         "depth"},
        {{.video_depth = 10, .video_width = 8, .audio_depth = 10, .audio_width = 0, .frames = 4, .crop = 32},
         "width"},
        {{.video_depth = 10, .video_width = 8, .audio_depth = 10, .audio_width = 8, .frames = 0, .crop = 32},
         "frames"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(net_create(&bad[i].spec, &net, &e), -EINVAL);
        assert_non_null(strstr(e.msg, bad[i].word));
    }
    struct net_spec on_gpu = small;
    on_gpu.device = NET_DEVICE_CUDA;
    if (net_gpus() == 0) {
        assert_int_equal(net_create(&on_gpu, &net, &e), XDC_ECONF);
        assert_non_null(strstr(e.msg, "finds no CUDA device"));
    }
    net = create(&small);
    uint64_t before = hash(net);
    struct net_batch b = batch_of(NET_AUDIO), empty = {0, audio};
    struct net_step out;
    float f[N * DIM];
    const uint32_t none = 0;
    const uint64_t seed = 1;
    assert_int_equal(net_train_step(net, NET_AUDIO, &b, labels, NULL, &sgd, &out, &e),
                     -EINVAL); /* no heads */
    assert_int_equal(net_reset_heads(net, NET_AUDIO, NET_HEAD_LINEAR, 1, &none, &seed, &e), -EINVAL);
    heads(net, NET_AUDIO, 1, 2); /* labels go to 2 */
    assert_int_equal(net_train_step(net, NET_AUDIO, &b, labels, NULL, &sgd, &out, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "label 2 for 2 classes"));
    assert_int_equal(net_features(net, NET_AUDIO, &empty, f, &e), -EINVAL);
    assert_int_equal(net_set_audio_stats(net, 0, 0, &e), -EINVAL);
    assert_int_equal(net_set_audio_stats(net, NAN, 1, &e), -EINVAL);
    assert_int_equal(hash(net), before);
    net_destroy(net);
    net_destroy(NULL);
}

/* A loss that is not finite is an error, and no parameter moves: momentum and heads are as they were. */
static void an_infinite_loss_is_refused(void **state)
{
    (void)state;
    audio[17] = INFINITY;
    struct net *net = create(&small);
    heads(net, NET_AUDIO, 1, 3);
    struct net_batch b = batch_of(NET_AUDIO);
    struct net_step out;
    struct err e = {0};
    assert_int_equal(net_train_step(net, NET_AUDIO, &b, labels, NULL, &sgd, &out, &e), XDC_EUNSTABLE);
    assert_non_null(strstr(e.msg, "not finite"));
    uint64_t n;
    float *weights = tensor_of(net, "audio.conv1.weight", &n);
    for (uint64_t i = 0; i < n; i++)
        assert_true(isfinite(weights[i]));
    free(weights);
    net_destroy(net);
    fill(3);
}

/* The batch of a seed as the `seen`-th that warms both encoders. */
static void warm(struct net *net, uint64_t seed, uint64_t seen)
{
    struct err e = {0};
    fill(seed);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        struct net_batch b = batch_of(enc);
        ok(net_warm_batchnorm(net, (enum net_encoder)enc, &b, seen, &e), &e);
    }
}

/* Warm-up gives the mean over the batches, in whatever order they come and whatever there was before. */
static void warm_statistics_are_a_mean(void **state)
{
    (void)state;
    struct net *a = create(&small), *b = create(&small);
    warm(a, 3, 0);
    warm(a, 2, 1);
    warm(b, 3, 0);
    warm(b, 3, 1);
    warm(b, 2, 0);
    warm(b, 3, 1);
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        float fa[N * DIM], fb[N * DIM];
        features(a, enc, fa);
        features(b, enc, fb);
        for (size_t i = 0; i < N * DIM; i++)
            assert_true(fabsf(fa[i] - fb[i]) < 1e-3f);
    }
    net_destroy(a);
    net_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_the_published_ones),
        cmocka_unit_test(weights_follow_the_seed),
        cmocka_unit_test(training_is_deterministic),
        cmocka_unit_test(encoders_are_not_coupled),
        cmocka_unit_test(features_do_not_depend_on_neighbours),
        cmocka_unit_test(a_loaded_net_continues_bit_for_bit),
        cmocka_unit_test(a_snapshot_holds_its_moment),
        cmocka_unit_test(misfits_are_refused_by_name),
        cmocka_unit_test(unlabelled_clips_are_masked),
        cmocka_unit_test(heads_are_counted_apart),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(an_infinite_loss_is_refused),
        cmocka_unit_test(warm_statistics_are_a_mean),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
