#include "services/trainer/memory_check.h"

#include <stdio.h>
#include "lib/log.h"
#include "lib/memory.h"
#include "services/trainer/memory_need.h"

#define CERTAIN 0.5 /* of the estimate: less is not needed by any step */
#define GIB (1024.0 * 1024.0 * 1024.0)

int memory_check(const struct conf *c, const struct net_spec *spec, struct err *e)
{
    struct memory_need n;
    char said[768];
    bool gpu = spec->device != NET_DEVICE_CPU && net_gpus() > 0;
    double available = gpu ? net_gpu_free(spec->gpu) : memory_free();
    const char *where = gpu ? "the GPU's memory" : "memory";
    memory_need(c, spec, &n);
    if (gpu)
        n.total = n.activations + n.weights;
    log_info("a training step will take about %.2f GiB of %s, %.2f GiB are free", n.total / GIB, where,
             available / GIB);
    if (available <= 0 || n.total <= available)
        return 0;
    snprintf(said, sizeof said,
             "a training step takes about %.1f GiB of %s (activations %.1f, weights with momentum and "
             "gradients %.1f, decoded samples %.1f, a checkpoint's copy %.1f) and %.1f GiB are free: set "
             "train.micro_batch (now %lld, 0: the whole batch) or train.recompute: true (now %s), or lower "
             "train.batch (now %lld), video.crop (now %lld) or video.frames (now %lld)",
             n.total / GIB, where, n.activations / GIB, n.weights / GIB, n.samples / GIB, n.checkpoint / GIB,
             available / GIB, (long long)c->train.micro_batch, c->train.recompute ? "true" : "false",
             (long long)c->train.batch, (long long)c->video.crop, (long long)c->video.frames);
    if (CERTAIN * n.total > available)
        return err_set(e, XDC_ECONF, "%s", said);
    log_warn("%s", said);
    return 0;
}
