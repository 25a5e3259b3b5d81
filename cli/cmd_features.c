/* xdc features: the features of a round, as NumPy sees them. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/tensor.h"

static const char help[] = "examples:\n"
                           "  xdc features run --round 3 --modality video --out f.npy\n"
                           "  xdc features run --round last --modality audio --out f.npy\n\n"
                           "usage: xdc features RUN --round R|last --modality ENCODER --out F.npy\n\n"
                           "ENCODER: video or audio; of same-modality video-a, ..., of selavi video-g0, ...\n"
                           "f32 [clips, dim], rows in the order of clip ids (video index x clips_per_video + "
                           "j); the rows of clips without features\n"
                           "are NaN.\n";

static int write_rows(struct feature_dump *d, uint32_t enc, const char *out, struct err *e)
{
    const struct feature_info *info = feature_dump_info(d);
    uint32_t dim = info->encoder[enc].dim;
    float *data = malloc((info->rows ? info->rows : 1) * dim * sizeof *data);
    if (!data)
        return err_sys(e, ENOMEM, "%llu rows", (unsigned long long)info->rows);
    int rc = feature_dump_read(d, enc, 0, info->rows, data, e);
    for (uint64_t row = 0; rc == 0 && row < info->rows; row++)
        for (uint32_t i = 0; !feature_dump_has(d, enc, row) && i < dim; i++)
            data[row * dim + i] = __builtin_nanf("");
    struct tensor t = {.dtype = TENSOR_F32, .ndim = 2, .shape = {info->rows, dim}, .data = data};
    if (rc == 0)
        rc = npy_write(out, &t, e);
    char shards[32] = "";
    if (info->ranks > 1)
        snprintf(shards, sizeof shards, ", from %u shards", info->ranks);
    if (rc == 0)
        printf("%s: %llu of %llu clips, %u dimensions%s\n", out, (unsigned long long)info->encoder[enc].valid,
               (unsigned long long)info->rows, dim, shards);
    free(data);
    return rc;
}

/* "video, audio" */
static void list_encoders(const struct feature_info *info, char out[512])
{
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < info->encoders && n < 512; i++)
        n += (size_t)snprintf(out + n, 512 - n, "%s%s", i ? ", " : "", info->encoder[i].name);
}

static int features(const char *run, const char *round_text, const char *modality, const char *out,
                    struct err *e)
{
    char dir[PATH_MAX];
    uint32_t round = 0, enc = 0;
    struct feature_dump *d = NULL;
    int rc = cli_round(run, "features", round_text, &round, e);
    if (rc == 0)
        rc = fs_path(dir, e, "%s/features/round-%04u", run, round);
    if (rc == 0)
        rc = feature_dump_open(dir, &d, e);
    if (rc < 0)
        return rc;
    const struct feature_info *info = feature_dump_info(d);
    while (enc < info->encoders && strcmp(info->encoder[enc].name, modality) != 0)
        enc++;
    char names[512];
    list_encoders(info, names);
    rc = enc < info->encoders
             ? write_rows(d, enc, out, e)
             : err_set(e, XDC_EUSAGE, "%s has no features of %s: it has those of %s", dir, modality, names);
    feature_dump_close(d);
    return rc;
}

int cli_features(int argc, char **argv)
{
    const char *round = NULL, *modality = NULL, *out = NULL;
    const struct cli_option options[] = {{"round", 'r', .text = &round},
                                         {"modality", 'm', .text = &modality},
                                         {"out", 'o', .text = &out},
                                         {0}};
    int status = cli_options("features", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind + 1 != argc || !round || !modality || !out)
        return cli_usage("features", "needs RUN, --round, --modality and --out");
    struct err e;
    return features(argv[optind], round, modality, out, &e) < 0 ? cli_fail("features", &e) : 0;
}
