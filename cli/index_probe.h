/* index_probe: probes all files of an index in parallel, each in a media worker: a crash costs that file
 * only. Used by cmd_index. Blocking; one thread; owns its workers. Results lie in the files, whatever the
 * order they came in. */
#pragma once
#include <signal.h>
#include "cli/index_files.h"

/* Fills size_bytes, reason and probe of every file, with `jobs` workers. XDC_ESTOPPED when *stop became
 * non-zero. */
int index_probe_all(struct index_files *f, unsigned jobs, const volatile sig_atomic_t *stop,
                    struct err *e) WARN_UNUSED;
