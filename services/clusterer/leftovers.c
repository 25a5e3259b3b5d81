#include "services/clusterer/leftovers.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/log.h"

/* The thread in a temporary name; 0: it is none. */
static long thread_of(const char *name)
{
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 4, ".tmp") != 0)
        return 0;
    const char *at = name + n - 4;
    while (at > name && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return at > name && at[-1] == '.' ? strtol(at, NULL, 10) : 0;
}

void leftovers_remove(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        char path[PATH_MAX], proc[64];
        long thread = thread_of(entry->d_name);
        snprintf(proc, sizeof proc, "/proc/%ld", thread);
        if (thread <= 0 || access(proc, F_OK) == 0 || fs_path(path, NULL, "%s/%s", dir, entry->d_name) < 0)
            continue;
        if (unlink(path) == 0)
            log_info("%s is removed: whoever wrote it is gone", path);
    }
    if (d)
        closedir(d);
}
