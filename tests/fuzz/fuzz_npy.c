/* npy: any bytes give an array of the size it claims, or a sentence. */
#include <stdlib.h>
#include "lib/tensor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensor t;
    void *owned = NULL;
    struct err e = {0};
    if (npy_read(fuzz_file(data, size), &t, &owned, &e) < 0)
        return 0;
    volatile uint8_t sum = 0;
    for (size_t b = 0; b < tensor_count(&t) * tensor_dtype_size(t.dtype); b++)
        sum ^= ((const uint8_t *)t.data)[b];
    (void)sum;
    free(owned);
    return 0;
}
