#include "lib/conf_across.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct across {
    const struct conf *conf;
    conf_on_conflict on_conflict;
    void *arg;
};

static void conflict(const struct across *x, const char *a, const char *b, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static void conflict(const struct across *x, const char *a, const char *b, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    x->on_conflict(x->arg, a, b, what);
}

static void check_depth(const struct across *x, const char *key, int64_t depth)
{
    if (depth != 10 && depth != 18 && depth != 34)
        conflict(x, key, key, "%s: %" PRId64 " is not 10, 18 or 34", key, depth);
}

/* Rows are kept of clips that both encoders learn from at one step, for an extraction. */
static void check_harvest(const struct across *x)
{
    const struct conf *c = x->conf;
    if (!c->train.harvest)
        return;
    if (c->method == METHOD_SUPERVISED)
        conflict(x, "train.harvest", "method", "train.harvest: method supervised extracts no features");
    else if (c->method == METHOD_SAME_MODALITY)
        conflict(x, "train.harvest", "method",
                 "train.harvest: of same-modality each encoder sees a clip in a way of its own");
    else if (conf_balance(c) == BALANCE_RESAMPLE)
        conflict(
            x, "train.harvest", "train.balance",
            "train.harvest: with train.balance resample each encoder has an order of its own, so that no "
            "clip goes through both; take off or weight");
}

static void check_selavi(const struct across *x)
{
    const struct conf *c = x->conf;
    if (c->method != METHOD_SELAVI)
        return;
    if (c->data.clips_per_video > 1)
        conflict(x, "data.clips_per_video", "method",
                 "data.clips_per_video: selavi gives one label to a video; set it to 1");
    if (c->train.balance == BALANCE_RESAMPLE)
        conflict(x, "train.balance", "method",
                 "train.balance: selavi has several labels a clip, none to draw by; set it to off");
    if (c->train.harvest)
        conflict(x, "train.harvest", "method",
                 "train.harvest: selavi makes its labels of passes of their own; set it to false");
}

/* What takes the place of round 0's clustering needs one. */
static void check_given(const struct across *x)
{
    const struct conf *c = x->conf;
    const char *key = c->init.labels[0] ? "init.labels" : "init.features";
    if (!c->init.labels[0] && !c->init.features[0])
        return;
    if (c->init.labels[0] && c->init.features[0])
        conflict(x, "init.labels", "init.features",
                 "init.labels: with init.features too nothing says which makes round 0's labels; take one");
    if (c->method == METHOD_SELAVI)
        conflict(x, key, "method",
                 "%s: method selavi has its labels from heads, several for each clip; leave it out", key);
    if (c->method == METHOD_SUPERVISED)
        conflict(x, key, "method", "%s: method supervised has its labels from the manifest; leave it out",
                 key);
    if (c->labels.from[0])
        conflict(x, key, "labels.from", "%s: with labels.from nothing is clustered; leave one of them out",
                 key);
}

/* One encoder alone: where the other one has no part in its labels. */
static void check_encoders(const struct across *x)
{
    const struct conf *c = x->conf;
    bool labelled = c->method == METHOD_SUPERVISED || c->labels.from[0];
    const char *init = c->net.encoders == ENCODERS_VIDEO ? c->net.init_audio : c->net.init_video;
    if (c->net.encoders == ENCODERS_BOTH)
        return;
    if (c->train.rounds > 0 && !labelled)
        conflict(x, "net.encoders", "method",
                 "net.encoders: labels are clustered from both encoders; one can be left out with method "
                 "supervised, with labels.from, or with train.rounds 0");
    if (c->method == METHOD_SAME_MODALITY)
        conflict(x, "net.encoders", "method", "net.encoders: both encoders of same-modality see the same");
    if (c->train.probe > 0)
        conflict(x, "net.encoders", "train.probe",
                 "net.encoders: train.probe needs both encoders; set it to 0");
    if (*init)
        conflict(x, "net.encoders", c->net.encoders == ENCODERS_VIDEO ? "net.init_audio" : "net.init_video",
                 "net.encoders: %s is for the encoder that is left out",
                 c->net.encoders == ENCODERS_VIDEO ? "net.init_audio" : "net.init_video");
}

/* What only a run that trains nothing can do without. */
static void check_extraction(const struct across *x)
{
    const struct conf *c = x->conf;
    if (c->data.clip_times == CLIP_WINDOWS && c->train.rounds > 0)
        conflict(x, "data.clip_times", "train.rounds",
                 "data.clip_times: a short video has fewer windows than others; only with train.rounds 0");
    if (c->features.kind == FEATURES_MAPS && c->train.rounds > 0)
        conflict(
            x, "features.kind", "train.rounds",
            "features.kind: labels and heads are made of pooled features; maps only with train.rounds 0");
}

void conf_across(const struct conf *c, conf_on_conflict on_conflict, void *arg)
{
    const struct across x = {c, on_conflict, arg};
    if (c->augment.resize_max != 0 && c->augment.resize_max < c->video.resize)
        conflict(&x, "augment.resize_max", "video.resize",
                 "augment.resize_max: %" PRId64 " is below video.resize %" PRId64 "; 0 switches it off",
                 c->augment.resize_max, c->video.resize);
    /* video.resize is also the smallest side drawn in training and the one of the evaluation crop. */
    if (c->augment.crop_jitter_px < 0 && c->video.crop > c->video.resize)
        conflict(&x, "video.crop", "video.resize",
                 "video.crop: %" PRId64 " does not fit into video.resize %" PRId64, c->video.crop,
                 c->video.resize);
    if (c->train.batch % c->run.ranks)
        conflict(&x, "train.batch", "run.ranks",
                 "train.batch: %" PRId64 " clips cannot be dealt evenly to run.ranks %" PRId64,
                 c->train.batch, c->run.ranks);
    if (c->train.early_stop > 0 && c->train.holdout <= 0)
        conflict(&x, "train.early_stop", "train.holdout",
                 "train.early_stop: nothing is held out to stop by: train.holdout is 0");
    check_harvest(&x);
    check_selavi(&x);
    check_given(&x);
    check_encoders(&x);
    check_extraction(&x);
    check_depth(&x, "net.video_depth", c->net.video_depth);
    check_depth(&x, "net.audio_depth", c->net.audio_depth);
}
