/* after_dump CONFIG ROUND RANK: a trainer's rank that has just sealed its shard of a round and waits for the
 * labels: the service's own ends of the edges features and labels, without network and batches. Prints the
 * table's hash when it has it in its run's directory, then serves on until it is ended, so that others of its
 * group get theirs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/feature_dump.h"
#include "lib/log.h"
#include "services/trainer/trainer.h"

struct waiting {
    struct trainer *t;
    uint32_t round;
    uint64_t features;
};

static void pump(struct trainer *t)
{
    labels_in_pump(&t->labels);
    features_out_pump(&t->features);
}

static void on_wake(uv_async_t *a)
{
    pump(a->data);
}

static void on_tick(uv_timer_t *timer)
{
    pump(timer->data);
}

static void *wait_for_labels(void *arg)
{
    struct waiting *w = arg;
    struct label_table *table;
    struct err e = {0};
    if (labels_in_wait(&w->t->labels, w->round, w->features, &table, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        _exit(1);
    }
    printf("%016llx\n", (unsigned long long)label_table_info(table)->hash);
    fflush(stdout);
    label_table_close(table);
    return NULL;
}

/* The hash of the dump: all ranks' shards are in the run's directory. */
static int dump_hash(const struct trainer *t, uint32_t round, uint64_t *out, struct err *e)
{
    char path[PATH_MAX];
    struct feature_dump *d;
    snprintf(path, sizeof path, "%.2000s/features/round-%04u", t->conf.run.dir, round);
    int rc = feature_dump_open(path, &d, e);
    if (rc < 0)
        return rc;
    *out = feature_dump_info(d)->hash;
    feature_dump_close(d);
    return 0;
}

static int open_trainer(struct trainer *t, char **argv, struct waiting *w, struct err *e)
{
    int rc = conf_load(argv[1], NULL, 0, NULL, NULL, &t->conf, e);
    if (rc == 0)
        rc = manifest_open(t->conf.data.manifest, &t->manifest, e);
    if (rc < 0)
        return rc;
    t->meet.rank = (uint32_t)atoi(argv[3]);
    t->meet.world = (uint32_t)t->conf.run.ranks;
    t->incarnation = (uint64_t)getpid();
    t->manifest_id = manifest_identity(t->manifest);
    t->run = conf_identity(&t->conf, t->manifest_id);
    t->set = (struct clip_set){.videos = manifest_count(t->manifest),
                               .clips_per_video = (uint32_t)t->conf.data.clips_per_video};
    w->t = t;
    w->round = (uint32_t)atoi(argv[2]);
    rc = dump_hash(t, w->round, &w->features, e);
    uv_loop_init(&t->loop);
    uv_async_init(&t->loop, &t->wake, on_wake);
    uv_timer_init(&t->loop, &t->tick);
    t->wake.data = t->tick.data = t;
    if (rc == 0)
        rc = wire_context_create(&t->wires, e);
    if (rc == 0)
        rc = features_out_open(&t->features, t, e);
    return rc == 0 ? labels_in_open(&t->labels, t, e) : rc;
}

int main(int argc, char **argv)
{
    struct trainer *t = calloc(1, sizeof *t);
    struct waiting w;
    struct err e = {0};
    pthread_t thread;
    if (argc != 4 || !t)
        return 64;
    log_init("after_dump", LOG_LEVEL_DEBUG);
    if (open_trainer(t, argv, &w, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    uv_timer_start(&t->tick, on_tick, 250, 250);
    features_out_sealed(&t->features, w.round, w.features);
    if (pthread_create(&thread, NULL, wait_for_labels, &w) != 0)
        return 71;
    uv_run(&t->loop, UV_RUN_DEFAULT);
    return 0;
}
