/* samples_in: the trainer's end of the edge samples: checks a sample against its lease and puts it into its
 * batch. Loop thread only. What does not fit is counted and dropped; a late double is dropped by its key. */
#pragma once
#include "lib/media/codes.h"
#include "lib/wire.h"

struct trainer;

struct samples_in_counters {
    uint64_t taken, stale, malformed, lost, quarantined;
    uint64_t padded, looped,
        silent; /* taken, but made up in part: the policies of data.short_clip, no_audio */
    uint64_t reasons[MEDIA_REASONS]; /* of the quarantined */
};

/* `env` carries a Sample. */
void samples_in_message(struct trainer *t, const Xdc__Envelope *env, const struct wire_frame *raw,
                        size_t n_raw);
