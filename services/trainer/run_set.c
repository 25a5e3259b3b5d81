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
