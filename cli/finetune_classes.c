/* What of a manifest can be fine-tuned on and judged. */
#include <errno.h>
#include <stdlib.h>
#include "cli/finetune.h"
#include "lib/manifest.h"

/* counts [2, classes]: videos of train, then of test. */
static int count(const struct manifest *m, struct finetune_classes *out, uint64_t *counts, struct err *e)
{
    uint32_t classes = manifest_classes(m);
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "a video");
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        rc = manifest_get(m, i, v, e);
        if (rc < 0)
            break;
        out->unlabelled += v->truth < 0;
        out->no_split += v->truth >= 0 && v->split == MANIFEST_SPLIT_NONE;
        if (v->truth >= 0 && v->split == MANIFEST_SPLIT_TRAIN)
            counts[v->truth]++;
        if (v->truth >= 0 && v->split == MANIFEST_SPLIT_TEST)
            counts[classes + (uint32_t)v->truth]++;
    }
    free(v);
    return rc;
}

static void name_classes(const struct manifest *m, struct finetune_classes *out, const uint64_t *counts)
{
    uint32_t classes = manifest_classes(m);
    for (uint32_t c = 0; c < classes; c++) {
        uint64_t train = counts[c], test = counts[classes + c];
        json_t *to = train == 0 && test == 0 ? out->unused
                     : train == 0            ? out->without_train
                     : test == 0             ? out->without_test
                                             : NULL;
        out->train += train;
        out->test += test;
        if (to)
            json_array_append_new(to, json_string(manifest_class_name(m, (int32_t)c)));
    }
}

static int check(const char *manifest, bool allow_unseen, const struct finetune_classes *c, struct err *e)
{
    if (c->train == 0 || c->test == 0)
        return err_set(e, XDC_EFORMAT,
                       "%s: no video of the split %s has a class; index it with labels and splits "
                       "(docs/manifests.md)",
                       manifest, c->train == 0 ? "train" : "test");
    if (!allow_unseen && json_array_size(c->without_train))
        return err_set(e, XDC_EFORMAT,
                       "%s: %zu classes of test have no train video, the first is %s; --allow-unseen counts "
                       "their videos as wrong",
                       manifest, json_array_size(c->without_train),
                       json_string_value(json_array_get(c->without_train, 0)));
    return 0;
}

int finetune_classes(const char *manifest, bool allow_unseen, struct finetune_classes *out, struct err *e)
{
    struct manifest *m = NULL;
    *out = (struct finetune_classes){
        .without_train = json_array(), .without_test = json_array(), .unused = json_array()};
    int rc = manifest_open(manifest, &m, e);
    if (rc < 0)
        return rc;
    uint64_t *counts = calloc(2 * (size_t)manifest_classes(m) + 1, sizeof *counts);
    rc = counts ? count(m, out, counts, e) : err_sys(e, ENOMEM, "classes");
    if (rc == 0)
        name_classes(m, out, counts);
    free(counts);
    manifest_close(m);
    return rc == 0 ? check(manifest, allow_unseen, out, e) : rc;
}

void finetune_classes_close(struct finetune_classes *c)
{
    json_decref(c->without_train);
    json_decref(c->without_test);
    json_decref(c->unused);
}
