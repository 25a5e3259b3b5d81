#include "cli/shard_labels.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/form_text.h"

/* Bytes of a member's name that name its sample. */
static size_t key_bytes(const char *name)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    return (size_t)(base - name) + strcspn(base, ".");
}

size_t shard_labels_limit(const char *name)
{
    const char *ending = name + key_bytes(name);
    return !strcmp(ending, ".cls") ? SHARD_CLS_MAX : !strcmp(ending, ".json") ? SHARD_JSON_MAX : 0;
}

/* The class as a text of the files: samples of one class mostly follow one another. */
static int keep(const struct shard_labels *l, struct index_files *files, const char *label, const char **out)
{
    const char *last = l->count ? l->label[l->count - 1].label : NULL;
    if (strlen(label) > SHARD_CLS_MAX)
        return -EINVAL;
    *out = last && !strcmp(last, label) ? last : index_files_text(files, label);
    return *out ? 0 : -ENOMEM;
}

/* A line of text: a class's name or number. */
static int read_cls(const struct shard_labels *l, struct index_files *files, const char *text, size_t size,
                    struct shard_label *out)
{
    char line[SHARD_CLS_MAX + 1];
    size_t mark = size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    snprintf(line, sizeof line, "%.*s", (int)(size - mark), text + mark);
    size_t n = strlen(line);
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = '\0';
    char *label = form_trim(line);
    if (memchr(text, '\0', size) || strchr(label, '\n') || !*label)
        return -EINVAL;
    return keep(l, files, label, &out->label);
}

static int read_label(const struct shard_labels *l, struct index_files *files, const json_t *o,
                      struct shard_label *out)
{
    static const char *const keys[] = {"label", "class", "category"};
    char number[32];
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *v = json_object_get(o, keys[i]);
        if (!v || json_is_null(v))
            continue;
        if (!json_is_string(v) && !json_is_integer(v))
            return -EINVAL;
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        const char *label = json_is_string(v) ? json_string_value(v) : number;
        return *label ? keep(l, files, label, &out->label) : -EINVAL;
    }
    return 0;
}

/* An object: label, class or category, and split; what else is there is not looked at. */
static int read_json(const struct shard_labels *l, struct index_files *files, const char *text, size_t size,
                     struct shard_label *out)
{
    size_t mark = size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    json_t *o = json_loadb(text + mark, size - mark, 0, NULL);
    int rc = json_is_object(o) ? read_label(l, files, o, out) : -EINVAL;
    const json_t *split = json_object_get(o, "split");
    if (rc == 0 && split && !json_is_null(split)) {
        const char *word = json_string_value(split);
        int found = word ? form_split(word) : -1;
        if (found < 0)
            rc = -EINVAL;
        else
            out->split = (enum manifest_split)found;
    }
    json_decref(o);
    return rc;
}

int shard_labels_add(struct shard_labels *l, struct index_files *files, const char *name, const char *text,
                     size_t size)
{
    size_t n = key_bytes(name);
    struct shard_label found = {.cls = !strcmp(name + n, ".cls")};
    int rc = found.cls ? read_cls(l, files, text, size, &found) : read_json(l, files, text, size, &found);
    if (rc < 0 || (!found.label && !found.split))
        return rc;
    if (l->count == l->capacity) {
        size_t more = l->capacity ? 2 * l->capacity : 1024;
        struct shard_label *grown = realloc(l->label, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->label = grown;
        l->capacity = more;
    }
    found.key = strndup(name, n);
    if (!found.key)
        return -ENOMEM;
    l->label[l->count++] = found;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct shard_label *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (int)y->cls - (int)x->cls;
}

void shard_labels_sort(struct shard_labels *l)
{
    if (l->count)
        qsort(l->label, l->count, sizeof *l->label, by_key);
}

/* The order of a label's sample and the name's. */
static int order(const struct shard_label *l, const char *name, size_t n)
{
    int found = strncmp(l->key, name, n);
    return found ? found : l->key[n] != '\0';
}

void shard_labels_find(const struct shard_labels *l, const char *name, const char **out_label,
                       enum manifest_split *out_split)
{
    size_t n = key_bytes(name), low = 0, high = l->count;
    *out_label = NULL;
    *out_split = MANIFEST_SPLIT_NONE;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order(&l->label[middle], name, n) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < l->count && order(&l->label[low], name, n) == 0; low++) {
        if (!*out_label)
            *out_label = l->label[low].label;
        if (!*out_split)
            *out_split = l->label[low].split;
    }
}

void shard_labels_clear(struct shard_labels *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->label[i].key);
    free(l->label);
    *l = (struct shard_labels){0};
}
