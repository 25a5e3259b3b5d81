/* features_in: the clusterer's end of the edge features: tells the trainer that it is there, hears of sealed
 * dumps and of the run's end. A notice is only a hint to look at the feature store now. Loop thread only.
 * Owns one socket and one timer. */
#pragma once
#include <uv.h>
#include "lib/wire.h"

struct clusterer;

struct features_in {
    struct clusterer *clusterer;
    struct wire *wire; /* owned */
    uv_timer_t hello;
    bool timer_open;
};

int features_in_open(struct features_in *f, struct clusterer *c, struct err *e) WARN_UNUSED;
void features_in_close(struct features_in *f);
