#include "services/clusterer/kmeans_state.h"
#include "lib/fsutil.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC "xdckm\0\0\1"

/* In the machine's byte order: the file does not outlive the job. */
struct head {
    char magic[8];
    uint64_t hash; /* of what follows */
    uint64_t key, cells, has_best;
    struct kmeans_point now, best;
};

static uint64_t hash_of(const void *file, size_t size)
{
    size_t from = offsetof(struct head, key);
    return XXH3_64bits((const char *)file + from, size - from);
}

static size_t size_of(const struct kmeans_state *s, bool has_best)
{
    return sizeof(struct head) + (has_best ? 2 : 1) * s->cells * sizeof(float);
}

int kmeans_state_save(const char *path, const struct kmeans_state *s, struct err *e)
{
    size_t array = s->cells * sizeof(float), size = size_of(s, s->has_best);
    char *file = malloc(size);
    if (!file)
        return err_sys(e, ENOMEM, "%s", path);
    struct head h = {.magic = MAGIC,
                     .key = s->key,
                     .cells = s->cells,
                     .has_best = s->has_best,
                     .now = s->now,
                     .best = s->best};
    memcpy(file, &h, sizeof h);
    memcpy(file + sizeof h, s->centroids, array);
    if (s->has_best)
        memcpy(file + sizeof h + array, s->best_centroids, array);
    h.hash = hash_of(file, size);
    memcpy(file, &h, sizeof h);
    int rc = fs_write_atomic(path, file, size, e);
    free(file);
    return rc;
}

bool kmeans_state_load(const char *path, struct kmeans_state *s)
{
    char *file;
    size_t size, array = s->cells * sizeof(float);
    struct head h;
    if (fs_read(path, size_of(s, true), &file, &size, NULL))
        return false;
    bool sound = size >= sizeof h;
    if (sound) {
        memcpy(&h, file, sizeof h);
        sound = memcmp(h.magic, MAGIC, sizeof h.magic) == 0 && h.key == s->key && h.cells == s->cells &&
                size == size_of(s, h.has_best) && h.hash == hash_of(file, size);
    }
    if (sound) {
        s->now = h.now;
        s->best = h.best;
        s->has_best = h.has_best;
        memcpy(s->centroids, file + sizeof h, array);
        if (s->has_best)
            memcpy(s->best_centroids, file + sizeof h + array, array);
    }
    free(file);
    return sound;
}
