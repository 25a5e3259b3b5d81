/* xdc labels: the labels of a round, a line a clip, for people and other programs. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "lib/clip.h"
#include "lib/fsutil.h"
#include "lib/label_table.h"
#include "lib/manifest.h"
#include "lib/tensor.h"

static const char help[] = "examples:\n"
                           "  xdc labels run --round last --format csv --out labels.csv\n"
                           "  xdc labels run --round 0 --format npy --out labels.npy\n\n"
                           "usage: xdc labels RUN --round R|last [--format csv|npy] --out F\n\n"
                           "csv: clip,path,start_s, then one column a source (video, audio, joint); empty "
                           "where a clip has no label.\n"
                           "npy: i64 [clips, sources], -1 where a clip has no label.\n";

static void print_field(FILE *f, const char *text)
{
    if (!strpbrk(text, ",\"\n\r")) {
        fputs(text, f);
        return;
    }
    putc('"', f);
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            putc('"', f);
        putc(*p, f);
    }
    putc('"', f);
}

static int write_csv(FILE *f, const struct conf *c, const struct label_table *t, struct manifest *m,
                     struct err *e)
{
    const struct label_info *info = label_table_info(t);
    const struct clip_times times = conf_clip_times(c);
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "labels");
    fputs("clip,path,start_s", f);
    for (uint32_t s = 0; s < info->sources; s++)
        fprintf(f, ",%s", info->source[s].name);
    putc('\n', f);
    for (uint64_t clip = 0; rc == 0 && clip < info->clips; clip++) {
        rc = manifest_get(m, clip / (uint64_t)c->data.clips_per_video, v, e);
        if (rc < 0)
            break;
        fprintf(f, "%llu,", (unsigned long long)clip);
        print_field(f, v->uri);
        fprintf(f, ",%.6f", clip_times_start_s(&times, clip, v->duration_s, conf_clip_span_s(c, v->fps)));
        for (uint32_t s = 0; s < info->sources; s++) {
            uint32_t label = label_table_get(t, s, clip);
            if (label == LABEL_NONE)
                putc(',', f);
            else
                fprintf(f, ",%u", label);
        }
        putc('\n', f);
    }
    free(v);
    return rc;
}

static int write_npy(const char *out, const struct label_table *t, struct err *e)
{
    const struct label_info *info = label_table_info(t);
    int64_t *data = malloc((info->clips * info->sources + 1) * sizeof *data);
    if (!data)
        return err_sys(e, ENOMEM, "labels");
    for (uint64_t clip = 0; clip < info->clips; clip++) {
        for (uint32_t s = 0; s < info->sources; s++) {
            uint32_t label = label_table_get(t, s, clip);
            data[clip * info->sources + s] = label == LABEL_NONE ? -1 : (int64_t)label;
        }
    }
    struct tensor tensor = {
        .dtype = TENSOR_I64, .ndim = 2, .shape = {info->clips, info->sources}, .data = data};
    int rc = npy_write(out, &tensor, e);
    free(data);
    return rc;
}

static int labels(const char *run, const char *round_text, bool npy, const char *out, struct err *e)
{
    char path[PATH_MAX];
    uint32_t round = 0;
    struct label_table *t = NULL;
    struct manifest *m = NULL;
    struct conf c;
    int rc = cli_round(run, "labels", round_text, &round, e);
    if (rc == 0)
        rc = label_table_path(run, round, path, e);
    if (rc == 0)
        rc = label_table_open(path, &t, e);
    if (rc == 0 && npy)
        rc = write_npy(out, t, e);
    if (rc == 0 && !npy) {
        rc = cli_run_conf(run, &c, e);
        if (rc == 0)
            rc = manifest_open(c.data.manifest, &m, e);
        if (rc == 0 && manifest_identity(m) != label_table_info(t)->manifest)
            rc = err_set(e, XDC_EMISMATCH, "%s is not the manifest of %s", c.data.manifest, path);
        FILE *f = rc == 0 ? fopen(out, "w") : NULL;
        if (rc == 0 && !f)
            rc = err_sys(e, errno, "open %s", out);
        if (rc == 0)
            rc = write_csv(f, &c, t, m, e);
        if (f && fclose(f) != 0 && rc == 0)
            rc = err_sys(e, errno, "write %s", out);
    }
    if (rc == 0)
        printf("%s: round %u, %llu clips\n", out, round, (unsigned long long)label_table_info(t)->clips);
    manifest_close(m);
    label_table_close(t);
    return rc;
}

int cli_labels(int argc, char **argv)
{
    const char *round = "last", *out = NULL;
    int format = 0;
    const struct cli_option options[] = {{"round", 'r', .text = &round},
                                         {"format", 'f', .word = &format, .words = "csv|npy"},
                                         {"out", 'o', .text = &out},
                                         {0}};
    int status = cli_options("labels", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind + 1 != argc || !out)
        return cli_usage("labels", "needs RUN and --out");
    struct err e;
    return labels(argv[optind], round, format == 1, out, &e) < 0 ? cli_fail("labels", &e) : 0;
}
