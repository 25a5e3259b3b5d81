/* dump_keep: removes the dumps of rounds that nothing needs any more. Used by checkpoint_writer, behind a
 * checkpoint, in the process of rank 0. Blocking; owns nothing. A dump is renamed before it is removed, so
 * that none is ever seen in part; what an interruption leaves of it goes the next time. */
#pragma once
#include "lib/err.h"

/* Of the dumps of a run all stay but those that are older than the `newest` ones, have a label table, and are
 * of a round that no checkpoint stands in. 0: all stay. Where a checkpoint's state cannot be read, nothing
 * goes. */
int dump_keep(const char *run_dir, unsigned newest, struct err *e) WARN_UNUSED;
