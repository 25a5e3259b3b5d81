#include "services/clusterer/row_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/memory.h"

/* Most that buffers take of rows which lie in a file. */
#define FEED_BYTES (256ull << 20)

static int map_file(struct row_store *s, const char *dir, uint64_t reserve_mib, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_check_room(dir, "the file of rows that are clustered", s->bytes, reserve_mib, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/rows-XXXXXX", dir);
    if (rc)
        return rc;
    s->fd = mkostemp(path, O_CLOEXEC);
    if (s->fd < 0)
        return err_sys(e, errno, "make %s", path);
    unlink(path);
    /* The room is taken now: a full disk would kill whoever writes through the mapping. */
    rc = posix_fallocate(s->fd, 0, (off_t)s->bytes);
    void *at = rc ? MAP_FAILED : mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (at == MAP_FAILED) {
        rc = rc ? rc : errno;
        close(s->fd);
        return err_sys(e, rc, "%" PRIu64 " MiB of rows in %s", s->bytes >> 20, dir);
    }
    s->x = at;
    return 0;
}

int row_store_open(struct row_store *s, uint64_t n, uint32_t d, uint64_t cap, const char *dir,
                   uint64_t reserve_mib, struct err *e)
{
    *s = (struct row_store){.bytes = n * d * sizeof *s->x, .fd = -1, .d = d};
    int rc = 0;
    if (s->bytes > cap)
        rc = map_file(s, dir, reserve_mib, e);
    else if (!(s->x = malloc(s->bytes + 1)))
        rc = err_sys(e, ENOMEM, "%" PRIu64 " rows", n);
    if (rc)
        *s = (struct row_store){0};
    return rc;
}

void row_store_close(struct row_store *s)
{
    if (s->x && s->fd >= 0) {
        munmap(s->x, s->bytes);
        close(s->fd);
    } else {
        free(s->x);
    }
    *s = (struct row_store){0};
}

int row_store_read(void *arg, uint64_t first, uint64_t n, float *out, struct err *e)
{
    const struct row_store *s = arg;
    uint64_t row = s->d * sizeof *out;
    return fs_read_at(s->fd, out, n * row, first * row, "the rows that are clustered", e);
}

int row_store_feed(struct row_store *s, uint64_t n, int64_t memory_mib, struct feed *out, struct err *e)
{
    uint64_t cap = row_store_cap(memory_mib);
    if (s->fd >= 0)
        return feed_reader(out, n, s->d, cap < FEED_BYTES ? cap : FEED_BYTES, row_store_read, s, e);
    feed_array(out, s->x, n, s->d);
    return 0;
}

uint64_t row_store_cap(int64_t configured)
{
    if (configured > 0)
        return (uint64_t)configured << 20;
    double available = memory_free();
    return available > 0 ? (uint64_t)(available / 3) : UINT64_MAX;
}
