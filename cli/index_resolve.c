#include "cli/index_resolve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/index_names.h"
#include "cli/index_shards.h"
#include "lib/fsutil.h"

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* The file of a path: from the list's folder, else from the media folder. */
static int find_path(const struct index_rows *r, const struct index_row *row, struct index_files *files,
                     struct index_file **out, struct err *e)
{
    char path[PATH_MAX];
    int rc = index_files_normalize(r->list[row->list].dir, row->key, path, e);
    if (rc == 0)
        *out = index_files_lookup(files, path);
    if (rc == 0 && !*out && row->key[0] != '/') {
        rc = index_files_normalize(files->root, row->key, path, e);
        *out = rc == 0 ? index_files_lookup(files, path) : NULL;
    }
    return rc;
}

static int give(const struct index_rows *r, const struct index_row *row, struct index_file *f,
                struct index_match *m, struct err *e)
{
    m->matched++;
    if (!f->named) {
        f->named = true;
        f->split = (enum manifest_split)row->split;
        f->label = row->label;
        m->labelled += row->label != NULL;
        m->unlabelled += row->label == NULL;
    } else if (f->split == (enum manifest_split)row->split && same_text(f->label, row->label)) {
        index_named_add(&m->repeated, row->key);
    } else if (r->form->strict) {
        return err_set(e, XDC_EFORMAT, "%s:%u: a second row for %s says something else",
                       r->list[row->list].path, row->line, row->key);
    } else {
        index_named_add(&m->conflicting, row->key);
    }
    return 0;
}

static int give_all(struct index_rows *r, struct index_files *files, struct index_match *m, struct err *e)
{
    struct index_names names = {0};
    bool members = files->shards.media > 0;
    int rc = r->form->by_walk || members ? index_names_open(&names, files, e) : 0;
    for (size_t i = 0; rc == 0 && i < r->count; i++) {
        struct index_row *row = &r->row[i];
        struct index_file *f = NULL;
        bool several = false;
        if (row->key_kind == INDEX_KEY_PATH)
            rc = find_path(r, row, files, &f, e);
        else
            f = index_names_find(&names, row, &several);
        if (rc < 0)
            break;
        if (!f && members && row->key_kind == INDEX_KEY_PATH)
            f = index_names_member(&names, row->key, &several);
        m->rows++;
        if (several)
            index_named_add(&m->ambiguous, row->key);
        row->missing = !f;
        if (f)
            rc = give(r, row, f, m, e);
        else
            index_named_add(&m->missing, row->key);
    }
    for (size_t i = 0; i < files->count; i++)
        m->unmatched_files += !files->file[i].named;
    index_names_close(&names);
    return rc;
}

/* Adds the file that a row names by its path, if it is there or is taken as it is. */
static int add_path(const struct index_rows *r, struct index_row *row, bool media, struct index_files *files,
                    struct err *e)
{
    char path[PATH_MAX], other[PATH_MAX];
    const char *base = r->list[row->list].dir;
    if (index_files_is_archive(row->key))
        return err_set(e, XDC_EUSAGE,
                       "%s:%u: %s is a tar archive: archives, or the folder they lie in, are given as PATH",
                       r->list[row->list].path, row->line, row->key);
    int rc = index_files_normalize(base, row->key, path, e);
    bool there = rc == 0 && access(path, F_OK) == 0;
    if (rc == 0 && !there && media) {
        rc = index_files_normalize(files->root, row->key, other, e);
        there = rc == 0 && access(other, F_OK) == 0;
        memcpy(path, other, sizeof path);
    }
    row->missing = !there;
    if (rc == 0 && (there || r->form->unlabelled))
        rc = index_files_add(files, path, e);
    return rc;
}

static int none_there(const struct index_rows *r, const struct index_files *files,
                      const struct index_named *missing, struct err *e)
{
    char some[512] = "";
    size_t n = 0;
    for (size_t i = 0; i < missing->count && i < INDEX_NAMED && n < sizeof some; i++)
        n += (size_t)snprintf(some + n, sizeof some - n, "%s%.80s", i ? ", " : "", missing->first[i]);
    if (!r->count)
        return err_set(e, -ENOENT, "%s: no media files%s", r->list[0].path,
                       r->left_out ? " of these classes" : "");
    return err_set(
        e, -ENOENT,
        "%s (form %s): none of the %zu media files that it names is there: %s%s; looked for below %s: "
        "--media DIR says where they are",
        r->list[0].path, r->form->name, missing->count, some, missing->count > INDEX_NAMED ? ", ..." : "",
        files->root);
}

static int add_paths(struct index_rows *r, bool media, struct index_files *files, size_t *out_there,
                     struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->count; i++) {
        rc = add_path(r, &r->row[i], media, files, e);
        *out_there += !r->row[i].missing;
    }
    index_files_sort(files);
    return rc;
}

/* Paths alone: each is a file of the index, there or not. */
static int take_paths(struct index_rows *r, struct index_files *files, struct index_match *m, struct err *e)
{
    struct index_named missing = {0};
    m->rows = r->count;
    for (size_t i = 0; i < r->count; i++) {
        if (r->row[i].missing)
            index_named_add(&missing, r->row[i].key);
    }
    if (missing.count == r->count)
        return none_there(r, files, &missing, e);
    m->missing = missing;
    m->matched = r->count - missing.count;
    m->repeated.count = r->count - files->count;
    for (size_t i = 0; i < files->count; i++) {
        files->file[i].named = true;
        files->file[i].split = (enum manifest_split)r->row[0].split;
    }
    return 0;
}

static int walk(struct index_files *files, struct err *e)
{
    int rc = index_files_walk(files, e);
    return rc == 0 ? index_shards_read(files, false, MANIFEST_SPLIT_NONE, e) : rc;
}

int index_resolve_lists(struct index_rows *r, const char *media, struct index_files *files,
                        struct index_match *m, struct err *e)
{
    size_t there = 0;
    *m = (struct index_match){0};
    int rc = index_files_begin(files, media ? media : r->list[0].dir, e);
    if (rc == 0)
        rc = r->form->by_walk ? walk(files, e) : add_paths(r, media != NULL, files, &there, e);
    if (rc == 0 && r->form->unlabelled)
        return take_paths(r, files, m, e);
    if (rc == 0)
        rc = give_all(r, files, m, e);
    if (rc == 0 && !m->matched)
        rc = none_there(r, files, &m->missing, e);
    if (rc == 0)
        index_files_keep_named(files);
    return rc;
}

int index_resolve_labels(struct index_rows *r, struct index_files *files, struct index_match *m,
                         struct err *e)
{
    *m = (struct index_match){0};
    int rc = give_all(r, files, m, e);
    if (rc == 0 && r->options.only)
        index_files_keep_named(files);
    if (rc == 0 && !files->count)
        rc = none_there(r, files, &m->missing, e);
    return rc;
}

/* A class as a row, a file or a list of names has it. */
struct mention {
    const char *label;
    bool clip, test, asked;
};

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct mention *)a)->label, ((const struct mention *)b)->label);
}

static size_t gather(const struct index_rows *r, const struct index_files *files, struct mention *all)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        if (r->row[i].label)
            all[n++] = (struct mention){.label = r->row[i].label};
    for (size_t i = 0; i < r->names; i++)
        if (index_rows_wants(r, r->name[i].name))
            all[n++] = (struct mention){.label = r->name[i].name};
    for (size_t i = 0; i < files->count; i++)
        if (files->file[i].label)
            all[n++] = (struct mention){.label = files->file[i].label,
                                        .clip = true,
                                        .test = files->file[i].split == MANIFEST_SPLIT_TEST};
    qsort(all, n, sizeof *all, by_label);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(all[kept - 1].label, all[i].label)) {
            all[kept - 1].clip |= all[i].clip;
            all[kept - 1].test |= all[i].test;
        } else {
            all[kept++] = all[i];
        }
    }
    return kept;
}

static bool is_mentioned(const struct mention *all, size_t n, const char *class)
{
    for (size_t i = 0; i < n; i++)
        if (index_same_class(all[i].label, class))
            return true;
    return false;
}

int index_resolve_classes(const struct index_rows *r, const struct index_files *files, struct index_match *m,
                          struct err *e)
{
    struct mention *all = malloc((r->count + r->names + files->count + 1) * sizeof *all);
    bool any_test = false;
    if (!all)
        return err_sys(e, ENOMEM, "classes");
    size_t n = gather(r, files, all);
    for (size_t i = 0; i < n; i++)
        any_test |= all[i].test;
    for (size_t i = 0; i < n; i++) {
        if (!all[i].clip)
            index_named_add(&m->no_clip, all[i].label);
        else if (any_test && !all[i].test)
            index_named_add(&m->no_test, all[i].label);
    }
    for (size_t i = 0; i < r->only_classes; i++)
        if (!is_mentioned(all, n, r->only_class[i]))
            index_named_add(&m->unknown, r->only_class[i]);
    free(all);
    return 0;
}

int index_resolve_write_missing(const struct index_rows *r, const char *path, struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return err_sys(e, ENOMEM, "%s", path);
    for (size_t i = 0; i < r->count; i++)
        if (r->row[i].missing)
            fprintf(f, "%s\n", r->row[i].key);
    int rc = fclose(f) ? err_sys(e, ENOMEM, "%s", path) : 0;
    if (rc == 0 && size)
        rc = fs_write_atomic(path, text, size, e);
    else if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
        rc = err_sys(e, errno, "remove %s", path);
    free(text);
    return rc;
}
