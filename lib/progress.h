/* progress: rate and time left of long work, and the one line that shows it. Used by the command and the
 * daemons' status. Pure but for progress_print; one thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    const char *what; /* kept, not copied */
    uint64_t total;   /* 0: unknown */
    uint64_t done;
    double start_s, last_print_s;
    double rate_at_s; /* window of the rate */
    uint64_t rate_done;
    double rate; /* per second, smoothed over about 5 s */
};

/* CLOCK_MONOTONIC in seconds. */
double progress_now_s(void);
void progress_init(struct progress *p, const char *what, uint64_t total);
void progress_set(struct progress *p, uint64_t done);
/* Items per second, recent. */
double progress_rate(const struct progress *p);
/* Seconds left, or a negative number when unknown. */
double progress_left_s(const struct progress *p);
/* On a terminal one line rewritten at most five times a second, elsewhere a line every 10 s; `last` ends it.
 */
void progress_print(struct progress *p, FILE *f, bool last);
