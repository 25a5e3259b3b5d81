#include "cli/pair_counts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 64
#define PARTS 3

static uint64_t pairs_of(uint64_t n)
{
    return n / 2 * (n - 1 + n % 2);
}

static uint64_t hash_of(const uint32_t key[PARTS])
{
    uint64_t h = (uint64_t)key[0] << 32 | key[1];
    h = (h ^ (uint64_t)key[2] * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    return (h ^ h >> 31) * 0x94d049bb133111eb;
}

/* Where the key is, or would be; there is always a free place. */
static struct pair_cell *find(const struct pair_counts *t, const uint32_t key[PARTS])
{
    uint64_t at = hash_of(key) >> 20 & (t->room - 1);
    while (t->cell[at].clips && memcmp(t->cell[at].key, key, sizeof t->cell[at].key) != 0)
        at = (at + 1) & (t->room - 1);
    return &t->cell[at];
}

static int grow(struct pair_counts *t, struct err *e)
{
    struct pair_counts more = {.room = t->room ? 2 * t->room : FIRST_ROOM, .used = t->used};
    more.cell = calloc(more.room, sizeof *more.cell);
    if (!more.cell)
        return err_sys(e, ENOMEM, "counts of %llu cells", (unsigned long long)more.room);
    for (uint64_t i = 0; i < t->room; i++)
        if (t->cell[i].clips)
            *find(&more, t->cell[i].key) = t->cell[i];
    free(t->cell);
    *t = more;
    return 0;
}

int pair_counts_add(struct pair_counts *t, uint32_t first, uint32_t second, uint32_t class, struct err *e)
{
    const uint32_t key[PARTS] = {first, second, class};
    int rc = 3 * (t->used + 1) > 2 * t->room ? grow(t, e) : 0;
    if (rc)
        return rc;
    struct pair_cell *cell = find(t, key);
    memcpy(cell->key, key, sizeof cell->key);
    t->used += cell->clips++ == 0;
    return 0;
}

static int compare_from(const struct pair_cell *x, const struct pair_cell *y, unsigned from)
{
    for (unsigned i = 0; i < PARTS; i++) {
        uint32_t a = x->key[(from + i) % PARTS], b = y->key[(from + i) % PARTS];
        if (a != b)
            return a > b ? 1 : -1;
    }
    return 0;
}

static int by_first(const void *x, const void *y)
{
    return compare_from(x, y, 0);
}

static int by_second(const void *x, const void *y)
{
    return compare_from(x, y, 1);
}

static int by_class(const void *x, const void *y)
{
    return compare_from(x, y, 2);
}

/* out[d]: pairs that are equal in the first d + 1 parts of the key, the parts taken in turn from `from` on,
 * by which the cells are sorted. */
static void sum_runs(const struct pair_counts *t, unsigned from, uint64_t out[PARTS])
{
    uint64_t run[PARTS] = {0};
    memset(out, 0, PARTS * sizeof *out);
    for (uint64_t i = 0; i < t->used; i++) {
        bool equal = i > 0;
        for (unsigned d = 0; d < PARTS; d++) {
            unsigned part = (from + d) % PARTS;
            equal = equal && t->cell[i].key[part] == t->cell[i - 1].key[part];
            if (!equal) {
                out[d] += pairs_of(run[d]);
                run[d] = 0;
            }
            run[d] += t->cell[i].clips;
        }
    }
    for (unsigned d = 0; d < PARTS; d++)
        out[d] += pairs_of(run[d]);
}

void pair_counts_take(struct pair_counts *t, struct pair_sum out[PAIR_KINDS])
{
    uint64_t clips = 0, used = 0, first[PARTS], second[PARTS], class[PARTS];
    for (uint64_t i = 0; i < t->room; i++)
        if (t->cell[i].clips) {
            clips += t->cell[i].clips;
            t->cell[used++] = t->cell[i];
        }
    if (used)
        qsort(t->cell, used, sizeof *t->cell, by_first);
    sum_runs(t, 0, first); /* first; first and second; and class */
    if (used)
        qsort(t->cell, used, sizeof *t->cell, by_second);
    sum_runs(t, 1, second); /* second; second and class */
    if (used)
        qsort(t->cell, used, sizeof *t->cell, by_class);
    sum_runs(t, 2, class); /* class; class and first */
    out[PAIRS_ALL] = (struct pair_sum){pairs_of(clips), class[0]};
    out[PAIRS_FIRST] = (struct pair_sum){first[0], class[1]};
    out[PAIRS_SECOND] = (struct pair_sum){second[0], second[1]};
    out[PAIRS_BOTH] = (struct pair_sum){first[1], first[2]};
    out[PAIRS_EITHER] = (struct pair_sum){first[0] + second[0] - first[1], class[1] + second[1] - first[2]};
    t->used = 0;
    if (t->room)
        memset(t->cell, 0, t->room * sizeof *t->cell);
}

void pair_counts_close(struct pair_counts *t)
{
    free(t->cell);
    *t = (struct pair_counts){0};
}
