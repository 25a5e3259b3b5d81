#include "lib/run_warning.h"

#include <string.h>

/* docs/codes.md is made of this table: xdc explain --markdown > docs/codes.md */
static const struct {
    const char *name, *text, *causes, *advice;
} warnings[RUN_WARNINGS] = {
    [WARNING_LOSS_AT_CHANCE] =
        {"loss_at_chance",
         "An encoder's mean loss over an epoch is no better than that of guessing among its classes.",
         "A learning rate that is too high or too low, labels that have nothing to do with what the encoder "
         "sees, or sound and picture that do not belong together.",
         "Another `train.lr` by a factor of 3 to 10, `train.warmup_epochs`, more `train.epochs`; look at the "
         "labels' quality in events.jsonl and at some clips with `xdc decode`."},
    [WARNING_COLLAPSED_CLUSTERS] =
        {"collapsed_clusters", "One cluster of a source holds most of the clips, or most clusters are empty.",
         "Features that hardly differ (see dead_features), many clips with the same content or silence, or "
         "a `cluster.k` that is too large for the set.",
         "A smaller `cluster.k`, more `cluster.restarts`, `cluster.normalize: pca-whiten-l2`, "
         "`train.balance: "
         "resample`; leave silent and identical files out."},
    [WARNING_DEAD_FEATURES] =
        {"dead_features", "Most feature dimensions of an encoder are the same for all clips.",
         "Training that diverged in the round before (units that never fire again), an encoder that is given "
         "the same input for all clips, or a set of very few clips.",
         "A lower `train.lr`, `train.clip_norm`, `train.warmup_epochs`; look at some clips with `xdc "
         "decode`."},
    [WARNING_UNSTABLE] =
        {"unstable", "A loss or gradient was not finite; the batch is passed over.",
         "A learning rate that is too high, or a clip with extreme values in the batch, which events.jsonl "
         "and unstable.jsonl in the run's directory name.",
         "If it comes again: a lower `train.lr`, `train.clip_norm`, `train.warmup_epochs`. If it is always "
         "the same clips: look at them with `xdc decode` and leave them out."},
    [WARNING_SLOW_DISK] =
        {"slow_disk", "The extraction waits for the disk: features come faster than they can be written.",
         "A disk that is slow, busy with other work or reached over a network.",
         "A run directory on a faster disk, or `features.dtype: f16`, which halves what is written."},
};

const char *run_warning_name(enum run_warning w)
{
    return warnings[w].name;
}

const char *run_warning_text(enum run_warning w)
{
    return warnings[w].text;
}

const char *run_warning_causes(enum run_warning w)
{
    return warnings[w].causes;
}

const char *run_warning_advice(enum run_warning w)
{
    return warnings[w].advice;
}

int run_warning_find(const char *name)
{
    for (int i = 0; i < RUN_WARNINGS; i++)
        if (strcmp(name, warnings[i].name) == 0)
            return i;
    return -1;
}
