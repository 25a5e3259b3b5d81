/* clip: which clips there are, when they start, in which order they are visited and which are held out;
 * computed, never stored. Used by the trainer (orders, leases), the clusterer (the hold-out), the command
 * (labels, explain, embed). Pure but for clip_set, which owns one bitmap. clip id = video index x
 * clips_per_video + j. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

/* Seconds into the video at which clip `clip` starts: uniform over [0, duration - span], the same in every
 * round; 0 when the video is not longer than the span. */
double clip_start_s(uint64_t seed, uint64_t clip, double duration_s, double span_s);

enum clip_placing { CLIP_RANDOM, CLIP_UNIFORM, CLIP_WINDOWS };

/* When the clips of a video start (data.clip_times). Windows [i stride, i stride + window) are each covered
 * by one clip or more, evenly spaced from its beginning to its end, of one in its middle; a clip that would
 * leave the video is moved into it. */
struct clip_times {
    enum clip_placing placing;
    uint64_t seed; /* of random ones */
    uint32_t clips_per_video;
    double window_s, stride_s; /* 0: a clip's span; the window */
};
/* Seconds into the video at which clip `clip` starts; 0 when the video is not longer than the span. Random:
 * clip_start_s. Uniform: the first clip of several at the beginning, the last one at the end, evenly spaced;
 * a single one in the middle. */
double clip_times_start_s(const struct clip_times *t, uint64_t clip, double duration_s, double span_s);
/* How many of clips_per_video a video has: all, or of windows those whose middle lies in the video, at least
 * one window; may be more than clips_per_video then. */
uint64_t clip_times_count(const struct clip_times *t, double duration_s, double span_s);
/* Clips that cover a window: as few as leave no gap; 1 where there are no windows. */
uint32_t clip_times_cover(const struct clip_times *t, double span_s);

/* Seed of a clip's augmentation: a function of (seed, round, epoch, clip). */
uint64_t clip_augment_seed(uint64_t seed, uint32_t round, uint32_t epoch, uint64_t clip);

/* A keyed bijection of 0..n-1 (balanced Feistel network with cycle walking): a random order without an array.
 */
struct clip_order {
    uint64_t key;
    uint64_t n;
    unsigned half_bits;
};
/* n > 0. */
void clip_order_init(struct clip_order *o, uint64_t key, uint64_t n);
/* i < n; returns a value < n, each exactly once over all i. */
uint64_t clip_order_at(const struct clip_order *o, uint64_t i);
/* The inverse: clip_order_find(o, clip_order_at(o, i)) == i. */
uint64_t clip_order_find(const struct clip_order *o, uint64_t value);

#define CLIP_HOLDOUT_MAX 10000 /* clips */

/* The hold-out: videos on which nothing is trained and no centroid is fitted, the same ones in every round.
 * Trainer and clusterer both make it of the configuration and the manifest's size. */
struct clip_holdout {
    struct clip_order order; /* of all videos; the first ones are held out */
    uint64_t held;           /* videos; 0: none */
};
/* `share` of the videos, rounded down, and at most CLIP_HOLDOUT_MAX clips; none where there are fewer than
 * `min_clips` clips. */
void clip_holdout_init(struct clip_holdout *h, uint64_t seed, double share, uint64_t min_clips,
                       uint64_t videos, uint32_t clips_per_video);
bool clip_holdout_has(const struct clip_holdout *h, uint64_t video);

/* The videos of a run (those with split train, or all): one bit a video, and a count per 512 bits for select.
 */
struct clip_set {
    uint64_t videos;
    uint64_t members;
    uint32_t clips_per_video;
    uint64_t *bits;   /* owned */
    uint64_t *counts; /* owned: members before each block of 512 videos */
};
int clip_set_init(struct clip_set *s, uint64_t videos, uint32_t clips_per_video, struct err *e) WARN_UNUSED;
void clip_set_close(struct clip_set *s);
void clip_set_add(struct clip_set *s, uint64_t video);
/* Counts the members; call once after the last add, before size and at. */
void clip_set_finish(struct clip_set *s);
/* Leaves n of the members of a finished set, drawn by the seed; a larger n has all of a smaller one. -EINVAL
 * when there are fewer. */
int clip_set_draw(struct clip_set *s, uint64_t seed, uint64_t n, struct err *e) WARN_UNUSED;
bool clip_set_has(const struct clip_set *s, uint64_t video);
/* members x clips_per_video. */
uint64_t clip_set_size(const struct clip_set *s);
/* The clip id of the i-th clip of the set, in clip order; i < size. */
uint64_t clip_set_at(const struct clip_set *s, uint64_t i);
