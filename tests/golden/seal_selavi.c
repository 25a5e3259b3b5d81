/* seal_selavi CONFIG TRUTH.npy ROUND HEADS|- NAME=F.npy...: a sealed dump of the method selavi in the
 * configuration's run, of features f32 [clips, dim] whose rows of NaN are absent, with HEADS beside it; and
 * the manifest, if there is none, of one video for each class i32 of TRUTH.npy (negative: none). Prints the
 * clips of the hold-out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/clip.h"
#include "lib/conf.h"
#include "lib/feature_store.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/tensor.h"

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->msg);
    exit(1);
}

static void *read_npy(const char *path, enum tensor_dtype dtype, struct tensor *t)
{
    struct err e = {0};
    void *data;
    if (npy_read(path, t, &data, &e) || t->dtype != dtype)
        die(path, &e);
    return data;
}

static void make_manifest(const char *path, const int32_t *truth, uint64_t videos)
{
    struct err e = {0};
    struct manifest *m;
    int32_t class, most = -1;
    struct manifest_video v = {.size_bytes = 1, .duration_s = 2, .fps = 30, .width = 8, .height = 8};
    if (manifest_create(path, "/", &m, &e))
        die(path, &e);
    for (uint64_t i = 0; i < videos; i++)
        most = truth[i] > most ? truth[i] : most;
    for (int32_t c = 0; c <= most; c++) {
        snprintf(v.uri, sizeof v.uri, "class %d", c);
        if (manifest_class(m, v.uri, &class, &e))
            die(path, &e);
    }
    for (uint64_t i = 0; i < videos; i++) {
        snprintf(v.uri, sizeof v.uri, "%06llu.mp4", (unsigned long long)i);
        v.truth = truth[i];
        if (manifest_append(m, &v, &e))
            die(path, &e);
    }
    if (manifest_commit(m, &e))
        die(path, &e);
    manifest_close(m);
}

static void print_holdout(const struct conf *c, uint64_t videos, uint32_t per_video)
{
    struct clip_holdout h;
    const char *between = "";
    clip_holdout_init(&h, (uint64_t)c->run.seed, c->train.holdout, (uint64_t)c->train.holdout_min_clips,
                      videos, per_video);
    for (uint64_t i = 0; i < videos * per_video; i++)
        if (clip_holdout_has(&h, i / per_video)) {
            printf("%s%llu", between, (unsigned long long)i);
            between = " ";
        }
    putchar('\n');
}

/* Reads every NAME=F.npy. */
static void read_features(char **args, struct feature_info *info, float **data)
{
    for (uint32_t i = 0; i < info->encoders; i++) {
        struct tensor t;
        char *file = strchr(args[i], '=');
        if (!file)
            exit(64);
        snprintf(info->encoder[i].name, sizeof info->encoder[i].name, "%.*s", (int)(file - args[i]), args[i]);
        data[i] = read_npy(file + 1, TENSOR_F32, &t);
        info->encoder[i].dim = (uint32_t)t.shape[1];
        info->rows = info->total = t.shape[0];
    }
}

static void seal(const char *dir, const struct feature_info *info, float *const *data)
{
    struct err e = {0};
    struct feature_store *s;
    uint64_t hash;
    if (fs_remove_tree(dir, &e) || fs_mkdirs(dir, &e) || rmdir(dir) ||
        feature_store_create(dir, info, &s, &e))
        die(dir, &e);
    for (uint32_t i = 0; i < info->encoders; i++)
        for (uint64_t row = 0; row < info->rows; row++) {
            const float *x = data[i] + row * info->encoder[i].dim;
            if (!isnan(x[0]) && feature_store_put(s, i, row, x, &e))
                die(dir, &e);
        }
    if (feature_store_seal(s, &hash, &e))
        die(dir, &e);
    feature_store_close(s);
}

int main(int argc, char **argv)
{
    struct conf c;
    struct err e = {0};
    struct manifest *m;
    struct tensor truth;
    char dir[PATH_MAX], file[PATH_MAX], *heads = NULL;
    float *data[FEATURE_ENCODERS_MAX];
    size_t size;
    if (argc < 6)
        return 64;
    if (conf_load(argv[1], NULL, 0, NULL, NULL, &c, &e))
        die(argv[1], &e);
    int32_t *classes = read_npy(argv[2], TENSOR_I32, &truth);
    if (access(c.data.manifest, F_OK))
        make_manifest(c.data.manifest, classes, truth.shape[0]);
    if (manifest_open(c.data.manifest, &m, &e))
        die(c.data.manifest, &e);
    struct feature_info info = {.manifest = manifest_identity(m),
                                .run = conf_identity(&c, manifest_identity(m)),
                                .round = (uint32_t)atoi(argv[3]),
                                .ranks = 1,
                                .dtype = FEATURE_F32,
                                .encoders = (uint32_t)argc - 5};
    manifest_close(m);
    read_features(argv + 5, &info, data);
    if (strcmp(argv[4], "-") != 0) {
        if (fs_read(argv[4], 1 << 30, &heads, &size, &e))
            die(argv[4], &e);
        info.heads = XXH3_64bits(heads, size);
    }
    if (fs_path(dir, &e, "%s/features/round-%04u/rank-0", c.run.dir, info.round))
        die("run", &e);
    seal(dir, &info, data);
    if (heads && (fs_path(file, &e, "%s/heads.safetensors", dir) || fs_write_atomic(file, heads, size, &e)))
        die(dir, &e);
    print_holdout(&c, truth.shape[0], (uint32_t)c.data.clips_per_video);
    free(heads);
    free(classes);
    for (uint32_t i = 0; i < info.encoders; i++)
        free(data[i]);
    return 0;
}
