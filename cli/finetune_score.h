/* finetune_score: what a fine-tuned encoder's classifier says of test videos, out of the features that
 * `xdc embed` has written of them. Used by eval finetune. Blocking; one thread. */
#pragma once
#include <jansson.h>
#include "lib/err.h"

/* *out, the caller's: {"figures": {video_top1, video_top5, clip_top1, clip_top5, video_top1_logits},
 * "videos", "clips", "per_class": [{class, test, right, accuracy}], "outputs": the classes in the
 * classifier's order}. A video's scores are the means of its clips' softmax (algorithms.md 2.2 [R]);
 * video_top1_logits is with means of the logits. Videos of a class that train lacks are wrong; per_class has
 * the classes that have rows. `encoder`: safetensors file with fc.* or classifier.1.*, finite; its outputs
 * are the classes of `manifest` in their order. `features`: .npy with .jsonl beside. XDC_EFORMAT,
 * XDC_EMISMATCH. */
int finetune_score(const char *encoder, const char *manifest, const char *features, json_t **out,
                   struct err *e) WARN_UNUSED;
