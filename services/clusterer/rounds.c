#include "services/clusterer/rounds.h"

#include <stdlib.h>

void rounds_close(struct rounds *r)
{
    free(r->entry);
    *r = (struct rounds){0};
}

struct round_entry *rounds_find(struct rounds *r, uint32_t round)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->entry[i].round == round)
            return &r->entry[i];
    return NULL;
}

struct round_entry *rounds_get(struct rounds *r, uint32_t round)
{
    struct round_entry *found = rounds_find(r, round);
    if (found)
        return found;
    if (r->n == r->room) {
        uint32_t room = r->room ? 2 * r->room : 16;
        struct round_entry *more = realloc(r->entry, room * sizeof *more);
        if (!more)
            return NULL;
        r->entry = more;
        r->room = room;
    }
    r->entry[r->n] = (struct round_entry){.round = round, .state = ROUND_FAILED};
    return &r->entry[r->n++];
}

void rounds_drop_unseen(struct rounds *r)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        if (!r->entry[i].seen)
            continue;
        r->entry[i].seen = false;
        r->entry[kept++] = r->entry[i];
    }
    r->n = kept;
}
