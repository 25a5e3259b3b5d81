/* explain_clip: all that a run knows of one clip, as text or JSON. Used by cmd_explain. Blocking; one thread.
 * Owns nothing. What is no longer there is said, and is no failure; a clip, run or manifest that there is not
 * is one. */
#pragma once
#include <stdbool.h>
#include "lib/err.h"

/* `clip`: a number, or URI[@SECONDS]. Prints to stdout. */
int explain_clip(const char *clip, const char *run, bool json, struct err *e) WARN_UNUSED;
