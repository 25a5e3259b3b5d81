/* tar: the members of a tar archive one by one, by the places they lie at: ustar, GNU (long names, sizes in
 * base 256) and pax (path, size). Nothing is unpacked. Used by media_file and by `xdc index`. Any thread;
 * reads by pread, so the descriptor's position stays; owns nothing. Whatever the bytes are, a member lies
 * within the file. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

#define TAR_BLOCK 512
#define TAR_NAME_MAX 4096

enum tar_kind {
    TAR_FILE,
    TAR_FOLDER,
    TAR_OTHER, /* a link, a device, a sparse file, or one whose name does not fit */
};

struct tar_member {
    uint64_t at;   /* byte of the archive where its first header begins: all that is known of it follows */
    uint64_t data; /* where its bytes begin; a multiple of 512, more than 0 */
    uint64_t size; /* bytes */
    uint64_t next; /* where the member behind it begins, perhaps beyond the archive's end */
    enum tar_kind kind;
    char name[TAR_NAME_MAX]; /* without "./" or "/" at its beginning; it may hold ".." */
};

/* The member whose first header begins at byte `at` of an archive of `bytes` bytes. 1: *out is it; 0: the
 * archive ends here; XDC_EFORMAT: there is no member, or the archive ends within it; -errno. `what` names
 * the archive. */
int tar_member(int fd, uint64_t bytes, uint64_t at, const char *what, struct tar_member *out,
               struct err *e) WARN_UNUSED;
