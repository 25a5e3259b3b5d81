/* The plan for people. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "cli/plan.h"

#define GROUPS_SHOWN 4 /* of rounds with figures of their own */

/* "1.52 E": three digits and a letter, in powers of 1000. */
static const char *si(char out[16], double v)
{
    static const char letters[] = " kMGTPEZY";
    unsigned i = 0;
    while (v >= 999.5 && letters[i + 1]) {
        v /= 1000;
        i++;
    }
    int digits = v >= 99.95 || v == 0 || (i == 0 && v == floor(v)) ? 0 : v >= 9.995 ? 1 : 2;
    snprintf(out, 16, letters[i] == ' ' ? "%.*f " : "%.*f %c", digits, v, letters[i]);
    return out;
}

static const char *hours(char out[16], double v)
{
    snprintf(out, 16, v >= 99.5 ? "%.0f" : v >= 0.995 ? "%.1f" : "%.2g", v);
    return out;
}

static void print_head(const struct run_plan *p, FILE *f)
{
    const struct plan_videos *v = &p->videos;
    fprintf(f, "method %s, %" PRId64 " %s; %" PRIu64 " videos (%s), %.0f hours; %.0f clips", p->method.name,
            p->conf.train.rounds, p->conf.train.rounds == 1 ? "round" : "rounds", v->videos,
            v->of_manifest ? "of the manifest" : "--videos", v->seconds / 3600, p->clips);
    if (p->held > 0)
        fprintf(f, ", %.0f of them held out", p->held);
    fprintf(f, "\n\n%-8s %12s %12s %13s %9s  %s\n", "encoder", "parameters", "forward", "step", "features",
            "heads");
    for (unsigned i = 0; i < NET_ENCODERS; i++) {
        const struct plan_encoder *x = &p->encoder[i];
        char step[16];
        bool small = x->net.multiply_adds < 1e8;
        fprintf(f, "%-8s %12.0f %7.2f %cMAC %9sFLOP %9.0f  ", x->name, x->net.parameters,
                x->net.multiply_adds / (small ? 1e6 : 1e9), small ? 'M' : 'G',
                si(step, plan_step_flop(&p->conf, x)), x->net.dim);
        if (x->heads > 0)
            fprintf(f, "%u of %.0f classes\n", x->heads, x->head.dim);
        else
            fprintf(f, "%s\n", p->conf.train.rounds > 0 ? "of unknown classes, not counted" : "none");
    }
}

static void print_row(const struct run_plan *p, const struct plan_phase *x, const char *name,
                      const char *rounds, FILE *f)
{
    char flop[2][16], cluster[16], gpu[16], cpu[16], cores[16], bytes[16];
    double computed = x->flop[NET_VIDEO] + x->flop[NET_AUDIO];
    fprintf(f, "%-9s %-12s %11.0f %9s %9s %9s %9s %9s %7s %8sB\n", name, rounds, x->clips,
            x->flop[0] > 0 ? si(flop[0], x->flop[0]) : "- ", x->flop[1] > 0 ? si(flop[1], x->flop[1]) : "- ",
            x->cluster_flop > 0 ? si(cluster, x->cluster_flop) : "- ",
            computed > 0 ? hours(gpu, plan_gpu_hours(p, x)) : "-",
            x->decode_s > 0 ? hours(cpu, x->decode_s / 3600) : "-",
            computed > 0 && x->decode_s > 0 ? si(cores, plan_cores(p, x)) : "- ", si(bytes, x->bytes));
}

static bool alike(const struct plan_phase *a, const struct plan_phase *b)
{
    return a->clips == b->clips && a->flop[0] == b->flop[0] && a->flop[1] == b->flop[1] &&
           a->cluster_flop == b->cluster_flop && a->bytes == b->bytes;
}

/* The rounds of a phase from phases[*at] on whose figures are the same. Returns their last one. */
static const struct plan_phase *group_end(const struct run_plan *p, size_t *at)
{
    const struct plan_phase *first = &p->phases[*at], *last = first;
    for (size_t i = *at + 1; i <= p->n; i++) {
        *at = i;
        if (i == p->n || p->phases[i].phase != first->phase)
            continue;
        if (!alike(first, &p->phases[i]))
            return last;
        last = &p->phases[i];
    }
    return last;
}

static size_t next_of(const struct run_plan *p, size_t at, enum phase phase)
{
    while (at < p->n && p->phases[at].phase != phase)
        at++;
    return at;
}

static void print_phase(const struct run_plan *p, enum phase phase, FILE *f)
{
    char rounds[32];
    size_t groups = 0;
    const char *name = phase == PHASE_LABELS ? "cluster" : phase_name(phase);
    for (size_t at = next_of(p, 0, phase); at < p->n; at = next_of(p, at, phase), groups++)
        group_end(p, &at);
    for (size_t at = next_of(p, 0, phase); groups <= GROUPS_SHOWN && at < p->n; at = next_of(p, at, phase)) {
        const struct plan_phase *first = &p->phases[at], *last = group_end(p, &at);
        snprintf(rounds, sizeof rounds, "%u", first->round);
        if (last != first)
            snprintf(rounds, sizeof rounds, "%u-%u, each", first->round, last->round);
        print_row(p, first, name, phase <= PHASE_WARM ? "" : rounds, f);
    }
    struct plan_phase sum = plan_sum(p, phase);
    if (groups > GROUPS_SHOWN) {
        snprintf(rounds, sizeof rounds, "%u in all", sum.round);
        print_row(p, &sum, name, rounds, f);
    }
}

static void print_phases(const struct run_plan *p, FILE *f)
{
    static const enum phase order[] = {PHASE_STATS,  PHASE_WARM,  PHASE_EXTRACT,
                                       PHASE_LABELS, PHASE_TRAIN, PHASE_VALIDATE};
    fprintf(f, "\n%-9s %-12s %11s %29s %9s %9s %7s %9s\n", "", "", "", "FLOP", "GPU", "decoding", "", "");
    fprintf(f, "%-9s %-12s %11s %9s %9s %9s %9s %9s %7s %9s\n", "phase", "rounds", "clips",
            p->encoder[NET_VIDEO].name, p->encoder[NET_AUDIO].name, "cluster", "hours", "core h", "cores",
            "sent");
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        print_phase(p, order[i], f);
    struct plan_phase all = plan_sum(p, PHASE_DONE);
    print_row(p, &all, "all", "", f);
}

static void print_bytes(const char *title, const struct plan_bytes *b, FILE *f)
{
    char bytes[16];
    if (b->n == 0)
        return;
    fprintf(f, "\n%s: %sB\n", title, si(bytes, b->total));
    for (size_t i = 0; i < b->n; i++)
        fprintf(f, "  %-12s %8sB  %s\n", b->part[i].name, si(bytes, b->part[i].bytes), b->part[i].how);
}

static void print_computing(const struct run_plan *p, FILE *f)
{
    struct plan_phase all = plan_sum(p, PHASE_DONE);
    char gpu[16], wall[16];
    double total = plan_gpu_hours(p, &all), ranks = (double)p->conf.run.ranks;
    fprintf(
        f,
        "\nGPU hours: at %g TFLOP/s sustained by each GPU, an assumption (--gpu-tflops). In all %s, which is "
        "%s on\n%.0f %s (run.ranks). FLOP are those of convolutions and heads; a step is three forward "
        "passes%s.\n",
        p->gpu_flop_s / 1e12, hours(gpu, total), hours(wall, total / ranks), ranks,
        ranks == 1 ? "GPU" : "GPUs",
        p->conf.train.update == UPDATE_FC ? " of the heads,\none of the frozen encoders"
        : p->conf.train.recompute         ? ", and of\nblocks a fourth (train.recompute)"
                                          : "");
}

static void print_decoding(const struct run_plan *p, FILE *f)
{
    const struct plan_videos *v = &p->videos;
    char bytes[16];
    double clip_s = plan_decode_s(&p->conf, v, p->spec.pair != NET_PAIR_AUDIO, p->spec.pair != NET_PAIR_VIDEO,
                                  p->decode_rate);
    fprintf(
        f,
        "Decoding: %.3g clips/s of a core; cores: as many as keep the GPUs from waiting. It is scaled from "
        "%g clips/s\n(--decode-rate) of " PLAN_DECODE_CLIP
        "\n(bench/RESULTS.md), to this run's frames and crop, and to videos of %.0f pixels at %.3g frames/s "
        "with a key\nframe a second.\n",
        1 / clip_s, p->decode_rate, v->pixels, v->fps);
    fprintf(f, "Network: a clip is %sB and is sent whenever it is used.\n", si(bytes, p->sample_bytes));
}

void plan_print(const struct run_plan *p, FILE *f)
{
    struct plan_bytes disk, trainer, clusterer;
    plan_disk(p, &disk);
    plan_memory(p, &trainer, &clusterer);
    print_head(p, f);
    print_phases(p, f);
    print_bytes("disk", &disk, f);
    print_bytes("memory of each trainer (GPU and host)", &trainer, f);
    print_bytes("memory of the clusterer", &clusterer, f);
    print_computing(p, f);
    print_decoding(p, f);
    fprintf(f, "At most: every clip is taken to be sound, every k-means to make all its iterations%s.\n",
            p->conf.train.early_stop > 0 ? ", no encoder to\nstop early" : "");
}
