/* clusterer_run: the whole clusterer on the dump of one round of a fixture of jobs.h, until it has a table or
 * has failed. A failure to start fails the test. */
#pragma once
#include "services/clusterer/clusterer.h"
#include "tests/unit/clusterer/jobs.h"

struct outcome {
    struct clusterer *clusterer;
    uv_timer_t timer;
    uint32_t round;
    int looks;
    bool failed;
    uint64_t tables;
    int code;
    char detail[512];
};

static inline void on_look(uv_timer_t *timer)
{
    struct outcome *o = timer->data;
    const struct round_entry *entry = rounds_find(&o->clusterer->rounds, o->round);
    if (entry && entry->state == ROUND_FAILED && entry->detail[0]) {
        o->failed = true;
        o->code = entry->code;
        memcpy(o->detail, entry->detail, sizeof o->detail);
    }
    if (o->failed || (entry && entry->state == ROUND_READY) || ++o->looks > 3000)
        clusterer_stop(o->clusterer);
}

static inline void run_daemon(struct fixture *f, uint32_t round, struct outcome *out)
{
    struct err e = {0};
    *out = (struct outcome){.clusterer = calloc(1, sizeof(struct clusterer)), .round = round};
    assert_int_equal(setenv("RUNTIME_DIRECTORY", f->dir, 1), 0);
    f->conf.cluster.interval_s = 0.05;
    if (clusterer_open(out->clusterer, &f->conf, NULL, &e))
        fail_msg("%s", e.msg);
    uv_timer_init(&out->clusterer->loop, &out->timer);
    out->timer.data = out;
    uv_timer_start(&out->timer, on_look, 20, 20);
    assert_int_equal(clusterer_run(out->clusterer, &e), 0);
    out->tables = out->clusterer->tables;
    uv_close((uv_handle_t *)&out->timer, NULL);
    clusterer_close(out->clusterer);
    free(out->clusterer);
}
