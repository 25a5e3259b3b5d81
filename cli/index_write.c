#include "cli/index_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/keyframe_list.h"
#include "lib/progress.h"

#define SHOW_EVERY 4096

struct writing {
    struct manifest *m; /* owned */
    const struct manifest *old;
    struct index_files *files;
    const struct index_partial *partial;
    struct index_summary *s;
    bool labelled;
    struct manifest_video video; /* scratch */
    struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
    uint32_t n_keys;
};

static void show(struct progress *p, uint64_t done)
{
    if (done % SHOW_EVERY)
        return;
    progress_set(p, done);
    progress_print(p, stderr, false);
}

/* Short work has shown nothing, and ends without a line. */
static void show_end(struct progress *p, uint64_t done)
{
    progress_set(p, done);
    if (p->last_print_s > p->start_s)
        progress_print(p, stderr, true);
}

int index_update_mark(struct index_files *files, const struct manifest *old, struct err *e)
{
    struct manifest_video *v = malloc(sizeof *v);
    int rc = v ? 0 : err_sys(e, ENOMEM, "update");
    if (rc == 0 && strcmp(manifest_media_root(old), files->root) != 0)
        rc = err_set(e, XDC_EUSAGE,
                     "--update: the manifest's files lie below %s, PATH names %s: give the same PATH",
                     manifest_media_root(old), files->root);
    struct progress p;
    progress_init(&p, "compare", manifest_count(old));
    for (uint64_t i = 0; rc == 0 && i < manifest_count(old); i++) {
        show(&p, i);
        rc = manifest_get(old, i, v, e);
        struct index_file *f = rc == 0 ? index_files_by_uri(files, v->uri) : NULL;
        if (!f)
            continue;
        f->known = true;
        if (v->probe_reason != MEDIA_OPEN_FAILED &&
            index_files_same(files, v->uri, v->size_bytes, v->mtime_ns))
            f->at = INDEX_UNCHANGED;
    }
    show_end(&p, manifest_count(old));
    free(v);
    return rc;
}

static void count(struct index_summary *s, const struct manifest_video *v)
{
    s->videos++;
    s->with_video += v->video_stream >= 0;
    s->with_audio += v->audio_stream >= 0;
    s->bytes += v->size_bytes;
    s->reasons[v->probe_reason < MEDIA_REASONS ? v->probe_reason : MEDIA_UNREADABLE]++;
    s->splits[v->split]++;
    s->hours += v->duration_s / 3600;
    for (unsigned f = 0; f < MEDIA_FACTS; f++)
        s->facts[f] += v->facts >> f & 1;
}

/* What the probe found becomes the scratch video; truth and split stay. Its key frames are a file's, or a
 * worker's, word: what makes no list is left out, and the video is sought without. */
static int take_found(struct writing *w, const struct index_file *f, bool *out_opened, struct err *e)
{
    struct index_found found;
    uint8_t list[KEYFRAME_LIST_BYTES];
    int rc = index_partial_get(w->partial, f->at, &found, w->keys, e);
    *out_opened = rc == 0 && found.reason != MEDIA_OPEN_FAILED;
    if (rc < 0)
        return rc;
    w->n_keys = keyframe_list_encode(0, w->keys, found.keyframes, list) ? found.keyframes : 0;
    struct manifest_video *v = &w->video;
    v->size_bytes = found.size_bytes;
    v->mtime_ns = found.mtime_ns;
    v->duration_s = found.probe.duration_s;
    v->fps = found.probe.fps;
    v->width = found.probe.width;
    v->height = found.probe.height;
    v->video_stream = found.probe.video_stream;
    v->audio_stream = found.probe.audio_stream;
    v->sample_rate = found.probe.sample_rate;
    v->channels = found.probe.channels;
    v->probe_reason = found.reason;
    v->facts = found.facts;
    return 0;
}

/* Appends the scratch video, with the file's label where there are labels. */
static int append(struct writing *w, const struct index_file *f, struct err *e)
{
    struct manifest_video *v = &w->video;
    int rc = 0;
    if (f && w->labelled) {
        v->truth = -1;
        v->split = f->split;
        rc = f->label ? manifest_class(w->m, f->label, &v->truth, e) : 0;
    }
    if (rc == 0)
        rc = manifest_append(w->m, v, e);
    if (rc == 0 && w->n_keys)
        rc = manifest_append_keyframes(w->m, w->keys, w->n_keys, e);
    if (rc == 0)
        count(w->s, v);
    w->s->keyframes += w->n_keys;
    return rc;
}

/* A video of the old manifest. */
static int append_known(struct writing *w, uint64_t index, struct err *e)
{
    bool opened = false;
    int rc = manifest_get(w->old, index, &w->video, e);
    if (rc == 0)
        rc = manifest_keyframes(w->old, index, w->keys, &w->n_keys, e);
    const struct index_file *f = rc == 0 ? index_files_by_uri(w->files, w->video.uri) : NULL;
    if (rc == 0 && f && f->at == INDEX_UNCHANGED) {
        w->s->unchanged++;
        return append(w, f, e);
    }
    struct manifest_video before = w->video;
    if (rc == 0 && f)
        rc = take_found(w, f, &opened, e);
    if (rc == 0 && opened) {
        w->s->changed++;
    } else if (rc == 0) {
        w->video = before;
        w->n_keys = 0;
        w->video.probe_reason = MEDIA_OPEN_FAILED;
        w->s->gone++;
    }
    return rc == 0 ? append(w, f, e) : rc;
}

static int append_new(struct writing *w, const struct index_file *f, struct err *e)
{
    bool opened;
    w->video = (struct manifest_video){.truth = -1};
    snprintf(w->video.uri, sizeof w->video.uri, "%s", f->uri);
    int rc = take_found(w, f, &opened, e);
    w->s->added++;
    return rc == 0 ? append(w, f, e) : rc;
}

static int write_all(struct writing *w, const char *path, struct err *e)
{
    int32_t class;
    struct progress p;
    progress_init(&p, "write", w->files->count);
    int rc = manifest_create(path, w->files->root, &w->m, e);
    for (uint32_t i = 0; rc == 0 && w->old && i < manifest_classes(w->old); i++)
        rc = manifest_class(w->m, manifest_class_name(w->old, (int32_t)i), &class, e);
    for (uint64_t i = 0; rc == 0 && w->old && i < manifest_count(w->old); i++) {
        rc = append_known(w, i, e);
        show(&p, w->s->videos);
    }
    for (size_t i = 0; rc == 0 && i < w->files->count; i++) {
        if (!w->files->file[i].known)
            rc = append_new(w, &w->files->file[i], e);
        show(&p, w->s->videos);
    }
    if (rc == 0)
        rc = manifest_commit(w->m, e);
    show_end(&p, w->s->videos);
    return rc;
}

int index_write(const char *path, struct index_files *files, const struct index_partial *partial,
                const struct manifest *old, bool labelled, struct index_summary *s, struct err *e)
{
    struct writing *w = calloc(1, sizeof *w);
    if (!w)
        return err_sys(e, ENOMEM, "write %s", path);
    *w = (struct writing){.old = old, .files = files, .partial = partial, .s = s, .labelled = labelled};
    int rc = write_all(w, path, e);
    if (rc == 0) {
        s->identity = manifest_identity(w->m);
        s->classes = manifest_classes(w->m);
    }
    manifest_close(w->m);
    free(w);
    return rc;
}
