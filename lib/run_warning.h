/* run_warning: what the trainer warns of while a run goes on, by stable names: in its log, in events.jsonl
 * and in /status. docs/codes.md and `xdc explain` explain each. Used by the trainer and the command. Pure. */
#pragma once

enum run_warning {
    WARNING_LOSS_AT_CHANCE,
    WARNING_COLLAPSED_CLUSTERS,
    WARNING_DEAD_FEATURES,
    WARNING_UNSTABLE,
    WARNING_SLOW_DISK,
    RUN_WARNINGS /* count */
};

/* "loss_at_chance". */
const char *run_warning_name(enum run_warning w);
/* One sentence for people; what brings it about in most cases; what to do. */
const char *run_warning_text(enum run_warning w);
const char *run_warning_causes(enum run_warning w);
const char *run_warning_advice(enum run_warning w);
/* The warning of a name, or -1. */
int run_warning_find(const char *name);
