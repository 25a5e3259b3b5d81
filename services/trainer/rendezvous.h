/* rendezvous: which rank this process is and where the ranks meet: from the configuration, the environment of
 * torchrun and its like, or Slurm's. Used by main, before anything is opened. Pure but for the environment,
 * which is read through `get`. */
#pragma once
#include "lib/conf.h"

struct rendezvous {
    uint32_t rank, world;
    char address[CONF_STRING_MAX]; /* host of rank 0 */
    uint16_t port;
    uint32_t local; /* number among the ranks of this host: which GPU is its own */
};

/* rank_given: by --rank, then no other word on the rank counts. Else RANK with WORLD_SIZE, or SLURM_PROCID
 * with SLURM_NTASKS, where run.ranks is above 1. Address: run.address, MASTER_ADDR, the first host of
 * SLURM_STEP_NODELIST or SLURM_JOB_NODELIST, or 127.0.0.1. Port: run.port, MASTER_PORT, or one that follows
 * from the run's identity. Local: LOCAL_RANK, SLURM_LOCALID, or the rank. XDC_ECONF when the world is not of
 * run.ranks processes, or a number is none. */
int rendezvous_find(const struct conf *c, bool rank_given, uint32_t rank, const char *(*get)(const char *),
                    struct rendezvous *out, struct err *e) WARN_UNUSED;
/* The port of a run that was given none. */
uint16_t rendezvous_port(uint64_t run);
/* The first host of a Slurm list: "node[003-007,9],gpu1" gives "node003". XDC_ECONF when it has none. */
int rendezvous_first_host(const char *list, char out[CONF_STRING_MAX], struct err *e) WARN_UNUSED;
