/* safetensors: any bytes give tensors that lie within the file, or a sentence. */
#include "lib/tensor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    if (safetensors_open(fuzz_file(data, size), &s, &e) < 0)
        return 0;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct tensor *t = safetensors_at(s, i);
        size_t bytes = tensor_count(t) * tensor_dtype_size(t->dtype);
        for (size_t b = 0; b < bytes; b++)
            sum ^= ((const uint8_t *)t->data)[b];
    }
    (void)sum;
    safetensors_close(s);
    return 0;
}
