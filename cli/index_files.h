/* index_files: the media files of `xdc index`: a folder walked, files and archives, or those that lists name;
 * sorted by relative path. Used by cmd_index and its parts. Blocking; one thread. Owns the entries and their
 * paths. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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
    bool known;   /* the manifest that is updated has it */
    bool named;   /* a row of a list names it */
    bool archive; /* not read yet: index_shards puts its media in its place */
    bool member;  /* of an archive */
};

#define INDEX_UNCHANGED UINT64_MAX /* of `at`: the manifest that is updated has what was found */

#define INDEX_NAMED 5

/* How many there are of something, and the first of them: loans. */
struct index_named {
    size_t count;
    const char *first[INDEX_NAMED];
};

/* What index_shards has seen. */
struct index_shards {
    size_t archives, members, media;
    size_t others; /* members that are neither media nor give labels */
    size_t passed; /* links, devices, sparse files, and names that do not fit */
    size_t split_by_name;
    bool labels;               /* some media have a class or split from their archive */
    struct index_named broken; /* archives: a sentence each */
    struct index_named unread; /* members that should give a label and do not: their uris */
};

struct index_files {
    char root[PATH_MAX];      /* absolute, without links */
    struct index_file *file;  /* owned */
    struct index_text *texts; /* owned: the paths */
    size_t count, capacity;
    size_t unreadable; /* directories that could not be read */
    size_t compressed; /* archives that cannot be read in place */
    struct index_shards shards;
};

/* Fills `f` from a folder, or with files and archives: those of `paths`, below the folder of the first. There
 * may be none. */
int index_files_find(struct index_files *f, const char *const *paths, size_t n, struct err *e) WARN_UNUSED;
/* The same in steps: none yet, below `folder`; all media files there; one by its absolute, normal path.
 * Sorted and without doubles they are after a walk and a sort, not after an add. */
int index_files_begin(struct index_files *f, const char *folder, struct err *e) WARN_UNUSED;
int index_files_walk(struct index_files *f, struct err *e) WARN_UNUSED;
int index_files_add(struct index_files *f, const char *absolute, struct err *e) WARN_UNUSED;
/* One more by its uri; *out is a loan until the next. */
int index_files_append(struct index_files *f, const char *uri, struct index_file **out,
                       struct err *e) WARN_UNUSED;
void index_files_sort(struct index_files *f);
/* Forgets the files that are not `named`. */
void index_files_keep_named(struct index_files *f);
/* Whether it is one by its name. */
bool index_files_is_media(const char *name);
bool index_files_is_archive(const char *name);    /* a tar archive */
bool index_files_is_compressed(const char *name); /* an archive that is compressed as a whole */
void index_named_add(struct index_named *n, const char *text);
/* A copy that stays until the close; NULL without memory. At most MANIFEST_URI_MAX bytes. */
char *index_files_text(struct index_files *f, const char *text);
void index_files_close(struct index_files *f);
/* The file of that absolute, normal path; NULL when there is none. */
struct index_file *index_files_lookup(const struct index_files *f, const char *absolute);
/* The same by its uri. */
struct index_file *index_files_by_uri(const struct index_files *f, const char *uri);
/* Whether the file of that uri is there with just this size and time. */
bool index_files_same(const struct index_files *f, const char *uri, uint64_t size, int64_t mtime_ns);
/* `path`, absolute or relative to `base`, without "." and ".." (by text alone: links are not followed). */
int index_files_normalize(const char *base, const char *path, char out[PATH_MAX], struct err *e) WARN_UNUSED;
