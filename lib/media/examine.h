/* examine: decodes the whole of a file's chosen video and sound once, and says what is wrong with it and what
 * is unusual. Used by session for `xdc doctor`. One pass over the file, one packet and one frame at a time;
 * one thread; owns nothing after it returns. */
#pragma once
#include "lib/media/input.h"

/* `in` was opened with INPUT_LOOK_FULL and nothing has been read since. job->recipe says which streams are
 * needed, and min_sound_s: only those can be at fault. Fills out->facts, ->missing and ->examination. 0 or
 * the one enum media_reason that tells most, and a sentence. */
int examine_file(struct input *in, const struct media_job *job, struct media_result *out,
                 struct err *e) WARN_UNUSED;
