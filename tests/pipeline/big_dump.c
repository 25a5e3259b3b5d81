/* big_dump manifest PATH VIDEOS: a manifest of videos that there are not.
 * big_dump seal CONFIG ROUND RANK RANKS DIM: this rank's sealed shard of a round of the configured run, with
 * DIM values a row in the encoder video and half as many in audio: 32 clouds, every 16th clip without sound.
 * For tests that need dumps larger than a quick run makes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/conf.h"
#include "lib/feature_store.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/rng.h"

static int make_manifest(const char *path, uint64_t videos, struct err *e)
{
    struct manifest *m;
    struct manifest_video v = {
        .size_bytes = 1, .duration_s = 2, .fps = 30, .width = 8, .height = 8, .truth = -1};
    int rc = manifest_create(path, "/", &m, e);
    for (uint64_t i = 0; rc == 0 && i < videos; i++) {
        snprintf(v.uri, sizeof v.uri, "%llu.mp4", (unsigned long long)i);
        rc = manifest_append(m, &v, e);
    }
    if (rc == 0)
        rc = manifest_commit(m, e);
    if (rc == 0)
        manifest_close(m);
    return rc;
}

static int put_rows(struct feature_store *s, const struct feature_info *info, struct err *e)
{
    struct rng r;
    int rc = 0;
    float *x = malloc(info->encoder[0].dim * sizeof *x);
    if (!x)
        return err_set(e, -12, "no memory");
    rng_init(&r, 7 + info->round * 100 + info->rank);
    for (uint64_t row = info->first; rc == 0 && row < info->first + info->rows; row++) {
        uint64_t noise = rng_next(&r);
        for (uint32_t d = 0; d < info->encoder[0].dim; d++) {
            uint64_t bits = (noise ^ (d + 1) * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
            x[d] = (float)(bits >> 40) * 0x1p-24f + ((row * 2654435761u >> 7) % 32 == d % 32 ? 1.5f : 0);
        }
        rc = feature_store_put(s, 0, row, x, e);
        if (rc == 0 && row % 16 != 3)
            rc = feature_store_put(s, 1, row, x, e);
    }
    free(x);
    return rc;
}

static int seal(char **argv, struct err *e)
{
    struct conf conf;
    struct manifest *m;
    struct feature_store *s = NULL;
    char dir[PATH_MAX], path[PATH_MAX];
    uint64_t hash;
    int rc = conf_load(argv[0], NULL, 0, NULL, NULL, &conf, e);
    if (rc == 0)
        rc = manifest_open(conf.data.manifest, &m, e);
    if (rc < 0)
        return rc;
    struct feature_info info = {.manifest = manifest_identity(m),
                                .weights = 5,
                                .total = manifest_count(m) * (uint64_t)conf.data.clips_per_video,
                                .round = (uint32_t)atoi(argv[1]),
                                .rank = (uint32_t)atoi(argv[2]),
                                .ranks = (uint32_t)atoi(argv[3]),
                                .dtype = FEATURE_F32,
                                .encoders = 2,
                                .encoder = {{.name = "video", .dim = (uint32_t)atoi(argv[4])},
                                            {.name = "audio", .dim = (uint32_t)atoi(argv[4]) / 2}}};
    info.run = conf_identity(&conf, info.manifest);
    info.first = info.total * info.rank / info.ranks;
    info.rows = info.total * (info.rank + 1) / info.ranks - info.first;
    manifest_close(m);
    rc = fs_path(dir, e, "%s/features/round-%04u", conf.run.dir, info.round);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/rank-%u", dir, info.rank);
    if (rc == 0)
        rc = feature_store_create(path, &info, &s, e);
    if (rc == 0)
        rc = put_rows(s, &info, e);
    if (rc == 0)
        rc = feature_store_seal(s, &hash, e);
    feature_store_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    int rc;
    if (argc == 4 && strcmp(argv[1], "manifest") == 0)
        rc = make_manifest(argv[2], (uint64_t)atoll(argv[3]), &e);
    else if (argc == 7 && strcmp(argv[1], "seal") == 0)
        rc = seal(argv + 2, &e);
    else
        return 64;
    if (rc)
        fprintf(stderr, "%s\n", e.msg);
    return rc ? 1 : 0;
}
