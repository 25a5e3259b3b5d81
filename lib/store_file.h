/* store_file: writes a sealed LMDB file front to back, for values that come in the order of their keys and
 * are large. Used by feature_writer alone; what it wrote is read by LMDB (store). LMDB itself would write
 * every value twice in memory and could not promise, after a power loss, what lies behind its last sync: here
 * values are appended as they come, the trees that find them follow when the file is sealed, and what an
 * interrupted writer left can be read back without trusting any pointer. Blocking; one thread at a time. Owns
 * a descriptor and the keys in memory (24 bytes a value). -ENOSPC changes nothing: the same call may be made
 * again. */
#pragma once
#include <limits.h>
#include <stdint.h>
#include "lib/err.h"

#define STORE_FILE_DBS_MAX 80
#define STORE_FILE_NAME_MAX 40

/* A value: in pages of its own, or (page 0) among the small ones, which are written with the tree. */
struct store_file_entry {
    uint64_t key, at; /* its first page, or its place in `small` */
    uint32_t size;
    uint32_t paged;
};

struct store_file_db {
    char name[STORE_FILE_NAME_MAX];
    struct store_file_entry *entries; /* owned; [n], keys ascend strictly */
    uint64_t n, capacity;
    char *small; /* owned */
    uint64_t small_bytes, small_capacity, pages;
};

struct store_file {
    int fd; /* owned */
    uint64_t pages;
    unsigned n_dbs;
    struct store_file_db db[STORE_FILE_DBS_MAX];
    char path[PATH_MAX];
};

/* Opens the file at `path`, made where it is missing, as if nothing were in it. */
int store_file_open(struct store_file *f, const char *path, struct err *e) WARN_UNUSED;
/* Safe on a zeroed one that has fd -1; leaves the file. */
void store_file_close(struct store_file *f);
/* A database of integer keys. -EINVAL: too many, or too long a name. */
int store_file_db(struct store_file *f, const char *name, unsigned *out_db, struct err *e) WARN_UNUSED;
/* Memory for a value of `size` bytes as it stands in the file: whole pages, aligned like them so that the
 * kernel copies whole ones; the value begins STORE_FILE_HEADER bytes in. NULL: no memory. The caller frees.
 */
#define STORE_FILE_HEADER 16
void *store_file_pages(uint32_t size);
/* Writes a value that stands in such memory behind all others. The key is above all of its database. */
int store_file_append(struct store_file *f, unsigned db, uint64_t key, void *pages, uint32_t size,
                      struct err *e) WARN_UNUSED;
/* Keeps a value of at most 2000 bytes for its tree. */
int store_file_put(struct store_file *f, unsigned db, uint64_t key, const void *value, uint32_t size,
                   struct err *e) WARN_UNUSED;
/* After an interruption: what stands where the next value would be written, into such memory; XDC_EFORMAT
 * when there is none of this size. */
int store_file_read_back(const struct store_file *f, void *pages, uint32_t size, struct err *e) WARN_UNUSED;
/* Takes it for the value of `key`, as if it had been appended. */
int store_file_adopt(struct store_file *f, unsigned db, uint64_t key, uint32_t size,
                     struct err *e) WARN_UNUSED;
/* Frees what lies in the file behind the values that count. */
int store_file_cut(const struct store_file *f, struct err *e) WARN_UNUSED;
/* Starts to write out what lies from a page on, without waiting; and waits until all is on the disk. */
void store_file_hurry(const struct store_file *f, uint64_t from_page);
int store_file_sync(const struct store_file *f, struct err *e) WARN_UNUSED;
/* Writes trees and seal, syncs. Nothing may be appended after. */
int store_file_seal(struct store_file *f, struct err *e) WARN_UNUSED;
