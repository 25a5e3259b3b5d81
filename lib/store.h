/* store: a single-file LMDB environment with integer keys and a seal; the only module that includes lmdb.h.
 * Used by manifest and feature_store alone. Blocking; one thread at a time per store. Owns environment and
 * transaction. Written once and only appended to: nothing is synced before store_seal, since an unsealed file
 * is thrown away. Writes have a sticky error: after the first failure every later one fails with the same
 * code and sentence. -ENOSPC: disk, quota, file size limit or map full; XDC_EFORMAT: not sealed, cut or
 * altered; XDC_ESTORE: other LMDB errors. Values and keys are little-endian, as the host must be. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(size_t) == 8,
               "files are written in host order");

struct MDB_env;
struct MDB_txn;

struct store {
    struct MDB_env *env; /* owned */
    struct MDB_txn *txn; /* owned: the one in progress, or NULL */
    uint64_t map_bytes;
    struct err failed; /* the sticky error; code 0: none */
    char path[PATH_MAX];
};

/* A new file at `path`; one that is there is replaced. The map starts at map_bytes. A write transaction is
 * begun. */
int store_create(struct store *s, const char *path, uint64_t map_bytes, struct err *e) WARN_UNUSED;
/* Opens a sealed file read-only and begins a read transaction. The seal is checked before LMDB sees a byte:
 * always the file's size, and the hash of its structure unless the file is larger than check_bytes. -ENOENT:
 * no file. */
int store_open(struct store *s, const char *path, uint64_t check_bytes, struct err *e) WARN_UNUSED;
/* Safe on a zeroed store; drops what is not committed, leaves the file. */
void store_close(struct store *s);

/* Handle of the named database; `create` in a writer's transaction. XDC_EFORMAT when it is not there. */
int store_db(struct store *s, const char *name, bool create, unsigned *out_db, struct err *e) WARN_UNUSED;
/* Number of keys of a database. */
int store_count(const struct store *s, unsigned db, uint64_t *out, struct err *e) WARN_UNUSED;
/* Room for a value behind all keys of `db`; *out is writable until the next call. Keys ascend strictly. */
int store_append(struct store *s, unsigned db, uint64_t key, size_t size, void **out,
                 struct err *e) WARN_UNUSED;
/* A loan until the transaction ends; -ENOENT (no sentence) when there is no such key. */
int store_get(const struct store *s, unsigned db, uint64_t key, const void **out, size_t *out_size,
              struct err *e) WARN_UNUSED;
/* Ends the write transaction and begins the next; the map then has room for `headroom` more bytes. */
int store_commit(struct store *s, uint64_t headroom, struct err *e) WARN_UNUSED;
/* Commits, writes the seal, syncs; a read transaction is begun. */
int store_seal(struct store *s, struct err *e) WARN_UNUSED;
/* XDC_EFORMAT when the structure is not the sealed one. */
int store_check(const struct store *s, struct err *e) WARN_UNUSED;
/* Whether `path` is still the file that was created or opened: another process may have replaced it. */
bool store_is_at(const struct store *s, const char *path);
