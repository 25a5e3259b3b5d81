#include "cli/index_partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/fsutil.h"
#include "lib/progress.h"

#define SYNC_S 5.0
#define BODY_MAX (MANIFEST_URI_MAX + MEDIA_KEYFRAMES_MAX * sizeof(struct media_keyframe))

/* The root follows. */
struct header {
    char magic[8];
    uint32_t found_bytes, root_bytes;
};
static const char magic[8] = "XDCPART\2";

/* The uri and the key frames follow. */
struct record {
    uint64_t check; /* XXH3 of all that follows */
    uint32_t uri_bytes, zero;
    struct index_found found;
};

static size_t body_bytes(const struct record *r)
{
    return r->uri_bytes + r->found.keyframes * sizeof(struct media_keyframe);
}

static uint64_t check_of(const struct record *r, const void *body)
{
    uint64_t head = XXH3_64bits((const char *)r + sizeof r->check, sizeof *r - sizeof r->check);
    return XXH3_64bits_withSeed(body, body_bytes(r), head);
}

static bool plausible(const struct record *r)
{
    return r->uri_bytes > 0 && r->uri_bytes < MANIFEST_URI_MAX && r->found.keyframes <= MEDIA_KEYFRAMES_MAX &&
           r->found.reason < MEDIA_REASONS;
}

/* Whether what was read behind a plausible record is a uri and its key frames, unaltered. */
static bool whole(const struct record *r, const char *body)
{
    return !memchr(body, 0, r->uri_bytes) && r->check == check_of(r, body);
}

/* Whether the file begins as an index of `root` does; the position is then behind it. */
static bool read_header(FILE *f, const char *root)
{
    struct header h;
    char there[PATH_MAX];
    return fread(&h, sizeof h, 1, f) == 1 && memcmp(h.magic, magic, sizeof magic) == 0 &&
           h.found_bytes == sizeof(struct index_found) && h.root_bytes == strlen(root) &&
           h.root_bytes < sizeof there && fread(there, 1, h.root_bytes, f) == h.root_bytes &&
           memcmp(there, root, h.root_bytes) == 0;
}

/* Shows every whole record; returns where they end. */
static uint64_t read_records(FILE *f, uint64_t at,
                             void (*on_record)(void *arg, uint64_t at, const char *uri,
                                               const struct index_found *found),
                             void *arg)
{
    struct record r;
    char *body = malloc(BODY_MAX + 1);
    while (body && fread(&r, sizeof r, 1, f) == 1 && plausible(&r) &&
           fread(body, 1, body_bytes(&r), f) == body_bytes(&r) && whole(&r, body)) {
        body[r.uri_bytes] = '\0';
        on_record(arg, at, body, &r.found);
        at += sizeof r + body_bytes(&r);
    }
    free(body);
    return at;
}

static int begin(struct index_partial *p, const char *root, struct err *e)
{
    struct header h = {.found_bytes = sizeof(struct index_found), .root_bytes = (uint32_t)strlen(root)};
    memcpy(h.magic, magic, sizeof magic);
    if (ftruncate(p->fd, 0) < 0 || lseek(p->fd, 0, SEEK_SET) < 0)
        return err_sys(e, errno, "write %s", p->path);
    int rc = fs_write_all(p->fd, &h, sizeof h, p->path, e);
    if (rc == 0)
        rc = fs_write_all(p->fd, root, h.root_bytes, p->path, e);
    p->end = sizeof h + h.root_bytes;
    return rc;
}

static int go_on(struct index_partial *p, const char *root,
                 void (*on_record)(void *arg, uint64_t at, const char *uri, const struct index_found *f),
                 void *arg, struct err *e)
{
    FILE *f = fopen(p->path, "re");
    if (!f)
        return err_sys(e, errno, "read %s", p->path);
    bool same = read_header(f, root);
    if (same)
        p->end = read_records(f, sizeof(struct header) + strlen(root), on_record, arg);
    fclose(f);
    if (!same)
        return begin(p, root, e);
    if (ftruncate(p->fd, (off_t)p->end) < 0 || lseek(p->fd, (off_t)p->end, SEEK_SET) < 0)
        return err_sys(e, errno, "write %s", p->path);
    return 0;
}

int index_partial_open(struct index_partial *p, const char *path, const char *root,
                       void (*on_record)(void *arg, uint64_t at, const char *uri,
                                         const struct index_found *f),
                       void *arg, struct err *e)
{
    *p = (struct index_partial){.fd = -1, .synced_s = progress_now_s()};
    int rc = fs_path(p->path, e, "%s", path);
    if (rc < 0)
        return rc;
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0)
        return err_sys(e, errno, "open %s", path);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(p->fd, F_OFD_SETLK, &whole) < 0) {
        int errnum = errno;
        close(p->fd);
        p->fd = -1;
        return errnum == EAGAIN || errnum == EACCES
                   ? err_set(e, XDC_ELOCKED, "another xdc index writes %s; wait for it", path)
                   : err_sys(e, errnum, "lock %s", path);
    }
    return go_on(p, root, on_record, arg, e);
}

int index_partial_add(struct index_partial *p, const char *uri, const struct index_found *f,
                      const struct media_keyframe *keys, uint64_t *out_at, struct err *e)
{
    struct record r;
    char body[BODY_MAX];
    memset(&r, 0, sizeof r);
    r.found = *f;
    r.uri_bytes = (uint32_t)strlen(uri);
    if (!plausible(&r))
        return err_set(e, -EINVAL, "%.80s: no record can be made of it", uri);
    memcpy(body, uri, r.uri_bytes);
    if (f->keyframes)
        memcpy(body + r.uri_bytes, keys, f->keyframes * sizeof *keys);
    r.check = check_of(&r, body);
    int rc = fs_write_all(p->fd, &r, sizeof r, p->path, e);
    if (rc == 0)
        rc = fs_write_all(p->fd, body, body_bytes(&r), p->path, e);
    if (rc < 0)
        return rc;
    *out_at = p->end;
    p->end += sizeof r + body_bytes(&r);
    if (progress_now_s() - p->synced_s > SYNC_S) {
        p->synced_s = progress_now_s();
        if (fdatasync(p->fd) < 0)
            return err_sys(e, errno, "write %s", p->path);
    }
    return 0;
}

int index_partial_get(const struct index_partial *p, uint64_t at, struct index_found *out,
                      struct media_keyframe *keys, struct err *e)
{
    struct record r;
    char body[BODY_MAX];
    bool good = pread(p->fd, &r, sizeof r, (off_t)at) == (ssize_t)sizeof r && plausible(&r) &&
                pread(p->fd, body, body_bytes(&r), (off_t)(at + sizeof r)) == (ssize_t)body_bytes(&r) &&
                whole(&r, body);
    if (!good)
        return err_set(e, XDC_EFORMAT, "%s was altered while it was in use; start again", p->path);
    *out = r.found;
    if (out->keyframes)
        memcpy(keys, body + r.uri_bytes, out->keyframes * sizeof *keys);
    return 0;
}

void index_partial_close(struct index_partial *p, bool done)
{
    if (!p->path[0] || p->fd < 0)
        return;
    if (done)
        unlink(p->path);
    else
        (void)!fsync(p->fd);
    close(p->fd);
    p->fd = -1;
}
