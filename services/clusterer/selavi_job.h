/* selavi_job: SeLaVi's labels of one round: of each head's outputs a transport to clusters of given sizes
 * (algorithms.md 4). Used by cluster_job. Blocking; one thread, which starts others. Owns what it opens. The
 * labels are a function of configuration and dump. */
#pragma once
#include <jansson.h>
#include <stdatomic.h>
#include "lib/conf.h"
#include "lib/feature_dump.h"
#include "lib/label_table.h"
#include "lib/tensor.h"

struct selavi {
    const struct conf *conf;
    struct feature_dump *dump;
    const atomic_bool *stop;
    _Atomic uint64_t *row_passes;
    char *path;                      /* owned: of the heads */
    struct safetensors *heads;       /* owned */
    uint32_t group[LABEL_HEADS_MAX]; /* of each head */
};

/* Opens the heads beside rank 0's features. XDC_EMISMATCH: the dump names none, or others than are there, or
 * lacks the features of a group; XDC_EFORMAT: no safetensors file; -ENOENT: none is there. On failure it is
 * closed. */
int selavi_open(struct selavi *s, const struct conf *c, struct feature_dump *dump, const atomic_bool *stop,
                _Atomic uint64_t *row_passes, struct err *e) WARN_UNUSED;
void selavi_close(struct selavi *s);

/* Which group's features each head takes in a round: heads are dealt out by turns in an order of their own.
 */
void selavi_deal(uint64_t seed, uint32_t round, uint32_t heads, uint32_t groups, uint32_t *group);

/* Labels [clips] of one head; clips that lack features of either modality keep what they have. Those of the
 * hold-out take no part in the transport. *out_figures: a new object. In round 0, with selavi.align, puts the
 * audio head's permutation into `more` as alignment.<name>: entry j is the audio output that becomes output
 * j. 0; XDC_EFORMAT, XDC_EMISMATCH: file and tensor, or clip, are named; XDC_ESTOPPED; -ENOMEM; -ENOSPC. */
int selavi_head(struct selavi *s, uint32_t head, const char *name, uint32_t *labels, json_t *more,
                json_t **out_figures, struct err *e) WARN_UNUSED;

/* Puts into `out` what the figures of all heads by name, `sources`, say together: "best_head", that of the
 * lowest cost, and "mean", the means of the agreement with truth where there is any. 0 or -ENOMEM. */
int selavi_summarize(const json_t *sources, json_t *out, struct err *e) WARN_UNUSED;

/* Rows that one head may go through. */
uint64_t selavi_passes(const struct conf *c, uint64_t rows);
