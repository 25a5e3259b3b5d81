#include "cli/eval_neighbours.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "services/clusterer/normalize.h"

const uint32_t eval_recall_k[EVAL_RECALLS] = {1, 5, 10, 20, 50};

/* Means of the videos of test and train, and who is near whom. */
struct pairs {
    uint64_t *queries, *gallery; /* owned: videos */
    uint64_t n_queries, n_gallery;
    float *q, *g; /* owned */
    uint32_t k;
    uint64_t *near;  /* owned, [n_queries, k] into gallery */
    double *squares; /* owned, the same shape */
};

static void pairs_close(struct pairs *p)
{
    free(p->queries);
    free(p->gallery);
    free(p->q);
    free(p->g);
    free(p->near);
    free(p->squares);
    *p = (struct pairs){0};
}

static int pairs_select(const struct eval_rows *r, struct pairs *p, struct err *e)
{
    int rc = eval_rows_select(r, EVAL_TEST, &p->queries, &p->n_queries, e);
    return rc ? rc : eval_rows_select(r, EVAL_TRAIN, &p->gallery, &p->n_gallery, e);
}

static int pairs_search(const struct eval_rows *r, bool unit, unsigned threads, struct pairs *p,
                        struct err *e)
{
    p->q = malloc(p->n_queries * r->d * sizeof *p->q);
    p->g = malloc(p->n_gallery * r->d * sizeof *p->g);
    p->near = malloc(p->n_queries * p->k * sizeof *p->near);
    p->squares = malloc(p->n_queries * p->k * sizeof *p->squares);
    if (!p->q || !p->g || !p->near || !p->squares)
        return err_sys(e, ENOMEM, "means of %" PRIu64 " videos", p->n_queries + p->n_gallery);
    eval_rows_means(r, p->queries, p->n_queries, threads, p->q);
    eval_rows_means(r, p->gallery, p->n_gallery, threads, p->g);
    int rc = unit ? normalize_l2(p->q, p->n_queries, r->d, threads, NULL, e) : 0;
    if (rc == 0 && unit)
        rc = normalize_l2(p->g, p->n_gallery, r->d, threads, NULL, e);
    if (rc == 0)
        rc =
            eval_nearest(p->q, p->n_queries, p->g, p->n_gallery, r->d, p->k, threads, p->near, p->squares, e);
    return rc;
}

static uint32_t neighbour_class(const struct eval_rows *r, const struct pairs *p, uint64_t query, uint32_t i)
{
    return r->videos[p->gallery[p->near[query * p->k + i]]].label;
}

static void predict(const struct eval_rows *r, uint64_t video, uint32_t label, int32_t *predictions)
{
    const struct eval_video *v = &r->videos[video];
    for (uint32_t clip = 0; predictions && clip < v->clips; clip++)
        predictions[r->order[v->first + clip]] = (int32_t)label;
}

static void nothing_predicted(const struct eval_rows *r, int32_t *predictions)
{
    for (uint64_t i = 0; predictions && i < r->n; i++)
        predictions[i] = -1;
}

/* Votes of a query's neighbours, and of which class came first. */
struct ballot {
    double *votes;   /* owned, [classes] */
    uint32_t *first; /* owned, [classes]: its nearest neighbour's place, where it has votes */
};

/* Whether class a comes before b. */
static bool before(const struct ballot *b, uint32_t a, uint32_t other)
{
    return b->votes[a] > b->votes[other] ||
           (b->votes[a] == b->votes[other] && b->votes[a] > 0 && b->first[a] < b->first[other]);
}

static void vote(const struct eval_rows *r, const struct eval_knn_options *o, const struct pairs *p,
                 uint64_t query, const struct ballot *b)
{
    memset(b->votes, 0, r->n_classes * sizeof *b->votes);
    for (uint32_t i = 0; i < p->k; i++) {
        uint32_t c = neighbour_class(r, p, query, i);
        double cosine = 1 - p->squares[query * p->k + i] / 2; /* of rows of length 1 */
        if (b->votes[c] == 0)
            b->first[c] = i;
        b->votes[c] += o->vote == EVAL_WEIGHTED ? exp((cosine - 1) / o->temperature) : 1;
    }
}

static void judge_query(const struct eval_rows *r, const struct pairs *p, uint64_t query,
                        const struct ballot *b, int32_t *predictions, struct eval_score *out)
{
    uint32_t best = 0, rank = 0, label = r->videos[p->queries[query]].label;
    for (uint32_t c = 0; c < r->n_classes; c++) {
        best = before(b, c, best) ? c : best;
        rank += before(b, c, label);
    }
    bool voted = b->votes[label] > 0;
    out->videos++;
    out->video_top1 += voted && rank == 0;
    out->video_top5 += voted && rank < 5;
    out->right[label] += voted && rank == 0;
    predict(r, p->queries[query], best, predictions);
}

int eval_knn(const struct eval_rows *r, const struct eval_knn_options *o, int32_t *predictions,
             struct eval_score *out, struct err *e)
{
    struct pairs p = {.k = o->k};
    struct ballot b = {.votes = calloc(r->n_classes + 1u, sizeof *b.votes),
                       .first = calloc(r->n_classes + 1u, sizeof *b.first)};
    int rc = eval_score_init(out, r->n_classes, e);
    if (rc == 0 && (!b.votes || !b.first))
        rc = err_sys(e, ENOMEM, "%u classes", r->n_classes);
    if (rc == 0)
        rc = pairs_select(r, &p, e);
    if (rc == 0 && p.n_gallery < p.k)
        rc = err_set(e, XDC_EFORMAT, "%s: --k %u neighbours of %" PRIu64 " train videos", r->path, p.k,
                     p.n_gallery);
    if (rc == 0)
        rc = pairs_search(r, o->metric == EVAL_COSINE, o->threads, &p, e);
    nothing_predicted(r, predictions);
    for (uint64_t query = 0; rc == 0 && query < p.n_queries; query++) {
        vote(r, o, &p, query, &b);
        judge_query(r, &p, query, &b, predictions, out);
    }
    free(b.votes);
    free(b.first);
    pairs_close(&p);
    if (rc)
        eval_score_close(out);
    return rc;
}

int eval_retrieve(const struct eval_rows *r, unsigned threads, int32_t *predictions,
                  struct eval_retrieval *out, struct err *e)
{
    struct pairs p = {0};
    *out = (struct eval_retrieval){.right = calloc(r->n_classes + 1u, sizeof *out->right)};
    int rc = out->right ? pairs_select(r, &p, e) : err_sys(e, ENOMEM, "%u classes", r->n_classes);
    out->queries = p.n_queries;
    out->gallery = p.n_gallery;
    p.k = eval_recall_k[EVAL_RECALLS - 1];
    if (p.n_gallery < p.k)
        p.k = (uint32_t)p.n_gallery;
    if (rc == 0)
        rc = pairs_search(r, false, threads, &p, e);
    nothing_predicted(r, predictions);
    for (uint64_t query = 0; rc == 0 && query < p.n_queries; query++) {
        uint32_t label = r->videos[p.queries[query]].label, i = 0;
        while (i < p.k && neighbour_class(r, &p, query, i) != label)
            i++;
        for (unsigned at = 0; at < EVAL_RECALLS; at++)
            out->hits[at] += i < p.k && i < eval_recall_k[at];
        out->right[label] += i == 0;
        predict(r, p.queries[query], neighbour_class(r, &p, query, 0), predictions);
    }
    pairs_close(&p);
    if (rc) {
        free(out->right);
        *out = (struct eval_retrieval){0};
    }
    return rc;
}
