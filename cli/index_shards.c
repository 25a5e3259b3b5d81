#include "cli/index_shards.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/shard_labels.h"
#include "lib/fsutil.h"
#include "lib/media_file.h"
#include "lib/progress.h"
#include "lib/tar.h"

#define SENTENCE_MAX 512

struct shards {
    struct index_files *files;
    struct index_shards *seen;
    bool labels;
    int split;
    struct tar_member member; /* scratch */
    struct shard_labels found;
    struct progress progress;
};

/* An archive while it is read. */
struct shard {
    const char *uri;
    struct media_file file;
    size_t first;   /* of its media among the files */
    size_t members; /* that were read */
};

static int name_it(struct shards *s, struct index_named *n, const char *text, struct err *e)
{
    char *copy = index_files_text(s->files, text);
    if (!copy)
        return err_sys(e, ENOMEM, "archives");
    index_named_add(n, copy);
    return 0;
}

static int add_media(struct shards *s, const struct shard *a, struct err *e)
{
    char uri[MANIFEST_URI_MAX];
    struct index_file *f;
    if (media_file_member_uri(uri, sizeof uri, a->uri, s->member.at, s->member.name) < 0) {
        s->seen->passed++;
        return 0;
    }
    int rc = index_files_append(s->files, uri, &f, e);
    if (rc < 0)
        return rc;
    f->member = true;
    s->seen->media++;
    return 0;
}

/* What a member says of its sample's class. */
static int read_label(struct shards *s, const struct shard *a, size_t limit, struct err *e)
{
    const struct tar_member *m = &s->member;
    char uri[MANIFEST_URI_MAX];
    int rc = -EINVAL;
    if (m->size <= limit) {
        char *text = malloc(m->size + 1);
        if (!text)
            return err_sys(e, ENOMEM, "%s", m->name);
        rc = fs_read_at(a->file.fd, text, m->size, m->data, a->uri, e);
        if (rc == 0)
            rc = shard_labels_add(&s->found, s->files, m->name, text, m->size);
        free(text);
    }
    if (rc == -ENOMEM)
        return err_sys(e, ENOMEM, "labels of %s", a->uri);
    if (rc != -EINVAL)
        return rc;
    if (media_file_member_uri(uri, sizeof uri, a->uri, m->at, m->name) < 0)
        uri[sizeof uri - 1] = '\0';
    return name_it(s, &s->seen->unread, uri, e);
}

static int take_member(struct shards *s, const struct shard *a, struct err *e)
{
    const struct tar_member *m = &s->member;
    if (m->kind == TAR_FOLDER)
        return 0;
    if (m->kind == TAR_OTHER) {
        s->seen->passed++;
        return 0;
    }
    if (index_files_is_media(m->name))
        return add_media(s, a, e);
    size_t limit = s->labels ? shard_labels_limit(m->name) : 0;
    if (limit)
        return read_label(s, a, limit, e);
    s->seen->others++;
    return 0;
}

/* The split of samples that say none. */
static enum manifest_split split_of(struct shards *s, const char *uri)
{
    char folder[MANIFEST_URI_MAX];
    if (s->split >= 0)
        return (enum manifest_split)s->split;
    int split = index_split_by_name(uri);
    snprintf(folder, sizeof folder, "%s", uri);
    char *slash = strrchr(folder, '/');
    if (split == MANIFEST_SPLIT_NONE && slash) {
        *slash = '\0';
        slash = strrchr(folder, '/');
        split = form_split(slash ? slash + 1 : folder);
    }
    return split > 0 ? (enum manifest_split)split : MANIFEST_SPLIT_NONE;
}

/* Gives the media of an archive what its other members say. */
static void label(struct shards *s, const struct shard *a)
{
    enum manifest_split split = split_of(s, a->uri);
    shard_labels_sort(&s->found);
    for (size_t i = a->first; i < s->files->count; i++) {
        struct index_file *f = &s->files->file[i];
        const char *name = f->uri + strlen(a->uri) + 1;
        shard_labels_find(&s->found, name + strcspn(name, "/") + 1, &f->label, &f->split);
        if (!f->split) {
            f->split = split;
            s->seen->split_by_name += split && s->split < 0;
        }
        s->seen->labels |= f->label || f->split;
    }
    shard_labels_clear(&s->found);
}

static int note_broken(struct shards *s, const struct shard *a, const char *why, struct err *e)
{
    char text[SENTENCE_MAX];
    if (a->members)
        snprintf(text, sizeof text, "%.380s; the %zu members before it are read", why, a->members);
    else
        snprintf(text, sizeof text, "%.380s; no member could be read", why);
    return name_it(s, &s->seen->broken, text, e);
}

static int read_members(struct shards *s, struct shard *a, struct err *e)
{
    struct err why = {0};
    uint64_t at = 0;
    int rc;
    while ((rc = tar_member(a->file.fd, a->file.size, at, a->uri, &s->member, &why)) == 1) {
        rc = take_member(s, a, e);
        if (rc < 0)
            return rc;
        a->members++;
        at = s->member.next;
    }
    s->seen->members += a->members;
    if (s->labels)
        label(s, a);
    return rc < 0 ? note_broken(s, a, why.msg, e) : 0;
}

static int read_archive(struct shards *s, const char *uri, struct err *e)
{
    struct shard a = {.uri = uri, .first = s->files->count};
    struct err why = {0};
    s->seen->archives++;
    if (media_file_open(s->files->root, uri, &a.file, &why) < 0)
        return note_broken(s, &a, why.msg, e);
    int rc = read_members(s, &a, e);
    close(a.file.fd);
    return rc;
}

static void drop_archives(struct index_files *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->count; i++)
        if (!f->file[i].archive)
            f->file[kept++] = f->file[i];
    f->count = kept;
}

int index_shards_read(struct index_files *f, bool labels, int split, struct err *e)
{
    size_t n = f->count, archives = 0;
    for (size_t i = 0; i < n; i++)
        archives += f->file[i].archive;
    if (!archives)
        return 0;
    struct shards *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "archives");
    *s = (struct shards){.files = f, .seen = &f->shards, .labels = labels, .split = split};
    progress_init(&s->progress, "archives", archives);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (!f->file[i].archive)
            continue;
        rc = read_archive(s, f->file[i].uri, e);
        progress_set(&s->progress, f->shards.archives);
        progress_print(&s->progress, stderr, false);
    }
    if (s->progress.last_print_s > s->progress.start_s) /* short work has shown nothing */
        progress_print(&s->progress, stderr, true);
    shard_labels_clear(&s->found);
    free(s);
    drop_archives(f);
    index_files_sort(f);
    return rc;
}

int index_shards_apply(struct index_files *f, struct index_rows *r, struct index_match *m, struct err *e)
{
    size_t before = f->count;
    for (size_t i = 0; i < f->count; i++) {
        f->file[i].named = index_rows_wants(r, f->file[i].label);
        m->labelled += f->file[i].named && f->file[i].label;
    }
    r->split_by_name += f->shards.split_by_name;
    if (!r->options.only)
        return 0;
    index_files_keep_named(f);
    r->left_out = before - f->count;
    return f->count ? 0 : err_set(e, -ENOENT, "%s: no media files of these classes", f->root);
}
