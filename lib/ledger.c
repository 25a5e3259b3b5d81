#include "lib/ledger.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/fsutil.h"

#define RECORD_SIZE 48
#define READ_RECORDS 4096

struct ledger {
    char *dir; /* owned */
    int fd;    /* owned */
    char path[PATH_MAX];
    struct ledger_mark mark;
    unsigned char *buffer; /* owned: encoded records of one append */
    size_t buffer_size;
    struct err failed; /* sticky: after a failed write what the file holds is unknown until the next open */
};

static void encode(unsigned char *out, const struct ledger_record *r)
{
    const uint64_t wide[5] = {htole64(r->step), htole64(r->position), htole64(r->clip), htole64(r->labels),
                              htole64(r->sample)};
    const uint32_t narrow[2] = {htole32(r->stream), htole32(r->disposition)};
    memcpy(out, wide, sizeof wide);
    memcpy(out + sizeof wide, narrow, sizeof narrow);
}

static void decode(const unsigned char *in, struct ledger_record *r)
{
    uint64_t wide[5];
    uint32_t narrow[2];
    memcpy(wide, in, sizeof wide);
    memcpy(narrow, in + sizeof wide, sizeof narrow);
    *r = (struct ledger_record){.step = le64toh(wide[0]),
                                .position = le64toh(wide[1]),
                                .clip = le64toh(wide[2]),
                                .labels = le64toh(wide[3]),
                                .sample = le64toh(wide[4]),
                                .stream = le32toh(narrow[0]),
                                .disposition = le32toh(narrow[1])};
}

/* The running hash after one more record: XXH3 of the hash so far (8 bytes, little endian) and the record. */
static uint64_t chain(uint64_t hash, const unsigned char *record)
{
    unsigned char bytes[8 + RECORD_SIZE];
    uint64_t le = htole64(hash);
    memcpy(bytes, &le, sizeof le);
    memcpy(bytes + sizeof le, record, RECORD_SIZE);
    return XXH3_64bits(bytes, sizeof bytes);
}

/* Remembers the first failure, which every later call returns. */
static int fail(struct ledger *l, const struct err *e)
{
    if (!l->failed.code)
        l->failed = *e;
    return e->code;
}

static int refuse(const struct ledger *l, struct err *e)
{
    return err_set(e, l->failed.code, "the ledger failed before: %s", l->failed.msg);
}

/* True and the number for a name of the form epoch-000017.led. */
static bool parse_name(const char *name, uint64_t *out)
{
    char *end;
    if (strncmp(name, "epoch-", 6) != 0 || name[6] < '0' || name[6] > '9')
        return false;
    *out = strtoull(name + 6, &end, 10);
    return strcmp(end, ".led") == 0;
}

static int remove_later(const char *dir, uint32_t epoch, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_sys(e, errno, "open %s", dir);
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (errno = 0, entry = readdir(d)) != NULL) {
        uint64_t n;
        if (parse_name(entry->d_name, &n) && n > epoch && unlinkat(dirfd(d), entry->d_name, 0) < 0)
            r = err_sys(e, errno, "remove %s/%s", dir, entry->d_name);
    }
    if (r == 0 && errno)
        r = err_sys(e, errno, "read %s", dir);
    closedir(d);
    return r;
}

/* Opens the file of mark.epoch at its end; `flags` beside O_CREAT and O_APPEND. */
static int open_epoch(struct ledger *l, int flags, struct err *e)
{
    int r = fs_path(l->path, e, "%s/epoch-%06u.led", l->dir, l->mark.epoch);
    if (r < 0)
        return r;
    l->fd = open(l->path, O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0666);
    return l->fd < 0 ? err_sys(e, errno, "open %s", l->path) : 0;
}

static int cut_back(struct ledger *l, struct err *e)
{
    struct stat st;
    if (fstat(l->fd, &st) < 0)
        return err_sys(e, errno, "stat %s", l->path);
    if ((uint64_t)st.st_size < l->mark.size_bytes)
        return err_set(e, XDC_EFORMAT, "%s has %lld bytes, the checkpoint counts on %llu", l->path,
                       (long long)st.st_size, (unsigned long long)l->mark.size_bytes);
    if ((uint64_t)st.st_size == l->mark.size_bytes)
        return 0;
    if (ftruncate(l->fd, (off_t)l->mark.size_bytes) < 0 || fsync(l->fd) < 0)
        return err_sys(e, errno, "cut %s back to %llu bytes", l->path,
                       (unsigned long long)l->mark.size_bytes);
    return 0;
}

static int open_at_mark(struct ledger *l, struct err *e)
{
    if (l->mark.size_bytes % RECORD_SIZE || l->mark.size_bytes > INT64_MAX)
        return err_set(e, XDC_EFORMAT, "the mark's %llu bytes are no whole records",
                       (unsigned long long)l->mark.size_bytes);
    /* Only an epoch without records may start a new file; a lost one must not pass for an empty one. */
    int r = open_epoch(l, l->mark.size_bytes ? 0 : O_CREAT, e);
    if (r == -ENOENT && l->mark.size_bytes)
        return err_set(e, XDC_EFORMAT, "%s is missing, the checkpoint counts on %llu bytes of it", l->path,
                       (unsigned long long)l->mark.size_bytes);
    if (r == 0)
        r = cut_back(l, e);
    if (r == 0)
        r = remove_later(l->dir, l->mark.epoch, e);
    return r < 0 ? r : fs_sync_dir(l->dir, e);
}

int ledger_open(const char *dir, const struct ledger_mark *mark, struct ledger **out, struct err *e)
{
    *out = NULL;
    struct ledger *l = calloc(1, sizeof *l);
    if (!l || !(l->dir = strdup(dir))) {
        free(l);
        return err_sys(e, ENOMEM, "open ledger %s", dir);
    }
    l->fd = -1;
    l->mark = *mark;
    int r = fs_mkdirs(dir, e);
    if (r == 0)
        r = open_at_mark(l, e);
    if (r < 0) {
        err_wrap(e, "open ledger %s", dir);
        ledger_close(l);
        return r;
    }
    *out = l;
    return 0;
}

static int grow_buffer(struct ledger *l, size_t n, struct err *e)
{
    if (n > SIZE_MAX / RECORD_SIZE)
        return err_sys(e, ENOMEM, "append %zu records", n);
    if (n * RECORD_SIZE <= l->buffer_size)
        return 0;
    unsigned char *larger = realloc(l->buffer, n * RECORD_SIZE);
    if (!larger)
        return err_sys(e, ENOMEM, "append %zu records", n);
    l->buffer = larger;
    l->buffer_size = n * RECORD_SIZE;
    return 0;
}

int ledger_append(struct ledger *l, const struct ledger_record *records, size_t n, struct err *e)
{
    struct err own;
    if (l->failed.code)
        return refuse(l, e);
    if (n == 0)
        return 0;
    int r = grow_buffer(l, n, e);
    if (r < 0)
        return r;
    uint64_t hash = l->mark.hash;
    for (size_t i = 0; i < n; i++) {
        unsigned char *at = l->buffer + i * RECORD_SIZE;
        encode(at, &records[i]);
        hash = chain(hash, at);
    }
    if (fs_write_all(l->fd, l->buffer, n * RECORD_SIZE, l->path, &own) < 0) {
        err_set(e, own.code, "%s", own.msg);
        return fail(l, &own);
    }
    l->mark.hash = hash;
    l->mark.size_bytes += n * RECORD_SIZE;
    return 0;
}

int ledger_sync(struct ledger *l, struct ledger_mark *out, struct err *e)
{
    struct err own;
    if (l->failed.code)
        return refuse(l, e);
    if (fsync(l->fd) < 0) {
        /* The kernel reports a lost page once; a second fsync would say that all is well. */
        err_sys(&own, errno, "sync %s", l->path);
        err_set(e, own.code, "%s", own.msg);
        return fail(l, &own);
    }
    if (out)
        *out = l->mark;
    return 0;
}

int ledger_next_epoch(struct ledger *l, struct err *e)
{
    struct err own;
    int r = ledger_sync(l, NULL, e);
    if (r < 0)
        return r;
    close(l->fd);
    l->fd = -1;
    l->mark.epoch++;
    l->mark.size_bytes = 0;
    /* Later files went when the ledger was opened; one that is there now is another writer's. */
    r = open_epoch(l, O_CREAT | O_EXCL, &own);
    if (r == 0)
        r = fs_sync_dir(l->dir, &own);
    if (r < 0) {
        err_set(e, own.code, "%s", own.msg);
        return fail(l, &own);
    }
    return 0;
}

/* Fills `buffer` as far as the file goes; what is no whole record at its end is not counted. */
static int read_records(int fd, unsigned char *buffer, const char *path, size_t *out_n, struct err *e)
{
    size_t used = 0;
    ssize_t n = 1;
    while (n > 0 && used < READ_RECORDS * RECORD_SIZE) {
        n = read(fd, buffer + used, READ_RECORDS * RECORD_SIZE - used);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            return err_sys(e, errno, "read %s", path);
        else
            used += (size_t)n;
    }
    *out_n = used / RECORD_SIZE;
    return 0;
}

int ledger_read(const char *path, ledger_on_record on_record, void *arg, uint64_t *hash, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    unsigned char *buffer = malloc(READ_RECORDS * RECORD_SIZE);
    size_t n = READ_RECORDS;
    int r = buffer ? 0 : err_sys(e, ENOMEM, "read %s", path);
    while (r == 0 && n == READ_RECORDS) {
        r = read_records(fd, buffer, path, &n, e);
        for (size_t i = 0; r == 0 && i < n; i++) {
            struct ledger_record record;
            decode(buffer + i * RECORD_SIZE, &record);
            if (hash)
                *hash = chain(*hash, buffer + i * RECORD_SIZE);
            on_record(arg, &record);
        }
    }
    free(buffer);
    close(fd);
    return r;
}

void ledger_close(struct ledger *l)
{
    if (!l)
        return;
    if (l->fd >= 0)
        close(l->fd);
    free(l->buffer);
    free(l->dir);
    free(l);
}
