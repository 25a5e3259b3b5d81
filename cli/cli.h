/* cli: the subcommands of xdc. One file each; every function gets argv from its own name on and returns the
 * exit status (sysexits.h). Each answers --help with examples first. */
#pragma once
#include <jansson.h>
#include "lib/conf.h"

int cli_cluster(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_decode(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_embed(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_eval_finetune(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_features(int argc, char **argv);
int cli_index(int argc, char **argv);
int cli_labels(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_sweep(int argc, char **argv);
int cli_synth(int argc, char **argv);

/* cli_common.c */

/* Prints "xdc <command>: <sentence>" and returns the exit status of e->code. */
int cli_fail(const char *command, const struct err *e);
/* Prints "xdc <command>: <what>; see xdc <command> --help" and returns 64. */
int cli_usage(const char *command, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A whole number in [lo, hi], or a number in [lo, hi]; false for anything else, out then untouched. */
bool cli_parse_count(const char *text, uint64_t lo, uint64_t hi, uint64_t *out);
bool cli_parse_real(const char *text, double lo, double hi, double *out);
/* "1e-3,1": one to `most` numbers in [lo, hi] with commas between them, into out, rising and each once. */
bool cli_parse_reals(const char *text, double lo, double hi, double *out, uint32_t most, uint32_t *out_n);
/* JSON is UTF-8, names of files need not be: then bytes beyond ASCII as question marks. NULL without memory.
 */
json_t *cli_json_uri(const char *uri);
/* The effective configuration of the run in `run_dir`, out of its run.json. */
int cli_run_conf(const char *run_dir, struct conf *out, struct err *e) WARN_UNUSED;
/* Parses a round: a number, or "last" = the newest of <run_dir>/labels (`what` "labels") or features. */
int cli_round(const char *run_dir, const char *what, const char *text, uint32_t *out,
              struct err *e) WARN_UNUSED;
