/* run_view: what a person sees of a live run: one line a phase, rewritten while it lasts, and the table at
 * its end. Used by cmd_run. One thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include "lib/err.h"

struct run_view {
    FILE *out;
    bool terminal;
    char key[64]; /* phase, round, epoch of the line that is open */
    char line[256];
    double printed_s;
};

void run_view_init(struct run_view *v, FILE *out);
/* Shows the trainer's status. */
void run_view_show(struct run_view *v, const json_t *trainer);
/* A line beside the progress: a restart, an error. */
void run_view_note(struct run_view *v, const char *text);
/* Ends the open line. */
void run_view_end(struct run_view *v);
/* Number i of the values of an object, in its order: what the first or second encoder has, whatever it is
 * called. NULL when there are fewer. */
const json_t *run_view_member(const json_t *object, unsigned i);

/* The table of the run out of <run_dir>/events.jsonl: per round losses, AMI of the sources, clips/s of the
 * phases. */
int run_view_summary(const char *run_dir, FILE *out, struct err *e) WARN_UNUSED;
