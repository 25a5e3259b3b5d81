#include "lib/store_seal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"

enum {
    SEAL_VERSION = 1,
    PAGE_HEADER_BYTES = 16,
    PAGE_OVERFLOW = 0x04, /* LMDB's flag of the first page of a value that has pages of its own */
    WINDOW_BYTES = 16384,
};

static const char seal_magic[8] = "XDCSEAL\n";

/* The last bytes of a sealed file, behind LMDB's last page. */
struct seal {
    char magic[8];
    uint32_t version;
    uint32_t page_bytes;
    uint64_t file_bytes; /* before the seal */
    uint64_t structure;  /* XXH3 of all but the inner pages of large values */
    uint64_t check;      /* XXH3 of the fields above */
};
_Static_assert(sizeof(struct seal) == 40, "no padding");

/* Hashes every page of the file but the inner ones of large values, whose bytes the features' own hash
 * covers: cheap on a dump of any size, and after it nothing in the file can lead LMDB astray. The first page
 * of such a value gives its header, the last is taken whole, since it ends in unused bytes. */
static int hash_structure(const char *path, int fd, uint64_t bytes, uint32_t page, uint64_t *out,
                          struct err *e)
{
    size_t window = page > WINDOW_BYTES ? page : WINDOW_BYTES;
    uint64_t base = 0, len = 0;
    char *buf = malloc(window);
    XXH3_state_t *h = XXH3_createState();
    int rc = buf && h ? 0 : err_sys(e, ENOMEM, "check %s", path);
    if (rc == 0)
        XXH3_64bits_reset(h);
    for (uint64_t at = 0; rc == 0 && at + page <= bytes;) {
        if (at < base || at + page > base + len) {
            base = at;
            len = bytes - at < window ? bytes - at : window;
            rc = fs_read_at(fd, buf, len, at, path, e);
            if (rc < 0)
                break;
        }
        const char *p = buf + (at - base);
        uint16_t flags;
        uint32_t pages;
        memcpy(&flags, p + 10, sizeof flags);
        memcpy(&pages, p + 12, sizeof pages);
        uint64_t left = (bytes - at) / page;
        if (!(flags & PAGE_OVERFLOW) || pages < 2 || left < 2) {
            XXH3_64bits_update(h, p, page);
            at += page;
            continue;
        }
        XXH3_64bits_update(h, p, PAGE_HEADER_BYTES);
        at += ((pages < left ? pages : left) - 1) * page;
        rc = fs_read_at(fd, buf, page, at, path, e);
        if (rc == 0)
            XXH3_64bits_update(h, buf, page);
        len = 0;
        at += page;
    }
    if (rc == 0)
        *out = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    free(buf);
    return rc;
}

int store_seal_check(const char *path, int fd, uint64_t check_bytes, struct err *e)
{
    struct stat st;
    struct seal seal;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "stat %s", path);
    uint64_t size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || size < sizeof seal)
        return err_set(e, XDC_EFORMAT, "%s: not a sealed LMDB file", path);
    int rc = fs_read_at(fd, &seal, sizeof seal, size - sizeof seal, path, e);
    if (rc < 0)
        return rc;
    if (memcmp(seal.magic, seal_magic, sizeof seal.magic) != 0)
        return err_set(e, XDC_EFORMAT, "%s: no seal at its end: cut, unfinished or of another kind", path);
    if (seal.check != XXH3_64bits(&seal, offsetof(struct seal, check)))
        return err_set(e, XDC_EFORMAT, "%s: the seal is altered", path);
    if (seal.version != SEAL_VERSION)
        return err_set(e, XDC_EFORMAT, "%s: seal version %u, this program reads %d", path, seal.version,
                       SEAL_VERSION);
    if (seal.file_bytes != size - sizeof seal || seal.page_bytes < 512 || seal.page_bytes > 65536 ||
        seal.file_bytes % seal.page_bytes || seal.file_bytes < 2 * seal.page_bytes)
        return err_set(e, XDC_EFORMAT, "%s: %llu bytes, sealed with %llu", path, (unsigned long long)size,
                       (unsigned long long)(seal.file_bytes + sizeof seal));
    if (size > check_bytes)
        return 0;
    uint64_t structure;
    rc = hash_structure(path, fd, seal.file_bytes, seal.page_bytes, &structure, e);
    if (rc == 0 && structure != seal.structure)
        rc = err_set(e, XDC_EFORMAT, "%s: altered after it was sealed", path);
    return rc;
}

int store_seal_write(const char *path, int fd, uint64_t pages, uint32_t page_bytes, struct err *e)
{
    struct stat st;
    struct seal seal = {.version = SEAL_VERSION, .page_bytes = page_bytes, .file_bytes = pages * page_bytes};
    memcpy(seal.magic, seal_magic, sizeof seal.magic);
    /* The last pages may be free ones that were never written: make them zeros, so that all pages can be
     * read. */
    if (fstat(fd, &st) < 0 ||
        ((uint64_t)st.st_size != seal.file_bytes && ftruncate(fd, (off_t)seal.file_bytes) < 0))
        return err_sys(e, errno, "seal %s", path);
    int rc = hash_structure(path, fd, seal.file_bytes, page_bytes, &seal.structure, e);
    if (rc < 0)
        return rc;
    seal.check = XXH3_64bits(&seal, offsetof(struct seal, check));
    ssize_t n = pwrite(fd, &seal, sizeof seal, (off_t)seal.file_bytes);
    if (n != (ssize_t)sizeof seal)
        return err_sys(e, n < 0 ? errno : ENOSPC, "seal %s", path);
    return 0;
}
