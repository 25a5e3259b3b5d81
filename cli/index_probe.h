/* index_probe: probes the files of an index in parallel, each in a media worker: a crash costs that file
 * only. Used by cmd_index. Blocking; one thread; owns its workers. Results lie in the partial file, in the
 * order they came in. */
#pragma once
#include <signal.h>
#include "cli/index_files.h"
#include "cli/index_partial.h"

/* Probes every file whose `at` is 0 with `jobs` workers, and sets it. XDC_ESTOPPED when *stop became
 * non-zero. *out_probed: how many were. */
int index_probe_all(struct index_files *f, struct index_partial *partial, unsigned jobs,
                    const volatile sig_atomic_t *stop, uint64_t *out_probed, struct err *e) WARN_UNUSED;
