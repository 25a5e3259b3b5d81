#include "cli/eval_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cluster_figures.h"
#include "lib/progress.h"
#include "services/clusterer/rows.h"

struct probe {
    const struct eval_rows *r;
    const struct eval_probe_options *o;
    struct eval_probe *out;
    struct eval_design design;
    uint64_t *val, *test, n_val, n_test; /* owned: videos */
    struct eval_drawn *drawn;            /* owned: train videos, in the order of a draw */
    uint64_t n_drawn;
    uint64_t *train, n_train; /* owned */
    uint64_t *list;           /* owned, room for all videos */
    uint64_t *rows;           /* owned, room for all rows */
    uint32_t *labels;         /* owned, room for all rows */
};

/* Videos, judged on several threads. */
struct judging {
    const struct probe *p;
    const struct eval_model *model;
    const uint64_t *videos;
    double *scores;       /* [threads, 2, classes] */
    uint32_t *ranks;      /* [videos] */
    uint32_t *clip_ranks; /* [rows] */
    int32_t *predictions; /* [rows] or NULL */
};

static void judge_video(void *arg, uint64_t i, unsigned worker)
{
    const struct judging *s = arg;
    const struct eval_rows *r = s->p->r;
    const struct eval_video *v = &r->videos[s->videos[i]];
    uint32_t classes = s->model->classes;
    double *mean = s->scores + (size_t)worker * 2 * classes, *scores = mean + classes;
    memset(mean, 0, classes * sizeof *mean);
    for (uint64_t clip = 0; clip < v->clips; clip++) {
        uint64_t row = r->order[v->first + clip];
        eval_model_scores(s->model, s->p->design.rows[row], scores);
        for (uint32_t c = 0; c < classes; c++)
            mean[c] += scores[c] / v->clips;
        s->clip_ranks[row] = eval_rank(scores, classes, v->label);
        if (s->predictions)
            s->predictions[row] = (int32_t)eval_best(scores, classes);
    }
    s->ranks[i] = eval_rank(mean, classes, v->label);
}

static void count_video(const struct judging *s, uint64_t i, struct eval_score *out)
{
    const struct eval_rows *r = s->p->r;
    const struct eval_video *v = &r->videos[s->videos[i]];
    out->videos++;
    out->video_top1 += s->ranks[i] == 0;
    out->video_top5 += s->ranks[i] < 5;
    out->right[v->label] += s->ranks[i] == 0;
    out->clips += v->clips;
    for (uint64_t clip = 0; clip < v->clips; clip++) {
        uint32_t rank = s->clip_ranks[r->order[v->first + clip]];
        out->clip_top1 += rank == 0;
        out->clip_top5 += rank < 5;
    }
}

static int judge(const struct probe *p, const struct eval_model *m, const uint64_t *videos, uint64_t n,
                 int32_t *predictions, struct eval_score *out, struct err *e)
{
    struct judging s = {.p = p, .model = m, .videos = videos, .predictions = predictions};
    s.scores = malloc((size_t)p->o->threads * 2 * m->classes * sizeof *s.scores);
    s.ranks = malloc((n + 1) * sizeof *s.ranks);
    s.clip_ranks = malloc(p->r->n * sizeof *s.clip_ranks);
    int rc = eval_score_init(out, m->classes, e);
    if (rc == 0 && (!s.scores || !s.ranks || !s.clip_ranks))
        rc = err_sys(e, ENOMEM, "scores of %" PRIu64 " videos", n);
    if (rc == 0)
        rows_run(p->o->threads, n, NULL, judge_video, &s);
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        count_video(&s, i, out);
    free(s.scores);
    free(s.ranks);
    free(s.clip_ranks);
    if (rc)
        eval_score_close(out);
    return rc;
}

/* Fits on the first n drawn videos. */
static int fit(const struct probe *p, uint64_t n, double c, struct eval_model *out, struct err *e)
{
    struct eval_fit f = {.loss = p->o->loss,
                         .c = c,
                         .threads = p->o->threads,
                         .rows = p->rows,
                         .labels = p->labels,
                         .classes = p->r->n_classes};
    for (uint64_t i = 0; i < n; i++) {
        const struct eval_video *v = &p->r->videos[p->drawn[i].video];
        for (uint32_t clip = 0; clip < v->clips; clip++) {
            p->rows[f.n] = p->r->order[v->first + clip];
            p->labels[f.n++] = v->label;
        }
    }
    return eval_model_fit(&p->design, &f, out, e);
}

/* The C with which most held-out videos are right. */
static int choose_c(struct probe *p, uint32_t repeat, struct eval_repeat *out, struct err *e)
{
    const struct eval_probe_options *o = p->o;
    const uint64_t *held = p->val;
    uint64_t n = p->n_drawn, n_held = p->n_val, best = 0;
    int rc = 0;
    out->c = o->c[0];
    if (o->n_c == 1)
        return 0;
    if (!p->n_val) {
        eval_draw(p->r, "eval-holdout", o->seed, repeat, p->drawn, p->n_drawn);
        rc = eval_draw_held(p->r, o->holdout, p->drawn, p->n_drawn, &n, e);
        n_held = p->n_drawn - n;
        for (uint64_t i = 0; i < n_held; i++)
            p->list[i] = p->drawn[n + i].video;
        held = p->list;
    }
    out->held = n_held;
    for (uint32_t i = 0; rc == 0 && i < o->n_c; i++) {
        struct eval_model m = {0};
        struct eval_score score = {0};
        rc = fit(p, n, o->c[i], &m, e);
        if (rc == 0)
            rc = judge(p, &m, held, n_held, NULL, &score, e);
        out->right[i] = score.video_top1;
        if (rc == 0 && score.video_top1 > best) {
            best = score.video_top1;
            out->c = o->c[i];
        }
        eval_score_close(&score);
        eval_model_close(&m);
    }
    return rc;
}

static int run_repeat(struct probe *p, uint32_t repeat, struct eval_repeat *out, struct err *e)
{
    struct eval_model m = {0};
    double at = progress_now_s();
    p->n_drawn = p->n_train;
    for (uint64_t i = 0; i < p->n_train; i++)
        p->drawn[i].video = p->train[i];
    eval_draw(p->r, "eval-shots", p->o->seed, repeat, p->drawn, p->n_drawn);
    int rc = p->o->shots ? eval_draw_shots(p->r, p->o->shots, p->drawn, &p->n_drawn, e) : 0;
    if (rc == 0)
        rc = choose_c(p, repeat, out, e);
    p->out->choose_s += cluster_lap(&at);
    out->fitted = p->n_drawn;
    if (rc == 0)
        rc = fit(p, p->n_drawn, out->c, &m, e);
    p->out->fit_s += cluster_lap(&at);
    for (uint64_t i = 0; i < p->r->n; i++)
        p->out->predictions[i] = -1;
    if (rc == 0)
        rc = judge(p, &m, p->test, p->n_test, p->out->predictions, &out->score, e);
    p->out->test_s += cluster_lap(&at);
    eval_model_close(&m);
    return rc;
}

static int prepare(struct probe *p, struct err *e)
{
    const struct eval_rows *r = p->r;
    int rc = eval_rows_select(r, EVAL_TRAIN, &p->train, &p->n_train, e);
    if (rc == 0)
        rc = eval_rows_select(r, EVAL_VAL, &p->val, &p->n_val, e);
    if (rc == 0)
        rc = eval_rows_select(r, EVAL_TEST, &p->test, &p->n_test, e);
    if (rc == 0)
        rc = eval_design_create(r->x, r->n, r->d, &p->design, e);
    if (rc)
        return rc;
    p->drawn = calloc(p->n_train + 1, sizeof *p->drawn);
    p->list = malloc((r->n_videos + 1) * sizeof *p->list);
    p->rows = malloc(r->n * sizeof *p->rows);
    p->labels = malloc(r->n * sizeof *p->labels);
    p->out->predictions = malloc(r->n * sizeof *p->out->predictions);
    p->out->repeats = calloc(p->o->repeats, sizeof *p->out->repeats);
    if (!p->drawn || !p->list || !p->rows || !p->labels || !p->out->predictions || !p->out->repeats)
        return err_sys(e, ENOMEM, "%" PRIu64 " rows", r->n);
    p->out->n_repeats = p->o->repeats;
    return 0;
}

int eval_probe_run(const struct eval_rows *r, const struct eval_probe_options *o, struct eval_probe *out,
                   struct err *e)
{
    struct probe p = {.r = r, .o = o, .out = out};
    *out = (struct eval_probe){0};
    int rc = prepare(&p, e);
    for (uint32_t i = 0; rc == 0 && i < o->repeats; i++)
        rc = run_repeat(&p, i, &out->repeats[i], e);
    eval_design_close(&p.design);
    free(p.train);
    free(p.val);
    free(p.test);
    free(p.drawn);
    free(p.list);
    free(p.rows);
    free(p.labels);
    if (rc)
        eval_probe_close(out);
    return rc;
}

void eval_probe_close(struct eval_probe *p)
{
    for (uint32_t i = 0; i < p->n_repeats; i++)
        eval_score_close(&p->repeats[i].score);
    free(p->repeats);
    free(p->predictions);
    *p = (struct eval_probe){0};
}
