#include "lib/feature_progress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"

enum { KIND_MARK = 1, KIND_NOTE = 2 };

struct note_entry {
    uint32_t kind, reason;
    uint64_t row, check;
};

/* XXH3 of an entry but for its check, which ends it. */
static uint64_t check_of(const struct feature_progress *p, const void *entry, size_t size)
{
    return XXH3_64bits_withSeed(entry, size - sizeof(uint64_t), p->seed);
}

/* 1 when the file begins as `begun`. */
static int same_dump(const struct feature_progress *p, const struct feature_record *begun, struct err *e)
{
    struct feature_record there;
    int rc = fs_read_at(p->fd, &there, sizeof there, 0, p->path, e);
    if (rc == XDC_EFORMAT) /* too short: nothing was begun */
        return 0;
    return rc < 0 ? rc : memcmp(&there, begun, sizeof there) == 0;
}

static int write_behind(struct feature_progress *p, const void *data, size_t size, struct err *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(p->fd, (const char *)data + done, size - done, (off_t)(p->size + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EDQUOT || errno == EFBIG || errno == ENOSPC))
            return err_set(e, -ENOSPC, "write %s: no space left (%s)", p->path, strerror(errno));
        if (n < 0)
            return err_sys(e, errno, "write %s", p->path);
        done += (size_t)n;
    }
    p->size += size;
    return 0;
}

int feature_progress_open(struct feature_progress *p, const char *path, const struct feature_record *begun,
                          struct err *e)
{
    *p = (struct feature_progress){.fd = -1, .seed = begun->hash};
    int rc = fs_path(p->path, e, "%s", path);
    if (rc < 0)
        return rc;
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0)
        return err_sys(e, errno, "create %s", path);
    rc = same_dump(p, begun, e);
    if (rc == 0 && ftruncate(p->fd, 0) < 0)
        rc = err_sys(e, errno, "empty %s", path);
    if (rc == 0)
        return write_behind(p, begun, sizeof *begun, e);
    p->size = sizeof *begun;
    return rc < 0 ? rc : 0;
}

void feature_progress_close(struct feature_progress *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static int parse(const struct feature_progress *p, const void *bytes, size_t size, struct feature_entry *out)
{
    uint32_t kind;
    memcpy(&kind, bytes, sizeof kind);
    *out = (struct feature_entry){.is_note = kind == KIND_NOTE};
    size_t need = out->is_note ? sizeof(struct note_entry) : sizeof out->mark;
    uint64_t check;
    if ((kind != KIND_MARK && kind != KIND_NOTE) || size < need)
        return 0;
    memcpy(&check, (const char *)bytes + need - sizeof check, sizeof check);
    if (check != check_of(p, bytes, need))
        return 0;
    struct note_entry note;
    memcpy(&note, bytes, sizeof note);
    if (out->is_note)
        out->note = (struct feature_note){.row = note.row, .reason = note.reason};
    else
        memcpy(&out->mark, bytes, sizeof out->mark);
    return (int)need;
}

int feature_progress_next(const struct feature_progress *p, uint64_t *at, struct feature_entry *out,
                          struct err *e)
{
    char bytes[sizeof(struct feature_mark)];
    if (*at == 0)
        *at = sizeof(struct feature_record);
    ssize_t n = pread(p->fd, bytes, sizeof bytes, (off_t)*at);
    if (n < 0)
        return err_sys(e, errno, "read %s", p->path);
    int size = n < (ssize_t)sizeof(struct note_entry) ? 0 : parse(p, bytes, (size_t)n, out);
    *at += (uint64_t)size;
    return size > 0;
}

int feature_progress_cut(struct feature_progress *p, uint64_t at, struct err *e)
{
    if (ftruncate(p->fd, (off_t)at) < 0)
        return err_sys(e, errno, "cut %s", p->path);
    p->size = at;
    return 0;
}

int feature_progress_mark(struct feature_progress *p, struct feature_mark *mark, struct err *e)
{
    mark->kind = KIND_MARK;
    mark->check = check_of(p, mark, sizeof *mark);
    return write_behind(p, mark, sizeof *mark, e);
}

int feature_progress_note(struct feature_progress *p, const struct feature_note *note, struct err *e)
{
    struct note_entry n = {.kind = KIND_NOTE, .reason = note->reason, .row = note->row};
    n.check = check_of(p, &n, sizeof n);
    return write_behind(p, &n, sizeof n, e);
}

int feature_progress_sync(const struct feature_progress *p, struct err *e)
{
    return fdatasync(p->fd) < 0 ? err_sys(e, errno, "sync %s", p->path) : 0;
}
