#include "lib/quarantine_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "lib/fsutil.h"

enum { VERSION = 1, FAULT_END = 64 };
#define FILE_MAX ((size_t)4 << 30)

static const char magic[8] = "XDCQUAR\n";

/* The entries follow, and then XXH3 of all bytes before. */
struct header {
    char magic[8];
    uint32_t version, zero;
    uint64_t manifest, count;
};
_Static_assert(sizeof(struct header) == 32 && sizeof(struct quarantined_video) == 16, "no padding");

int quarantine_file_write(const char *path, const struct quarantine_list *q, struct err *e)
{
    struct header h = {.version = VERSION, .manifest = q->manifest, .count = q->n};
    size_t body = q->n * sizeof *q->videos, size = sizeof h + body + sizeof(uint64_t);
    char *data = malloc(size);
    if (!data)
        return err_sys(e, ENOMEM, "write %s", path);
    memcpy(h.magic, magic, sizeof magic);
    memcpy(data, &h, sizeof h);
    if (body)
        memcpy(data + sizeof h, q->videos, body);
    uint64_t check = XXH3_64bits(data, size - sizeof check);
    memcpy(data + size - sizeof check, &check, sizeof check);
    int rc = fs_write_atomic(path, data, size, e);
    free(data);
    return rc;
}

/* Whether the bytes are a quarantine; says why not. */
static int check(const char *path, const char *data, size_t size, struct header *h, struct err *e)
{
    uint64_t sum;
    if (size < sizeof *h + sizeof sum || memcmp(data, magic, sizeof magic) != 0)
        return err_set(e, XDC_EFORMAT, "%s is no quarantine (`xdc doctor` makes one)", path);
    memcpy(h, data, sizeof *h);
    if (h->version != VERSION)
        return err_set(e, XDC_EFORMAT, "%s has version %u, this program reads %d", path, h->version, VERSION);
    memcpy(&sum, data + size - sizeof sum, sizeof sum);
    size_t body = size - sizeof *h - sizeof sum;
    if (sum != XXH3_64bits(data, size - sizeof sum) || h->zero || body % sizeof(struct quarantined_video) ||
        h->count != body / sizeof(struct quarantined_video))
        return err_set(e, XDC_EFORMAT, "%s is cut or altered: run xdc doctor again", path);
    return 0;
}

static int check_entries(const char *path, const struct quarantine_list *q, struct err *e)
{
    bool good = true;
    for (size_t i = 0; i < q->n && good; i++) {
        const struct quarantined_video *v = &q->videos[i];
        good = v->code > 0 && v->code < FAULT_END && !v->zero && (i == 0 || v->video > v[-1].video);
    }
    return good ? 0 : err_set(e, XDC_EFORMAT, "%s holds entries that cannot be", path);
}

int quarantine_file_read(const char *path, struct quarantine_list *out, struct err *e)
{
    char *data = NULL;
    size_t size;
    struct header h;
    *out = (struct quarantine_list){0};
    int rc = fs_read(path, FILE_MAX, &data, &size, e);
    if (rc == 0)
        rc = check(path, data, size, &h, e);
    if (rc == 0) {
        out->manifest = h.manifest;
        out->n = h.count;
        out->videos = malloc(h.count * sizeof *out->videos + 1);
        rc = out->videos ? 0 : err_sys(e, ENOMEM, "read %s", path);
    }
    if (rc == 0) {
        memcpy(out->videos, data + sizeof h, out->n * sizeof *out->videos);
        rc = check_entries(path, out, e);
    }
    if (rc < 0) {
        free(out->videos);
        *out = (struct quarantine_list){0};
    }
    free(data);
    return rc;
}
