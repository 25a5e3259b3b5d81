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
/* The duration of a file whose header has none: the end of the last packet. Reads the whole file. */
int probe_scan_duration(struct input *in, struct err *e) WARN_UNUSED;
