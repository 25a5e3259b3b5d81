/* eval_probe: linear classifiers of frozen features: chooses C on a held-out part of train, fits on train,
 * counts on test (algorithms.md 2.3, the audio table's protocol). Used by cmd_eval. Blocking; works on
 * threads of its own, whose number does not show. The result owns its arrays. */
#pragma once
#include <stdint.h>
#include "cli/eval_linear.h"
#include "cli/eval_rows.h"
#include "cli/eval_score.h"

#define EVAL_C_MAX 32

struct eval_probe_options {
    enum eval_loss loss;
    double c[EVAL_C_MAX]; /* rising; with one nothing is held out */
    uint32_t n_c;
    double holdout;   /* share of each class's train videos that is held out, where no video is of val */
    uint64_t shots;   /* train videos drawn of each class, or 0 for all */
    uint32_t repeats; /* at least 1: draws of shots and of what is held out */
    uint64_t seed;
    unsigned threads;
};

struct eval_repeat {
    double c;                   /* the one chosen: most held-out videos right, the lowest of equal ones */
    uint64_t right[EVAL_C_MAX]; /* held-out videos, for each C; none with one C */
    uint64_t held, fitted;      /* videos held out while C was chosen, and fitted in the end */
    struct eval_score score;
};

struct eval_probe {
    struct eval_repeat *repeats; /* owned, [n_repeats] */
    uint32_t n_repeats;
    int32_t *predictions; /* owned, [rows]: class that each test clip gets by itself, -1 elsewhere; of the
                             last repeat */
    double choose_s, fit_s, test_s;
};

/* Rows that eval_rows_check has passed, normalised as they are to be learnt. A video's scores are the means
 * of its clips'. XDC_EFORMAT where a class has fewer videos than shots, or nothing can be held out; -ENOMEM.
 */
int eval_probe_run(const struct eval_rows *r, const struct eval_probe_options *o, struct eval_probe *out,
                   struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_probe_close(struct eval_probe *p);

/* For each video a number that (seed, its id, repeat) make; sorts by class, then by it. Nothing else of the
 * file, test rows least of all, has part in a draw. eval_draw.c */
struct eval_drawn {
    uint32_t label;
    uint64_t key, video; /* video: index */
};
void eval_draw(const struct eval_rows *r, const char *purpose, uint64_t seed, uint32_t repeat,
               struct eval_drawn *videos, uint64_t n);
/* *n drawn videos become the first `shots` of each class. XDC_EFORMAT names a class that has fewer. */
int eval_draw_shots(const struct eval_rows *r, uint64_t shots, struct eval_drawn *videos, uint64_t *n,
                    struct err *e) WARN_UNUSED;
/* Moves the first `share` of each class, one at least and never all, to the end; *out_fit are left before
 * them. XDC_EFORMAT where no class has two videos. */
int eval_draw_held(const struct eval_rows *r, double share, struct eval_drawn *videos, uint64_t n,
                   uint64_t *out_fit, struct err *e) WARN_UNUSED;
