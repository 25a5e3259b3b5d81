/* replica: the blocking parts of making a copy of one rank's shard in the clusterer's own directory: what is
 * there already, room on the disk, the checks and the seal at its end. Used by features_pull, which runs them
 * on a worker thread and puts blocks in between on the loop. Owns the open copy. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_copy.h"
#include "lib/feature_record.h"

struct replica {
    /* inputs */
    const struct conf *conf; /* run.dir: the clusterer's own directory */
    uint64_t run, manifest;
    struct feature_record record;
    struct feature_info info; /* of the record */

    /* outputs */
    struct feature_replica *copy; /* owned; NULL: none open */
    bool already;                 /* the sealed shard is there */
    bool wants_table;             /* no table of the round before, which the labels' numbers follow */
    int result;
    struct err err;
};

/* Paths of: the shard; its heads, and the table of the round before, while they come. */
int replica_dir(const struct replica *r, char out[4096], struct err *e) WARN_UNUSED;
int replica_heads_part(const struct replica *r, char out[4096], struct err *e) WARN_UNUSED;
int replica_table_part(const struct replica *r, char out[4096], struct err *e) WARN_UNUSED;

/* Opens the copy, or sees that it is there. A sealed shard of another hash is removed. result: -ENOSPC below
 * limits.disk_reserve_mib, or what reading and writing gave. */
void replica_begin(struct replica *r);
/* Heads and table, where they came, are held against the record; then the copy is sealed. XDC_EFORMAT: it is
 * not what was sealed, and is gone. Closes the copy. */
void replica_finish(struct replica *r);
/* Closes the copy; what was put stays. */
void replica_close(struct replica *r);
