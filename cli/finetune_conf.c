#include "cli/finetune_conf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ucf101[] = {"train.epoch_clips=106000", "data.clips_per_video=12", NULL};
static const char *const ucf101_32[] = {"train.epoch_clips=106000", "data.clips_per_video=12",
                                        "video.frames=32", NULL};
static const char *const hmdb51[] = {"train.epoch_clips=40000", "data.clips_per_video=12", NULL};
static const char *const hmdb51_32[] = {"train.epoch_clips=40000", "data.clips_per_video=12",
                                        "video.frames=32", NULL};
static const char *const esc50[] = {"train.epoch_clips=20000", "data.clips_per_video=13", NULL};
static const char *const dcase[] = {"train.epoch_clips=20000", "data.clips_per_video=200", NULL};
static const struct finetune_preset presets[] = {
    {"ucf101", "UCF101", NET_VIDEO, ucf101}, {"ucf101-32", "UCF101", NET_VIDEO, ucf101_32},
    {"hmdb51", "HMDB51", NET_VIDEO, hmdb51}, {"hmdb51-32", "HMDB51", NET_VIDEO, hmdb51_32},
    {"esc50", "ESC-50", NET_AUDIO, esc50},   {"dcase", "DCASE", NET_AUDIO, dcase}};
#define PRESETS (sizeof presets / sizeof presets[0])

/* Of every fine-tuning: eight epochs, of which two warm up, a tenth of the rate every second one. */
static const char *const always[] = {
    "method=supervised",         "train.rounds=1",      "data.split=train",        "run.clusterer=false",
    "train.holdout_min_clips=0", "train.probe=0",       "train.tensorboard=false", "limits.max_bad_share=1",
    "data.no_audio=keep",        "data.min_sound_s=0",  "data.clips_per_video=10", "train.epochs=8",
    "train.warmup_epochs=2",     "train.schedule=step", "train.step_epochs=2"};
/* Nothing is decoded into these frames, but two seconds of them are what a clip of sound takes. */
static const char *const for_audio[] = {"net.encoders=audio", "video.frames=2", "video.fps=1",
                                        "video.resize=16", "video.crop=16"};
static const char *const for_video[] = {"net.encoders=video"};
/* What the command sets itself. */
static const char *const taken[] = {"run.dir",       "run.seed",       "run.clusterer",  "data.manifest",
                                    "data.split",    "net.init_video", "net.init_audio", "net.encoders",
                                    "method",        "train.rounds",   "train.update",   "train.lr",
                                    "train.holdout", "labels.from"};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct finetune_preset *finetune_preset(const char *name)
{
    for (size_t i = 0; i < PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

const char *finetune_preset_names(void)
{
    return "ucf101, ucf101-32, hmdb51, hmdb51-32, esc50, dcase";
}

void finetune_rates(bool fc, double rates[FINETUNE_RATES_MAX], uint32_t *n)
{
    static const double grid[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02};
    *n = COUNT(grid);
    for (uint32_t i = 0; i < *n; i++)
        rates[i] = fc ? 10 * grid[i] : grid[i];
}

/* What the command line, or else the preset, says of a key; NULL: nothing. */
static const char *asked(const struct finetune_request *q, const char *key)
{
    const char *found = NULL, *value;
    for (size_t i = 0; q->preset && q->preset->sets[i]; i++)
        if ((value = settings_value(q->preset->sets[i], key)))
            found = value;
    for (uint32_t i = 0; i < q->n_sets; i++)
        if ((value = settings_value(q->sets[i], key)))
            found = value;
    return found;
}

static int check_set(const struct finetune_request *q, const struct encoder_file *f, const char *set,
                     struct err *e)
{
    for (size_t i = 0; i < COUNT(taken); i++)
        if (settings_value(set, taken[i]))
            return err_set(e, XDC_ECONF, "--set %s: eval finetune sets %s itself", set, taken[i]);
    for (size_t i = 0; i < f->n; i++) {
        const struct encoder_setting *s = &f->settings[i];
        const char *value = settings_value(set, s->key);
        if (value && strncmp(s->key, "video.", 6) != 0 && !settings_same(value, s->value))
            return err_set(e, XDC_ECONF, "--set %s: the encoder in %s has %s %s", set, q->encoder, s->key,
                           s->value);
    }
    return 0;
}

int finetune_check(const struct finetune_request *q, const struct encoder_file *f, struct err *e)
{
    int rc = 0;
    if (q->preset && q->preset->sees != f->sees)
        rc = err_set(e, XDC_EMISMATCH, "--preset %s is of %s encoders, and %s sees %s", q->preset->name,
                     q->preset->sees == NET_VIDEO ? "video" : "audio", q->encoder,
                     f->sees == NET_VIDEO ? "video" : "sound");
    for (size_t i = 0; rc == 0 && i < f->n_missing; i++)
        if (!asked(q, f->missing[i]))
            rc = err_set(e, XDC_EFORMAT,
                         "%s does not record %s: say what the encoder was made for, --set %s=...", q->encoder,
                         f->missing[i], f->missing[i]);
    for (uint32_t i = 0; rc == 0 && i < q->n_sets; i++)
        rc = check_set(q, f, q->sets[i], e);
    return rc;
}

static int add_all(const struct finetune_request *q, const struct encoder_file *f,
                   const struct finetune_run *r, struct settings *s, struct err *e)
{
    bool video = f->sees == NET_VIDEO;
    size_t of_preset = 0;
    while (q->preset && q->preset->sets[of_preset])
        of_preset++;
    int rc = settings_add_list(s, always, COUNT(always), e);
    if (rc == 0)
        rc = video ? settings_add_list(s, for_video, COUNT(for_video), e)
                   : settings_add_list(s, for_audio, COUNT(for_audio), e);
    if (rc == 0)
        rc = settings_add_encoder(s, f, e);
    if (rc == 0)
        rc = settings_add(s, e, "train.update=%s", q->fc ? "fc" : "all");
    if (rc == 0)
        rc = settings_add(s, e, "train.weight_decay=%s", q->fc ? "0" : "5e-3");
    if (rc == 0 && q->preset)
        rc = settings_add_list(s, q->preset->sets, of_preset, e);
    if (rc == 0)
        rc = settings_add_list(s, q->sets, q->n_sets, e);
    if (rc == 0)
        rc = settings_add(s, e, "run.dir=%s", r->dir);
    if (rc == 0)
        rc = settings_add(s, e, "run.seed=%" PRIu64, q->seed);
    if (rc == 0)
        rc = settings_add(s, e, "data.manifest=%s", r->manifest);
    if (rc == 0)
        rc = settings_add(s, e, "net.init_%s=%s", video ? "video" : "audio", q->encoder);
    if (rc == 0)
        rc = settings_add(s, e, "train.lr=%.17g", r->rate);
    return rc == 0 ? settings_add(s, e, "train.holdout=%.17g", r->holdout) : rc;
}

int finetune_conf_make(const struct finetune_request *q, const struct encoder_file *f,
                       const struct finetune_run *r, struct settings *out, struct err *e)
{
    *out = (struct settings){0};
    struct conf *conf = malloc(sizeof *conf);
    int rc = conf ? add_all(q, f, r, out, e) : err_sys(e, ENOMEM, "settings");
    if (rc == 0)
        rc = settings_load(out, NULL, "xdc eval finetune", conf, e);
    free(conf);
    return rc;
}

void finetune_differences(const struct finetune_request *q, const struct encoder_file *f, char *out,
                          size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < f->n && f->sees == NET_VIDEO; i++) {
        const struct encoder_setting *s = &f->settings[i];
        const char *value = asked(q, s->key);
        if (value && !settings_same(value, s->value) && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s %s (the encoder's: %s)", used ? ", " : "",
                                     s->key, value, s->value);
    }
}

bool finetune_set_of_embed(const char *set)
{
    return strncmp(set, "decoder.", 8) == 0 || settings_value(set, "run.decoders") ||
           settings_value(set, "train.device") || settings_value(set, "train.threads");
}
