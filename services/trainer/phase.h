/* phase: the phases of a run and what follows each; shown by /status and stored in checkpoints. Pure. */
#pragma once
#include <stdbool.h>
#include "lib/err.h"

/* PHASE_VALIDATE is a part of PHASE_TRAIN, the end of each epoch: plans and /status have it, a run's state
 * never stands in it. */
enum phase {
    PHASE_STATS,
    PHASE_WARM,
    PHASE_EXTRACT,
    PHASE_LABELS,
    PHASE_TRAIN,
    PHASE_VALIDATE,
    PHASE_EXPORT,
    PHASE_DONE
};

/* "stats", "warm", ...; a phase that is none gives "unknown". */
const char *phase_name(enum phase p);
/* What ends it, for people: "the log-mel of 2,000 clips is measured". */
const char *phase_ends(enum phase p);
/* -EINVAL for a name that is none. */
int phase_parse(const char *name, enum phase *out) WARN_UNUSED;
/* The phase after `p` has ended. `trains`: the run has rounds; `clusters`: the method makes its labels by
 * clustering; `last`: no training round is left. */
enum phase phase_next(enum phase p, bool trains, bool clusters, bool last);
