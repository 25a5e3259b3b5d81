#include "cli/eval_cluster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cluster_input.h"
#include "services/clusterer/kmeans.h"
#include "services/clusterer/normalize.h"

struct clustering {
    const struct eval_rows *r;
    const struct eval_cluster_options *o;
    uint64_t *videos, n_videos; /* owned: whose rows are clustered */
    float *x;                   /* owned, [n, d] */
    uint32_t *truth;            /* owned, [n] */
    uint64_t *rows;             /* owned, [n]: of the file; by video the video */
    uint64_t n;
};

static int select_videos(struct clustering *w, struct err *e)
{
    const struct eval_rows *r = w->r;
    w->videos = malloc(r->n_videos * sizeof *w->videos);
    if (!w->videos)
        return err_sys(e, ENOMEM, "%" PRIu64 " videos", r->n_videos);
    for (uint64_t v = 0; v < r->n_videos; v++)
        if (w->o->part == EVAL_NO_SPLIT || (int)r->videos[v].split == w->o->part)
            w->videos[w->n_videos++] = v;
    return w->n_videos ? 0 : err_set(e, XDC_EFORMAT, "%s: no row is of that split", r->path);
}

/* x, truth, rows of what is clustered. */
static int gather(struct clustering *w, struct err *e)
{
    const struct eval_rows *r = w->r;
    uint64_t room = w->o->by_video ? w->n_videos : r->n;
    w->x = malloc(room * r->d * sizeof *w->x);
    w->truth = malloc(room * sizeof *w->truth);
    w->rows = malloc(room * sizeof *w->rows);
    if (!w->x || !w->truth || !w->rows)
        return err_sys(e, ENOMEM, "%" PRIu64 " rows of %u", room, r->d);
    if (w->o->by_video)
        eval_rows_means(r, w->videos, w->n_videos, w->o->threads, w->x);
    for (uint64_t i = 0; i < w->n_videos; i++) {
        const struct eval_video *v = &r->videos[w->videos[i]];
        for (uint32_t clip = 0; clip < (w->o->by_video ? 1 : v->clips); clip++, w->n++) {
            uint64_t row = r->order[v->first + clip];
            w->truth[w->n] = v->label;
            w->rows[w->n] = w->o->by_video ? w->videos[i] : row;
            if (!w->o->by_video)
                memcpy(w->x + w->n * r->d, r->x + row * r->d, r->d * sizeof *w->x);
        }
    }
    return 0;
}

static int choose_k(const struct clustering *w, struct eval_clusters *out, struct err *e)
{
    const struct eval_rows *r = w->r;
    bool *has = calloc(r->n_classes + 1u, sizeof *has);
    if (!has)
        return err_sys(e, ENOMEM, "%u classes", r->n_classes);
    for (uint64_t i = 0; i < w->n; i++) {
        if (w->truth[i] == LABEL_NONE)
            continue;
        out->classes += !has[w->truth[i]];
        has[w->truth[i]] = true;
    }
    free(has);
    out->k = w->o->k ? w->o->k : out->classes;
    if (out->classes < 2)
        return err_set(e, XDC_EFORMAT, "%s: what is clustered has %u classes; two are needed to compare with",
                       r->path, out->classes);
    if (out->k > w->n)
        return err_set(e, XDC_EFORMAT, "%s: --k %" PRIu64 " clusters of %" PRIu64 " rows", r->path, out->k,
                       w->n);
    return 0;
}

/* k-means works best on centred rows, and a translation changes no clustering. */
static int centre(struct clustering *w, struct err *e)
{
    double *mean = malloc(w->r->d * sizeof *mean);
    if (!mean)
        return err_sys(e, ENOMEM, "a row of %u", w->r->d);
    int rc = normalize_mean(w->x, w->n, w->r->d, w->o->threads, NULL, mean, e);
    if (rc == 0)
        rc = normalize_subtract(w->x, w->n, w->r->d, mean, w->o->threads, NULL, e);
    free(mean);
    return rc;
}

/* Labels of the clustered as labels of the file's rows. */
static int spread(const struct clustering *w, const uint32_t *labels, struct eval_clusters *out,
                  struct err *e)
{
    const struct eval_rows *r = w->r;
    out->labels = malloc(r->n * sizeof *out->labels);
    if (!out->labels)
        return err_sys(e, ENOMEM, "%" PRIu64 " labels", r->n);
    for (uint64_t i = 0; i < r->n; i++)
        out->labels[i] = -1;
    for (uint64_t i = 0; i < w->n; i++) {
        if (!w->o->by_video) {
            out->labels[w->rows[i]] = (int32_t)labels[i];
            continue;
        }
        const struct eval_video *v = &r->videos[w->rows[i]];
        for (uint32_t clip = 0; clip < v->clips; clip++)
            out->labels[r->order[v->first + clip]] = (int32_t)labels[i];
    }
    return 0;
}

static int run_kmeans(struct clustering *w, struct eval_clusters *out, struct err *e)
{
    struct kmeans_result found = {0};
    struct kmeans_options o = {.k = (uint32_t)out->k,
                               .restarts = w->o->restarts,
                               .iterations = w->o->iterations,
                               .tolerance = 1e-6,
                               .threads = w->o->threads,
                               .seed = w->o->seed,
                               .init = KMEANS_PLUSPLUS};
    int rc = cluster_check_distinct(w->r->path, w->x, w->n, w->r->d, o.k, e);
    if (rc == 0)
        rc = kmeans_run(w->x, w->n, w->r->d, &o, &found, e);
    if (rc)
        return rc;
    out->objective = found.objective;
    out->iterations = found.iterations;
    rc = spread(w, found.labels, out, e);
    if (rc == 0)
        rc = quality_sizes(found.labels, w->n, o.k, &out->sizes, e);
    if (rc == 0)
        rc = quality_agreement(found.labels, w->truth, w->n, &out->agreement, e);
    if (rc == 0)
        rc = quality_truth(found.labels, w->truth, w->n, &out->truth, e);
    kmeans_result_close(&found);
    return rc;
}

int eval_cluster(const struct eval_rows *r, const struct eval_cluster_options *o, struct eval_clusters *out,
                 struct err *e)
{
    struct clustering w = {.r = r, .o = o};
    *out = (struct eval_clusters){0};
    int rc = select_videos(&w, e);
    if (rc == 0)
        rc = gather(&w, e);
    out->n = w.n;
    if (rc == 0)
        rc = choose_k(&w, out, e);
    if (rc == 0)
        rc = centre(&w, e);
    if (rc == 0)
        rc = run_kmeans(&w, out, e);
    free(w.videos);
    free(w.x);
    free(w.truth);
    free(w.rows);
    if (rc)
        eval_clusters_close(out);
    return rc;
}

void eval_clusters_close(struct eval_clusters *c)
{
    free(c->labels);
    *c = (struct eval_clusters){0};
}
