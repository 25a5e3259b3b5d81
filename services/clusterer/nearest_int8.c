#include "services/clusterer/nearest_int8.h"
#include "services/clusterer/nearest.h"
#include "services/clusterer/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUP INT8_KERNEL_GROUP
#define WIDTH INT8_KERNEL_WIDTH
#define LANES INT8_KERNEL_LANES
#define LINE INT8_KERNEL_LINE
#define STEP INT8_KERNEL_STEP
#define WORDS (STEP / 4)
/* Centroids of one block: half of a second-level cache of 1 MiB. */
#define BLOCK_BYTES (512 * 1024)
/* Groups that share a block when there are several. */
#define BATCH_GROUPS 4
/* Centroids that may be left of a row. */
#define LEFT_MIN 16
#define LEFT_MAX 256
/* Columns for which a product is less than 2^31. */
#define DEPTH_MAX (1 << 17)
#define UP (1 + 1e-6) /* pays for what is rounded in f64 */
/* Centroids whose f32 scores cost the whole pass no more than one product by itself. */
#define PRODUCT_COST 8

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* On a cache line; NULL for no memory. */
static void *lines(size_t n, size_t size)
{
    return aligned_alloc(64, round_up(n * size, 64));
}

bool nearest_int8_able(uint32_t d)
{
    return d <= DEPTH_MAX && int8_kernel();
}

int nearest_int8_init(struct nearest_int8 *q, uint32_t k, uint32_t d, struct err *e)
{
    *q = (struct nearest_int8){.on = true, .kernel = int8_kernel(), .c.depth = (uint32_t)round_up(d, STEP)};
    q->c.panels = (uint32_t)(round_up(k, WIDTH) / WIDTH);
    size_t columns = (size_t)q->c.panels * WIDTH;
    q->block = BLOCK_BYTES / WIDTH / q->c.depth;
    q->block = q->block < 1 ? 1 : q->block;
    q->batch = q->c.panels > q->block ? BATCH_GROUPS * GROUP : GROUP;
    q->most = k / 4 < LEFT_MIN ? LEFT_MIN : k / 4 > LEFT_MAX ? LEFT_MAX : k / 4;
    q->c.panel = lines(columns * q->c.depth, 1);
    q->c.offset = lines(columns, sizeof *q->c.offset);
    q->c.scale = lines(columns, sizeof *q->c.scale);
    q->c.weight = lines(columns, sizeof *q->c.weight);
    q->error = lines(k, sizeof *q->error);
    q->word = lines(q->c.depth, 1);
    if (q->c.panel && q->c.offset && q->c.scale && q->c.weight && q->error && q->word) {
        memset(q->c.panel, 0, columns * q->c.depth);
        for (size_t c = 0; c < columns; c++) {
            q->c.offset[c] = INFINITY;
            q->c.scale[c] = q->c.weight[c] = 0;
        }
        return 0;
    }
    nearest_int8_close(q);
    return err_sys(e, ENOMEM, "%u centroids of %u columns", k, d);
}

void nearest_int8_close(struct nearest_int8 *q)
{
    free(q->c.panel);
    free(q->c.offset);
    free(q->c.scale);
    free(q->c.weight);
    free(q->error);
    free(q->word);
    *q = (struct nearest_int8){0};
}

int nearest_int8_scratch_init(struct nearest_int8_scratch *s, const struct nearest_int8 *q, size_t rows,
                              struct err *e)
{
    *s = (struct nearest_int8_scratch){0};
    s->rows = lines((size_t)q->batch * q->c.depth, 1);
    s->row = lines(q->batch, sizeof *s->row);
    s->least = lines((size_t)q->batch * LANES, sizeof *s->least);
    s->low = lines((size_t)q->batch * q->c.panels * WIDTH, sizeof *s->low);
    s->left = lines((size_t)q->batch * (q->most + LANES), sizeof *s->left);
    s->column = lines((size_t)q->batch * (q->most + LANES), sizeof *s->column);
    s->rest = lines(rows, sizeof *s->rest);
    s->pick = lines(rows, sizeof *s->pick);
    if (s->rows && s->row && s->least && s->low && s->left && s->column && s->rest && s->pick) {
        memset(s->rows, 0, (size_t)q->batch * q->c.depth); /* what fills groups up */
        memset(s->row, 0, q->batch * sizeof *s->row);
        return 0;
    }
    nearest_int8_scratch_close(s);
    return err_sys(e, ENOMEM, "scores of %u rows", q->batch);
}

void nearest_int8_scratch_close(struct nearest_int8_scratch *s)
{
    free(s->rows);
    free(s->row);
    free(s->least);
    free(s->low);
    free(s->left);
    free(s->column);
    free(s->rest);
    free(s->pick);
    *s = (struct nearest_int8_scratch){0};
}

/* A float that is not below x. */
static float above(double x)
{
    return nextafterf((float)(x * UP), INFINITY);
}

void nearest_int8_pack(struct nearest_int8 *q, const struct nearest *n)
{
    size_t words = q->c.depth / 4;
    double errors = 0, norms = 0;
    for (size_t c = 0; c < n->k; c++) {
        const float *from = n->centroids + c * n->d;
        double square = rows_norm64(from, n->d), norm = sqrt(square) * UP;
        struct int8_vector v = q->kernel->quantize(from, n->d, norm, q->word, WORDS);
        uint32_t *to = q->c.panel + c / WIDTH * WIDTH * words + c % WIDTH;
        for (size_t w = 0; w < words; w++)
            to[w * WIDTH] = (uint32_t)q->word[w] ^ 0x80808080; /* plus 128 each */
        q->c.offset[c] = (float)square;
        q->c.scale[c] = v.scale;
        q->error[c] = v.error;
        q->c.weight[c] = above(norm + v.error);
        errors += v.error;
        norms += norm;
    }
    q->ratio = errors > 0 ? errors / norms : 1;
    for (size_t c = 0; c < n->k; c++) {
        float other = above(q->error[c] / q->ratio);
        q->c.weight[c] = other > q->c.weight[c] ? other : q->c.weight[c];
    }
}

/* Scores of `count` rows for all columns; `next` is the first row to come after them, or NULL. */
static void score_batch(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                        const float *norms, struct nearest_int8_scratch *s, const float *next)
{
    const struct nearest_int8 *q = &n->int8;
    const double u = ldexp(1, -24), c = n->norm, d = n->d;
    for (size_t i = 0; i < count; i++) {
        double norm = nearest_norm(norms[pick[i]]);
        int32_t *to = s->rows + i / GROUP * GROUP * (q->c.depth / 4) + i % GROUP * WORDS;
        struct int8_vector v = q->kernel->quantize(x + (size_t)pick[i] * n->d, n->d, norm, to, GROUP * WORDS);
        double wide = 2 * (v.error + q->ratio * norm) + 10 * u * (norm + v.error);
        double apart = 4 * u * c * c + 8 * d * ldexp(1, -53) * (norm * norm + c * c) + ldexp(1, -140);
        s->row[i] = (struct int8_row){-128 * v.sum, -2 * v.scale, above(wide), above(apart)};
    }
    for (size_t i = 0; i < count * LANES; i++)
        s->least[i] = INFINITY;
    for (size_t p = 0; p < q->c.panels; p += q->block)
        for (size_t i = 0; i < count; i += GROUP)
            for (size_t j = p; j < q->c.panels && j < p + q->block; j++) {
                /* Two panels have steps enough for the rows of a group. */
                bool ahead = next && i == 0 && j < 2;
                const char *line =
                    ahead ? (const char *)next + j * (q->c.depth / 4) * 2 * LINE : (const char *)s->row;
                q->kernel->tile(&q->c, j, s->rows + i * (q->c.depth / 4), s->row + i, s->least + i * LANES,
                                s->low + i * q->c.panels * WIDTH, line, ahead ? 2 * LINE : 0);
            }
}

/* What is left of a row. */
struct left {
    float *low;          /* lower ends, but for a */
    uint32_t *column;    /* whose, ascending */
    size_t count, first; /* the first to look at has the least lower end */
    float others;        /* the least lower end of all others */
};

/* Lists the columns that may be the nearest of a row, and fetches the most promising one. */
static struct left list_left(const struct nearest *n, const struct nearest_int8_scratch *s, size_t row)
{
    const struct nearest_int8 *q = &n->int8;
    const size_t columns = (size_t)q->c.panels * WIDTH, room = row * (q->most + LANES);
    struct left r = {.low = s->left + room, .column = s->column + room};
    float least = INFINITY;
    for (size_t i = row * LANES; i < (row + 1) * LANES; i++)
        least = s->least[i] < least ? s->least[i] : least;
    float end = nextafterf((float)((double)least + 2 * (double)s->row[row].apart), INFINITY);
    r.count = q->kernel->list(s->low + row * columns, columns, end, q->most, r.low, r.column, &r.others);
    for (size_t i = 1; i < r.count; i++)
        r.first = r.low[i] < r.low[r.first] ? i : r.first;
    const char *centroid = (const char *)(n->centroids + (size_t)r.column[r.first] * n->d);
    for (size_t i = 0; i < n->d * sizeof(float); i += LINE)
        __builtin_prefetch(centroid + i);
    return r;
}

/* Scores in f32 whichever of the centroids that are left may still be the nearest, in place of their lower
 * ends; the others' become infinite and may lower out->others. Returns how many. */
static size_t score_left(const struct nearest *n, const float *row, double apart, double error,
                         struct left *out)
{
    double best = INFINITY;
    size_t products = 0;
    for (size_t i = 0; i < out->count; i++) {
        size_t at = i == 0 ? out->first : i <= out->first ? i - 1 : i;
        float low = out->low[at];
        uint32_t c = out->column[at];
        out->low[at] = INFINITY;
        if ((double)low - apart > best + error) {
            out->others = low < out->others ? low : out->others;
            continue;
        }
        out->low[at] =
            n->int8.c.offset[c] - 2 * n->int8.kernel->dot(row, n->centroids + (size_t)c * n->d, n->d);
        best = (double)out->low[at] < best ? (double)out->low[at] : best;
        products++;
    }
    return products;
}

/* The best of the scores, of those that f32 cannot tell apart the one that f64 chooses. */
static struct nearest_found choose(const struct nearest *n, const float *row, const struct left *left,
                                   double error)
{
    struct nearest_found f = {.best = INFINITY, .second = INFINITY};
    for (size_t i = 0; i < left->count; i++) {
        double score = (double)left->low[i];
        f.second = score < f.best ? f.best : score < f.second ? score : f.second;
        f.label = score < f.best ? left->column[i] : f.label;
        f.best = score < f.best ? score : f.best;
    }
    f.by64 = f.second <= f.best + 2 * error;
    double least = INFINITY;
    for (size_t i = 0; f.by64 && i < left->count; i++) {
        if (!((double)left->low[i] <= f.best + 2 * error))
            continue;
        double dist = rows_distance64(row, n->centroids + (size_t)left->column[i] * n->d, n->d);
        if (dist < least) { /* columns ascend */
            least = dist;
            f.label = left->column[i];
        }
    }
    return f;
}

/* Where the results of a call go. */
struct results {
    uint32_t *labels;
    float *upper, *lower;
};

/* Decides the rows of a batch that has scores. Returns the end of `rest`. */
static size_t decide_batch(const struct nearest *n, const float *x, const uint32_t *pick, size_t first,
                           size_t count, const float *norms, struct nearest_int8_scratch *s,
                           const struct results *out, size_t rest)
{
    struct left left[BATCH_GROUPS * GROUP];
    for (size_t i = 0; i < count; i++)
        left[i] = list_left(n, s, i);
    for (size_t i = 0; i < count; i++) {
        size_t to = first + i;
        if (left[i].count > n->int8.most) {
            s->spent += n->k;
            s->rest[rest++] = (uint32_t)to;
            continue;
        }
        const float *row = x + (size_t)pick[to] * n->d;
        double norm = nearest_norm(norms[pick[to]]), error = nearest_error(n, norm);
        double apart = (double)s->row[i].apart;
        s->spent += PRODUCT_COST * score_left(n, row, apart, error, &left[i]);
        struct nearest_found f = choose(n, row, &left[i], error);
        out->labels[to] = f.label;
        nearest_bounds(&f, (double)left[i].others - apart, norm, error, &out->upper[to], &out->lower[to]);
    }
    return rest;
}

size_t nearest_int8_rows(const struct nearest *n, const float *x, const uint32_t *pick, size_t count,
                         const float *norms, struct nearest_int8_scratch *s, uint32_t *labels, float *upper,
                         float *lower)
{
    const struct results out = {labels, upper, lower};
    size_t rest = 0, batch = n->int8.batch;
    for (size_t i = 0; i < count; i += batch) {
        bool more = i + batch < count;
        size_t rows = more ? batch : count - i;
        score_batch(n, x, pick + i, rows, norms, s, more ? x + (size_t)pick[i + batch] * n->d : NULL);
        rest = decide_batch(n, x, pick, i, rows, norms, s, &out, rest);
    }
    s->rows_in += count;
    return rest;
}
