/* features_in: the clusterer's end of the edge features: tells the trainer that it is there, hears of sealed
 * dumps and of the run's end. A notice is only a hint to look at the feature store now; with a directory of
 * its own (cluster.dir) the clusterer is linked to every rank, and features_pull makes replicas. Loop thread
 * only. Owns a socket for each link and one timer. */
#pragma once
#include <uv.h>
#include "lib/wire.h"
#include "services/clusterer/features_pull.h"

struct clusterer;

struct features_link {
    struct features_in *in;
    uint32_t rank;
    struct wire *wire; /* owned */
};

struct features_in {
    struct clusterer *clusterer;
    struct features_link links[CONF_RANKS_MAX]; /* without cluster.dir to rank 0 alone */
    uint32_t n_links;
    struct features_pull pull;
    uv_timer_t tick;
    double greeted_s;
    bool timer_open;
};

int features_in_open(struct features_in *f, struct clusterer *c, struct err *e) WARN_UNUSED;
void features_in_close(struct features_in *f);
