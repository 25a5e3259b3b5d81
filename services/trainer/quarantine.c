#include "services/trainer/quarantine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void quarantine_init(struct quarantine *q)
{
    *q = (struct quarantine){0};
    pthread_mutex_init(&q->lock, NULL);
}

void quarantine_close(struct quarantine *q)
{
    free(q->entries);
    pthread_mutex_destroy(&q->lock);
    *q = (struct quarantine){0};
}

/* Index of the first entry with a clip not below `clip`. */
static size_t lower_bound(const struct quarantine *q, uint64_t clip)
{
    size_t lo = 0, hi = q->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (q->entries[mid].clip < clip)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int insert(struct quarantine *q, uint64_t clip, uint32_t reason)
{
    size_t at = lower_bound(q, clip);
    if (at < q->n && q->entries[at].clip == clip)
        return 0;
    if (q->n == q->cap) {
        size_t cap = q->cap ? 2 * q->cap : 64;
        struct quarantine_entry *grown = realloc(q->entries, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        q->entries = grown;
        q->cap = cap;
    }
    memmove(q->entries + at + 1, q->entries + at, (q->n - at) * sizeof *q->entries);
    q->entries[at] = (struct quarantine_entry){clip, reason};
    q->n++;
    return 1;
}

int quarantine_add(struct quarantine *q, uint64_t clip, uint32_t reason)
{
    pthread_mutex_lock(&q->lock);
    int rc = insert(q, clip, reason);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

uint32_t quarantine_reason(struct quarantine *q, uint64_t clip)
{
    pthread_mutex_lock(&q->lock);
    size_t at = lower_bound(q, clip);
    uint32_t reason = at < q->n && q->entries[at].clip == clip ? q->entries[at].reason : 0;
    pthread_mutex_unlock(&q->lock);
    return reason;
}

size_t quarantine_count(struct quarantine *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

json_t *quarantine_to_json(struct quarantine *q)
{
    json_t *list = json_array();
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; list && i < q->n; i++) {
        json_t *pair = json_pack("[I, i]", (json_int_t)q->entries[i].clip, (int)q->entries[i].reason);
        if (!pair || json_array_append_new(list, pair) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return list;
}

int quarantine_from_json(struct quarantine *q, const json_t *j, struct err *e)
{
    size_t i;
    json_t *pair;
    int rc = json_is_array(j) ? 0 : err_set(e, XDC_EFORMAT, "quarantine is not a list");
    pthread_mutex_lock(&q->lock);
    q->n = 0;
    json_array_foreach((json_t *)j, i, pair)
    {
        json_int_t clip, reason;
        if (rc == 0 && json_unpack(pair, "[I, I]", &clip, &reason) < 0)
            rc = err_set(e, XDC_EFORMAT, "entry %zu of the quarantine is not [clip, reason]", i);
        if (rc == 0 && insert(q, (uint64_t)clip, (uint32_t)reason) < 0)
            rc = err_sys(e, ENOMEM, "quarantine");
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}
