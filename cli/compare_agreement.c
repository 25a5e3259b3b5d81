#include "cli/compare_agreement.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "lib/fsutil.h"
#include "lib/run_json.h"
#include "services/clusterer/quality.h"

/* Two runs, and their newest tables. */
struct two {
    const struct compare_run *run[2];
    struct label_table *table[2]; /* owned */
};

static int open_newest(const struct compare_run *r, struct label_table **out, struct err *e)
{
    char path[PATH_MAX];
    uint32_t round;
    int rc = fs_path(path, e, "%s/labels", r->dir);
    if (rc == 0 && fs_last_round(path, ".xdcl", &round, NULL))
        return err_set(e, -ENOENT, "%s has no label table", r->dir);
    if (rc == 0)
        rc = label_table_path(r->dir, round, path, e);
    return rc ? rc : label_table_open(path, out, e);
}

/* Whether clip ids are of the same videos. */
static int check_clips(const struct two *w, struct err *e)
{
    const struct compare_run *a = w->run[0], *b = w->run[1];
    if (a->manifest != b->manifest)
        return err_set(e, XDC_EMISMATCH,
                       "the runs are of different manifests (%016" PRIx64 " and %016" PRIx64 ")", a->manifest,
                       b->manifest);
    if (a->conf.data.clips_per_video != b->conf.data.clips_per_video)
        return err_set(e, XDC_EMISMATCH, "the runs have %" PRId64 " and %" PRId64 " clips of each video",
                       a->conf.data.clips_per_video, b->conf.data.clips_per_video);
    const struct label_info *x = label_table_info(w->table[0]), *y = label_table_info(w->table[1]);
    if (x->manifest != a->manifest || y->manifest != a->manifest || x->clips != y->clips)
        return err_set(e, XDC_EMISMATCH, "the newest label tables are not of the same clips");
    return 0;
}

/* Keys that differ and place a clip elsewhere in its video, or an empty array. */
static json_t *other_moments(const struct two *w)
{
    static const char *const keys[] = {"run.seed", "data.clip_times", "video.frames", "video.fps"};
    json_t *list = json_array();
    bool drawn =
        w->run[0]->conf.data.clip_times == CLIP_RANDOM || w->run[1]->conf.data.clip_times == CLIP_RANDOM;
    for (size_t i = drawn ? 0 : 1; i < sizeof keys / sizeof keys[0]; i++) {
        const char *a = run_json_config(w->run[0]->record, keys[i]);
        const char *b = run_json_config(w->run[1]->record, keys[i]);
        if (strcmp(a ? a : "", b ? b : "") != 0)
            json_array_append_new(list, json_string(keys[i]));
    }
    return list;
}

static uint32_t *read_column(const struct label_table *t, uint32_t source)
{
    uint64_t n = label_table_info(t)->clips;
    uint32_t *labels = malloc((n + 1) * sizeof *labels);
    for (uint64_t i = 0; labels && i < n; i++)
        labels[i] = label_table_get(t, source, i);
    return labels;
}

static int put_sources(const struct two *w, uint32_t a, uint32_t b, json_t *list, struct err *e)
{
    struct quality_agreement q = {0};
    uint64_t n = label_table_info(w->table[0])->clips;
    uint32_t *x = read_column(w->table[0], a), *y = read_column(w->table[1], b);
    int rc =
        x && y ? quality_agreement(x, y, n, &q, e) : err_sys(e, ENOMEM, "labels of %" PRIu64 " clips", n);
    free(x);
    free(y);
    if (rc)
        return rc;
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:o, s:o}", "a", label_table_info(w->table[0])->source[a].name, "b",
                  label_table_info(w->table[1])->source[b].name, "clips", (json_int_t)q.both, "nmi",
                  q.both ? json_real(q.nmi) : json_null(), "ami", q.both ? json_real(q.ami) : json_null());
    return json_array_append_new(list, j) ? err_sys(e, ENOMEM, "agreement") : 0;
}

/* Of many heads the first stands for all. */
static uint32_t sources_of(const struct two *w, unsigned i)
{
    uint32_t n = label_table_info(w->table[i])->sources;
    return n > 2 || w->run[i]->conf.method == METHOD_SELAVI ? 1 : n;
}

/* Sources of one name; where there are none, all with all. */
static int put_all(const struct two *w, json_t *list, struct err *e)
{
    const struct label_info *x = label_table_info(w->table[0]), *y = label_table_info(w->table[1]);
    int rc = 0;
    for (int named = 1; named >= 0 && json_array_size(list) == 0; named--)
        for (uint32_t a = 0; a < sources_of(w, 0); a++)
            for (uint32_t b = 0; rc == 0 && b < sources_of(w, 1); b++)
                if (!named || strcmp(x->source[a].name, y->source[b].name) == 0)
                    rc = put_sources(w, a, b, list, e);
    return rc;
}

/* Fills j; what stands against it becomes "why_not". */
static int agree(struct two *w, json_t *j, struct err *e)
{
    struct err why;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < 2; i++)
        rc = open_newest(w->run[i], &w->table[i], &why);
    if (rc == 0)
        rc = check_clips(w, &why);
    if (rc == -ENOMEM)
        return err_set(e, rc, "%s", why.msg);
    if (rc) {
        json_object_set_new(j, "why_not", cli_json_uri(why.msg));
        return 0;
    }
    json_t *list = json_array();
    json_object_set_new(j, "rounds",
                        json_pack("[i, i]", (int)label_table_info(w->table[0])->round,
                                  (int)label_table_info(w->table[1])->round));
    json_object_set_new(j, "sources", list);
    json_object_set_new(j, "other_moments", other_moments(w));
    return put_all(w, list, e);
}

int compare_agreement(const struct compare_run *runs, uint32_t n, json_t **out, struct err *e)
{
    int rc = 0;
    *out = json_array();
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; rc == 0 && b < n; b++) {
            struct two w = {.run = {&runs[a], &runs[b]}};
            json_t *j = json_pack("{s:[i, i]}", "runs", (int)a, (int)b);
            rc = json_array_append_new(*out, j) ? err_sys(e, ENOMEM, "agreement") : agree(&w, j, e);
            label_table_close(w.table[0]);
            label_table_close(w.table[1]);
        }
    return rc;
}
