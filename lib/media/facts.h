/* facts: what is unusual about a media file and does no harm, as its headers and frames tell it.
 * Used by session (probe) and examine inside the media worker. Pure but for a look at the file's head. */
#pragma once
#include <libavutil/frame.h>
#include "lib/media/input.h"

/* media_fact_bit of each that the headers tell. `in` was opened with INPUT_LOOK_FULL. */
uint32_t facts_of_input(const struct input *in);
/* The same of one frame of the video stream. */
uint32_t facts_of_frame(const AVFrame *frame);
/* Whether a file with video lacks an index of its own, so that a list of its key frames is of use. */
bool facts_lack_index(const struct input *in);
