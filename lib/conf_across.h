/* conf_across: what only several values of a configuration together can get wrong. Used by conf alone. Pure;
 * any thread; owns nothing. */
#pragma once
#include "lib/conf.h"

/* A fault between the keys a and b, which may be the same. */
typedef void (*conf_on_conflict)(void *arg, const char *a, const char *b, const char *what);

void conf_across(const struct conf *c, conf_on_conflict on_conflict, void *arg);
