/* early_stop: when an encoder learns no more in a round: over a period of epochs its best loss on the
 * hold-out fell by too little. Used by train_validate, stored in checkpoints. Pure; the memory is the
 * caller's. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct early_stop_rule {
    double least;    /* nats by which the best loss must fall in a period; 0: never stops */
    uint32_t warmup; /* epochs; the first period begins behind them */
    uint32_t period; /* epochs, at least 1 */
};

/* Where an encoder stands in its round; zeroed at the round's start. */
struct early_stop {
    uint32_t measured; /* epochs with a loss */
    double best;       /* lowest of them */
    bool bounded;      /* `before` is there: a period has begun */
    double before;     /* `best` when it did */
    bool stopped;
};

/* Notes the loss after the round's `epochs`-th epoch; one that is not finite counts as none. The first period
 * begins where a loss is known, behind the warm-up or else behind the first `period` epochs. True when the
 * encoder stops now. */
bool early_stop_note(struct early_stop *s, const struct early_stop_rule *r, uint32_t epochs, double loss);

/* An array of `n`, exact to the bit; NULL without memory. */
json_t *early_stop_to_json(const struct early_stop *s, size_t n);
/* XDC_EFORMAT when it is none of `n`. */
int early_stop_from_json(const json_t *j, struct early_stop *s, size_t n, struct err *e) WARN_UNUSED;
