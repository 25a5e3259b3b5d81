/* label_table: the labels of one round, one integer array per source, as one file that is read by mmap. Used
 * by cluster_job (writer), trainer/labels_in and the command (readers). Pure reads from any thread. Written
 * by tmp + fsync + rename. u8 for k <= 255, u16 for k <= 65535, u32 above; all-ones = no label. A header
 * checked on open: magic, version, sizes, hash. Layout: docs/formats.md. */
#pragma once
#include <limits.h>
#include <stdint.h>
#include "lib/err.h"

#define LABEL_NONE UINT32_MAX
#define LABEL_SOURCES_MAX 32
#define LABEL_HEADS_MAX 16 /* sources that heads make */

struct label_source {
    char name[32]; /* video, audio, joint, truth, ... */
    uint32_t k;
};

struct label_info {
    uint64_t run, manifest, features; /* identities: run, manifest, dump */
    uint64_t clips;
    uint32_t round;
    uint32_t sources;
    struct label_source source[LABEL_SOURCES_MAX];
    uint64_t hash; /* XXH3 of the whole table; filled on write */
};

struct label_table;

/* Writes the table; labels[s] is u32 [clips] with LABEL_NONE for none; `quality` is a JSON text (no timings:
 * equal inputs give equal bytes). *out_hash is the table's hash. */
int label_table_write(const char *path, const struct label_info *info, const uint32_t *const labels[],
                      const char *quality, uint64_t *out_hash, struct err *e) WARN_UNUSED;
/* Where a run has the table of a round: labels/round-NNNN.xdcl. */
int label_table_path(const char *run_dir, uint32_t round, char out[PATH_MAX], struct err *e) WARN_UNUSED;
/* -ENOENT, XDC_EFORMAT (torn, foreign or altered) or 0. */
int label_table_open(const char *path, struct label_table **out, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void label_table_close(struct label_table *t);
const struct label_info *label_table_info(const struct label_table *t);
/* The quality JSON; a loan until close. */
const char *label_table_quality(const struct label_table *t);
/* The name of the source that a head makes, "joint-h0"; head < LABEL_HEADS_MAX. Static text. */
const char *label_head_source(uint32_t head);
/* Index of the source called `name`, or -1. */
int label_table_source(const struct label_table *t, const char *name);
/* Label of a clip, LABEL_NONE for none or beyond the table. */
uint32_t label_table_get(const struct label_table *t, uint32_t source, uint64_t clip);
