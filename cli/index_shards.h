/* index_shards: puts the media members of tar archives (WebDataset shards) in the place of the archives among
 * the files of `xdc index`. Used by cmd_index and index_resolve. Blocking; one thread; owns nothing. Of an
 * archive that is broken the members before that stay, and a sentence names it in files->shards. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_resolve.h"

/* labels: members .cls and .json give classes and splits; a sample without a split has `split`, or where that
 * is -1 the one that the name of its archive or of the archive's folder says. Files are sorted afterwards. */
int index_shards_read(struct index_files *f, bool labels, int split, struct err *e) WARN_UNUSED;
/* Counts the labels, and leaves out media of classes that were not asked for. -ENOENT: none is left. */
int index_shards_apply(struct index_files *f, struct index_rows *r, struct index_match *m,
                       struct err *e) WARN_UNUSED;
