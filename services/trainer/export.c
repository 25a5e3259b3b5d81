/* PHASE_EXPORT: the encoders, and their averages if the run keeps some, out of the newest checkpoint, for
 * stock PyTorch. */
#include "lib/export.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

static void on_refused(void *arg, const char *why)
{
    (void)arg;
    log_warn("export: passed over: %s", why);
}

static int write_one(const char *run_dir, const char *encoder, unsigned what, const char *suffix,
                     struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s/export/%s%s.safetensors", run_dir, encoder, suffix);
    if (rc == 0)
        rc = export_encoder(run_dir, encoder, what, path, on_refused, e);
    if (rc == 0)
        log_info("encoder written: %s", path);
    return rc;
}

int train_export(struct train_loop *l, struct err *e)
{
    const char *run_dir = l->t->conf.run.dir;
    char path[PATH_MAX];
    train_show_phase(l, 0, NET_ENCODERS);
    int rc = fs_path(path, e, "%s/export", run_dir);
    if (rc == 0)
        rc = fs_mkdirs(path, e);
    bool given = l->t->conf.net.encoders != ENCODERS_BOTH && l->t->conf.train.rounds == 0; /* to the run */
    for (unsigned i = 0; rc == 0 && !given && i < NET_ENCODERS; i++) {
        const char *name = train_encoder(l, (enum net_encoder)i);
        if (!trainer_wants(l->t, (enum net_encoder)i))
            continue;
        rc = write_one(run_dir, name, 0, "", e);
        if (rc == 0 && l->t->conf.train.ema > 0)
            rc = write_one(run_dir, name, EXPORT_EMA, "-ema", e);
        train_show_done(l, i + 1);
    }
    if (rc == 0)
        rc = fs_path(path, e, "%s/finished.json", run_dir);
    if (rc == 0) {
        char text[128];
        int n = snprintf(text, sizeof text, "{\"rounds\": %u, \"step\": %llu}\n", l->state.round,
                         (unsigned long long)l->state.step);
        rc = fs_write_atomic(path, text, (size_t)n, e);
    }
    return rc < 0 ? err_wrap(e, "export") : 0;
}
