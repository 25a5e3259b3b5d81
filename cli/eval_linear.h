/* eval_linear: one-vs-rest linear classifiers of rows, by liblinear. Used by eval_probe. Blocking; classes
 * are fitted on threads of their own. Deterministic: the primal solvers (trust-region Newton) draw nothing,
 * so the number of threads does not show. The structs own their arrays. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

enum eval_loss {
    EVAL_SQUARED_HINGE, /* |w|^2 / 2 + C sum max(0, 1 - y f)^2: LinearSVC(dual=False) of scikit-learn */
    EVAL_LOGISTIC,      /* |w|^2 / 2 + C sum log(1 + exp(-y f)): LogisticRegression(solver="liblinear") */
};

struct feature_node;

/* Rows as liblinear takes them: what is not zero, then 1 for the bias, which is regularised as the rest is.
 */
struct eval_design {
    uint64_t n;
    uint32_t d;
    struct feature_node *nodes; /* owned */
    struct feature_node **rows; /* owned, [n] into nodes */
};

/* Of x [n, d]; x is not needed afterwards. -ENOMEM also where memory does not suffice for it: both figures.
 */
int eval_design_create(const float *x, uint64_t n, uint32_t d, struct eval_design *out,
                       struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_design_close(struct eval_design *s);

struct eval_model {
    uint32_t classes, d;
    enum eval_loss loss;
    double *w;     /* owned, [classes, d + 1] */
    bool *trained; /* owned, [classes]: some row was of it */
};

struct eval_fit {
    enum eval_loss loss;
    double c;
    unsigned threads;
    const uint64_t *rows;   /* [n] of the design */
    const uint32_t *labels; /* [n] < classes */
    uint64_t n;
    uint32_t classes; /* of which two at least have rows */
};

/* One classifier for each class that has rows. Stops as scikit-learn does: gradient 1e-4 (for the logistic
 * loss too) of its first, by the share of the smaller side. -ENOMEM. */
int eval_model_fit(const struct eval_design *s, const struct eval_fit *fit, struct eval_model *out,
                   struct err *e) WARN_UNUSED;
void eval_model_close(struct eval_model *m);

/* out [classes] of one row: decision values, or probabilities (each class's sigmoid, divided by their sum, as
 * scikit-learn does for one-vs-rest); -INFINITY for classes that were not trained. Any thread. */
void eval_model_scores(const struct eval_model *m, const struct feature_node *row, double *out);
