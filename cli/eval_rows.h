/* eval_rows: features of a file, whose clips they are, and what is known of those: classes and splits. Used
 * by the parts of xdc eval. Blocking; one thread but for what says otherwise. The struct owns its arrays.
 * Faults name the file and the row; nothing is left of a failed read. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/label_table.h"

enum eval_split { EVAL_NO_SPLIT, EVAL_TRAIN, EVAL_VAL, EVAL_TEST, EVAL_SPLITS };

struct eval_video {
    uint64_t id;    /* as the file numbers it; a foreign row's number */
    uint64_t first; /* its rows are order[first .. first + clips] */
    uint32_t clips; /* at least 1 */
    uint32_t label; /* class, or LABEL_NONE */
    enum eval_split split;
};

/* Which moment of which file a row is, as far as its line says. */
struct eval_moment {
    uint64_t clip;           /* UINT64_MAX: not said */
    uint64_t uri;            /* hash of the text; 0: not said */
    double start_s, seconds; /* of it the first; NAN: not said */
};

/* What made the rows, as far as their lines say; "" where they do not. */
struct eval_maker {
    char encoder[8];  /* "video" or "audio" */
    char weights[20]; /* the checkpoint's hash, as in the encoder's metadata */
};

struct eval_rows {
    const char *path; /* of the features; a loan */
    float *x;         /* owned, [n, d], finite */
    uint64_t n;
    uint32_t d;
    uint64_t *order;           /* owned, [n]: rows by video, rising within one */
    struct eval_video *videos; /* owned, by rising id */
    uint64_t n_videos;
    struct eval_moment *moments; /* owned, [n] */
    struct eval_maker maker;
    char **classes; /* owned, names by rising number, then by bytes */
    uint32_t n_classes;
};

/* What a file says of one row. */
struct eval_note {
    uint64_t video, row;
    uint32_t label; /* LABEL_NONE, or a number that the map of names has */
    enum eval_split split;
    struct eval_moment moment;
};

/* Where the rows' notes are. */
struct eval_sources {
    const char *features;              /* f32 or f16 [rows, columns] */
    const char *rows;                  /* JSON lines; NULL: beside the features */
    const char *labels, *train, *test; /* .npy of whole numbers instead, each may be NULL but labels */
};

/* Reads features and notes. XDC_EFORMAT, -ENOENT, -ENOMEM. */
int eval_rows_read(const struct eval_sources *s, unsigned threads, struct eval_rows *out,
                   struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void eval_rows_close(struct eval_rows *r);

/* Refuses rows of which nothing can be learnt or tested: no train or test videos with a class, fewer than two
 * classes in train, and test videos whose class has no train video unless `allow_unseen` (they then count as
 * wrong). XDC_EFORMAT. */
int eval_rows_check(const struct eval_rows *r, bool allow_unseen, struct err *e) WARN_UNUSED;

/* out [classes]: videos of each class in the split. */
void eval_rows_count(const struct eval_rows *r, enum eval_split split, uint64_t *out);

/* *out_videos [*out_n]: indices of the videos of the split that have a class, rising. The caller's. -ENOMEM.
 */
int eval_rows_select(const struct eval_rows *r, enum eval_split split, uint64_t **out_videos, uint64_t *out_n,
                     struct err *e) WARN_UNUSED;

/* Subtracts each column's mean and divides by its deviation (of the population; columns that do not vary
 * stay), both of all rows of train that have a class. -ENOMEM. */
int eval_rows_standardise(struct eval_rows *r, struct err *e) WARN_UNUSED;

/* out [m, d]: the means of the videos' rows, summed in f64. On `threads` threads; the same bits on any. */
void eval_rows_means(const struct eval_rows *r, const uint64_t *videos, uint64_t m, unsigned threads,
                     float *out);

/* eval_notes.c */

/* notes [n] of a file of JSON lines as xdc embed writes it (docs/evaluation.md); names: object, name ->
 * number, gets the classes. All rows must be of one maker. */
int eval_notes_read_lines(const char *path, uint64_t n, struct eval_note *notes, json_t *names,
                          struct eval_maker *maker, struct err *e) WARN_UNUSED;
/* The same of .npy files: labels [n], negative for unknown; numbers of rows of train and test. */
int eval_notes_read_arrays(const struct eval_sources *s, uint64_t n, struct eval_note *notes, json_t *names,
                           struct err *e) WARN_UNUSED;
