/* checkpoint: how long training stands still for a checkpoint of the published networks, how long writing it
 * takes, and what a step costs more while one is written. Usage: checkpoint DIR [depth width batch steps] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "services/trainer/checkpoint_writer.h"

enum { FRAMES = 8, CROP = 112, CLASSES = 256, SAVES = 6 };

struct bench {
    struct net *net;
    struct net_batch batch[NET_ENCODERS];
    int64_t *labels;
    struct checkpoint_writer writer;
    struct checkpoint_report sum, worst;
};

static void check(int rc, const struct err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "checkpoint: %s\n", e->msg);
    exit(err_exit_status(e->code));
}

static int on_written(void *arg, const struct checkpoint_report *r, struct err *e)
{
    struct bench *b = arg;
    (void)e;
    b->sum.stall_s += r->stall_s;
    b->sum.write_s += r->write_s;
    if (r->stall_s > b->worst.stall_s)
        b->worst = *r;
    return 0;
}

static void start_net(struct bench *b, uint32_t depth, uint32_t width, uint32_t n)
{
    const struct net_spec spec = {.video_depth = depth,
                                  .video_width = width,
                                  .audio_depth = depth,
                                  .audio_width = width,
                                  .frames = FRAMES,
                                  .crop = CROP,
                                  .seed = 1};
    struct err e;
    uint32_t classes = CLASSES;
    check(net_create(&spec, &b->net, &e), &e);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        check(net_reset_heads(b->net, (enum net_encoder)enc, NET_HEAD_LINEAR, 1, &classes,
                              (const uint64_t[]){enc}, &e),
              &e);
    b->batch[NET_VIDEO] = (struct net_batch){n, calloc(n, (size_t)FRAMES * CROP * CROP * 3)};
    b->batch[NET_AUDIO] = (struct net_batch){n, calloc(n, sizeof(float) * 40 * 100)};
    b->labels = calloc(n, sizeof *b->labels);
    if (!b->batch[NET_VIDEO].data || !b->batch[NET_AUDIO].data || !b->labels)
        abort();
}

/* Seconds for a step of both encoders, the mean of `steps`. */
static double steps_s(struct bench *b, unsigned steps)
{
    const struct net_sgd sgd = {.lr = 1e-4, .momentum = 0.9};
    struct net_step out;
    struct err e;
    double start = progress_now_s();
    for (unsigned i = 0; i < steps; i++)
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
            check(net_train_step(b->net, (enum net_encoder)enc, &b->batch[enc],
                                 (const int64_t *const[]){b->labels}, NULL, &sgd, &out, &e),
                  &e);
    return (progress_now_s() - start) / steps;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct quarantine q;
    struct err e;
    unsigned number[4] = {18, 64, 4, 2};
    for (int i = 2; i < argc && i < 6; i++)
        number[i - 2] = (unsigned)strtoul(argv[i], NULL, 10);
    if (argc < 2) {
        fprintf(stderr, "usage: checkpoint DIR [depth width batch steps]\n");
        return 64;
    }
    quarantine_init(&q);
    start_net(&b, number[0], number[1], number[2]);
    checkpoint_writer_init(&b.writer, argv[1], 1, &(struct checkpoint_keep){3, 0}, on_written, &b);
    steps_s(&b, 1);
    double alone_s = 0, beside_s = 0;
    for (uint64_t i = 1; i <= SAVES; i++) {
        struct train_state s = {.phase = PHASE_TRAIN, .step = i};
        alone_s += steps_s(&b, number[3]) / SAVES;
        check(checkpoint_writer_begin(&b.writer, &s, b.net, &q, progress_now_s(), &e), &e);
        beside_s += steps_s(&b, number[3]) / SAVES;
        check(checkpoint_writer_wait(&b.writer, &e), &e);
    }
    printf("%d checkpoints: stall %.3f s (worst %.3f), written in %.2f s; a step %.3f s, %.3f s beside a "
           "write\n",
           SAVES, b.sum.stall_s / SAVES, b.worst.stall_s, b.sum.write_s / SAVES, alone_s, beside_s);
    quarantine_close(&q);
    net_destroy(b.net);
    return 0;
}
