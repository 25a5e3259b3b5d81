/* fsutil: whole-file reads, atomic writes, locks and the paths of a run. Used by everything that touches
 * files. Blocking; any thread. On failure nothing with the final name has changed. */
#pragma once
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/err.h"

/* Formats a path; a path that does not fit is -ENAMETOOLONG. */
int fs_path(char out[PATH_MAX], struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4) WARN_UNUSED;

/* mkdir -p. */
int fs_mkdirs(const char *path, struct err *e) WARN_UNUSED;

/* Reads a whole file of at most `max` bytes into malloc'd memory with a NUL behind it; the caller frees. */
int fs_read(const char *path, size_t max, char **out_data, size_t *out_size, struct err *e) WARN_UNUSED;

/* tmp + write + fsync + rename + fsync of the directory: readers see the old file or the new. */
int fs_write_atomic(const char *path, const void *data, size_t size, struct err *e) WARN_UNUSED;

/* Writes all bytes at the descriptor's position, through short writes and EINTR. `what` names the file in the
 * error. */
int fs_write_all(int fd, const void *data, size_t size, const char *what, struct err *e) WARN_UNUSED;

/* The same at the end of a file opened with O_APPEND, whose only writer this is: what a failed write has left
 * of the bytes is cut off again. */
int fs_append(int fd, const void *data, size_t size, const char *what, struct err *e) WARN_UNUSED;

/* Reads all `size` bytes from offset `at` on; XDC_EFORMAT where the file ends before. */
int fs_read_at(int fd, void *out, size_t size, uint64_t at, const char *what, struct err *e) WARN_UNUSED;

/* fsync of the directory `path`. */
int fs_sync_dir(const char *path, struct err *e) WARN_UNUSED;

/* fsync of every regular file in the directory `from`, rename to `to`, fsync of the parent: publishes a
 * directory. */
int fs_publish_dir(const char *from, const char *to, struct err *e) WARN_UNUSED;

/* rm -r; a missing path is no error. */
int fs_remove_tree(const char *path, struct err *e) WARN_UNUSED;

/* Takes the advisory write lock of `path` (created if missing), which ends with the process or the close of
 * *out_fd. XDC_ELOCKED when another process holds it; *out_owner is then its pid. */
int fs_lock(const char *path, int *out_fd, pid_t *out_owner, struct err *e) WARN_UNUSED;

/* Free bytes of the file system that holds `path`. */
int fs_free_bytes(const char *path, uint64_t *out, struct err *e) WARN_UNUSED;

/* -ENOSPC, naming `what` and the free space, where fewer than `need` bytes and a reserve are free in `dir`.
 */
int fs_check_room(const char *dir, const char *what, uint64_t need, uint64_t reserve_mib,
                  struct err *e) WARN_UNUSED;

/* The helper program `name` of this project: $`variable` if that is set, or beside the running program, or in
 * ../libexec/xdc from there. -ENOENT says where it was looked for. */
int fs_program(const char *name, const char *variable, char out[PATH_MAX], struct err *e) WARN_UNUSED;

/* The directory for sockets of the run in `run_dir`: $RUNTIME_DIRECTORY, or $XDG_RUNTIME_DIR/xdc/<id>, or
 * /tmp/xdc-<uid>/<id>, with <id> = 16 hex digits of the hash of run_dir's real path. Created, mode 0700. */
int fs_runtime_dir(const char *run_dir, char out[PATH_MAX], struct err *e) WARN_UNUSED;
/* The largest R of the entries "round-<R><suffix>" in `dir`. -ENOENT when there is none. */
int fs_last_round(const char *dir, const char *suffix, uint32_t *out, struct err *e) WARN_UNUSED;
