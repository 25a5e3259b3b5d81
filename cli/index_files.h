/* index_files: the media files of `xdc index`: a folder walked, a list read, or one file; sorted by relative
 * path. Used by cmd_index, index_labels and index_probe. Blocking; one thread. Owns the entries and their
 * paths. */
#pragma once
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/manifest.h"
#include "lib/media/media.h"

struct index_file {
    char *uri; /* owned; relative to the root, or absolute when it lies outside */
    uint64_t size_bytes;
    uint32_t reason;   /* enum media_reason */
    const char *label; /* loan of the labels; NULL: none */
    enum manifest_split split;
    struct media_probe probe;
};

struct index_files {
    char root[PATH_MAX];     /* absolute, without links */
    struct index_file *file; /* owned */
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
/* `path`, absolute or relative to `base`, without "." and ".." (by text alone: links are not followed). */
int index_files_normalize(const char *base, const char *path, char out[PATH_MAX], struct err *e) WARN_UNUSED;
