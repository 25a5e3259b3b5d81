/* xdc export: an encoder of a run, for stock PyTorch. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "lib/export.h"

static const char help[] =
    "examples:\n"
    "  xdc export run --encoder video --out video.safetensors\n"
    "  xdc export run --encoder audio --out audio.safetensors\n\n"
    "usage: xdc export RUN --encoder video|audio --out F.safetensors\n\n"
    "RUN is a run directory (run.dir), finished or not: the newest whole checkpoint counts. The file has "
    "torchvision's key\n"
    "names and loads with strict=True (deploy/python/load_xdc.py); the recipe is in its metadata.\n";

int cli_export(int argc, char **argv)
{
    static const struct option options[] = {{"encoder", required_argument, NULL, 'e'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *encoder = NULL, *out = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "e:o:h", options, NULL)) != -1) {
        switch (c) {
        case 'e':
            encoder = optarg;
            break;
        case 'o':
            out = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return cli_usage("export", "wrong arguments");
        }
    }
    if (optind + 1 != argc || !encoder || !out)
        return cli_usage("export", "needs RUN, --encoder and --out");
    struct err e;
    if (export_encoder(argv[optind], encoder, out, &e) < 0)
        return cli_fail("export", &e);
    printf("%s\n", out);
    return 0;
}
