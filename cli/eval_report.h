/* eval_report: what xdc eval says, as a JSON object, and as a table made of that object. Used by cmd_eval.
 * One thread; objects are the caller's. Keys: docs/evaluation.md. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "cli/eval_cluster.h"
#include "cli/eval_heads.h"
#include "cli/eval_neighbours.h"
#include "cli/eval_probe.h"
#include "cli/eval_rows.h"

/* What was read: rows, videos and classes, splits, what is left out and why. `judged`: also classes that
 * train or test lacks. NULL without memory. */
json_t *eval_report_rows(const char *what, const struct eval_rows *r, bool judged);

/* Each adds what was found: "figures" and, but for cluster, "per_class". */
void eval_report_probe(json_t *j, const struct eval_rows *r, const struct eval_probe_options *o,
                       const struct eval_probe *p);
void eval_report_knn(json_t *j, const struct eval_rows *r, const struct eval_score *s);
void eval_report_retrieval(json_t *j, const struct eval_rows *r, const struct eval_retrieval *s);
void eval_report_cluster(json_t *j, const struct eval_clusters *c);
/* Besides "by_head", and "figures_label_free" and "figures_mean". */
void eval_report_heads(json_t *j, const struct eval_heads *h);

/* Adds "figures", the means of those of the repeats, and "deviations", of their sample, null of one. */
void eval_report_summarise(json_t *j, const json_t *repeats);

/* On standard output, as one line or as a table. */
void eval_report_print(const json_t *j, bool json);
