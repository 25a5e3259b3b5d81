/* Draws of train videos: few shots, and what is held out. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/eval_probe.h"
#include "lib/rng.h"

static int compare_drawn(const void *a, const void *b)
{
    const struct eval_drawn *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->video < y->video ? -1 : x->video > y->video;
}

void eval_draw(const struct eval_rows *r, const char *purpose, uint64_t seed, uint32_t repeat,
               struct eval_drawn *videos, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const struct eval_video *v = &r->videos[videos[i].video];
        videos[i].label = v->label;
        videos[i].key = rng_key(seed, purpose, v->id, repeat, 0);
    }
    qsort(videos, n, sizeof *videos, compare_drawn);
}

/* End of the run of one class that begins at `i`. */
static uint64_t class_end(const struct eval_drawn *videos, uint64_t n, uint64_t i)
{
    uint64_t end = i;
    while (end < n && videos[end].label == videos[i].label)
        end++;
    return end;
}

int eval_draw_shots(const struct eval_rows *r, uint64_t shots, struct eval_drawn *videos, uint64_t *n,
                    struct err *e)
{
    uint64_t kept = 0;
    for (uint64_t i = 0, end; i < *n; i = end) {
        end = class_end(videos, *n, i);
        if (end - i < shots)
            return err_set(e, XDC_EFORMAT,
                           "%s: the class %s has %" PRIu64 " train videos, --shots needs %" PRIu64 " of each",
                           r->path, r->classes[videos[i].label], end - i, shots);
        memmove(videos + kept, videos + i, shots * sizeof *videos);
        kept += shots;
    }
    *n = kept;
    return 0;
}

int eval_draw_held(const struct eval_rows *r, double share, struct eval_drawn *videos, uint64_t n,
                   uint64_t *out_fit, struct err *e)
{
    uint64_t fit = 0, held = 0;
    struct eval_drawn *aside = malloc((n + 1) * sizeof *aside);
    if (!aside)
        return err_sys(e, ENOMEM, "%" PRIu64 " videos", n);
    for (uint64_t i = 0, end; i < n; i = end) {
        end = class_end(videos, n, i);
        uint64_t most = end - i - 1, m = (uint64_t)llround(share * (double)(end - i));
        m = m < 1 ? 1 : m;
        m = m > most ? most : m;
        memcpy(aside + held, videos + i, m * sizeof *aside);
        held += m;
        memmove(videos + fit, videos + i + m, (end - i - m) * sizeof *videos);
        fit += end - i - m;
    }
    memcpy(videos + fit, aside, held * sizeof *aside);
    free(aside);
    *out_fit = fit;
    return held ? 0
                : err_set(e, XDC_EFORMAT,
                          "%s: no class has two train videos, so none can be held out to choose C; give one "
                          "--c",
                          r->path);
}
