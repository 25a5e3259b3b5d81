/* index_names: the media files of an index by their names, without the folders they lie in. Used by
 * index_resolve. Pure; one thread. Owns the order; the files must stay as they are. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_forms.h"

struct index_names {
    const struct index_files *files;
    uint32_t *order; /* owned */
};

int index_names_open(struct index_names *n, const struct index_files *files, struct err *e) WARN_UNUSED;
void index_names_close(struct index_names *n);

/* The file that a row with a name or an id means: by name, else with another ending; by id, with the start
 * that the row gives if the name has one. Of several, the one in the folders that the row names or of its
 * class. NULL when there is none, or *out_several. */
struct index_file *index_names_find(const struct index_names *n, const struct index_row *row,
                                    bool *out_several);
/* The member of an archive that has this path in it. */
struct index_file *index_names_member(const struct index_names *n, const char *path, bool *out_several);
