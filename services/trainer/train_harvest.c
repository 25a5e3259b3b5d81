/* Features kept between a round's last epoch and the next extraction (train.harvest). */
#include <errno.h>
#include "services/trainer/train_loop.h"
#include "services/trainer/trainer.h"

static struct harvest_spec spec_of(const struct train_loop *l, uint32_t round)
{
    return (struct harvest_spec){
        .run_dir = l->t->conf.run.dir,
        .run = l->t->run,
        .round = round,
        .dims = {net_feature_dim(l->net, NET_VIDEO), net_feature_dim(l->net, NET_AUDIO)}};
}

int train_harvest_begin(struct train_loop *l, uint64_t positions, struct err *e)
{
    const struct trainer *t = l->t;
    bool last = l->state.epoch + 1 == train_epochs(l);
    if (!t->conf.train.harvest || !last || !train_learns(l, NET_VIDEO) || !train_learns(l, NET_AUDIO))
        return 0;
    struct harvest_spec spec = spec_of(l, l->state.round + 1);
    uint64_t clips = clip_set_size(&t->set), rows = positions < clips ? positions : clips;
    bool anew = t->meet.rank == 0 && l->state.batch == 0; /* before any rank has made a step */
    return harvest_create(&spec, anew, rows, (uint64_t)t->conf.limits.disk_reserve_mib, &l->harvest, e);
}

int train_harvest_read(struct train_loop *l, struct harvest **out, struct err *e)
{
    struct harvest_spec spec = spec_of(l, l->state.round);
    int rc = harvest_open(&spec, out, e);
    if (rc != -ENOENT)
        return rc;
    *out = NULL;
    return 0;
}
