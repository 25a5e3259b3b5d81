#include "services/decoder/clip_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/media/wide.h"

#define TABLE_MIN 1024 /* slots of the table, a power of two */
#define ALIGN 64
#define CLIP_MAX (UINT64_C(1) << 30) /* larger clips are not kept */

struct entry {
    XXH128_hash_t key;
    uint64_t offset, bytes; /* bytes 0: a free slot */
    bool dropped;
};

struct clip_cache {
    uint64_t size, used;
    int fd;                       /* owned */
    uint8_t *bytes;               /* owned mapping of `size` */
    struct entry *table;          /* owned: open addressing, at most half full */
    uint64_t slots, taken, parts; /* of the table; taken of them; with a part that may be used */
};

/* Written to by the mapping that is there before the seal, and by nothing else. */
static int make_memory(struct clip_cache *c, struct err *e)
{
    c->fd = memfd_create("xdc-clips", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *map = MAP_FAILED;
    if (c->fd >= 0 && ftruncate(c->fd, (off_t)c->size) == 0)
        map = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c->fd, 0);
    if (map != MAP_FAILED)
        c->bytes = map;
    if (!c->bytes ||
        fcntl(c->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
        return err_sys(e, errno, "clip cache of %llu bytes", (unsigned long long)c->size);
    return 0;
}

int clip_cache_open(struct clip_cache **out, uint64_t bytes, struct err *e)
{
    *out = NULL;
    if (!bytes)
        return err_set(e, -EINVAL, "a clip cache of no size");
    struct clip_cache *c = calloc(1, sizeof *c);
    if (!c)
        return err_sys(e, ENOMEM, "clip cache");
    *c = (struct clip_cache){.size = bytes, .fd = -1, .slots = TABLE_MIN};
    c->table = calloc(c->slots, sizeof *c->table);
    int rc = c->table ? make_memory(c, e) : err_sys(e, ENOMEM, "clip cache");
    if (rc)
        clip_cache_close(c);
    else
        *out = c;
    return rc;
}

void clip_cache_close(struct clip_cache *c)
{
    if (!c)
        return;
    if (c->bytes)
        munmap(c->bytes, c->size);
    if (c->fd >= 0)
        close(c->fd);
    free(c->table);
    free(c);
}

/* All that the wide frames, or the wide sound, of a clip depend on. */
static XXH128_hash_t key_of(const struct lease *l, enum media_part part)
{
    const struct media_recipe *r = &l->recipe;
    struct {
        XXH128_hash_t uri;
        double start_s, duration_s, fps, min_sound_s, audio_shift_s;
        uint64_t size_bytes;
        int32_t video_stream, audio_stream, crop_jitter_px;
        uint32_t frames, resize, crop, scaling, short_clip, keep_silent, part;
    } k;
    memset(&k, 0, sizeof k); /* hashed as bytes */
    k.uri = XXH3_128bits(l->uri, strlen(l->uri));
    k.start_s = l->clip.start_s;
    k.duration_s = l->duration_s;
    k.fps = r->fps;
    k.size_bytes = l->size_bytes;
    k.video_stream = l->video_stream; /* whose clock is the clip's */
    k.frames = r->frames;
    k.short_clip = r->short_clip;
    k.part = part;
    if (part == MEDIA_PART_VIDEO) {
        k.resize = r->resize_min;
        k.crop = r->crop;
        k.crop_jitter_px = r->crop_jitter_px;
        k.scaling = r->scaling;
    } else {
        k.audio_stream = l->audio_stream;
        k.audio_shift_s = r->audio_shift_s;
        k.min_sound_s = r->min_sound_s;
        k.keep_silent = r->keep_silent;
    }
    return XXH3_128bits(&k, sizeof k);
}

/* Its slot of the table, or the free one that it would get. */
static struct entry *slot_of(const struct clip_cache *c, XXH128_hash_t key)
{
    uint64_t i = key.low64 & (c->slots - 1);
    while (c->table[i].bytes && !XXH128_isEqual(c->table[i].key, key))
        i = (i + 1) & (c->slots - 1);
    return &c->table[i];
}

static bool grow(struct clip_cache *c)
{
    struct clip_cache old = *c;
    struct entry *table = calloc(c->slots * 2, sizeof *table);
    if (!table)
        return false;
    c->table = table;
    c->slots *= 2;
    for (uint64_t i = 0; i < old.slots; i++)
        if (old.table[i].bytes)
            *slot_of(c, old.table[i].key) = old.table[i];
    free(old.table);
    return true;
}

static bool wants(const struct lease *l, enum media_part part)
{
    return part == MEDIA_PART_VIDEO ? l->recipe.want_video : l->recipe.want_audio;
}

/* Whether there may be wide clips for the lease. */
static bool serves(const struct clip_cache *c, const struct lease *l)
{
    struct media_job job = {.recipe = l->recipe, .keep = true};
    return c && wide_serves(&l->recipe) && media_clip_bytes(&job) <= CLIP_MAX;
}

/* Where the parts lie that the lease wants; false: not all of them are there. */
static bool find(const struct clip_cache *c, const struct lease *l, struct media_window out[MEDIA_PARTS])
{
    memset(out, 0, MEDIA_PARTS * sizeof *out);
    if (!serves(c, l))
        return false;
    for (int part = 0; part < MEDIA_PARTS; part++) {
        if (!wants(l, part))
            continue;
        const struct entry *at = slot_of(c, key_of(l, part));
        out[part] = (struct media_window){.offset = at->offset, .bytes = at->bytes};
        if (!at->bytes || at->dropped)
            return false;
    }
    return true;
}

bool clip_cache_has(const struct clip_cache *c, const struct lease *l)
{
    struct media_window wide[MEDIA_PARTS];
    return find(c, l, wide);
}

bool clip_cache_use(const struct clip_cache *c, const struct lease *l, struct media_job *job, int *out_fd)
{
    job->keep = serves(c, l);
    if (!job->keep || !find(c, l, job->wide))
        return false;
    job->keep = false;
    job->kind = MEDIA_JOB_CUT;
    *out_fd = c->fd;
    return true;
}

static uint64_t align(uint64_t n)
{
    return (n + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static void put_part(struct clip_cache *c, XXH128_hash_t key, const uint8_t *bytes, uint64_t n)
{
    struct entry *at = slot_of(c, key);
    c->taken += !at->bytes;
    c->parts++;
    memcpy(c->bytes + c->used, bytes, n);
    *at = (struct entry){.key = key, .offset = c->used, .bytes = n};
    c->used += align(n);
}

void clip_cache_put(struct clip_cache *c, const struct lease *l, const struct media_job *job,
                    const struct media_result *r, const uint8_t *slot)
{
    bool wanted[MEDIA_PARTS];
    uint64_t need = 0;
    for (int part = 0; c && job->keep && part < MEDIA_PARTS; part++) {
        const struct entry *at = slot_of(c, key_of(l, part));
        wanted[part] = r->wide_bytes[part] && (!at->bytes || at->dropped);
        need += wanted[part] ? align(r->wide_bytes[part]) : 0;
    }
    if (!need || need > c->size - c->used || (c->slots < (c->taken + MEDIA_PARTS) * 2 && !grow(c)))
        return;
    /* Memory that is not there is an error here, and would be a signal when it is written to. */
    if (fallocate(c->fd, 0, (off_t)c->used, (off_t)need) < 0)
        return;
    for (int part = 0; part < MEDIA_PARTS; part++)
        if (wanted[part])
            put_part(c, key_of(l, part), slot + media_wide_offset(job, r->clip, part), r->wide_bytes[part]);
}

void clip_cache_drop(struct clip_cache *c, const struct lease *l)
{
    for (int part = 0; c && part < MEDIA_PARTS; part++) {
        struct entry *at = slot_of(c, key_of(l, part));
        if (!wants(l, part) || !at->bytes || at->dropped)
            continue;
        at->dropped = true;
        c->parts--;
    }
}

struct clip_cache_counters clip_cache_counters(const struct clip_cache *c)
{
    if (!c)
        return (struct clip_cache_counters){0};
    return (struct clip_cache_counters){.bytes = c->size, .used = c->used, .parts = c->parts};
}
