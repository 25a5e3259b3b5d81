/* clip_cache: what is put in is found again, as long as there is room and by nobody else; and a pool that
 * has one cuts the second view of a clip from it, in other processes that cannot write there. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/fsutil.h"
#include "services/decoder/golden.h"
#include "services/decoder/job.h"
#include "services/decoder/pool.h"

#define MIB (UINT64_C(1) << 20)

static struct lease *new_lease(uint64_t clip, double start_s)
{
    struct lease *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->key.clip = clip;
    l->uri = strdup("good.mp4");
    l->size_bytes = golden_clip_size;
    l->video_stream = l->audio_stream = -1;
    l->duration_s = 2;
    l->clip = (struct media_clip){.start_s = start_s, .augment_seed = clip, .key_pos = -1};
    l->recipe = (struct media_recipe){.frames = 8,
                                      .resize_min = 40,
                                      .resize_max = 40,
                                      .crop = 32,
                                      .crop_jitter_px = 4,
                                      .flip_probability = 0.5,
                                      .audio_shift_s = 0.1,
                                      .augment = true,
                                      .want_video = true,
                                      .want_audio = true};
    return l;
}

static struct clip_cache *new_cache(uint64_t bytes)
{
    struct clip_cache *c = NULL;
    assert_int_equal(clip_cache_open(&c, bytes, &(struct err){0}), 0);
    return c;
}

/* As after a job whose wide parts are `fill`. */
static void put(struct clip_cache *c, const struct lease *l, uint8_t fill)
{
    struct job job;
    struct media_result r = {0};
    job_make(c, (struct lease *)(uintptr_t)l, &job);
    uint8_t *slot = malloc(job.bytes);
    assert_non_null(slot);
    memset(slot, fill, job.bytes);
    for (int part = 0; part < MEDIA_PARTS; part++)
        r.wide_bytes[part] = media_wide_bytes(&job.media, part);
    clip_cache_put(c, l, &job.media, &r, slot);
    free(slot);
}

static void assert_found(struct clip_cache *c, struct lease *l, int fill)
{
    struct job job;
    uint8_t byte[2];
    job_make(c, l, &job);
    assert_int_equal(job.media.kind, fill < 0 ? MEDIA_JOB_DECODE : MEDIA_JOB_CUT);
    assert_int_equal(job.n, 1);
    assert_int_equal(job.fd < 0, fill < 0);
    for (int part = 0; fill >= 0 && part < MEDIA_PARTS; part++) {
        const struct media_window *w = &job.media.wide[part];
        if (!w->bytes)
            continue;
        assert_int_equal(pread(job.fd, byte, 1, (off_t)w->offset), 1);
        assert_int_equal(pread(job.fd, byte + 1, 1, (off_t)(w->offset + w->bytes - 1)), 1);
        assert_int_equal(byte[0], fill);
        assert_int_equal(byte[1], fill);
    }
}

/* Whatever a wide clip depends on makes another clip of it; what is drawn for a view does not. */
static void keys_tell_clips_apart(void **state)
{
    (void)state;
    struct clip_cache *c = new_cache(64 * MIB);
    struct lease *l = new_lease(1, 0.5);
    l->state = LEASE_QUEUED;
    put(c, l, 7);
    assert_found(c, l, 7);
    l->clip.augment_seed = 99;
    l->recipe.time_mask_frames = 20;
    l->recipe.degrade = 2;
    assert_found(c, l, 7);
    l->recipe.augment = false;
    assert_found(c, l, 7);
    struct lease kept = *l;
#define DIFFERS(change)         \
    do {                        \
        change;                 \
        assert_found(c, l, -1); \
        *l = kept;              \
    } while (0)
    char other[] = "other.mp4";
    DIFFERS(l->uri = other);
    DIFFERS(l->clip.start_s = 0.6);
    DIFFERS(l->size_bytes++);
    DIFFERS(l->duration_s = 3);
    DIFFERS(l->video_stream = 0);
    DIFFERS(l->audio_stream = 1);
    DIFFERS(l->recipe.frames = 9);
    DIFFERS(l->recipe.fps = 10);
    DIFFERS(l->recipe.crop = 30);
    DIFFERS(l->recipe.resize_min = l->recipe.resize_max = 41);
    DIFFERS(l->recipe.crop_jitter_px = 3);
    DIFFERS(l->recipe.audio_shift_s = 0.2);
    DIFFERS(l->recipe.scaling = MEDIA_SCALING_EXACT);
    DIFFERS(l->recipe.short_clip = MEDIA_SHORT_LOOP);
    DIFFERS(l->recipe.keep_silent = true);
    DIFFERS(l->recipe.min_sound_s = 1);
    l->recipe.want_video = false;
    l->recipe.crop = 30;
    assert_found(c, l, 7); /* the sound has nothing to do with it */
    lease_destroy(l);
    clip_cache_close(c);
}

/* Views whose size is drawn, and clips larger than any slot, are decoded, and nothing is kept of them. */
static void not_to_be_kept(void **state)
{
    (void)state;
    struct clip_cache *c = new_cache(64 * MIB);
    struct lease *l = new_lease(1, 0.5);
    struct job job;
    job_make(c, l, &job);
    assert_true(job.media.keep);
    l->recipe.resize_max = 50;
    put(c, l, 7);
    assert_found(c, l, -1);
    l->recipe.augment = false;
    job_make(c, l, &job);
    assert_true(job.media.keep);
    l->recipe.crop_jitter_px = -1;
    l->recipe.resize_min = 4096;
    l->recipe.frames = 4096;
    job_make(c, l, &job);
    assert_false(job.media.keep);
    assert_int_equal(clip_cache_counters(c).parts, 0);
    lease_destroy(l);
    clip_cache_close(c);
}

/* A clip that was dropped is another one's no more, can be put again, and does not hide those behind it. */
static void what_is_dropped(void **state)
{
    (void)state;
    struct clip_cache *c = new_cache(256 * MIB);
    struct lease *l = new_lease(1, 0);
    l->recipe.frames = 1;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 700; i++) {
            l->clip.start_s = i;
            put(c, l, (uint8_t)(i + round));
        }
        for (unsigned i = 0; i < 700; i += 2) {
            l->clip.start_s = i;
            clip_cache_drop(c, l);
            clip_cache_drop(c, l);
        }
        assert_int_equal(clip_cache_counters(c).parts, 700);
        for (unsigned i = 0; i < 700; i++) {
            l->clip.start_s = i;
            assert_found(c, l, i % 2 ? (int)(uint8_t)i : -1);
        }
    }
    lease_destroy(l);
    clip_cache_close(c);
}

/* Many clips are found again; when the memory is full the first ones stay, and nothing else breaks. */
static void fills_up_and_stays(void **state)
{
    (void)state;
    enum { CLIPS = 2000 };
    struct clip_cache *c = new_cache(100 * MIB);
    struct lease *l = new_lease(1, 0);
    unsigned found = 0;
    l->recipe.frames = 2;
    for (unsigned i = 0; i < CLIPS; i++) {
        l->clip.start_s = i;
        put(c, l, (uint8_t)i);
        put(c, l, 255); /* twice: the first stays */
    }
    for (unsigned i = 0; i < CLIPS; i++) {
        l->clip.start_s = i;
        bool has = clip_cache_has(c, l);
        assert_found(c, l, has ? (int)(uint8_t)i : -1);

        found += has;
    }
    struct clip_cache_counters n = clip_cache_counters(c);
    assert_in_range(found, 500, CLIPS - 1);
    assert_true(n.used <= n.bytes && n.bytes - n.used < MIB && n.parts == 2 * found);
    lease_destroy(l);
    clip_cache_close(c);
}

/* A worker has the descriptor: it must not be able to change what others are cut from. */
static void nobody_else_writes(void **state)
{
    (void)state;
    struct clip_cache *c = new_cache(MIB);
    struct lease *l = new_lease(1, 0);
    struct job job;
    l->recipe.want_audio = false;
    put(c, l, 7);
    job_make(c, l, &job);
    assert_int_equal(job.media.kind, MEDIA_JOB_CUT);
    assert_int_equal(pwrite(job.fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(job.fd, 0), -1);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, job.fd, 0), MAP_FAILED);
    assert_found(c, l, 7);
    lease_destroy(l);
    clip_cache_close(c);
}

struct answers {
    struct pool pool;
    unsigned n;
    uint64_t hash[64];
};

static void on_answer(void *arg, struct lease *l)
{
    struct answers *a = arg;
    assert_int_equal(l->result.reason, MEDIA_OK);
    a->hash[l->key.clip] = l->result.hash;
    struct worker *w = l->worker;
    pool_lease_done(&a->pool, l);
    pool_worker_free(w);
    a->n++;
}

/* Decodes 12 clips, twice; without the file the second time, if so. Returns how many were cut. */
static uint64_t two_epochs(const char *dir, struct clip_cache *cache, bool unlinked, uint64_t hash[64])
{
    struct answers a = {0};
    struct err e = {0};
    char path[PATH_MAX];
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct pool_options o = {.loop = &loop,
                             .workers = 2,
                             .attempts = 1,
                             .slots = 64,
                             .limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4 * MIB},
                             .media_root = dir,
                             .cache = cache,
                             .on_answer = on_answer,
                             .arg = &a};
    assert_int_equal(fs_path(path, &e, "%s/good.mp4", dir), 0);
    assert_int_equal(fs_write_atomic(path, golden_clip, golden_clip_size, &e), 0);
    assert_int_equal(pool_init(&a.pool, &o, &e), 0);
    for (unsigned epoch = 0; epoch < 2; epoch++) {
        struct lease *l[12];
        for (unsigned i = 0; i < 12; i++) {
            l[i] = new_lease(12 * epoch + i, 0.1 * i);
            l[i]->recipe.want_audio = i < 5 || i % 3 > 0;
            l[i]->recipe.want_video = i < 5 || i % 3 < 2;
            l[i]->group = i < 5 ? 3 : 0;
        }
        pool_add(&a.pool, l, 12);
        while (a.n < 12 * (epoch + 1))
            uv_run(&loop, UV_RUN_ONCE);
        if (unlinked)
            unlink(path);
    }
    memcpy(hash, a.hash, sizeof a.hash);
    assert_int_equal(a.pool.decoded, 24);
    assert_int_equal(a.pool.held, 0);
    pool_close(&a.pool);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return a.pool.cut;
}

static void assert_equal(const uint64_t *a, const uint64_t *b)
{
    for (unsigned i = 0; i < 24; i++)
        assert_true(a[i] && a[i] == b[i]);
}

/* Samples are the same with a cache that has room for all, with one that has room for few, and without. */
static void pool_cuts_the_second_epoch(void **state)
{
    (void)state;
    char dir[] = "/tmp/xdc-test-clip-cache-XXXXXX";
    uint64_t all[64], few[64], none[64];
    struct err e;
    assert_non_null(mkdtemp(dir));
    setenv("XDC_MEDIA_WORKER", XDC_BIN_DIR "/xdc-media-worker", 1);
    struct clip_cache *cache = new_cache(64 * MIB);
    assert_int_equal(two_epochs(dir, cache, true, all), 12);
    assert_int_equal(clip_cache_counters(cache).parts, 19);
    clip_cache_close(cache);
    cache = new_cache(MIB);
    assert_in_range(two_epochs(dir, cache, false, few), 1, 11);
    clip_cache_close(cache);
    assert_int_equal(two_epochs(dir, NULL, false, none), 0);
    assert_equal(all, none);
    assert_equal(few, none);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

/* What a worker that a file has taken over has left behind costs nobody a clip: it is decoded. */
static void pool_decodes_what_is_damaged(void **state)
{
    (void)state;
    char dir[] = "/tmp/xdc-test-clip-cache-XXXXXX";
    uint64_t damaged[64], none[64];
    struct err e;
    assert_non_null(mkdtemp(dir));
    struct clip_cache *cache = new_cache(64 * MIB);
    for (unsigned i = 0; i < 12; i++) {
        struct lease *l = new_lease(i, 0.1 * i);
        put(cache, l, (uint8_t)(i * 23));
        lease_destroy(l);
    }
    assert_int_equal(clip_cache_counters(cache).parts, 24);
    assert_int_equal(two_epochs(dir, cache, false, damaged), 12);
    assert_int_equal(two_epochs(dir, NULL, false, none), 0);
    assert_equal(damaged, none);
    clip_cache_close(cache);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_tell_clips_apart),
                                       cmocka_unit_test(not_to_be_kept),
                                       cmocka_unit_test(what_is_dropped),
                                       cmocka_unit_test(fills_up_and_stays),
                                       cmocka_unit_test(nobody_else_writes),
                                       cmocka_unit_test(pool_cuts_the_second_epoch),
                                       cmocka_unit_test(pool_decodes_what_is_damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
