#include "services/trainer/harvest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/fsutil.h"

/* What the tag is of: the values, and in place of the tag what they belong to. */
struct belonging {
    uint64_t clip, run, round;
};

struct harvest {
    char path[PATH_MAX];
    int fd; /* owned */
    uint64_t run;
    uint32_t round, video;
    size_t values;      /* bytes of a row's values; the tag follows them */
    unsigned char *row; /* owned; values and a belonging */
};

static size_t row_size(const struct harvest *h)
{
    return h->values + sizeof(uint64_t);
}

static uint64_t tag_of(struct harvest *h, uint64_t clip)
{
    const struct belonging b = {htole64(clip), htole64(h->run), htole64(h->round)};
    memcpy(h->row + h->values, &b, sizeof b);
    return htole64(XXH3_64bits(h->row, h->values + sizeof b));
}

static int make_path(const struct harvest_spec *s, char path[PATH_MAX], struct err *e)
{
    return fs_path(path, e, "%s/harvest/round-%04u.rows", s->run_dir, s->round);
}

static int open_file(const struct harvest_spec *s, int flags, struct harvest **out, struct err *e)
{
    struct harvest *h = calloc(1, sizeof *h);
    if (!h)
        return err_sys(e, ENOMEM, "harvest");
    h->fd = -1;
    h->run = s->run;
    h->round = s->round;
    h->video = s->dims[NET_VIDEO];
    h->values = sizeof(float) * ((size_t)s->dims[NET_VIDEO] + s->dims[NET_AUDIO]);
    h->row = malloc(h->values + sizeof(struct belonging));
    int rc = h->row ? make_path(s, h->path, e) : err_sys(e, ENOMEM, "harvest");
    if (rc == 0) {
        h->fd = open(h->path, flags | O_CLOEXEC, 0666);
        if (h->fd < 0)
            rc = err_sys(e, errno, "open %s", h->path);
    }
    if (rc < 0) {
        harvest_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

/* What the file takes up already is not needed once more. */
static int check_room(const struct harvest_spec *s, const char *dir, uint64_t rows, uint64_t reserve_mib,
                      struct err *e)
{
    char path[PATH_MAX], what[64];
    struct stat st;
    uint64_t need = rows * (sizeof(float) * ((uint64_t)s->dims[NET_VIDEO] + s->dims[NET_AUDIO]) + 8);
    int rc = make_path(s, path, e);
    if (rc < 0)
        return rc;
    uint64_t there = stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    snprintf(what, sizeof what, "the harvest for the dump of round %u", s->round);
    return fs_check_room(dir, what, need > there ? need - there : 0, reserve_mib, e);
}

int harvest_create(const struct harvest_spec *s, bool anew, uint64_t rows, uint64_t reserve_mib,
                   struct harvest **out, struct err *e)
{
    char dir[PATH_MAX];
    struct harvest *h = NULL;
    int rc = fs_path(dir, e, "%s/harvest", s->run_dir);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = check_room(s, dir, rows, reserve_mib, e);
    if (rc == 0)
        rc = open_file(s, O_RDWR | O_CREAT, &h, e);
    if (rc == 0 && anew && ftruncate(h->fd, 0) < 0)
        rc = err_sys(e, errno, "empty %s", h->path);
    if (rc == 0)
        rc = fs_sync_dir(dir, e);
    if (rc < 0) {
        harvest_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

int harvest_open(const struct harvest_spec *s, struct harvest **out, struct err *e)
{
    return open_file(s, O_RDONLY, out, e);
}

int harvest_put(struct harvest *h, uint64_t clip, const float *video, const float *audio, struct err *e)
{
    size_t of_video = h->video * sizeof(float);
    memcpy(h->row, video, of_video);
    memcpy(h->row + of_video, audio, h->values - of_video);
    uint64_t tag = tag_of(h, clip);
    memcpy(h->row + h->values, &tag, sizeof tag);
    for (size_t done = 0; done < row_size(h);) {
        ssize_t n = pwrite(h->fd, h->row + done, row_size(h) - done, (off_t)(clip * row_size(h) + done));
        if (n < 0 && errno != EINTR)
            return err_sys(e, errno, "write %s", h->path);
        done += n < 0 ? 0 : (size_t)n;
    }
    return 0;
}

int harvest_sync(struct harvest *h, struct err *e)
{
    return fdatasync(h->fd) < 0 ? err_sys(e, errno, "sync %s", h->path) : 0;
}

int harvest_get(struct harvest *h, uint64_t clip, const float **out, struct err *e)
{
    uint64_t tag;
    int rc = fs_read_at(h->fd, h->row, row_size(h), clip * row_size(h), h->path, e);
    if (rc < 0)
        return rc == XDC_EFORMAT ? 0 : rc; /* the file may end before the row does */
    memcpy(&tag, h->row + h->values, sizeof tag);
    if (tag != tag_of(h, clip))
        return 0;
    *out = (const float *)(const void *)h->row;
    return 1;
}

void harvest_close(struct harvest *h)
{
    if (!h)
        return;
    if (h->fd >= 0)
        close(h->fd);
    free(h->row);
    free(h);
}

int harvest_remove(const char *run_dir, struct err *e)
{
    char dir[PATH_MAX];
    int rc = fs_path(dir, e, "%s/harvest", run_dir);
    return rc == 0 ? fs_remove_tree(dir, e) : rc;
}
