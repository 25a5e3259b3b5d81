#include "cli/embed_rows.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "lib/feature_dump.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/media/codes.h"
#include "lib/quarantine_file.h"
#include "lib/tensor.h"

/* A file that is written front to back and gets its name at the end. */
struct new_file {
    FILE *f; /* owned; NULL: not open */
    char tmp[PATH_MAX];
    const char *path;
};

struct failed_clip {
    uint64_t clip;
    uint32_t reason;
};

struct rows {
    const struct conf *c;
    const struct embed_out *out;
    struct embed_summary *s;
    struct clip_times times;
    uint32_t encoder;
    struct manifest *m;         /* owned */
    struct manifest_video *v;   /* owned; the one that is looked at: */
    uint64_t video, groups;     /* its index; its rows, as far as their clips could be decoded */
    uint32_t cover;             /* clips of a row */
    double span_s;              /* of a clip */
    struct feature_dump *dump;  /* owned */
    struct failed_clip *failed; /* owned; by ascending clip */
    size_t n_failed;
    struct quarantine_list faults; /* owned; the doctor's */
    float *clips;                  /* owned; [cover, dim] */
    size_t clips_cover;            /* what `clips` has room for */
    struct new_file jsonl, npy;
};

static int new_file_open(struct new_file *n, const char *path, struct err *e)
{
    n->path = path;
    int rc = fs_path(n->tmp, e, "%s.tmp", path);
    if (rc == 0 && !(n->f = fopen(n->tmp, "we")))
        rc = err_sys(e, errno, "write %s", n->tmp);
    return rc;
}

static int new_file_commit(struct new_file *n, struct err *e)
{
    int errnum = fflush(n->f) != 0 || fsync(fileno(n->f)) < 0 ? errno : ferror(n->f) ? EIO : 0;
    if (fclose(n->f) != 0 && !errnum)
        errnum = errno;
    n->f = NULL;
    if (!errnum && rename(n->tmp, n->path) < 0)
        errnum = errno;
    if (!errnum)
        return 0;
    unlink(n->tmp);
    return err_sys(e, errnum, "write %s", n->path);
}

static void new_file_close(struct new_file *n)
{
    if (!n->f)
        return;
    fclose(n->f);
    unlink(n->tmp);
}

static int by_clip(const void *a, const void *b)
{
    uint64_t x = ((const struct failed_clip *)a)->clip, y = ((const struct failed_clip *)b)->clip;
    return (x > y) - (x < y);
}

static int by_video(const void *a, const void *b)
{
    uint64_t x = ((const struct quarantined_video *)a)->video,
             y = ((const struct quarantined_video *)b)->video;
    return (x > y) - (x < y);
}

static int take_failed(struct rows *r, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    struct failed_clip *more = realloc(r->failed, (r->n_failed + n + 1) * sizeof *more);
    if (!more)
        return err_sys(e, ENOMEM, "failed clips");
    r->failed = more;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        r->failed[r->n_failed++] =
            (struct failed_clip){.clip = (uint64_t)json_integer_value(json_array_get(pair, 0)),
                                 .reason = (uint32_t)json_integer_value(json_array_get(pair, 1))};
    }
    return 0;
}

/* Why clips have no features: what the ranks met, and what the doctor had found. */
static int read_failed(struct rows *r, const char *dir, struct err *e)
{
    char path[PATH_MAX];
    int rc = 0;
    for (int64_t rank = 0; rc == 0 && rank < r->c->run.ranks; rank++) {
        json_error_t where;
        rc = fs_path(path, e, "%s/quarantine-%d.json", dir, (int)rank);
        json_t *list = rc == 0 ? json_load_file(path, 0, &where) : NULL;
        if (rc == 0)
            rc = list ? take_failed(r, list, e) : err_set(e, XDC_EFORMAT, "%s: %s", path, where.text);
        json_decref(list);
    }
    if (r->n_failed)
        qsort(r->failed, r->n_failed, sizeof *r->failed, by_clip);
    if (rc == 0)
        rc = fs_path(path, e, "%s/videos.quarantine", r->c->run.dir);
    if (rc == 0)
        rc = quarantine_file_read(path, &r->faults, e);
    return rc == -ENOENT ? 0 : rc;
}

static uint32_t reason_of(const struct rows *r, uint64_t clip)
{
    const struct failed_clip key = {.clip = clip};
    const struct failed_clip *found =
        r->n_failed ? bsearch(&key, r->failed, r->n_failed, sizeof key, by_clip) : NULL;
    const struct quarantined_video video = {.video = r->video};
    const struct quarantined_video *fault =
        r->faults.n ? bsearch(&video, r->faults.videos, r->faults.n, sizeof video, by_video) : NULL;
    return found ? found->reason : fault ? fault->code : MEDIA_OK;
}

static const char *encoder_name(const struct rows *r)
{
    return r->c->net.encoders == ENCODERS_VIDEO ? "video" : "audio";
}

static int open_rows(struct rows *r, struct err *e)
{
    char dir[PATH_MAX];
    const char *name = encoder_name(r);
    int rc = manifest_open(r->c->data.manifest, &r->m, e);
    if (rc == 0 && !(r->v = malloc(sizeof *r->v)))
        rc = err_sys(e, ENOMEM, "a video");
    if (rc == 0)
        rc = fs_path(dir, e, "%s/features/round-0000", r->c->run.dir);
    if (rc == 0)
        rc = feature_dump_open(dir, &r->dump, e);
    if (rc < 0)
        return rc;
    const struct feature_info *info = feature_dump_info(r->dump);
    while (r->encoder < info->encoders && strcmp(info->encoder[r->encoder].name, name) != 0)
        r->encoder++;
    if (r->encoder == info->encoders || info->manifest != manifest_identity(r->m))
        return err_set(e, XDC_EMISMATCH, "%s is not the dump of this manifest and encoder", dir);
    r->s->dim = info->encoder[r->encoder].dim;
    return read_failed(r, dir, e);
}

/* 1: r->v is video `i` of the run; 0: it is not of the split. */
static int enter_video(struct rows *r, uint64_t i, struct err *e)
{
    int rc = manifest_get(r->m, i, r->v, e);
    if (rc < 0)
        return rc;
    if (r->c->data.split != SPLIT_ALL && (int64_t)r->v->split != r->c->data.split)
        return 0;
    r->video = i;
    r->span_s = conf_clip_span_s(r->c, r->v->fps);
    r->cover = clip_times_cover(&r->times, r->span_s);
    uint64_t clips = clip_times_count(&r->times, r->v->duration_s, r->span_s);
    clips = clips < r->times.clips_per_video ? clips : r->times.clips_per_video;
    r->groups = clips / r->cover;
    return 1;
}

static uint64_t first_clip(const struct rows *r, uint64_t group)
{
    return r->video * r->times.clips_per_video + group * r->cover;
}

/* True when all clips of the row have features; else *out_reason is why the first that has none has none. */
static bool has_row(const struct rows *r, uint64_t group, uint32_t *out_reason)
{
    uint64_t first = first_clip(r, group);
    for (uint64_t clip = first; clip < first + r->cover; clip++) {
        if (feature_dump_has(r->dump, r->encoder, clip))
            continue;
        *out_reason = reason_of(r, clip);
        return false;
    }
    return true;
}

/* "unknown": the run has left no reason. */
static const char *reason_name(uint32_t reason)
{
    return reason ? media_code_name(reason) : "unknown";
}

static void note_reason(struct rows *r, uint32_t reason)
{
    json_t *count = json_object_get(r->s->reasons, reason_name(reason));
    json_object_set_new(r->s->reasons, reason_name(reason), json_integer(json_integer_value(count) + 1));
    r->s->failed++;
}

/* `reason`: of the first of the video's clips that failed. */
static void note_video(struct rows *r, uint64_t clips, uint32_t reason)
{
    json_array_append_new(r->s->files, json_pack("{so sI ss}", "uri", cli_json_uri(r->v->uri), "clips",
                                                 (json_int_t)clips, "reason", reason_name(reason)));
    r->s->failed_videos++;
}

/* Counts rows, and names what has none. */
static int count_rows(struct rows *r, struct err *e)
{
    int rc = 0;
    for (uint64_t i = 0; rc >= 0 && i < manifest_count(r->m); i++) {
        uint64_t failed = 0;
        uint32_t reason = 0;
        rc = enter_video(r, i, e);
        if (rc <= 0)
            continue;
        for (uint64_t g = 0; g < r->groups; g++) {
            uint32_t why;
            bool there = has_row(r, g, &why);
            r->s->rows += there;
            if (there)
                continue;
            note_reason(r, why);
            reason = failed++ == 0 ? why : reason;
        }
        r->s->videos++;
        r->s->clips += r->groups;
        if (failed)
            note_video(r, failed, reason);
    }
    if (rc >= 0 && r->s->rows == 0)
        return err_set(e, XDC_EMEDIA, "no clip of %s could be embedded", r->c->data.manifest);
    return rc < 0 ? rc : 0;
}

/* The mean over the clips of a row; r->clips begins with it. */
static int read_row(struct rows *r, uint64_t group, struct err *e)
{
    uint32_t dim = r->s->dim;
    if (r->cover > r->clips_cover) {
        free(r->clips);
        r->clips = malloc((size_t)r->cover * dim * sizeof *r->clips);
        r->clips_cover = r->clips ? r->cover : 0;
        if (!r->clips)
            return err_sys(e, ENOMEM, "a row of %u clips", r->cover);
    }
    int rc = feature_dump_read(r->dump, r->encoder, first_clip(r, group), r->cover, r->clips, e);
    for (uint32_t d = 0; rc == 0 && r->cover > 1 && d < dim; d++) {
        double sum = 0;
        for (uint32_t i = 0; i < r->cover; i++)
            sum += (double)r->clips[(size_t)i * dim + d];
        r->clips[d] = (float)(sum / r->cover);
    }
    return rc;
}

static json_t *features_json(const struct rows *r)
{
    json_t *list = json_array();
    for (uint32_t d = 0; d < r->s->dim; d++)
        json_array_append_new(list, json_real((double)r->clips[d]));
    return list;
}

static json_t *row_json(const struct rows *r, uint64_t row, uint64_t group)
{
    static const char *const splits[] = {NULL, "train", "val", "test"};
    bool windows = r->times.placing == CLIP_WINDOWS;
    double window = r->times.window_s > 0 ? r->times.window_s : r->span_s;
    double stride = r->times.stride_s > 0 ? r->times.stride_s : window;
    double start = windows ? (double)group * stride
                           : clip_times_start_s(&r->times, first_clip(r, group), r->v->duration_s, r->span_s);
    return json_pack("{sI sI so sI sf sf ss? ss? ss ss?}", "row", (json_int_t)row, "video",
                     (json_int_t)r->video, "uri", cli_json_uri(r->v->uri), "clip", (json_int_t)group,
                     "start_s", start, "seconds", windows ? window : r->span_s, "label",
                     r->v->truth < 0 ? NULL : manifest_class_name(r->m, r->v->truth), "split",
                     splits[r->v->split], "encoder", encoder_name(r), "weights",
                     *r->out->weights ? r->out->weights : NULL);
}

static int write_row(struct rows *r, uint64_t row, uint64_t group, struct err *e)
{
    int rc = read_row(r, group, e);
    if (rc < 0)
        return rc;
    json_t *j = row_json(r, row, group);
    if (j && !r->out->npy)
        json_object_set_new(j, "features", features_json(r));
    /* Nine digits tell all f32 apart; times need no more. */
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(j);
    if (!text)
        return err_sys(e, ENOMEM, "row %llu", (unsigned long long)row);
    fprintf(r->jsonl.f, "%s\n", text); /* what fails shows at the end */
    free(text);
    if (r->out->npy)
        fwrite(r->clips, sizeof *r->clips, r->s->dim, r->npy.f);
    return 0;
}

static int open_files(struct rows *r, struct err *e)
{
    int rc = new_file_open(&r->jsonl, r->out->jsonl, e);
    if (rc < 0 || !r->out->npy)
        return rc;
    rc = new_file_open(&r->npy, r->out->npy, e);
    if (rc < 0)
        return rc;
    char head[NPY_HEADER_BYTES];
    struct tensor t = {.dtype = TENSOR_F32, .ndim = 2, .shape = {r->s->rows, r->s->dim}};
    fwrite(head, 1, npy_header(&t, head), r->npy.f);
    return 0;
}

/* The rows come last under their name: where they are, what describes them is. */
static int write_rows(struct rows *r, struct err *e)
{
    uint64_t row = 0;
    int rc = open_files(r, e);
    for (uint64_t i = 0; rc >= 0 && i < manifest_count(r->m); i++) {
        uint32_t unsaid;
        rc = enter_video(r, i, e);
        for (uint64_t g = 0; rc > 0 && g < r->groups; g++)
            if (has_row(r, g, &unsaid) && write_row(r, row++, g, e) < 0)
                return e->code;
    }
    if (rc >= 0 && r->out->npy)
        unlink(r->out->npy); /* of an earlier call */
    if (rc >= 0)
        rc = new_file_commit(&r->jsonl, e);
    return rc == 0 && r->out->npy ? new_file_commit(&r->npy, e) : rc;
}

int embed_rows_write(const struct conf *c, const struct embed_out *out, struct embed_summary *summary,
                     struct err *e)
{
    *summary = (struct embed_summary){.reasons = json_object(), .files = json_array()};
    struct rows *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "rows");
    r->c = c;
    r->out = out;
    r->s = summary;
    r->times = conf_clip_times(c);
    int rc = open_rows(r, e);
    if (rc == 0)
        rc = count_rows(r, e);
    if (rc == 0)
        rc = write_rows(r, e);
    new_file_close(&r->jsonl);
    new_file_close(&r->npy);
    feature_dump_close(r->dump);
    manifest_close(r->m);
    free(r->v);
    free(r->failed);
    free(r->faults.videos);
    free(r->clips);
    free(r);
    return rc;
}

void embed_summary_close(struct embed_summary *s)
{
    json_decref(s->reasons);
    json_decref(s->files);
}
