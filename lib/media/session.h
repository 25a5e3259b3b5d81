/* session: does media jobs one after the other, with everything kept that may serve the next: codecs, scaler,
 * resampler, log-mel tables, packets. Used by the media worker (and by benchmarks, in process); one thread.
 * Owns those contexts. A codec is used again only for a stream of equal parameters, after a flush, and only
 * if nothing went wrong in it: what one file can leave behind for the next ends there, and with the worker.
 * What a file does wrong is a reason in its result. */
#pragma once
#include "lib/media/media.h"

struct media_session;

/* The answer to one clip, or to the job; false ends the job. */
typedef bool (*media_session_answer)(void *arg, const struct media_result *r);

/* 0 or -ENOMEM. */
int media_session_create(struct media_session **out, struct err *e) WARN_UNUSED;
/* Accepts NULL. */
void media_session_destroy(struct media_session *s);
/* Runs a job on `file` (-1: none came). The samples of its clips go to slot, one after the other; a probe
 * with room for MEDIA_KEYFRAMES_MAX key frames there puts them at its start. `answer` is called as soon as a
 * clip is done. Blocking. */
void media_session_run(struct media_session *s, const struct media_job *job, int file, uint8_t *slot,
                       uint64_t slot_bytes, media_session_answer answer, void *arg);
