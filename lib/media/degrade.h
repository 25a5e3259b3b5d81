/* degrade: a picture as one of fewer pixels would look: means of squares of factor x factor pixels, scaled up
 * again with a triangle filter (algorithms.md 4.9, degraded vision). Used by picture. Pure; any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DEGRADE_MAX 16

/* Bytes of scratch for pictures of that side. */
size_t degrade_scratch(int side, int factor);
/* rgb [side, side, 3], in place; factor 2 to DEGRADE_MAX. Squares at the right and lower edges may be cut.
 * What is constant stays. */
void degrade(uint8_t *rgb, int side, int factor, uint8_t *scratch);
