/* quarantine_file: the videos of a manifest that cannot be used, and why: what `xdc doctor` leaves beside the
 * manifest and a run takes a copy of. Layout: docs/formats.md. Used by the doctor (writer) and the trainer
 * (reader). Blocking; any thread. A list that was read is owned by the caller, who frees `videos`. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct quarantined_video {
    uint64_t video; /* index in the manifest */
    uint32_t code;  /* enum media_reason: a fault */
    uint32_t zero;
};

struct quarantine_list {
    uint64_t manifest;                /* its identity */
    struct quarantined_video *videos; /* owned; by ascending index */
    size_t n;
};

/* Writes `path`, whole or not at all. */
int quarantine_file_write(const char *path, const struct quarantine_list *q, struct err *e) WARN_UNUSED;
/* -ENOENT: there is none; XDC_EFORMAT: no such file, cut or altered. On failure there is nothing to free. */
int quarantine_file_read(const char *path, struct quarantine_list *out, struct err *e) WARN_UNUSED;
