/* fuzz: what every fuzzer shares: bytes become a file, since our parsers read files. A fuzzer is libFuzzer's
 * entry point; in ordinary builds replay.c runs it over the committed seeds and their mutations. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Path of a file that holds these bytes until the next call; one thread. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* The same in a directory, under a name that ends so. */
const char *fuzz_real_file(const uint8_t *data, size_t size, const char *suffix);

/* What must hold for any bytes. */
static inline void require(bool so)
{
    if (!so)
        __builtin_trap();
}
