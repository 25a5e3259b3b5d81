#include "cli/index_labels.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/fsutil.h"

#define TEXT_MAX ((size_t)8 << 30)
#define COLUMNS 3

struct reader {
    const char *name; /* of the file, for faults */
    char *at, *end;
    size_t line; /* of the row that was read last */
    size_t next_line;
};

/* Reads one field in place. *out_last: it ends its row. */
static int read_field(struct reader *r, char **out, bool *out_last, struct err *e)
{
    char *to = r->at;
    bool quoted = r->at < r->end && *r->at == '"';
    *out = to;
    r->at += quoted;
    for (;; r->at++) {
        if (r->at == r->end) {
            if (quoted)
                return err_set(e, XDC_EFORMAT, "%s:%zu: a quote is not closed", r->name, r->line);
            break;
        }
        if (quoted && *r->at == '"') {
            if (r->at + 1 < r->end && r->at[1] == '"') {
                r->at++;
            } else {
                quoted = false;
                continue;
            }
        } else if (!quoted && (*r->at == ',' || *r->at == '\n' || (*r->at == '\r' && r->at[1] == '\n'))) {
            break;
        }
        r->next_line += *r->at == '\n';
        *to++ = *r->at;
    }
    *out_last = r->at == r->end || *r->at != ',';
    if (r->at < r->end && *r->at == '\r')
        r->at++;
    if (r->at < r->end)
        r->next_line += *r->at++ == '\n';
    *to = '\0'; /* at or before the byte that ended the field */
    return 0;
}

/* Reads a row of at most COLUMNS fields. Returns their number, 0 at the end, or a fault. Empty lines are
 * passed over. */
static int read_row(struct reader *r, char *field[COLUMNS], struct err *e)
{
    while (r->at < r->end) {
        int n = 0;
        bool last = false;
        r->line = r->next_line;
        while (!last) {
            char *f;
            int rc = read_field(r, &f, &last, e);
            if (rc)
                return rc;
            if (n == COLUMNS)
                return err_set(e, XDC_EFORMAT, "%s:%zu: more than %d fields; quote a path that has a comma",
                               r->name, r->line, COLUMNS);
            field[n++] = f;
        }
        if (n > 1 || field[0][0])
            return n;
    }
    return 0;
}

static int read_header(struct reader *r, int *out_columns, struct err *e)
{
    static const char *const names[COLUMNS] = {"path", "label", "split"};
    char *field[COLUMNS];
    int n = read_row(r, field, e);
    if (n < 0)
        return n;
    bool good = n >= 2;
    for (int i = 0; i < n; i++)
        good = good && !strcmp(field[i], names[i]);
    if (!good)
        return err_set(e, XDC_EFORMAT, "%s:1: the first line must be path,label or path,label,split",
                       r->name);
    *out_columns = n;
    return 0;
}

static int parse_split(const struct reader *r, const char *word, enum manifest_split *out, struct err *e)
{
    static const char *const words[] = {"", "train", "val", "test"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(word, words[i])) {
            *out = (enum manifest_split)i;
            return 0;
        }
    }
    return err_set(e, XDC_EFORMAT, "%s:%zu: split '%s' is none of train, val, test", r->name, r->line, word);
}

static int apply_row(struct index_labels *l, struct reader *r, char *field[COLUMNS], const char *base,
                     struct index_files *files, unsigned char *seen, struct err *e)
{
    char path[PATH_MAX];
    enum manifest_split split = MANIFEST_SPLIT_NONE;
    int rc = parse_split(r, field[2], &split, e);
    if (!rc && !field[0][0])
        rc = err_set(e, XDC_EFORMAT, "%s:%zu: no path", r->name, r->line);
    if (!rc)
        rc = index_files_normalize(base, field[0], path, e);
    if (rc)
        return rc;
    l->rows++;
    struct index_file *f = index_files_lookup(files, path);
    if (!f) {
        l->unmatched_rows++;
        return 0;
    }
    if (seen[f - files->file])
        return err_set(e, XDC_EFORMAT, "%s:%zu: a second row for %s", r->name, r->line, field[0]);
    seen[f - files->file] = 1;
    f->split = split;
    if (field[1][0]) {
        f->label = field[1];
        l->labelled++;
    }
    return 0;
}

static int apply_rows(struct index_labels *l, struct reader *r, const char *base, struct index_files *files,
                      struct err *e)
{
    int columns = 0, n = 0;
    char *field[COLUMNS], none[1] = "";
    unsigned char *seen = calloc(files->count + 1, 1);
    if (!seen)
        return err_sys(e, ENOMEM, "labels");
    int rc = read_header(r, &columns, e);
    while (!rc && (n = read_row(r, field, e)) > 0) {
        if (n != columns)
            rc = err_set(e, XDC_EFORMAT, "%s:%zu: %d fields, the first line has %d", r->name, r->line, n,
                         columns);
        if (n == 2)
            field[2] = none;
        if (!rc)
            rc = apply_row(l, r, field, base, files, seen, e);
    }
    for (size_t i = 0; i < files->count; i++)
        l->unmatched_files += !seen[i];
    free(seen);
    return rc ? rc : n;
}

int index_labels_apply(struct index_labels *l, const char *path, struct index_files *files, struct err *e)
{
    char base[PATH_MAX];
    size_t size = 0;
    memset(l, 0, sizeof *l);
    int rc = fs_read(path, TEXT_MAX, &l->text, &size, e);
    if (rc)
        return rc;
    if (!realpath(path, base))
        return err_sys(e, errno, "%s", path);
    char *slash = strrchr(base, '/');
    slash[slash == base] = '\0';
    struct reader r = {.name = path, .at = l->text, .end = l->text + size, .line = 1, .next_line = 1};
    if (size >= 3 && !memcmp(r.at, "\xef\xbb\xbf", 3)) /* a byte order mark */
        r.at += 3;
    return apply_rows(l, &r, base, files, e);
}

void index_labels_close(struct index_labels *l)
{
    free(l->text);
    l->text = NULL;
}
