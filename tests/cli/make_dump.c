/* make_dump DIR RANK RANKS TOTAL FIRST ROWS: seals one shard of features at DIR/rank-RANK for the test of
 * `xdc features`. Value d of clip c's video is c + d / 4 (3 of them), of its audio -c - d / 4 (2 of them);
 * every fourth clip has no audio. */
#include <stdio.h>
#include <stdlib.h>
#include "lib/feature_store.h"
#include "lib/fsutil.h"

static int put_rows(struct feature_store *s, const struct feature_info *info, struct err *e)
{
    int rc = 0;
    for (uint64_t row = info->first; rc == 0 && row < info->first + info->rows; row++) {
        float c = (float)row;
        rc = feature_store_put(s, 0, row, (const float[]){c, c + 0.25f, c + 0.5f}, e);
        if (rc == 0 && row % 4 != 3)
            rc = feature_store_put(s, 1, row, (const float[]){-c, -c - 0.25f}, e);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct feature_store *s = NULL;
    struct err e = {0};
    char path[PATH_MAX];
    uint64_t hash;
    if (argc != 7)
        return 64;
    struct feature_info info = {.rank = (uint32_t)atoi(argv[2]),
                                .ranks = (uint32_t)atoi(argv[3]),
                                .total = (uint64_t)atoll(argv[4]),
                                .first = (uint64_t)atoll(argv[5]),
                                .rows = (uint64_t)atoll(argv[6]),
                                .dtype = FEATURE_F32,
                                .encoders = 2,
                                .encoder = {{.name = "video", .dim = 3}, {.name = "audio", .dim = 2}}};
    int rc = fs_mkdirs(argv[1], &e);
    if (rc == 0)
        rc = fs_path(path, &e, "%s/rank-%u", argv[1], info.rank);
    if (rc == 0)
        rc = feature_store_create(path, &info, &s, &e);
    if (rc == 0)
        rc = put_rows(s, &info, &e);
    if (rc == 0)
        rc = feature_store_seal(s, &hash, &e);
    feature_store_close(s);
    if (rc)
        fprintf(stderr, "%s\n", e.msg);
    return rc ? 1 : 0;
}
