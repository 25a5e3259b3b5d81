#include "lib/media/sandbox.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* maps terabytes, and looks at /proc when it ends */
#else
#define SANITIZED 0
#endif

/* No path can be opened from here on: all the worker needs comes as open descriptors. */
static bool forbid_paths(void)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (fd < 0)
        return false;
    bool done = syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    close(fd);
    return done;
}

/* The limit is on what jobs add: libraries map some 200 MiB before the first byte of media is read. */
static int limit_memory(uint32_t memory_mib)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return -errno;
    int fields = fscanf(f, "%lu", &pages);
    fclose(f);
    if (fields != 1)
        return -EIO;
    rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)memory_mib << 20);
    struct rlimit as = {.rlim_cur = bytes, .rlim_max = bytes};
    return setrlimit(RLIMIT_AS, &as) < 0 ? -errno : 0;
}

int sandbox_enter(uint32_t memory_mib, uint32_t *out_parts)
{
    *out_parts = 0;
    struct rlimit core = {0};
    if (setrlimit(RLIMIT_CORE, &core) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    *out_parts |= SANDBOX_NO_NEW_PRIVS;
    if (SANITIZED)
        return 0;
    int rc = limit_memory(memory_mib);
    if (rc < 0)
        return rc;
    *out_parts |= SANDBOX_MEMORY;
    if (forbid_paths())
        *out_parts |= SANDBOX_LANDLOCK;
    return 0;
}
