/* xdc-media-worker CPU_SECONDS MEMORY_MIB SLOT_BYTES: started by lib/media/child.c, never by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/media/worker.h"

#define NICENESS 10

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("xdc-media-worker is started by xdc-decoder and xdc, not by hand\n", stderr);
        return 64;
    }
    struct worker_limits limits = {.cpu_s = (uint32_t)strtoul(argv[1], NULL, 10),
                                   .memory_mib = (uint32_t)strtoul(argv[2], NULL, 10),
                                   .slot_bytes = strtoull(argv[3], NULL, 10)};
    /* On a shared machine the trainer's step goes first: it waits for all its threads, a worker for nobody.
     */
    if (nice(NICENESS) == -1)
        fputs("xdc-media-worker: no lower priority\n", stderr);
    return worker_run(&limits);
}
