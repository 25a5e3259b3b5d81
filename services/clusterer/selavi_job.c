#include "services/clusterer/selavi_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "lib/clip.h"
#include "lib/fsutil.h"
#include "lib/rng.h"
#include "services/clusterer/align.h"
#include "services/clusterer/head_rows.h"
#include "services/clusterer/marginals.h"
#include "services/clusterer/rows.h"
#include "services/clusterer/sinkhorn.h"
#include "services/clusterer/source.h"

#define HEADS_BYTES_MAX ((size_t)16 << 30)
/* Passes of a transport besides its iterations: the largest values, the masses, the same again, the start,
 * the labels. */
#define OTHER_PASSES 5

/* One head of both encoders. */
struct pair {
    struct selavi *s;
    uint32_t number;
    struct head heads[2]; /* owned: video, audio */
    struct head_pair with;
    struct source clips;    /* owned */
    struct row_store store; /* owned: of m */
    struct sinkhorn_result result;
    double before, after; /* of the alignment */
    bool aligned;
};

void selavi_deal(uint64_t seed, uint32_t round, uint32_t heads, uint32_t groups, uint32_t *group)
{
    struct clip_order order;
    clip_order_init(&order, rng_key(seed, "selavi-groups", round, 0, 0), heads);
    for (uint32_t i = 0; i < heads; i++)
        group[clip_order_at(&order, i)] = i % groups;
}

uint64_t selavi_passes(const struct conf *c, uint64_t rows)
{
    return rows * ((uint64_t)c->selavi.iterations + OTHER_PASSES);
}

/* The file must be the one whose hash the dump was sealed with. */
static int check_hash(const struct selavi *s, struct err *e)
{
    char *data;
    size_t size;
    uint64_t want = feature_dump_info(s->dump)->heads;
    if (!want)
        return err_set(e, XDC_EMISMATCH, "the dump of round %u was sealed without heads, which selavi needs",
                       feature_dump_info(s->dump)->round);
    int rc = fs_read(s->path, HEADS_BYTES_MAX, &data, &size, e);
    if (rc)
        return rc;
    uint64_t is = XXH3_64bits(data, size);
    free(data);
    return is == want ? 0
                      : err_set(e, XDC_EMISMATCH, "%s has the hash %016llx, its dump was sealed with %016llx",
                                s->path, (unsigned long long)is, (unsigned long long)want);
}

static int find_encoder(const struct selavi *s, enum net_encoder modality, uint32_t group, uint32_t *out,
                        struct err *e)
{
    char name[32];
    snprintf(name, sizeof name, "%s-g%u", net_encoder_name(NET_PAIR_BOTH, modality), group);
    return source_find_encoder(s->dump, name, out, e);
}

int selavi_open(struct selavi *s, const struct conf *c, struct feature_dump *dump, const atomic_bool *stop,
                _Atomic uint64_t *row_passes, struct err *e)
{
    uint32_t round = feature_dump_info(dump)->round, unused;
    char path[PATH_MAX];
    *s = (struct selavi){.conf = c, .dump = dump, .stop = stop, .row_passes = row_passes};
    selavi_deal((uint64_t)c->run.seed, round, (uint32_t)c->selavi.heads, (uint32_t)c->selavi.groups,
                s->group);
    int rc = fs_path(path, e, "%s/features/round-%04u/rank-0/heads.safetensors", c->run.dir, round);
    if (rc == 0 && !(s->path = strdup(path)))
        rc = err_sys(e, ENOMEM, "heads");
    for (uint32_t g = 0; rc == 0 && g < (uint32_t)c->selavi.groups; g++) {
        rc = find_encoder(s, NET_VIDEO, g, &unused, e);
        if (rc == 0)
            rc = find_encoder(s, NET_AUDIO, g, &unused, e);
    }
    if (rc == 0)
        rc = check_hash(s, e);
    if (rc == 0)
        rc = safetensors_open(s->path, &s->heads, e);
    if (rc)
        selavi_close(s);
    return rc;
}

void selavi_close(struct selavi *s)
{
    if (s->heads)
        safetensors_close(s->heads);
    free(s->path);
    *s = (struct selavi){0};
}

static void pair_close(struct pair *p)
{
    head_close(&p->heads[0]);
    head_close(&p->heads[1]);
    source_close(&p->clips);
    row_store_close(&p->store);
    sinkhorn_result_close(&p->result);
}

static int pair_open(struct pair *p, struct selavi *s, uint32_t number, struct err *e)
{
    const struct conf *c = s->conf;
    *p = (struct pair){.s = s, .number = number};
    p->with =
        (struct head_pair){.dump = s->dump, .threads = rows_threads(c->cluster.threads), .stop = s->stop};
    int rc = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = find_encoder(s, (enum net_encoder)i, s->group[number], &p->with.encoders[i], e);
        if (rc == 0)
            rc = head_load(s->heads, s->path, net_encoder_name(NET_PAIR_BOTH, (enum net_encoder)i), number,
                           feature_dump_info(s->dump)->encoder[p->with.encoders[i]].dim,
                           (uint32_t)c->cluster.k, &p->heads[i], e);
        p->with.heads[i] = &p->heads[i];
    }
    if (rc == 0)
        rc = source_list_clips(&p->clips, s->dump, p->with.encoders, 2, c, e);
    if (rc == 0 && p->clips.n == 0)
        rc = err_set(e, XDC_EFORMAT, "no clip has features of both modalities");
    return rc;
}

static int compare_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* At most ALIGN_ROWS_MAX of the pair's clips, ascending; NULL: no memory. */
static uint64_t *choose_clips(const struct pair *p, uint64_t *out_n)
{
    struct clip_order order;
    uint64_t n = p->clips.n < ALIGN_ROWS_MAX ? p->clips.n : ALIGN_ROWS_MAX;
    uint64_t *chosen = malloc(n * sizeof *chosen);
    clip_order_init(&order, rng_key((uint64_t)p->s->conf->run.seed, "selavi-align", p->number, 0, 0),
                    p->clips.n);
    for (uint64_t i = 0; chosen && i < n; i++)
        chosen[i] = p->clips.clips[clip_order_at(&order, i)];
    if (chosen)
        qsort(chosen, n, sizeof *chosen, compare_u64);
    *out_n = n;
    return chosen;
}

/* Permutes the audio head's outputs to agree with the video head's. */
static int align(struct pair *p, const char *name, json_t *more, struct err *e)
{
    uint32_t k = p->heads[0].k;
    uint64_t n;
    uint64_t *clips = choose_clips(p, &n);
    float *video = malloc(n * k * sizeof *video), *audio = malloc(n * k * sizeof *audio);
    uint32_t *order = malloc(k * sizeof *order);
    json_t *list = json_array();
    int rc = clips && video && audio && order && list ? 0 : err_sys(e, ENOMEM, "alignment of %u outputs", k);
    if (rc == 0)
        rc = head_rows_both(&p->with, clips, n, video, audio, e);
    if (rc == 0)
        rc =
            align_outputs(video, audio, n, k, p->with.threads, p->with.stop, order, &p->before, &p->after, e);
    if (rc == 0)
        rc = head_permute(&p->heads[1], order, e);
    p->aligned = rc == 0;
    for (uint32_t j = 0; rc == 0 && j < k; j++)
        json_array_append_new(list, json_integer(order[j]));
    if (rc == 0 && !json_object_get(more, "alignment"))
        json_object_set_new(more, "alignment", json_object());
    if (rc == 0)
        json_object_set(json_object_get(more, "alignment"), name, list);
    json_decref(list);
    free(order);
    free(video);
    free(audio);
    free(clips);
    return rc;
}

static int transport(struct pair *p, struct feed *rows, const struct sinkhorn_options *o, struct err *e)
{
    const struct conf *c = p->s->conf;
    struct marginals m = {.kind = (enum conf_marginals)c->selavi.marginals,
                          .sd = c->selavi.marginal_sd,
                          .exponent = c->selavi.zipf_exponent,
                          .seed = (uint64_t)c->run.seed,
                          .head = p->number};
    uint32_t k = p->heads[0].k;
    double *sizes = malloc(2 * k * sizeof *sizes);
    if (!sizes)
        return err_sys(e, ENOMEM, "sizes of %u clusters", k);
    marginals_draw(&m, k, sizes);
    int rc = 0;
    if (m.kind != MARGINALS_UNIFORM) {
        rc = sinkhorn_mass(rows, o, sizes + k, e);
        if (rc == 0)
            rc = marginals_pair(sizes, sizes + k, k, c->selavi.compat, e);
    }
    if (rc == 0)
        rc = sinkhorn_run(rows, sizes, o, &p->result, e);
    free(sizes);
    return rc;
}

/* The rows of log-probabilities, and the labels of those that take part. */
static int run(struct pair *p, struct err *e)
{
    const struct conf *c = p->s->conf;
    const struct source *s = &p->clips;
    uint32_t k = p->heads[0].k;
    struct sinkhorn_options o = {.lambda = c->selavi.lambda,
                                 .tolerance = c->selavi.tolerance,
                                 .iterations = (uint32_t)c->selavi.iterations,
                                 .compat = c->selavi.compat,
                                 .threads = p->with.threads,
                                 .stop = p->s->stop,
                                 .row_passes = p->s->row_passes};
    struct feed rows;
    int rc = row_store_open(&p->store, s->n + s->held, k, row_store_cap(c->cluster.memory_mib), c->run.dir,
                            (uint64_t)c->limits.disk_reserve_mib, e);
    if (rc == 0)
        rc = head_rows_joint(&p->with, s->clips, s->n, o.lambda, p->store.x, e);
    if (rc == 0)
        rc = head_rows_joint(&p->with, s->clips + s->n, s->held, o.lambda, p->store.x + s->n * k, e);
    if (rc == 0)
        rc = row_store_feed(&p->store, s->n, c->cluster.memory_mib, &rows, e);
    if (rc)
        return rc;
    rc = transport(p, &rows, &o, e);
    feed_close(&rows);
    return rc;
}

static int give_labels(const struct pair *p, uint32_t *labels, struct err *e)
{
    const struct source *s = &p->clips;
    uint32_t k = p->heads[0].k;
    uint32_t *held = malloc((s->held + 1) * sizeof *held);
    if (!held)
        return err_sys(e, ENOMEM, "labels");
    sinkhorn_labels(p->store.x + s->n * k, s->held, k, p->result.log_alpha, p->with.threads, held);
    for (uint64_t i = 0; i < s->n; i++)
        labels[s->clips[i]] = p->result.labels[i];
    for (uint64_t i = 0; i < s->held; i++)
        labels[s->clips[s->n + i]] = held[i];
    free(held);
    return 0;
}

static json_t *figures(const struct pair *p)
{
    const struct sinkhorn_result *r = &p->result;
    json_t *j = json_pack("{s:i, s:I, s:I, s:i, s:f, s:i, s:f, s:b}", "k", (int)p->heads[0].k, "n",
                          (json_int_t)p->clips.n, "held_out", (json_int_t)p->clips.held, "group",
                          (int)p->s->group[p->number], "cost", r->cost, "iterations", (int)r->iterations,
                          "error", r->error, "converged", r->converged);
    if (j && p->aligned)
        json_object_set_new(j, "alignment_cost",
                            json_pack("{s:f, s:f}", "before", p->before, "after", p->after));
    return j;
}

int selavi_head(struct selavi *s, uint32_t head, const char *name, uint32_t *labels, json_t *more,
                json_t **out_figures, struct err *e)
{
    struct pair p;
    *out_figures = NULL;
    int rc = pair_open(&p, s, head, e);
    if (rc == 0 && s->conf->selavi.align && feature_dump_info(s->dump)->round == 0)
        rc = align(&p, name, more, e);
    if (rc == 0)
        rc = run(&p, e);
    if (rc == 0)
        rc = give_labels(&p, labels, e);
    if (rc == 0 && !(*out_figures = figures(&p)))
        rc = err_sys(e, ENOMEM, "figures");
    pair_close(&p);
    return rc;
}

static json_t *mean_figures(const json_t *sources)
{
    static const char *const names[] = {"nmi_truth",      "ami_truth",     "ari_truth",
                                        "accuracy_truth", "entropy_truth", "purity_truth"};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double sum = 0;
        unsigned n = 0;
        const char *key;
        json_t *s, *v;
        json_object_foreach((json_t *)(uintptr_t)sources, key, s) if ((v = json_object_get(s, names[i])))
        {
            sum += json_number_value(v);
            n++;
        }
        if (n)
            json_object_set_new(out, names[i], json_real(sum / n));
    }
    return out;
}

int selavi_summarize(const json_t *sources, json_t *out, struct err *e)
{
    const char *name, *best = NULL;
    double least = 0;
    json_t *s, *mean = mean_figures(sources);
    json_object_foreach((json_t *)(uintptr_t)sources, name, s)
    {
        double cost = json_number_value(json_object_get(s, "cost"));
        if (!best || cost < least) {
            best = name;
            least = cost;
        }
    }
    int rc = mean && best && json_object_set_new(out, "best_head", json_string(best)) == 0
                 ? 0
                 : err_sys(e, ENOMEM, "figures");
    if (rc == 0 && json_object_size(mean) > 0)
        json_object_set(out, "mean", mean);
    json_decref(mean);
    return rc;
}
