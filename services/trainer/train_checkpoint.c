/* When checkpoints are written: at epoch ends, in between by the clock, on a signal and on stopping. */
#include <errno.h>
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

static int on_written(void *arg, const struct checkpoint_report *r, struct err *e)
{
    struct train_loop *l = arg;
    return events_write(&l->events, "checkpoint",
                        json_pack("{s:I, s:f, s:f}", "step", (json_int_t)r->step, "stall_s", r->stall_s,
                                  "write_s", r->write_s),
                        e);
}

void train_checkpoint_init(struct train_loop *l)
{
    const struct conf *c = &l->t->conf;
    struct checkpoint_keep keep = {(unsigned)c->train.keep, (uint64_t)c->train.keep_every};
    checkpoint_writer_init(&l->writer, c->run.dir, l->t->run, &keep, on_written, l);
    l->checkpoint_at_s = progress_now_s();
}

/* The mark and the copy are of one moment: this thread alone appends to the ledger and trains. */
int train_checkpoint(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    double since_s = progress_now_s();
    int rc = ledger_sync(l->ledger, &l->state.ledger, e);
    atomic_store(&t->checkpoint, false);
    if (rc == 0)
        rc = checkpoint_writer_begin(&l->writer, &l->state, l->net, &t->quarantine, since_s, e);
    l->checkpoint_at_s = progress_now_s();
    return rc;
}

int train_checkpoint_if_due(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    double every_s = t->conf.train.checkpoint_s;
    int rc = checkpoint_writer_poll(&l->writer, e);
    if (rc < 0)
        return rc;
    bool due = every_s > 0 && progress_now_s() - l->checkpoint_at_s >= every_s;
    return due || atomic_load(&t->checkpoint) ? train_checkpoint(l, e) : 0;
}

int train_checkpoint_wait(struct train_loop *l, struct err *e)
{
    return checkpoint_writer_wait(&l->writer, e);
}
