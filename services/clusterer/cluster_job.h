/* cluster_job: one round's sealed dump in, its label table out: every source clustered, measured, written.
 * Used by clusterer.c on a worker thread (and by tests); its dumps are opened by `xdc compare` too. Blocking.
 * The job owns its outputs; inputs are loans until it has run. A table is a function of configuration, dump,
 * manifest and the table of the round before: killed and run again it has the same bytes. On failure there is
 * no new table. */
#pragma once
#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>
#include "lib/conf.h"
#include "lib/feature_dump.h"
#include "services/clusterer/nearest_device.h"

struct cluster_job {
    /* inputs */
    const struct conf *conf;
    uint64_t run, manifest; /* identities that the dump must have */
    uint32_t round;
    const atomic_bool *stop;
    struct nearest_device *device; /* NULL: the CPU */

    /* progress; any thread */
    _Atomic uint64_t row_passes, row_passes_total;
    _Atomic uint32_t source; /* index of the source in work */

    /* outputs */
    int result;
    struct err err;
    uint64_t features; /* hash of the dump */
    uint64_t table;    /* hash of the table */
    json_t *quality;   /* owned; what the table says */
};

/* Opens the sealed dump of a round, all shards of it, and holds it against run and manifest. -ENOENT: none,
 * or not all; XDC_EMISMATCH: of another one. */
int cluster_dump_open(const struct conf *c, uint32_t round, uint64_t run, uint64_t manifest,
                      struct feature_dump **out, struct err *e) WARN_UNUSED;

/* Looks for a sound table made of exactly this dump. 0 with its hash and quality (a new reference, or NULL);
 * -ENOENT. */
int cluster_table_find(const struct conf *c, const struct feature_info *dump, uint64_t *out_hash,
                       json_t **out_quality) WARN_UNUSED;

/* Runs the whole job; job->result is 0, XDC_ESTOPPED, XDC_EMISMATCH, XDC_EFORMAT or what reading and writing
 * gave, with the sentence in job->err. */
void cluster_job_run(struct cluster_job *job);
void cluster_job_close(struct cluster_job *job);

/* Name of the source with that index: "video", "audio", "joint", "joint-h0". */
const char *cluster_source_name(const struct conf *c, uint32_t source);
