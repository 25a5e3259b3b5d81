/* eval_score: right and wrong answers, counted. Used by eval_probe, eval_neighbours and eval_report. Pure;
 * the caller's thread; owns what it allocates. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

struct eval_score {
    uint32_t classes;
    uint64_t videos, video_top1, video_top5;
    uint64_t clips, clip_top1, clip_top5; /* 0 clips where only videos are judged */
    uint64_t *right;                      /* owned, [classes]: videos whose first answer was right */
};

/* 0 or -ENOMEM. */
int eval_score_init(struct eval_score *s, uint32_t classes, struct err *e) WARN_UNUSED;
void eval_score_close(struct eval_score *s);

/* How many classes come before `label`, 0 for the answer: those of a higher score, and of an equal one the
 * lower number. UINT32_MAX where the label's score is -INFINITY. */
uint32_t eval_rank(const double *scores, uint32_t classes, uint32_t label);
/* The class of the highest score, the lowest number of equal ones. */
uint32_t eval_best(const double *scores, uint32_t classes);
