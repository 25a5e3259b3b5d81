#include "cli/embed_conf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/manifest.h"

static const char *const for_video[] = {"net.encoders=video"};
/* Nothing is decoded into these frames, but two seconds of them are what a clip of sound takes. */
static const char *const for_audio[] = {"net.encoders=audio", "video.frames=2", "video.fps=1",
                                        "video.resize=16", "video.crop=16"};
static const char *const for_both[] = {
    "method=xdc",          "train.rounds=0",          "train.holdout=0",
    "train.probe=0",       "train.tensorboard=false", "features.dtype=f32",
    "run.clusterer=false", "limits.max_bad_share=1",  "data.min_sound_s=0"};
/* What this command sets itself, by options or for what it does. */
static const char *const taken[] = {
    "run.dir",       "run.clusterer",        "data.manifest",  "data.split",     "data.window_s",
    "data.stride_s", "data.clips_per_video", "net.init_video", "net.init_audio", "method",
    "train.rounds",  "net.encoders",         "features.dtype", "features.kind"};

static int check_set(const struct embed_request *q, const struct embed_conf *c, const char *set,
                     struct err *e)
{
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (settings_value(set, taken[i]))
            return err_set(e, XDC_ECONF, "--set %s: embed sets %s itself", set, taken[i]);
    if (q->windows && settings_value(set, "data.clip_times"))
        return err_set(e, XDC_ECONF, "--set %s: --window and --stride say when clips start", set);
    for (size_t i = 0; i < c->encoder.n; i++) {
        const struct encoder_setting *s = &c->encoder.settings[i];
        const char *value = settings_value(set, s->key);
        bool of_clips = q->maps && strncmp(s->key, "video.", 6) == 0;
        if (value && !of_clips && !settings_same(value, s->value))
            return err_set(e, XDC_ECONF, "--set %s: the encoder in %s has %s %s", set, q->encoder, s->key,
                           s->value);
    }
    return 0;
}

/* What the file lacks must come from --set. */
static int check_missing(const struct embed_request *q, const struct embed_conf *c, struct err *e)
{
    char keys[400] = "", sets[400] = "";
    size_t k = 0, s = 0;
    for (size_t i = 0; i < c->encoder.n_missing; i++) {
        const char *key = c->encoder.missing[i];
        bool given = false;
        for (uint32_t j = 0; j < q->n_sets; j++)
            given |= settings_value(q->sets[j], key) != NULL;
        if (given)
            continue;
        k += (size_t)snprintf(keys + k, sizeof keys - k, "%s%s", k ? ", " : "", key);
        s += (size_t)snprintf(sets + s, sizeof sets - s, " --set %s=...", key);
    }
    return k == 0 ? 0
                  : err_set(e, XDC_EFORMAT, "%s does not record %s: say what the encoder was made for,%s",
                            q->encoder, keys, sets);
}

static int add_request(const struct embed_request *q, struct embed_conf *c, struct err *e)
{
    bool video = c->encoder.sees == NET_VIDEO;
    int rc = settings_add_list(&c->sets, for_both, sizeof for_both / sizeof *for_both, e);
    if (rc == 0 && video)
        rc = settings_add_list(&c->sets, for_video, sizeof for_video / sizeof *for_video, e);
    if (rc == 0 && !video)
        rc = settings_add_list(&c->sets, for_audio, sizeof for_audio / sizeof *for_audio, e);
    if (rc == 0)
        rc = settings_add(&c->sets, e, "run.dir=%s", q->run_dir);
    if (rc == 0)
        rc = settings_add(&c->sets, e, "data.manifest=%s", q->manifest);
    if (rc == 0)
        rc = settings_add(&c->sets, e, "net.init_%s=%s", video ? "video" : "audio", q->encoder);
    static const char *const splits[] = {"auto", "train", "val", "test", "all"};
    if (rc == 0)
        rc = settings_add(&c->sets, e, "data.split=%s", splits[q->split]);
    if (rc == 0)
        rc = settings_add(&c->sets, e, "features.kind=%s", q->maps ? "maps" : "pooled");
    if (rc == 0)
        rc = settings_add(&c->sets, e, "data.clip_times=%s", q->windows ? "windows" : "uniform");
    if (rc == 0 && q->windows)
        rc = settings_add(&c->sets, e, "data.window_s=%.17g", q->window_s);
    if (rc == 0 && q->windows)
        rc = settings_add(&c->sets, e, "data.stride_s=%.17g", q->stride_s);
    if (rc == 0 && !q->windows)
        rc = settings_add(&c->sets, e, "data.clips_per_video=%" PRIu64, q->clips);
    return rc == 0 ? settings_add_encoder(&c->sets, &c->encoder, e) : rc;
}

static int load(struct embed_conf *c, struct err *e)
{
    return settings_load(&c->sets, NULL, "xdc embed", &c->conf, e);
}

/* The clips of the video that has the most windows: the run counts as many for each. */
static int most_clips(const struct conf *c, uint64_t *out, struct err *e)
{
    struct manifest *m = NULL;
    const struct clip_times times = conf_clip_times(c);
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? manifest_open(c->data.manifest, &m, e) : err_sys(e, ENOMEM, "a video");
    *out = 1;
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        rc = manifest_get(m, i, v, e);
        if (rc < 0 || (c->data.split != SPLIT_ALL && (int64_t)v->split != c->data.split))
            continue;
        uint64_t n = clip_times_count(&times, v->duration_s, conf_clip_span_s(c, v->fps));
        *out = n > *out ? n : *out;
    }
    manifest_close(m);
    free(v);
    return rc;
}

static int add_windows(struct embed_conf *c, struct err *e)
{
    uint64_t most = 1;
    int rc = most_clips(&c->conf, &most, e);
    if (rc == 0 && most > 1000000)
        rc = err_set(e, XDC_ECONF,
                     "a video has %" PRIu64 " windows, more than a million: take a larger --stride", most);
    if (rc == 0)
        rc = settings_add(&c->sets, e, "data.clips_per_video=%" PRIu64, most);
    return rc == 0 ? load(c, e) : rc;
}

int embed_conf_make(const struct embed_request *q, struct embed_conf *c, struct err *e)
{
    *c = (struct embed_conf){0};
    int rc = encoder_file_read(q->encoder, &c->encoder, e);
    if (rc == 0)
        rc = check_missing(q, c, e);
    for (uint32_t i = 0; rc == 0 && i < q->n_sets; i++)
        rc = check_set(q, c, q->sets[i], e);
    if (rc == 0)
        rc = add_request(q, c, e);
    if (rc == 0)
        rc = settings_add_list(&c->sets, q->sets, q->n_sets, e);
    if (rc == 0)
        rc = load(c, e);
    return rc == 0 && q->windows ? add_windows(c, e) : rc;
}

void embed_conf_close(struct embed_conf *c)
{
    settings_close(&c->sets);
}
