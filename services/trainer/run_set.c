#include "services/trainer/run_set.h"

#include <errno.h>
#include <stdlib.h>

/* What auto stands for. */
static int resolve(const struct manifest *m, struct manifest_video *v, enum conf_split *split, struct err *e)
{
    int rc = 0;
    *split = SPLIT_ALL;
    for (uint64_t i = 0; rc == 0 && *split == SPLIT_ALL && i < manifest_count(m); i++) {
        rc = manifest_get(m, i, v, e);
        if (rc == 0 && v->split != MANIFEST_SPLIT_NONE)
            *split = SPLIT_TRAIN;
    }
    return rc;
}

int run_set_fill(struct clip_set *set, const struct manifest *m, enum conf_split split, struct err *e)
{
    static const char *const names[] = {[SPLIT_TRAIN] = " with split train",
                                        [SPLIT_VAL] = " with split val",
                                        [SPLIT_TEST] = " with split test",
                                        [SPLIT_ALL] = ""};
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "read the manifest");
    if (rc == 0 && split == SPLIT_AUTO)
        rc = resolve(m, v, &split, e);
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        if (split != SPLIT_ALL)
            rc = manifest_get(m, i, v, e);
        if (rc == 0 && (split == SPLIT_ALL || (enum conf_split)v->split == split))
            clip_set_add(set, i);
    }
    free(v);
    if (rc < 0)
        return rc;
    clip_set_finish(set);
    return set->members ? 0 : err_set(e, XDC_ECONF, "no video%s", names[split]);
}

int run_set_subset(struct clip_set *set, const struct conf *c, struct err *e)
{
    uint64_t n = (uint64_t)c->data.subset.n, all = set->members;
    if (n == 0)
        return 0;
    if (n > all)
        return err_set(e, XDC_ECONF, "data.subset.n is %llu, and there are %llu videos to draw them among",
                       (unsigned long long)n, (unsigned long long)all);
    return clip_set_draw(set, (uint64_t)c->data.subset.seed, n, e);
}

int run_set_held(const struct clip_set *set, const struct conf *c, struct clip_set *held, struct err *e)
{
    struct clip_holdout h;
    clip_holdout_init(&h, (uint64_t)c->run.seed, c->train.holdout, (uint64_t)c->train.holdout_min_clips,
                      set->videos, set->clips_per_video);
    int rc = clip_set_init(held, set->videos, set->clips_per_video, e);
    for (uint64_t i = 0; rc == 0 && i < h.held; i++) {
        uint64_t video = clip_order_at(&h.order, i);
        if (clip_set_has(set, video))
            clip_set_add(held, video);
    }
    if (rc == 0)
        clip_set_finish(held);
    return rc;
}
