#include "services/clusterer/assign_device.h"
#include "lib/torch/scores.h"
#include "services/clusterer/rows.h"

#if defined(XDC_ASSIGN_TORCH)

static struct scores *scores;
static struct nearest_device device;

static int centroids(void *of, const float *c, const float *offset, uint32_t k, uint32_t d, struct err *e)
{
    return scores_centroids(of, c, offset, k, d, e);
}

static int rows(void *of, unsigned worker, const float *x, const uint32_t *pick, uint32_t n, uint32_t *label,
                float *best, float *second, struct err *e)
{
    return scores_rows(of, worker, x, pick, n, label, best, second, e);
}

int assign_device_open(const struct conf *c, struct nearest_device **out, struct err *e)
{
    *out = NULL;
    enum net_device wanted = (enum net_device)c->cluster.device;
    if (wanted == NET_DEVICE_CPU || (wanted == NET_DEVICE_AUTO && net_gpus() == 0))
        return 0;
    int rc = scores_open(wanted, 0, rows_threads(c->cluster.threads), &scores, e);
    if (rc < 0) {
        err_wrap(e, "cluster.device");
        return rc;
    }
    device = (struct nearest_device){
        .name = scores_device(scores), .of = scores, .centroids = centroids, .rows = rows};
    *out = &device;
    return 0;
}

void assign_device_close(void)
{
    scores_close(scores);
    scores = NULL;
}

#else

int assign_device_open(const struct conf *c, struct nearest_device **out, struct err *e)
{
    *out = NULL;
    if ((enum net_device)c->cluster.device != NET_DEVICE_CUDA)
        return 0;
    return err_set(e, XDC_ECONF,
                   "cluster.device: cuda is asked for, but this build is against a libtorch without CUDA: "
                   "install-deps.sh --libtorch cu130, cmake --preset cuda, or cluster.device: auto");
}

void assign_device_close(void)
{
}

#endif
