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

static char *text_of(const json_t *j)
{
    if (json_is_string(j))
        return strdup(json_string_value(j));
    return j ? json_dumps(j, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;
}

static int read_record(const char *run_dir, json_t **out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    int rc = fs_path(path, e, "%s/run.json", run_dir);
    if (rc == 0)
        rc = fs_read(path, 1 << 20, &text, &size, e);
    if (rc < 0)
        return rc;
    *out = json_loads(text, 0, NULL);
    free(text);
    return *out ? 0 : err_set(e, XDC_EFORMAT, "%s is not JSON", path);
}

#define LOGMEL                                                                                          \
    "16 kHz mono, n_fft 512, win 400 Hann periodic, hop 320, 40 HTK mels 0-8000 Hz, power 2, centred, " \
    "ln(x + 1e-6), first 100 frames of 2 s"
#define VMZ                                                                                                 \
    "VMZ: 16 kHz mono, windows of 256 every 10 ms, every other one, 40 triangles of sum 1 over 0-8000 Hz, " \
    "gain 1080674186.3482928, ln x above e, x / e below"

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
    bool video = strcmp(encoder, "video") == 0;
    const json_t *c = json_object_get(record, "config");
    meta_add(m, "format", strdup("pt"));
    meta_add(m, "xdc.encoder", strdup(encoder));
    meta_add(m, "xdc.flavour", strdup(video ? "xdc" : "torchvision"));
    meta_add(m, "xdc.depth", text_of(json_object_get(c, video ? "net.video_depth" : "net.audio_depth")));
    meta_add(m, "xdc.width", text_of(json_object_get(c, video ? "net.video_width" : "net.audio_width")));
    meta_add(m, "xdc.bn_eps", strdup(video ? "1e-3" : "1e-5"));
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

/* The tensors named "<encoder>.<key>", less heads and momentum, under their bare keys. */
static size_t select_tensors(const struct safetensors *s, const char *encoder, struct tensor *out)
{
    size_t n = 0, prefix = strlen(encoder);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct tensor *t = safetensors_at(s, i);
        const char *key = t->name + prefix + 1;
        if (strncmp(t->name, encoder, prefix) != 0 || t->name[prefix] != '.')
            continue;
        if (strncmp(key, "heads.", 6) == 0 || strncmp(key, "momentum.", 9) == 0)
            continue;
        out[n] = *t;
        memmove(out[n].name, out[n].name + prefix + 1, strlen(key) + 1);
        n++;
    }
    return n;
}

static int write_tensors(const struct safetensors *s, const char *encoder, const char *const (*metadata)[2],
                         size_t n_meta, const char *out, struct err *e)
{
    struct tensor *list = malloc((safetensors_count(s) + 1) * sizeof *list);
    if (!list)
        return err_sys(e, ENOMEM, "export");
    size_t n = select_tensors(s, encoder, list);
    int rc = n ? safetensors_write(out, list, n, metadata, n_meta, e)
               : err_set(e, XDC_EFORMAT, "the weights have no %s encoder", encoder);
    free(list);
    return rc;
}

int export_weights(const char *weights, const char *encoder, const char *const (*metadata)[2], size_t n,
                   const char *out, struct err *e)
{
    struct safetensors *s = NULL;
    int rc = safetensors_open(weights, &s, e);
    if (rc == 0)
        rc = write_tensors(s, encoder, metadata, n, out, e);
    safetensors_close(s);
    return rc;
}

static int write_encoder(const struct safetensors *s, const char *encoder, const json_t *record,
                         const json_t *state, const char *out, struct err *e)
{
    struct meta meta = {0};
    double stats[2] = {0, 1};
    const struct tensor *measured = safetensors_find(s, "audio_stats");
    if (measured && measured->dtype == TENSOR_F64 && tensor_count(measured) == 2)
        memcpy(stats, measured->data, sizeof stats);
    fill_meta(&meta, encoder, record, state, stats);
    int rc = write_tensors(s, encoder, (const char *const(*)[2])meta.pairs, meta.n, out, e);
    for (size_t i = 0; i < meta.n; i++)
        free(meta.owned[i]);
    return rc;
}

int export_encoder(const char *run_dir, const char *encoder, const char *out, struct err *e)
{
    char dir[PATH_MAX], path[PATH_MAX];
    json_t *state = NULL, *record = NULL;
    struct safetensors *s = NULL;
    if (strcmp(encoder, "video") != 0 && strcmp(encoder, "audio") != 0)
        return err_set(e, XDC_EUSAGE, "there is no encoder %s: it is video or audio", encoder);
    int rc = read_record(run_dir, &record, e);
    if (rc == 0)
        rc = checkpoint_dir_latest(run_dir, dir, &state, NULL, NULL, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/" CHECKPOINT_WEIGHTS, dir);
    if (rc == 0)
        rc = safetensors_open(path, &s, e);
    if (rc == 0)
        rc = write_encoder(s, encoder, record, state, out, e);
    safetensors_close(s);
    json_decref(state);
    json_decref(record);
    return rc < 0 ? err_wrap(e, "export the %s encoder of %s", encoder, run_dir) : 0;
}
