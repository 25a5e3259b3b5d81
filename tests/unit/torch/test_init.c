/* init: weights that come from a file are taken whole, or not at all with a list of what does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/tensor.h"
#include "tests/lib/small_net.h"

static const struct net_spec small = SMALL_NET(8, 32, 1);
static char path[96];

static int setup(void **state)
{
    (void)state;
    strcpy(path, "/tmp/xdc-test-init-XXXXXX");
    return mkstemp(path) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static struct net *create(struct net_spec spec, uint64_t seed)
{
    struct net *net = NULL;
    struct err e = {0};
    spec.seed = seed;
    if (net_create(&spec, &net, &e) < 0)
        fail_msg("%s", e.msg);
    return net;
}

static uint64_t hash(struct net *net)
{
    uint64_t h = 0;
    struct err e;
    assert_int_equal(net_hash(net, &h, &e), 0);
    return h;
}

static void write_encoder(struct net *net, enum net_encoder enc, uint32_t classes, const char *log_mel)
{
    struct err e = {0};
    const char *const metadata[][2] = {{"format", "pt"}, {"xdc.log_mel", log_mel}};
    if (net_write_encoder(net, enc, classes, metadata, log_mel ? 2 : 1, path, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Both encoders from another net's files are that net, classifiers left aside. */
static void weights_are_taken_whole(void **state)
{
    (void)state;
    struct net *from = create(small, 1), *to = create(small, 2);
    struct err e = {0};
    bool stats = true;
    assert_int_not_equal(hash(from), hash(to));
    assert_false(net_initialised(to, NET_VIDEO, NULL));
    for (int enc = 0; enc < NET_ENCODERS; enc++) {
        write_encoder(from, (enum net_encoder)enc, enc ? 5 : 0, NULL);
        if (net_init(to, (enum net_encoder)enc, path, &e) < 0)
            fail_msg("%s", e.msg);
        assert_true(net_initialised(to, (enum net_encoder)enc, &stats));
        assert_false(stats);
    }
    assert_int_equal(hash(from), hash(to));
    net_destroy(from);
    net_destroy(to);
}

/* The log-mel's mean and deviation come with the audio encoder; numbers that cannot be are refused. */
static void audio_statistics_come_along(void **state)
{
    (void)state;
    struct net *from = create(small, 1), *to = create(small, 2);
    struct err e = {0};
    bool stats = false;
    write_encoder(from, NET_AUDIO, 0, "{\"mean\": -3.5, \"deviation\": 0}");
    assert_int_equal(net_init(to, NET_AUDIO, path, &e), XDC_EFORMAT);
    assert_false(net_initialised(to, NET_AUDIO, &stats) || stats);
    write_encoder(from, NET_AUDIO, 0, "{\"mean\": -3.5, \"deviation\": 2.25}");
    assert_int_equal(net_init(to, NET_AUDIO, path, &e), 0);
    assert_true(net_initialised(to, NET_AUDIO, &stats) && stats);
    if (net_save(to, path, &e) < 0)
        fail_msg("%s", e.msg);
    struct safetensors *s;
    assert_int_equal(safetensors_open(path, &s, &e), 0);
    const double *saved = safetensors_find(s, "audio_stats")->data;
    assert_true(saved[0] == -3.5 && saved[1] == 2.25);
    safetensors_close(s);
    net_destroy(from);
    net_destroy(to);
}

/* A file of another network is refused with the number and the names of what does not fit; nothing changes.
 */
static void another_network_is_refused(void **state)
{
    (void)state;
    struct net_spec wide = small, other = small, torchvision = small;
    wide.video_width = 16;
    other.video = NET_R3D;
    torchvision.flavour = NET_TORCHVISION;
    const struct {
        struct net_spec spec;
        enum net_encoder enc;
        const char *says[3];
    } rows[] = {
        {wide,
         NET_VIDEO,
         {"tensors do not fit", "stem.3.weight is f32 [16, 11, 3, 1, 1], expected f32 [8, 5", "more"}},
        {other, NET_VIDEO, {"stem.3.weight is missing", "expected f32", "more"}},
        {torchvision, NET_VIDEO, {"layer2.0.conv2.0.0.weight is f32", "tensors do not fit: layer", ""}},
        {small, NET_AUDIO, {"conv1.weight is not part of this network", "stem.0.weight is missing", "more"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct net *from = create(rows[i].spec, 1), *to = create(small, 2);
        uint64_t before = hash(to);
        struct err e = {0};
        write_encoder(from, rows[i].enc, 0, NULL);
        if (rows[i].enc == NET_AUDIO) { /* an audio file for the video encoder: all is wrong */
            assert_int_equal(net_init(to, NET_VIDEO, path, &e), XDC_EMISMATCH);
            assert_non_null(strstr(e.msg, "stem.0.weight is missing"));
        } else {
            assert_int_equal(net_init(to, rows[i].enc, path, &e), XDC_EMISMATCH);
            for (size_t k = 0; k < 3; k++)
                if (!strstr(e.msg, rows[i].says[k]))
                    fail_msg("'%s' does not say '%s'", e.msg, rows[i].says[k]);
        }
        assert_false(net_initialised(to, rows[i].enc, NULL));
        assert_int_equal(hash(to), before);
        net_destroy(from);
        net_destroy(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_taken_whole),
        cmocka_unit_test(audio_statistics_come_along),
        cmocka_unit_test(another_network_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
