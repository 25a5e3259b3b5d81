/* xdc plan: what a run will cost. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/plan.h"

#define SETS_MAX 256

static const char help[] =
    "examples:\n"
    "  xdc plan -c xdc.yaml                             of the manifest that xdc.yaml names\n"
    "  xdc plan -c xdc-kinetics.yaml --videos 240000    before there is one\n"
    "  xdc plan -c xdc-kinetics.yaml --videos 240000 --set video.crop=112 --gpu-tflops 60 --json\n\n"
    "usage: xdc plan -c F.yaml [--set KEY=VALUE]... [--videos N] [--seconds S] [--fps F] [--size WxH]\n"
    "                [--gpu-tflops T] [--decode-rate R] [--json]\n\n"
    "Counts what a run computes, decodes, sends and stores, by phase and round: clips, FLOP of each encoder\n"
    "with its heads, GPU hours, cores of decoders that keep the GPUs fed, bytes on the network, on the disk\n"
    "and in memory. Nothing is decoded or computed. What the figures stand on is said below them, and in\n"
    "docs/plan.md.\n\n"
    "  --videos N        of the run, with its split; before there is a manifest, or in place of it\n"
    "  --seconds S       length of a video; 10 without a manifest\n"
    "  --fps F           its frames/s; 30 without a manifest\n"
    "  --size WxH        its pixels; 340x256 without a manifest\n"
    "  --gpu-tflops T    sustained by one GPU; 200 if not given, an assumption\n"
    "  --decode-rate R   clips/s that one core decodes of " PLAN_DECODE_CLIP ";\n"
    "                    81 if not given, as measured (bench/RESULTS.md); the run's own are scaled from it\n"
    "  --json            for programs\n\n"
    "Exits 0, 64 for wrong arguments, 66 without a manifest and --videos, 78 for faults of the "
    "configuration.\n";

static void on_fault(void *arg, const char *where, const char *what)
{
    (void)arg;
    fprintf(stderr, "xdc plan: %s: %s\n", where, what);
}

/* "340x256" */
static bool parse_size(const char *text, struct plan_said *said)
{
    unsigned w, h;
    int end = 0;
    if (sscanf(text, "%5ux%5u%n", &w, &h, &end) != 2 || text[end] != '\0' || *text < '1' || *text > '9' ||
        w < 1 || h < 1)
        return false;
    said->width = w;
    said->height = h;
    return true;
}

static int print(const struct run_plan *p, bool json, struct err *e)
{
    if (!json) {
        plan_print(p, stdout);
        return 0;
    }
    json_t *j = plan_json(p);
    int rc = j && json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0
                 ? 0
                 : err_sys(e, ENOMEM, "write the plan");
    if (rc == 0)
        putchar('\n');
    json_decref(j);
    return rc;
}

static int plan(const char *path, const char *const *sets, size_t n, const struct plan_said *said,
                struct run_plan *p, bool json)
{
    struct err e;
    int rc = conf_load(path, sets, n, on_fault, NULL, &p->conf, &e);
    if (rc < 0) {
        fprintf(stderr, "xdc plan: %s; xdc run --help-config explains every key\n", e.msg);
        return err_exit_status(rc);
    }
    rc = plan_videos(&p->conf, said, &p->videos, &e);
    if (rc == 0)
        rc = plan_count(p, &e);
    if (rc == 0)
        rc = print(p, json, &e);
    plan_close(p);
    return rc < 0 ? cli_fail("plan", &e) : 0;
}

int cli_plan(int argc, char **argv)
{
    const char *path = NULL, *size = NULL, *sets[SETS_MAX];
    uint32_t n = 0;
    bool json = false;
    struct plan_said said = {0};
    double tflops = 200, rate = PLAN_DECODE_CLIPS_PER_S;
    const struct cli_option options[] = {{"config", 'c', .text = &path},
                                         {"set", .texts = sets, .n_texts = &n, .most = SETS_MAX},
                                         {"videos", .count = &said.videos, .lo = 1, .hi = 1000000000000},
                                         {"seconds", .real = &said.seconds, .min = 0.01, .max = 1e6},
                                         {"fps", .real = &said.fps, .min = 0.01, .max = 1000},
                                         {"size", .text = &size},
                                         {"gpu-tflops", .real = &tflops, .min = 1e-6, .max = 1e6},
                                         {"decode-rate", .real = &rate, .min = 1e-3, .max = 1e6},
                                         {"json", .on = &json},
                                         {0}};
    int status = cli_options("plan", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind < argc)
        return cli_usage("plan", "unexpected argument %s", argv[optind]);
    if (!path)
        return cli_usage("plan", "-c F.yaml is needed");
    if (size && !parse_size(size, &said))
        return cli_usage("plan", "--size %s: must be WIDTHxHEIGHT, like 340x256", size);
    struct run_plan *p = calloc(1, sizeof *p);
    if (!p)
        return 70;
    p->gpu_flop_s = 1e12 * tflops;
    p->decode_rate = rate;
    status = plan(path, sets, n, &said, p, json);
    free(p);
    return status;
}
