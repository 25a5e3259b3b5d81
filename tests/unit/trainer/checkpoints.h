/* A run directory with checkpoints of small nets, for the tests of checkpoint: nets and states that are
 * functions of a step, written, restored and counted. */
#pragma once
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/checkpoint_dir.h"
#include "lib/fsutil.h"
#include "services/trainer/checkpoint.h"
#include "tests/lib/small_net.h"

enum { CROP = 16, N = 4, VIDEO_CLIP = FRAMES * CROP * CROP * 3, RUN = 0x77 };

static const struct net_spec tiny = SMALL_NET(4, CROP, 1);

static char dir[64];

static inline int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-checkpoint-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static inline const char *file_of(uint64_t step, const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu/%s", dir, (unsigned long long)step, name);
    return path;
}

/* A net with heads; `steps` steps of both encoders on clips that are a function of the step. */
static inline void train(struct net *net, uint64_t from, uint64_t steps)
{
    static uint8_t video[N * VIDEO_CLIP];
    static float audio[N * AUDIO_CLIP];
    static const int64_t y[N] = {0, 1, 2, 1};
    const struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
    struct net_step out;
    struct err e = {0};
    for (uint64_t step = from; step < from + steps; step++) {
        small_noise(step, video, sizeof video, audio, N * AUDIO_CLIP);
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_batch b = {N, enc == NET_VIDEO ? (const void *)video : (const void *)audio};
            if (net_train_step(net, (enum net_encoder)enc, &b, (const int64_t *const[]){y}, NULL, &sgd, &out,
                               &e) < 0)
                fail_msg("%s", e.msg);
        }
    }
}

static inline struct net *make_net(uint64_t steps)
{
    struct net *net;
    struct err e = {0};
    uint32_t classes = 3;
    if (net_create(&tiny, &net, &e) < 0)
        fail_msg("%s", e.msg);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        assert_int_equal(net_reset_heads(net, (enum net_encoder)enc, NET_HEAD_LINEAR, 1, &classes,
                                         (const uint64_t[]){9 + enc}, &e),
                         0);
    assert_int_equal(net_set_audio_stats(net, -3.1, 2.7, &e), 0);
    train(net, 0, steps);
    return net;
}

static inline uint64_t hash_of(struct net *net)
{
    uint64_t hash = 0;
    struct err e;
    assert_int_equal(net_hash(net, &hash, &e), 0);
    return hash;
}

/* A state in which no field is what a zeroed struct has, and the sums have no short decimal form. */
static inline struct train_state state_at(uint64_t step)
{
    return (struct train_state){.phase = PHASE_TRAIN,
                                .round = 3,
                                .epoch = 2,
                                .batch = 41,
                                .step = step,
                                .labels = 0xfedcba9876543210u,
                                .features = 0x8000000000000001u,
                                .ranks = 2,
                                .ledgers = {{17, (uint64_t)1 << 40, 0xffffffffffffffffu}, {17, 48, 5}},
                                .loss = {1.0 / 3.0 + (double)step, 2e-300 / 7.0},
                                .labelled = {1234, 5678},
                                .correct = {12, 5677},
                                .early = {{7, 1.0 / 7.0, true, 2.0 / 7.0, true},
                                          {5, 3.0 / 7.0, true, 4.0 / 7.0 + (double)step, false}}};
}

static inline int write_state(uint64_t run, const struct train_state *s, struct net *net,
                              struct quarantine *q, unsigned newest, struct err *e)
{
    struct checkpoint c;
    const struct checkpoint_keep keep = {newest, 0};
    int rc = checkpoint_take(&c, run, s, net, q, e);
    if (rc == 0)
        rc = checkpoint_write(&c, dir, &keep, e);
    checkpoint_free(&c);
    return rc;
}

static inline void write_at(uint64_t step, struct net *net, struct quarantine *q, unsigned keep)
{
    struct train_state s = state_at(step);
    struct err e = {0};
    if (write_state(RUN, &s, net, q, keep, &e) < 0)
        fail_msg("%s", e.msg);
}

static inline void count_refused(void *arg, const char *why)
{
    assert_non_null(strstr(why, dir)); /* it names the file */
    ++*(unsigned *)arg;
}

/* Restores into a fresh net and quarantine; the step it came back to, and optionally the net's hash. */
static inline uint64_t restored_step(unsigned *out_skipped, uint64_t *out_hash)
{
    struct train_state s = {0};
    struct quarantine q;
    struct err e = {0};
    struct net *net = make_net(0);
    unsigned refused = 0;
    quarantine_init(&q);
    if (checkpoint_restore(dir, RUN, &s, net, &q, count_refused, &refused, &e) < 0)
        fail_msg("%s", e.msg);
    if (out_skipped)
        *out_skipped = refused;
    if (out_hash)
        *out_hash = hash_of(net);
    quarantine_close(&q);
    net_destroy(net);
    return s.step;
}

static inline unsigned entries(void)
{
    char path[96];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

static inline bool there(uint64_t step)
{
    struct stat st;
    return stat(file_of(step, "DONE"), &st) == 0;
}
