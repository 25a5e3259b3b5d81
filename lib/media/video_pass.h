/* video_pass: a clip's frames by decoding straight on from a point before it, whatever the packets say of
 * themselves: for streams that video_plan cannot plan, and where a plan's frames did not come. Used by
 * video_decode. One thread. Owns nothing after it returns. Functions return 0 or an enum media_reason and a
 * sentence. */
#pragma once
#include "lib/media/picture.h"
#include "lib/media/stream_decoder.h"

/* How far back decoding starts: a container may seek to a key frame whose pictures come later than asked
 * for. */
enum start_level { AT_TARGET, BEFORE_TARGET, FAR_BEFORE, AT_BEGINNING };

/* How it went. */
struct video_end {
    uint32_t done; /* frames put out that are the video's own, at most T */
    bool ended;    /* the end of the stream was met */
    double end_s;  /* then: where the last frame ends */
};

/* Moves the input to where decoding for target_s (clip time) may start. */
int video_pass_start(struct stream_decoder *d, const struct media_clip *clip, double target_s,
                     enum start_level level, struct err *e) WARN_UNUSED;
/* Whether that is the stream's beginning. */
bool video_pass_at_beginning(double target_s, enum start_level level);

/* d is open on the input's video stream. out [T, P, P, 3]: the first end->done frames are written. */
int video_pass_decode(struct stream_decoder *d, const struct media_job *job, const struct media_clip *clip,
                      struct picture *p, uint8_t *out, struct video_end *end, struct err *e) WARN_UNUSED;
/* The data ended well before the clip although the manifest, and the stream's own header, promise more:
 * MEDIA_TRUNCATED. */
int video_pass_check(const struct input *in, const struct media_job *job, const struct media_clip *clip,
                     const struct video_end *end, struct err *e) WARN_UNUSED;
