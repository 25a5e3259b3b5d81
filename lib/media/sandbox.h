/* sandbox: what keeps a file that has taken over a decoder from reaching anything but its own descriptor and
 * the slot. Used by the media worker, once, before the first byte of media. What the kernel does not offer is
 * left out of *out_parts and told to the parent. */
#pragma once
#include <stdint.h>

enum sandbox_part {
    SANDBOX_NO_NEW_PRIVS = 1,
    SANDBOX_LANDLOCK = 2, /* no path can be opened */
    SANDBOX_SECCOMP = 4,  /* a list of system calls, and no other */
    SANDBOX_MEMORY = 8,   /* address space */
};

/* memory_mib: what may be mapped beyond what is mapped now. 0 or a negative errno: the worker must not go on.
 * Irreversible. */
int sandbox_enter(uint32_t memory_mib, uint32_t *out_parts);
