#include "lib/export.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/checkpoint_dir.h"
#include "lib/fsutil.h"
#include "lib/run_json.h"
#include "lib/tensor.h"

#define META_MAX 24

/* Keys of the metadata and their texts. */
struct meta {
    const char *pairs[META_MAX][2];
    char *owned[META_MAX];
    size_t n;
};

static void meta_add(struct meta *m, const char *key, char *value)
{
    if (m->n == META_MAX || !value) {
        free(value);
        return;
    }
    m->pairs[m->n][0] = key;
    m->pairs[m->n][1] = m->owned[m->n] = value;
    m->n++;
}

static void meta_close(struct meta *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->owned[i]);
}

static char *text_of(const json_t *j)
{
    if (json_is_string(j))
        return strdup(json_string_value(j));
    return j ? json_dumps(j, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;
}

#define LOGMEL                                                                                          \
    "16 kHz mono, n_fft 512, win 400 Hann periodic, hop 320, 40 HTK mels 0-8000 Hz, power 2, centred, " \
    "ln(x + 1e-6), first 100 frames of 2 s"
#define VMZ                                                                                                 \
    "VMZ: 16 kHz mono, windows of 256 every 10 ms, every other one, 40 triangles of sum 1 over 0-8000 Hz, " \
    "gain 1080674186.3482928, ln x above e, x / e below"

const char *export_front_end(const char *text)
{
    return strcmp(text, LOGMEL) == 0 ? "logmel" : strcmp(text, VMZ) == 0 ? "vmz" : NULL;
}

static const char *config(const json_t *record, const char *key, const char *otherwise)
{
    const char *text = run_json_config(record, key);
    return text ? text : otherwise;
}

static bool sees_video(const char *encoder)
{
    return strncmp(encoder, "video", 5) == 0;
}

static const char *flavour_of(const json_t *record, const char *encoder)
{
    bool factored = strcmp(config(record, "net.video", "r2plus1d"), "r2plus1d") == 0;
    bool xdc = strcmp(config(record, "net.flavour", "xdc"), "xdc") == 0;
    return sees_video(encoder) && factored && xdc ? "xdc" : "torchvision";
}

/* "r2plus1d_18", "s3d", "resnet18", "resnet18_vmz"; the caller frees. */
static char *network_of(const json_t *record, const char *encoder)
{
    char text[64];
    if (!sees_video(encoder)) {
        bool vmz = strcmp(config(record, "net.audio_stem", "torchvision"), "vmz") == 0;
        snprintf(text, sizeof text, "resnet%s%s", config(record, "net.audio_depth", "18"), vmz ? "_vmz" : "");
    } else {
        const char *kind = config(record, "net.video", "r2plus1d");
        snprintf(text, sizeof text, strcmp(kind, "s3d") == 0 ? "%s" : "%s_%s", kind,
                 config(record, "net.video_depth", "18"));
    }
    return strdup(text);
}

static const char *eps_of(const json_t *record, const char *encoder)
{
    if (!sees_video(encoder))
        return strcmp(config(record, "net.audio_stem", "torchvision"), "vmz") == 0 ? "1e-3" : "1e-5";
    bool s3d = strcmp(config(record, "net.video", "r2plus1d"), "s3d") == 0;
    return s3d || strcmp(flavour_of(record, encoder), "xdc") == 0 ? "1e-3" : "1e-5";
}

/* The part of the recipe that a user of the encoder needs, out of run.json and the checkpoint. */
static void fill_meta(struct meta *m, const char *encoder, const json_t *record, const json_t *state,
                      const double stats[2])
{
    static const char *const shared[][2] = {{"xdc.method", "method"}, {"xdc.k", "cluster.k"}};
    static const char *const pictures[][2] = {{"xdc.frames", "video.frames"},
                                              {"xdc.fps", "video.fps"},
                                              {"xdc.resize", "video.resize"},
                                              {"xdc.crop", "video.crop"},
                                              {"xdc.scaling", "video.scaling"}};
    bool video = sees_video(encoder);
    const json_t *c = json_object_get(record, "config");
    meta_add(m, "format", strdup("pt"));
    meta_add(m, "xdc.encoder", strdup(encoder));
    meta_add(m, "xdc.network", network_of(record, encoder));
    meta_add(m, "xdc.flavour", strdup(flavour_of(record, encoder)));
    meta_add(m, "xdc.depth", text_of(json_object_get(c, video ? "net.video_depth" : "net.audio_depth")));
    meta_add(m, "xdc.width", text_of(json_object_get(c, video ? "net.video_width" : "net.audio_width")));
    meta_add(m, "xdc.bn_eps", strdup(eps_of(record, encoder)));
    meta_add(m, "xdc.run", text_of(json_object_get(record, "run")));
    meta_add(m, "xdc.manifest", text_of(json_object_get(record, "manifest")));
    meta_add(m, "xdc.round", text_of(json_object_get(state, "round")));
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        meta_add(m, shared[i][0], text_of(json_object_get(c, shared[i][1])));
    if (!video) {
        char text[96];
        snprintf(text, sizeof text, "{\"mean\": %.17g, \"deviation\": %.17g}", stats[0], stats[1]);
        meta_add(m, "xdc.log_mel", strdup(text));
        const char *front_end = json_string_value(json_object_get(c, "audio.frontend"));
        meta_add(m, "xdc.front_end", strdup(front_end && strcmp(front_end, "vmz") == 0 ? VMZ : LOGMEL));
        return;
    }
    meta_add(m, "xdc.rgb",
             strdup("{\"mean\": [0.43216, 0.394666, 0.37645], \"deviation\": [0.22803, 0.22145, 0.216989]}"));
    for (size_t i = 0; i < sizeof pictures / sizeof pictures[0]; i++)
        meta_add(m, pictures[i][0], text_of(json_object_get(c, pictures[i][1])));
}

/* Puts the averaged weights in the place of the others. False when there are none. */
static bool take_average(const struct safetensors *s, const char *encoder, struct tensor *list, size_t n)
{
    char name[sizeof list->name + 32];
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s.ema.%s", encoder, list[i].name);
        const struct tensor *t = safetensors_find(s, name);
        if (!t || t->dtype != list[i].dtype || tensor_count(t) != tensor_count(&list[i]))
            continue;
        list[i].data = t->data;
        any = true;
    }
    return any;
}

/* The tensors named "<encoder>.<key>", less heads, momentum and averages, under their bare keys. */
static size_t select_tensors(const struct safetensors *s, const char *encoder, struct tensor *out)
{
    size_t n = 0, prefix = strlen(encoder);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct tensor *t = safetensors_at(s, i);
        const char *key = t->name + prefix + 1;
        if (strncmp(t->name, encoder, prefix) != 0 || t->name[prefix] != '.')
            continue;
        if (strncmp(key, "heads.", 6) == 0 || strncmp(key, "momentum.", 9) == 0 ||
            strncmp(key, "ema.", 4) == 0)
            continue;
        out[n] = *t;
        memmove(out[n].name, out[n].name + prefix + 1, strlen(key) + 1);
        n++;
    }
    return n;
}

/* The encoder's head behind its tensors, under torchvision's name; 0 when there is not exactly one linear
 * head. S3D's classifier is a convolution. */
static size_t select_classifier(const struct safetensors *s, const char *encoder, const char *name,
                                struct tensor *out)
{
    static const char *const parts[] = {"weight", "bias"};
    char key[64];
    snprintf(key, sizeof key, "%s.heads.1.weight", encoder);
    if (safetensors_find(s, key))
        return 0;
    for (size_t i = 0; i < 2; i++) {
        snprintf(key, sizeof key, "%s.heads.0.%s", encoder, parts[i]);
        const struct tensor *t = safetensors_find(s, key);
        if (!t)
            return 0;
        out[i] = *t;
        snprintf(out[i].name, sizeof out[i].name, "%s.%s", name, parts[i]);
        if (i == 0 && strcmp(name, "fc") != 0) {
            out[i].ndim = 5;
            out[i].shape[2] = out[i].shape[3] = out[i].shape[4] = 1;
        }
    }
    return 2;
}

/* `classifier`: the name of the classifier to write, or NULL. */
static int write_tensors(const struct safetensors *s, const char *encoder, const char *classifier, bool ema,
                         const char *const (*metadata)[2], size_t n_meta, const char *out, struct err *e)
{
    struct tensor *list = malloc((safetensors_count(s) + 3) * sizeof *list);
    if (!list)
        return err_sys(e, ENOMEM, "export");
    size_t n = select_tensors(s, encoder, list);
    size_t more = n && classifier ? select_classifier(s, encoder, classifier, list + n) : 0;
    int rc;
    if (n == 0)
        rc = err_set(e, XDC_EFORMAT, "the weights have no %s encoder", encoder);
    else if (classifier && more == 0)
        rc = err_set(e, XDC_EMISMATCH, "the %s encoder has not one linear head: use --head none", encoder);
    else if (ema && !take_average(s, encoder, list, n))
        rc = err_set(e, XDC_EMISMATCH, "the run keeps no average of the weights: its train.ema is 0");
    else
        rc = safetensors_write(out, list, n + more, metadata, n_meta, e);
    free(list);
    return rc;
}

int export_weights(const char *weights, const char *encoder, const char *const (*metadata)[2], size_t n,
                   const char *out, struct err *e)
{
    struct safetensors *s = NULL;
    int rc = safetensors_open(weights, &s, e);
    if (rc == 0)
        rc = write_tensors(s, encoder, NULL, false, metadata, n, out, e);
    safetensors_close(s);
    return rc;
}

/* Beside the encoder that a run is of its checkpoints have a stand-in for the other one. */
static int check_part(const json_t *record, const char *encoder, struct err *e)
{
    const char *of = config(record, "net.encoders", "both");
    if (strcmp(of, "both") == 0 || strcmp(of, encoder) == 0)
        return 0;
    return err_set(e, XDC_EMISMATCH, "the run is of the %s encoder alone: its net.encoders is %s", of, of);
}

static int write_encoder(const struct safetensors *s, const char *encoder, unsigned what,
                         const json_t *record, const json_t *state, const char *out, struct err *e)
{
    bool s3d = sees_video(encoder) && strcmp(config(record, "net.video", ""), "s3d") == 0;
    const char *name = !(what & EXPORT_CLASSIFIER) ? NULL : s3d ? "classifier.1" : "fc";
    struct meta meta = {0};
    double stats[2] = {0, 1};
    const struct tensor *measured = safetensors_find(s, "audio_stats");
    if (measured && measured->dtype == TENSOR_F64 && tensor_count(measured) == 2)
        memcpy(stats, measured->data, sizeof stats);
    fill_meta(&meta, encoder, record, state, stats);
    if (what & EXPORT_EMA)
        meta_add(&meta, "xdc.ema", strdup(config(record, "train.ema", "0")));
    else /* the checkpoint: heads of the same one fit */
        meta_add(&meta, "xdc.weights", text_of(json_object_get(state, "weights_xxh3")));
    int rc = write_tensors(s, encoder, name, what & EXPORT_EMA, (const char *const(*)[2])meta.pairs, meta.n,
                           out, e);
    meta_close(&meta);
    return rc;
}

/* The newest checkpoint's state and weights; the caller's, on failure too. */
static int open_newest(const char *run_dir, checkpoint_dir_on_refused on_refused, json_t **state,
                       struct safetensors **s, struct err *e)
{
    char dir[PATH_MAX], path[PATH_MAX];
    int rc = checkpoint_dir_latest(run_dir, dir, state, on_refused, NULL, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/" CHECKPOINT_WEIGHTS, dir);
    return rc == 0 ? safetensors_open(path, s, e) : rc;
}

static int check_encoder(const char *encoder, struct err *e)
{
    static const char *const names[] = {"video", "audio", "video-a", "video-b", "audio-a", "audio-b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(encoder, names[i]) == 0)
            return 0;
    return err_set(
        e, XDC_EUSAGE,
        "there is no encoder %s: it is video or audio, of same-modality video-a, video-b, audio-a or "
        "audio-b",
        encoder);
}

int export_flavour(const char *run_dir, const char *encoder, const char **out, struct err *e)
{
    json_t *record = NULL;
    int rc = check_encoder(encoder, e);
    if (rc == 0)
        rc = run_json_read(run_dir, &record, e);
    if (rc == 0)
        *out = flavour_of(record, encoder);
    json_decref(record);
    return rc;
}

int export_encoder(const char *run_dir, const char *encoder, unsigned what, const char *out,
                   checkpoint_dir_on_refused on_refused, struct err *e)
{
    json_t *state = NULL, *record = NULL;
    struct safetensors *s = NULL;
    int rc = check_encoder(encoder, e);
    if (rc == 0)
        rc = run_json_read(run_dir, &record, e);
    if (rc == 0)
        rc = check_part(record, encoder, e);
    if (rc == 0)
        rc = open_newest(run_dir, on_refused, &state, &s, e);
    if (rc == 0)
        rc = write_encoder(s, encoder, what, record, state, out, e);
    safetensors_close(s);
    json_decref(state);
    json_decref(record);
    return rc < 0 ? err_wrap(e, "export the %s encoder of %s", encoder, run_dir) : 0;
}

static int check_method(const json_t *record, struct err *e)
{
    const char *method = config(record, "method", "xdc");
    return strcmp(method, "selavi") == 0
               ? 0
               : err_set(
                     e, XDC_EMISMATCH,
                     "its method is %s: only of selavi do the heads of both encoders answer the same labels",
                     method);
}

static int write_heads(const struct safetensors *s, const json_t *record, const json_t *state,
                       const char *out, struct err *e)
{
    struct meta meta = {0};
    size_t n = 0;
    struct tensor *list = malloc((safetensors_count(s) + 1) * sizeof *list);
    if (!list)
        return err_sys(e, ENOMEM, "heads");
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct tensor *t = safetensors_at(s, i);
        if (strncmp(t->name, "video.heads.", 12) == 0 || strncmp(t->name, "audio.heads.", 12) == 0)
            list[n++] = *t;
    }
    meta_add(&meta, "format", strdup("pt"));
    meta_add(&meta, "xdc.heads", text_of(json_object_get(json_object_get(record, "config"), "selavi.heads")));
    meta_add(&meta, "xdc.run", text_of(json_object_get(record, "run")));
    meta_add(&meta, "xdc.manifest", text_of(json_object_get(record, "manifest")));
    meta_add(&meta, "xdc.round", text_of(json_object_get(state, "round")));
    meta_add(&meta, "xdc.weights", text_of(json_object_get(state, "weights_xxh3")));
    int rc = n ? safetensors_write(out, list, n, (const char *const(*)[2])meta.pairs, meta.n, e)
               : err_set(e, XDC_EFORMAT, "the weights have no heads");
    meta_close(&meta);
    free(list);
    return rc;
}

int export_heads(const char *run_dir, const char *out, checkpoint_dir_on_refused on_refused, struct err *e)
{
    json_t *state = NULL, *record = NULL;
    struct safetensors *s = NULL;
    int rc = run_json_read(run_dir, &record, e);
    if (rc == 0)
        rc = check_method(record, e);
    if (rc == 0)
        rc = open_newest(run_dir, on_refused, &state, &s, e);
    if (rc == 0)
        rc = write_heads(s, record, state, out, e);
    safetensors_close(s);
    json_decref(state);
    json_decref(record);
    return rc < 0 ? err_wrap(e, "export the heads of %s", run_dir) : 0;
}
