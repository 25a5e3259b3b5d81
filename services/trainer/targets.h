/* targets: the table of methods, and the labels that each encoder learns in a round. The only place that
 * knows the methods. Used by train_loop, draw and the checkpoint. Made by the training thread; read-only,
 * hence any thread, once adopted. Owns the label table and the per-cluster counts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "lib/torch/net.h"

#define TARGETS_MAX NET_HEADS_MAX

/* Which sources each encoder learns under a configuration's method. */
struct targets_method {
    char name[32];
    enum net_pair pair; /* what the encoders see */
    bool clusters;      /* labels are made by the clusterer round by round, not given beforehand */
    bool mlp;           /* heads are SeLaVi's MLP */
    bool keeps_heads;   /* heads go on from round to round, and are there before the first labels */
    uint32_t groups; /* passes of an extraction, each with an augmentation of its own; 0: one without any */
    uint32_t heads[NET_ENCODERS];
    const char *source[NET_ENCODERS][TARGETS_MAX];
};

void targets_method(const struct conf *c, struct targets_method *out);

struct targets {
    const struct targets_method *method; /* a loan */
    struct label_table *table;           /* owned; NULL for truth */
    uint32_t *truth;                     /* owned; u32 [clips], for truth */
    uint64_t clips;
    uint64_t hash;                         /* of the label table, or of the truth labels */
    int source[NET_ENCODERS][TARGETS_MAX]; /* index in the table */
    uint32_t classes[NET_ENCODERS][TARGETS_MAX];
    uint64_t *counts[NET_ENCODERS][TARGETS_MAX]; /* owned; clips of each class */
    uint64_t labelled[NET_ENCODERS][TARGETS_MAX];
};

/* Takes the table (also on failure). XDC_EMISMATCH when it lacks a source that the method needs. */
int targets_adopt(struct targets *t, const struct targets_method *method, struct label_table *table,
                  struct err *e) WARN_UNUSED;
/* The labels of the manifest, for supervised training. XDC_ECONF when it has none. */
int targets_truth(struct targets *t, const struct targets_method *method, const struct manifest *m,
                  uint32_t clips_per_video, struct err *e) WARN_UNUSED;
/* The labels of another run, labels.from: of its newest table if it is a directory. XDC_EMISMATCH when it is
 * of another manifest, number of clips or, as far as its run.json tells, of other moments of the videos. */
int targets_given(struct targets *t, const struct targets_method *method, const struct conf *c,
                  uint64_t manifest, uint64_t clips, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void targets_close(struct targets *t);

/* Label of a clip for one head; LABEL_NONE for none. */
uint32_t targets_label(const struct targets *t, enum net_encoder enc, uint32_t head, uint64_t clip);
/* True when any head of the encoder has a label for the clip. */
bool targets_labelled(const struct targets *t, enum net_encoder enc, uint64_t clip);
/* Loss weight of a class under balance: weight, N / (k n_c) (algorithms.md 1.10). */
float targets_weight(const struct targets *t, enum net_encoder enc, uint32_t head, uint32_t label);
