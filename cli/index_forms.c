#include "cli/index_forms.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/fsutil.h"

#define SAMPLE_BYTES ((size_t)64 << 10)
#define LISTS_MAX 65535

const struct index_form *const index_form_all[] = {
    &form_labels, &form_kinetics, &form_audioset, &form_vggsound, &form_ave,   &form_ucf101,
    &form_hmdb51, &form_esc50,    &form_list,     &form_jsonl,    &form_paths, NULL};
#define FORMS (sizeof index_form_all / sizeof index_form_all[0] - 1)

static char plain(char c)
{
    return c == '_' ? ' ' : (char)tolower((unsigned char)c);
}

int index_class_order(const char *a, const char *b)
{
    while (*a && plain(*a) == plain(*b)) {
        a++;
        b++;
    }
    unsigned char x = (unsigned char)plain(*a), y = (unsigned char)plain(*b);
    return (x > y) - (x < y);
}

bool index_same_class(const char *a, const char *b)
{
    return index_class_order(a, b) == 0;
}

static int by_class(const void *a, const void *b)
{
    return index_class_order(*(const char *const *)a, *(const char *const *)b);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct index_class_name *)a)->key, ((const struct index_class_name *)b)->key);
}

int index_rows_name(struct index_rows *r, const char *key, const char *name, struct err *e)
{
    if (r->names == r->names_capacity) {
        size_t more = r->names_capacity ? 2 * r->names_capacity : 128;
        struct index_class_name *grown = realloc(r->name, more * sizeof *grown);
        if (!grown)
            return err_sys(e, ENOMEM, "names of classes");
        r->name = grown;
        r->names_capacity = more;
    }
    r->name[r->names++] = (struct index_class_name){.key = key, .name = name};
    return 0;
}

const char *index_rows_find_name(const struct index_rows *r, const char *key)
{
    struct index_class_name wanted = {.key = key};
    const struct index_class_name *found =
        r->names ? bsearch(&wanted, r->name, r->names, sizeof wanted, by_key) : NULL;
    return found ? found->name : NULL;
}

bool index_rows_wants(const struct index_rows *r, const char *label)
{
    return !r->options.only || (label && r->only_classes &&
                                bsearch(&label, r->only_class, r->only_classes, sizeof label, by_class));
}

int index_rows_add(struct index_reading *g, struct index_row row, struct err *e)
{
    struct index_rows *r = g->rows;
    if (!index_rows_wants(r, row.label)) {
        r->left_out++;
        return 0;
    }
    if (r->count == r->capacity) {
        size_t more = r->capacity ? 2 * r->capacity : 1024;
        struct index_row *grown = realloc(r->row, more * sizeof *grown);
        if (!grown)
            return err_sys(e, ENOMEM, "%zu rows", more);
        r->row = grown;
        r->capacity = more;
    }
    row.line = (uint32_t)g->reader.line;
    row.list = g->list;
    if (row.split == INDEX_SPLIT_UNSAID) {
        row.split = (int8_t)r->list[g->list].split;
        r->split_by_name += r->options.split < 0 && row.split != MANIFEST_SPLIT_NONE;
    }
    r->row[r->count++] = row;
    return 0;
}

int index_split_by_name(const char *path)
{
    static const char *const begins[] = {"train", "val", "test", "eval"};
    static const int means[] = {MANIFEST_SPLIT_TRAIN, MANIFEST_SPLIT_VAL, MANIFEST_SPLIT_TEST,
                                MANIFEST_SPLIT_TEST};
    const char *slash = strrchr(path, '/');
    int found = MANIFEST_SPLIT_NONE;
    for (const char *at = slash ? slash + 1 : path, *start = at; *at; at++) {
        if (at != start && isalpha((unsigned char)at[-1]))
            continue;
        for (int i = 0; i < 4; i++) {
            if (strncasecmp(at, begins[i], strlen(begins[i])))
                continue;
            if (found && found != means[i])
                return MANIFEST_SPLIT_NONE;
            found = means[i];
        }
    }
    return found;
}

static int open_list(struct index_list *l, const char *path, struct err *e)
{
    l->path = path;
    int rc = form_text_read(path, &l->memory, &l->text, &l->size, e);
    if (rc == 0 && !realpath(path, l->dir))
        rc = err_sys(e, errno, "%s", path);
    if (rc < 0)
        return rc;
    char *slash = strrchr(l->dir, '/');
    slash[slash == l->dir] = '\0';
    return 0;
}

static struct form_reader sample(const struct index_list *l, char *copy)
{
    struct form_reader r;
    size_t size = l->size < SAMPLE_BYTES ? l->size : SAMPLE_BYTES;
    memcpy(copy, l->text, size);
    while (size < l->size && size && copy[size - 1] != '\n')
        size--;
    copy[size] = '\0';
    form_reader_init(&r, l->path, copy, size);
    return r;
}

static enum index_looks looks(const struct index_form *f, const struct index_list *l, char *copy)
{
    struct form_reader r = sample(l, copy);
    if (f->is_names && f->is_names(&r))
        return INDEX_LOOKS_SURE;
    r = sample(l, copy);
    return f->looks(&r);
}

/* The names of those that look as much like it as any other. */
static void name_forms(const enum index_looks *score, enum index_looks best, char *out, size_t size)
{
    size_t n = 0;
    for (size_t f = 0; f < FORMS && n < size; f++)
        if (score[f] == best)
            n += (size_t)snprintf(out + n, size - n, "%s%s (%s)", n ? " or " : "", index_form_all[f]->name,
                                  index_form_all[f]->what);
}

static int unlike(const struct index_rows *r, struct err *e)
{
    if (r->lists > 1)
        return err_set(
            e, XDC_EFORMAT,
            "%s ... %s: lists of one form can be read together, these are of several; --form NAME says which",
            r->list[0].path, r->list[r->lists - 1].path);
    return err_set(
        e, XDC_EFORMAT,
        "%s:1: has no form that is known: the first line must be path,label or path,label,split, or "
        "that of a data set (--form NAME says which)",
        r->list[0].path);
}

/* A form is as sure as the list that looks most like it, if no list looks unlike it. */
static int detect(struct index_rows *r, char *copy, struct err *e)
{
    enum index_looks score[FORMS], best = INDEX_LOOKS_NO, marks = INDEX_LOOKS_NO; /* marks: of any list */
    size_t found = 0, n = 0;
    for (size_t f = 0; f < FORMS; f++) {
        bool fits = true;
        score[f] = INDEX_LOOKS_NO;
        for (size_t i = 0; i < r->lists; i++) {
            enum index_looks one = looks(index_form_all[f], &r->list[i], copy);
            marks = one > marks ? one : marks;
            if (one == INDEX_LOOKS_NO)
                fits = false;
            else if (one > score[f])
                score[f] = one;
        }
        if (!fits)
            score[f] = INDEX_LOOKS_NO;
        if (score[f] > best)
            best = score[f];
    }
    if (best == INDEX_LOOKS_POSSIBLE && marks == best && !r->options.labels_only) {
        r->form = &form_paths;
        return 0;
    }
    if (best <= INDEX_LOOKS_POSSIBLE)
        return unlike(r, e);
    for (size_t f = 0; f < FORMS; f++) {
        if (score[f] == best) {
            found = f;
            n++;
        }
    }
    r->form = index_form_all[found];
    if (n == 1)
        return 0;
    char names[512] = "";
    name_forms(score, best, names, sizeof names);
    return err_set(e, XDC_EFORMAT, "%s may be %s: --form NAME says which", r->list[0].path, names);
}

static int choose(struct index_rows *r, char *copy, struct err *e)
{
    if (!r->options.form)
        return detect(r, copy, e);
    for (size_t f = 0; f < FORMS; f++)
        if (!strcmp(r->options.form, index_form_all[f]->name))
            r->form = index_form_all[f];
    return 0;
}

static int read_only(struct index_rows *r, struct err *e)
{
    struct form_reader reader;
    char *line;
    size_t capacity = 0;
    int rc = open_list(&r->only, r->options.only, e);
    if (rc < 0)
        return rc;
    form_reader_init(&reader, r->only.path, r->only.text, r->only.size);
    while ((line = form_line(&reader))) {
        if (r->only_classes == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            const char **grown = realloc(r->only_class, capacity * sizeof *grown);
            if (!grown)
                return err_sys(e, ENOMEM, "%s", r->options.only);
            r->only_class = grown;
        }
        size_t n = strlen(line);
        if (n > 2 && line[0] == '"' && line[n - 1] == '"') {
            line[n - 1] = '\0';
            line++;
        }
        r->only_class[r->only_classes++] = line;
    }
    if (!r->only_classes)
        return err_set(e, XDC_EFORMAT, "%s: names no class", r->options.only);
    qsort(r->only_class, r->only_classes, sizeof *r->only_class, by_class);
    return 0;
}

static int read_lists(struct index_rows *r, bool names, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->lists; i++) {
        struct index_list *l = &r->list[i];
        struct index_reading g = {.rows = r, .list = (uint16_t)i};
        if (l->names != names)
            continue;
        form_reader_init(&g.reader, l->path, l->text, l->size);
        l->split = r->options.split >= 0    ? r->options.split
                   : r->form->split_by_name ? index_split_by_name(l->path)
                                            : MANIFEST_SPLIT_NONE;
        rc = names ? r->form->read_names(&g, e) : r->form->read(&g, e);
    }
    if (names && r->names)
        qsort(r->name, r->names, sizeof *r->name, by_key);
    return rc;
}

static int check_fold(const struct index_rows *r, struct err *e)
{
    char folds[192] = "";
    uint64_t asked = r->options.fold;
    size_t n = 0;
    if (!asked || r->folds >> asked & 1)
        return 0;
    for (unsigned i = 0; i < 64 && n < sizeof folds; i++)
        if (r->folds >> i & 1)
            n += (size_t)snprintf(folds + n, sizeof folds - n, " %u", i);
    return err_set(e, XDC_EUSAGE, "--fold %u: %s has %s%s", (unsigned)asked, r->list[0].path,
                   r->folds ? "the folds" : "no folds", folds);
}

int index_forms_read(struct index_rows *r, const struct index_form_options *o, const char *const *paths,
                     size_t n, struct err *e)
{
    *r = (struct index_rows){.options = *o};
    if (n > LISTS_MAX)
        return err_set(e, XDC_EUSAGE, "more than %d lists", LISTS_MAX);
    r->list = n ? calloc(n, sizeof *r->list) : NULL;
    char *copy = malloc(SAMPLE_BYTES + 1);
    int rc = (n && !r->list) || !copy ? err_sys(e, ENOMEM, "lists") : 0;
    if (rc == 0 && o->only)
        rc = read_only(r, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        r->lists++;
        rc = open_list(&r->list[i], paths[i], e);
    }
    if (rc == 0 && n)
        rc = choose(r, copy, e);
    for (size_t i = 0; rc == 0 && i < n && r->form->is_names; i++) {
        struct form_reader s = sample(&r->list[i], copy);
        r->list[i].names = r->form->is_names(&s);
    }
    free(copy);
    if (rc == 0)
        rc = read_lists(r, true, e);
    if (rc == 0)
        rc = read_lists(r, false, e);
    return rc == 0 ? check_fold(r, e) : rc;
}

void index_rows_close(struct index_rows *r)
{
    for (size_t i = 0; i < r->lists; i++)
        free(r->list[i].memory);
    free(r->only.memory);
    free(r->list);
    free(r->row);
    free(r->name);
    free(r->only_class);
    *r = (struct index_rows){0};
}
