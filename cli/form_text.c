#include "cli/form_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/index_files.h"
#include "lib/fsutil.h"

#define TEXT_MAX ((size_t)16 << 30)
#define TAR_MAGIC_AT 257

static int refuse(const char *path, const char *text, size_t size, struct err *e)
{
    if (size > TAR_MAGIC_AT + 5 && !memcmp(text + TAR_MAGIC_AT, "ustar", 5))
        return err_set(e, XDC_EFORMAT, "%s is a tar archive: give it a name that ends in .tar", path);
    if (size > 2 && !memcmp(text, "\x1f\x8b", 2))
        return err_set(e, XDC_EFORMAT, "%s is compressed: gunzip it, and index what comes of it", path);
    return err_set(e, XDC_EFORMAT, "%s: neither a folder, nor a media file by its name, nor a list of files",
                   path);
}

int form_text_read(const char *path, char **out_memory, char **out_text, size_t *out_size, struct err *e)
{
    size_t size = 0;
    int rc = fs_read(path, TEXT_MAX, out_memory, &size, e);
    if (rc < 0)
        return rc;
    if (memchr(*out_memory, '\0', size) || (size > 2 && !memcmp(*out_memory, "\x1f\x8b", 2)))
        return refuse(path, *out_memory, size, e);
    size_t mark = size >= 3 && !memcmp(*out_memory, "\xef\xbb\xbf", 3) ? 3 : 0;
    *out_text = *out_memory + mark;
    *out_size = size - mark;
    return 0;
}

void form_reader_init(struct form_reader *r, const char *name, char *text, size_t size)
{
    *r = (struct form_reader){.name = name,
                              .at = text,
                              .end = text + size,
                              .line = 1,
                              .next_line = 1,
                              .separator = ',',
                              .comments = true};
}

int form_fault(const struct form_reader *r, struct err *e, const char *fmt, ...)
{
    char what[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, XDC_EFORMAT, "%s:%zu: %s", r->name, r->line, what);
}

static bool ends_row(const char *at)
{
    return *at == '\n' || (*at == '\r' && at[1] == '\n');
}

/* Reads one field in place. *out_last: it ends its row. */
static int read_field(struct form_reader *r, char **out, bool *out_last, struct err *e)
{
    const char *blank = r->at + strspn(r->at, " ");
    if (*blank == '"')
        r->at += blank - r->at;
    char *to = r->at;
    bool quoted = *r->at == '"';
    *out = to;
    r->at += quoted;
    for (;; r->at++) {
        if (r->at == r->end) {
            if (quoted)
                return form_fault(r, e, "a quote is not closed");
            break;
        }
        if (quoted && *r->at == '"') {
            if (r->at[1] == '"') {
                r->at++;
            } else {
                quoted = false;
                continue;
            }
        } else if (!quoted && (*r->at == r->separator || ends_row(r->at))) {
            break;
        }
        r->next_line += *r->at == '\n';
        *to++ = *r->at;
    }
    *out_last = r->at == r->end || *r->at != r->separator;
    if (*r->at == '\r')
        r->at++;
    if (r->at < r->end)
        r->next_line += *r->at++ == '\n';
    *to = '\0'; /* at or before the byte that ended the field */
    return 0;
}

static void skip_line(struct form_reader *r)
{
    char *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    r->at = end ? end + 1 : r->end;
    r->next_line++;
}

int form_fields(struct form_reader *r, char *field[FORM_FIELDS], struct err *e)
{
    while (r->at < r->end) {
        int n = 0;
        bool last = false;
        r->line = r->next_line;
        if (r->comments && *r->at == '#') {
            skip_line(r);
            continue;
        }
        while (!last) {
            char *f;
            int rc = read_field(r, &f, &last, e);
            if (rc < 0)
                return rc;
            if (n == FORM_FIELDS)
                return form_fault(r, e, "more than %d fields", FORM_FIELDS);
            field[n++] = f;
        }
        if (n > 1 || field[0][0])
            return n;
    }
    return 0;
}

char *form_trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t n = strlen(text);
    while (n && strchr(" \t\r", text[n - 1]))
        n--;
    text[n] = '\0';
    return text;
}

char *form_line(struct form_reader *r)
{
    while (r->at < r->end) {
        char *line = r->at;
        r->line = r->next_line;
        skip_line(r);
        if (r->at[-1] == '\n')
            r->at[-1] = '\0';
        line = form_trim(line);
        if (*line && !(r->comments && *line == '#'))
            return line;
    }
    return NULL;
}

/* Where the path of an unquoted line ends. */
static char *path_end(char *line, bool any_blank)
{
    char *tab = strchr(line, '\t');
    if (tab)
        return tab;
    for (char *at = line; (at = strchr(at, ' ')); at++) {
        *at = '\0';
        bool media = index_files_is_media(line);
        *at = ' ';
        if (media)
            return at;
    }
    char *blank = any_blank && !index_files_is_media(line) ? strchr(line, ' ') : NULL;
    return blank ? blank : line + strlen(line);
}

void form_path_label(char *line, bool any_blank, char **out_path, char **out_label)
{
    char *close = *line == '"' ? strchr(line + 1, '"') : NULL;
    char *end = close ? close : path_end(line, any_blank);
    bool more = *end != '\0';
    *end = '\0';
    *out_path = close ? line + 1 : form_trim(line);
    *out_label = more ? form_trim(end + 1) : end;
    size_t n = strlen(*out_label);
    if (n >= 2 && (*out_label)[0] == '"' && (*out_label)[n - 1] == '"') {
        (*out_label)[n - 1] = '\0';
        ++*out_label;
    }
}

bool form_number(const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || end[strspn(end, " \t")] || !(v >= -1e9 && v <= 1e9))
        return false;
    *out = v;
    return true;
}

bool form_whole(const char *text, unsigned long *out)
{
    char *end;
    errno = 0;
    text += strspn(text, " ");
    if (!isdigit((unsigned char)*text))
        return false;
    *out = strtoul(text, &end, 10);
    return !errno && !end[strspn(end, " ")];
}

int form_split(const char *word)
{
    static const struct {
        const char *word;
        enum manifest_split split;
    } words[] = {{"", MANIFEST_SPLIT_NONE},          {"train", MANIFEST_SPLIT_TRAIN},
                 {"training", MANIFEST_SPLIT_TRAIN}, {"val", MANIFEST_SPLIT_VAL},
                 {"valid", MANIFEST_SPLIT_VAL},      {"validate", MANIFEST_SPLIT_VAL},
                 {"validation", MANIFEST_SPLIT_VAL}, {"test", MANIFEST_SPLIT_TEST},
                 {"testing", MANIFEST_SPLIT_TEST},   {"eval", MANIFEST_SPLIT_TEST},
                 {"evaluate", MANIFEST_SPLIT_TEST}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcasecmp(word, words[i].word))
            return (int)words[i].split;
    return -1;
}
