#include "lib/media/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MAX_FILES 8 /* 0, 1, 2, socket, slot, and the file of a job */

/* By number, for kernels may know more than the headers this is built with. */
#define LANDLOCK_FS_1 ((1ull << 13) - 1)  /* ABI 1: open, make, remove, execute */
#define LANDLOCK_FS_REFER (1ull << 13)    /* 2 */
#define LANDLOCK_FS_TRUNCATE (1ull << 14) /* 3 */
#define LANDLOCK_NET_TCP 3ull             /* 4: bind, connect */
#define LANDLOCK_FS_IOCTL (1ull << 15)    /* 5 */
#define LANDLOCK_SCOPES 3ull              /* 6: abstract sockets, signals */

struct landlock_rules {
    uint64_t fs, net, scopes;
};

/* All that the kernel can refuse, without an exception: what the worker needs it has as open descriptors. */
static bool forbid_paths(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return false;
    struct landlock_rules rules = {.fs = LANDLOCK_FS_1};
    size_t size = sizeof rules.fs;
    if (abi >= 2)
        rules.fs |= LANDLOCK_FS_REFER;
    if (abi >= 3)
        rules.fs |= LANDLOCK_FS_TRUNCATE;
    if (abi >= 4) {
        rules.net = LANDLOCK_NET_TCP;
        size = offsetof(struct landlock_rules, scopes);
    }
    if (abi >= 5)
        rules.fs |= LANDLOCK_FS_IOCTL;
    if (abi >= 6) {
        rules.scopes = LANDLOCK_SCOPES;
        size = sizeof rules;
    }
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
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

static int drop_privileges(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
        return -errno;
    return 0;
}

/* No core file, not even through a pipe, which no limit stops; nobody's debugger. The sanitizers' own tools
 * want to look. */
static int set_limits(void)
{
    const struct {
        int resource;
        rlim_t most;
    } limits[] = {{RLIMIT_CORE, 0}, {RLIMIT_FSIZE, 0}, {RLIMIT_NPROC, 0}, {RLIMIT_NOFILE, MAX_FILES}};
    size_t n = SANITIZED ? 1 : sizeof limits / sizeof limits[0];
    for (size_t i = 0; i < n; i++) {
        struct rlimit r = {.rlim_cur = limits[i].most, .rlim_max = limits[i].most};
        if (setrlimit((__rlimit_resource_t)limits[i].resource, &r) < 0)
            return -errno;
    }
    return SANITIZED || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -errno;
}

/* What a worker needs once it has started, found by tracing it over all codecs and containers; the clocks are
 * system calls only where the kernel has no faster way. */
static const char *const allowed[] = {
    "pread64",    "lseek",  "close",  "recvmsg", "sendto",        "mmap",
    "munmap",     "mremap", "brk",    "futex",   "timer_settime", "clock_gettime",
    "exit_group", "getpid", "gettid", "tgkill",  "gettimeofday",
};

/* What libraries try and can do without: they hear "permission denied" and go on, or die of their own fault
 * (abort writes a line and changes the signal mask first). All else is an attack, and ends the process. */
static const char *const refused[] = {
    "openat",
    "open",
    "newfstatat",
    "fstat",
    "access",
    "readlink",
    "getcwd",
    "write",
    "writev",
    "ioctl",
    "sched_getaffinity",
    "sysinfo",
    "uname",
    "mprotect",
    "rt_sigprocmask",
    "rt_sigaction",
    "getrandom",
    "madvise",
};

size_t sandbox_calls(const char *const **out_names)
{
    *out_names = allowed;
    return sizeof allowed / sizeof allowed[0];
}

/* What the first n of `arg` must be for a call to be allowed. */
struct rule {
    const char *name;
    unsigned n;
    struct scmp_arg_cmp arg[2];
};

static int add_rules(scmp_filter_ctx filter, int socket)
{
    const struct rule rules[] = {
        {"mmap",
         2,
         {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
          SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS)}},
        {"recvmsg", 1, {SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)socket)}},
        {"sendto", 2, {SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)socket), SCMP_A4(SCMP_CMP_EQ, 0)}},
        {"futex", 1, {SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0x7e, 0)}}, /* wait and wake */
        {"tgkill", 1, {SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid())}},
    };
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        const struct rule *with = NULL;
        for (size_t k = 0; k < sizeof rules / sizeof rules[0]; k++)
            if (strcmp(rules[k].name, allowed[i]) == 0)
                with = &rules[k];
        int number = seccomp_syscall_resolve_name(allowed[i]);
        int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, with ? with->n : 0,
                                        with ? with->arg : NULL);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int number = seccomp_syscall_resolve_name(refused[i]);
        int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), number, 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool forbid_calls(int socket)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return false;
    bool done = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
                seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 && add_rules(filter, socket) == 0 &&
                seccomp_load(filter) == 0;
    seccomp_release(filter);
    return done;
}

int sandbox_enter(uint32_t memory_mib, int socket, uint32_t *out_parts)
{
    *out_parts = 0;
    int rc = drop_privileges();
    if (rc < 0)
        return rc;
    if (!SANITIZED) {
        /* A second arena would need mprotect; the zone file cannot be read later, and gmtime asks for it. */
        mallopt(M_ARENA_MAX, 1);
        tzset();
        rc = limit_memory(memory_mib);
        *out_parts |= rc < 0 ? 0 : SANDBOX_MEMORY;
        if (rc == 0 && forbid_paths())
            *out_parts |= SANDBOX_LANDLOCK;
    }
    if (rc == 0)
        rc = set_limits();
    if (rc < 0)
        return rc;
    *out_parts |= SANDBOX_NO_NEW_PRIVS;
    if (!SANITIZED && forbid_calls(socket))
        *out_parts |= SANDBOX_SECCOMP;
    return 0;
}
