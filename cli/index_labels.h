/* index_labels: the classes and splits of `xdc index --labels`: a CSV file "path,label[,split]", RFC 4180.
 * Used by cmd_index. Blocking; one thread. Owns the file's text, which the labels point into. A fault is
 * named by its line. */
#pragma once
#include <stddef.h>
#include "cli/index_files.h"

struct index_labels {
    char *text; /* owned; the fields of the rows, unquoted in place */
    size_t rows, labelled;
    size_t unmatched_rows;  /* rows whose path is no file of the index */
    size_t unmatched_files; /* files that no row names */
};

/* Sets label and split of the files that the rows name; paths count from the CSV file's folder. An empty
 * label or split is none. Keep `l` as long as the files' labels are used. */
int index_labels_apply(struct index_labels *l, const char *path, struct index_files *files,
                       struct err *e) WARN_UNUSED;
void index_labels_close(struct index_labels *l);
