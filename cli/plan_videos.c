/* The videos that a run will be made of. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "cli/plan.h"
#include "lib/manifest.h"
#include "services/trainer/run_set.h"

/* What most of the published sets are like: taken where neither a manifest nor an option says. */
#define SECONDS 10.0
#define FPS 30.0
#define WIDTH 340.0
#define HEIGHT 256.0

static uint64_t clips_of(const struct conf *c, double seconds, double fps)
{
    struct clip_times times = conf_clip_times(c);
    uint64_t n = clip_times_count(&times, seconds, conf_clip_span_s(c, fps));
    return n < times.clips_per_video ? n : times.clips_per_video;
}

/* Sums over the videos of the set; of those without a picture, or that could not be probed, the mean of the
 * others. */
static int look_at(const struct clip_set *set, const struct manifest *m, const struct conf *c,
                   struct plan_videos *out, struct err *e)
{
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "read the manifest");
    double pictures = 0;
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        if (!clip_set_has(set, i) || (rc = manifest_get(m, i, v, e)) < 0)
            continue;
        out->extracted += clips_of(c, v->duration_s, v->fps);
        out->seconds += v->duration_s;
        if (v->width == 0 || v->height == 0)
            continue;
        pictures++;
        out->pixels += (double)v->width * v->height;
        out->fps += v->fps > 0 ? v->fps : FPS;
    }
    out->pixels /= fmax(1, pictures);
    out->fps = pictures > 0 ? out->fps / pictures : FPS;
    free(v);
    return rc;
}

static int of_manifest(const struct conf *c, struct plan_videos *out, struct err *e)
{
    struct manifest *m = NULL;
    struct clip_set set = {0}, held = {0};
    struct stat st;
    int rc = manifest_open(c->data.manifest, &m, e);
    if (rc == -ENOENT)
        return err_set(e, rc,
                       "how many videos there will be is not known: there is no manifest %s (data.manifest; "
                       "xdc index makes one), and --videos is not given",
                       c->data.manifest);
    if (rc < 0)
        return rc;
    rc = clip_set_init(&set, manifest_count(m), (uint32_t)c->data.clips_per_video, e);
    if (rc == 0)
        rc = run_set_fill(&set, m, (enum conf_split)c->data.split, e);
    if (rc == 0)
        rc = run_set_subset(&set, c, e);
    if (rc == 0)
        rc = run_set_held(&set, c, &held, e);
    if (rc == 0)
        rc = look_at(&set, m, c, out, e);
    if (rc < 0)
        err_wrap(e, "%s", c->data.manifest);
    out->of_manifest = true;
    out->all = manifest_count(m);
    out->videos = set.members;
    out->held = held.members;
    out->classes = manifest_classes(m);
    out->manifest_bytes = stat(c->data.manifest, &st) == 0 ? (double)st.st_size : 0;
    clip_set_close(&set);
    clip_set_close(&held);
    manifest_close(m);
    return rc;
}

/* As many as are said, all of the split that the run takes. */
static int of_number(const struct conf *c, uint64_t n, struct plan_videos *out, struct err *e)
{
    struct clip_holdout h;
    uint64_t subset = (uint64_t)c->data.subset.n;
    if (subset > n)
        return err_set(e, XDC_ECONF,
                       "data.subset.n is %llu, and --videos gives %llu videos to draw them among",
                       (unsigned long long)subset, (unsigned long long)n);
    clip_holdout_init(&h, (uint64_t)c->run.seed, c->train.holdout, (uint64_t)c->train.holdout_min_clips, n,
                      (uint32_t)c->data.clips_per_video);
    out->all = n;
    out->videos = subset ? subset : n;
    out->held = (uint64_t)round((double)h.held * (double)out->videos / (double)n);
    return 0;
}

int plan_videos(const struct conf *c, const struct plan_said *said, struct plan_videos *out, struct err *e)
{
    *out = (struct plan_videos){0};
    int rc = said->videos ? of_number(c, said->videos, out, e) : of_manifest(c, out, e);
    if (rc < 0)
        return rc;
    bool manifest = out->of_manifest;
    if (said->fps > 0 || !manifest)
        out->fps = said->fps > 0 ? said->fps : FPS;
    if (said->width > 0 || !manifest)
        out->pixels = said->width > 0 ? said->width * said->height : WIDTH * HEIGHT;
    if (said->seconds <= 0 && manifest)
        return 0;
    double seconds = said->seconds > 0 ? said->seconds : SECONDS;
    out->seconds = seconds * (double)out->videos;
    out->extracted = clips_of(c, seconds, out->fps) * out->videos;
    return 0;
}
