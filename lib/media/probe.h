/* probe: what a media file is: duration, streams, sizes; what the manifest keeps of it.
 * Used by the media worker. One thread. Owns nothing. */
#pragma once
#include "lib/media/input.h"

/* Fills `out` from an input, as far as its headers tell. in->full for exact answers. */
void probe_fill(const struct input *in, struct media_probe *out);
/* Sound and vision as the recipe wants them: sets *out_missing (bit 0: no video, bit 1: no audio), returns 0
 * or the first reason against using the file. duration_s: 0 where unknown. */
int probe_check(const struct input *in, const struct media_recipe *r, double duration_s,
                uint32_t *out_missing, struct err *e) WARN_UNUSED;
/* One reading of the whole file, for what its header does not say. measure: in->duration_s becomes the end of
 * the last packet. keys [MEDIA_KEYFRAMES_MAX] or NULL: key frames of the video, evenly thinned, in ascending
 * time; *out_keys says how many. The origin is found. */
int probe_scan(struct input *in, bool measure, struct media_keyframe *keys, uint32_t *out_keys,
               struct err *e) WARN_UNUSED;
