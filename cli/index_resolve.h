/* index_resolve: finds the files that the rows of annotation files name, and gives them their classes and
 * splits. Used by cmd_index. Blocking; one thread. Owns nothing: names are loans of the rows and files. What
 * is missing, repeated or contradictory is counted and the first few are named. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_forms.h"

struct index_match {
    size_t rows, labelled;
    size_t matched;
    size_t unmatched_files;         /* media files that no row names */
    size_t unlabelled;              /* rows with a file and without a class */
    struct index_named missing;     /* rows without a file: what they name */
    struct index_named ambiguous;   /* those of them that several files fit */
    struct index_named repeated;    /* rows that say again what another has said */
    struct index_named conflicting; /* rows that say something else of a file: the first row counts */
    struct index_named no_clip;     /* classes that are named and no clip has */
    struct index_named no_test;     /* classes with clips, none of them a test clip, where others have some */
    struct index_named unknown;     /* classes that were asked for and no row names */
};

/* Fills `files` with those that the rows name, below `media` or, where it is NULL, from the folders of the
 * lists. -ENOENT when there is none. Rows that name a path alone give a file even where it is missing. */
int index_resolve_lists(struct index_rows *r, const char *media, struct index_files *files,
                        struct index_match *m, struct err *e) WARN_UNUSED;
/* Labels the files that are there already; all of them stay, but with options.only. */
int index_resolve_labels(struct index_rows *r, struct index_files *files, struct index_match *m,
                         struct err *e) WARN_UNUSED;
/* Classes without clips and the like, once the files have their labels. */
int index_resolve_classes(const struct index_rows *r, const struct index_files *files, struct index_match *m,
                          struct err *e) WARN_UNUSED;
/* What rows name and is missing, one a line, as `path`; without any the file is removed. */
int index_resolve_write_missing(const struct index_rows *r, const char *path, struct err *e) WARN_UNUSED;
