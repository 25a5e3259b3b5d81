#include "lib/tar.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"

#define HEADERS_MAX 16 /* of one member: names, attributes, the member's own */
#define EXTENSION_MAX ((uint64_t)1 << 20)
#define SPARSE_MAX 65536

/* Fields of a header. */
enum {
    AT_SIZE = 124,
    AT_CHECKSUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    AT_PREFIX = 345,
    AT_SPARSE_MORE = 482, /* GNU: another block of the map follows */
    AT_MAP_MORE = 504,    /* the same in such a block */
};

struct reading {
    int fd;
    uint64_t bytes;
    const char *what;
    struct tar_member *m;
    bool named, too_long, sparse, sized;
    uint64_t size; /* that pax gives, where sized */
};

static int broken(const struct reading *r, uint64_t at, const char *why, struct err *e)
{
    return err_set(e, XDC_EFORMAT, "%s: broken at byte %llu: %s", r->what, (unsigned long long)at, why);
}

static bool checksum_fits(const uint8_t h[TAR_BLOCK])
{
    unsigned long said = 0;
    long sum = 8 * ' ', of_signed = 8 * ' '; /* old writers add signed bytes */
    const uint8_t *p = h + AT_CHECKSUM, *end = p + 8;
    while (p < end && *p == ' ')
        p++;
    for (; p < end && *p >= '0' && *p <= '7'; p++)
        said = said * 8 + (unsigned long)(*p - '0');
    for (int i = 0; i < TAR_BLOCK; i++) {
        if (i >= AT_CHECKSUM && i < AT_CHECKSUM + 8)
            continue;
        sum += h[i];
        of_signed += (int8_t)h[i];
    }
    return (long)said == sum || (long)said == of_signed;
}

/* The size of 12 bytes: octal digits, or behind a set first bit a number in base 256. */
static bool read_size(const uint8_t *p, uint64_t *out)
{
    const uint8_t *end = p + 12;
    uint64_t v = 0;
    if (*p & 0x80) {
        v = *p++ & 0x7f;
        for (; p < end; p++) {
            if (v >> 55)
                return false;
            v = v << 8 | *p;
        }
        *out = v;
        return true;
    }
    while (p < end && *p == ' ')
        p++;
    for (; p < end && *p >= '0' && *p <= '7'; p++)
        v = v << 3 | (uint64_t)(*p - '0');
    *out = v;
    return p == end || *p == '\0' || *p == ' ';
}

static bool is_zero(const uint8_t h[TAR_BLOCK])
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (h[i])
            return false;
    return true;
}

static uint64_t padded(uint64_t size)
{
    return (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

static void take_name(struct reading *r, const char *text, size_t size)
{
    for (;;) {
        size_t cut = size >= 2 && text[0] == '.' && text[1] == '/' ? 2 : size >= 1 && text[0] == '/' ? 1 : 0;
        if (!cut)
            break;
        text += cut;
        size -= cut;
    }
    r->named = true;
    r->too_long = size >= TAR_NAME_MAX;
    if (r->too_long)
        size = TAR_NAME_MAX - 1;
    memcpy(r->m->name, text, size);
    r->m->name[size] = '\0';
}

static void take_header_name(struct reading *r, const uint8_t h[TAR_BLOCK])
{
    char full[TAR_BLOCK];
    const char *name = (const char *)h, *prefix = name + AT_PREFIX;
    /* GNU's own magic has a blank here, and times in the place of the prefix. */
    bool posix = memcmp(h + AT_MAGIC, "ustar\0", 6) == 0 && *prefix;
    size_t n = posix ? strnlen(prefix, 155) : 0;
    memcpy(full, prefix, n);
    if (n)
        full[n++] = '/';
    size_t last = strnlen(name, 100);
    memcpy(full + n, name, last);
    take_name(r, full, n + last);
}

static bool is_key(const char *key, size_t size, const char *name)
{
    return size == strlen(name) && memcmp(key, name, size) == 0;
}

/* One "key=value" of pax. */
static bool take_pair(struct reading *r, const char *text, size_t size)
{
    const char *equals = memchr(text, '=', size);
    if (!equals)
        return false;
    size_t key = (size_t)(equals - text), n = size - key - 1;
    const char *value = equals + 1;
    r->sparse |= key > 11 && memcmp(text, "GNU.sparse.", 11) == 0;
    if (is_key(text, key, "path") && n) {
        if (memchr(value, '\0', n))
            return false;
        take_name(r, value, n);
    } else if (is_key(text, key, "size") && n) {
        r->size = 0;
        r->sized = true;
        for (size_t i = 0; i < n; i++) {
            if (value[i] < '0' || value[i] > '9' || r->size > INT64_MAX / 16)
                return false;
            r->size = r->size * 10 + (uint64_t)(value[i] - '0');
        }
    }
    return true;
}

/* Records of "LENGTH key=value\n", whose length counts all of the record. */
static bool take_pax(struct reading *r, const char *text, size_t size)
{
    while (size) {
        size_t length = 0, digits = 0;
        while (digits < size && digits < 8 && text[digits] >= '0' && text[digits] <= '9')
            length = length * 10 + (size_t)(text[digits++] - '0');
        if (!digits || digits == size || text[digits] != ' ' || length > size || length < digits + 3 ||
            text[length - 1] != '\n')
            return false;
        if (!take_pair(r, text + digits + 1, length - digits - 2))
            return false;
        text += length;
        size -= length;
    }
    return true;
}

/* A header that tells of the member behind it. */
static int take_extension(struct reading *r, char type, uint64_t at, uint64_t size, struct err *e)
{
    uint64_t data = at + TAR_BLOCK;
    if (size > r->bytes - data)
        return broken(r, at, "the archive ends within a header", e);
    if (type != 'L' && type != 'x')
        return 0;
    if (size > EXTENSION_MAX)
        return broken(r, at, "a header of more than a mebibyte", e);
    char *text = malloc(size + 1);
    if (!text)
        return err_sys(e, ENOMEM, "%s", r->what);
    int rc = fs_read_at(r->fd, text, size, data, r->what, e);
    if (rc == 0 && type == 'L')
        take_name(r, text, strnlen(text, size));
    else if (rc == 0 && !take_pax(r, text, size))
        rc = broken(r, at, "its pax records are damaged", e);
    free(text);
    return rc;
}

/* Behind the header of GNU's sparse file the rest of its map may follow. */
static int pass_sparse_map(const struct reading *r, bool more, uint64_t *data, struct err *e)
{
    uint8_t block[TAR_BLOCK];
    for (unsigned n = 0; more; n++) {
        if (n == SPARSE_MAX || r->bytes - *data < TAR_BLOCK)
            return broken(r, *data, "the map of a sparse file does not end", e);
        int rc = fs_read_at(r->fd, block, sizeof block, *data, r->what, e);
        if (rc < 0)
            return rc;
        more = block[AT_MAP_MORE] != 0;
        *data += TAR_BLOCK;
    }
    return 0;
}

static enum tar_kind kind_of(const struct reading *r, char type)
{
    size_t n = strlen(r->m->name);
    bool file = type == '0' || type == '\0' || type == '7';
    if (type == '5' || (file && n && r->m->name[n - 1] == '/'))
        return TAR_FOLDER;
    return file && n && !r->sparse && !r->too_long ? TAR_FILE : TAR_OTHER;
}

/* The header of the member itself. */
static int take_member(struct reading *r, const uint8_t h[TAR_BLOCK], uint64_t at, uint64_t size,
                       struct err *e)
{
    struct tar_member *m = r->m;
    char type = (char)h[AT_TYPE];
    m->data = at + TAR_BLOCK;
    if (!r->named)
        take_header_name(r, h);
    m->size = r->sized ? r->size : size;
    m->kind = kind_of(r, type);
    if (type >= '1' && type <= '6')
        m->size = 0; /* links, devices, folders: what stands there is of no bytes that follow */
    int rc = type == 'S' ? pass_sparse_map(r, h[AT_SPARSE_MORE] != 0, &m->data, e) : 0;
    if (rc < 0)
        return rc;
    if (m->size > r->bytes - m->data)
        return broken(r, at, "the archive ends within a member", e);
    m->next = m->data + padded(m->size);
    return 1;
}

static const char *compressed(const uint8_t h[TAR_BLOCK])
{
    if (memcmp(h, "\x1f\x8b", 2) == 0)
        return "compressed with gzip: gunzip it";
    if (memcmp(h, "\x28\xb5\x2f\xfd", 4) == 0)
        return "compressed with zstd: unzstd it";
    if (memcmp(h,
               "\xfd"
               "7zXZ",
               5) == 0)
        return "compressed with xz: unxz it";
    return memcmp(h, "BZh", 3) == 0 ? "compressed with bzip2: bunzip2 it" : NULL;
}

int tar_member(int fd, uint64_t bytes, uint64_t at, const char *what, struct tar_member *out, struct err *e)
{
    struct reading r = {.fd = fd, .bytes = bytes, .what = what, .m = out};
    uint8_t h[TAR_BLOCK];
    uint64_t size;
    out->at = at;
    out->name[0] = '\0';
    if (at >= bytes)
        return 0;
    for (int n = 0; n < HEADERS_MAX; n++) {
        if (at > bytes || bytes - at < TAR_BLOCK)
            return broken(&r, at, "the archive ends within a header", e);
        int rc = fs_read_at(fd, h, sizeof h, at, what, e);
        if (rc < 0)
            return rc;
        if (is_zero(h))
            return n ? broken(&r, at, "a header without its member", e) : 0;
        if (!checksum_fits(h)) {
            const char *known = at ? NULL : compressed(h);
            return broken(&r, at, known ? known : "no header, or a damaged one: its checksum is wrong", e);
        }
        if (!read_size((const uint8_t *)h + AT_SIZE, &size))
            return broken(&r, at, "a size that is no number", e);
        char type = (char)h[AT_TYPE];
        if (!strchr("LKxg", type) || !type)
            return take_member(&r, h, at, size, e);
        rc = take_extension(&r, type, at, size, e);
        if (rc < 0)
            return rc;
        at += TAR_BLOCK + padded(size);
    }
    return broken(&r, at, "more headers than a member has", e);
}
