#include "services/trainer/quarantine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/media/codes.h"

void quarantine_init(struct quarantine *q)
{
    *q = (struct quarantine){0};
    pthread_mutex_init(&q->lock, NULL);
}

void quarantine_close(struct quarantine *q)
{
    free(q->entries);
    free(q->videos);
    pthread_mutex_destroy(&q->lock);
    *q = (struct quarantine){0};
}

/* Index of the first entry with a clip not below `clip`. */
static size_t lower_bound(const struct quarantine *q, uint64_t clip)
{
    size_t lo = 0, hi = q->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (q->entries[mid].clip < clip)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int insert(struct quarantine *q, uint64_t clip, uint32_t reason)
{
    size_t at = lower_bound(q, clip);
    if (at < q->n && q->entries[at].clip == clip)
        return 0;
    if (q->n == q->cap) {
        size_t cap = q->cap ? 2 * q->cap : 64;
        struct quarantine_entry *grown = realloc(q->entries, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        q->entries = grown;
        q->cap = cap;
    }
    memmove(q->entries + at + 1, q->entries + at, (q->n - at) * sizeof *q->entries);
    q->entries[at] = (struct quarantine_entry){clip, reason};
    q->n++;
    return 1;
}

int quarantine_add(struct quarantine *q, uint64_t clip, uint32_t reason)
{
    pthread_mutex_lock(&q->lock);
    int rc = insert(q, clip, reason);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

uint32_t quarantine_video_code(const struct quarantine *q, uint64_t clip)
{
    size_t lo = 0, hi = q->n_videos;
    uint64_t video = q->n_videos ? clip / q->clips_per_video : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (q->videos[mid].video < video)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < q->n_videos && q->videos[lo].video == video ? q->videos[lo].code : 0;
}

uint32_t quarantine_reason(struct quarantine *q, uint64_t clip)
{
    uint32_t code = quarantine_video_code(q, clip);
    if (code)
        return code;
    pthread_mutex_lock(&q->lock);
    size_t at = lower_bound(q, clip);
    uint32_t reason = at < q->n && q->entries[at].clip == clip ? q->entries[at].reason : 0;
    pthread_mutex_unlock(&q->lock);
    return reason;
}

size_t quarantine_count(struct quarantine *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

void quarantine_copy(struct quarantine *q, struct quarantine_entry *out, size_t n)
{
    pthread_mutex_lock(&q->lock);
    if (n)
        memcpy(out, q->entries, n * sizeof *out);
    pthread_mutex_unlock(&q->lock);
}

json_t *quarantine_to_json(struct quarantine *q)
{
    json_t *list = json_array();
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; list && i < q->n; i++) {
        json_t *pair = json_pack("[I, i]", (json_int_t)q->entries[i].clip, (int)q->entries[i].reason);
        if (!pair || json_array_append_new(list, pair) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return list;
}

int quarantine_from_json(struct quarantine *q, const json_t *j, struct err *e)
{
    size_t i;
    json_t *pair;
    int rc = json_is_array(j) ? 0 : err_set(e, XDC_EFORMAT, "quarantine is not a list");
    pthread_mutex_lock(&q->lock);
    q->n = 0;
    json_array_foreach((json_t *)j, i, pair)
    {
        json_int_t clip, reason;
        if (rc == 0 && json_unpack(pair, "[I, I]", &clip, &reason) < 0)
            rc = err_set(e, XDC_EFORMAT, "entry %zu of the quarantine is not [clip, reason]", i);
        if (rc == 0 && insert(q, (uint64_t)clip, (uint32_t)reason) < 0)
            rc = err_sys(e, ENOMEM, "quarantine");
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static bool counts(uint32_t code, const struct quarantine_needs *needs)
{
    switch (code) {
    case MEDIA_NO_VIDEO:
        return needs->video;
    case MEDIA_NO_AUDIO:
    case MEDIA_AUDIO_SILENT:
        return needs->audio && !needs->keep_silent;
    case MEDIA_AUDIO_NONFINITE:
    case MEDIA_TOO_SHORT:
        return needs->audio;
    default:
        return true;
    }
}

/* The doctor's list goes to the run, as it is now. */
static int copy_list(const char *path, const char *manifest, uint64_t manifest_id, struct err *e)
{
    char from[PATH_MAX];
    struct quarantine_list list;
    int rc = fs_path(from, e, "%s.quarantine", manifest);
    if (rc == 0)
        rc = quarantine_file_read(from, &list, e);
    if (rc == -ENOENT) /* nor has the run one from an earlier start that did not get far */
        return unlink(path) < 0 && errno != ENOENT ? err_sys(e, errno, "remove %s", path) : 0;
    if (rc < 0)
        return rc;
    if (list.manifest != manifest_id)
        rc = err_set(e, XDC_EMISMATCH,
                     "%s is of another manifest (%016llx, this one is %016llx): run xdc doctor %s again",
                     from, (unsigned long long)list.manifest, (unsigned long long)manifest_id, manifest);
    else
        rc = quarantine_file_write(path, &list, e);
    free(list.videos);
    return rc;
}

int quarantine_take_videos(struct quarantine *q, const char *run_dir, const char *manifest,
                           uint64_t manifest_id, bool fresh, const struct quarantine_needs *needs,
                           uint32_t clips_per_video, struct err *e)
{
    char path[PATH_MAX];
    struct quarantine_list list;
    int rc = fs_path(path, e, "%s/videos.quarantine", run_dir);
    if (rc == 0 && fresh)
        rc = copy_list(path, manifest, manifest_id, e);
    if (rc == 0)
        rc = quarantine_file_read(path, &list, e);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    if (list.manifest != manifest_id) {
        free(list.videos);
        return err_set(e, XDC_EMISMATCH, "%s is of another manifest (%016llx)", path,
                       (unsigned long long)list.manifest);
    }
    size_t kept = 0;
    for (size_t i = 0; i < list.n; i++)
        if (counts(list.videos[i].code, needs))
            list.videos[kept++] = list.videos[i];
    free(q->videos);
    q->videos = list.videos;
    q->n_videos = kept;
    q->clips_per_video = clips_per_video;
    return 0;
}
