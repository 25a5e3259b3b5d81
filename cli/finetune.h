/* finetune: an encoder fine-tuned on the train videos of a manifest and judged on its test videos: for each
 * learning rate a run with a part of train held out, one of all of train with the best rate, test's features
 * and the classifier's answers (algorithms.md 2.2, 2.3). Every step is a command of this program; what a step
 * has finished is in its directory, and the same call goes on from there. Used by eval finetune. Blocking;
 * one thread. */
#pragma once
#include <jansson.h>
#include "cli/finetune_conf.h"

/* What of a manifest can be learnt and judged. */
struct finetune_classes {
    uint64_t train, test;          /* videos with a class */
    uint64_t unlabelled, no_split; /* videos that count for neither */
    json_t *without_train;         /* owned; names of classes that test has and train lacks */
    json_t *without_test;          /* owned; the other way round */
    json_t *unused;                /* owned; names of classes that no video has */
};
/* Reads the manifest. XDC_EFORMAT where nothing can be learnt or judged; classes that train lacks are refused
 * unless `allow_unseen`: their videos then count as wrong. finetune_classes_close in any case. */
int finetune_classes(const char *manifest, bool allow_unseen, struct finetune_classes *out,
                     struct err *e) WARN_UNUSED;
void finetune_classes_close(struct finetune_classes *c);

/* One manifest, that is one split or fold, in the directory `dir`; `name` of it is for the progress on
 * stderr. *out, the caller's: {"manifest", "lr", "grid", "figures", ...} of docs/evaluation.md. */
int finetune_split(const struct finetune_request *q, const struct encoder_file *f, const char *manifest,
                   const char *dir, const char *name, json_t **out, struct err *e) WARN_UNUSED;
