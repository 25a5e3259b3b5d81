/* xdc export: an encoder of a run, its heads, or a network drawn anew, for stock PyTorch. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "lib/export.h"
#include "lib/fsutil.h"

static const char help[] =
    "examples:\n"
    "  xdc export run --encoder video --out video.safetensors\n"
    "  xdc export run --encoder audio --head fc --out audio.safetensors\n"
    "  xdc export run --heads --out heads.safetensors                       for xdc eval cluster --heads\n"
    "  xdc export --init r2plus1d_18 --flavour torchvision --classes 400 --out net.safetensors\n\n"
    "usage: xdc export RUN --encoder video|audio [--head none|fc] [--ema] [--flavour xdc|torchvision] --out "
    "F\n"
    "       xdc export RUN --heads --out F\n"
    "       xdc export --init NET [--flavour xdc|torchvision] [--classes N] [--width W] [--seed S] --out "
    "F\n\n"
    "RUN is a run directory (run.dir), finished or not: the newest whole checkpoint counts, and newer ones "
    "that "
    "are not whole\nare named. The file is safetensors, has torchvision's key names and loads with "
    "strict=True (deploy/python/load_xdc.py); the "
    "recipe is in\n"
    "its metadata.\n\n"
    "  --head fc      with the head that the encoder was trained with, as fc.weight and fc.bias\n"
    "  --heads        instead of an encoder: all heads of both encoders, of a run of method selavi\n"
    "  --ema          the average of the weights over steps, of a run with train.ema\n"
    "  --flavour F    of a run: refuse if its network is of another flavour; with --init: which one to make\n"
    "  --init NET     r2plus1d_10|18|34, r3d_10|18|34, mc3_10|18|34, s3d (video), resnet10|18|34, "
    "resnet18_vmz (audio); SeLaVi's resnet9 is resnet10\n"
    "  --classes N    with --init: with a classifier of N classes\n"
    "  --width W      with --init: channels of the first stage, 64 if not given\n"
    "  --seed S       with --init: of the random weights, 0 if not given\n";

struct request {
    const char *run, *encoder, *head, *flavour, *init, *out;
    uint64_t classes, width, seed;
    int head_kind; /* none, fc */
    bool ema, heads;
};

static void on_refused(void *arg, const char *why)
{
    (void)arg;
    fprintf(stderr, "xdc export: warning: passed over, an older checkpoint counts: %s\n", why);
}

static int export_run(const struct request *r)
{
    struct err e;
    const char *flavour;
    unsigned what = r->head_kind ? EXPORT_CLASSIFIER : 0;
    what |= r->ema ? EXPORT_EMA : 0;
    int rc = 0;
    if (r->heads)
        rc = export_heads(r->run, r->out, on_refused, &e);
    else if (r->flavour)
        rc = export_flavour(r->run, r->encoder, &flavour, &e);
    if (rc == 0 && r->flavour && strcmp(flavour, r->flavour) != 0)
        rc =
            err_set(&e, XDC_EMISMATCH,
                    "the %s encoder of %s is of flavour %s, whose tensors have other shapes than those of %s",
                    r->encoder, r->run, flavour, r->flavour);
    if (rc == 0 && !r->heads)
        rc = export_encoder(r->run, r->encoder, what, r->out, on_refused, &e);
    if (rc < 0)
        return cli_fail("export", &e);
    printf("%s\n", r->out);
    return 0;
}

/* libtorch is a program away: every other subcommand starts without it. */
static int export_new(const struct request *r)
{
    struct err e;
    char program[PATH_MAX], width[24], classes[24], seed[24];
    bool factored = strncmp(r->init, "r2plus1d", 8) == 0;
    if (fs_program("xdc-net-init", "XDC_NET_INIT", program, &e) < 0)
        return cli_fail("export", &e);
    snprintf(width, sizeof width, "%llu", (unsigned long long)r->width);
    snprintf(classes, sizeof classes, "%llu", (unsigned long long)r->classes);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->seed);
    const char *flavour = r->flavour ? r->flavour : factored ? "xdc" : "torchvision";
    execl(program, "xdc export", r->init, flavour, width, classes, seed, r->out, (char *)NULL);
    err_sys(&e, errno, "start %s", program);
    return cli_fail("export", &e);
}

/* The exit status of what is wrong with the request, or 0. */
static int check(const struct request *r)
{
    if (r->init && (r->run || r->encoder || r->head || r->ema))
        return cli_usage("export", "--init takes neither RUN nor --encoder nor --head nor --ema");
    if (r->heads && (r->init || r->encoder || r->head || r->ema || r->flavour))
        return cli_usage("export", "--heads takes RUN and --out alone");
    if (!r->out || (!r->init && (!r->run || (!r->encoder && !r->heads))))
        return cli_usage("export", "needs RUN and --encoder or --heads, or --init, and --out");
    return 0;
}

int cli_export(int argc, char **argv)
{
    struct request r = {.width = 64};
    int unused;
    const struct cli_option options[] = {
        {"encoder", 'e', .text = &r.encoder},
        {"head", .word = &r.head_kind, .words = "none|fc", .text = &r.head},
        {"flavour", 'f', .word = &unused, .words = "xdc|torchvision", .text = &r.flavour},
        {"init", .text = &r.init},
        {"classes", .count = &r.classes, .lo = 1, .hi = 1000000},
        {"width", .count = &r.width, .lo = 4, .hi = 256},
        {"seed", .count = &r.seed, .hi = UINT32_MAX},
        {"out", 'o', .text = &r.out},
        {"ema", .on = &r.ema},
        {"heads", .on = &r.heads},
        {0}};
    int status = cli_options("export", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind + 1 < argc)
        return cli_usage("export", "one RUN, not %s", argv[optind + 1]);
    r.run = argv[optind];
    status = check(&r);
    if (status)
        return status;
    return r.init ? export_new(&r) : export_run(&r);
}
