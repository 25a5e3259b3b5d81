/* heads: their outputs can be permuted, they are written by PyTorch's names, their statistics are warmed with
 * the encoder's; and encoders that see the same are a pair of their own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/torch/two_heads.h"

static const struct tensor *find(const struct safetensors *file, const char *name)
{
    const struct tensor *t = safetensors_find(file, name);
    if (!t)
        fail_msg("no tensor %s", name);
    return t;
}

/* The heads' file has every tensor of both encoders' heads and nothing else; *out is the caller's. */
static struct safetensors *write_heads(struct net *net, const char *name)
{
    struct err e = {0};
    struct safetensors *file = NULL;
    ok(net_write_heads(net, at(name), &e), &e);
    ok(safetensors_open(at(name), &file, &e), &e);
    return file;
}

/* After a permutation row j is what row order[j] was, of weights and bias of that head alone; what is no
 * permutation changes nothing. */
static void outputs_are_permuted(void **state)
{
    (void)state;
    static const uint32_t order[4] = {2, 0, 3, 1}, twice[4] = {0, 1, 1, 2}, beyond[4] = {0, 1, 2, 4};
    for (int kind = NET_HEAD_LINEAR; kind <= NET_HEAD_MLP; kind++) {
        const char *layer = kind == NET_HEAD_MLP ? "audio.heads.1.5." : "audio.heads.1.";
        const char *other = kind == NET_HEAD_MLP ? "audio.heads.0.5.weight" : "audio.heads.0.weight";
        struct net *net = make_net((enum net_head)kind, 0);
        struct net_step out[NET_ENCODERS];
        struct err e = {0};
        train(net, 2, &sgd, out); /* so that no row is like another */
        struct safetensors *before = write_heads(net, "before");
        assert_int_equal(net_permute_head(net, NET_AUDIO, 1, twice, &e), -EINVAL);
        assert_int_equal(net_permute_head(net, NET_AUDIO, 1, beyond, &e), -EINVAL);
        assert_int_equal(net_permute_head(net, NET_AUDIO, 2, order, &e), -EINVAL);
        struct safetensors *same = write_heads(net, "same");
        ok(net_permute_head(net, NET_AUDIO, 1, order, &e), &e);
        struct safetensors *after = write_heads(net, "after");
        assert_int_equal(safetensors_count(before), kind == NET_HEAD_MLP ? 4 * 8 : 4 * 2);
        for (int bias = 0; bias < 2; bias++) {
            char name[64];
            snprintf(name, sizeof name, "%s%s", layer, bias ? "bias" : "weight");
            const float *was = find(before, name)->data, *is = find(after, name)->data;
            size_t row = bias ? 1 : DIM;
            assert_memory_equal(was, find(same, name)->data, 4 * row * sizeof *was);
            for (uint32_t j = 0; j < 4; j++)
                assert_memory_equal(is + j * row, was + order[j] * row, row * sizeof *is);
        }
        assert_memory_equal(find(before, other)->data, find(after, other)->data, 3 * DIM * sizeof(float));
        safetensors_close(before);
        safetensors_close(same);
        safetensors_close(after);
        unlink(at("before"));
        unlink(at("same"));
        unlink(at("after"));
        net_destroy(net);
    }
}

/* Warming fills the statistics of an MLP's norm with those of its inputs, and counts the batches. */
static void norms_of_heads_are_warmed(void **state)
{
    (void)state;
    struct net *net = make_net(NET_HEAD_MLP, 0);
    struct net_batch b = batch_of(NET_VIDEO);
    struct err e = {0};
    for (uint32_t i = 0; i < 3; i++)
        ok(net_warm_batchnorm(net, NET_VIDEO, &b, i, &e), &e);
    struct safetensors *file = write_heads(net, "warm");
    const float *warmed = find(file, "video.heads.0.2.running_mean")->data;
    const float *cold = find(file, "audio.heads.0.2.running_mean")->data;
    double sum = 0;
    for (int i = 0; i < DIM; i++) {
        sum += fabs(warmed[i]);
        assert_true(cold[i] == 0);
    }
    assert_true(sum > 0);
    assert_int_equal(*(const int64_t *)find(file, "video.heads.0.2.num_batches_tracked")->data, 3);
    safetensors_close(file);
    unlink(at("warm"));
    net_destroy(net);
}

/* Two encoders of one modality: weights of their own, names of their own, and the features of what they see.
 */
static void a_pair_sees_the_same(void **state)
{
    (void)state;
    struct err e = {0};
    for (int pair = NET_PAIR_VIDEO; pair <= NET_PAIR_AUDIO; pair++) {
        int sees = pair == NET_PAIR_VIDEO ? NET_VIDEO : NET_AUDIO;
        struct net_spec spec = small;
        struct net *net = NULL, *again = NULL;
        float f[NET_ENCODERS][N * DIM];
        spec.pair = (enum net_pair)pair;
        ok(net_create(&spec, &net, &e), &e);
        struct net_batch b = batch_of(sees);
        for (int enc = 0; enc < NET_ENCODERS; enc++) {
            assert_int_equal(net_feature_dim(net, (enum net_encoder)enc), DIM);
            ok(net_warm_batchnorm(net, (enum net_encoder)enc, &b, 0, &e), &e);
            ok(net_features(net, (enum net_encoder)enc, &b, f[enc], &e), &e);
        }
        assert_memory_not_equal(f[0], f[1], sizeof f[0]);
        ok(net_save(net, at("pair"), &e), &e);
        struct safetensors *file = NULL;
        ok(safetensors_open(at("pair"), &file, &e), &e);
        for (size_t i = 0; i < safetensors_count(file); i++) {
            const char *name = safetensors_at(file, i)->name;
            bool named = strcmp(name, "audio_stats") == 0;
            for (int enc = 0; enc < NET_ENCODERS; enc++) {
                const char *own = net_encoder_name(spec.pair, (enum net_encoder)enc);
                named |= strncmp(name, own, strlen(own)) == 0 && name[strlen(own)] == '.';
            }
            assert_true(named);
        }
        safetensors_close(file);
        spec.seed++;
        ok(net_create(&spec, &again, &e), &e);
        ok(net_load(again, at("pair"), &e), &e);
        assert_int_equal(hash(net), hash(again));
        net_destroy(again);
        ok(net_create(&small, &again, &e), &e); /* one of each */
        assert_int_equal(net_load(again, at("pair"), &e), XDC_EMISMATCH);
        net_destroy(again);
        net_destroy(net);
        unlink(at("pair"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_permuted),
        cmocka_unit_test(norms_of_heads_are_warmed),
        cmocka_unit_test(a_pair_sees_the_same),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
