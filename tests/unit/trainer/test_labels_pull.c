/* labels_in: a table that is not in the run's directory is pulled from the clusterer, played here on a real
 * socket: what comes altered, cut, of another table or not at all is asked for again, and only the announced
 * table gets its name. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/trainer/labels_in.h"
#include "services/trainer/trainer.h"

enum { CLIPS = 2500000, ROUND = 1, K = 300 }; /* 10 MB: more than a window of pieces */

enum fault { HONEST, ALTERED, CUT, OTHER_TABLE, OTHER_OFFSET, NO_BYTES, NOT_THERE, LOST, OTHER_FILE };

struct place {
    struct trainer t;
    char dir[64], table[128]; /* table: where the clusterer has it */
    uint64_t hash;
    struct wire *wire; /* the clusterer's end */
    enum fault fault;
    unsigned faults, queries, requests;
    int result;
    struct err err;
};

static const struct label_info right = {.run = 0x11,
                                        .manifest = 0x22,
                                        .features = 0x33,
                                        .clips = CLIPS,
                                        .round = ROUND,
                                        .sources = 2,
                                        .source = {{"video", K}, {"audio", K}}};

static void answer_query(struct place *p, const struct wire_peer *from)
{
    Xdc__LabelNotice m = XDC__LABEL_NOTICE__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    p->queries++;
    m.round = ROUND;
    m.features = right.features;
    m.state = XDC__LABEL_NOTICE__STATE__READY;
    m.table = p->hash;
    m.detail = (char *)"";
    env.run = p->t.run;
    env.body_case = XDC__ENVELOPE__BODY_LABEL_NOTICE;
    env.label_notice = &m;
    assert_int_equal(wire_send(p->wire, from, &env, NULL, 0), 0);
}

static void send_piece(struct place *p, const struct wire_peer *from, uint64_t offset)
{
    static uint8_t piece[FILE_PIECE_BYTES];
    Xdc__TableBlock m = XDC__TABLE_BLOCK__INIT;
    Xdc__Envelope env = XDC__ENVELOPE__INIT;
    struct wire_part part = {.data = piece};
    enum fault fault = p->faults ? p->fault : HONEST;
    assert_int_equal(file_piece_read(p->table, offset, piece, &part.size, &m.size, NULL), 0);
    if (part.size == 0)
        return;
    p->faults -= fault != HONEST;
    piece[part.size / 2] ^= fault == ALTERED;
    part.size -= fault == CUT;
    m.size = fault == NOT_THERE ? 0 : fault == OTHER_FILE ? m.size + 9 : m.size;
    m.round = ROUND;
    m.table = p->hash + (fault == OTHER_TABLE);
    m.offset = offset + (fault == OTHER_OFFSET);
    env.run = p->t.run;
    env.body_case = XDC__ENVELOPE__BODY_TABLE_BLOCK;
    env.table_block = &m;
    if (fault != LOST)
        assert_int_equal(
            wire_send(p->wire, from, &env, &part, fault == NO_BYTES || fault == NOT_THERE ? 0 : 1), 0);
}

static void on_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                       const struct wire_frame *raw, size_t n_raw)
{
    struct place *p = arg;
    (void)raw;
    assert_int_equal(n_raw, 0);
    if (env->body_case == XDC__ENVELOPE__BODY_LABEL_QUERY) {
        answer_query(p, from);
        return;
    }
    assert_int_equal(env->body_case, XDC__ENVELOPE__BODY_TABLE_REQUEST);
    const Xdc__TableRequest *r = env->table_request;
    assert_true(r->round == ROUND && r->features == right.features && r->table == p->hash);
    assert_in_range(r->count, 1, FILE_WINDOW);
    p->requests++;
    for (uint32_t i = 0; i < r->count; i++)
        send_piece(p, from, r->offset + i * FILE_PIECE_BYTES);
}

static void on_wake(uv_async_t *a)
{
    struct place *p = a->data;
    if (atomic_load(&p->t.finished))
        uv_stop(&p->t.loop);
    else
        labels_in_pump(&p->t.labels);
}

static void on_tick(uv_timer_t *timer)
{
    struct place *p = timer->data;
    labels_in_pump(&p->t.labels);
}

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    struct wire_options o = {.kind = WIRE_ROUTER, .on_message = on_message, .arg = p};
    struct trainer *t = &p->t;
    uint32_t *labels = malloc(CLIPS * sizeof *labels);
    strcpy(p->dir, "/tmp/xdc-test-labels-pull-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(t->conf.run.dir, sizeof t->conf.run.dir, "%s/run", p->dir);
    snprintf(t->conf.endpoints.labels, sizeof t->conf.endpoints.labels, "ipc://%s/labels.sock", p->dir);
    snprintf(p->table, sizeof p->table, "%s/table", p->dir);
    t->run = right.run;
    t->manifest_id = right.manifest;
    t->conf.cluster.k = K;
    t->set = (struct clip_set){.videos = CLIPS, .clips_per_video = 1};
    for (uint32_t i = 0; i < CLIPS; i++)
        labels[i] = i * 2654435761u % K;
    assert_int_equal(
        label_table_write(p->table, &right, (const uint32_t *const[]){labels, labels}, "{}", &p->hash, NULL),
        0);
    free(labels);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    uv_async_init(&t->loop, &t->wake, on_wake);
    uv_timer_init(&t->loop, &t->tick);
    t->wake.data = t->tick.data = p;
    assert_int_equal(wire_context_create(&t->wires, NULL), 0);
    assert_int_equal(wire_open(t->wires, &t->loop, &o, &p->wire, NULL), 0);
    assert_int_equal(wire_bind(p->wire, t->conf.endpoints.labels, NULL), 0);
    assert_int_equal(labels_in_open(&t->labels, t, NULL), 0);
    uv_timer_start(&t->tick, on_tick, 50, 50);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    labels_in_close(&p->t.labels);
    wire_close(p->wire);
    uv_close((uv_handle_t *)&p->t.wake, NULL);
    uv_close((uv_handle_t *)&p->t.tick, NULL);
    uv_run(&p->t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&p->t.loop), 0);
    wire_context_destroy(p->t.wires);
    int rc = fs_remove_tree(p->dir, NULL);
    free(p);
    return rc;
}

static void *training_thread(void *arg)
{
    struct place *p = arg;
    struct label_table *table = NULL;
    p->result = labels_in_wait(&p->t.labels, ROUND, right.features, &table, &p->err);
    if (p->result == 0 && label_table_info(table)->hash != p->hash)
        p->result = XDC_EMISMATCH;
    label_table_close(table);
    atomic_store(&p->t.finished, true);
    uv_async_send(&p->t.wake);
    return NULL;
}

static int wait_for_table(struct place *p)
{
    pthread_t thread;
    p->queries = p->requests = 0;
    atomic_store(&p->t.finished, false);
    assert_int_equal(pthread_create(&thread, NULL, training_thread, p), 0);
    uv_run(&p->t.loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    return p->result;
}

static void check_labels(const struct place *p, bool there)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/labels/round-0001.xdcl", p->t.conf.run.dir);
    assert_int_equal(access(path, F_OK) == 0, there);
    snprintf(path, sizeof path, "%s/labels", p->t.conf.run.dir);
    assert_int_equal(fs_remove_tree(path, NULL), 0);
}

/* Whatever goes wrong once, the table comes whole; an honest clusterer is asked for each window once. */
static void the_table_comes(void **state)
{
    static const struct {
        enum fault fault;
        unsigned requests, queries; /* at least */
    } cases[] = {{HONEST, 2, 1},   {ALTERED, 4, 1},   {CUT, 3, 1},  {OTHER_TABLE, 3, 1}, {OTHER_OFFSET, 3, 1},
                 {NO_BYTES, 3, 1}, {NOT_THERE, 3, 2}, {LOST, 3, 1}, {OTHER_FILE, 2, 1}};
    struct place *p = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p->fault = cases[i].fault;
        p->faults = cases[i].fault == HONEST ? 0 : 1;
        if (wait_for_table(p) < 0)
            fail_msg("fault %d: %s", (int)p->fault, p->err.msg);
        assert_int_equal(p->faults, 0);
        if (p->requests < cases[i].requests || p->queries < cases[i].queries)
            fail_msg("fault %d: %u requests, %u queries", (int)p->fault, p->requests, p->queries);
        if (p->fault == HONEST)
            assert_int_equal(p->requests, 2);
        check_labels(p, true);
    }
}

/* A table that is always altered is pulled a few times, refused by name, and never gets its name. */
static void a_wrong_table_is_refused(void **state)
{
    struct place *p = *state;
    p->fault = ALTERED;
    p->faults = UINT32_MAX;
    assert_int_equal(wait_for_table(p), XDC_EFORMAT);
    assert_non_null(strstr(p->err.msg, "not the one that was announced"));
    assert_int_equal(p->requests, 2 * LABELS_PULL_TRIES);
    check_labels(p, false);
}

/* What came before a trainer was killed is not asked for again. */
static void goes_on_behind_what_is_there(void **state)
{
    struct place *p = *state;
    char path[PATH_MAX], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/labels", p->t.conf.run.dir);
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    assert_int_equal(fs_read(p->table, 100 << 20, &data, &size, NULL), 0);
    snprintf(path, sizeof path, "%s/labels/round-0001.%016llx.rank-0.part", p->t.conf.run.dir,
             (unsigned long long)p->hash);
    assert_int_equal(fs_write_atomic(path, data, 3 * FILE_PIECE_BYTES, NULL), 0);
    free(data);
    if (wait_for_table(p) < 0)
        fail_msg("%s", p->err.msg);
    assert_int_equal(p->requests, 1);
    check_labels(p, true);
}

#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_table_comes),
        CASE(a_wrong_table_is_refused),
        CASE(goes_on_behind_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
