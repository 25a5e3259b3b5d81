/* What a clip costs a decoder. */
#include <math.h>
#include "cli/plan.h"

/* Milliseconds of one core, fitted to 20 measured kinds of clips (bench/RESULTS.md, "Decoding", what clips of
 * other kinds take), all within 7 %. Only their ratios count: the rate is another machine's. */
#define OPEN_MS 1.18      /* whatever is decoded */
#define SOUND_MS 1.55     /* 2 s to log-mel */
#define LEAD_MS 0.0230    /* a thousand pixels of the source: frames between a key frame and the clip */
#define FRAME_MS 0.00209  /* a thousand pixels of the source and frame within the clip */
#define CROP_MS 0.00366   /* a thousand pixels that are sent */
#define MEASURED_FPS 30.0 /* with a key frame a second */

static double clip_ms(double pixels, double fps, double frames, double crop, double clip_fps, bool audio)
{
    double every = clip_fps > 0 ? fmax(1, fps / clip_fps) : 1; /* frames decoded for one that is wanted */
    return OPEN_MS + (audio ? SOUND_MS : 0) +
           pixels / 1e3 * (LEAD_MS * fps / MEASURED_FPS + FRAME_MS * frames * every) +
           CROP_MS * frames * crop * crop / 1e3;
}

double plan_decode_s(const struct conf *c, const struct plan_videos *v, bool video, bool audio,
                     double clips_per_s)
{
    double measured = clip_ms(340 * 256, MEASURED_FPS, 8, 112, MEASURED_FPS, true);
    double ms = video ? clip_ms(v->pixels, v->fps, (double)c->video.frames, (double)c->video.crop,
                                c->video.fps, audio)
                      : OPEN_MS + SOUND_MS;
    return video || audio ? ms / measured / clips_per_s : 0;
}
