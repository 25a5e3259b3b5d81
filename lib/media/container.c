#include "lib/media/container.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 65536
#define ATOMS_MAX 100000 /* of one file; each costs a read */

static bool read_at(const struct avio_file *f, void *out, size_t size, int64_t at)
{
    return avio_file_pread(f, out, size, at) == (ssize_t)size;
}

static uint64_t big_endian(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

bool container_has_moov(const struct avio_file *f)
{
    int64_t size = avio_file_size(f);
    uint8_t atom[16];
    int64_t at = 0;
    for (int n = 0; n < ATOMS_MAX && at <= size - 8 && read_at(f, atom, 8, at); n++) {
        if (memcmp(atom + 4, "moov", 4) == 0 || memcmp(atom + 4, "moof", 4) == 0)
            return true;
        uint64_t bytes = big_endian(atom, 4);
        if (bytes == 1)
            bytes = read_at(f, atom + 8, 8, at + 8) ? big_endian(atom + 8, 8) : 0;
        if (bytes < 8 || bytes > (uint64_t)(size - at))
            return false;
        at += (int64_t)bytes;
    }
    return false;
}

static bool head_has(const struct avio_file *f, const void *what, size_t bytes)
{
    uint8_t *head = malloc(HEAD_BYTES);
    ssize_t n = head ? avio_file_pread(f, head, HEAD_BYTES, 0) : 0;
    bool found = n > 0 && memmem(head, (size_t)n, what, bytes);
    free(head);
    return found;
}

bool container_has_avi_index(const struct avio_file *f)
{
    int64_t size = avio_file_size(f);
    uint8_t chunk[8];
    int64_t at = 12;
    for (int n = 0; n < ATOMS_MAX && at <= size - 8 && read_at(f, chunk, 8, at); n++) {
        if (memcmp(chunk, "idx1", 4) == 0)
            return true;
        uint32_t bytes;
        memcpy(&bytes, chunk + 4, 4);
        at += 8 + (int64_t)bytes + (bytes & 1);
    }
    return head_has(f, "indx", 4);
}

bool container_has_cues(const struct avio_file *f)
{
    return head_has(f, "\x1c\x53\xbb\x6b", 4);
}

bool container_has_flv_keyframes(const struct avio_file *f)
{
    return head_has(f, "keyframes", 9);
}
