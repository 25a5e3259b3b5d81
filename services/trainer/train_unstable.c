/* What is done when a step cannot be made: the batch goes on the list, training goes back to the newest
 * checkpoint, and passes the batch over when it comes to it again. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

#define NAMED 4 /* clips in the log; the event has them all */

static struct unstable_place place_of(const struct train_loop *l)
{
    return (struct unstable_place){l->state.round, l->state.epoch, l->state.batch};
}

int train_unstable_open(struct train_loop *l, struct err *e)
{
    int rc = unstable_open(&l->unstable, l->t->conf.run.dir, e);
    return rc == 0 ? train_unstable_limit(l, e) : rc;
}

int train_unstable_limit(const struct train_loop *l, struct err *e)
{
    const struct conf *c = &l->t->conf;
    if (l->unstable.n <= (size_t)c->limits.max_rollbacks)
        return 0;
    return err_set(
        e, XDC_EUNSTABLE,
        "training is unstable: %zu batches gave a loss or gradient that is not finite, more than "
        "limits.max_rollbacks = %" PRId64 " allows; %.256s names them. Lower train.lr (now %g), bound the "
        "gradient by train.clip_norm (now %g%s) or begin more slowly with train.warmup_epochs (now %g), in "
        "another run.dir, since these are part of a run's identity; a higher limits.max_rollbacks goes on "
        "with this run",
        l->unstable.n, c->limits.max_rollbacks, l->unstable.path, c->train.lr, c->train.clip_norm,
        c->train.clip_norm > 0 ? "" : ": not bounded", c->train.warmup_epochs);
}

bool train_unstable_passes(const struct train_loop *l)
{
    struct unstable_place place = place_of(l);
    if (!unstable_has(&l->unstable, &place))
        return false;
    log_warn("round %u epoch %u: batch %" PRIu64 " is passed over: no step could be made on it before",
             place.round, place.epoch, place.batch);
    return true;
}

/* A uri as JSON can hold it: bytes that are no UTF-8 as question marks. */
static json_t *uri_json(char *uri)
{
    json_t *j = json_string(uri);
    for (char *p = uri; !j && *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return j ? j : json_string(uri);
}

/* The clips that the encoder was trained on, on all ranks: malloc'd, `rows` of each rank, UINT64_MAX for
 * none.
 */
static int list_clips(struct train_loop *l, const struct batch *b, uint32_t stream, size_t rows,
                      uint64_t **out, struct err *e)
{
    uint64_t *mine = malloc(rows * sizeof *mine);
    *out = malloc(l->t->meet.world * rows * sizeof **out);
    int rc = mine && *out ? 0 : err_sys(e, ENOMEM, "names of clips");
    for (uint32_t row = 0; rc == 0 && row < rows; row++) {
        const struct batch_slot *slot = &b->stream[stream].slots[row];
        mine[row] = row < b->n && slot->disposition == LEDGER_TRAINED ? slot->clip : UINT64_MAX;
    }
    if (rc == 0)
        rc = net_gather(l->net, mine, rows * sizeof *mine, *out, e);
    free(mine);
    return rc;
}

/* Their numbers and files. The manifest is opened once more: the loop thread uses the trainer's. */
static int name_clips(struct train_loop *l, const struct batch *b, uint32_t stream, json_t *clips,
                      json_t *uris, struct err *e)
{
    const struct trainer *t = l->t;
    size_t rows = (size_t)t->conf.train.batch / t->meet.world;
    uint64_t *list = NULL;
    struct manifest *m = NULL;
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? list_clips(l, b, stream, rows, &list, e) : err_sys(e, ENOMEM, "names of clips");
    if (rc == 0)
        rc = manifest_open(t->conf.data.manifest, &m, e);
    for (size_t i = 0; rc == 0 && i < t->meet.world * rows; i++) {
        if (list[i] == UINT64_MAX)
            continue;
        rc = manifest_get(m, list[i] / t->set.clips_per_video, v, e);
        if (rc == 0 && (json_array_append_new(clips, json_integer((json_int_t)list[i])) < 0 ||
                        json_array_append_new(uris, uri_json(v->uri)) < 0))
            rc = err_sys(e, ENOMEM, "names of clips");
    }
    manifest_close(m);
    free(list);
    free(v);
    return rc;
}

static void log_batch(const struct train_loop *l, const char *encoder, const char *why, json_t *uris)
{
    const struct unstable_place p = place_of(l);
    const char *names[NAMED];
    size_t n = json_array_size(uris);
    for (size_t i = 0; i < NAMED; i++) {
        const char *uri = json_string_value(json_array_get(uris, i));
        names[i] = uri ? uri : "";
    }
    log_warn("round %u epoch %u: no step of the %s encoder on batch %" PRIu64
             ": %s. Its %zu clips: %.200s %.200s %.200s %.200s%s",
             p.round, p.epoch, encoder, p.batch, why, n, names[0], names[1], names[2], names[3],
             n > NAMED ? " ... (all in events.jsonl)" : "");
}

int train_note_unstable(struct train_loop *l, const struct batch *b, uint32_t stream, enum net_encoder enc,
                        struct err *e)
{
    const struct unstable_place place = place_of(l);
    const struct err why = *e;
    const char *encoder = train_encoder(l, enc);
    json_t *clips = json_array(), *uris = json_array();
    int rc = clips && uris ? name_clips(l, b, stream, clips, uris, e) : err_sys(e, ENOMEM, "unstable batch");
    json_t *fields = NULL;
    if (rc == 0) {
        log_batch(l, encoder, why.msg, uris);
        fields = json_pack("{s:I, s:s, s:s, s:O, s:O}", "step", (json_int_t)l->state.step, "encoder", encoder,
                           "why", why.msg, "clips", clips, "uris", uris);
        rc = fields ? unstable_add(&l->unstable, &place, fields, l->t->meet.rank == 0, e)
                    : err_sys(e, ENOMEM, "unstable batch");
    }
    if (rc == 0) {
        json_object_set_new(fields, "round", json_integer(place.round));
        json_object_set_new(fields, "epoch", json_integer(place.epoch));
        json_object_set_new(fields, "batch", json_integer((json_int_t)place.batch));
        rc = events_write(&l->events, "unstable", json_incref(fields), e);
    }
    if (rc == 0)
        train_show_warning(l, run_warning_name(WARNING_UNSTABLE), "encoder", encoder, (double)place.batch,
                           why.msg);
    json_decref(fields);
    json_decref(clips);
    json_decref(uris);
    if (rc < 0)
        return err_wrap(e, "after a step that could not be made (%s)", why.msg);
    *e = why;
    return why.code;
}

static void on_refused(void *arg, const char *why)
{
    (void)arg;
    log_warn("a checkpoint is refused: %s", why);
}

int train_roll_back(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    int rc = train_unstable_limit(l, e);
    if (rc == 0)
        rc = train_checkpoint_wait(l, e);
    if (rc == 0)
        rc = train_barrier(l, e);
    if (rc == 0)
        rc = checkpoint_restore(t->conf.run.dir, t->run, &l->state, l->net, &t->quarantine, on_refused, NULL,
                                e);
    if (rc == -ENOENT)
        rc = err_set(e, XDC_EUNSTABLE, "training is unstable, and no checkpoint is whole to go back to");
    ledger_close(l->ledger);
    l->ledger = NULL;
    if (rc == 0)
        rc = train_open_ledger(l, e);
    if (rc < 0)
        return rc;
    if (l->method->clusters) /* the truth stays what it is */
        targets_close(&l->targets);
    l->checkpoint_at_s = progress_now_s();
    log_warn("rolled back to step %" PRIu64 ": %s, round %u, epoch %u; batches passed over: %zu of at most "
             "%" PRId64,
             l->state.step, phase_name(l->state.phase), l->state.round, l->state.epoch, l->unstable.n,
             t->conf.limits.max_rollbacks);
    return 0;
}
