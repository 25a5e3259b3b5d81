/* SIGKILL in the midst of saving: a child trains a real tiny net and saves it with the real writer, step
 * after step, and is killed at a random moment, again and again. After each kill a checkpoint is restored
 * that is complete: not older than the last one that the child was told is there, not newer than the last one
 * it began, with the weights, the state and the quarantine of its step. The next child goes on from it, as a
 * trainer does. 50 kills; 500 with XDC_LONG=1; the first argument is the seed. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/progress.h"
#include "lib/rng.h"
#include "services/trainer/checkpoint_writer.h"
#include "tests/lib/small_net.h"

enum { N = 2, CLASSES = 3, RUN = 0x77, STEPS_MAX = 1 << 20, KEPT = 2 };

/* What the child says of itself; survives it. */
struct told {
    atomic_ulong begun, complete; /* steps, 0 for none */
    atomic_uint saves;
    uint64_t weights[STEPS_MAX];
};

struct place {
    char dir[64];
    struct told *told;
    struct net *net;
    struct quarantine quarantine;
};

static void check(int rc, const struct err *e)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s\n", e->msg);
    exit(1);
}

static void fail(const char *what, unsigned kill_no, uint64_t step)
{
    fprintf(stderr, "kill %u: %s (step %llu)\n", kill_no, what, (unsigned long long)step);
    exit(1);
}

static void start_net(struct place *p)
{
    static const struct net_spec tiny = SMALL_NET(4, 16, 1);
    struct err e;
    uint32_t classes = CLASSES;
    check(net_create(&tiny, &p->net, &e), &e);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++)
        check(net_reset_heads(p->net, (enum net_encoder)enc, NET_HEAD_LINEAR, 1, &classes,
                              (const uint64_t[]){9 + enc}, &e),
              &e);
}

/* A step of the audio encoder on noise that is a function of the step. */
static void train(struct place *p, uint64_t step)
{
    static float audio[N * AUDIO_CLIP];
    const int64_t y[N] = {0, 1};
    const struct net_sgd sgd = {.lr = 0.01, .momentum = 0.9};
    struct net_step out;
    struct err e;
    small_noise(step, NULL, 0, audio, N * AUDIO_CLIP);
    struct net_batch b = {N, audio};
    check(net_train_step(p->net, NET_AUDIO, &b, (const int64_t *const[]){y}, NULL, &sgd, &out, &e), &e);
}

static struct train_state state_of(uint64_t step)
{
    return (struct train_state){.phase = PHASE_TRAIN,
                                .batch = step,
                                .step = step,
                                .ranks = 1,
                                .ledgers = {{3, 48 * step, ~step}},
                                .loss = {1.0 / (double)(step + 1), 0}};
}

static int on_written(void *arg, const struct checkpoint_report *r, struct err *e)
{
    struct told *told = arg;
    (void)e;
    atomic_store(&told->complete, r->step);
    atomic_fetch_add(&told->saves, 1);
    return 0;
}

/* The child's life: a trainer that does nothing but save. */
static void save_for_ever(struct place *p, uint64_t step)
{
    const struct checkpoint_keep keep = {KEPT, 0};
    struct checkpoint_writer w;
    struct err e;
    checkpoint_writer_init(&w, p->dir, RUN, &keep, on_written, p->told);
    while (++step < STEPS_MAX) {
        struct train_state s = state_of(step);
        train(p, step);
        if (step % 3 == 0)
            check(quarantine_add(&p->quarantine, step, 2), &e);
        check(net_hash(p->net, &p->told->weights[step], &e), &e);
        check(checkpoint_writer_wait(&w, &e), &e);
        atomic_store(&p->told->begun, step);
        check(checkpoint_writer_begin(&w, &s, p->net, &p->quarantine, progress_now_s(), &e), &e);
    }
    exit(1); /* so many steps are not for the time there is */
}

/* Restores into the parent's net; 0 when there is nothing yet. */
static uint64_t restore(struct place *p, unsigned kill_no)
{
    struct train_state s = {0};
    struct err e = {0};
    uint64_t weights;
    int rc = checkpoint_restore(p->dir, RUN, &s, p->net, &p->quarantine, NULL, NULL, &e);
    uint64_t begun = atomic_load(&p->told->begun), complete = atomic_load(&p->told->complete);
    if (rc == -ENOENT && complete == 0)
        return 0;
    check(rc, &e);
    if (s.step < complete)
        fail("a checkpoint that was there is gone", kill_no, complete);
    if (s.step > begun)
        fail("a checkpoint that was never begun", kill_no, s.step);
    check(net_hash(p->net, &weights, &e), &e);
    if (weights != p->told->weights[s.step])
        fail("the weights are not those of the step", kill_no, s.step);
    struct train_state want = state_of(s.step);
    if (s.batch != s.step || memcmp(s.ledgers, want.ledgers, sizeof s.ledgers) != 0 ||
        memcmp(s.loss, want.loss, sizeof s.loss) != 0)
        fail("the state is not that of the step", kill_no, s.step);
    if (quarantine_count(&p->quarantine) != s.step / 3)
        fail("the quarantine is not that of the step", kill_no, s.step);
    return s.step;
}

/* Whether the kill met a checkpoint that was not yet published. */
static bool torn(const struct place *p)
{
    char path[128];
    snprintf(path, sizeof path, "%s/checkpoints/tmp-%012lu", p->dir, atomic_load(&p->told->begun));
    return access(path, F_OK) == 0;
}

/* Lets a child save and kills it at some moment of the span. */
static void live_and_die(struct place *p, uint64_t from, struct rng *r, double span_s)
{
    pid_t child = fork();
    if (child == 0)
        save_for_ever(p, from);
    useconds_t us = (useconds_t)(rng_uniform(r) * 1e6 * span_s);
    usleep(us);
    kill(child, SIGKILL);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) {
        fprintf(stderr, "the child ended by itself\n");
        exit(1);
    }
}

/* How long a save takes here, by a child that is left alone for some. */
static double measure(struct place *p)
{
    enum { SAVES = 5 };
    pid_t child = fork();
    if (child == 0)
        save_for_ever(p, 0);
    double start = progress_now_s();
    while (atomic_load(&p->told->saves) < SAVES && progress_now_s() - start < 120)
        usleep(500);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return (progress_now_s() - start) / SAVES;
}

static unsigned left_behind(const struct place *p)
{
    char command[128];
    unsigned n = 99;
    snprintf(command, sizeof command, "ls %s/checkpoints | wc -l", p->dir);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%u", &n) != 1)
        n = 99;
    pclose(f);
    return n;
}

int main(int argc, char **argv)
{
    const char *longer = getenv("XDC_LONG");
    unsigned kills = longer && strcmp(longer, "1") == 0 ? 500 : 50, torn_ones = 0, moved = 0;
    struct place p = {.dir = "/tmp/xdc-test-kill-XXXXXX"};
    struct rng r;
    struct err e;
    rng_init(&r, argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    p.told = mmap(NULL, sizeof *p.told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p.told == MAP_FAILED || !mkdtemp(p.dir))
        return 1;
    quarantine_init(&p.quarantine);
    start_net(&p);
    double save_s = measure(&p), span_s = 3 * save_s;
    uint64_t at = restore(&p, 0);
    for (unsigned i = 1; i <= kills; i++) {
        live_and_die(&p, at, &r, span_s);
        torn_ones += torn(&p);
        uint64_t now = restore(&p, i);
        moved += now > at;
        span_s *= now > at ? 0.95 : 1.05; /* how long a save takes changes with what else the machine does */
        at = now;
    }
    printf(
        "%u kills, %u in the midst of a checkpoint, %u after a new checkpoint; step %llu, %.1f ms a save\n",
        kills, torn_ones, moved, (unsigned long long)at, save_s * 1e3);
    if (torn_ones < kills / 4 || moved < kills / 4)
        fail("too few kills met what they are to meet", kills, at);

    struct checkpoint_writer w;
    struct train_state s = state_of(at + 1);
    checkpoint_writer_init(&w, p.dir, RUN, &(struct checkpoint_keep){KEPT, 0}, on_written, p.told);
    check(checkpoint_writer_begin(&w, &s, p.net, &p.quarantine, progress_now_s(), &e), &e);
    check(checkpoint_writer_wait(&w, &e), &e);
    if (left_behind(&p) != KEPT)
        fail("something is left behind", kills, at);
    quarantine_close(&p.quarantine);
    net_destroy(p.net);
    check(fs_remove_tree(p.dir, &e), &e);
    return 0;
}
