/* clusterer: the whole service on its loop, with the trainer's ends of both edges played on real sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "services/clusterer/clusterer.h"

#define CLIPS 64

/* What a trainer sees. */
struct trainer_end {
    struct clusterer *clusterer;
    struct wire_context *wires;
    struct wire *features, *labels;
    uv_timer_t give_up;
    uint64_t hash;
    bool greeted, ready, unknown, refused, gave_up;
    uint64_t table;
};

static void ask(struct trainer_end *t, uint64_t run, uint64_t features)
{
    Xdc__LabelQuery q = XDC__LABEL_QUERY__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    q.round = 2;
    q.features = features;
    env.run = run;
    env.body_case = XDC__ENVELOPE__BODY_LABEL_QUERY;
    env.label_query = &q;
    assert_int_equal(wire_send(t->labels, NULL, &env, NULL, 0), 0);
}

static void on_features(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                        const struct wire_frame *raw, size_t n_raw)
{
    struct trainer_end *t = arg;
    (void)raw;
    (void)n_raw;
    if (env->body_case != XDC__ENVELOPE__BODY_FEATURES_HELLO)
        return;
    if (!t->greeted) { /* once for the dump, once for one that nobody has, once as a stranger */
        ask(t, t->clusterer->run, t->hash);
        ask(t, t->clusterer->run, t->hash + 1);
        ask(t, t->clusterer->run + 1, t->hash);
    }
    t->greeted = true;
    Xdc__RunFinished finished = XDC__RUN_FINISHED__INIT;
    Xdc__Envelope out = XDC__ENVELOPE__INIT;
    out.run = t->clusterer->run;
    out.body_case = XDC__ENVELOPE__BODY_RUN_FINISHED;
    out.run_finished = &finished;
    if (t->ready)
        assert_int_equal(wire_send(t->features, from, &out, NULL, 0), 0);
}

static void on_labels(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                      const struct wire_frame *raw, size_t n_raw)
{
    struct trainer_end *t = arg;
    (void)from;
    (void)raw;
    (void)n_raw;
    if (env->body_case == XDC__ENVELOPE__BODY_REFUSED) {
        t->refused = true;
        return;
    }
    assert_int_equal(env->body_case, XDC__ENVELOPE__BODY_LABEL_NOTICE);
    const Xdc__LabelNotice *n = env->label_notice;
    assert_int_equal(n->round, 2);
    if (n->features != t->hash) {
        t->unknown = n->state == XDC__LABEL_NOTICE__STATE__UNKNOWN;
        return;
    }
    assert_true(n->state == XDC__LABEL_NOTICE__STATE__WORKING ||
                n->state == XDC__LABEL_NOTICE__STATE__READY || n->state == XDC__LABEL_NOTICE__STATE__UNKNOWN);
    if (n->state == XDC__LABEL_NOTICE__STATE__READY) {
        t->ready = true;
        t->table = n->table;
    }
}

static void on_give_up(uv_timer_t *timer)
{
    struct trainer_end *t = timer->data;
    t->gave_up = true;
    clusterer_stop(t->clusterer);
}

static void make_manifest(const char *dir)
{
    struct manifest *m;
    struct manifest_video v = {.uri = "a.mp4", .size_bytes = 1, .truth = -1};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/m.lmdb", dir);
    assert_int_equal(manifest_create(path, dir, &m, NULL), 0);
    for (int i = 0; i < CLIPS; i++)
        assert_int_equal(manifest_append(m, &v, NULL), 0);
    assert_int_equal(manifest_commit(m, NULL), 0);
    manifest_close(m);
}

/* Seals one shard of round 2; `shift` makes its features others. Returns its hash. */
static uint64_t make_shard(const char *dir, const struct clusterer *c, uint32_t rank, uint32_t ranks,
                           float shift)
{
    struct feature_info info = {.manifest = c->manifest,
                                .run = c->run,
                                .rows = CLIPS / ranks,
                                .first = CLIPS / ranks * rank,
                                .total = CLIPS,
                                .round = 2,
                                .rank = rank,
                                .ranks = ranks,
                                .dtype = FEATURE_F32,
                                .encoders = 2,
                                .encoder = {{.name = "video", .dim = 3}, {.name = "audio", .dim = 3}}};
    struct feature_store *s;
    char path[PATH_MAX];
    uint64_t hash;
    snprintf(path, sizeof path, "%s/run/features/round-0002", dir);
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    snprintf(path, sizeof path, "%s/run/features/round-0002/rank-%u", dir, rank);
    assert_int_equal(feature_store_create(path, &info, &s, NULL), 0);
    for (uint64_t i = info.first; i < info.first + info.rows; i++) {
        const float x[3] = {(float)(i % 4), (float)(i % 2), (float)i / 100 + shift};
        assert_int_equal(feature_store_put(s, 0, i, x, NULL), 0);
        assert_int_equal(feature_store_put(s, 1, i, x, NULL), 0);
    }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
    return hash;
}

/* A clusterer in a new directory, whose name replaces the Xs of `dir`. */
static struct clusterer *open_clusterer(char *dir)
{
    char set[2][128];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(setenv("RUNTIME_DIRECTORY", dir, 1), 0);
    make_manifest(dir);
    snprintf(set[0], sizeof set[0], "run.dir=%s/run", dir);
    snprintf(set[1], sizeof set[1], "data.manifest=%s/m.lmdb", dir);
    const char *const sets[] = {set[0], set[1], "cluster.k=4", "cluster.interval_s=0.05"};
    struct conf conf;
    struct err e = {0};
    struct clusterer *c = calloc(1, sizeof *c);
    assert_int_equal(conf_load(NULL, sets, 4, NULL, NULL, &conf, &e), 0);
    if (clusterer_open(c, &conf, NULL, &e))
        fail_msg("%s", e.msg);
    return c;
}

/* The dump that the table of round 2 was made of. */
static uint64_t features_of_table(const char *dir)
{
    struct label_table *table;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/run/labels/round-0002.xdcl", dir);
    assert_int_equal(label_table_open(path, &table, NULL), 0);
    uint64_t features = label_table_info(table)->features;
    label_table_close(table);
    return features;
}

static void open_trainer_end(struct trainer_end *t)
{
    struct wire_options f = {.kind = WIRE_ROUTER, .on_message = on_features, .arg = t};
    struct wire_options l = {.kind = WIRE_DEALER, .id = "trainer-0", .on_message = on_labels, .arg = t};
    struct clusterer *c = t->clusterer;
    char endpoint[CONF_STRING_MAX];
    assert_int_equal(wire_context_create(&t->wires, NULL), 0);
    assert_int_equal(wire_open(t->wires, &c->loop, &f, &t->features, NULL), 0);
    assert_int_equal(wire_open(t->wires, &c->loop, &l, &t->labels, NULL), 0);
    assert_int_equal(daemon_endpoint(&c->conf, "features", 0, endpoint, NULL), 0);
    assert_int_equal(wire_bind(t->features, endpoint, NULL), 0);
    assert_int_equal(daemon_endpoint(&c->conf, "labels", 0, endpoint, NULL), 0);
    assert_int_equal(wire_connect(t->labels, endpoint, NULL), 0);
    uv_timer_init(&c->loop, &t->give_up);
    t->give_up.data = t;
    uv_timer_start(&t->give_up, on_give_up, 60000, 0);
}

/* A sealed dump becomes a table, told unasked to who asked for it; strangers are refused, unknown dumps named
 * unknown, and the end of the run ends the clusterer with every handle closed. */
static void serves_a_run(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_clusterer.XXXXXX", path[PATH_MAX];
    struct err e = {0};
    struct clusterer *c = open_clusterer(dir);
    struct trainer_end t = {.clusterer = c};
    t.hash = make_shard(dir, c, 0, 1, 0);
    open_trainer_end(&t);
    assert_int_equal(clusterer_run(c, &e), 0);
    assert_false(t.gave_up);
    assert_true(t.greeted && t.ready && t.unknown && t.refused);
    json_t *j = clusterer_status(c);
    assert_string_equal(json_string_value(json_object_get(j, "state")), "idle");
    assert_int_equal(json_integer_value(json_object_get(j, "tables")), 1);
    assert_non_null(json_object_get(json_object_get(j, "last"), "sources"));
    assert_null(clusterer_unhealthy(c));
    json_decref(j);
    assert_true(features_of_table(dir) == t.hash);
    struct label_table *table;
    snprintf(path, sizeof path, "%s/run/labels/round-0002.xdcl", dir);
    assert_int_equal(label_table_open(path, &table, NULL), 0);
    assert_true(label_table_info(table)->hash == t.table);
    label_table_close(table);
    wire_close(t.features);
    wire_close(t.labels);
    uv_close((uv_handle_t *)&t.give_up, NULL);
    clusterer_close(c);
    wire_context_destroy(t.wires);
    free(c);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

/* Two trainers that seal their shards one after the other, and one of them once more. */
struct shards {
    struct clusterer *clusterer;
    const char *dir;
    uv_timer_t timer;
    int stage, looks;
    bool gave_up;
    uint64_t hash[2];
};

static bool is_in(const struct shards *t, enum round_state state)
{
    const struct round_entry *entry = rounds_find(&t->clusterer->rounds, 2);
    return entry && entry->state == state;
}

static void seal_second(struct shards *t, float shift)
{
    t->hash[1] = make_shard(t->dir, t->clusterer, 1, 2, shift);
}

/* Every 20 ms; each stage waits for what the clusterer makes of the one before. */
static void on_shards(uv_timer_t *timer)
{
    struct shards *t = timer->data;
    char from[PATH_MAX], to[PATH_MAX];
    bool half = t->stage == 0 || t->stage == 2;
    if (++t->looks > 3000) {
        t->gave_up = true;
        clusterer_stop(t->clusterer);
        return;
    }
    assert_null(clusterer_unhealthy(t->clusterer));
    if (half && (!is_in(t, ROUND_WAITING) || t->looks < 20)) /* for several looks of the clusterer */
        return;
    if (!half && (!is_in(t, ROUND_READY) || features_of_table(t->dir) != feature_dump_hash(t->hash, 2)))
        return;
    t->looks = 0;
    switch (t->stage++) {
    case 0:
        assert_int_equal(t->clusterer->tables, 0);
        seal_second(t, 0);
        break;
    case 1: /* aside, so that the next one is another directory for sure */
        assert_int_equal(t->clusterer->tables, 1);
        snprintf(from, sizeof from, "%s/run/features/round-0002/rank-1", t->dir);
        snprintf(to, sizeof to, "%s/aside", t->dir);
        assert_int_equal(rename(from, to), 0);
        break;
    case 2:
        seal_second(t, 0.5f);
        break;
    case 3:
        assert_int_equal(t->clusterer->tables, 2);
        snprintf(from, sizeof from, "%s/run/features/round-0002/rank-1", t->dir);
        snprintf(to, sizeof to, "%s/aside-too", t->dir);
        assert_int_equal(rename(from, to), 0);
        seal_second(t, 0.25f);
        break;
    default:
        assert_int_equal(t->clusterer->tables, 3);
        clusterer_stop(t->clusterer);
    }
}

/* A round of which a shard is missing is not there yet, which is no failure; the last shard makes it a dump,
 * and a shard made anew another one, with a table of its own. */
static void waits_for_all_shards(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_clusterer.XXXXXX";
    struct err e = {0};
    struct clusterer *c = open_clusterer(dir);
    struct shards t = {.clusterer = c, .dir = dir};
    t.hash[0] = make_shard(dir, c, 0, 2, 0);
    uv_timer_init(&c->loop, &t.timer);
    t.timer.data = &t;
    uv_timer_start(&t.timer, on_shards, 20, 20);
    assert_int_equal(clusterer_run(c, &e), 0);
    assert_false(t.gave_up);
    assert_int_equal(t.stage, 5);
    uv_close((uv_handle_t *)&t.timer, NULL);
    clusterer_close(c);
    free(c);
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(serves_a_run),
                                       cmocka_unit_test(waits_for_all_shards)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
