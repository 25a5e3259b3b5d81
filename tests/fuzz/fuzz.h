/* fuzz: what every fuzzer shares: bytes become a file, since our parsers read files. A fuzzer is libFuzzer's
 * entry point; in ordinary builds replay.c runs it over the committed seeds and their mutations. */
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Path of a file that holds these bytes until the next call; one thread. */
const char *fuzz_file(const uint8_t *data, size_t size);
