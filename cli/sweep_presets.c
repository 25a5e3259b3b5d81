/* The tables of the papers as sweeps (algorithms.md 2.4, 4.9): rows, grids and columns. Which data stands for
 * which is the user's to say. */
#include <string.h>
#include "cli/sweep.h"

#define ROW_SCRATCH                                                                                         \
    "  - {name: Scratch, once: true, set: {train.rounds: 0}}     # networks as drawn; trained only on the " \
    "target\n"
#define ROW_SUPERV                                                                                          \
    "  - {name: Superv, one_round: true, set: {method: supervised}} # labels of pretrain's `labelled`; as " \
    "many epochs\n"
#define ROW_SELAVI "  - {name: SeLaVi, set: {method: selavi, train.balance: off, data.clips_per_video: 1}}\n"

static const struct {
    const char *name, *text;
} presets[] = {
    {"t1-methods",
     "# The methods, fine-tuned and probed. Published: UCF101, HMDB51, ESC-50 after Kinetics.\n"
     "rows:\n" ROW_SCRATCH ROW_SUPERV "  - {name: SDC, set: {method: sdc}}\n"
     "  - {name: MDC, set: {method: mdc}}\n"
     "  - {name: CDC, set: {method: cdc}}\n"
     "  - {name: XDC, set: {method: xdc}}\n"
     "  - name: Same-modality                 # two video networks, and two audio networks\n"
     "    parts:\n"
     "      - {set: {method: same-modality, same.modality: video}, video: video-a}\n"
     "      - {set: {method: same-modality, same.modality: audio}, audio: audio-a}\n" ROW_SELAVI "evaluate:\n"
     "  - {name: fine-tuned, eval: finetune, figure: video_top1}\n"
     "  - {name: 10-shot, eval: svm, figure: video_top1, options: {shots: 10, repeats: 5}}\n"
     "  - {name: kNN, eval: knn, figure: video_top1}\n"
     "  - {name: AMI, eval: cluster, figure: ami, options: {split: test}}\n"
     "order: [XDC, CDC, MDC, SDC, Scratch]\n"},
    {"t2-k", "# The number of clusters.\n"
             "rows:\n"
             "  - {name: XDC, set: {method: xdc}}\n"
             "grid: {cluster.k: [64, 128, 256, 512, 1024]}\n"
             "evaluate:\n"
             "  - {name: fine-tuned, eval: finetune, figure: video_top1}\n"
             "  - {name: kNN, eval: knn, figure: video_top1}\n"},
    {"t3-data",
     "# Type and size of the pretraining data: give several `pretrain`, or grid: {data.subset.n: [...]}.\n"
     "rows:\n" ROW_SCRATCH ROW_SUPERV "  - {name: XDC, set: {method: xdc}}\n"
     "evaluate:\n"
     "  - {name: fine-tuned, eval: finetune, figure: video_top1}\n"
     "  - {name: kNN, eval: knn, figure: video_top1}\n"},
    {"t4-fc-vs-all", "# A linear layer on frozen encoders, against all layers.\n"
                     "rows:\n" ROW_SCRATCH ROW_SUPERV "  - {name: XDC, set: {method: xdc}}\n"
                     "evaluate:\n"
                     "  - {name: fc, eval: finetune, figure: video_top1, options: {update: fc}}\n"
                     "  - {name: all, eval: finetune, figure: video_top1}\n"},
    {"t5-video-sota", "# Video with 32-frame clips; targets: the splits of UCF101 and HMDB51.\n"
                      "rows:\n" ROW_SUPERV "  - {name: XDC, set: {method: xdc}}\n"
                      "evaluate:\n"
                      "  - {name: UCF101, eval: finetune, target: UCF101, figure: video_top1, of: video, "
                      "options: {preset: ucf101-32}}\n"
                      "  - {name: HMDB51, eval: finetune, target: HMDB51, figure: video_top1, of: video, "
                      "options: {preset: hmdb51-32}}\n"},
    {"t6-audio-sota", "# Linear SVMs on frozen audio features; targets: the folds of ESC-50, and DCASE.\n"
                      "rows:\n"
                      "  - {name: XDC, set: {method: xdc}}\n"
                      "evaluate:\n"
                      "  - {name: ESC-50, eval: svm, target: ESC-50, figure: video_top1, of: audio}\n"
                      "  - {name: DCASE, eval: svm, target: DCASE, figure: video_top1, of: audio}\n"},
    {"selavi-metrics",
     "# Clusters of features compared with classes, and retrieval.\n"
     "rows:\n" ROW_SCRATCH ROW_SUPERV "  - {name: XDC, set: {method: xdc}}\n" ROW_SELAVI "evaluate:\n"
     "  - {name: NMI, eval: cluster, figure: nmi, options: {split: test}}\n"
     "  - {name: ARI, eval: cluster, figure: ari, options: {split: test}}\n"
     "  - {name: Acc, eval: cluster, figure: accuracy, options: {split: test}}\n"
     "  - {name: entropy, eval: cluster, figure: entropy, options: {split: test}}\n"
     "  - {name: purity, eval: cluster, figure: purity, options: {split: test}}\n"
     "  - {name: R@1, eval: retrieval, figure: r@1}\n"
     "  - {name: R@5, eval: retrieval, figure: r@5}\n"
     "  - {name: R@20, eval: retrieval, figure: r@20}\n"},
};

const char *sweep_preset(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(presets[i].name, name) == 0)
            return presets[i].text;
    return NULL;
}

const char *sweep_preset_names(void)
{
    return "t1-methods, t2-k, t3-data, t4-fc-vs-all, t5-video-sota, t6-audio-sota, selavi-metrics";
}
