/* sandbox: what keeps a file that has taken over a decoder from reaching anything but its own descriptor and
 * the slot. sandbox_enter is used by the media worker, once, before the first byte of media (library
 * xdc_sandbox, with libseccomp); the parent asks sandbox_missing (library xdc_media). Owns nothing. What the
 * kernel does not offer is left out of *out_parts and told to the parent. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum sandbox_part {
    SANDBOX_NO_NEW_PRIVS = 1, /* nor any capability, core file, or look inside from other processes */
    SANDBOX_LANDLOCK = 2,     /* no path can be opened */
    SANDBOX_SECCOMP = 4,      /* a list of system calls, and no other */
    SANDBOX_MEMORY = 8,       /* address space */
    SANDBOX_ALL = 15,
};

/* memory_mib: what may be mapped beyond what is mapped now; socket: the only one that may be read and
 * written. 0 or a negative errno: the worker must not go on. Irreversible. A build with AddressSanitizer or
 * ThreadSanitizer has the first part alone: their runtimes map terabytes and read /proc. */
int sandbox_enter(uint32_t memory_mib, int socket, uint32_t *out_parts);

/* The names of the system calls that SANDBOX_SECCOMP allows, some of them with certain arguments only.
 * Returns how many. */
size_t sandbox_calls(const char *const **out_names);

/* One sentence on what `parts` lacks, "" where nothing. Returns buf. */
const char *sandbox_missing(uint32_t parts, char *buf, size_t size);
