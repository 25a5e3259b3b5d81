/* quarantine: clips that their own file keeps from being used, with a reason each: those that the run met,
 * and all of the videos that the doctor found at fault before it began. Written by the training thread, read
 * by the loop; a lock inside. Owns its arrays, sorted by clip and by video. */
#pragma once
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/quarantine_file.h"

struct quarantine_entry {
    uint64_t clip;
    uint32_t reason; /* lib/media/codes.h */
};

struct quarantine {
    pthread_mutex_t lock;
    struct quarantine_entry *entries; /* owned */
    size_t n, cap;
    struct quarantined_video *videos; /* owned; fixed before the threads start */
    size_t n_videos;
    uint32_t clips_per_video;
};

/* What a run needs of a video; faults that concern nothing of it do not count. */
struct quarantine_needs {
    bool video, audio;
    bool keep_silent; /* no sound, or silence, will do */
};

void quarantine_init(struct quarantine *q);
void quarantine_close(struct quarantine *q);
/* 1 when it is new, 0 when it was there, -ENOMEM. */
int quarantine_add(struct quarantine *q, uint64_t clip, uint32_t reason) WARN_UNUSED;
/* The reason, 0 when the clip is not in. */
uint32_t quarantine_reason(struct quarantine *q, uint64_t clip);
/* The code of a clip's video, 0 when the doctor found no fault. */
uint32_t quarantine_video_code(const struct quarantine *q, uint64_t clip);
/* Clips that the run met; those of the doctor's videos are not counted. */
size_t quarantine_count(struct quarantine *q);

/* Takes the videos of <run_dir>/videos.quarantine, where it exists. In a new run (`fresh`) that is first made
 * as a copy of <manifest>.quarantine, if there is one: a run that goes on sees the same set whatever the
 * doctor finds meanwhile. XDC_EMISMATCH when it is of another manifest. */
int quarantine_take_videos(struct quarantine *q, const char *run_dir, const char *manifest,
                           uint64_t manifest_id, bool fresh, const struct quarantine_needs *needs,
                           uint32_t clips_per_video, struct err *e) WARN_UNUSED;
/* The first n of them, sorted by clip. */
void quarantine_copy(struct quarantine *q, struct quarantine_entry *out, size_t n);
/* [[clip, reason], ...], a new reference; NULL without memory. */
json_t *quarantine_to_json(struct quarantine *q);
/* Replaces the contents. XDC_EFORMAT. */
int quarantine_from_json(struct quarantine *q, const json_t *j, struct err *e) WARN_UNUSED;
