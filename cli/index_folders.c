#include "cli/index_folders.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The folders of a path below the root; -1 of one outside. */
static int depth(const char *uri)
{
    int n = 0;
    if (*uri == '/')
        return -1;
    for (; *uri; uri++)
        n += *uri == '/';
    return n;
}

/* Copies the folder number `at` of a path. */
static void folder(const char *uri, int at, char out[NAME_MAX + 1])
{
    while (at--)
        uri = strchr(uri, '/') + 1;
    snprintf(out, NAME_MAX + 1, "%.*s", (int)strcspn(uri, "/"), uri);
}

struct shape {
    int depth;          /* of the first file */
    const char *unlike; /* a file that lies elsewhere, or NULL */
    bool splits[4];     /* folders of the root that are splits */
    bool other;         /* one that is none */
    bool several;       /* classes */
};

static struct shape shape_of(const struct index_files *f)
{
    struct shape s = {.depth = f->count ? depth(f->file[0].uri) : 0};
    char first[NAME_MAX + 1] = "", here[NAME_MAX + 1];
    for (size_t i = 0; i < f->count && !s.unlike; i++) {
        const char *uri = f->file[i].uri;
        if (f->file[i].member || depth(uri) != s.depth || s.depth < 1 || s.depth > 2) {
            s.unlike = uri;
            break;
        }
        folder(uri, 0, here);
        int split = form_split(here);
        if (split > 0)
            s.splits[split] = true;
        else
            s.other = true;
        folder(uri, s.depth - 1, here);
        if (i == 0)
            memcpy(first, here, sizeof first);
        s.several |= strcmp(first, here) != 0;
    }
    return s;
}

static enum index_folders kind_of(const struct shape *s)
{
    if (s->unlike || !s->several)
        return INDEX_FOLDERS_NONE;
    if (s->depth == 1)
        return s->other ? INDEX_FOLDERS_CLASSES : INDEX_FOLDERS_NONE;
    return s->other ? INDEX_FOLDERS_NONE : INDEX_FOLDERS_SPLITS;
}

static int refuse(const struct index_files *files, const struct shape *s, struct err *e)
{
    static const char need[] = "--classes folders: every media file must lie in CLASS/ or in SPLIT/CLASS/ "
                               "(SPLIT is train, val or test), of two classes or more";
    if (s->unlike)
        return err_set(e, XDC_EFORMAT, "%s: %s below %s does not", need, s->unlike, files->root);
    if (s->several && s->depth == 1)
        return err_set(e, XDC_EFORMAT, "%s: below %s there are splits without classes", need, files->root);
    return err_set(e, XDC_EFORMAT, "%s: that is not so below %s", need, files->root);
}

static int label(struct index_files *files, const struct index_rows *r, const struct shape *s,
                 struct index_match *m, struct err *e)
{
    char class[NAME_MAX + 1], split[NAME_MAX + 1];
    char *last = NULL; /* files of one class mostly lie together */
    for (size_t i = 0; i < files->count; i++) {
        struct index_file *f = &files->file[i];
        folder(f->uri, s->depth - 1, class);
        if (!last || strcmp(last, class))
            last = index_files_text(files, class);
        if (!last)
            return err_sys(e, ENOMEM, "classes");
        f->named = index_rows_wants(r, last);
        f->label = last;
        folder(f->uri, 0, split);
        f->split = s->depth == 2          ? (enum manifest_split)form_split(split)
                   : r->options.split > 0 ? (enum manifest_split)r->options.split
                                          : MANIFEST_SPLIT_NONE;
        m->labelled += f->named;
    }
    return 0;
}

int index_folders_apply(struct index_files *files, struct index_rows *r, bool asked, struct index_match *m,
                        enum index_folders *out, struct err *e)
{
    struct shape s = shape_of(files);
    *out = kind_of(&s);
    if (!asked && (*out != INDEX_FOLDERS_SPLITS || !s.splits[MANIFEST_SPLIT_TRAIN] ||
                   !(s.splits[MANIFEST_SPLIT_VAL] || s.splits[MANIFEST_SPLIT_TEST])))
        *out = INDEX_FOLDERS_NONE;
    if (*out == INDEX_FOLDERS_NONE)
        return asked ? refuse(files, &s, e) : 0;
    int rc = label(files, r, &s, m, e);
    if (rc < 0)
        return rc;
    r->left_out = files->count - m->labelled;
    index_files_keep_named(files);
    return files->count ? 0 : err_set(e, -ENOENT, "%s: no media files of these classes", files->root);
}
