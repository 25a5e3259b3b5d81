/* run_record: run.json: what a run is: its identity, the effective configuration, the versions. Written once;
 * a continued run is held against it. Training side of the trainer's start; blocking. */
#pragma once
#include <stdint.h>
#include "lib/conf.h"

/* Writes run.json, or compares with the one that is there: a key of the run's identity that differs is
 * XDC_ECONF, all of them named. */
int run_record_check(const struct conf *c, uint64_t run, uint64_t manifest, struct err *e) WARN_UNUSED;
