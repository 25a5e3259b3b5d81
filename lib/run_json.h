/* run_json: run.json of a run directory, read: what the run is, as the trainer wrote it at its start
 * (services/trainer/run_record). Used by the trainer, export and the command. Blocking; any thread; the
 * object is the caller's. Fails with the file's name, what is wrong with it, and what to do. */
#pragma once
#include <jansson.h>
#include "lib/err.h"

#define RUN_JSON "run.json"

/* *out: a new reference, an object with the object "config"; NULL on failure. -ENOENT: no run directory, or a
 * run that has not begun; XDC_EFORMAT: not what the trainer wrote; errno codes. */
int run_json_read(const char *run_dir, json_t **out, struct err *e) WARN_UNUSED;

/* The value of a key of the schema, as conf_print_value writes it; NULL where the record has no such key. */
const char *run_json_config(const json_t *record, const char *key);
