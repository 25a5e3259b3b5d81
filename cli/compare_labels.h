/* compare_labels: the clusterings of one round of a run: of the first encoder's features, of the second
 * one's, and of both together, as far as they are there: out of the label table, or by k-means of the
 * features' dump. Used by compare_pairs; its tables by cmd_compare. Blocking; one thread, which starts
 * others. Owns tables, dumps and labels. What is not there is said in a list of sentences and is no failure;
 * memory is. */
#pragma once
#include <jansson.h>
#include "cli/compare_run.h"
#include "lib/feature_dump.h"

struct compare_labeling {
    char name[32];                   /* "video", "joint-h0", ...; empty: there is none */
    const struct label_table *table; /* a loan: column `source` of it, or: */
    uint32_t source;
    uint32_t *made; /* owned, [clips] */
};

enum { COMPARE_FIRST, COMPARE_SECOND, COMPARE_JOINT, COMPARE_LABELINGS };

struct compare_labels {
    uint64_t clips;
    struct compare_labeling labeling[COMPARE_LABELINGS]; /* first and second are both there, or none */
    struct label_table *table;                           /* owned, or NULL */
    struct feature_dump *dump;                           /* owned, or NULL */
};

/* recluster: first and second by k-means whatever the method is. Appends to `missing`. 0 or -ENOMEM; closed
 * either way by compare_labels_close. */
int compare_labels_read(struct compare_labels *l, const struct compare_run *r, uint32_t round, bool recluster,
                        json_t *missing, struct err *e) WARN_UNUSED;
void compare_labels_close(struct compare_labels *l);

/* The round's table, held against the run. Why there is none, or not the run's, is in *e; *out is then NULL.
 */
int compare_table_open(const struct compare_run *r, uint32_t round, struct label_table **out,
                       struct err *e) WARN_UNUSED;
/* Appends the sentence unless it is there. -ENOMEM, also for an rc of that; else 0. */
int compare_say(json_t *missing, int rc, const char *sentence, struct err *e) WARN_UNUSED;

/* The clip's cluster, or LABEL_NONE. */
uint32_t compare_label(const struct compare_labeling *l, uint64_t clip);
