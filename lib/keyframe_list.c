#include "lib/keyframe_list.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#define TICKS_PER_S 1e6
#define TICKS_END ((uint64_t)(KEYFRAME_LIST_END_S * TICKS_PER_S))
#define ROUNDING 1e-3 /* ticks: of up to 50 days, what was decoded is encoded to the same bytes */

static uint32_t check_of(uint64_t index, const void *bytes, size_t size)
{
    return (uint32_t)XXH3_64bits_withSeed(bytes, size, ~index);
}

size_t keyframe_list_encode(uint64_t index, const struct media_keyframe *keys, uint32_t n,
                            uint8_t out[KEYFRAME_LIST_BYTES])
{
    uint8_t *p = varint_put(out, n);
    uint64_t time = 0, pos = 0;
    if (n > MEDIA_KEYFRAMES_MAX)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!(keys[i].time_s >= 0 && keys[i].time_s < KEYFRAME_LIST_END_S) || keys[i].pos < 0)
            return 0;
        uint64_t t = (uint64_t)floor(keys[i].time_s * TICKS_PER_S + ROUNDING), b = (uint64_t)keys[i].pos;
        if (t < time || b < pos)
            return 0;
        p = varint_put(p, t - time);
        p = varint_put(p, b - pos);
        time = t;
        pos = b;
    }
    uint32_t check = check_of(index, out, (size_t)(p - out));
    memcpy(p, &check, sizeof check);
    return (size_t)(p - out) + sizeof check;
}

int keyframe_list_decode(uint64_t index, const void *bytes, size_t size,
                         struct media_keyframe out[MEDIA_KEYFRAMES_MAX])
{
    uint64_t n = 0, time = 0, pos = 0, step = 0;
    uint32_t check;
    if (size < 5 || size > KEYFRAME_LIST_BYTES)
        return -1;
    const uint8_t *p = bytes, *end = p + size - 4;
    memcpy(&check, end, sizeof check);
    if (check != check_of(index, bytes, size - 4))
        return -1;
    p = varint_get(p, end, MEDIA_KEYFRAMES_MAX, &n);
    for (uint64_t i = 0; p && i < n; i++) {
        p = varint_get(p, end, TICKS_END - 1 - time, &step);
        time += p ? step : 0;
        p = varint_get(p, end, (uint64_t)INT64_MAX - pos, &step);
        pos += p ? step : 0;
        out[i] = (struct media_keyframe){.time_s = (double)time / TICKS_PER_S, .pos = (int64_t)pos};
    }
    return p == end ? (int)n : -1;
}
