/* varint: LEB128 numbers in compact records: seven bits a byte, the lowest first, bit 7 set in all but the
 * last. Used by manifest. Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX 10 /* bytes of one */

/* Returns where the next byte goes. */
static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* NULL when the bytes end first or the number does not fit `max`; NULL goes through, so that only the last
 * need be checked. */
static inline const uint8_t *varint_get(const uint8_t *p, const uint8_t *end, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; p && p < end && shift < 64; shift += 7) {
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ & 0x80)
            continue;
        *out = v;
        return v <= max ? p : NULL;
    }
    return NULL;
}
