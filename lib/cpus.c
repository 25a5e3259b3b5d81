#include "lib/cpus.h"

#include <sched.h>
#include <stdio.h>

static cpu_set_t usable(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0 ||
        CPU_COUNT(&set) == 0) { /* more CPUs than the set holds */
        for (size_t i = 0; i < CPU_SETSIZE; i++)
            CPU_SET(i, &set);
    }
    return set;
}

unsigned cpus_usable(void)
{
    cpu_set_t set = usable();
    return (unsigned)CPU_COUNT(&set);
}

/* The first hardware thread of a CPU's core; the CPU itself where that is not said. */
static size_t first_of_core(size_t cpu)
{
    char path[80];
    size_t first;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f)
        return cpu;
    if (fscanf(f, "%zu", &first) != 1 || first >= CPU_SETSIZE)
        first = cpu;
    fclose(f);
    return first;
}

unsigned cpus_cores(void)
{
    cpu_set_t set = usable(), cores;
    CPU_ZERO(&cores);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            CPU_SET(first_of_core(i), &cores);
    return (unsigned)CPU_COUNT(&cores);
}
