/* harvest: the features that a round's last epoch computes anyway, kept for the next extraction in a sparse
 * file of the run, harvest/round-NNNN.rows, row = clip id (docs/formats.md). Used by train_epoch (writer) and
 * train_extract (reader); the ranks share the file, each with its own clips. One thread per handle, which
 * owns a descriptor and one row. A row that is not whole (never written, torn, of another run or round)
 * counts as absent, so nothing has to be undone after a crash or a rollback. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/torch/net.h"

struct harvest;

struct harvest_spec {
    const char *run_dir;
    uint64_t run;   /* identity of the run */
    uint32_t round; /* whose dump the rows are for */
    uint32_t dims[NET_ENCODERS];
};

/* Opens the file for writing, makes it where it is missing and empties it when `anew`. -ENOSPC, before
 * anything is written, where what `rows` rows still need is not free beside the reserve. */
int harvest_create(const struct harvest_spec *s, bool anew, uint64_t rows, uint64_t reserve_mib,
                   struct harvest **out, struct err *e) WARN_UNUSED;
/* Opens it for reading. -ENOENT when there is none. */
int harvest_open(const struct harvest_spec *s, struct harvest **out, struct err *e) WARN_UNUSED;
/* Writes a clip's row, over the one that is there: f32 [dim] of each encoder. */
int harvest_put(struct harvest *h, uint64_t clip, const float *video, const float *audio,
                struct err *e) WARN_UNUSED;
/* Returns when what was put is on the disk. */
int harvest_sync(struct harvest *h, struct err *e) WARN_UNUSED;
/* 1 with the row, f32 [video dim + audio dim], the handle's until its next call; 0 when the clip has none. */
int harvest_get(struct harvest *h, uint64_t clip, const float **out, struct err *e) WARN_UNUSED;
/* NULL is fine. */
void harvest_close(struct harvest *h);
/* Removes the files of all rounds; none is no error. */
int harvest_remove(const char *run_dir, struct err *e) WARN_UNUSED;
