#include <stdio.h>
#include "lib/media/sandbox.h"

const char *sandbox_missing(uint32_t parts, char *buf, size_t size)
{
    static const struct {
        uint32_t part;
        const char *name;
    } names[] = {
        {SANDBOX_NO_NEW_PRIVS, "no_new_privs"},
        {SANDBOX_LANDLOCK, "Landlock (files stay out of reach)"},
        {SANDBOX_SECCOMP, "seccomp (a list of system calls)"},
        {SANDBOX_MEMORY, "a memory limit"},
    };
    size_t used = 0;
    if (size)
        buf[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0] && used < size; i++) {
        if (parts & names[i].part)
            continue;
        const char *before = used ? ", " : "media workers run without ";
        int n = snprintf(buf + used, size - used, "%s%s", before, names[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}
