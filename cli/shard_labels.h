/* shard_labels: the classes and splits that an archive's own members give its samples: members of one name up
 * to the first dot of its last part are one sample (WebDataset). Used by index_shards, an archive at a time.
 * Pure; one thread. Owns the samples' names; classes are loans of the files' texts. */
#pragma once
#include "cli/index_files.h"

#define SHARD_CLS_MAX 4095                /* bytes of a .cls */
#define SHARD_JSON_MAX ((size_t)16 << 20) /* of a .json */

struct shard_label {
    char *key;         /* owned: name of the sample */
    const char *label; /* NULL: none */
    enum manifest_split split;
    bool cls;
};

struct shard_labels {
    struct shard_label *label; /* owned */
    size_t count, capacity;
};

/* The most bytes that a member of that name may have to be read for its label; 0: it is none of those. */
size_t shard_labels_limit(const char *name);
/* Takes what a member says; 0, -ENOMEM, or -EINVAL where that is no class or no split. */
int shard_labels_add(struct shard_labels *l, struct index_files *files, const char *name, const char *text,
                     size_t size) WARN_UNUSED;
/* Once, before the first find. */
void shard_labels_sort(struct shard_labels *l);
/* Class (of the .cls, else of the .json) and split of the sample that a member belongs to. */
void shard_labels_find(const struct shard_labels *l, const char *name, const char **out_label,
                       enum manifest_split *out_split);
/* Forgets all; the struct may be used again, or thrown away. */
void shard_labels_clear(struct shard_labels *l);
