#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "escape.h"

#define PAGE 4096

static long mapped(const void *p)
{
    return p == MAP_FAILED ? -1 : 0;
}

static long prepare_page(struct scene *s)
{
    s->map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mapped(s->map);
}

ESCAPE(prepare_file, s->fd = open("file", O_RDWR))
ESCAPE(map_code, mapped(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
ESCAPE(map_writable_code,
       mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
ESCAPE(map_file, mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, s->fd, 0)))
ESCAPE(map_file_shared, mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0)))
ESCAPE(make_code, mprotect(s->map, PAGE, PROT_READ | PROT_EXEC))
ESCAPE(unprotect, mprotect(s->map, PAGE, PROT_READ))
ESCAPE(make_code_by_key, pkey_mprotect(s->map, PAGE, PROT_READ | PROT_EXEC, -1))
ESCAPE(make_memory_file, memfd_create("x", 0))
ESCAPE(make_secret_memory, syscall(SYS_memfd_secret, 0))
ESCAPE(make_shared, shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600))
ESCAPE(catch_faults, syscall(SYS_userfaultfd, O_CLOEXEC))
ESCAPE(lock_memory, mlock(s->map, PAGE))
ESCAPE(lock_all_memory, mlockall(MCL_CURRENT))
ESCAPE(ask_residence, mincore(s->map, PAGE, &(unsigned char){0}))
ESCAPE(set_membarrier, syscall(SYS_membarrier, 0, 0, 0))
ESCAPE(bind_memory, syscall(SYS_set_mempolicy, 0, NULL, 0))
ESCAPE(make_key, pkey_alloc(0, 0))

/* The segment goes away with its last user. */
static long prepare_segment(struct scene *s)
{
    s->fd = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    if (s->fd < 0)
        return -1;
    s->map = shmat(s->fd, NULL, 0);
    return shmctl(s->fd, IPC_RMID, NULL);
}

ESCAPE(attach_segment, mapped(shmat(s->fd, NULL, 0)))
ESCAPE(detach_segment, shmdt(s->map))

/* The 32-bit door of a 64-bit kernel, where numbers mean other calls: 20 is getpid there, and writev here. */
#if defined(__x86_64__)
static long old_door(struct scene *s)
{
    (void)s;
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
#endif

const struct escape memory_escapes[] = {
    {"mmap code", NULL, map_code},
    {"mmap writable code", NULL, map_writable_code},
    {"mmap a file", prepare_file, map_file},
    {"mmap a file for writing", prepare_file, map_file_shared},
    {"mprotect to code", prepare_page, make_code},
    {"mprotect", prepare_page, unprotect},
    {"pkey_mprotect to code", prepare_page, make_code_by_key},
    {"memfd_create", NULL, make_memory_file},
    {"memfd_secret", NULL, make_secret_memory},
    {"shmget", NULL, make_shared},
    {"shmat", prepare_segment, attach_segment},
    {"shmdt", prepare_segment, detach_segment},
    {"userfaultfd", NULL, catch_faults},
    {"mlock", prepare_page, lock_memory},
    {"mlockall", NULL, lock_all_memory},
    {"mincore", prepare_page, ask_residence},
    {"membarrier", NULL, set_membarrier},
    {"set_mempolicy", NULL, bind_memory},
    {"pkey_alloc", NULL, make_key},
#if defined(__x86_64__)
    {"a system call by the 32-bit door", NULL, old_door},
#endif
};
const size_t memory_escape_count = sizeof memory_escapes / sizeof memory_escapes[0];
