/* form_text: an annotation file as rows of fields (RFC 4180, with any separator) or as lines, parsed in
 * place. Used by the form_* parsers and index_forms. Pure but for the opening; one thread. Fields are loans
 * of the text. A fault is named by file and line. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/err.h"
#include "lib/manifest.h"

#define FORM_FIELDS 16

struct form_reader {
    const char *name; /* of the file, for faults */
    char *at, *end;   /* *end is a NUL */
    size_t line;      /* of the row that was read last */
    size_t next_line;
    char separator;
    bool comments; /* lines that begin with # are passed over */
};

/* The whole file, NUL behind it, without a byte order mark at *out_text; the caller frees *out_memory.
 * XDC_EFORMAT for what is no text, by what it is: an archive is refused with what to do. */
int form_text_read(const char *path, char **out_memory, char **out_text, size_t *out_size,
                   struct err *e) WARN_UNUSED;
void form_reader_init(struct form_reader *r, const char *name, char *text, size_t size);
/* A row; empty lines are passed over. Returns the number of fields, 0 at the end, XDC_EFORMAT. */
int form_fields(struct form_reader *r, char *field[FORM_FIELDS], struct err *e) WARN_UNUSED;
/* The next line that is not empty, without blanks around it; NULL at the end. */
char *form_line(struct form_reader *r);
/* A line of a list: a path and what follows it, or "". The path ends at a tab, at its closing quote, or at
 * the blank behind a media file's name; `any_blank`: or, where there is none of these, at the first blank. */
void form_path_label(char *line, bool any_blank, char **out_path, char **out_label);
/* XDC_EFORMAT with "<file>:<line>: <sentence>". */
int form_fault(const struct form_reader *r, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* `text` without the blanks around it. */
char *form_trim(char *text);
/* Whether all of the text is a number, blanks around it apart. */
bool form_number(const char *text, double *out);
bool form_whole(const char *text, unsigned long *out);
/* The split that a word names (train, val, validation, test, eval, ...; "" is none), or -1. */
int form_split(const char *word);
