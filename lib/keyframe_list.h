/* keyframe_list: a video's key frames as compact bytes: differences as varints, times in microseconds.
 * Layout: docs/formats.md. Used by manifest. Pure. */
#pragma once
#include "lib/media/media.h"
#include "lib/varint.h"

#define KEYFRAME_LIST_BYTES (VARINT_MAX * (2 * MEDIA_KEYFRAMES_MAX + 1) + 4)
#define KEYFRAME_LIST_END_S 1e9 /* every key frame lies before: doubles tell its microseconds apart */

/* keys [n], ascending in time and never going back in the file, n <= MEDIA_KEYFRAMES_MAX. Returns the size; 0
 * for keys that make no list. `index` is the video's. */
size_t keyframe_list_encode(uint64_t index, const struct media_keyframe *keys, uint32_t n,
                            uint8_t out[KEYFRAME_LIST_BYTES]);
/* Returns how many; -1 for bytes that are no list of this video. Times are rounded down to microseconds. */
int keyframe_list_decode(uint64_t index, const void *bytes, size_t size,
                         struct media_keyframe out[MEDIA_KEYFRAMES_MAX]);
