/* clips: a batch of clips and the networks to train on it, for the tests of lib/torch. The including file
 * says how large, in an enum of CROP, N (clips) and THREADS above the #include. A failure fails the test.
 * setup and teardown belong to cmocka_run_group_tests: the directory must be empty again in the end. */
#pragma once
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/tensor.h"
#include "tests/lib/small_net.h"

enum { VIDEO_CLIP = FRAMES * CROP * CROP * 3, DIM = 64 };

static const struct net_spec small = SMALL_NET(8, CROP, THREADS);
static uint8_t video[N * VIDEO_CLIP];
static float audio[N * AUDIO_CLIP];
static char dir[64];

static inline void fill(uint64_t seed)
{
    small_noise(seed, video, sizeof video, audio, N * AUDIO_CLIP);
}

static inline int setup(void **state)
{
    (void)state;
    fill(3);
    strcpy(dir, "/tmp/xdc-test-torch-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    return rmdir(dir);
}

static inline void ok(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* A file of the directory; two results can be held at once. */
static inline const char *at(const char *name)
{
    static char path[2][128];
    static unsigned turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[0], "%s/%s", dir, name);
    return path[turn];
}

static inline struct net_batch rows(int enc, uint32_t from, uint32_t n)
{
    return (struct net_batch){n, enc == NET_VIDEO ? (const void *)(video + (size_t)from * VIDEO_CLIP)
                                                  : (const void *)(audio + (size_t)from * AUDIO_CLIP)};
}

static inline struct net_batch batch_of(int enc)
{
    return rows(enc, 0, N);
}

static inline uint64_t hash(struct net *net)
{
    uint64_t h = 0;
    struct err e = {0};
    ok(net_hash(net, &h, &e), &e);
    return h;
}

/* What the net would be saved as; the caller closes it. */
static inline struct safetensors *saved(struct net *net)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/saved.safetensors", dir);
    ok(net_save(net, path, &e), &e);
    ok(safetensors_open(path, &s, &e), &e);
    unlink(path);
    return s;
}

/* A copy of one of its tensors, which the caller frees. */
static inline float *tensor_of(struct net *net, const char *name, uint64_t *out_n)
{
    struct safetensors *s = saved(net);
    const struct tensor *t = safetensors_find(s, name);
    if (!t)
        fail_msg("no %s", name);
    *out_n = tensor_count(t);
    float *copy = malloc(*out_n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, t->data, *out_n * sizeof *copy);
    safetensors_close(s);
    return copy;
}
