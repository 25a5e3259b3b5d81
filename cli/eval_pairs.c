#include "cli/eval_pairs.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* A row by what it is of. */
struct item {
    uint64_t video, clip, row;
    uint32_t label;
    enum eval_split split;
};

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->video != y->video)
        return x->video < y->video ? -1 : 1;
    return x->clip < y->clip ? -1 : x->clip > y->clip;
}

/* out [r->n], by video and clip. */
static int list_items(const struct eval_rows *r, struct item *out, struct err *e)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < r->n_videos; i++) {
        const struct eval_video *v = &r->videos[i];
        for (uint32_t c = 0; c < v->clips; c++) {
            uint64_t row = r->order[v->first + c];
            if (r->moments[row].clip == UINT64_MAX)
                return err_set(e, XDC_EFORMAT,
                               "%s: row %" PRIu64 " has no \"clip\", so that nothing says "
                               "which row of the other file it goes with",
                               r->path, row);
            out[n++] = (struct item){v->id, r->moments[row].clip, row, v->label, v->split};
        }
    }
    qsort(out, n, sizeof *out, compare_items);
    for (uint64_t i = 1; i < n; i++)
        if (compare_items(&out[i - 1], &out[i]) == 0)
            return err_set(e, XDC_EFORMAT,
                           "%s: rows %" PRIu64 " and %" PRIu64 " are both clip %" PRIu64 " of video %" PRIu64,
                           r->path, out[i - 1].row, out[i].row, out[i].clip, out[i].video);
    return 0;
}

/* Whether the middle of the shorter moment lies in the longer one: an audio clip is 2 s, a video clip mostly
 * shorter, and both are spread over the whole file. */
static bool meet(const struct eval_moment *a, const struct eval_moment *b)
{
    const struct eval_moment *small = a->seconds < b->seconds ? a : b, *large = small == a ? b : a;
    double middle = small->start_s + small->seconds / 2;
    if (isnan(middle) || isnan(large->start_s + large->seconds))
        return true; /* not said */
    return middle >= large->start_s - 1e-6 && middle <= large->start_s + large->seconds + 1e-6;
}

static int check_pair(const struct eval_rows *const files[2], const struct item *a, const struct item *b,
                      struct err *e)
{
    const struct eval_moment *x = &files[0]->moments[a->row], *y = &files[1]->moments[b->row];
    if (x->uri && y->uri && x->uri != y->uri)
        return err_set(e, XDC_EFORMAT,
                       "video %" PRIu64 " is one file in row %" PRIu64 " of %s and another in row %" PRIu64
                       " of %s: embed both of one manifest",
                       a->video, a->row, files[0]->path, b->row, files[1]->path);
    if (meet(x, y))
        return 0;
    return err_set(e, XDC_EFORMAT,
                   "clip %" PRIu64 " of video %" PRIu64
                   " is at %g s in %s and at %g s in %s: embed both with "
                   "the same --clips, or --window and --stride",
                   a->clip, a->video, x->start_s, files[0]->path, y->start_s, files[1]->path);
}

/* The split of a video by the first file, or by the row where that has not the video. */
static enum eval_split split_of(const struct eval_rows *first, const struct item *i)
{
    uint64_t from = 0, to = first->n_videos;
    while (from < to) {
        uint64_t mid = from + (to - from) / 2;
        if (first->videos[mid].id == i->video)
            return first->videos[mid].split;
        if (first->videos[mid].id < i->video)
            from = mid + 1;
        else
            to = mid;
    }
    return i->split;
}

static int merge(const struct eval_rows *const files[2], const struct item *a, const struct item *b, int part,
                 struct eval_pairs *out, struct err *e)
{
    uint64_t i = 0, j = 0;
    while (i < files[0]->n || j < files[1]->n) {
        int order = i == files[0]->n ? 1 : j == files[1]->n ? -1 : compare_items(&a[i], &b[j]);
        const struct item *is = order <= 0 ? &a[i] : &b[j];
        bool wanted = part == EVAL_NO_SPLIT || (int)split_of(files[0], is) == part;
        if (order == 0 && check_pair(files, &a[i], &b[j], e) < 0)
            return e->code;
        if (wanted && order == 0) {
            out->first[out->n] = a[i].row;
            out->second[out->n] = b[j].row;
            out->label[out->n++] = a[i].label;
        } else if (wanted) {
            out->only[order > 0]++;
        }
        i += order <= 0;
        j += order >= 0;
    }
    if (out->n)
        return 0;
    return err_set(e, XDC_EFORMAT, "%s and %s have no clip in common%s", files[0]->path, files[1]->path,
                   part == EVAL_NO_SPLIT ? "" : " that is of that split");
}

int eval_pairs_match(const struct eval_rows *first, const struct eval_rows *second, int part,
                     struct eval_pairs *out, struct err *e)
{
    const struct eval_rows *const files[2] = {first, second};
    uint64_t most = first->n < second->n ? first->n : second->n;
    struct item *a = malloc((first->n + second->n) * sizeof *a), *b = a + first->n;
    *out = (struct eval_pairs){.first = malloc(most * sizeof *out->first),
                               .second = malloc(most * sizeof *out->second),
                               .label = malloc(most * sizeof *out->label)};
    int rc = a && out->first && out->second && out->label
                 ? 0
                 : err_sys(e, ENOMEM, "%" PRIu64 " rows", first->n + second->n);
    if (rc == 0)
        rc = list_items(first, a, e);
    if (rc == 0)
        rc = list_items(second, b, e);
    if (rc == 0)
        rc = merge(files, a, b, part, out, e);
    free(a);
    if (rc)
        eval_pairs_close(out);
    return rc;
}

void eval_pairs_close(struct eval_pairs *p)
{
    free(p->first);
    free(p->second);
    free(p->label);
    *p = (struct eval_pairs){0};
}
