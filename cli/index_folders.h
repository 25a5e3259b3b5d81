/* index_folders: classes by folders, CLASS/file or train|val|test/CLASS/file. Used by cmd_index. Pure; one
 * thread; owns nothing. Found by itself is the second alone, where nothing else is below the root: folders of
 * clips are no classes unless they are asked for. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_forms.h"
#include "cli/index_resolve.h"

enum index_folders { INDEX_FOLDERS_NONE, INDEX_FOLDERS_CLASSES, INDEX_FOLDERS_SPLITS };

/* Sets class and split of all files. Not `asked`: only where they lie in train/CLASS/ and beside it
 * val/CLASS/ or test/CLASS/; else XDC_EFORMAT names a file that does not fit. *out: what they are. Files of
 * classes that options.only of `r` leaves out are forgotten, -ENOENT when none is left. */
int index_folders_apply(struct index_files *files, struct index_rows *r, bool asked, struct index_match *m,
                        enum index_folders *out, struct err *e) WARN_UNUSED;
