/* video_plan: which packets of a stream have to be decoded for given frames, found from their time stamps
 * before anything is decoded. Between a key frame and the first wanted frame most packets only serve as
 * references, and those that serve as none need not be decoded at all; after the last wanted frame nothing
 * is. Used by video_decode. One thread. Owns its packets, kept from clip to clip.
 *
 * Streams without time stamps, with two packets of one time (fields), or with more than 4096 packets or 64
 * MiB from the key frame to the last frame have no plan: they are decoded straight on (video_pass). */
#pragma once
#include <libavcodec/avcodec.h>
#include "lib/media/input.h"

struct plan_packet {
    AVPacket *pkt; /* owned */
    double s;      /* clip time */
    bool shown;    /* makes a frame: not cut off by an edit list */
    bool wanted;
};

struct video_plan {
    struct plan_packet *packets; /* owned; those up to `capacity` hold a packet to be used again */
    size_t n, capacity, bytes;
    size_t *order; /* owned: shown packets by time */
    size_t n_order, order_capacity;
    size_t last;  /* in order of decoding, the last one wanted */
    bool ended;   /* the stream's end was met */
    double end_s; /* where the last frame ends that was met */
};

enum plan_result {
    PLAN_MADE = 0,
    PLAN_NONE = -1,    /* this stream has no plan */
    PLAN_EARLIER = -2, /* reading began after the first wanted frame: begin earlier */
};

/* Reads from where the input stands, until no later packet can belong to a frame before or at to_s; with
 * `count`, until that many frames at or after from_s are known. at_start: there is nothing before. */
enum plan_result video_plan_read(struct video_plan *p, struct input *in, double from_s, double to_s,
                                 uint32_t count, bool at_start);
/* Index (into packets) of the last frame at or before s, or of the first one. */
size_t video_plan_at(const struct video_plan *p, double s);
/* Place in `order` of the first frame at or after s; n_order: there is none. */
size_t video_plan_from(const struct video_plan *p, double s);
/* The packet is to be decoded and its frame to be used. */
void video_plan_want(struct video_plan *p, size_t packet);
/* Whether a packet that is not wanted must be decoded for others; the codec is told to pass over what the
 * container does not show (skip_frame). */
bool video_plan_needed(const struct input *in, const AVPacket *pkt);
/* Lets go of the packets' data. */
void video_plan_clear(struct video_plan *p);
void video_plan_close(struct video_plan *p);
