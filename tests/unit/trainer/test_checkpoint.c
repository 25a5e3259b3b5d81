/* checkpoint: what is written comes back bit for bit, whatever is torn is passed over, and a failed write
 * costs nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
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
#include "lib/fsutil.h"
#include "lib/rng.h"
#include "services/trainer/checkpoint.h"

enum {
    FRAMES = 4,
    CROP = 16,
    N = 4,
    VIDEO_CLIP = FRAMES * CROP * CROP * 3,
    AUDIO_CLIP = 40 * 100,
    RUN = 0x77
};

static const struct net_spec tiny = {.video_depth = 10,
                                     .video_width = 4,
                                     .audio_depth = 10,
                                     .audio_width = 4,
                                     .frames = FRAMES,
                                     .crop = CROP,
                                     .seed = 5,
                                     .threads = 1};

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/xdc-test-checkpoint-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static const char *file_of(uint64_t step, const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu/%s", dir, (unsigned long long)step, name);
    return path;
}

/* A net with heads; `steps` steps of both encoders on clips that are a function of the step. */
static void train(struct net *net, uint64_t from, uint64_t steps)
{
    static uint8_t video[N * VIDEO_CLIP];
    static float audio[N * AUDIO_CLIP];
    static const int64_t y[N] = {0, 1, 2, 1};
    const struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
    struct net_step out;
    struct err e = {0};
    for (uint64_t step = from; step < from + steps; step++) {
        struct rng r;
        rng_init(&r, step);
        for (size_t i = 0; i < sizeof video; i++)
            video[i] = (uint8_t)rng_next(&r);
        for (size_t i = 0; i < N * AUDIO_CLIP; i++)
            audio[i] = (float)rng_normal(&r);
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
            struct net_batch b = {N, enc == NET_VIDEO ? (const void *)video : (const void *)audio};
            if (net_train_step(net, (enum net_encoder)enc, &b, (const int64_t *const[]){y}, NULL, &sgd, &out,
                               &e) < 0)
                fail_msg("%s", e.msg);
        }
    }
}

static struct net *make_net(uint64_t steps)
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

static uint64_t hash_of(struct net *net)
{
    uint64_t hash = 0;
    struct err e;
    assert_int_equal(net_hash(net, &hash, &e), 0);
    return hash;
}

/* A state in which no field is what a zeroed struct has, and the sums have no short decimal form. */
static struct train_state state_at(uint64_t step)
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
                                .correct = {12, 5677}};
}

static void assert_states_equal(const struct train_state *a, const struct train_state *b)
{
    assert_int_equal(a->phase, b->phase);
    assert_int_equal(a->round, b->round);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->batch, b->batch);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->labels, b->labels);
    assert_int_equal(a->features, b->features);
    assert_int_equal(a->ranks, b->ranks);
    for (uint32_t r = 0; r < a->ranks; r++) {
        assert_int_equal(a->ledgers[r].epoch, b->ledgers[r].epoch);
        assert_int_equal(a->ledgers[r].size_bytes, b->ledgers[r].size_bytes);
        assert_int_equal(a->ledgers[r].hash, b->ledgers[r].hash);
    }
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->labelled, b->labelled, sizeof a->labelled);
    assert_memory_equal(a->correct, b->correct, sizeof a->correct);
}

static int write_state(uint64_t run, const struct train_state *s, struct net *net, struct quarantine *q,
                       unsigned newest, struct err *e)
{
    struct checkpoint c;
    const struct checkpoint_keep keep = {newest, 0};
    int rc = checkpoint_take(&c, run, s, net, q, e);
    if (rc == 0)
        rc = checkpoint_write(&c, dir, &keep, e);
    checkpoint_free(&c);
    return rc;
}

static void write_at(uint64_t step, struct net *net, struct quarantine *q, unsigned keep)
{
    struct train_state s = state_at(step);
    struct err e = {0};
    if (write_state(RUN, &s, net, q, keep, &e) < 0)
        fail_msg("%s", e.msg);
}

static void keep_why(void *arg, const char *why)
{
    snprintf(arg, 1024, "%s", why);
}

static void count_refused(void *arg, const char *why)
{
    assert_non_null(strstr(why, dir)); /* it names the file */
    ++*(unsigned *)arg;
}

/* Restores into a fresh net and quarantine; the step it came back to, and optionally the net's hash. */
static uint64_t restored_step(unsigned *out_skipped, uint64_t *out_hash)
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

static unsigned entries(void)
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

static bool there(uint64_t step)
{
    struct stat st;
    return stat(file_of(step, "DONE"), &st) == 0;
}

/* Changes one byte in the middle of a file. */
static void alter(const char *path)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    off_t at = lseek(fd, 0, SEEK_END) / 2;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* State, quarantine, weights and momentum come back: the next steps give the net that the uninterrupted run
 * has. */
static void a_restored_run_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct net *net = make_net(3), *other = make_net(1);
    struct quarantine q, back;
    struct train_state s = state_at(3), r = {0};
    struct err e = {0};
    unsigned skipped = 0;
    quarantine_init(&q);
    quarantine_init(&back);
    for (uint64_t clip = 5; clip < 50; clip += 7)
        assert_int_equal(quarantine_add(&q, clip << 33, (uint32_t)clip % 5 + 1), 1);
    assert_int_equal(quarantine_add(&back, 1, 1), 1);
    assert_int_equal(write_state(RUN, &s, net, &q, 3, &e), 0);
    assert_int_not_equal(hash_of(other), hash_of(net));
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &back, count_refused, &skipped, &e), 0);
    assert_int_equal(skipped, 0);
    assert_states_equal(&r, &s);
    assert_int_equal(hash_of(other), hash_of(net));
    assert_int_equal(back.n, q.n);
    for (size_t i = 0; i < q.n; i++)
        assert_true(back.entries[i].clip == q.entries[i].clip &&
                    back.entries[i].reason == q.entries[i].reason);
    train(net, 3, 2);
    train(other, 3, 2);
    assert_int_equal(hash_of(other), hash_of(net));
    quarantine_close(&q);
    quarantine_close(&back);
    net_destroy(net);
    net_destroy(other);
}

/* Every phase, and a state of zeros, come back too. */
static void every_phase_comes_back(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct err e = {0};
    quarantine_init(&q);
    for (unsigned p = 0; p <= PHASE_DONE; p++) {
        struct train_state s = {.phase = (enum phase)p}, r = state_at(9);
        assert_int_equal(write_state(RUN, &s, net, &q, 2, &e), 0);
        assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), 0);
        assert_states_equal(&r, &s);
        assert_int_equal(entries(), 1); /* the same step is replaced */
    }
    quarantine_close(&q);
    net_destroy(net);
}

static char *bytes_of(const char *path, size_t *size)
{
    char *data = NULL;
    struct err e = {0};
    if (fs_read(path, 1 << 28, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

/* Equal states give equal bytes: two nets trained alike, quarantines filled in different orders, two
 * directories. */
static void equal_states_give_equal_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {CHECKPOINT_WEIGHTS, CHECKPOINT_STATE, CHECKPOINT_DONE};
    char *first[3];
    size_t first_size[3];
    for (unsigned turn = 0; turn < 2; turn++) {
        struct net *net = make_net(2);
        struct quarantine q;
        struct err e;
        quarantine_init(&q);
        for (uint64_t i = 0; i < 20; i++)
            assert_int_equal(quarantine_add(&q, turn ? 19 - i : i, 3), 1);
        write_at(50, net, &q, 3);
        for (unsigned f = 0; f < 3; f++) {
            size_t size;
            char *data = bytes_of(file_of(50, files[f]), &size);
            if (turn == 0) {
                first[f] = data;
                first_size[f] = size;
                continue;
            }
            assert_int_equal(size, first_size[f]);
            assert_memory_equal(data, first[f], size);
            free(data);
            free(first[f]);
        }
        quarantine_close(&q);
        net_destroy(net);
        assert_int_equal(fs_remove_tree(dir, &e), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

/* The newest K stay, older ones go, and what an interrupted write left is swept. */
static void the_newest_are_kept(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct err e;
    char torn[128];
    quarantine_init(&q);
    snprintf(torn, sizeof torn, "%s/checkpoints/tmp-000000000009", dir);
    assert_int_equal(fs_mkdirs(torn, &e), 0);
    for (uint64_t step = 10; step <= 60; step += 10) {
        write_at(step, net, &q, 3);
        assert_int_equal(entries(), step < 30 ? step / 10 : 3);
        assert_true(there(step));
    }
    assert_true(there(50) && there(40) && !there(30));
    assert_int_equal(restored_step(NULL, NULL), 60);
    quarantine_close(&q);
    net_destroy(net);
}

enum damage {
    TRUNCATE_WEIGHTS,
    ALTER_WEIGHTS,
    REMOVE_WEIGHTS,
    TRUNCATE_STATE,
    ALTER_STATE,
    EMPTY_STATE,
    REMOVE_STATE,
    REMOVE_DONE
};

static void harm(uint64_t step, enum damage d)
{
    struct stat st;
    const char *path = file_of(step, d <= REMOVE_WEIGHTS ? CHECKPOINT_WEIGHTS
                                     : d <= REMOVE_STATE ? CHECKPOINT_STATE
                                                         : CHECKPOINT_DONE);
    assert_int_equal(stat(path, &st), 0);
    switch (d) {
    case TRUNCATE_WEIGHTS:
    case TRUNCATE_STATE:
        assert_int_equal(truncate(path, st.st_size - 5), 0);
        break;
    case ALTER_WEIGHTS:
    case ALTER_STATE:
        alter(path);
        break;
    case EMPTY_STATE:
        assert_int_equal(truncate(path, 0), 0);
        break;
    case REMOVE_WEIGHTS:
    case REMOVE_STATE:
    case REMOVE_DONE:
        assert_int_equal(unlink(path), 0);
        break;
    }
}

/* Whatever part of the newest one is torn, altered or gone, the one before is restored and the loss is
 * counted. */
static void a_torn_newest_is_passed_over(void **state)
{
    (void)state;
    struct net *net = make_net(1);
    struct quarantine q;
    quarantine_init(&q);
    write_at(10, net, &q, 9);
    uint64_t want = hash_of(net), got;
    train(net, 1, 1);
    for (enum damage d = TRUNCATE_WEIGHTS; d <= REMOVE_DONE; d++) {
        unsigned skipped;
        write_at(20, net, &q, 9); /* replaces the harmed one of the turn before */
        assert_int_equal(restored_step(&skipped, &got), 20);
        assert_int_equal(skipped, 0);
        assert_int_equal(got, hash_of(net));
        harm(20, d);
        assert_int_equal(restored_step(&skipped, &got), 10);
        assert_int_equal(skipped, 1);
        assert_int_equal(got, want);
    }
    quarantine_close(&q);
    net_destroy(net);
}

/* What is said of the newest checkpoint, which has been harmed; the one before is found. */
static const char *why_refused(uint64_t step_before)
{
    static char why[1024];
    char path[PATH_MAX];
    json_t *state = NULL;
    struct err e = {0};
    why[0] = '\0';
    if (checkpoint_dir_latest(dir, path, &state, keep_why, why, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(json_integer_value(json_object_get(state, "step")), step_before);
    json_decref(state);
    return why;
}

/* Changes the byte at `at` by `flip`, looks, and changes it back. */
static void flip_one(const char *name, off_t at, uint8_t flip)
{
    uint8_t byte, other;
    int fd = open(file_of(20, name), O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    other = byte ^ flip;
    assert_int_equal(pwrite(fd, &other, 1, at), 1);
    const char *why = why_refused(10);
    if (!strstr(why, "step-000000000020") || !strstr(why, name) || !strstr(why, "altered"))
        fail_msg("byte %lld of %s changed by %02x: %s", (long long)at, name, flip, why);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Any one byte changed, by one bit or by more: refused with the file's name, and the one before is taken.
 * Every bit of DONE, every byte of the state, both ends of the weights, and offsets drawn all over them. */
static void any_changed_byte_is_refused(void **state)
{
    (void)state;
    struct net *net = make_net(1);
    struct quarantine q;
    struct stat st;
    struct rng r;
    quarantine_init(&q);
    assert_int_equal(quarantine_add(&q, 7, 3), 1);
    write_at(10, net, &q, 9);
    train(net, 1, 1);
    write_at(20, net, &q, 9);
    rng_init(&r, 77);
    assert_int_equal(stat(file_of(20, CHECKPOINT_DONE), &st), 0);
    assert_int_equal(st.st_size, CHECKPOINT_DONE_SIZE);
    for (off_t at = 0; at < st.st_size; at++)
        for (unsigned bit = 0; bit < 8; bit++)
            flip_one(CHECKPOINT_DONE, at, (uint8_t)(1u << bit));
    assert_int_equal(stat(file_of(20, CHECKPOINT_STATE), &st), 0);
    for (off_t at = 0; at < st.st_size; at++)
        flip_one(CHECKPOINT_STATE, at, (uint8_t)(1 + rng_next(&r) % 255));
    assert_int_equal(stat(file_of(20, CHECKPOINT_WEIGHTS), &st), 0);
    for (off_t at = 0; at < 64; at++) {
        flip_one(CHECKPOINT_WEIGHTS, at, (uint8_t)(1u << rng_next(&r) % 8));
        flip_one(CHECKPOINT_WEIGHTS, st.st_size - 1 - at, (uint8_t)(1u << rng_next(&r) % 8));
    }
    for (unsigned i = 0; i < 500; i++)
        flip_one(CHECKPOINT_WEIGHTS, (off_t)(rng_next(&r) % (uint64_t)st.st_size),
                 (uint8_t)(1u << rng_next(&r) % 8));
    unsigned refused;
    assert_int_equal(restored_step(&refused, NULL), 20); /* all is as it was */
    assert_int_equal(refused, 0);
    quarantine_close(&q);
    net_destroy(net);
}

/* Altered newer ones do not count as kept: what is written after a restore from before them survives its own
 * pruning. */
static void altered_ones_push_out_no_whole_one(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    unsigned skipped;
    quarantine_init(&q);
    for (uint64_t step = 10; step <= 30; step += 10)
        write_at(step, net, &q, 3);
    harm(20, ALTER_WEIGHTS);
    harm(30, ALTER_WEIGHTS);
    assert_int_equal(restored_step(&skipped, NULL), 10);
    assert_int_equal(skipped, 2);
    write_at(15, net, &q, 2);
    assert_int_equal(restored_step(&skipped, NULL), 15);
    assert_true(there(10));
    write_at(25, net, &q, 2);
    assert_int_equal(restored_step(&skipped, NULL), 25);
    assert_true(there(15) && !there(10) && !there(20));
    quarantine_close(&q);
    net_destroy(net);
}

/* A checkpoint of another run is refused by name, not skipped for an older one, and nothing is loaded from
 * it. */
static void another_run_is_refused(void **state)
{
    (void)state;
    struct net *net = make_net(1), *other = make_net(0);
    struct quarantine q;
    struct train_state s = state_at(5), r = {0};
    struct err e = {0};
    quarantine_init(&q);
    write_at(4, net, &q, 3);
    assert_int_equal(write_state(RUN + 1, &s, net, &q, 3, &e), 0);
    uint64_t before = hash_of(other);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &q, NULL, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "step-000000000005 is of another run"));
    assert_int_equal(hash_of(other), before);
    quarantine_close(&q);
    net_destroy(net);
    net_destroy(other);
}

/* A net of another width does not take the weights: refused with the tensor's name. */
static void another_net_is_refused(void **state)
{
    (void)state;
    struct net_spec wide = tiny;
    struct net *net = make_net(0), *other;
    struct quarantine q;
    struct train_state r = {0};
    struct err e = {0};
    wide.video_width = 8;
    quarantine_init(&q);
    write_at(4, net, &q, 3);
    assert_int_equal(net_create(&wide, &other, &e), 0);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, other, &q, NULL, NULL, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "video."));
    quarantine_close(&q);
    net_destroy(net);
    net_destroy(other);
}

/* No directory, and a directory without checkpoints, are -ENOENT: a run that begins. */
static void nothing_there_is_enoent(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct train_state r = {0};
    struct err e = {0};
    char path[96];
    quarantine_init(&q);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), -ENOENT);
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), -ENOENT);
    quarantine_close(&q);
    net_destroy(net);
}

/* Makes DONE name the state that is there now. */
static void fit_done(uint64_t step)
{
    char done[32];
    uint64_t hash;
    struct err e;
    assert_int_equal(checkpoint_dir_hash(file_of(step, CHECKPOINT_STATE), &hash, &e), 0);
    int n = snprintf(done, sizeof done, "%016llx\n", (unsigned long long)hash);
    assert_int_equal(fs_write_atomic(file_of(step, CHECKPOINT_DONE), done, (size_t)n, &e), 0);
}

/* A state file that is JSON but lacks a field is XDC_EFORMAT. */
static void a_state_without_a_field_is_refused(void **state)
{
    (void)state;
    static const char *const fields[] = {"phase", "step", "ledgers", "loss", "quarantine"};
    struct net *net = make_net(0);
    struct quarantine q;
    struct train_state r = {0};
    quarantine_init(&q);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct err e = {0};
        write_at(4, net, &q, 3);
        json_t *j = json_load_file(file_of(4, CHECKPOINT_STATE), 0, NULL);
        assert_int_equal(json_object_del(j, fields[i]), 0);
        assert_int_equal(json_dump_file(j, file_of(4, CHECKPOINT_STATE), 0), 0);
        json_decref(j);
        fit_done(4);
        assert_int_equal(checkpoint_restore(dir, RUN, &r, net, &q, NULL, NULL, &e), XDC_EFORMAT);
    }
    quarantine_close(&q);
    net_destroy(net);
}

/* A full disk, here a file size limit that the weights meet at any of several places: the write fails with a
 * sentence, no half-written one stays, and the ones before, also of the same step, are restored as they were.
 */
static void a_failed_write_costs_nothing(void **state)
{
    (void)state;
    static const rlim_t limits[] = {0, 100, 4096, 65536};
    struct net *net = make_net(1);
    struct quarantine q;
    struct rlimit old, low;
    struct err e = {0};
    uint64_t want = hash_of(net), got;
    quarantine_init(&q);
    write_at(10, net, &q, 2);
    write_at(20, net, &q, 2);
    train(net, 1, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (uint64_t step = 20; step <= 30; step += 10) {
            struct train_state s = state_at(step);
            low = (struct rlimit){limits[i], old.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
            int rc = write_state(RUN, &s, net, &q, 2, &e);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            assert_int_equal(rc, -EFBIG);
            assert_non_null(strstr(e.msg, step == 20 ? "checkpoint of step 20" : "checkpoint of step 30"));
            assert_int_equal(entries(), 2);
            assert_int_equal(restored_step(NULL, &got), 20);
            assert_int_equal(got, want);
        }
    }
    signal(SIGXFSZ, handler);
    write_at(30, net, &q, 2);
    assert_int_equal(restored_step(NULL, &got), 30);
    assert_int_equal(got, hash_of(net));
    quarantine_close(&q);
    net_destroy(net);
}

struct watcher {
    atomic_bool stop;
    unsigned looks, missing;
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    char path[160];
    struct stat st;
    snprintf(path, sizeof path, "%s/checkpoints/step-%012llu/DONE", dir, 10ull);
    while (!atomic_load(&w->stop)) {
        w->looks++;
        w->missing += stat(path, &st) != 0;
    }
    return NULL;
}

/* Writing the same step again replaces it at one stroke: a complete one has the name at every moment, and a
 * crash at any moment leaves one. */
static void the_same_step_is_there_throughout(void **state)
{
    (void)state;
    struct net *net = make_net(0);
    struct quarantine q;
    struct watcher w = {0};
    pthread_t thread;
    quarantine_init(&q);
    write_at(10, net, &q, 2);
    assert_int_equal(pthread_create(&thread, NULL, watch, &w), 0);
    for (unsigned i = 0; i < 20; i++)
        write_at(10, net, &q, 2);
    atomic_store(&w.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(w.looks > 20);
    assert_int_equal(w.missing, 0);
    assert_int_equal(entries(), 1);
    quarantine_close(&q);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restored_run_goes_on_bit_for_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(every_phase_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_states_give_equal_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_newest_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(any_changed_byte_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(altered_ones_push_out_no_whole_one, setup, teardown),
        cmocka_unit_test_setup_teardown(another_run_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(another_net_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_there_is_enoent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_without_a_field_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_step_is_there_throughout, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
