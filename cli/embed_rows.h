/* embed_rows: the features of an extraction as rows: F.npy with F.jsonl beside it, or F.jsonl alone; and what
 * has no row, with the reason. Used by cmd_embed. Blocking; one thread. Files get their names when they are
 * whole; on failure none does. */
#pragma once
#include <jansson.h>
#include "lib/conf.h"

struct embed_out {
    const char *jsonl;   /* path */
    const char *npy;     /* path, or NULL: the features go into the objects */
    const char *weights; /* of the encoder's file, for the objects; "": not known */
};

struct embed_summary {
    uint64_t videos, clips, rows; /* clips: of all videos; windows, where there are such */
    uint32_t dim;
    uint64_t failed;        /* clips without a row */
    uint64_t failed_videos; /* with at least one of them */
    json_t *reasons;        /* owned; {"no_audio": clips, ...} */
    json_t *files;          /* owned; [{"uri", "clips", "reason"}, ...]: of the failed */
};

/* Of the finished run that `c` describes, with net.encoders one and data.split not auto. XDC_EMEDIA
 * when there is no row at all. The summary is the caller's to close in any case. */
int embed_rows_write(const struct conf *c, const struct embed_out *out, struct embed_summary *summary,
                     struct err *e) WARN_UNUSED;
/* Safe on a zeroed one. */
void embed_summary_close(struct embed_summary *s);
