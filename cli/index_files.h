/* index_files: the media files of `xdc index`: a folder walked, one file, or those that lists name; sorted by
 * relative path. Used by cmd_index and its parts. Blocking; one thread. Owns the entries and their
 * paths. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "lib/err.h"
#include "lib/manifest.h"
#include "lib/media/media.h"

/* 32 bytes, and the path: a million paths in a list of 57 MB took 308 MB at the peak, with none of them
 * there. */
struct index_file {
    char *uri;         /* of the texts; relative to the root, or absolute when it lies outside */
    const char *label; /* loan of the lists or of the texts; NULL: none */
    uint64_t at;       /* where the partial file has what was found; 0: not probed yet */
    enum manifest_split split;
    bool known; /* the manifest that is updated has it */
    bool named; /* a row of a list names it */
};

#define INDEX_UNCHANGED UINT64_MAX /* of `at`: the manifest that is updated has what was found */

struct index_files {
    char root[PATH_MAX];      /* absolute, without links */
    struct index_file *file;  /* owned */
    struct index_text *texts; /* owned: the paths */
    size_t count, capacity;
    size_t unreadable; /* directories that could not be read */
    size_t archives;   /* tar files that a walk has passed over */
};

/* Fills `f` from a folder or with one file. -ENOENT when there is no media file. */
int index_files_find(struct index_files *f, const char *path, struct err *e) WARN_UNUSED;
/* The same in steps: none yet, below `folder`; all media files there; one by its absolute, normal path.
 * Sorted and without doubles they are after a walk and a sort, not after an add. */
int index_files_begin(struct index_files *f, const char *folder, struct err *e) WARN_UNUSED;
int index_files_walk(struct index_files *f, struct err *e) WARN_UNUSED;
int index_files_add(struct index_files *f, const char *absolute, struct err *e) WARN_UNUSED;
void index_files_sort(struct index_files *f);
/* Forgets the files that are not `named`. */
void index_files_keep_named(struct index_files *f);
/* Whether it is one by its name. */
bool index_files_is_media(const char *name);
/* A copy that stays until the close; NULL without memory. At most MANIFEST_URI_MAX bytes. */
char *index_files_text(struct index_files *f, const char *text);
void index_files_close(struct index_files *f);
/* The file of that absolute, normal path; NULL when there is none. */
struct index_file *index_files_lookup(const struct index_files *f, const char *absolute);
/* The same by its uri. */
struct index_file *index_files_by_uri(const struct index_files *f, const char *uri);
/* stat of a file of the index. */
int index_files_stat(const struct index_files *f, const char *uri, struct stat *out);
int64_t index_files_mtime(const struct stat *st); /* nanoseconds since 1970 */
/* `path`, absolute or relative to `base`, without "." and ".." (by text alone: links are not followed). */
int index_files_normalize(const char *base, const char *path, char out[PATH_MAX], struct err *e) WARN_UNUSED;
