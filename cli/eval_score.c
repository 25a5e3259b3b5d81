#include "cli/eval_score.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int eval_score_init(struct eval_score *s, uint32_t classes, struct err *e)
{
    *s = (struct eval_score){.classes = classes, .right = calloc(classes + 1u, sizeof *s->right)};
    return s->right ? 0 : err_sys(e, ENOMEM, "%u classes", classes);
}

void eval_score_close(struct eval_score *s)
{
    free(s->right);
    *s = (struct eval_score){0};
}

uint32_t eval_rank(const double *scores, uint32_t classes, uint32_t label)
{
    uint32_t before = 0;
    if (scores[label] == -INFINITY)
        return UINT32_MAX;
    for (uint32_t c = 0; c < classes; c++)
        before += scores[c] > scores[label] || (scores[c] == scores[label] && c < label);
    return before;
}

uint32_t eval_best(const double *scores, uint32_t classes)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < classes; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}
