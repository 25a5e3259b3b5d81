/* doctor: examines the files of a manifest that its report does not know yet, and writes the quarantine.
 * Used by cmd_doctor. Blocking; one thread. Takes one byte of memory a video. Stopped or killed at any
 * moment, the report holds what is done. */
#pragma once
#include <limits.h>
#include "cli/worker_pool.h"

struct doctor_options {
    const char *manifest, *out; /* out NULL: beside the manifest */
    bool video, audio;          /* what is needed */
    double min_sound_s;
    unsigned jobs;
    uint32_t cpu_s; /* 0: by the file's duration */
    uint32_t memory_mib;
    bool fresh, json, exit_zero;
};

struct doctor_summary {
    uint64_t identity, videos, examined, kept, faulty;
    uint64_t faults[MEDIA_REASONS], facts[MEDIA_FACTS];
    double seconds;
    char report[PATH_MAX], quarantine[PATH_MAX];
};

/* XDC_ESTOPPED when *stop became non-zero. */
int doctor_run(const struct doctor_options *o, const volatile sig_atomic_t *stop, struct doctor_summary *out,
               struct err *e) WARN_UNUSED;
