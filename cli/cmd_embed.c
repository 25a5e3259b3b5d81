/* xdc embed: features of files by an exported encoder. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/embed_conf.h"
#include "cli/embed_rows.h"
#include "cli/run_live.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"

#define FILES_SHOWN 10

static const char help[] =
    "examples:\n"
    "  xdc embed video.safetensors clips.lmdb --out clips.npy                     10 clips of every video\n"
    "  xdc embed audio.safetensors esc50.lmdb --clips 1 --out esc50.npy           sound files do for audio\n"
    "  xdc embed video.safetensors clips.lmdb --window 2 --stride 0.5 --out dense.npy\n"
    "  xdc embed video.safetensors ucf101-1.lmdb --maps --set video.frames=32 --out maps.npy\n\n"
    "usage: xdc embed ENCODER.safetensors MANIFEST [--clips N | --window S --stride S] [--split SPLIT]\n"
    "                 [--maps] [--set KEY=VALUE] [--json] --out F.npy|F.jsonl\n\n"
    "ENCODER is what `xdc export` has written of a run, which records how its input is made; MANIFEST is\n"
    "what `xdc index` makes. F.npy is f32 [rows, dim]; F.jsonl beside it says of each row which video and\n"
    "seconds it is: docs/formats.md. With --out F.jsonl alone the features are in its objects. What could "
    "not\n"
    "be decoded has no row and is named. Of files without pictures an audio encoder makes features, of "
    "silent\n"
    "ones a video encoder: only what the encoder sees is decoded.\n\n"
    "  --clips N      clips of every video, evenly spaced from its beginning to its end; 10 if not given\n"
    "  --window S     instead: windows of S seconds, 0: as long as a clip. A longer one is the mean of the\n"
    "                 fewest clips that cover it, of a shorter one the clip in its middle is taken. Windows\n"
    "                 whose middle lies behind the end of the video do not count\n"
    "  --stride S     from one window's start to the next; the window's length if not given. Free room is\n"
    "                 asked for on the disk as if every video had as many windows as the longest\n"
    "  --split SPLIT  train, val, test or all of the manifest's videos; all if not given\n"
    "  --maps         not the mean over the last stage's maps but these, max-pooled by 2 in time, height "
    "and\n"
    "                 width: 512 x 2 x 3 x 3 numbers of 32 frames of 112 x 112. For xdc eval retrieval. "
    "--set\n"
    "                 video.frames, video.crop, ... may then be other than what ENCODER records\n"
    "  --set K=V      of the run that does it: decoder.workers, train.batch, train.device, ...\n"
    "                 (xdc run --help-config), or what ENCODER does not record\n"
    "  --json         a summary for programs on stdout\n\n"
    "The daemons work in F.npy.run, which goes when all is done. Ctrl-C stops; the same command goes on.\n";

struct request {
    struct embed_request q;
    const char *out;
    char run_dir[PATH_MAX], jsonl[PATH_MAX];
    bool npy, json;
};

/* A name that ends with .npy or .jsonl; the other file and the run's directory have theirs of it. */
static int name_files(struct request *r, struct err *e)
{
    const char *dot = strrchr(r->out, '.');
    r->npy = dot && strcmp(dot, ".npy") == 0;
    if (!r->npy && (!dot || strcmp(dot, ".jsonl") != 0))
        return err_set(e, XDC_EUSAGE, "--out %s: must end with .npy or .jsonl", r->out);
    int rc = fs_path(r->jsonl, e, "%.*s.jsonl", (int)(dot - r->out), r->out);
    if (rc == 0)
        rc = fs_path(r->run_dir, e, "%s.run", r->out);
    r->q.run_dir = r->run_dir;
    return rc;
}

/* Settings and the encoder's hash: what makes a run in the directory the one that was asked for. */
static char *describe(const struct embed_conf *c)
{
    size_t size = 64;
    for (size_t i = 0; i < c->sets.n; i++)
        size += strlen(c->sets.texts[i]) + 1;
    char *text = malloc(size);
    size_t used = text ? (size_t)snprintf(text, size, "encoder %016" PRIx64 "\n", c->encoder.hash) : 0;
    for (size_t i = 0; text && i < c->sets.n; i++)
        used += (size_t)snprintf(text + used, size - used, "%s\n", c->sets.texts[i]);
    return text;
}

/* Takes the directory's lock; what an earlier call for something else has left there goes. */
static int enter_dir(const struct embed_conf *c, int *lock, struct err *e)
{
    char path[PATH_MAX];
    char *wanted = describe(c), *there = NULL;
    size_t size;
    struct err unsaid;
    const char *dir = c->conf.run.dir;
    int rc = wanted ? run_live_lock("xdc embed", dir, lock, e) : err_sys(e, ENOMEM, "settings");
    if (rc == 0)
        rc = fs_path(path, e, "%s/embed", dir);
    if (rc == 0 && fs_read(path, 1 << 20, &there, &size, &unsaid) == 0 && strcmp(there, wanted) != 0) {
        fprintf(stderr, "%s is of another encoder or other options: it is removed\n", dir);
        close(*lock);
        *lock = -1;
        rc = fs_remove_tree(dir, e);
        if (rc == 0)
            rc = run_live_lock("xdc embed", dir, lock, e);
    }
    if (rc == 0)
        rc = fs_write_atomic(path, wanted, strlen(wanted), e);
    free(there);
    free(wanted);
    return rc;
}

/* Runs decoders and trainer until the dump is sealed. */
static int extract(const struct embed_conf *c, struct run_end *end, struct err *e)
{
    struct daemon *d = calloc(1, sizeof *d);
    char **args = calloc(2 * c->sets.n + 1, sizeof *args);
    int rc = d && args ? 0 : err_sys(e, ENOMEM, "arguments");
    for (size_t i = 0; rc == 0 && i < c->sets.n; i++) {
        args[2 * i] = (char *)"--set";
        args[2 * i + 1] = c->sets.texts[i];
    }
    if (rc == 0) {
        d->name = "xdc embed";
        d->conf = c->conf;
        rc = run_live(d, args, end, e);
    }
    free(args);
    free(d);
    return rc;
}

static void print_summary(const struct request *r, const struct embed_summary *s)
{
    if (s->rows)
        printf("%s: %" PRIu64 " rows of %" PRIu64 " videos, %u dimensions; %s says what each row is\n",
               r->out, s->rows, s->videos, s->dim, r->npy ? r->jsonl : "each line");
    if (s->failed == 0)
        return;
    printf("%" PRIu64 " of %" PRIu64 " clips have no row, in %" PRIu64 " of %" PRIu64 " videos:\n", s->failed,
           s->clips, s->failed_videos, s->videos);
    for (size_t i = 0; i < json_array_size(s->files) && i < FILES_SHOWN; i++) {
        const json_t *f = json_array_get(s->files, i);
        printf("  %s: %s (%lld)\n", json_string_value(json_object_get(f, "uri")),
               json_string_value(json_object_get(f, "reason")),
               (long long)json_integer_value(json_object_get(f, "clips")));
    }
    if (json_array_size(s->files) > FILES_SHOWN)
        printf("  and %zu more, all with --json; `xdc explain` says what the reasons mean\n",
               json_array_size(s->files) - FILES_SHOWN);
}

static void print_json(const struct request *r, const struct embed_summary *s)
{
    json_t *j = json_pack("{ss ss sI sI sI sI sI s{sO sO}}", "out", r->out, "jsonl", r->jsonl, "rows",
                          (json_int_t)s->rows, "dim", (json_int_t)s->dim, "videos", (json_int_t)s->videos,
                          "clips", (json_int_t)s->clips, "failed_clips", (json_int_t)s->failed, "failed",
                          "reasons", s->reasons, "files", s->files);
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

static int write_out(const struct request *r, const struct embed_conf *c, struct err *e)
{
    struct embed_summary s = {0};
    const struct embed_out out = {
        .jsonl = r->jsonl, .npy = r->npy ? r->out : NULL, .weights = c->encoder.weights};
    int rc = embed_rows_write(&c->conf, &out, &s, e);
    if (r->json && rc == 0)
        print_json(r, &s);
    else
        print_summary(r, &s);
    embed_summary_close(&s);
    return rc;
}

static int check_manifest(const struct embed_conf *c, struct err *e)
{
    struct manifest *m = NULL;
    int rc = manifest_open(c->conf.data.manifest, &m, e);
    manifest_close(m);
    return rc;
}

/* The exit status. */
static int embed(const struct request *r, struct embed_conf *c)
{
    struct err e = {0};
    struct run_end end = {0};
    int lock = -1;
    int rc = embed_conf_make(&r->q, c, &e);
    if (rc == 0)
        rc = check_manifest(c, &e);
    if (rc == 0)
        rc = enter_dir(c, &lock, &e);
    if (rc == 0)
        rc = extract(c, &end, &e);
    if (rc == 0 && !end.reason[0])
        rc = write_out(r, c, &e);
    if (rc == 0 && !end.reason[0])
        rc = run_live_remove(c->conf.run.dir, &e);
    if (lock >= 0)
        close(lock);
    if (rc < 0)
        return cli_fail("embed", &e);
    if (end.reason[0]) {
        fprintf(stderr, "xdc embed: %s\nthe daemons' logs are in %s/logs\n", end.reason, r->run_dir);
        return end.status;
    }
    return 0;
}

int cli_embed(int argc, char **argv)
{
    struct request *r = calloc(1, sizeof *r);
    struct embed_conf *c = calloc(1, sizeof *c);
    if (!r || !c) {
        free(r);
        free(c);
        return 70;
    }
    r->q = (struct embed_request){.split = SPLIT_ALL, .clips = 10};
    const char *clips = NULL, *windows = NULL;
    int split = -1;
    const struct cli_option options[] = {
        {"clips", .count = &r->q.clips, .lo = 1, .hi = 1000000, .seen = &clips},
        {"window", .real = &r->q.window_s, .max = 86400, .seen = &windows},
        {"stride", .real = &r->q.stride_s, .min = 0.001, .max = 86400, .seen = &windows},
        {"split", .word = &split, .words = "train|val|test|all"},
        {"maps", .on = &r->q.maps},
        {"set", .texts = r->q.sets, .n_texts = &r->q.n_sets, .most = EMBED_SETS_MAX},
        {"json", .on = &r->json},
        {"out", 'o', .text = &r->out},
        {0}};
    struct err e;
    int status = cli_options("embed", help, options, argc, argv);
    if (status < 0 && (optind + 2 != argc || !r->out))
        status = cli_usage("embed", "needs ENCODER, MANIFEST and --out");
    if (status < 0 && clips && windows)
        status = cli_usage("embed", "--clips or --%s, not both", windows);
    if (status < 0 && name_files(r, &e) < 0)
        status = cli_usage("embed", "%s", e.msg);
    if (status < 0) {
        r->q.encoder = argv[optind];
        r->q.manifest = argv[optind + 1];
        r->q.windows = windows != NULL;
        if (split >= 0)
            r->q.split = SPLIT_TRAIN + split;
        status = embed(r, c);
    }
    embed_conf_close(c);
    free(c);
    free(r);
    return status;
}
