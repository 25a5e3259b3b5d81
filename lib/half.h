/* half: IEEE 754 binary16 to and from f32, round to nearest even, as features are stored.
 * Used by feature_store. Pure; never fails. F16C where the CPU has it, else integer code with the same bits
 * for all numbers. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Overflow gives infinity, tiny values subnormals. */
void half_from_float(const float *in, uint16_t *out, size_t n);
/* Exact. */
void half_to_float(const uint16_t *in, float *out, size_t n);
/* The portable code alone; for one value, and for tests that hold the other against it. */
uint16_t half_from_float_portable(float value);
float half_to_float_portable(uint16_t value);
