#include "cli/finetune_score.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "cli/eval_rows.h"
#include "cli/eval_score.h"
#include "lib/manifest.h"
#include "lib/tensor.h"

/* The classifier: logits = weight f + bias. */
struct classifier {
    struct safetensors *file; /* owned */
    const float *weight;      /* [classes, d] */
    const float *bias;        /* [classes] */
    uint32_t classes;
    uint64_t d;
};

struct scoring {
    struct classifier fc;
    struct manifest *m;   /* owned */
    struct eval_rows r;   /* owned */
    uint32_t *output;     /* owned, [r.n_classes]: the classifier's output of each class */
    bool *learnt;         /* owned, [classes]: train has a video of it */
    double *sums, *means; /* owned, [classes]: of the softmax and of the logits over a video's clips */
    double *logits;       /* owned, [classes] */
    struct eval_score score, by_logits;
};

static int open_classifier(const char *path, struct classifier *c, struct err *e)
{
    int rc = safetensors_open(path, &c->file, e);
    if (rc < 0)
        return rc;
    const struct tensor *w = safetensors_find(c->file, "fc.weight"),
                        *b = safetensors_find(c->file, "fc.bias");
    if (!w) {
        w = safetensors_find(c->file, "classifier.1.weight");
        b = safetensors_find(c->file, "classifier.1.bias");
    }
    if (!w || !b || w->dtype != TENSOR_F32 || b->dtype != TENSOR_F32 || w->ndim < 2 || w->shape[0] == 0 ||
        w->shape[0] != tensor_count(b))
        return err_set(e, XDC_EFORMAT, "%s: has no classifier", path);
    c->weight = w->data;
    c->bias = b->data;
    c->classes = (uint32_t)w->shape[0];
    c->d = tensor_count(w) / w->shape[0];
    for (uint64_t i = 0; i < tensor_count(w); i++)
        if (!isfinite(c->weight[i]) || !isfinite(c->bias[i / c->d]))
            return err_set(e, XDC_EFORMAT, "%s: the classifier has numbers that are not finite", path);
    return 0;
}

static int find_learnt(struct scoring *s, struct err *e)
{
    struct manifest_video *v = malloc(sizeof *v);
    s->learnt = calloc(s->fc.classes + 1u, sizeof *s->learnt);
    int rc = v && s->learnt ? 0 : err_sys(e, ENOMEM, "%u classes", s->fc.classes);
    for (uint64_t i = 0; rc == 0 && i < manifest_count(s->m); i++) {
        rc = manifest_get(s->m, i, v, e);
        if (rc == 0 && v->truth >= 0 && v->split == MANIFEST_SPLIT_TRAIN)
            s->learnt[v->truth] = true;
    }
    free(v);
    return rc;
}

/* Which output each class of the features has. */
static int match_classes(struct scoring *s, struct err *e)
{
    uint32_t n = manifest_classes(s->m);
    if (n != s->fc.classes || s->r.d != s->fc.d)
        return err_set(e, XDC_EMISMATCH,
                       "the classifier has %u outputs of %" PRIu64
                       " features, the manifest %u classes and %s "
                       "%u columns",
                       s->fc.classes, s->fc.d, n, s->r.path, s->r.d);
    s->output = malloc((s->r.n_classes + 1u) * sizeof *s->output);
    s->sums = malloc(3 * (size_t)n * sizeof *s->sums);
    if (!s->output || !s->sums)
        return err_sys(e, ENOMEM, "%u classes", n);
    s->means = s->sums + n;
    s->logits = s->means + n;
    for (uint32_t c = 0; c < s->r.n_classes; c++) {
        s->output[c] = UINT32_MAX;
        for (uint32_t i = 0; i < n; i++)
            if (strcmp(manifest_class_name(s->m, (int32_t)i), s->r.classes[c]) == 0)
                s->output[c] = i;
        if (s->output[c] == UINT32_MAX)
            return err_set(e, XDC_EMISMATCH, "%s: the manifest has no class %s", s->r.path, s->r.classes[c]);
    }
    return 0;
}

/* Adds a clip's softmax and logits to the sums. */
static void add_clip(struct scoring *s, const float *x)
{
    uint32_t n = s->fc.classes;
    double most = -INFINITY, sum = 0;
    for (uint32_t c = 0; c < n; c++) {
        double dot = s->fc.bias[c];
        for (uint64_t i = 0; i < s->fc.d; i++)
            dot += (double)s->fc.weight[c * s->fc.d + i] * x[i];
        s->logits[c] = dot;
        most = fmax(most, dot);
    }
    for (uint32_t c = 0; c < n; c++)
        sum += exp(s->logits[c] - most);
    for (uint32_t c = 0; c < n; c++) {
        s->sums[c] += exp(s->logits[c] - most) / sum;
        s->means[c] += s->logits[c];
    }
}

/* As eval_rank; of a class that was not learnt no answer is right, whatever its weights were drawn as. */
static uint32_t rank_of(const struct scoring *s, const double *scores, uint32_t label)
{
    return s->learnt[label] ? eval_rank(scores, s->fc.classes, label) : UINT32_MAX;
}

static void score_video(struct scoring *s, const struct eval_video *v)
{
    uint32_t n = s->fc.classes, label = s->output[v->label];
    memset(s->sums, 0, 2 * (size_t)n * sizeof *s->sums);
    for (uint32_t i = 0; i < v->clips; i++) {
        add_clip(s, s->r.x + s->r.order[v->first + i] * s->fc.d);
        uint32_t rank = rank_of(s, s->logits, label);
        s->score.clips++;
        s->score.clip_top1 += rank == 0;
        s->score.clip_top5 += rank < 5;
    }
    uint32_t rank = rank_of(s, s->sums, label);
    s->score.videos++;
    s->score.video_top1 += rank == 0;
    s->score.video_top5 += rank < 5;
    s->score.right[label] += rank == 0;
    s->by_logits.video_top1 += rank_of(s, s->means, label) == 0;
}

static json_t *per_class(const struct scoring *s, const uint64_t *test)
{
    json_t *list = json_array();
    for (uint32_t c = 0; c < s->r.n_classes; c++) {
        uint64_t right = s->score.right[s->output[c]];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:o}", "class", s->r.classes[c], "test",
                                        (json_int_t)test[c], "right", (json_int_t)right, "accuracy",
                                        test[c] ? json_real((double)right / (double)test[c]) : json_null()));
    }
    return list;
}

static json_t *outputs(const struct scoring *s)
{
    json_t *list = json_array();
    for (uint32_t c = 0; c < s->fc.classes; c++)
        json_array_append_new(list, json_string(manifest_class_name(s->m, (int32_t)c)));
    return list;
}

static int count_test(struct scoring *s, json_t **out, struct err *e)
{
    uint64_t *videos = NULL, n = 0, *test = calloc(s->r.n_classes + 1u, sizeof *test);
    int rc = test ? eval_rows_select(&s->r, EVAL_TEST, &videos, &n, e) : err_sys(e, ENOMEM, "classes");
    if (rc == 0 && n == 0)
        rc = err_set(e, XDC_EFORMAT, "%s: no test video with a class has a row", s->r.path);
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        score_video(s, &s->r.videos[videos[i]]);
    if (rc == 0) {
        double v = (double)s->score.videos, c = (double)s->score.clips;
        eval_rows_count(&s->r, EVAL_TEST, test);
        json_t *figures = json_pack(
            "{s:f, s:f, s:f, s:f, s:f}", "video_top1", (double)s->score.video_top1 / v, "video_top5",
            (double)s->score.video_top5 / v, "clip_top1", (double)s->score.clip_top1 / c, "clip_top5",
            (double)s->score.clip_top5 / c, "video_top1_logits", (double)s->by_logits.video_top1 / v);
        *out = json_pack("{s:o, s:I, s:I, s:o, s:o}", "figures", figures, "videos",
                         (json_int_t)s->score.videos, "clips", (json_int_t)s->score.clips, "per_class",
                         per_class(s, test), "outputs", outputs(s));
        rc = *out ? 0 : err_sys(e, ENOMEM, "figures");
    }
    free(videos);
    free(test);
    return rc;
}

int finetune_score(const char *encoder, const char *manifest, const char *features, json_t **out,
                   struct err *e)
{
    struct scoring s = {0};
    const struct eval_sources sources = {.features = features};
    int rc = open_classifier(encoder, &s.fc, e);
    if (rc == 0)
        rc = manifest_open(manifest, &s.m, e);
    if (rc == 0)
        rc = eval_rows_read(&sources, 1, &s.r, e);
    if (rc == 0)
        rc = match_classes(&s, e);
    if (rc == 0)
        rc = find_learnt(&s, e);
    if (rc == 0)
        rc = eval_score_init(&s.score, s.fc.classes, e);
    if (rc == 0)
        rc = count_test(&s, out, e);
    eval_score_close(&s.score);
    free(s.output);
    free(s.learnt);
    free(s.sums);
    eval_rows_close(&s.r);
    manifest_close(s.m);
    safetensors_close(s.fc.file);
    return rc;
}
