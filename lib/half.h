/* half: IEEE 754 binary16 and bfloat16 to and from f32, round to nearest even, as features are stored.
 * Used by feature_store. Pure; never fails. F16C where the CPU has it, else integer code with the same bits
 * for all numbers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Overflow gives infinity, tiny values subnormals. False when a result is not finite. */
bool half_from_float(const float *in, uint16_t *out, size_t n);
/* Exact. */
void half_to_float(const uint16_t *in, float *out, size_t n);
/* The portable code alone; for one value, and for tests that hold the other against it. */
uint16_t half_from_float_portable(float value);
float half_to_float_portable(uint16_t value);

/* The same for bfloat16, the upper half of an f32; NaNs stay NaNs. */
bool bfloat_from_float(const float *in, uint16_t *out, size_t n);
void bfloat_to_float(const uint16_t *in, float *out, size_t n);
/* And for f32 itself. */
bool float_copy(const float *in, float *out, size_t n);
