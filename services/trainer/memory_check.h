/* memory_check: a configuration whose training step cannot fit says so before the first one. Used by
 * train_loop. Any thread; owns nothing. */
#pragma once
#include "lib/conf.h"
#include "lib/torch/net.h"

/* Warns when the need is more than what is free, and refuses (XDC_ECONF) when it is so by far that no error
 * of the estimate explains it; both with the figures and what to change. */
int memory_check(const struct conf *c, const struct net_spec *spec, struct err *e) WARN_UNUSED;
