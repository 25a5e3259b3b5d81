/* After an extraction: what nearest neighbours make of the features, where the manifest has truth. */
#include <errno.h>
#include <stdlib.h>
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/rng.h"
#include "services/trainer/probe.h"
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

/* The clips that are looked at: the same ones in every round, as far as they are there. */
struct sample {
    uint64_t n;
    uint64_t *clips; /* owned; ascending */
    uint32_t *class; /* owned */
    uint64_t *video; /* owned */
    float *x;        /* owned; [n, widest] */
};

static int ascending(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The first `most` clips of a seeded order that have truth and features of both encoders. */
static int draw_clips(struct sample *s, const struct train_loop *l, const struct feature_dump *dump,
                      uint64_t most, struct err *e)
{
    const struct trainer *t = l->t;
    struct clip_order order;
    uint64_t all = clip_set_size(&t->set);
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "probe");
    clip_order_init(&order, rng_key((uint64_t)t->conf.run.seed, "probe", 0, 0, 0), all);
    for (uint64_t i = 0; rc == 0 && i < all && s->n < most; i++) {
        uint64_t clip = clip_set_at(&t->set, clip_order_at(&order, i));
        if (!feature_dump_has(dump, NET_VIDEO, clip) || !feature_dump_has(dump, NET_AUDIO, clip))
            continue;
        rc = manifest_get(t->manifest, clip / t->set.clips_per_video, v, e);
        if (rc == 0 && v->truth >= 0)
            s->clips[s->n++] = clip;
    }
    qsort(s->clips, s->n, sizeof *s->clips, ascending);
    for (uint64_t i = 0; rc == 0 && i < s->n; i++) {
        s->video[i] = s->clips[i] / t->set.clips_per_video;
        rc = manifest_get(t->manifest, s->video[i], v, e);
        s->class[i] = (uint32_t)v->truth;
    }
    free(v);
    return rc;
}

static int measure(struct sample *s, struct feature_dump *dump, enum net_encoder enc, double *out,
                   struct err *e)
{
    uint32_t dim = feature_dump_info(dump)->encoder[enc].dim;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < s->n; i++)
        rc = feature_dump_read(dump, enc, s->clips[i], 1, s->x + i * dim, e);
    return rc == 0 ? probe_knn(s->x, s->n, dim, s->class, s->video, PROBE_NEIGHBOURS, out, e) : rc;
}

static int probe_dump(struct train_loop *l, struct feature_dump *dump, struct sample *s, struct err *e)
{
    const struct feature_info *info = feature_dump_info(dump);
    double accuracy[NET_ENCODERS] = {0}, since_s = progress_now_s();
    uint64_t most = (uint64_t)l->t->conf.train.probe;
    uint32_t widest =
        info->encoder[0].dim > info->encoder[1].dim ? info->encoder[0].dim : info->encoder[1].dim;
    s->clips = malloc(most * sizeof *s->clips);
    s->class = malloc(most * sizeof *s->class);
    s->video = malloc(most * sizeof *s->video);
    s->x = malloc(most * widest * sizeof *s->x);
    int rc = s->clips && s->class && s->video && s->x
                 ? 0
                 : err_sys(e, ENOMEM, "probe of %llu clips", (unsigned long long)most);
    if (rc == 0)
        rc = draw_clips(s, l, dump, most, e);
    if (rc < 0 || s->n == 0)
        return rc;
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        rc = measure(s, dump, (enum net_encoder)enc, &accuracy[enc], e);
    if (rc < 0)
        return rc;
    log_info("round %u: of %llu clips the nearest neighbours agree with truth: video %.3f, audio %.3f",
             l->state.round, (unsigned long long)s->n, accuracy[NET_VIDEO], accuracy[NET_AUDIO]);
    return events_write(&l->events, "probe",
                        json_pack("{s:i, s:I, s:{s:f, s:f}, s:f}", "round", (int)l->state.round, "clips",
                                  (json_int_t)s->n, "accuracy", "video", accuracy[NET_VIDEO], "audio",
                                  accuracy[NET_AUDIO], "seconds", progress_now_s() - since_s),
                        e);
}

int train_probe(struct train_loop *l, struct err *e)
{
    char dir[PATH_MAX];
    struct feature_dump *dump = NULL;
    struct sample s = {0};
    if (l->t->conf.train.probe == 0 || l->t->meet.rank > 0 || manifest_classes(l->t->manifest) == 0)
        return 0;
    int rc = fs_path(dir, e, "%s/features/round-%04u", l->t->conf.run.dir, l->state.round);
    if (rc == 0)
        rc = feature_dump_open(dir, &dump, e);
    if (rc == 0)
        rc = probe_dump(l, dump, &s, e);
    feature_dump_close(dump);
    free(s.clips);
    free(s.class);
    free(s.video);
    free(s.x);
    return rc < 0 ? err_wrap(e, "probe the features of round %u", l->state.round) : 0;
}
