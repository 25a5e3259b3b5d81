/* features_pull: a clusterer with a directory of its own, on its loop, against a trainer's end that is played
 * on real sockets: what comes altered, cut, oversized, of another run, shard or encoder, or not at all is
 * refused or asked for again, and the table is the one that a clusterer in the run's directory makes. */
#include "jobs.h"
#include <xxhash.h>
#include "lib/file_pull.h"
#include "services/clusterer/clusterer.h"

enum fault {
    HONEST,
    ALTERED,       /* a byte, on its way */
    CUT,           /* a value less */
    LONG,          /* a value more */
    OTHER_RUN,     /* in the envelope */
    OTHER_SHARD,   /* the hash */
    OTHER_ENCODER, /* the video's block as the audio's */
    OTHER_BLOCK,   /* one that there is not */
    NO_BITMAP,     /* one raw frame instead of two */
    LOST,          /* nothing at all */
    REFUSED,       /* by name */
    SEALED_WRONG,  /* altered where it lies: the check of the block is right, the shard's hash is not */
    HEADS_ALTERED,
    BAD_NOTICE, /* a byte of the record */
};

struct end {
    struct fixture *f;
    struct clusterer *c;
    struct wire_context *wires;
    struct wire *wire;
    uv_timer_t timer;
    struct feature_store *origin;
    char dir[PATH_MAX]; /* of the shard */
    enum fault fault;
    unsigned faults; /* that are still to come */
    unsigned requests, pieces, looks;
    bool full;                    /* the disk, until the clusterer has said so */
    bool paused;                  /* it has waited */
    bool gave_up, failed, before; /* before: the run's directory has a table of the round before */
};

static const char heads[] = "the heads, as far as this test is concerned";

static void send_env(struct end *t, const struct wire_peer *to, Xdc__Envelope *env,
                     const struct wire_part *parts, size_t n)
{
    bool lie = t->faults && t->fault == OTHER_RUN && env->body_case != XDC__ENVELOPE__BODY_DUMP_SEALED;
    t->faults -= lie;
    env->run = t->c->run + lie;
    assert_int_equal(wire_send(t->wire, to, env, parts, n), 0);
}

static void send_notice(struct end *t, const struct wire_peer *to)
{
    Xdc__DumpSealed m = XDC__DUMP_SEALED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    const struct feature_info *info = feature_store_info(t->origin);
    struct feature_record record = *feature_store_record(t->origin);
    struct wire_part part = {.data = &record, .size = sizeof record};
    if (t->faults && t->fault == BAD_NOTICE) {
        record.encoder[0].name[3] ^= 1;
        t->faults--;
    }
    m.round = info->round;
    m.manifest = info->manifest;
    m.features = m.shard = info->hash;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_SEALED;
    env.dump_sealed = &m;
    send_env(t, to, &env, &part, 1);
}

static void send_refusal(struct end *t, const struct wire_peer *to, const Xdc__DumpRequest *r)
{
    Xdc__DumpRefused m = XDC__DUMP_REFUSED__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    m.round = r->round;
    m.shard = r->shard;
    m.reason = (char *)"there is none";
    env.body_case = XDC__ENVELOPE__BODY_DUMP_REFUSED;
    env.dump_refused = &m;
    send_env(t, to, &env, NULL, 0);
}

/* A block with what is to be wrong with it. */
static void send_block(struct end *t, const struct wire_peer *to, const Xdc__DumpRequest *r, uint64_t index)
{
    Xdc__DumpBlock m = XDC__DUMP_BLOCK__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    struct feature_raw b;
    enum fault fault = t->faults && t->fault != OTHER_RUN && t->fault != HEADS_ALTERED ? t->fault : HONEST;
    assert_int_equal(feature_raw_read(t->origin, r->encoder, index, &b, NULL), 0);
    uint8_t *values = calloc(1, b.size + 4);
    memcpy(values, b.values, b.size);
    t->faults -= fault != HONEST && fault != BAD_NOTICE;
    if (fault == SEALED_WRONG)
        values[5] ^= 1;
    b.values = values;
    b.size = fault == CUT ? b.size - 4 : fault == LONG ? b.size + 4 : b.size;
    m.round = r->round;
    m.shard = r->shard ^ (fault == OTHER_SHARD);
    m.encoder = r->encoder ^ (fault == OTHER_ENCODER);
    m.block = fault == OTHER_BLOCK ? UINT64_MAX : index;
    m.check = feature_raw_check(m.block, &b);
    if (fault == ALTERED)
        values[b.size / 2] ^= 1;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_BLOCK;
    env.dump_block = &m;
    struct wire_part parts[] = {{.data = b.present, .size = FEATURE_BITMAP_BYTES},
                                {.data = values, .size = b.size}};
    if (fault == NO_BITMAP)
        send_env(t, to, &env, parts + 1, 1);
    else if (fault == REFUSED)
        send_refusal(t, to, r);
    else if (fault != LOST)
        send_env(t, to, &env, parts, 2);
    free(values);
}

static void send_piece(struct end *t, const struct wire_peer *to, const Xdc__DumpRequest *r)
{
    static uint8_t piece[FILE_PIECE_BYTES];
    Xdc__DumpFile m = XDC__DUMP_FILE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    struct wire_part part = {.data = piece};
    char path[PATH_MAX + 32];
    if (r->part == XDC__DUMP_PART__DUMP_HEADS)
        snprintf(path, sizeof path, "%s/heads.safetensors", t->dir);
    else
        snprintf(path, sizeof path, "%s/run/labels/round-%04u.xdcl", t->f->dir, r->round - 1);
    int rc = file_piece_read(path, r->first, piece, &part.size, &m.size, NULL);
    assert_true(rc == 0 || (rc == -ENOENT && !t->before));
    if (t->faults && t->fault == HEADS_ALTERED && r->part == XDC__DUMP_PART__DUMP_HEADS) {
        piece[4] ^= 1;
        t->faults--;
    }
    t->pieces++;
    m.round = r->round;
    m.shard = r->shard;
    m.part = r->part;
    m.offset = r->first;
    env.body_case = XDC__ENVELOPE__BODY_DUMP_FILE;
    env.dump_file = &m;
    send_env(t, to, &env, &part, 1);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct end *t = arg;
    (void)raw;
    assert_int_equal(n_raw, 0);
    assert_true(env->run == t->c->run);
    if (env->body_case == XDC__ENVELOPE__BODY_FEATURES_HELLO) {
        assert_true(env->features_hello->pulls);
        send_notice(t, from);
        return;
    }
    assert_int_equal(env->body_case, XDC__ENVELOPE__BODY_DUMP_REQUEST);
    const Xdc__DumpRequest *r = env->dump_request;
    t->requests++;
    assert_true(r->round == 1 && r->shard == feature_store_info(t->origin)->hash && r->count > 0);
    if (r->part != XDC__DUMP_PART__DUMP_BLOCKS) {
        send_piece(t, from, r);
        return;
    }
    for (uint64_t b = r->first; b < r->first + r->count; b++)
        send_block(t, from, r, b);
}

/* Until there is a table, the replica is given up, or a minute has passed. */
static void on_timer(uv_timer_t *timer)
{
    struct end *t = timer->data;
    struct features_pull *p = &t->c->features.pull;
    if (t->full && p->state == PULL_PAUSED) {
        t->paused = strstr(p->said, "the replica of round 1, rank 0") && t->requests == 0;
        t->full = false;
        t->c->conf.limits.disk_reserve_mib = 0;
    }
    t->failed = features_pull_failed(p, 1) != NULL;
    t->gave_up = ++t->looks > 3000;
    if (t->c->tables || t->failed || t->gave_up)
        clusterer_stop(t->c);
}

/* The shard of round 1, with heads. */
static void seal_shard(struct end *t)
{
    struct feature_info info = {.manifest = t->f->manifest,
                                .run = conf_identity(&t->f->conf, t->f->manifest),
                                .heads = XXH3_64bits(heads, sizeof heads),
                                .rows = CLIPS,
                                .total = CLIPS,
                                .round = 1,
                                .ranks = 1,
                                .dtype = FEATURE_F32,
                                .encoders = 2,
                                .encoder = {{.name = "video", .dim = 8}, {.name = "audio", .dim = 5}}};
    struct feature_store *s;
    struct rng r;
    uint64_t hash;
    char path[PATH_MAX + 32], parent[PATH_MAX];
    dump_dir(t->f, 1, parent);
    assert_int_equal(fs_mkdirs(parent, NULL), 0);
    snprintf(t->dir, sizeof t->dir, "%s/run/features/round-0001/rank-0", t->f->dir);
    assert_int_equal(feature_store_create(t->dir, &info, &s, NULL), 0);
    rng_init(&r, 9);
    for (uint64_t i = 0; i < CLIPS; i++) {
        float x[8];
        for (unsigned j = 0; j < 8; j++)
            x[j] = (float)(rng_normal(&r) + (j == i / PER_VIDEO % CLASSES ? 10 : 0));
        assert_int_equal(feature_store_put(s, 0, i, x, NULL), 0);
        if (has_audio(i))
            assert_int_equal(feature_store_put(s, 1, i, x, NULL), 0);
    }
    assert_int_equal(feature_store_seal(s, &hash, NULL), 0);
    feature_store_close(s);
    snprintf(path, sizeof path, "%s/heads.safetensors", t->dir);
    assert_int_equal(fs_write_atomic(path, heads, sizeof heads, NULL), 0);
}

static uint64_t table_hash(const char *dir)
{
    char path[PATH_MAX];
    struct label_table *table;
    if (fs_path(path, NULL, "%s/labels/round-0001.xdcl", dir) < 0)
        return 0;
    if (label_table_open(path, &table, NULL) < 0)
        return 0;
    uint64_t hash = label_table_info(table)->hash;
    label_table_close(table);
    return hash;
}

static void open_end(struct end *t, struct fixture *f)
{
    struct conf conf = f->conf;
    struct wire_options o = {.kind = WIRE_ROUTER, .on_message = on_message, .arg = t};
    struct err e = {0};
    t->f = f;
    t->c = calloc(1, sizeof *t->c);
    assert_int_equal(setenv("RUNTIME_DIRECTORY", f->dir, 1), 0);
    snprintf(conf.cluster.dir, sizeof conf.cluster.dir, "%s/elsewhere", f->dir);
    snprintf(conf.endpoints.features, sizeof conf.endpoints.features, "ipc://%s/features.sock", f->dir);
    snprintf(conf.endpoints.labels, sizeof conf.endpoints.labels, "ipc://%s/labels.sock", f->dir);
    snprintf(conf.run.dir, sizeof conf.run.dir, "/nowhere/at/all");
    conf.cluster.interval_s = 0.05;
    conf.limits.disk_reserve_mib = t->full ? INT64_C(1) << 40 : 0;
    if (clusterer_open(t->c, &conf, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(feature_store_open(t->dir, &t->origin, NULL), 0);
    assert_int_equal(wire_context_create(&t->wires, NULL), 0);
    assert_int_equal(wire_open(t->wires, &t->c->loop, &o, &t->wire, NULL), 0);
    assert_int_equal(wire_bind(t->wire, conf.endpoints.features, NULL), 0);
    uv_timer_init(&t->c->loop, &t->timer);
    t->timer.data = t;
    uv_timer_start(&t->timer, on_timer, 20, 20);
}

/* The refused frames that the clusterer counted, its own socket's included. */
static uint64_t run_end(struct end *t)
{
    struct err e = {0};
    assert_int_equal(clusterer_run(t->c, &e), 0);
    assert_false(t->gave_up);
    uint64_t refused = t->c->features.pull.refused;
    uv_close((uv_handle_t *)&t->timer, NULL);
    wire_close(t->wire);
    clusterer_close(t->c);
    wire_context_destroy(t->wires);
    feature_store_close(t->origin);
    free(t->c);
    return refused;
}

static void remove_elsewhere(const struct fixture *f)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/elsewhere", f->dir);
    assert_int_equal(fs_remove_tree(path, NULL), 0);
}

static void make_local(struct end *t, bool before)
{
    struct cluster_job job;
    atomic_bool stop = false;
    if (before) {
        make_dump(t->f, &(struct dump){.round = 0});
        run_job(t->f, 0, &stop, &job);
        assert_int_equal(job.result, 0);
        cluster_job_close(&job);
    }
    seal_shard(t);
    run_job(t->f, 1, &stop, &job);
    if (job.result)
        fail_msg("%s", job.err.msg);
    cluster_job_close(&job);
}

/* Whatever comes wrong once or twice is refused and asked for again; the replica has the heads, and the table
 * is that of the run's own directory. */
static void gets_there_in_the_end(void **state)
{
    static const struct {
        enum fault fault;
        unsigned faults, refused; /* at least so many */
    } cases[] = {
        {HONEST, 0, 0},        {ALTERED, 2, 2},     {CUT, 1, 1},           {LONG, 1, 1},
        {OTHER_RUN, 2, 2},     {OTHER_SHARD, 1, 1}, {OTHER_ENCODER, 1, 1}, {OTHER_BLOCK, 1, 1},
        {NO_BITMAP, 1, 1},     {LOST, 1, 0},        {REFUSED, 1, 0},       {SEALED_WRONG, 1, 0},
        {HEADS_ALTERED, 1, 0}, {BAD_NOTICE, 1, 1},
    };
    struct end t = {.f = *state};
    struct fixture *f = *state;
    char path[PATH_MAX], run[PATH_MAX], *data;
    size_t size;
    make_local(&t, false);
    snprintf(run, sizeof run, "%s/run", f->dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        t = (struct end){.fault = cases[i].fault, .faults = cases[i].faults};
        snprintf(t.dir, sizeof t.dir, "%s/run/features/round-0001/rank-0", f->dir);
        open_end(&t, f);
        uint64_t refused = run_end(&t);
        if (t.failed || refused < cases[i].refused || t.faults)
            fail_msg("fault %d: refused %llu, %u faults left", (int)t.fault, (unsigned long long)refused,
                     t.faults);
        snprintf(path, sizeof path, "%s/elsewhere", f->dir);
        assert_true(table_hash(path) == table_hash(run));
        snprintf(path, sizeof path, "%s/elsewhere/features/round-0001/rank-0/heads.safetensors", f->dir);
        assert_int_equal(fs_read(path, 1000, &data, &size, NULL), 0);
        assert_true(size == sizeof heads && memcmp(data, heads, size) == 0);
        free(data);
        remove_elsewhere(f);
    }
}

/* The table of the round before comes too, since the numbers of labels follow it. */
static void pulls_the_table_before(void **state)
{
    struct end t = {.f = *state, .before = true};
    struct fixture *f = *state;
    char run[PATH_MAX], path[PATH_MAX];
    make_local(&t, true);
    snprintf(run, sizeof run, "%s/run", f->dir);
    snprintf(path, sizeof path, "%s/elsewhere", f->dir);
    open_end(&t, f);
    run_end(&t);
    assert_int_equal(t.pieces, 2);
    assert_true(table_hash(path) == table_hash(run));
}

/* Heads that an unfinished replica of another shard has left are not gone on with. */
static void stale_heads_go(void **state)
{
    struct end t = {.f = *state};
    struct fixture *f = *state;
    char stale[PATH_MAX], path[PATH_MAX + 32];
    make_local(&t, false);
    snprintf(stale, sizeof stale, "%s/elsewhere/features/round-0001/rank-0.tmp", f->dir);
    assert_int_equal(fs_mkdirs(stale, NULL), 0);
    snprintf(path, sizeof path, "%s/heads.part", stale);
    assert_int_equal(fs_write_atomic(path, "other", 5, NULL), 0);
    open_end(&t, f);
    assert_int_equal(run_end(&t), 0);
    assert_int_equal(t.pieces, 2); /* the table, of which there is none, and the heads: once */
}

/* A shard that is always other than its record is pulled a few times and given up; it never gets its name. */
static void gives_up_what_is_always_wrong(void **state)
{
    struct end t = {.f = *state};
    struct fixture *f = *state;
    char path[PATH_MAX];
    make_local(&t, false);
    t.fault = SEALED_WRONG;
    t.faults = UINT32_MAX;
    open_end(&t, f);
    run_end(&t);
    assert_true(t.failed);
    assert_in_range(UINT32_MAX - t.faults, FEATURES_PULL_TRIES, 8 * FEATURES_PULL_TRIES);
    snprintf(path, sizeof path, "%s/elsewhere/features/round-0001/rank-0", f->dir);
    assert_int_equal(access(path, F_OK), -1);
}

/* No replica is begun below the reserve; when there is room again it is pulled. */
static void waits_for_room(void **state)
{
    struct end t = {.f = *state, .full = true};
    make_local(&t, false);
    open_end(&t, *state);
    run_end(&t);
    assert_true(t.paused && !t.failed);
}

/* Replicas of the newest two rounds stay. */
static void old_replicas_go(void **state)
{
    struct fixture *f = *state;
    struct clusterer *c = calloc(1, sizeof *c);
    char path[PATH_MAX];
    memcpy(c->conf.run.dir, f->dir, sizeof f->dir);
    features_pull_init(&c->features.pull, c, 1);
    for (unsigned r = 0; r < 5; r++) {
        snprintf(path, sizeof path, "%s/features/round-%04u/rank-0", f->dir, r);
        assert_int_equal(fs_mkdirs(path, NULL), 0);
        features_pull_clean(&c->features.pull, r);
        for (unsigned there = 0; there <= r; there++) {
            snprintf(path, sizeof path, "%s/features/round-%04u", f->dir, there);
            assert_int_equal(access(path, F_OK) == 0, there + 2 > r);
        }
    }
    free(c);
}

/* A directory of its own without endpoints is a fault of the configuration. */
static void needs_endpoints(void **state)
{
    struct fixture *f = *state;
    struct conf conf = f->conf;
    struct clusterer *c = calloc(1, sizeof *c);
    struct err e = {0};
    snprintf(conf.cluster.dir, sizeof conf.cluster.dir, "%s/elsewhere", f->dir);
    assert_int_equal(clusterer_open(c, &conf, NULL, &e), XDC_ECONF);
    assert_non_null(strstr(e.msg, "endpoints.features"));
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(gets_there_in_the_end), CASE(pulls_the_table_before),
        CASE(stale_heads_go),        CASE(gives_up_what_is_always_wrong),
        CASE(waits_for_room),        CASE(old_replicas_go),
        CASE(needs_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
