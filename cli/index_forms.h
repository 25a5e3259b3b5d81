/* index_forms: annotation files of the known data sets as rows of (what names the media, class, split); which
 * form a file has is told by its content. Used by cmd_index, index_resolve and the form_* parsers. Blocking;
 * one thread. Owns the files' texts, which the rows point into. A fault is named by file and line. */
#pragma once
#include <limits.h>
#include <stdint.h>
#include "cli/form_text.h"

enum index_key {
    INDEX_KEY_PATH, /* from the folder of the file that names it, or from the media folder */
    INDEX_KEY_NAME, /* a file's name, wherever it lies below the media folder */
    INDEX_KEY_ID,   /* what a file's name begins with */
};

#define INDEX_SPLIT_UNSAID (-1) /* of a row that is added: what the list's name says */

struct index_row {
    const char *key;   /* loan of the text */
    const char *label; /* the same; NULL: none */
    float start_s;     /* second of the original video, -1: not told */
    uint32_t line;
    uint16_t list;
    uint8_t key_kind; /* enum index_key */
    int8_t split;     /* enum manifest_split */
    bool missing;     /* index_resolve: no file could be taken */
};

struct index_list {
    const char *path;    /* as it was given */
    char dir[PATH_MAX];  /* absolute: of the folder it lies in */
    char *memory, *text; /* memory: owned */
    size_t size;
    char class[NAME_MAX + 1]; /* that a form takes from the list's name */
    bool names;               /* holds names of classes */
    int split;                /* by the option or by its name, or none */
};

struct index_class_name {
    const char *key, *name;
};

struct index_form_options {
    const char *form; /* its name; NULL: by content */
    uint64_t fold;    /* this one is test, others are train; 0: not asked for */
    int split;        /* of rows without one of their own; -1: by the list's name */
    bool labels_only; /* lists without labels are refused */
    const char *only; /* path of a list of classes; NULL: all */
};

struct index_form;

struct index_rows {
    struct index_form_options options;
    const struct index_form *form;
    struct index_list *list; /* owned, with the texts */
    size_t lists;
    struct index_row *row; /* owned */
    size_t count, capacity;
    struct index_class_name *name; /* owned: classes by number or code, in the order of keys once read */
    size_t names, names_capacity;
    struct index_list only;  /* text owned */
    const char **only_class; /* owned: in order */
    size_t only_classes;
    size_t left_out;      /* rows of classes that were not asked for */
    size_t several;       /* rows with more labels than the one that is taken */
    size_t timed;         /* rows whose times are ignored */
    size_t split_by_name; /* rows with the split that their list's name says */
    uint64_t folds;       /* bit of each fold that is there */
};

/* What a parser is handed: one list of the rows. */
struct index_reading {
    struct index_rows *rows;
    struct form_reader reader;
    uint16_t list;
};

/* How sure a form is of a file. */
enum index_looks {
    INDEX_LOOKS_NO,
    INDEX_LOOKS_POSSIBLE, /* nothing speaks against it */
    INDEX_LOOKS_LIKE,     /* has its marks */
    INDEX_LOOKS_SURE,     /* and nothing else has them */
};

struct index_form {
    const char *name, *what;
    bool by_walk;       /* media are looked up by name or id below a folder */
    bool split_by_name; /* rows without a split have that of the list's name */
    bool strict;        /* two rows that differ for one file are a fault */
    bool unlabelled;    /* paths alone */
    /* Of the first bytes of a file. */
    enum index_looks (*looks)(struct form_reader *r);
    int (*read)(struct index_reading *g, struct err *e);
    /* May be NULL: whether the list holds names of classes; such lists are read before the others. */
    bool (*is_names)(struct form_reader *r);
    int (*read_names)(struct index_reading *g, struct err *e);
};

extern const struct index_form *const index_form_all[]; /* NULL behind the last */
#define INDEX_FORM_NAMES "labels|kinetics|audioset|vggsound|ave|ucf101|hmdb51|esc50|list|jsonl|paths"

/* Reads all the lists, which are of one form. XDC_EFORMAT names the forms that an ambiguous one may have.
 * `paths` are loans as long as `r` is used. */
int index_forms_read(struct index_rows *r, const struct index_form_options *o, const char *const *paths,
                     size_t n, struct err *e) WARN_UNUSED;
void index_rows_close(struct index_rows *r);
/* Whether the class is one of those that were asked for. */
bool index_rows_wants(const struct index_rows *r, const char *label);

/* The split that a file's name says: its words are those of letters, and train, val, test and eval begin one.
 */
int index_split_by_name(const char *path);

/* For the parsers. The row's line and list are filled in; classes that were not asked for are left out. */
int index_rows_add(struct index_reading *g, struct index_row row, struct err *e) WARN_UNUSED;
int index_rows_name(struct index_rows *r, const char *key, const char *name, struct err *e) WARN_UNUSED;
/* NULL when there is none. */
const char *index_rows_find_name(const struct index_rows *r, const char *key);
/* Whether two names are of one class: case, and _ for a blank, make no difference. */
bool index_same_class(const char *a, const char *b);
/* -1, 0 or 1: the order that goes with it. */
int index_class_order(const char *a, const char *b);

extern const struct index_form form_labels, form_kinetics, form_audioset, form_vggsound, form_ave, form_esc50;
extern const struct index_form form_ucf101, form_hmdb51, form_list, form_paths, form_jsonl;
