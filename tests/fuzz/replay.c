/* Runs a fuzzer over seed files, each as it is, cut at every length, and with every byte changed: what ctest
 * does everywhere, without libFuzzer. usage: fuzz_x SEED... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"
#include "tests/fuzz/fuzz.h"

#define RUNS_MAX 4000 /* of each kind and seed: longer seeds are sampled */

static unsigned long replay(const char *data, size_t size)
{
    unsigned long runs = 1;
    size_t stride = size / RUNS_MAX + 1;
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    for (size_t i = 0; i < size; i += stride) {
        static const uint8_t changes[] = {0x01, 0x80, 0xff};
        LLVMFuzzerTestOneInput(copy, i);
        for (unsigned k = 0; k < sizeof changes; k++) {
            copy[i] ^= changes[k];
            LLVMFuzzerTestOneInput(copy, size);
            copy[i] ^= changes[k];
        }
        runs += 1 + sizeof changes;
    }
    free(copy);
    return runs;
}

int main(int argc, char **argv)
{
    unsigned long runs = 0;
    for (int i = 1; i < argc; i++) {
        char *data;
        size_t size;
        struct err e;
        if (fs_read(argv[i], 1 << 20, &data, &size, &e) < 0) {
            fprintf(stderr, "%s\n", e.msg);
            return 1;
        }
        runs += replay(data, size);
        free(data);
    }
    printf("%lu inputs from %d seeds\n", runs, argc - 1);
    return argc > 1 ? 0 : 64;
}
