/* xdc: the one command that a person types. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

static const struct {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "run everything on this machine: decoders, trainer, clusterer", cli_run},
    {"plan", "what a run will cost, before it is run", cli_plan},
    {"status", "what the daemons of a run are doing", cli_status},
    {"index", "list videos into a manifest", cli_index},
    {"doctor", "examine every video of a manifest: what is broken, and why", cli_doctor},
    {"explain", "what codes of files and clips, and warnings, mean", cli_explain},
    {"synth", "make clips with a known structure", cli_synth},
    {"decode", "decode one clip exactly as a run does", cli_decode},
    {"export", "write an encoder for stock PyTorch", cli_export},
    {"embed", "write features of new files by an exported encoder", cli_embed},
    {"features", "write a round's features as .npy", cli_features},
    {"cluster", "k-means of the rows of a .npy file", cli_cluster},
    {"compare", "runs side by side: settings, times, losses, clusters", cli_compare},
    {"eval", "what features are worth: linear classifiers, neighbours, retrieval, clusters", cli_eval},
    {"sweep", "pretrain and evaluate a grid of methods, data and seeds: one table", cli_sweep},
    {"labels", "write a round's labels as .csv or .npy", cli_labels},
};

static void print_help(FILE *f)
{
    fputs("xdc - cross-modal deep clustering: unlabelled video in, a video and an audio encoder out\n\n"
          "  xdc synth --out clips --videos 240 --classes 8 --seed 0    make something to train on\n"
          "  xdc index clips --out clips.lmdb                           list the videos\n"
          "  xdc doctor clips.lmdb                                      find the broken ones\n"
          "  xdc run -c xdc.yaml                                        train; Ctrl-C stops, the same "
          "command goes on\n"
          "  xdc export RUN --encoder video --out video.safetensors     take the encoder away\n\ncommands:\n",
          f);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].what);
    fputs("\nxdc COMMAND --help says more about each; xdc --version prints the version.\n", f);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 64;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("xdc " XDC_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "xdc: there is no command %s; see xdc --help\n", argv[1]);
    return 64;
}
