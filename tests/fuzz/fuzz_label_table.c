/* Label tables: any bytes give labels below k or none, or a sentence. */
#include "lib/label_table.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct label_table *t = NULL;
    struct err e = {0};
    if (label_table_open(fuzz_file(data, size), &t, &e) < 0)
        return 0;
    const struct label_info *info = label_table_info(t);
    for (uint32_t s = 0; s < info->sources; s++)
        for (uint64_t clip = 0; clip < info->clips; clip++)
            if (label_table_get(t, s, clip) >= info->source[s].k && label_table_get(t, s, clip) != LABEL_NONE)
                __builtin_trap();
    label_table_close(t);
    return 0;
}
