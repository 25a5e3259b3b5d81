#include "services/trainer/train_dump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lib/half.h"
#include "lib/log.h"
#include "services/trainer/trainer.h"

#define RETRY_S 2.0
#define SLOW_S 5.0 /* of waiting for the disk, from which on it is said */

/* On the writer's thread, or before there is one on the training thread. */
static void on_pause(void *arg, const char *why)
{
    struct train_loop *l = arg;
    struct trainer_shared *s = &l->t->shared;
    if (why)
        log_warn("paused until there is room: %s", why);
    else
        log_info("there is room again: the extraction goes on");
    pthread_mutex_lock(&s->lock);
    snprintf(s->paused, sizeof s->paused, "%.*s", (int)sizeof s->paused - 1, why ? why : "");
    pthread_mutex_unlock(&s->lock);
}

/* False when it is to stop. */
static bool sleep_s(const struct trainer *t, double seconds)
{
    const struct timespec step = {.tv_nsec = 100000000};
    for (double until_s = progress_now_s() + seconds; progress_now_s() < until_s; nanosleep(&step, NULL))
        if (atomic_load(&t->stop))
            return false;
    return true;
}

/* Begins or goes on, as soon as there is room for the whole. */
static int create(struct train_loop *l, uint64_t weights, uint64_t heads, const uint32_t dims[NET_ENCODERS],
                  struct feature_store **out, struct err *e)
{
    bool paused = false;
    int rc;
    while ((rc = features_out_create(l->t, l->state.round, weights, heads, dims, out, e)) == -ENOSPC) {
        if (!paused)
            on_pause(l, e->msg);
        paused = true;
        if (!sleep_s(l->t, RETRY_S)) {
            rc = err_set(e, XDC_ESTOPPED, "stopped");
            break;
        }
    }
    if (paused)
        on_pause(l, NULL);
    return rc;
}

static int take_notes(struct train_loop *l, const struct feature_store *store, struct err *e)
{
    const struct feature_note *notes;
    uint64_t n = feature_store_notes(store, &notes);
    for (uint64_t i = 0; i < n; i++)
        if (quarantine_add(&l->t->quarantine, notes[i].row, notes[i].reason) < 0)
            return err_sys(e, ENOMEM, "quarantine");
    return 0;
}

int train_dump_begin(struct train_dump *d, struct train_loop *l, uint64_t weights, uint64_t heads,
                     const uint32_t dims[NET_ENCODERS], struct err *e)
{
    struct feature_store *store = NULL;
    int rc = create(l, weights, heads, dims, &store, e);
    if (rc < 0)
        return rc;
    const struct feature_info *info = feature_store_info(store);
    *d = (struct train_dump){.l = l, .dtype = info->dtype, .encoders = info->encoders};
    memcpy(d->dims, dims, sizeof d->dims);
    uint64_t rows = 0;
    for (uint32_t i = 0; i < info->encoders; i++) {
        d->missing[i] = feature_store_missing(store, i);
        d->there[i] = info->encoder[i].valid;
        rows += d->there[i];
    }
    if (rows > 0)
        log_info("round %u: goes on with an unsealed dump: %llu features of clips are there", l->state.round,
                 (unsigned long long)rows);
    rc = take_notes(l, store, e);
    if (rc < 0) {
        feature_store_close(store);
        return rc;
    }
    const struct dump_writer_options o = {.queue_bytes = DUMP_WRITER_QUEUE_BYTES,
                                          .retry_s = RETRY_S,
                                          .stop = &l->t->stop,
                                          .on_pause = on_pause,
                                          .arg = l};
    return dump_writer_start(store, &o, &d->writer, e);
}

/* Of the encoders of a pass, the first of which is `first`, the one that the dump has least of. */
static uint32_t least_missing(const struct train_dump *d, uint32_t first)
{
    const struct trainer *t = d->l->t;
    uint32_t least = trainer_wants(t, NET_VIDEO) ? first + NET_VIDEO : first + NET_AUDIO;
    for (uint32_t enc = 0; enc < NET_ENCODERS; enc++)
        if (trainer_wants(t, (enum net_encoder)enc) && d->missing[first + enc] < d->missing[least])
            least = first + enc;
    return least;
}

void train_dump_enter(struct train_dump *d, uint32_t pass)
{
    uint32_t least = least_missing(d, NET_ENCODERS * pass);
    d->from = d->missing[least];
    d->kept = d->there[least];
}

int train_dump_note(struct train_dump *d, const struct batch_stream *s, uint32_t n, struct err *e)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        if (s->slots[i].disposition == LEDGER_QUARANTINED && s->slots[i].reason)
            rc = dump_writer_note(d->writer, s->slots[i].clip, s->slots[i].reason, e);
    return rc;
}

int train_dump_put(struct train_dump *d, uint32_t encoder, uint64_t clip, const float *row, struct err *e)
{
    int rc = dump_writer_put(d->writer, encoder, clip, row, e);
    double waited_s = dump_writer_waited_s(d->writer);
    if (rc < 0 || d->slow || waited_s < SLOW_S)
        return rc;
    d->slow = true;
    return train_warn(d->l, WARNING_SLOW_DISK, "dump", "features", waited_s, e,
                      "the extraction has waited %.0f s for the disk of %s: it is what limits the run",
                      waited_s, d->l->t->conf.run.dir);
}

int train_dump_seal(struct train_dump *d, uint64_t *out_hash, struct err *e)
{
    return dump_writer_seal(d->writer, out_hash, e);
}

static float as_stored(enum feature_dtype dtype, float value)
{
    uint16_t half;
    if (dtype == FEATURE_F32)
        return value;
    if (dtype == FEATURE_F16)
        half_from_float(&value, &half, 1);
    else
        bfloat_from_float(&value, &half, 1);
    feature_values_to_float(dtype, &half, &value, 1);
    return value;
}

/* What is in the dump is rounded: a dimension that is constant in it and here is so in both. */
static void add_range(const struct train_dump *d, const struct health_range *kept, struct health_range *r)
{
    for (uint32_t i = 0; i < r->dim; i++) {
        bool same = r->rows && as_stored(d->dtype, r->least[i]) == kept->least[i] &&
                    as_stored(d->dtype, r->greatest[i]) == kept->greatest[i];
        if (same)
            continue;
        if (!r->rows || kept->least[i] < r->least[i])
            r->least[i] = kept->least[i];
        if (!r->rows || kept->greatest[i] > r->greatest[i])
            r->greatest[i] = kept->greatest[i];
    }
    r->rows += kept->rows;
}

/* Rows of a dump's encoder that were there. */
static int add_encoder(const struct train_dump *d, struct feature_store *s, uint32_t encoder, float *row,
                       struct health_range *kept, struct err *e)
{
    int rc = 0;
    uint32_t pair = encoder / NET_ENCODERS * NET_ENCODERS;
    uint64_t end = d->missing[least_missing(d, pair)]; /* those of the pass that were not computed again */
    for (uint64_t clip = feature_store_info(s)->first; rc == 0 && clip < end; clip++) {
        if (!feature_store_has(s, encoder, clip))
            continue;
        rc = feature_store_read(s, encoder, clip, 1, row, e);
        if (rc == 0)
            health_range_add(kept, row, 1);
    }
    return rc;
}

int train_dump_add_kept(const struct train_dump *d, enum net_encoder enc, struct health_range *r,
                        struct err *e)
{
    char dir[PATH_MAX];
    struct feature_store *s = NULL;
    struct health_range kept = {0};
    float *row = malloc(d->dims[enc] * sizeof *row);
    int rc = row ? health_range_init(&kept, d->dims[enc], e) : err_sys(e, ENOMEM, "a row of features");
    if (rc == 0)
        rc = features_out_dir(d->l->t, d->l->state.round, dir, e);
    if (rc == 0)
        rc = feature_store_open(dir, &s, e);
    for (uint32_t i = enc; rc == 0 && i < d->encoders; i += NET_ENCODERS)
        rc = add_encoder(d, s, i, row, &kept, e);
    if (rc == 0 && kept.rows > 0)
        add_range(d, &kept, r);
    feature_store_close(s);
    health_range_close(&kept);
    free(row);
    return rc;
}

void train_dump_close(struct train_dump *d)
{
    dump_writer_close(d->writer);
    d->writer = NULL;
}
