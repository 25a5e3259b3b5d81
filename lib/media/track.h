/* track: one stream of a file under examination: what decoding it from start to end shows.
 * Used by examine alone. One thread. Owns its decoder. Functions that can fail return 0 or an enum
 * media_reason and a sentence. */
#pragma once
#include <stdbool.h>
#include "lib/media/input.h"
#include "lib/media/stream_decoder.h"

struct track {
    struct input *in;
    int stream;                    /* -1: the file has none of the kind */
    struct stream_decoder decoder; /* open where reason is 0 */
    int reason;                    /* why it cannot be decoded at all, and a sentence */
    struct err why;

    uint64_t packets, undated; /* without those that are not to be shown; without any time stamp */
    bool dated;
    double start_s, end_s; /* stream time of the packets that have one */

    uint64_t frames, damaged; /* damaged: frames that the decoder marked; it counts refused packets itself */
    uint64_t samples;
    bool framed;
    double frame_start_s;       /* stream time of the first frame */
    double last_s, last_step_s; /* of the newest frame */
    uint64_t backwards, uneven; /* steps */
    double jump_s;              /* the most absurd step, 0 for none */
    int width, height;          /* of the newest picture */
    float loudest;              /* |sample|, full scale = 1 */
    bool nonfinite;
    uint32_t facts;
};

/* stream: -1 for none. What keeps it from being decoded goes to t->reason. */
void track_open(struct track *t, struct input *in, int stream);
/* Safe on a zeroed struct. */
void track_close(struct track *t);
/* Takes the packet's time and decodes it into `frame`; pkt NULL: the end of the stream. MEDIA_MEMORY_LIMIT.
 */
int track_take(struct track *t, const AVPacket *pkt, AVFrame *frame, struct err *e) WARN_UNUSED;
/* Packets refused and frames marked. */
uint64_t track_faults(const struct track *t);
/* Frames at uneven distances, more than damage explains. */
bool track_is_vfr(const struct track *t);
/* Time stamps that no clip time can be found by; says which. */
bool track_bad_times(const struct track *t, struct err *e);
