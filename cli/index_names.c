#include "cli/index_names.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int by_base(const void *a, const void *b, void *arg)
{
    const struct index_files *f = arg;
    const char *x = f->file[*(const uint32_t *)a].uri, *y = f->file[*(const uint32_t *)b].uri;
    int order = strcmp(base_of(x), base_of(y));
    return order ? order : strcmp(x, y);
}

int index_names_open(struct index_names *n, const struct index_files *files, struct err *e)
{
    n->files = files;
    n->order = malloc((files->count + 1) * sizeof *n->order);
    if (!n->order)
        return err_sys(e, ENOMEM, "names of %zu files", files->count);
    for (size_t i = 0; i < files->count; i++)
        n->order[i] = (uint32_t)i;
    qsort_r(n->order, files->count, sizeof *n->order, by_base, (void *)(uintptr_t)files);
    return 0;
}

void index_names_close(struct index_names *n)
{
    free(n->order);
    n->order = NULL;
}

static const char *name_at(const struct index_names *n, size_t i)
{
    return base_of(n->files->file[n->order[i]].uri);
}

/* The first whose name is not below `text`. */
static size_t lower_bound(const struct index_names *n, const char *text)
{
    size_t low = 0, high = n->files->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(name_at(n, middle), text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What speaks for a file: the folders that the row names, then the folder of its class. */
static int folders_fit(const char *uri, const struct index_row *row)
{
    size_t n = strlen(uri), k = strlen(row->key);
    bool path = row->key_kind != INDEX_KEY_ID && n >= k && !strcmp(uri + n - k, row->key) &&
                (n == k || uri[n - k - 1] == '/');
    char folder[NAME_MAX + 1] = "";
    const char *base = base_of(uri);
    if (base > uri && row->label) {
        const char *end = base - 1, *start = end;
        while (start > uri && start[-1] != '/')
            start--;
        snprintf(folder, sizeof folder, "%.*s", (int)(end - start), start);
    }
    return 2 * path + (row->label && index_same_class(folder, row->label));
}

/* What a name says behind the id: nothing, or start[_end][.ending]. 0: it is of something else. */
static int times_fit(const char *rest, double start_s)
{
    double at[2];
    const char *dot = strrchr(rest, '.');
    if (!dot || dot == rest)
        return *rest == '.' || !*rest;
    int n = 0;
    while (n < 2 && (*rest == '_' || *rest == '-') && rest < dot) {
        char *end;
        at[n] = strtod(rest + 1, &end);
        if (end == rest + 1)
            return 0;
        if (end > dot) /* "_30.mp4": the ending's dot is taken for the number's */
            end = (char *)(uintptr_t)dot;
        rest = end;
        n++;
    }
    if (n == 0 || rest != dot)
        return 0;
    if (start_s < 0)
        return 1;
    return fabs(at[0] - start_s) < 0.0005 || fabs(at[0] - 1000 * start_s) < 0.5 ? 2 : 0;
}

struct choice {
    struct index_file *file;
    int fit;
    bool several;
};

static void weigh(struct choice *c, struct index_file *f, int fit)
{
    if (fit < c->fit)
        return;
    c->several = fit == c->fit;
    c->fit = fit;
    c->file = f;
}

static struct index_file *file_at(const struct index_names *n, size_t i)
{
    return &n->files->file[n->order[i]];
}

static void by_id(const struct index_names *n, const struct index_row *row, const char *prefix,
                  struct choice *c)
{
    char id[NAME_MAX + 1];
    int length = snprintf(id, sizeof id, "%s%s", prefix, row->key);
    if (length <= 0 || length > NAME_MAX)
        return;
    for (size_t i = lower_bound(n, id); i < n->files->count && !strncmp(name_at(n, i), id, (size_t)length);
         i++) {
        int times = times_fit(name_at(n, i) + length, row->start_s);
        if (times)
            weigh(c, file_at(n, i), 4 * times + folders_fit(file_at(n, i)->uri, row));
    }
}

static void by_name(const struct index_names *n, const struct index_row *row, struct choice *c)
{
    const char *name = base_of(row->key);
    for (size_t i = lower_bound(n, name); i < n->files->count && !strcmp(name_at(n, i), name); i++)
        weigh(c, file_at(n, i), 1 + folders_fit(file_at(n, i)->uri, row));
}

/* As when the films of UCF101 were made anew as MP4. */
static void by_stem(const struct index_names *n, const struct index_row *row, struct choice *c)
{
    char stem[NAME_MAX + 1];
    const char *name = base_of(row->key), *dot = strrchr(name, '.');
    if (!dot || dot - name >= NAME_MAX)
        return;
    size_t length = (size_t)(dot - name) + 1;
    snprintf(stem, sizeof stem, "%.*s", (int)length, name);
    for (size_t i = lower_bound(n, stem); i < n->files->count && !strncmp(name_at(n, i), stem, length); i++)
        if (!strchr(name_at(n, i) + length, '.'))
            weigh(c, file_at(n, i), 1 + folders_fit(file_at(n, i)->uri, row));
}

struct index_file *index_names_find(const struct index_names *n, const struct index_row *row,
                                    bool *out_several)
{
    struct choice c = {0};
    if (row->key_kind == INDEX_KEY_ID) {
        by_id(n, row, "", &c);
        if (!c.file)
            by_id(n, row, "Y", &c); /* as some downloaders of AudioSet write it */
    } else {
        by_name(n, row, &c);
        if (!c.file)
            by_stem(n, row, &c);
    }
    *out_several = c.several;
    return c.several ? NULL : c.file;
}

struct index_file *index_names_member(const struct index_names *n, const char *path, bool *out_several)
{
    struct choice c = {0};
    while (!strncmp(path, "./", 2))
        path += 2;
    const char *name = base_of(path);
    size_t length = strlen(path);
    for (size_t i = lower_bound(n, name); i < n->files->count && !strcmp(name_at(n, i), name); i++) {
        const char *uri = file_at(n, i)->uri;
        size_t size = strlen(uri);
        if (file_at(n, i)->member && size > length && uri[size - length - 1] == '/' &&
            !strcmp(uri + size - length, path) && media_file_name_in(uri) == uri + size - length)
            weigh(&c, file_at(n, i), 1);
    }
    *out_several = c.several;
    return c.several ? NULL : c.file;
}
