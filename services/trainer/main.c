/* xdc-trainer: samples and labels in, weights and features out. Owns the run's state. */
#include <errno.h>
#include <stdlib.h>
#include "lib/daemon.h"
#include "lib/log.h"
#include "services/trainer/trainer.h"

static const char help[] =
    "xdc-trainer - trains both encoders of a run\n\n"
    "  xdc-trainer -c xdc.yaml             rank 0 of the run that xdc.yaml describes; goes on where it "
    "stopped\n"
    "  xdc-trainer -c xdc.yaml --rank 1    the second of run.ranks processes that train together; torchrun's "
    "RANK,\n"
    "                                      WORLD_SIZE, MASTER_ADDR, MASTER_PORT and Slurm's variables do "
    "too\n"
    "  xdc-trainer -c xdc.yaml -n          check the configuration and exit\n"
    "  kill -USR1 PID                      write a checkpoint now\n"
    "  kill -TERM PID                      write a checkpoint and exit 75; start again to go on\n\n"
    "Needs at least one xdc-decoder and an xdc-clusterer with the same configuration; the order does not "
    "matter.\n";

static const char *from_environment(const char *name)
{
    return getenv(name);
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err e = {0};
    int status = daemon_begin(&d, "xdc-trainer", help, argc, argv);
    if (status >= 0)
        return status;
    struct rendezvous meet;
    int rc = rendezvous_find(&d.conf, d.index_given, (uint32_t)d.index, from_environment, &meet, &e);
    struct trainer *t = rc == 0 ? calloc(1, sizeof *t) : NULL;
    if (rc == 0)
        rc = t ? trainer_open(t, &d.conf, &meet, &e) : err_set(&e, -ENOMEM, "no memory");
    if (rc < 0) {
        log_error("%s", e.msg);
        free(t);
        return err_exit_status(rc);
    }
    rc = daemon_signals(&d, &t->loop, trainer_stop, trainer_checkpoint, t, &e);
    if (rc == 0) {
        log_info("rank %u of run %016llx in %s: %llu clips", meet.rank, (unsigned long long)t->run,
                 d.conf.run.dir, (unsigned long long)clip_set_size(&t->set));
        daemon_ready("training");
    } else {
        trainer_stop(t);
    }
    rc = trainer_run(t, &e);
    if (rc == XDC_ESTOPPED)
        log_info("%s; start again to go on", e.msg);
    else if (rc < 0)
        log_error("%s", e.msg);
    else
        log_info("the run is finished");
    daemon_end(&d);
    trainer_close(t);
    free(t);
    return err_exit_status(rc);
}
