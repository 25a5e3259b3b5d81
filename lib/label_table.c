#include "lib/label_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is written in host order");

enum { VERSION = 1, ALIGN_BYTES = 64, CHUNK_BYTES = 1 << 16, QUALITY_MAX = 1 << 24 };
#define CLIPS_MAX ((uint64_t)1 << 48)

static const char magic[8] = "XDCLABL\n";

/* docs/formats.md: header, one entry a source, quality text, arrays, XXH3 of all that. */
struct header {
    char magic[8];
    uint32_t version;
    uint32_t round;
    uint64_t run, manifest, features;
    uint64_t clips;
    uint64_t quality_bytes;
    uint64_t file_bytes;
    uint32_t sources;
    uint32_t zero;
};
_Static_assert(sizeof(struct header) == 72, "no padding");

struct entry {
    char name[32];
    uint32_t k;
    uint32_t width; /* bytes of a label: 1, 2 or 4 */
    uint64_t offset;
};
_Static_assert(sizeof(struct entry) == 48, "no padding");

struct label_table {
    struct label_info info;
    const uint8_t *map; /* owned mapping */
    size_t map_bytes;
    char *quality; /* owned */
    uint32_t width[LABEL_SOURCES_MAX];
    const uint8_t *labels[LABEL_SOURCES_MAX]; /* in map */
};

static uint32_t label_width(uint32_t k)
{
    return k <= UINT8_MAX ? 1 : k <= UINT16_MAX ? 2 : 4;
}

/* The only layout there is: arrays in order, each at a multiple of 64. Returns the size of the file, its hash
 * included. */
static uint64_t layout(uint64_t clips, uint64_t quality_bytes, struct entry *entries, uint32_t sources)
{
    uint64_t at = sizeof(struct header) + sources * sizeof(struct entry) + quality_bytes;
    for (uint32_t s = 0; s < sources; s++) {
        at = (at + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
        entries[s].width = label_width(entries[s].k);
        entries[s].offset = at;
        at += clips * entries[s].width;
    }
    return at + sizeof(uint64_t);
}

/* Bounds of what both the writer's caller and a file may say; the sentence is about `what`. */
static int check_sources(const char *what, const struct entry *entries, uint32_t sources, int code,
                         struct err *e)
{
    for (uint32_t s = 0; s < sources; s++) {
        const struct entry *a = &entries[s];
        if (!a->name[0] || !memchr(a->name, '\0', sizeof a->name))
            return err_set(e, code, "%s: source %u has no name of up to 31 bytes", what, s);
        if (a->k == 0)
            return err_set(e, code, "%s: source %s has no clusters", what, a->name);
        for (uint32_t t = 0; t < s; t++)
            if (strcmp(entries[t].name, a->name) == 0)
                return err_set(e, code, "%s: two sources are called %s", what, a->name);
    }
    return 0;
}

/* Bytes on their way to the file, with a sticky error. */
struct out {
    int fd;
    const char *path;
    XXH3_state_t *hash;
    uint8_t *buf; /* CHUNK_BYTES */
    size_t used;
    uint64_t at;
    int rc;
    struct err *e;
};

static void out_flush(struct out *o)
{
    if (o->rc == 0)
        o->rc = fs_write_all(o->fd, o->buf, o->used, o->path, o->e);
    o->used = 0;
}

static void out_put(struct out *o, const void *data, size_t size)
{
    XXH3_64bits_update(o->hash, data, size);
    o->at += size;
    for (const uint8_t *p = data; size;) {
        size_t n = size < CHUNK_BYTES - o->used ? size : CHUNK_BYTES - o->used;
        memcpy(o->buf + o->used, p, n);
        o->used += n;
        p += n;
        size -= n;
        if (o->used == CHUNK_BYTES)
            out_flush(o);
    }
}

/* Narrows and writes one source's labels; a label that is not below k is refused. */
static void out_labels(struct out *o, const struct entry *source, const uint32_t *labels, uint64_t clips)
{
    static const uint8_t zeros[ALIGN_BYTES];
    uint8_t part[4096];
    out_put(o, zeros, source->offset - o->at);
    for (uint64_t c = 0; c < clips && o->rc == 0;) {
        size_t n = 0;
        for (; c < clips && n + source->width <= sizeof part; c++, n += source->width) {
            if (labels[c] >= source->k && labels[c] != LABEL_NONE) {
                o->rc = err_set(o->e, -EINVAL, "label %u of clip %llu from %s is not below %u", labels[c],
                                (unsigned long long)c, source->name, source->k);
                return;
            }
            memcpy(part + n, &labels[c], source->width); /* the low bytes: LABEL_NONE stays all ones */
        }
        out_put(o, part, n);
    }
}

static int write_file(int fd, const char *path, const struct header *h, const struct entry *entries,
                      const uint32_t *const labels[], const char *quality, uint64_t *out_hash, struct err *e)
{
    struct out o = {.fd = fd, .path = path, .e = e, .hash = XXH3_createState(), .buf = malloc(CHUNK_BYTES)};
    if (!o.hash || !o.buf) {
        o.rc = err_sys(e, ENOMEM, "write %s", path);
        goto out;
    }
    XXH3_64bits_reset(o.hash);
    out_put(&o, h, sizeof *h);
    out_put(&o, entries, h->sources * sizeof *entries);
    out_put(&o, quality, h->quality_bytes);
    for (uint32_t s = 0; s < h->sources; s++)
        out_labels(&o, &entries[s], labels[s], h->clips);
    *out_hash = XXH3_64bits_digest(o.hash);
    uint64_t hash = *out_hash;
    out_put(&o, &hash, sizeof hash);
    out_flush(&o);
    if (o.rc == 0 && fsync(fd) < 0)
        o.rc = err_sys(e, errno, "sync %s", path);
out:
    XXH3_freeState(o.hash);
    free(o.buf);
    return o.rc;
}

static int publish(const char *tmp, const char *path, struct err *e)
{
    char dir[PATH_MAX];
    if (rename(tmp, path) < 0)
        return err_sys(e, errno, "rename %s to %s", tmp, path);
    const char *slash = strrchr(path, '/');
    int rc =
        slash ? fs_path(dir, e, "%.*s", slash == path ? 1 : (int)(slash - path), path) : fs_path(dir, e, ".");
    return rc < 0 ? rc : fs_sync_dir(dir, e);
}

int label_table_write(const char *path, const struct label_info *info, const uint32_t *const labels[],
                      const char *quality, uint64_t *out_hash, struct err *e)
{
    char tmp[PATH_MAX];
    struct entry entries[LABEL_SOURCES_MAX] = {0};
    struct header h = {
        .version = VERSION,
        .round = info->round,
        .run = info->run,
        .manifest = info->manifest,
        .features = info->features,
        .clips = info->clips,
        .quality_bytes = strlen(quality),
        .sources = info->sources,
    };
    if (info->sources == 0 || info->sources > LABEL_SOURCES_MAX || info->clips > CLIPS_MAX ||
        h.quality_bytes > QUALITY_MAX)
        return err_set(e, -EINVAL, "%s: %u sources, %llu clips or %llu bytes of quality make no label table",
                       path, info->sources, (unsigned long long)info->clips,
                       (unsigned long long)h.quality_bytes);
    memcpy(h.magic, magic, sizeof magic);
    for (uint32_t s = 0; s < info->sources; s++) {
        /* Not the whole array: what stands behind the name's end must not change the hash. */
        memcpy(entries[s].name, info->source[s].name, strnlen(info->source[s].name, sizeof entries[s].name));
        entries[s].k = info->source[s].k;
    }
    int rc = check_sources(path, entries, info->sources, -EINVAL, e);
    if (rc == 0)
        rc = fs_path(tmp, e, "%s.%d.tmp", path, (int)gettid());
    if (rc < 0)
        return rc;
    h.file_bytes = layout(h.clips, h.quality_bytes, entries, h.sources);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_sys(e, errno, "create %s", tmp);
    rc = write_file(fd, tmp, &h, entries, labels, quality, out_hash, e);
    if (close(fd) < 0 && rc == 0)
        rc = err_sys(e, errno, "close %s", tmp);
    if (rc == 0)
        rc = publish(tmp, path, e);
    if (rc < 0)
        unlink(tmp);
    return rc;
}

/* A file with a right hash can still be wrong: a label that is not below k would index beyond a head's
 * outputs. */
static int check_labels(const struct label_table *t, const char *path, struct err *e)
{
    for (uint32_t s = 0; s < t->info.sources; s++)
        for (uint64_t c = 0; c < t->info.clips; c++) {
            uint32_t label = label_table_get(t, s, c);
            if (label >= t->info.source[s].k && label != LABEL_NONE)
                return err_set(e, XDC_EFORMAT, "%s: label %u of clip %llu from %s is not below %u", path,
                               label, (unsigned long long)c, t->info.source[s].name, t->info.source[s].k);
        }
    return 0;
}

static int parse(struct label_table *t, const char *path, struct err *e)
{
    struct header h;
    struct entry entries[LABEL_SOURCES_MAX], right[LABEL_SOURCES_MAX];
    uint64_t hash;
    if (t->map_bytes < sizeof h + sizeof hash || memcmp(t->map, magic, sizeof magic) != 0)
        return err_set(e, XDC_EFORMAT, "%s: not a label table", path);
    memcpy(&h, t->map, sizeof h);
    if (h.version != VERSION)
        return err_set(e, XDC_EFORMAT, "%s: version %u, this program reads %d", path, h.version, VERSION);
    if (h.file_bytes != t->map_bytes)
        return err_set(e, XDC_EFORMAT, "%s: %zu bytes, written with %llu", path, t->map_bytes,
                       (unsigned long long)h.file_bytes);
    memcpy(&hash, t->map + t->map_bytes - sizeof hash, sizeof hash);
    if (hash != XXH3_64bits(t->map, t->map_bytes - sizeof hash))
        return err_set(e, XDC_EFORMAT, "%s: altered after it was written", path);
    if (h.sources == 0 || h.sources > LABEL_SOURCES_MAX || h.clips > CLIPS_MAX ||
        h.quality_bytes > QUALITY_MAX ||
        t->map_bytes < sizeof h + h.sources * sizeof entries[0] + h.quality_bytes + sizeof hash)
        return err_set(e, XDC_EFORMAT, "%s: its header has another form", path);
    memcpy(entries, t->map + sizeof h, h.sources * sizeof entries[0]);
    memcpy(right, entries, h.sources * sizeof entries[0]);
    int rc = check_sources(path, entries, h.sources, XDC_EFORMAT, e);
    if (rc < 0)
        return rc;
    if (layout(h.clips, h.quality_bytes, right, h.sources) != h.file_bytes ||
        memcmp(right, entries, h.sources * sizeof entries[0]) != 0)
        return err_set(e, XDC_EFORMAT, "%s: its arrays lie elsewhere than they should", path);
    t->info = (struct label_info){.run = h.run,
                                  .manifest = h.manifest,
                                  .features = h.features,
                                  .clips = h.clips,
                                  .round = h.round,
                                  .sources = h.sources,
                                  .hash = hash};
    for (uint32_t s = 0; s < h.sources; s++) {
        memcpy(t->info.source[s].name, entries[s].name, sizeof entries[s].name);
        t->info.source[s].k = entries[s].k;
        t->width[s] = entries[s].width;
        t->labels[s] = t->map + entries[s].offset;
    }
    t->quality = strndup((const char *)t->map + sizeof h + h.sources * sizeof entries[0], h.quality_bytes);
    return t->quality ? check_labels(t, path, e) : err_sys(e, ENOMEM, "open %s", path);
}

static int map_file(struct label_table *t, const char *path, struct err *e)
{
    struct stat st;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = err_sys(e, errno, "open %s", path);
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        rc = err_set(e, XDC_EFORMAT, "%s: not a label table", path);
    } else {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            rc = err_sys(e, errno, "map %s", path);
        } else {
            t->map = map;
            t->map_bytes = (size_t)st.st_size;
        }
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

int label_table_open(const char *path, struct label_table **out, struct err *e)
{
    struct label_table *t = calloc(1, sizeof *t);
    if (!t)
        return err_sys(e, ENOMEM, "open %s", path);
    int rc = map_file(t, path, e);
    if (rc == 0)
        rc = parse(t, path, e);
    if (rc < 0) {
        label_table_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void label_table_close(struct label_table *t)
{
    if (!t)
        return;
    if (t->map)
        munmap((void *)t->map, t->map_bytes);
    free(t->quality);
    free(t);
}

const struct label_info *label_table_info(const struct label_table *t)
{
    return &t->info;
}

const char *label_table_quality(const struct label_table *t)
{
    return t->quality;
}

int label_table_path(const char *run_dir, uint32_t round, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s/labels/round-%04u.xdcl", run_dir, round);
}

const char *label_head_source(uint32_t head)
{
    static const char *const names[LABEL_HEADS_MAX] = {
        "joint-h0", "joint-h1", "joint-h2",  "joint-h3",  "joint-h4",  "joint-h5",  "joint-h6",  "joint-h7",
        "joint-h8", "joint-h9", "joint-h10", "joint-h11", "joint-h12", "joint-h13", "joint-h14", "joint-h15"};
    return names[head];
}

int label_table_source(const struct label_table *t, const char *name)
{
    for (uint32_t s = 0; s < t->info.sources; s++)
        if (strcmp(t->info.source[s].name, name) == 0)
            return (int)s;
    return -1;
}

uint32_t label_table_get(const struct label_table *t, uint32_t source, uint64_t clip)
{
    if (source >= t->info.sources || clip >= t->info.clips)
        return LABEL_NONE;
    uint16_t u16;
    uint32_t u32;
    switch (t->width[source]) {
    case 1:
        return t->labels[source][clip] == UINT8_MAX ? LABEL_NONE : t->labels[source][clip];
    case 2:
        memcpy(&u16, t->labels[source] + clip * 2, 2);
        return u16 == UINT16_MAX ? LABEL_NONE : u16;
    default:
        memcpy(&u32, t->labels[source] + clip * 4, 4);
        return u32;
    }
}
