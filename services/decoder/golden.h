/* golden: the hash of a built-in clip's frames and log-mel, by which a trainer knows that two decoders give
 * equal bytes. Used by the decoder at its start. Blocking, about a tenth of a second; owns nothing. Fails
 * when no worker can be started or when this machine's FFmpeg cannot decode H.264 and AAC; XDC_ELOST when its
 * worker died, so that another start may come through. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/media/child.h"

/* A two-second MP4: H.264 64x48 at 10 frames/s, AAC 16 kHz mono. */
extern const uint8_t golden_clip[];
extern const size_t golden_clip_size;

/* Decodes the golden clip on a worker of its own; *out is the hash of what came out, *out_sandbox what keeps
 * the worker in (enum sandbox_part). */
int golden_hash(const struct media_child_limits *limits, uint64_t *out, uint32_t *out_sandbox,
                struct err *e) WARN_UNUSED;
