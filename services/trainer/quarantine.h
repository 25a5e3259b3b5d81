/* quarantine: clips that their own file keeps from being used, with a reason each. Written by the training
 * thread, read by the loop; a lock inside. Owns its array, sorted by clip. */
#pragma once
#include <jansson.h>
#include <pthread.h>
#include <stdint.h>
#include "lib/err.h"

struct quarantine_entry {
    uint64_t clip;
    uint32_t reason; /* lib/media/codes.h */
};

struct quarantine {
    pthread_mutex_t lock;
    struct quarantine_entry *entries; /* owned */
    size_t n, cap;
};

void quarantine_init(struct quarantine *q);
void quarantine_close(struct quarantine *q);
/* 1 when it is new, 0 when it was there, -ENOMEM. */
int quarantine_add(struct quarantine *q, uint64_t clip, uint32_t reason) WARN_UNUSED;
/* The reason, 0 when the clip is not in. */
uint32_t quarantine_reason(struct quarantine *q, uint64_t clip);
size_t quarantine_count(struct quarantine *q);
/* [[clip, reason], ...], a new reference; NULL without memory. */
json_t *quarantine_to_json(struct quarantine *q);
/* Replaces the contents. XDC_EFORMAT. */
int quarantine_from_json(struct quarantine *q, const json_t *j, struct err *e) WARN_UNUSED;
