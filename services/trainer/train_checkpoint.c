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
    l->writer.keep_dumps = (unsigned)c->features.keep_rounds;
    l->checkpoint_at_s = progress_now_s();
}

/* The marks and the copy are of one moment: this thread alone appends to the ledger and trains. */
int train_checkpoint(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    double since_s = progress_now_s();
    int rc = train_merge_quarantine(l, e);
    if (rc == 0)
        rc = train_gather_marks(l, e);
    atomic_store(&t->checkpoint, false);
    if (rc == 0 && t->meet.rank == 0)
        rc = checkpoint_writer_begin(&l->writer, &l->state, l->net, &t->quarantine, since_s, e);
    l->checkpoint_at_s = progress_now_s();
    return rc;
}

bool train_checkpoint_due(const struct train_loop *l)
{
    double every_s = l->t->conf.train.checkpoint_s;
    return (every_s > 0 && progress_now_s() - l->checkpoint_at_s >= every_s) ||
           atomic_load(&l->t->checkpoint);
}

int train_checkpoint_if_due(struct train_loop *l, struct err *e)
{
    int rc = checkpoint_writer_poll(&l->writer, e);
    bool now = l->checkpoint_now || (l->t->meet.world == 1 && train_checkpoint_due(l));
    return rc == 0 && now ? train_checkpoint(l, e) : rc;
}

int train_checkpoint_wait(struct train_loop *l, struct err *e)
{
    return checkpoint_writer_wait(&l->writer, e);
}
