#include "services/trainer/draw.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/rng.h"

void draw_init_clip_order(struct draw *d, const struct clip_set *set, uint64_t offset)
{
    *d = (struct draw){.kind = DRAW_CLIP_ORDER, .set = set, .offset = offset};
}

void draw_init_listed(struct draw *d, const uint64_t *clips)
{
    *d = (struct draw){.kind = DRAW_LISTED, .listed = clips};
}

void draw_init_shuffled(struct draw *d, const struct clip_set *set, uint64_t seed, const char *purpose,
                        uint32_t round, uint32_t stream, uint64_t offset)
{
    *d = (struct draw){.kind = DRAW_SHUFFLED,
                       .set = set,
                       .seed = seed,
                       .purpose = purpose,
                       .round = round,
                       .stream = stream,
                       .offset = offset,
                       .order_pass = UINT64_MAX};
}

/* Counting sort of the set's labelled clips by cluster; empty clusters are left out. */
static void sort_members(struct draw *d, const struct targets *t, enum net_encoder enc)
{
    uint32_t k = t->classes[enc][0];
    uint64_t n = clip_set_size(d->set);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t label = targets_label(t, enc, 0, clip_set_at(d->set, i));
        if (label != LABEL_NONE)
            d->first[label + 1]++;
    }
    for (uint32_t c = 0; c < k; c++)
        d->first[c + 1] += d->first[c];
    for (uint64_t i = 0; i < n; i++) {
        uint64_t clip = clip_set_at(d->set, i);
        uint32_t label = targets_label(t, enc, 0, clip);
        if (label != LABEL_NONE)
            d->members[d->first[label]++] = (uint32_t)clip;
    }
    /* first[c] now ends cluster c: shift back, dropping empty clusters */
    uint64_t begin = 0;
    for (uint32_t c = 0; c < k; c++) {
        uint64_t end = d->first[c];
        if (end > begin)
            d->first[d->clusters++] = begin;
        begin = end;
    }
    d->first[d->clusters] = begin;
}

int draw_init_resampled(struct draw *d, const struct clip_set *set, uint64_t seed, uint32_t round,
                        uint64_t offset, const struct targets *t, enum net_encoder enc, struct err *e)
{
    *d = (struct draw){
        .kind = DRAW_RESAMPLED, .set = set, .seed = seed, .round = round, .stream = enc, .offset = offset};
    uint64_t n = clip_set_size(set);
    if (t->clips > UINT32_MAX)
        return err_set(e, -EOVERFLOW, "balance: resample holds at most 2^32 clips; use balance: weight");
    d->first = calloc((size_t)t->classes[enc][0] + 2, sizeof *d->first);
    d->members = malloc((n ? n : 1) * sizeof *d->members);
    if (!d->first || !d->members) {
        draw_close(d);
        return err_sys(e, ENOMEM, "lists of clusters");
    }
    sort_members(d, t, enc);
    if (d->clusters == 0) {
        draw_close(d);
        return err_set(e, XDC_EMISMATCH, "no clip of the set has a label");
    }
    return 0;
}

void draw_close(struct draw *d)
{
    free(d->first);
    free(d->members);
    *d = (struct draw){0};
}

uint64_t draw_at(struct draw *d, uint64_t position)
{
    uint64_t i = d->offset + position;
    if (d->kind == DRAW_CLIP_ORDER)
        return clip_set_at(d->set, i);
    if (d->kind == DRAW_LISTED)
        return d->listed[i];
    if (d->kind == DRAW_RESAMPLED) {
        struct rng r;
        rng_init(&r, rng_key(d->seed, "resample", d->round, d->stream, i));
        uint64_t c = rng_below(&r, d->clusters);
        return d->members[d->first[c] + rng_below(&r, d->first[c + 1] - d->first[c])];
    }
    uint64_t n = clip_set_size(d->set);
    uint64_t pass = i / n;
    if (pass != d->order_pass) {
        clip_order_init(&d->order, rng_key(d->seed, d->purpose, d->round, d->stream, pass), n);
        d->order_pass = pass;
    }
    return clip_set_at(d->set, clip_order_at(&d->order, i % n));
}
