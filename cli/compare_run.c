#include "cli/compare_run.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/run_json.h"

static int read_identity(const struct compare_run *r, const char *key, uint64_t *out, struct err *e)
{
    const char *text = json_string_value(json_object_get(r->record, key));
    if (text && sscanf(text, "%" SCNx64, out) == 1)
        return 0;
    return err_set(e, XDC_EFORMAT,
                   "%s/" RUN_JSON " does not say the identity \"%s\"; put a sound copy of the file back",
                   r->dir, key);
}

static int read_classes(struct compare_run *r, const struct manifest *m, struct err *e)
{
    uint64_t known = 0;
    struct manifest_video *v = malloc(sizeof *v);
    r->videos = manifest_count(m);
    r->truth = malloc((r->videos + 1) * sizeof *r->truth);
    int rc = v && r->truth ? 0 : err_sys(e, ENOMEM, "classes of %" PRIu64 " videos", r->videos);
    for (uint64_t i = 0; rc == 0 && i < r->videos; i++) {
        rc = manifest_get(m, i, v, e);
        r->truth[i] = rc == 0 && v->truth >= 0 ? (uint32_t)v->truth : LABEL_NONE;
        known += rc == 0 && v->truth >= 0;
    }
    free(v);
    if (rc == 0 && known)
        return 0;
    free(r->truth);
    r->truth = NULL;
    return rc ? rc
              : err_set(e, XDC_EFORMAT,
                        "no video of %s has a class, so that pairs of clips cannot be judged; `xdc index "
                        "--labels` "
                        "adds them",
                        r->conf.data.manifest);
}

/* Without classes the rest can still be said. */
static int read_truth(struct compare_run *r, struct err *e)
{
    struct manifest *m = NULL;
    struct err *why = &r->no_truth;
    int rc = manifest_open(r->conf.data.manifest, &m, why);
    if (rc == 0 && manifest_identity(m) != r->manifest)
        rc = err_set(why, XDC_EMISMATCH, "%s is no longer the manifest of the run", r->conf.data.manifest);
    if (rc == 0)
        rc = read_classes(r, m, why);
    manifest_close(m);
    return rc == -ENOMEM ? err_set(e, rc, "%s", why->msg) : 0;
}

static int count_rounds(struct compare_run *r, struct err *e)
{
    static const struct {
        const char *folder, *suffix;
    } in[] = {{"labels", ".xdcl"}, {"features", ""}};
    char path[PATH_MAX];
    int rc = 0;
    r->rounds = (uint32_t)r->events.n;
    for (size_t i = 0; rc == 0 && i < sizeof in / sizeof in[0]; i++) {
        uint32_t last;
        rc = fs_path(path, e, "%s/%s", r->dir, in[i].folder);
        if (rc == 0 && fs_last_round(path, in[i].suffix, &last, NULL) == 0 && last >= r->rounds)
            r->rounds = last + 1;
    }
    return rc;
}

int compare_run_open(struct compare_run *r, const char *dir, struct err *e)
{
    *r = (struct compare_run){.dir = dir};
    int rc = run_json_read(dir, &r->record, e);
    if (rc == 0)
        rc = cli_run_conf(dir, &r->conf, e);
    if (rc == 0)
        rc = read_identity(r, "run", &r->run, e);
    if (rc == 0)
        rc = read_identity(r, "manifest", &r->manifest, e);
    if (rc == 0)
        rc = run_events_read(dir, &r->events, e);
    if (rc == -ENOENT && r->record) /* a run that has just begun */
        rc = 0;
    if (rc == 0)
        rc = count_rounds(r, e);
    return rc ? rc : read_truth(r, e);
}

void compare_run_close(struct compare_run *r)
{
    json_decref(r->record);
    run_events_close(&r->events);
    free(r->truth);
    *r = (struct compare_run){0};
}

json_t *compare_run_head(const struct compare_run *r)
{
    return json_pack("{s:o, s:O, s:O, s:s?, s:O?, s:b}", "dir", cli_json_uri(r->dir), "run",
                     json_object_get(r->record, "run"), "manifest", json_object_get(r->record, "manifest"),
                     "method", run_json_config(r->record, "method"), "versions",
                     json_object_get(r->record, "versions"), "finished", r->events.finished);
}
