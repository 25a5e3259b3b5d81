/* Annotation files of a line each: path lists with and without labels, UCF101, HMDB51. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/index_files.h"
#include "cli/index_forms.h"

#define LOOK_LINES 200

/* What the lines of a list are like. */
struct lines {
    size_t n, labelled, media; /* media: labelled lines whose path is one by its name */
    size_t numbered, up_to_two;
    size_t in_class;  /* CLASS/name */
    size_t ucf_names; /* CLASS/v_CLASS... */
    size_t names;     /* without a folder */
};

static struct lines look_at(struct form_reader *r)
{
    struct lines l = {0};
    char *line, *path, *label;
    unsigned long number;
    while (l.n < LOOK_LINES && (line = form_line(r))) {
        form_path_label(line, false, &path, &label);
        const char *slash = strchr(path, '/');
        l.n++;
        l.labelled += *label != '\0';
        l.media += *label && *label != ',' && index_files_is_media(path);
        l.names += !slash;
        if (slash && !strchr(slash + 1, '/')) {
            l.in_class++;
            l.ucf_names +=
                !strncmp(slash + 1, "v_", 2) && !strncasecmp(slash + 3, path, (size_t)(slash - path));
        }
        if (form_whole(label, &number)) {
            l.numbered++;
            l.up_to_two += number <= 2;
        }
    }
    return l;
}

/* paths: one a line, without labels */

static enum index_looks paths_look(struct form_reader *r)
{
    r->comments = false;
    return look_at(r).labelled ? INDEX_LOOKS_NO : INDEX_LOOKS_POSSIBLE;
}

static int paths_read(struct index_reading *g, struct err *e)
{
    char *line;
    int rc = 0;
    g->reader.comments = false; /* a path may begin with # */
    while (rc == 0 && (line = form_line(&g->reader)))
        rc =
            index_rows_add(g, (struct index_row){.key = line, .start_s = -1, .split = INDEX_SPLIT_UNSAID}, e);
    return rc;
}

const struct index_form form_paths = {
    .name = "paths", .what = "one path a line", .unlabelled = true, .looks = paths_look, .read = paths_read};

/* list: a path, and behind it a label; DCASE 2014 among them */

static enum index_looks list_look(struct form_reader *r)
{
    struct lines l = look_at(r);
    if (l.labelled)
        return l.media == l.labelled ? INDEX_LOOKS_LIKE : INDEX_LOOKS_NO;
    return l.n ? INDEX_LOOKS_POSSIBLE : INDEX_LOOKS_NO;
}

static int list_read(struct index_reading *g, struct err *e)
{
    char *line, *path, *label;
    int rc = 0;
    while (rc == 0 && (line = form_line(&g->reader))) {
        form_path_label(line, true, &path, &label);
        if (!*path)
            return form_fault(&g->reader, e, "no path");
        rc = index_rows_add(
            g,
            (struct index_row){
                .key = path, .label = *label ? label : NULL, .start_s = -1, .split = INDEX_SPLIT_UNSAID},
            e);
    }
    return rc;
}

const struct index_form form_list = {.name = "list",
                                     .what = "a path and its label a line, DCASE 2014 among them",
                                     .split_by_name = true,
                                     .looks = list_look,
                                     .read = list_read};

/* ucf101: classInd.txt "1 Class", trainlist "Class/name.avi 1", testlist "Class/name.avi" */

/* Splits "1 Class" in place. */
static bool class_line(char *line, char **out_name)
{
    unsigned long number;
    char *blank = line + strcspn(line, " \t");
    if (!*blank)
        return false;
    *blank = '\0';
    *out_name = form_trim(blank + 1);
    return form_whole(line, &number) && **out_name && !index_files_is_media(*out_name);
}

static bool ucf101_is_names(struct form_reader *r)
{
    char *line, *name;
    size_t n = 0;
    while (n < LOOK_LINES && (line = form_line(r))) {
        if (!class_line(line, &name))
            return false;
        n++;
    }
    return n > 0;
}

static enum index_looks ucf101_look(struct form_reader *r)
{
    struct lines l = look_at(r);
    if (!l.n || l.in_class != l.n || l.numbered != l.labelled)
        return INDEX_LOOKS_NO;
    if (!l.labelled)
        return INDEX_LOOKS_POSSIBLE;
    return l.ucf_names == l.n ? INDEX_LOOKS_SURE : INDEX_LOOKS_LIKE;
}

static int ucf101_names(struct index_reading *g, struct err *e)
{
    char *line, *name;
    int rc = 0;
    while (rc == 0 && (line = form_line(&g->reader))) {
        if (!class_line(line, &name))
            return form_fault(&g->reader, e, "must be a number and a class");
        rc = index_rows_name(g->rows, line, name, e);
    }
    return rc;
}

/* The class of CLASS/name by its folder, as the list of classes writes it. */
static int class_of_folder(struct index_reading *g, const char *path, char *folder, const char **out,
                           struct err *e)
{
    const struct index_rows *rows = g->rows;
    size_t n = strcspn(path, "/");
    if (!path[n] || n >= MANIFEST_URI_MAX)
        return form_fault(&g->reader, e, "%.200s: must be CLASS/NAME", path);
    memcpy(folder, path, n);
    folder[n] = '\0';
    for (size_t i = 0; i < rows->names; i++) {
        if (strcasecmp(rows->name[i].name, folder))
            continue;
        *out = rows->name[i].name;
        return 0;
    }
    return form_fault(&g->reader, e, "%.200s is no class of the list of classes", folder);
}

static int ucf101_read(struct index_reading *g, struct err *e)
{
    char *line, *path, *label, folder[MANIFEST_URI_MAX];
    int rc = 0;
    struct form_reader *r = &g->reader;
    if (!g->rows->names)
        return err_set(e, XDC_EFORMAT,
                       "%s: UCF101 lists have the names of their classes in classInd.txt: give it too",
                       r->name);
    while (rc == 0 && (line = form_line(r))) {
        struct index_row row = {.key_kind = INDEX_KEY_NAME, .start_s = -1, .split = INDEX_SPLIT_UNSAID};
        form_path_label(line, true, &path, &label);
        row.key = path;
        if (*label)
            row.label = index_rows_find_name(g->rows, label);
        else
            rc = class_of_folder(g, path, folder, &row.label, e);
        if (rc == 0 && !row.label)
            return form_fault(r, e, "no class has the number %.80s", label);
        if (rc == 0)
            rc = index_rows_add(g, row, e);
    }
    return rc;
}

const struct index_form form_ucf101 = {.name = "ucf101",
                                       .what = "UCF101 trainlist and testlist, together with classInd.txt",
                                       .by_walk = true,
                                       .split_by_name = true,
                                       .looks = ucf101_look,
                                       .is_names = ucf101_is_names,
                                       .read_names = ucf101_names,
                                       .read = ucf101_read};

/* hmdb51: CLASS_test_splitN.txt with "name.avi 0|1|2" */

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *hmdb51_mark(const char *path)
{
    return strstr(base_of(path), "_test_split");
}

static enum index_looks hmdb51_look(struct form_reader *r)
{
    struct lines l = look_at(r);
    if (!l.n || l.up_to_two != l.n || l.names != l.n || l.media != l.n)
        return INDEX_LOOKS_NO;
    return hmdb51_mark(r->name) ? INDEX_LOOKS_SURE : INDEX_LOOKS_LIKE;
}

static int hmdb51_read(struct index_reading *g, struct err *e)
{
    static const int8_t splits[] = {MANIFEST_SPLIT_NONE, MANIFEST_SPLIT_TRAIN, MANIFEST_SPLIT_TEST};
    const char *base = base_of(g->reader.name), *mark = hmdb51_mark(g->reader.name);
    char *line, *path, *label, *class = g->rows->list[g->list].class;
    unsigned long use;
    int rc = 0;
    if (!mark || mark == base)
        return err_set(e, XDC_EFORMAT,
                       "%s: a split file of HMDB51 is named CLASS_test_splitN.txt after its class",
                       g->reader.name);
    snprintf(class, NAME_MAX + 1, "%.*s", (int)(mark - base), base);
    while (rc == 0 && (line = form_line(&g->reader))) {
        form_path_label(line, true, &path, &label);
        if (!form_whole(label, &use) || use > 2)
            return form_fault(&g->reader, e, "must be a name and 0, 1 or 2");
        rc = index_rows_add(
            g,
            (struct index_row){
                .key = path, .key_kind = INDEX_KEY_NAME, .label = class, .start_s = -1, .split = splits[use]},
            e);
    }
    return rc;
}

const struct index_form form_hmdb51 = {.name = "hmdb51",
                                       .what = "HMDB51 split files",
                                       .by_walk = true,
                                       .looks = hmdb51_look,
                                       .read = hmdb51_read};
