/* sample_check: whether the raw frames of a sample are what its lease asked for and what its message says.
 * Used by samples_in. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/media/media.h"
#include "lib/wire.h"

/* What a sample must hold. */
struct sample_shape {
    bool video, audio;
    size_t video_bytes;
};

/* *out_video and *out_audio lie in raw, NULL for what is not wanted. False when a size, the number of frames,
 * the hash or a number that is not finite shows that it is another sample, or a broken one. */
bool sample_check(const struct sample_shape *shape, const Xdc__Sample *s, const struct wire_frame *raw,
                  size_t n_raw, const void **out_video, const void **out_audio);
