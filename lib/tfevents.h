/* tfevents: a TensorBoard event file: scalars by tag and step. Used by the trainer's events. Blocking; one
 * thread. Owns the descriptor. Every scalar is one record and one write, so nothing waits for a flush; a
 * write that fails is cut off again, and the file still ends with a whole record. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

#define TFEVENTS_TAG_MAX 256

struct tfevents;

/* Creates dir/events.out.tfevents.<unix time>.<host>.<pid>; the directory must exist. TensorBoard joins all
 * files of a directory in the order of their names. Of what earlier files hold, this one makes all void from
 * `first_step` on: that is trained again. */
int tfevents_open(const char *dir, uint64_t first_step, struct tfevents **out, struct err *e) WARN_UNUSED;
/* `time_s`: wall time, Unix. A tag of TFEVENTS_TAG_MAX bytes or more is -ENAMETOOLONG. */
int tfevents_scalar(struct tfevents *t, double time_s, uint64_t step, const char *tag, float value,
                    struct err *e) WARN_UNUSED;
void tfevents_close(struct tfevents *t);
