#include "services/trainer/phase.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    const char *ends;
} phases[] = {
    [PHASE_STATS] = {"stats", "mean and deviation of the log-mel are measured"},
    [PHASE_WARM] = {"warm", "batch-norm statistics are filled"},
    [PHASE_EXTRACT] = {"extract", "the round's feature dump is sealed"},
    [PHASE_LABELS] = {"labels", "the round's label table is adopted"},
    [PHASE_TRAIN] = {"train", "the round's epochs are trained"},
    [PHASE_VALIDATE] = {"validate", "the losses on the hold-out are measured"},
    [PHASE_EXPORT] = {"export", "both encoders are written"},
    [PHASE_DONE] = {"done", "never"},
};

const char *phase_name(enum phase p)
{
    return (unsigned)p <= PHASE_DONE ? phases[p].name : "unknown";
}

const char *phase_ends(enum phase p)
{
    return (unsigned)p <= PHASE_DONE ? phases[p].ends : "unknown";
}

int phase_parse(const char *name, enum phase *out)
{
    for (unsigned i = 0; i <= PHASE_DONE; i++) {
        if (strcmp(name, phases[i].name) == 0) {
            *out = (enum phase)i;
            return 0;
        }
    }
    return -EINVAL;
}

enum phase phase_next(enum phase p, bool trains, bool clusters, bool last)
{
    switch (p) {
    case PHASE_STATS:
        return PHASE_WARM;
    case PHASE_WARM:
    case PHASE_TRAIN:
        if (clusters || !trains)
            return PHASE_EXTRACT;
        return last ? PHASE_EXPORT : PHASE_TRAIN;
    case PHASE_EXTRACT:
        return trains ? PHASE_LABELS : PHASE_EXPORT;
    case PHASE_LABELS:
        return last ? PHASE_EXPORT : PHASE_TRAIN;
    case PHASE_VALIDATE:
        return PHASE_TRAIN;
    case PHASE_EXPORT:
    case PHASE_DONE:
        break;
    }
    return PHASE_DONE;
}
