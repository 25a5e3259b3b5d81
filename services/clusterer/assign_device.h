/* assign_device: the GPU on which the clusterer computes distances, as cluster.device says. Used by
 * xdc-clusterer's main. In a build against a libtorch for CUDA it is lib/torch's (scores.h); in others there
 * is none. One thread. */
#pragma once
#include "lib/conf.h"
#include "services/clusterer/nearest_device.h"

/* *out: owned by this module until assign_device_close, or NULL where the CPU does it all. XDC_ECONF for a
 * GPU that is demanded and not there. */
int assign_device_open(const struct conf *c, struct nearest_device **out, struct err *e) WARN_UNUSED;
void assign_device_close(void);
