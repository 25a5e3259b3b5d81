/* child: the parent's side of a media worker: a process made by fork and exec (xdc-media-worker) that holds a
 * socket, a memfd slot and, per job, one read-only descriptor; every libav call on media runs there. One bad
 * file costs one clip. Used by the decoder's pool, `xdc index` and `xdc decode`. One thread per child. Owns
 * process, socket and mapping. */
#pragma once
#include <sys/types.h>
#include <stdbool.h>
#include "lib/media/media.h"

struct media_child_limits {
    uint32_t cpu_s;      /* CPU seconds a job may take */
    uint32_t memory_mib; /* address space a worker may add to what its program and slot map at start */
    uint64_t slot_bytes;
};

struct media_child {
    pid_t pid;     /* 0: not running */
    int fd;        /* SOCK_SEQPACKET to the worker, non-blocking; poll it for POLLIN */
    uint8_t *slot; /* owned mapping, read side; stays until the next start, or stop */
    uint64_t slot_bytes;
    int exit_status;      /* wait status of the last worker that ended */
    bool ready;           /* the worker has said hello */
    uint32_t sandbox;     /* enum sandbox_part: what is in force, once it is ready */
    bool busy;            /* a job is with the worker */
    struct media_job job; /* that one, or the last */
    uint32_t answered;    /* clips of it that have a result */
};

/* Starts a worker, with an empty environment. The program is $XDC_MEDIA_WORKER, or xdc-media-worker beside
 * this program, or in
 * ../libexec/xdc. Does not wait for it. The worker dies with the thread that started it. */
int media_child_start(struct media_child *c, const struct media_child_limits *limits,
                      struct err *e) WARN_UNUSED;
/* Hands over a job and `file` (a descriptor, which stays the caller's; job->window says what of it is the
 * media). One job at a time: else -EBUSY. -EINVAL: the slot is too small for the recipe. -EPIPE: the worker
 * is gone, and reaped: start again. */
int media_child_send(struct media_child *c, const struct media_job *job, int file, struct err *e) WARN_UNUSED;
/* 0: *out is the answer, of out->clip in a decode job; the worker stays busy until every clip has one.
 * -EAGAIN: none yet; -EPIPE: the worker died: *out has reason MEDIA_DECODE_TIMEOUT, MEDIA_MEMORY_LIMIT,
 * MEDIA_SANDBOX_VIOLATION or MEDIA_WORKER_DIED, the child is reaped and can be started again. -ENOEXEC: the
 * worker program itself does not work here, which is no file's fault. */
int media_child_recv(struct media_child *c, struct media_result *out, struct err *e) WARN_UNUSED;
/* Ends the worker, now. Safe on a zeroed struct. */
void media_child_stop(struct media_child *c);

/* One job, start to end: what `xdc decode`, `xdc index` and tests use. Starts a worker (5 s, 512 MiB) where
 * *c has none or its slot is too small, and keeps it for the next job. Blocking, 120 s at most (then
 * MEDIA_DECODE_TIMEOUT). The frames stay in c->slot. 0 also where the worker died: *out says why. out: one
 * result for each clip of a decode job; after a death those that follow are not written. */
int media_child_run(struct media_child *c, const struct media_job *job, int file, struct media_result *out,
                    struct err *e) WARN_UNUSED;
