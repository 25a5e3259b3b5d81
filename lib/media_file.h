/* media_file: opens media by uri: a file, or a member of a tar archive where it lies
 * ("shard.tar#000000001536/cat.mp4", docs/formats.md), read-only. Used by all that hands media to a worker:
 * the decoder's pool, index, doctor, `xdc decode`. Blocking; any thread. The caller closes fd. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

/* What of an open file is the media. */
struct media_window {
    uint64_t offset; /* 0: all of the file, and `bytes` means nothing */
    uint64_t bytes;
};

struct media_file {
    int fd; /* of the file or of the archive */
    struct media_window window;
    uint64_t size;    /* bytes, of the member where it is one */
    int64_t mtime_ns; /* of the file or archive, since 1970 */
};

/* Opens `uri` (absolute, or relative to `root`; NULL or "": the working directory), regular files only. Under
 * a root neither ".." nor a link leads out of it. A file of just this name comes before a member.
 * XDC_EMISMATCH: the archive is there, and that member no longer in that place. */
int media_file_open(const char *root, const char *uri, struct media_file *out, struct err *e) WARN_UNUSED;
/* Size and time once more of what is open; a member is as long as its archive still reaches. */
int media_file_again(struct media_file *f, const char *uri, struct err *e) WARN_UNUSED;
/* Size and time by uri. -errno, XDC_EMISMATCH. */
int media_file_stat(const char *root, const char *uri, uint64_t *out_size, int64_t *out_mtime_ns) WARN_UNUSED;

/* The member's name within the uri of one, by the text alone; NULL: there is none. */
const char *media_file_name_in(const char *uri);
/* The uri of a member that begins at byte `at` of the archive. -ENAMETOOLONG: more than size - 1 bytes. */
int media_file_member_uri(char *out, size_t size, const char *archive, uint64_t at,
                          const char *name) WARN_UNUSED;
