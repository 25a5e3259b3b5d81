/* The configuration: any bytes give a configuration or named faults. */
#include "lib/conf.h"
#include "tests/fuzz/fuzz.h"

static void on_fault(void *arg, const char *where, const char *what)
{
    (void)where;
    (void)what;
    ++*(int *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf c;
    struct err e = {0};
    int faults = 0;
    int rc = conf_load(fuzz_file(data, size), NULL, 0, on_fault, &faults, &c, &e);
    if ((rc < 0) != (faults > 0))
        __builtin_trap();
    return 0;
}
