#include "services/trainer/targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* algorithms.md 1.2 and 4: the whole difference between the methods. */
static const struct targets_method methods[] = {
    [METHOD_SDC] = {.heads = {1, 1}, .source = {{"video"}, {"audio"}}},
    [METHOD_MDC] = {.heads = {2, 2}, .source = {{"video", "audio"}, {"audio", "video"}}},
    [METHOD_CDC] = {.heads = {1, 1}, .source = {{"joint"}, {"joint"}}},
    [METHOD_XDC] = {.heads = {1, 1}, .source = {{"audio"}, {"video"}}},
    [METHOD_SUPERVISED] = {.heads = {1, 1}, .source = {{"truth"}, {"truth"}}},
    [METHOD_SAME_MODALITY] = {.heads = {1, 1}},
    [METHOD_SELAVI] = {.heads = {0, 0}}, /* selavi.heads, a source for each */
};

void targets_method(const struct conf *c, struct targets_method *out)
{
    *out = methods[c->method];
    conf_print_value(c, conf_find("method"), out->name, sizeof out->name);
    out->clusters = c->method != METHOD_SUPERVISED && !c->labels.from[0];
    out->keeps_heads = c->heads.between_rounds == HEADS_KEEP;
    out->mlp = c->heads.kind == NET_HEAD_MLP;
    out->pair = conf_pair(c);
    if (out->pair != NET_PAIR_BOTH) { /* each learns the other's */
        out->source[NET_VIDEO][0] = net_encoder_name(out->pair, NET_AUDIO);
        out->source[NET_AUDIO][0] = net_encoder_name(out->pair, NET_VIDEO);
    }
    if (c->method == METHOD_SELAVI) {
        out->heads[NET_VIDEO] = out->heads[NET_AUDIO] = (uint32_t)c->selavi.heads;
        for (uint32_t h = 0; h < out->heads[NET_VIDEO]; h++)
            out->source[NET_VIDEO][h] = out->source[NET_AUDIO][h] = label_head_source(h);
        out->groups = (uint32_t)c->selavi.groups;
        out->keeps_heads = c->heads.between_rounds != HEADS_FRESH;
        out->mlp = c->heads.kind != NET_HEAD_LINEAR;
    }
}

static int count_classes(struct targets *t, struct err *e)
{
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        for (uint32_t h = 0; h < t->method->heads[enc]; h++) {
            uint64_t *counts = calloc(t->classes[enc][h], sizeof *counts);
            if (!counts)
                return err_sys(e, ENOMEM, "count labels");
            t->counts[enc][h] = counts;
            for (uint64_t c = 0; c < t->clips; c++) {
                uint32_t label = targets_label(t, (enum net_encoder)enc, h, c);
                if (label == LABEL_NONE)
                    continue;
                if (label >= t->classes[enc][h])
                    return err_set(e, XDC_EFORMAT, "label %u of clip %llu is not below k = %u", label,
                                   (unsigned long long)c, t->classes[enc][h]);
                counts[label]++;
                t->labelled[enc][h]++;
            }
            if (t->labelled[enc][h] == 0)
                return err_set(e, XDC_EMISMATCH, "no clip has a label of source %s",
                               t->method->source[enc][h]);
        }
    }
    return 0;
}

int targets_adopt(struct targets *t, const struct targets_method *method, struct label_table *table,
                  struct err *e)
{
    *t = (struct targets){.method = method, .table = table};
    const struct label_info *info = label_table_info(table);
    t->clips = info->clips;
    t->hash = info->hash;
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        for (uint32_t h = 0; h < t->method->heads[enc]; h++) {
            int s = label_table_source(table, t->method->source[enc][h]);
            if (s < 0) {
                targets_close(t);
                return err_set(e, XDC_EMISMATCH, "the label table has no source %s, which method %s needs",
                               method->source[enc][h], method->name);
            }
            t->source[enc][h] = s;
            t->classes[enc][h] = info->source[s].k;
        }
    }
    int rc = count_classes(t, e);
    if (rc < 0)
        targets_close(t);
    return rc;
}

int targets_truth(struct targets *t, const struct targets_method *method, const struct manifest *m,
                  uint32_t clips_per_video, struct err *e)
{
    *t = (struct targets){.method = method};
    uint32_t classes = manifest_classes(m);
    if (classes == 0)
        return err_set(e, XDC_ECONF,
                       "method supervised needs labels: make the manifest with xdc index --labels");
    t->clips = manifest_count(m) * clips_per_video;
    t->truth = malloc((t->clips ? t->clips : 1) * sizeof *t->truth);
    struct manifest_video *v = malloc(sizeof *v);
    int rc = t->truth && v ? 0 : err_sys(e, ENOMEM, "labels of the manifest");
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        rc = manifest_get(m, i, v, e);
        for (uint32_t j = 0; rc == 0 && j < clips_per_video; j++)
            t->truth[i * clips_per_video + j] = v->truth < 0 ? LABEL_NONE : (uint32_t)v->truth;
    }
    free(v);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        t->classes[enc][0] = classes;
    if (rc == 0) {
        t->hash = XXH3_64bits(t->truth, t->clips * sizeof *t->truth);
        rc = count_classes(t, e);
    }
    if (rc < 0)
        targets_close(t);
    return rc;
}

void targets_close(struct targets *t)
{
    label_table_close(t->table);
    free(t->truth);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        for (unsigned h = 0; h < TARGETS_MAX; h++)
            free(t->counts[enc][h]);
    *t = (struct targets){0};
}

uint32_t targets_label(const struct targets *t, enum net_encoder enc, uint32_t head, uint64_t clip)
{
    if (clip >= t->clips)
        return LABEL_NONE;
    if (t->truth)
        return t->truth[clip];
    return label_table_get(t->table, (uint32_t)t->source[enc][head], clip);
}

bool targets_labelled(const struct targets *t, enum net_encoder enc, uint64_t clip)
{
    for (uint32_t h = 0; h < t->method->heads[enc]; h++)
        if (targets_label(t, enc, h, clip) != LABEL_NONE)
            return true;
    return false;
}

float targets_weight(const struct targets *t, enum net_encoder enc, uint32_t head, uint32_t label)
{
    uint64_t n = t->counts[enc][head][label];
    if (n == 0)
        return 0.0f;
    return (float)((double)t->labelled[enc][head] / ((double)t->classes[enc][head] * (double)n));
}
