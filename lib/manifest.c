#include "lib/manifest.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"
#include "lib/keyframe_list.h"
#include "lib/store.h"

enum {
    VERSION = 2,
    NUMBERS = 12, /* varints of a record */
    RECORD_MAX = 16 + NUMBERS * VARINT_MAX + MANIFEST_URI_MAX + 4,
    PAGE_BYTES = 4096,
    CLASSES_MAX = 1 << 20,
};
#define MAP_BYTES ((uint64_t)64 << 20)
#define BATCH_BYTES ((uint64_t)8 << 20)  /* bytes of a transaction */
#define HEADROOM_BYTES (4 * BATCH_BYTES) /* what a batch can take of the map, generously */
#define CHECK_BYTES ((uint64_t)1 << 30)  /* up to this size every open reads the whole file */

static const char magic[8] = "XDCMANI\n";

/* Key 0 of the database "meta"; the media root follows. */
struct meta {
    char magic[8];
    uint32_t version;
    uint32_t classes;
    uint64_t videos;
    uint64_t identity;
};
_Static_assert(sizeof(struct meta) == 32, "no padding");

/* What the identity is the hash of, video by video; the uri follows. */
struct canonical {
    uint64_t index, size_bytes;
    double duration_s, fps;
    uint32_t width, height;
    int32_t video_stream, audio_stream;
    uint32_t uri_bytes, zero;
};
_Static_assert(sizeof(struct canonical) == 56, "no padding");

struct manifest {
    struct store store;
    unsigned videos_db, classes_db, meta_db, keyframes_db;
    uint64_t count, identity;
    char *media_root;   /* owned */
    char **class_names; /* owned, each owned; room for slots / 2 */
    uint32_t *slots;    /* owned: class index + 1 by hash of the name, 0: free */
    uint32_t classes, n_slots;
    /* while writing: */
    bool writing;
    char *path;         /* owned: the final name */
    XXH3_state_t *hash; /* owned */
    uint64_t batch_bytes;
};

static uint32_t record_check(uint64_t index, const void *record, size_t size)
{
    return (uint32_t)XXH3_64bits_withSeed(record, size, index);
}

/* docs/formats.md: duration, fps, twelve varints, uri, check. Returns the size. */
static size_t encode(uint64_t index, const struct manifest_video *v, size_t uri_bytes,
                     uint8_t out[RECORD_MAX])
{
    const uint64_t numbers[] = {
        v->size_bytes,
        v->width,
        v->height,
        (uint64_t)((int64_t)v->video_stream + 1),
        (uint64_t)((int64_t)v->audio_stream + 1),
        v->sample_rate,
        v->channels,
        v->probe_reason,
        (uint64_t)((int64_t)v->truth + 1),
        (uint64_t)v->split,
        (uint64_t)v->mtime_ns,
        v->facts,
    };
    uint8_t *p = out;
    memcpy(p, &v->duration_s, 8);
    memcpy(p + 8, &v->fps, 8);
    p += 16;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        p = varint_put(p, numbers[i]);
    memcpy(p, v->uri, uri_bytes);
    p += uri_bytes;
    uint32_t check = record_check(index, out, (size_t)(p - out));
    memcpy(p, &check, 4);
    return (size_t)(p + 4 - out);
}

static int decode(uint64_t index, const uint8_t *p, size_t size, struct manifest_video *v, struct err *e)
{
    static const uint64_t max[NUMBERS] = {UINT64_MAX, UINT32_MAX,          UINT32_MAX, INT32_MAX,
                                          INT32_MAX,  UINT32_MAX,          UINT32_MAX, UINT32_MAX,
                                          INT32_MAX,  MANIFEST_SPLIT_TEST, UINT64_MAX, UINT32_MAX};
    uint64_t n[NUMBERS];
    uint32_t check;
    if (size < 16 + NUMBERS + 1 + 4 || size > RECORD_MAX)
        return err_set(e, XDC_EFORMAT, "the record of video %llu has %zu bytes", (unsigned long long)index,
                       size);
    const uint8_t *end = p + size - 4;
    memcpy(&check, end, 4);
    if (check != record_check(index, p, size - 4))
        return err_set(e, XDC_EFORMAT, "the record of video %llu is altered", (unsigned long long)index);
    memcpy(&v->duration_s, p, 8);
    memcpy(&v->fps, p + 8, 8);
    p += 16;
    for (size_t i = 0; i < NUMBERS; i++)
        p = varint_get(p, end, max[i], &n[i]);
    if (!p || p == end || end - p >= MANIFEST_URI_MAX)
        return err_set(e, XDC_EFORMAT, "the record of video %llu has another form",
                       (unsigned long long)index);
    v->size_bytes = n[0];
    v->width = (uint32_t)n[1];
    v->height = (uint32_t)n[2];
    v->video_stream = (int32_t)((int64_t)n[3] - 1);
    v->audio_stream = (int32_t)((int64_t)n[4] - 1);
    v->sample_rate = (uint32_t)n[5];
    v->channels = (uint32_t)n[6];
    v->probe_reason = (uint32_t)n[7];
    v->truth = (int32_t)((int64_t)n[8] - 1);
    v->split = (enum manifest_split)n[9];
    v->mtime_ns = (int64_t)n[10];
    v->facts = (uint32_t)n[11];
    memcpy(v->uri, p, (size_t)(end - p));
    v->uri[end - p] = '\0';
    return 0;
}

static void hash_canonical(struct manifest *m, const struct manifest_video *v, size_t uri_bytes)
{
    struct canonical c = {
        .index = m->count,
        .size_bytes = v->size_bytes,
        .duration_s = v->duration_s,
        .fps = v->fps,
        .width = v->width,
        .height = v->height,
        .video_stream = v->video_stream,
        .audio_stream = v->audio_stream,
        .uri_bytes = (uint32_t)uri_bytes,
    };
    XXH3_64bits_update(m->hash, &c, sizeof c);
    XXH3_64bits_update(m->hash, v->uri, uri_bytes);
}

/* Appends a value and commits when the batch is full, so that neither memory nor map are bounds on the number
 * of videos. */
static int append_value(struct manifest *m, unsigned db, uint64_t key, const void *value, size_t size,
                        struct err *e)
{
    void *to;
    int rc = store_append(&m->store, db, key, size, &to, e);
    if (rc < 0)
        return rc;
    memcpy(to, value, size);
    m->batch_bytes += size < PAGE_BYTES / 4 ? size + 64 : size + 2 * PAGE_BYTES;
    if (m->batch_bytes < BATCH_BYTES)
        return 0;
    m->batch_bytes = 0;
    return store_commit(&m->store, HEADROOM_BYTES, e);
}

int manifest_create(const char *path, const char *media_root, struct manifest **out, struct err *e)
{
    char tmp[PATH_MAX];
    if (media_root[0] != '/')
        return err_set(e, -EINVAL, "the media root %s is not an absolute path", media_root);
    int rc = fs_path(tmp, e, "%s.tmp", path);
    if (rc < 0)
        return rc;
    struct manifest *m = calloc(1, sizeof *m);
    if (!m)
        return err_sys(e, ENOMEM, "create %s", path);
    m->media_root = strdup(media_root);
    m->path = strdup(path);
    m->hash = XXH3_createState();
    rc = m->media_root && m->path && m->hash ? 0 : err_sys(e, ENOMEM, "create %s", path);
    if (rc == 0)
        rc = store_create(&m->store, tmp, MAP_BYTES, e);
    m->writing = rc == 0;
    if (rc == 0)
        rc = store_db(&m->store, "videos", true, &m->videos_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "classes", true, &m->classes_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "meta", true, &m->meta_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "keyframes", true, &m->keyframes_db, e);
    if (rc < 0) {
        manifest_close(m);
        return rc;
    }
    XXH3_64bits_reset(m->hash);
    *out = m;
    return 0;
}

static int check_video(const struct manifest *m, const struct manifest_video *v, size_t uri_bytes,
                       struct err *e)
{
    unsigned long long index = m->count;
    if (uri_bytes == 0 || uri_bytes == MANIFEST_URI_MAX)
        return err_set(e, -EINVAL, "video %llu: its uri is empty or longer than %d bytes", index,
                       MANIFEST_URI_MAX - 1);
    if (!isfinite(v->duration_s) || v->duration_s < 0 || !isfinite(v->fps) || v->fps < 0)
        return err_set(e, -EINVAL, "video %llu (%s): duration or frame rate is no number from 0", index,
                       v->uri);
    if (v->video_stream < -1 || v->video_stream == INT32_MAX || v->audio_stream < -1 ||
        v->audio_stream == INT32_MAX)
        return err_set(e, -EINVAL, "video %llu (%s): no such stream", index, v->uri);
    if (v->truth < -1 || (v->truth >= 0 && (uint32_t)v->truth >= m->classes))
        return err_set(e, -EINVAL, "video %llu (%s): class %d of %u", index, v->uri, v->truth, m->classes);
    if ((unsigned)v->split > MANIFEST_SPLIT_TEST)
        return err_set(e, -EINVAL, "video %llu (%s): no such split", index, v->uri);
    return 0;
}

int manifest_append(struct manifest *m, const struct manifest_video *v, struct err *e)
{
    uint8_t record[RECORD_MAX];
    if (!m->writing)
        return err_set(e, -EROFS, "%s: a manifest is not appended to after its commit", m->store.path);
    size_t uri_bytes = strnlen(v->uri, MANIFEST_URI_MAX);
    int rc = check_video(m, v, uri_bytes, e);
    if (rc < 0)
        return rc;
    size_t size = encode(m->count, v, uri_bytes, record);
    rc = append_value(m, m->videos_db, m->count, record, size, e);
    if (rc < 0)
        return rc;
    hash_canonical(m, v, uri_bytes);
    m->count++;
    return 0;
}

int manifest_append_keyframes(struct manifest *m, const struct media_keyframe *keys, uint32_t n,
                              struct err *e)
{
    uint8_t list[KEYFRAME_LIST_BYTES];
    if (!m->writing || m->count == 0)
        return err_set(e, -EINVAL, "%s: key frames belong to the video before them", m->store.path);
    size_t size = keyframe_list_encode(m->count - 1, keys, n, list);
    if (size == 0)
        return err_set(e, -EINVAL, "video %llu: its key frames do not ascend, or are too many",
                       (unsigned long long)(m->count - 1));
    return n ? append_value(m, m->keyframes_db, m->count - 1, list, size, e) : 0;
}

int manifest_keyframes(const struct manifest *m, uint64_t index,
                       struct media_keyframe out[MEDIA_KEYFRAMES_MAX], uint32_t *out_n, struct err *e)
{
    const void *list;
    size_t size;
    *out_n = 0;
    int rc = store_get(&m->store, m->keyframes_db, index, &list, &size, e);
    if (rc == -ENOENT)
        return 0;
    int n = rc == 0 ? keyframe_list_decode(index, list, size, out) : -1;
    if (rc == 0 && n < 0)
        rc = err_set(e, XDC_EFORMAT, "%s: the key frames of video %llu are altered", m->store.path,
                     (unsigned long long)index);
    if (rc == 0)
        *out_n = (uint32_t)n;
    return rc;
}

void manifest_keyframe(const struct manifest *m, uint64_t index, double time_s, double *out_key_s,
                       int64_t *out_key_pos)
{
    struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
    uint32_t n, lo = 0;
    *out_key_s = 0;
    *out_key_pos = -1;
    if (manifest_keyframes(m, index, keys, &n, NULL) < 0)
        return;
    for (uint32_t hi = n; lo < hi;) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (keys[mid].time_s <= time_s)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo > 0) {
        *out_key_s = keys[lo - 1].time_s;
        *out_key_pos = keys[lo - 1].pos;
    }
}

/* The slot of a name, or the free one where it belongs. There is always a free one. */
static uint32_t class_slot(const struct manifest *m, const char *name)
{
    uint32_t i = (uint32_t)XXH3_64bits(name, strlen(name)) & (m->n_slots - 1);
    while (m->slots[i] && strcmp(m->class_names[m->slots[i] - 1], name) != 0)
        i = (i + 1) & (m->n_slots - 1);
    return i;
}

/* Doubles the hash table; on failure it is as it was. */
static int grow_classes(struct manifest *m, struct err *e)
{
    uint32_t n = m->n_slots ? m->n_slots * 2 : 64;
    uint32_t *slots = calloc(n, sizeof *slots);
    char **names = realloc(m->class_names, n / 2 * sizeof *names);
    if (names)
        m->class_names = names;
    if (!slots || !names) {
        free(slots);
        return err_sys(e, ENOMEM, "%u classes", m->classes);
    }
    free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    for (uint32_t i = 0; i < m->classes; i++)
        m->slots[class_slot(m, m->class_names[i])] = i + 1;
    return 0;
}

static int add_class(struct manifest *m, const char *name, size_t bytes, struct err *e)
{
    int rc = m->classes == m->n_slots / 2 ? grow_classes(m, e) : 0;
    if (rc < 0)
        return rc;
    char *copy = strndup(name, bytes);
    if (!copy)
        return err_sys(e, ENOMEM, "class %u", m->classes);
    uint32_t slot = class_slot(m, copy);
    m->class_names[m->classes++] = copy;
    m->slots[slot] = m->classes;
    return 0;
}

int manifest_class(struct manifest *m, const char *name, int32_t *out, struct err *e)
{
    size_t bytes = strlen(name);
    uint32_t found = m->n_slots ? m->slots[class_slot(m, name)] : 0;
    if (!found) {
        if (!m->writing)
            return err_set(e, -EROFS, "%s has no class %s", m->store.path, name);
        if (bytes == 0 || bytes >= MANIFEST_URI_MAX || m->classes == CLASSES_MAX)
            return err_set(e, -EINVAL, "class %u: its name is empty or too long, or there are too many",
                           m->classes);
        int rc = add_class(m, name, bytes, e);
        if (rc < 0)
            return rc;
        found = m->classes;
    }
    *out = (int32_t)(found - 1);
    return 0;
}

static int write_meta(struct manifest *m, struct err *e)
{
    size_t root_bytes = strlen(m->media_root);
    struct meta meta = {.version = VERSION, .classes = m->classes, .videos = m->count};
    memcpy(meta.magic, magic, sizeof magic);
    meta.identity = XXH3_64bits_digest(m->hash);
    for (uint32_t i = 0; i < m->classes; i++) {
        int rc = append_value(m, m->classes_db, i, m->class_names[i], strlen(m->class_names[i]), e);
        if (rc < 0)
            return rc;
    }
    void *to;
    int rc = store_append(&m->store, m->meta_db, 0, sizeof meta + root_bytes, &to, e);
    if (rc < 0)
        return rc;
    memcpy(to, &meta, sizeof meta);
    memcpy((char *)to + sizeof meta, m->media_root, root_bytes);
    m->identity = meta.identity;
    return 0;
}

/* rename(2) and fsync of the directory; refused when another writer has put its own file at our temporary
 * name. */
static int publish(struct manifest *m, struct err *e)
{
    char dir[PATH_MAX];
    if (!store_is_at(&m->store, m->store.path))
        return err_set(e, XDC_ELOCKED, "%s: another process writes it too", m->path);
    if (rename(m->store.path, m->path) < 0)
        return err_sys(e, errno, "rename %s to %s", m->store.path, m->path);
    m->writing = false;
    snprintf(m->store.path, sizeof m->store.path, "%s", m->path);
    const char *slash = strrchr(m->path, '/');
    int rc = slash ? fs_path(dir, e, "%.*s", slash == m->path ? 1 : (int)(slash - m->path), m->path)
                   : fs_path(dir, e, ".");
    return rc < 0 ? rc : fs_sync_dir(dir, e);
}

int manifest_commit(struct manifest *m, struct err *e)
{
    if (!m->writing)
        return err_set(e, -EROFS, "%s: committed already", m->store.path);
    int rc = write_meta(m, e);
    if (rc == 0)
        rc = store_seal(&m->store, e);
    if (rc == 0)
        rc = publish(m, e);
    return rc;
}

static int read_meta(struct manifest *m, struct err *e)
{
    const void *value;
    size_t size;
    struct meta meta;
    uint64_t videos, classes;
    int rc = store_db(&m->store, "meta", false, &m->meta_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "videos", false, &m->videos_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "classes", false, &m->classes_db, e);
    if (rc == 0)
        rc = store_db(&m->store, "keyframes", false, &m->keyframes_db, e);
    if (rc == 0)
        rc = store_count(&m->store, m->videos_db, &videos, e);
    if (rc == 0)
        rc = store_count(&m->store, m->classes_db, &classes, e);
    if (rc < 0)
        return rc;
    rc = store_get(&m->store, m->meta_db, 0, &value, &size, e);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (rc == -ENOENT || size <= sizeof meta || size >= sizeof meta + PATH_MAX)
        return err_set(e, XDC_EFORMAT, "has no record of itself");
    memcpy(&meta, value, sizeof meta);
    if (memcmp(meta.magic, magic, sizeof magic) != 0)
        return err_set(e, XDC_EFORMAT, "is of another kind");
    if (meta.version != VERSION)
        return err_set(e, XDC_EFORMAT, "has version %u, this program reads %d", meta.version, VERSION);
    if (meta.videos != videos || meta.classes != classes || classes > CLASSES_MAX)
        return err_set(e, XDC_EFORMAT, "holds %llu videos and %llu classes, and says %llu and %u",
                       (unsigned long long)videos, (unsigned long long)classes,
                       (unsigned long long)meta.videos, meta.classes);
    m->count = videos;
    m->identity = meta.identity;
    m->media_root = strndup((const char *)value + sizeof meta, size - sizeof meta);
    return m->media_root ? 0 : err_sys(e, ENOMEM, "its media root");
}

static int read_classes(struct manifest *m, struct err *e)
{
    uint64_t n;
    int rc = store_count(&m->store, m->classes_db, &n, e);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        const void *name;
        size_t size;
        rc = store_get(&m->store, m->classes_db, i, &name, &size, e);
        if (rc == -ENOENT || (rc == 0 && (size == 0 || size >= MANIFEST_URI_MAX || memchr(name, '\0', size))))
            rc = err_set(e, XDC_EFORMAT, "class %llu has no name", (unsigned long long)i);
        if (rc == 0)
            rc = add_class(m, name, size, e);
    }
    return rc;
}

int manifest_open(const char *path, struct manifest **out, struct err *e)
{
    struct manifest *m = calloc(1, sizeof *m);
    if (!m)
        return err_sys(e, ENOMEM, "open %s", path);
    int rc = store_open(&m->store, path, CHECK_BYTES, e);
    if (rc == 0)
        rc = read_meta(m, e);
    if (rc == 0)
        rc = read_classes(m, e);
    if (rc == 0) {
        *out = m;
        return 0;
    }
    manifest_close(m);
    if (rc == XDC_EFORMAT)
        err_wrap(e, "%s is no manifest that can be used (`xdc index` makes one)", path);
    else if (rc == -ENOENT)
        err_wrap(e, "there is no manifest (`xdc index` makes one)");
    return rc;
}

void manifest_close(struct manifest *m)
{
    if (!m)
        return;
    /* Not what another writer has put there meanwhile. */
    bool remove = m->writing && store_is_at(&m->store, m->store.path);
    store_close(&m->store);
    if (remove)
        unlink(m->store.path);
    for (uint32_t i = 0; i < m->classes; i++)
        free(m->class_names[i]);
    free(m->class_names);
    free(m->slots);
    free(m->media_root);
    free(m->path);
    XXH3_freeState(m->hash);
    free(m);
}

uint64_t manifest_count(const struct manifest *m)
{
    return m->count;
}

uint32_t manifest_classes(const struct manifest *m)
{
    return m->classes;
}

const char *manifest_class_name(const struct manifest *m, int32_t index)
{
    return index >= 0 && (uint32_t)index < m->classes ? m->class_names[index] : NULL;
}

const char *manifest_media_root(const struct manifest *m)
{
    return m->media_root;
}

uint64_t manifest_identity(const struct manifest *m)
{
    return m->identity;
}

int manifest_get(const struct manifest *m, uint64_t index, struct manifest_video *out, struct err *e)
{
    const void *record;
    size_t size;
    if (index >= m->count)
        return err_set(e, -ENOENT, "%s: there is no video %llu, it has %llu", m->store.path,
                       (unsigned long long)index, (unsigned long long)m->count);
    int rc = store_get(&m->store, m->videos_db, index, &record, &size, e);
    if (rc == -ENOENT)
        rc = err_set(e, XDC_EFORMAT, "the record of video %llu is missing", (unsigned long long)index);
    if (rc == 0)
        rc = decode(index, record, size, out, e);
    return rc < 0 ? (err_wrap(e, "%s", m->store.path), rc) : 0;
}

int manifest_verify(const struct manifest *m, struct err *e)
{
    return store_check(&m->store, e);
}
