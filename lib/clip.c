#include "lib/clip.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "lib/rng.h"

enum { BLOCK_WORDS = 8, BLOCK_VIDEOS = 64 * BLOCK_WORDS, FEISTEL_ROUNDS = 6 };
#define TIME_SLACK 1e-9 /* of a quotient that is whole but for rounding */

double clip_start_s(uint64_t seed, uint64_t clip, double duration_s, double span_s)
{
    double room = duration_s - span_s;
    if (!(room > 0) || !isfinite(room))
        return 0;
    struct rng r;
    rng_init(&r, rng_key(seed, "clip-start", clip, 0, 0));
    return room * rng_uniform(&r);
}

static double window_s(const struct clip_times *t, double span_s)
{
    return t->window_s > 0 ? t->window_s : span_s;
}

static double stride_s(const struct clip_times *t, double span_s)
{
    return t->stride_s > 0 ? t->stride_s : window_s(t, span_s);
}

uint32_t clip_times_cover(const struct clip_times *t, double span_s)
{
    if (t->placing != CLIP_WINDOWS || !(span_s > 0))
        return 1;
    return (uint32_t)fmin(fmax(1, ceil(window_s(t, span_s) / span_s - TIME_SLACK)), UINT32_MAX);
}

uint64_t clip_times_count(const struct clip_times *t, double duration_s, double span_s)
{
    if (t->placing != CLIP_WINDOWS)
        return t->clips_per_video;
    double last = (duration_s - window_s(t, span_s) / 2) / stride_s(t, span_s);
    double windows = last > 0 && isfinite(last) ? floor(last + TIME_SLACK) + 1 : 1;
    return (uint64_t)fmin(windows, UINT32_MAX) * clip_times_cover(t, span_s);
}

static double window_clip_s(const struct clip_times *t, uint64_t j, double span_s)
{
    uint32_t cover = clip_times_cover(t, span_s);
    double slack = window_s(t, span_s) - span_s;
    double within = cover > 1 ? slack * (double)(j % cover) / (cover - 1) : slack / 2;
    return (double)(j / cover) * stride_s(t, span_s) + within;
}

double clip_times_start_s(const struct clip_times *t, uint64_t clip, double duration_s, double span_s)
{
    double room = duration_s - span_s;
    uint64_t j = clip % t->clips_per_video, n = t->clips_per_video;
    if (t->placing == CLIP_RANDOM)
        return clip_start_s(t->seed, clip, duration_s, span_s);
    if (!(room > 0) || !isfinite(room))
        return 0;
    if (t->placing == CLIP_UNIFORM)
        return n > 1 ? room * (double)j / (double)(n - 1) : room / 2;
    return fmin(fmax(window_clip_s(t, j, span_s), 0), room);
}

uint64_t clip_augment_seed(uint64_t seed, uint32_t round, uint32_t epoch, uint64_t clip)
{
    return rng_key(seed, "augment", round, epoch, clip);
}

void clip_order_init(struct clip_order *o, uint64_t key, uint64_t n)
{
    assert(n > 0);
    o->key = key;
    o->n = n;
    o->half_bits = 1;
    while (o->half_bits < 32 && (n - 1) >> (2 * o->half_bits))
        o->half_bits++;
}

static uint64_t half_mask(const struct clip_order *o)
{
    return ((uint64_t)1 << o->half_bits) - 1;
}

/* The round function: the key, the round and one half, mixed; the factor keeps neighbours far apart. */
static uint64_t feistel_f(const struct clip_order *o, unsigned round, uint64_t half)
{
    struct rng r;
    rng_init(&r, (o->key ^ (round + 1) * 0xd1342543de82ef95u) + half * 0xa0761d6478bd642fu);
    return rng_next(&r) & half_mask(o);
}

static uint64_t feistel(const struct clip_order *o, uint64_t x)
{
    uint64_t left = x >> o->half_bits, right = x & half_mask(o);
    for (unsigned round = 0; round < FEISTEL_ROUNDS; round++) {
        uint64_t next = left ^ feistel_f(o, round, right);
        left = right;
        right = next;
    }
    return left << o->half_bits | right;
}

static uint64_t feistel_inverse(const struct clip_order *o, uint64_t x)
{
    uint64_t left = x >> o->half_bits, right = x & half_mask(o);
    for (unsigned round = FEISTEL_ROUNDS; round-- > 0;) {
        uint64_t before = right ^ feistel_f(o, round, left);
        right = left;
        left = before;
    }
    return left << o->half_bits | right;
}

/* Cycle walking: the network permutes a power of four of at most 4 n values; what falls outside n is sent
 * through again. */
uint64_t clip_order_at(const struct clip_order *o, uint64_t i)
{
    assert(i < o->n);
    do
        i = feistel(o, i);
    while (i >= o->n);
    return i;
}

uint64_t clip_order_find(const struct clip_order *o, uint64_t value)
{
    assert(value < o->n);
    do
        value = feistel_inverse(o, value);
    while (value >= o->n);
    return value;
}

void clip_holdout_init(struct clip_holdout *h, uint64_t seed, double share, uint64_t min_clips,
                       uint64_t videos, uint32_t clips_per_video)
{
    *h = (struct clip_holdout){0};
    if (videos == 0 || videos * clips_per_video < min_clips)
        return;
    uint64_t most = CLIP_HOLDOUT_MAX / clips_per_video;
    double wanted = floor(share * (double)videos);
    h->held = wanted < (double)most ? (uint64_t)wanted : most;
    clip_order_init(&h->order, rng_key(seed, "holdout", 0, 0, 0), videos);
}

bool clip_holdout_has(const struct clip_holdout *h, uint64_t video)
{
    return h->held && video < h->order.n && clip_order_find(&h->order, video) < h->held;
}

static uint64_t set_blocks(const struct clip_set *s)
{
    return (s->videos + BLOCK_VIDEOS - 1) / BLOCK_VIDEOS;
}

int clip_set_init(struct clip_set *s, uint64_t videos, uint32_t clips_per_video, struct err *e)
{
    *s = (struct clip_set){.videos = videos, .clips_per_video = clips_per_video};
    if (!clips_per_video || videos > UINT64_MAX / 2 / clips_per_video)
        return err_set(e, -EINVAL, "%llu videos with %u clips each are no set of clips",
                       (unsigned long long)videos, clips_per_video);
    uint64_t blocks = set_blocks(s);
    s->bits = calloc(blocks + 1, BLOCK_WORDS * sizeof *s->bits);
    s->counts = calloc(blocks + 1, sizeof *s->counts);
    if (s->bits && s->counts)
        return 0;
    clip_set_close(s);
    return err_sys(e, ENOMEM, "a set of %llu videos", (unsigned long long)videos);
}

void clip_set_close(struct clip_set *s)
{
    free(s->bits);
    free(s->counts);
    s->bits = NULL;
    s->counts = NULL;
}

void clip_set_add(struct clip_set *s, uint64_t video)
{
    assert(video < s->videos);
    s->bits[video / 64] |= (uint64_t)1 << video % 64;
}

void clip_set_finish(struct clip_set *s)
{
    uint64_t blocks = set_blocks(s), members = 0;
    for (uint64_t b = 0; b < blocks; b++) {
        s->counts[b] = members;
        for (unsigned w = 0; w < BLOCK_WORDS; w++)
            members += (uint64_t)__builtin_popcountll(s->bits[b * BLOCK_WORDS + w]);
    }
    s->counts[blocks] = members;
    s->members = members;
}

bool clip_set_has(const struct clip_set *s, uint64_t video)
{
    return video < s->videos && (s->bits[video / 64] >> video % 64 & 1);
}

uint64_t clip_set_size(const struct clip_set *s)
{
    return s->members * s->clips_per_video;
}

/* The video that is the rank-th member: the block by bisection, the word by counting, the bit by clearing
 * lower ones. */
static uint64_t set_select(const struct clip_set *s, uint64_t rank)
{
    uint64_t lo = 0, hi = set_blocks(s);
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (s->counts[mid] <= rank)
            lo = mid;
        else
            hi = mid;
    }
    rank -= s->counts[lo];
    uint64_t word = lo * BLOCK_WORDS;
    for (;; word++) {
        uint64_t n = (uint64_t)__builtin_popcountll(s->bits[word]);
        if (rank < n)
            break;
        rank -= n;
    }
    uint64_t bits = s->bits[word];
    while (rank--)
        bits &= bits - 1;
    return word * 64 + (uint64_t)__builtin_ctzll(bits);
}

uint64_t clip_set_at(const struct clip_set *s, uint64_t i)
{
    assert(i < clip_set_size(s));
    return set_select(s, i / s->clips_per_video) * s->clips_per_video + i % s->clips_per_video;
}

int clip_set_draw(struct clip_set *s, uint64_t seed, uint64_t n, struct err *e)
{
    struct clip_set drawn;
    struct clip_order order;
    if (n > s->members)
        return err_set(e, -EINVAL, "%llu videos are asked for, and there are %llu", (unsigned long long)n,
                       (unsigned long long)s->members);
    if (n == s->members)
        return 0;
    int rc = clip_set_init(&drawn, s->videos, s->clips_per_video, e);
    if (rc < 0)
        return rc;
    clip_order_init(&order, rng_key(seed, "subset", 0, 0, 0), s->members);
    for (uint64_t i = 0; i < n; i++)
        clip_set_add(&drawn, set_select(s, clip_order_at(&order, i)));
    clip_set_finish(&drawn);
    clip_set_close(s);
    *s = drawn;
    return 0;
}
