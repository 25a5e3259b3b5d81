#include "lib/encoder_file.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "lib/export.h"
#include "lib/fsutil.h"
#include "lib/tensor.h"

#define FILE_MAX ((size_t)16 << 30)

/* Metadata and the key that it stands for. */
static const char *const pictures[][2] = {{"xdc.frames", "video.frames"},
                                          {"xdc.fps", "video.fps"},
                                          {"xdc.resize", "video.resize"},
                                          {"xdc.crop", "video.crop"},
                                          {"xdc.scaling", "video.scaling"}};

/* A number or a word, which is all that a setting of an encoder can be. */
static bool is_plain(const char *text)
{
    size_t n = 0;
    for (; text[n]; n++)
        if (!isalnum((unsigned char)text[n]) && !strchr("_.+-", text[n]))
            return false;
    return n > 0 && n < sizeof((struct encoder_setting *)NULL)->value;
}

static int put(struct encoder_file *f, const char *key, const char *value, struct err *e)
{
    if (!value) {
        f->missing[f->n_missing++] = key;
        return 0;
    }
    if (!is_plain(value))
        return err_set(e, XDC_EFORMAT, "what its metadata says of %s is neither a number nor a word", key);
    struct encoder_setting *s = &f->settings[f->n++];
    s->key = key;
    snprintf(s->value, sizeof s->value, "%s", value);
    return 0;
}

/* "r2plus1d_18" or "s3d" */
static int put_video(struct encoder_file *f, const struct safetensors *s, const char *network, struct err *e)
{
    char kind[32];
    snprintf(kind, sizeof kind, "%.*s", (int)strcspn(network, "_"), network);
    const char *depth = strchr(network, '_');
    if (!depth && strcmp(kind, "s3d") != 0)
        return err_set(e, XDC_EFORMAT, "its network %.40s is unknown", network);
    int rc = put(f, "net.video", kind, e);
    if (rc == 0 && depth)
        rc = put(f, "net.video_depth", depth + 1, e);
    if (rc == 0)
        rc = put(f, "net.video_width", safetensors_metadata(s, "xdc.width"), e);
    if (rc == 0)
        rc = put(f, "net.flavour", safetensors_metadata(s, "xdc.flavour"), e);
    for (size_t i = 0; rc == 0 && i < sizeof pictures / sizeof pictures[0]; i++)
        rc = put(f, pictures[i][1], safetensors_metadata(s, pictures[i][0]), e);
    return rc;
}

/* The statistics go into the network with the weights; without them they would be measured on other files. */
static int check_stats(const struct safetensors *s, struct err *e)
{
    double mean, deviation;
    const char *text = safetensors_metadata(s, "xdc.log_mel");
    if (!text)
        return err_set(e, XDC_EFORMAT,
                       "its metadata lacks xdc.log_mel, the mean and deviation of the log-mel that it was "
                       "trained with: take one that `xdc export RUN` has written");
    if (sscanf(text, "{\"mean\": %lf, \"deviation\": %lf}", &mean, &deviation) != 2 || !isfinite(mean) ||
        !isfinite(deviation) || !(deviation > 0))
        return err_set(e, XDC_EFORMAT, "its metadata xdc.log_mel is %.80s", text);
    return 0;
}

/* "resnet18" or "resnet18_vmz" */
static int put_audio(struct encoder_file *f, const struct safetensors *s, const char *network, struct err *e)
{
    char depth[8];
    const char *front = safetensors_metadata(s, "xdc.front_end");
    size_t digits = strncmp(network, "resnet", 6) == 0 ? strspn(network + 6, "0123456789") : 0;
    const char *stem = digits ? network + 6 + digits : "";
    if (digits == 0 || digits >= sizeof depth || (*stem && strcmp(stem, "_vmz") != 0))
        return err_set(e, XDC_EFORMAT, "its network %.40s is unknown", network);
    if (front && !export_front_end(front))
        return err_set(e, XDC_EFORMAT, "its front end is unknown: %.200s", front);
    snprintf(depth, sizeof depth, "%.*s", (int)digits, network + 6);
    int rc = put(f, "net.audio_depth", depth, e);
    if (rc == 0)
        rc = put(f, "net.audio_stem", *stem ? "vmz" : "torchvision", e);
    if (rc == 0)
        rc = put(f, "net.audio_width", safetensors_metadata(s, "xdc.width"), e);
    if (rc == 0)
        rc = put(f, "audio.frontend", front ? export_front_end(front) : NULL, e);
    return rc == 0 ? check_stats(s, e) : rc;
}

static void read_weights(struct encoder_file *f, const struct safetensors *s)
{
    const char *text = safetensors_metadata(s, "xdc.weights");
    if (text && strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16)
        memcpy(f->weights, text, sizeof f->weights);
}

static int read_settings(struct encoder_file *f, const struct safetensors *s, struct err *e)
{
    const char *encoder = safetensors_metadata(s, "xdc.encoder");
    const char *network = safetensors_metadata(s, "xdc.network");
    if (!encoder || !network)
        return err_set(e, XDC_EFORMAT,
                       "its metadata lacks %s: it is no encoder that `xdc export` has written",
                       encoder ? "xdc.network" : "xdc.encoder");
    bool video = strncmp(encoder, "video", 5) == 0;
    if (!video && strncmp(encoder, "audio", 5) != 0)
        return err_set(e, XDC_EFORMAT, "its encoder is %.40s, neither video nor audio", encoder);
    f->sees = video ? NET_VIDEO : NET_AUDIO;
    return video ? put_video(f, s, network, e) : put_audio(f, s, network, e);
}

static int hash_file(const char *path, uint64_t *out, struct err *e)
{
    char *data = NULL;
    size_t size;
    int rc = fs_read(path, FILE_MAX, &data, &size, e);
    if (rc == 0)
        *out = XXH3_64bits(data, size);
    free(data);
    return rc;
}

int encoder_file_read(const char *path, struct encoder_file *out, struct err *e)
{
    struct safetensors *s = NULL;
    *out = (struct encoder_file){0};
    int rc = safetensors_open(path, &s, e);
    if (rc < 0)
        return rc;
    rc = read_settings(out, s, e);
    read_weights(out, s);
    safetensors_close(s);
    if (rc == 0)
        rc = hash_file(path, &out->hash, e);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

const char *encoder_file_value(const struct encoder_file *f, const char *key)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->settings[i].key, key) == 0)
            return f->settings[i].value;
    return NULL;
}
