/* published: the accuracies of the papers' tables (algorithms.md 2.4), to stand beside ours. Used by eval
 * finetune and sweep. Pure; static data. */
#pragma once
#include <stddef.h>

enum published_set { PUBLISHED_UCF101, PUBLISHED_HMDB51, PUBLISHED_ESC50, PUBLISHED_DCASE, PUBLISHED_SETS };

/* A row of a table. */
struct published_row {
    const char *table; /* "t1-methods", "t2-k", "t3-data", "t4-fc-vs-all", "t5-video-sota", "t6-audio-sota" */
    const char *method;             /* "XDC", "Superv", "Scratch", ... */
    const char *pretraining;        /* "Kinetics", ... or "-" */
    unsigned k;                     /* clusters; 0: not said, or the best for each set */
    const char *protocol;           /* "all", "fc", "all-32": of 32 frames, "svm" */
    double percent[PUBLISHED_SETS]; /* top-1 of videos; 0: none */
};

const struct published_row *published_rows(size_t *n);
/* The set of that name ("UCF101", "HMDB51", "ESC-50", "DCASE"), or -1. */
int published_set(const char *name);
