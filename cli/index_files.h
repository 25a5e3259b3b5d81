/* index_files: the media files of `xdc index`: a folder walked, a list read, or one file; sorted by relative
 * path. Used by cmd_index and its parts. Blocking; one thread. Owns the entries and their
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

/* 32 bytes, and the path: an index of a million files took 166 MB at its peak, with their list of 55 MB. */
struct index_file {
    char *uri;         /* of the texts; relative to the root, or absolute when it lies outside */
    const char *label; /* loan of the labels; NULL: none */
    uint64_t at;       /* where the partial file has what was found; 0: not probed yet */
    enum manifest_split split;
    bool known; /* the manifest that is updated has it */
};

#define INDEX_UNCHANGED UINT64_MAX /* of `at`: the manifest that is updated has what was found */

struct index_files {
    char root[PATH_MAX];      /* absolute, without links */
    struct index_file *file;  /* owned */
    struct index_text *texts; /* owned: the paths */
    size_t count, capacity;
    size_t repeated;   /* lines of a list that name a file again */
    size_t unreadable; /* directories that could not be read */
};

/* Fills `f` from a folder, a media file or a text list with one path a line. -ENOENT when there is no media
 * file. */
int index_files_find(struct index_files *f, const char *path, struct err *e) WARN_UNUSED;
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
