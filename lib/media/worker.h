/* worker: the media worker's job loop: takes jobs from a socket, decodes into the slot, answers.
 * Used by the program xdc-media-worker alone, which child.h starts; one job at a time, one thread. What a
 * file does wrong is a reason in the answer; CPU time over the limit ends the process by SIGXCPU. */
#pragma once
#include <stdint.h>
#include "lib/media/media.h"

#define WORKER_SOCKET 3 /* descriptors that the parent leaves open, beside 0, 1 and 2 */
#define WORKER_SLOT 4

#define WORKER_MAGIC 0x786463776b723031u

/* The first message, from worker to parent: both are of one build. */
struct worker_hello {
    uint64_t magic;
    uint32_t job_bytes, result_bytes;
    uint32_t sandbox; /* enum sandbox_part: what is in force */
};

struct worker_limits {
    uint32_t cpu_s, memory_mib;
    uint64_t slot_bytes;
};

/* Returns the exit status when the parent has closed the socket (0), or something of the worker's own failed.
 */
int worker_run(const struct worker_limits *limits);
