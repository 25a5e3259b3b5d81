#include "services/trainer/checkpoint_writer.h"

#include <assert.h>
#include <errno.h>
#include "lib/progress.h"
#include "services/trainer/dump_keep.h"

void checkpoint_writer_init(struct checkpoint_writer *w, const char *run_dir, uint64_t run,
                            const struct checkpoint_keep *keep, checkpoint_on_written on_written, void *arg)
{
    *w = (struct checkpoint_writer){
        .run_dir = run_dir, .run = run, .keep = *keep, .on_written = on_written, .arg = arg};
}

static void *thread_main(void *arg)
{
    struct checkpoint_writer *w = arg;
    w->result = checkpoint_write(&w->taken, w->run_dir, &w->keep, &w->err);
    checkpoint_free(&w->taken);
    if (w->result == 0)
        w->result = dump_keep(w->run_dir, w->keep_dumps, &w->err);
    w->write_s = progress_now_s() - w->begun_s;
    atomic_store(&w->ended, true);
    return NULL;
}

/* Joins the thread, reports, and leaves nothing in flight. */
static int finish(struct checkpoint_writer *w, struct err *e)
{
    double since_s = progress_now_s();
    int rc = pthread_join(w->thread, NULL);
    assert(rc == 0);
    w->busy = false;
    w->stall_s += progress_now_s() - since_s;
    if (w->result < 0) {
        *e = w->err;
        return w->result;
    }
    struct checkpoint_report r = {w->step, w->stall_s, w->write_s};
    return w->on_written(w->arg, &r, e);
}

int checkpoint_writer_begin(struct checkpoint_writer *w, const struct train_state *s, struct net *net,
                            struct quarantine *q, double since_s, struct err *e)
{
    double before_s = progress_now_s();
    int rc = checkpoint_writer_wait(w, e); /* which counts as the other one's stall */
    since_s += progress_now_s() - before_s;
    if (rc == 0)
        rc = checkpoint_take(&w->taken, w->run, s, net, q, e);
    if (rc < 0)
        return rc;
    w->step = s->step;
    w->begun_s = progress_now_s();
    w->stall_s = w->begun_s - since_s;
    w->ended = false;
    rc = pthread_create(&w->thread, NULL, thread_main, w);
    if (rc != 0) {
        checkpoint_free(&w->taken);
        return err_sys(e, rc, "start the thread that writes checkpoints");
    }
    w->busy = true;
    return 0;
}

int checkpoint_writer_poll(struct checkpoint_writer *w, struct err *e)
{
    return w->busy && atomic_load(&w->ended) ? finish(w, e) : 0;
}

int checkpoint_writer_wait(struct checkpoint_writer *w, struct err *e)
{
    return w->busy ? finish(w, e) : 0;
}
