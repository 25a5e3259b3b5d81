/* What a sweep's file asks for, as cells and columns. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/sweep.h"
#include "cli/yaml_tree.h"
#include "lib/fsutil.h"
#include "lib/rng.h"

struct spec {
    const char *path;
    char dir[PATH_MAX]; /* of the file */
    json_t *tree;       /* owned */
    struct sweep *out;
    struct err *e;
};

static int fault(const struct spec *x, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int fault(const struct spec *x, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(x->e, XDC_ECONF, "%s: %s", x->path, what);
}

/* Refuses keys that are not among `words`, which | separates. */
static int check_keys(const struct spec *x, json_t *map, const char *where, const char *words)
{
    const char *key;
    json_t *value;
    if (!json_is_object(map))
        return fault(x, "%s must hold keys with values: %s", where, words);
    json_object_foreach(map, key, value)
    {
        if (cli_word(key, words) < 0)
            return fault(x, "%s: unknown key %s; it takes %s", where, key, words);
    }
    return 0;
}

static const char *text_of(const json_t *map, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(map, key));
    return text ? text : otherwise;
}

/* Relative paths start from the file's directory. */
static int resolve(const struct spec *x, const char *path, char out[PATH_MAX])
{
    if (path[0] == '/')
        return fs_path(out, x->e, "%s", path);
    return fs_path(out, x->e, "%s/%s", x->dir, path);
}

/* Adds the texts of `from`, a map of key: value, to `to`. */
static int merge(const struct spec *x, json_t *to, const json_t *from, const char *where)
{
    const char *key;
    json_t *value;
    if (from && !json_is_object(from))
        return fault(x, "%s must hold key: value", where);
    json_object_foreach((json_t *)from, key, value)
    {
        if (!json_is_string(value))
            return fault(x, "%s: %s must have one value", where, key);
        json_object_set(to, key, value);
    }
    return 0;
}

static int read_seeds(struct spec *x)
{
    json_t *list = json_object_get(x->tree, "seeds"), *one;
    size_t i;
    struct sweep *s = x->out;
    if (!list) {
        s->seeds[s->n_seeds++] = 0;
        return 0;
    }
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > SWEEP_SEEDS_MAX)
        return fault(x, "seeds must be a list of 1 to %d numbers", SWEEP_SEEDS_MAX);
    json_array_foreach(list, i, one)
    {
        uint64_t seed;
        if (!json_is_string(one) || !cli_parse_count(json_string_value(one), 0, UINT32_MAX, &seed))
            return fault(x, "seeds[%zu] must be a number from 0 to 4294967295", i);
        s->seeds[s->n_seeds++] = (uint32_t)seed;
    }
    return 0;
}

/* A part of a row: its encoders, and its settings over those of the cell. */
static int add_part(const struct spec *x, json_t *parts, const json_t *cell_set, json_t *part, bool whole,
                    const json_t *pretrain, const char *where)
{
    char manifest[PATH_MAX];
    json_t *set = json_deep_copy(cell_set);
    int rc = merge(x, set, json_object_get(part, "set"), where);
    bool labelled = strcmp(text_of(set, "method", ""), "supervised") == 0;
    const char *path =
        text_of(pretrain, labelled ? "labelled" : "manifest", text_of(pretrain, "manifest", NULL));
    if (rc == 0)
        rc = resolve(x, path, manifest);
    if (rc == 0)
        json_object_set_new(set, "data.manifest", json_string(manifest));
    json_array_append_new(parts, json_pack("{s:o, s:s?, s:s?}", "set", set, "video",
                                           text_of(part, "video", whole ? "video" : NULL), "audio",
                                           text_of(part, "audio", whole ? "audio" : NULL)));
    return rc;
}

/* As many epochs as the others have rounds and epochs. */
static int in_one_round(const struct spec *x, json_t *set)
{
    struct conf *c = malloc(sizeof *c);
    const char *const sets[] = {"run.dir=unused", "data.manifest=unused"};
    const char *rounds = text_of(set, "train.rounds", NULL), *epochs = text_of(set, "train.epochs", NULL);
    char text[32];
    uint64_t r = 0, n = 0;
    int rc = c ? conf_load(x->out->base, sets, 2, NULL, NULL, c, x->e) : err_sys(x->e, ENOMEM, "settings");
    if (rc == 0 && (!rounds || !cli_parse_count(rounds, 1, 1000, &r)))
        r = (uint64_t)c->train.rounds;
    if (rc == 0 && (!epochs || !cli_parse_count(epochs, 1, 10000, &n)))
        n = (uint64_t)c->train.epochs;
    snprintf(text, sizeof text, "%llu", (unsigned long long)(r * n));
    json_object_set_new(set, "train.rounds", json_string("1"));
    json_object_set_new(set, "train.epochs", json_string(text));
    free(c);
    return rc;
}

/* Letters, digits and "._-=" of a text; everything else as "-". */
static void slug(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (; text[n] && n + 1 < size; n++)
        out[n] = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-=", text[n])
                     ? text[n]
                     : '-';
    out[n] = 0;
}

static int add_cell(const struct spec *x, json_t *row, const json_t *pretrain, const json_t *grid)
{
    char name[256], clean[256];
    const char *key;
    json_t *value, *part, *set = json_object(), *parts = json_array();
    size_t i;
    size_t used = (size_t)snprintf(name, sizeof name, "%s%s%s", text_of(pretrain, "name", ""),
                                   *text_of(pretrain, "name", "") ? "-" : "", text_of(row, "name", ""));
    int rc = merge(x, set, json_object_get(x->tree, "set"), "set");
    if (rc == 0)
        rc = merge(x, set, json_object_get(pretrain, "set"), "pretrain: set");
    json_object_foreach((json_t *)grid, key, value)
    {
        json_object_set(set, key, value);
        if (used < sizeof name)
            used +=
                (size_t)snprintf(name + used, sizeof name - used, "-%s=%s", key, json_string_value(value));
    }
    if (rc == 0)
        rc = merge(x, set, json_object_get(row, "set"), "rows: set");
    if (rc == 0 && strcmp(text_of(row, "one_round", "false"), "true") == 0)
        rc = in_one_round(x, set);
    slug(name, clean, sizeof clean);
    if (rc == 0 && !json_object_get(row, "parts"))
        rc = add_part(x, parts, set, row, true, pretrain, "rows");
    json_array_foreach(json_object_get(row, "parts"), i, part)
    {
        if (rc == 0)
            rc = check_keys(x, part, "parts", "set|video|audio");
        if (rc == 0)
            rc = add_part(x, parts, set, part, false, pretrain, "parts");
    }
    json_array_append_new(
        x->out->cells, json_pack("{s:s, s:s, s:O, s:s, s:o}", "row", text_of(row, "name", ""), "pretrain",
                                 text_of(pretrain, "name", ""), "grid", grid, "slug", clean, "parts", parts));
    json_decref(set);
    return rc;
}

/* Every point of the grid, from its `at`-th axis on. */
static int add_points(const struct spec *x, json_t *row, const json_t *pretrain, json_t *axes, void *at,
                      json_t *point)
{
    size_t i;
    json_t *value;
    int rc = 0;
    if (!at) {
        json_t *copy = json_copy(point);
        rc = add_cell(x, row, pretrain, copy);
        json_decref(copy);
        return rc;
    }
    const char *key = json_object_iter_key(at);
    json_array_foreach(json_object_iter_value(at), i, value)
    {
        if (rc < 0)
            break;
        if (!json_is_string(value))
            return fault(x, "grid: %s must be a list of values", key);
        json_object_set(point, key, value);
        rc = add_points(x, row, pretrain, axes, json_object_iter_next(axes, at), point);
    }
    json_object_del(point, key);
    return rc;
}

static int check_grid(const struct spec *x, json_t *grid)
{
    const char *key;
    json_t *values;
    if (grid && !json_is_object(grid))
        return fault(x, "grid must hold KEY: [values]");
    json_object_foreach(grid, key, values)
    {
        if (!json_is_array(values) || json_array_size(values) == 0)
            return fault(x, "grid: %s must be a list of values", key);
    }
    return 0;
}

static int read_rows(struct spec *x)
{
    json_t *rows = json_object_get(x->tree, "rows"), *grid = json_object_get(x->tree, "grid");
    json_t *pretrain = json_object_get(x->tree, "pretrain"), *row, *data, *none = json_object();
    size_t i, j;
    int rc = check_grid(x, grid);
    if (rc == 0 && (!json_is_array(rows) || json_array_size(rows) == 0))
        rc = fault(x, "rows: a list of {name, set} is wanted, or a preset: %s", sweep_preset_names());
    if (rc == 0 && (!json_is_array(pretrain) || json_array_size(pretrain) == 0))
        rc = fault(x, "pretrain: a list of {name, manifest} is wanted");
    json_array_foreach(pretrain, j, data)
    {
        if (rc == 0)
            rc = check_keys(x, data, "pretrain", "name|manifest|labelled|set");
        if (rc == 0 && !text_of(data, "manifest", NULL))
            rc = fault(x, "pretrain[%zu]: manifest is missing", j);
    }
    json_array_foreach(rows, i, row)
    {
        if (rc == 0)
            rc = check_keys(x, row, "rows", "name|set|parts|once|one_round|video|audio");
        if (rc == 0 && !text_of(row, "name", NULL))
            rc = fault(x, "rows[%zu]: name is missing", i);
        bool once = strcmp(text_of(row, "once", "false"), "true") == 0;
        json_array_foreach(pretrain, j, data)
        {
            json_t *axes = once || !grid ? none : grid, *point = json_object();
            if (rc == 0 && !(once && j > 0))
                rc = add_points(x, row, data, axes, json_object_iter(axes), point);
            json_decref(point);
        }
    }
    json_decref(none);
    return rc;
}

static const json_t *find_target(const struct spec *x, const char *name)
{
    size_t i;
    json_t *one, *targets = json_object_get(x->tree, "targets");
    json_array_foreach(targets, i, one)
    {
        if (!name || strcmp(text_of(one, "name", ""), name) == 0)
            return one;
    }
    return NULL;
}

/* Options and settings as a command's flags. */
static int read_flags(const struct spec *x, json_t *column, json_t *flags)
{
    const char *key;
    json_t *value, *one;
    size_t i;
    char flag[64], text[1024];
    json_object_foreach(json_object_get(column, "options"), key, value)
    {
        size_t used = 0;
        text[0] = 0;
        json_array_foreach(value, i, one)
        {
            if (used < sizeof text)
                used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "," : "",
                                         json_is_string(one) ? json_string_value(one) : "");
        }
        if (json_is_string(value))
            used = (size_t)snprintf(text, sizeof text, "%s", json_string_value(value));
        if (used == 0 || used >= sizeof text)
            return fault(x, "evaluate: option %s must be a value or a list", key);
        snprintf(flag, sizeof flag, "--%s", key);
        json_array_append_new(flags, json_string(flag));
        json_array_append_new(flags, json_string(text));
    }
    json_object_foreach(json_object_get(column, "set"), key, value)
    {
        if (!json_is_string(value))
            return fault(x, "evaluate: set: %s must have one value", key);
        snprintf(text, sizeof text, "%s=%s", key, json_string_value(value));
        json_array_append_new(flags, json_string("--set"));
        json_array_append_new(flags, json_string(text));
    }
    return 0;
}

static int read_manifests(const struct spec *x, const json_t *target, json_t *out)
{
    size_t i;
    json_t *one, *list = json_object_get(target, "manifests");
    if (!json_is_array(list) || json_array_size(list) == 0)
        return fault(x, "targets: %s: manifests must be a list of files", text_of(target, "name", "?"));
    json_array_foreach(list, i, one)
    {
        char path[PATH_MAX];
        if (!json_is_string(one))
            return fault(x, "targets: %s: manifests must be a list of files", text_of(target, "name", "?"));
        int rc = resolve(x, json_string_value(one), path);
        if (rc < 0)
            return rc;
        json_array_append_new(out, json_string(path));
    }
    return 0;
}

/* A name for results: the same for columns that differ in their figure alone, another one when anything of
 * what they are computed from is. */
static void make_key(const char *what, const char *clips, const json_t *flags, const json_t *manifests,
                     char out[32])
{
    json_t *all = json_pack("{s:s, s:O, s:O}", "clips", clips, "options", flags, "manifests", manifests);
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    snprintf(out, 32, "%s-%08x", what, (unsigned)rng_key(0, text ? text : "", 0, 0, 0));
    free(text);
    json_decref(all);
}

static int read_column(const struct spec *x, json_t *column, size_t i)
{
    int rc = check_keys(x, column, "evaluate", "name|eval|target|figure|of|options|set");
    const char *what = text_of(column, "eval", ""), *of = text_of(column, "of", "both");
    const json_t *target = find_target(x, text_of(column, "target", NULL));
    json_t *flags = json_array(), *manifests = json_array(), *modalities = json_array();
    if (rc == 0 && cli_word(what, "svm|linear|knn|retrieval|cluster|finetune") < 0)
        rc = fault(x, "evaluate[%zu]: eval must be svm, linear, knn, retrieval, cluster or finetune", i);
    if (rc == 0 && (!text_of(column, "name", NULL) || !text_of(column, "figure", NULL)))
        rc = fault(x, "evaluate[%zu]: name and figure are wanted", i);
    if (rc == 0 && !target)
        rc = fault(x, "evaluate[%zu]: there is no target %s; targets: a list of {name, manifests}", i,
                   text_of(column, "target", "at all"));
    if (rc == 0 && cli_word(of, "both|video|audio") < 0)
        rc = fault(x, "evaluate[%zu]: of must be both, video or audio", i);
    if (rc == 0)
        rc = read_manifests(x, target, manifests);
    if (rc == 0)
        rc = read_flags(x, column, flags);
    char key[32];
    make_key(what, text_of(target, "clips", "10"), flags, manifests, key);
    for (int m = 0; m < 2; m++)
        if (strcmp(of, m ? "video" : "audio") != 0)
            json_array_append_new(modalities, json_string(m ? "audio" : "video"));
    json_array_append_new(x->out->columns,
                          json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "name",
                                    text_of(column, "name", ""), "key", key, "eval", what, "figure",
                                    text_of(column, "figure", ""), "target", text_of(target, "name", ""),
                                    "clips", text_of(target, "clips", "10"), "manifests", manifests, "of",
                                    modalities, "options", flags));
    return rc;
}

static int read_columns(struct spec *x)
{
    size_t i;
    json_t *one, *list = json_object_get(x->tree, "evaluate");
    int rc = json_is_array(list) && json_array_size(list) ? 0 : fault(x, "evaluate: a list is wanted");
    json_array_foreach(list, i, one)
    {
        if (rc == 0)
            rc = read_column(x, one, i);
    }
    json_t *order = json_object_get(x->tree, "order");
    x->out->order = order ? json_incref(order) : json_array();
    return rc == 0 && !json_is_array(x->out->order) ? fault(x, "order must be a list of rows") : rc;
}

static int read_places(struct spec *x)
{
    static const char keys[] = "preset|dir|base|seeds|set|pretrain|targets|rows|grid|evaluate|order";
    const char *dir = text_of(x->tree, "dir", NULL), *base = text_of(x->tree, "base", NULL);
    json_t *targets = json_object_get(x->tree, "targets"), *one;
    size_t i;
    int rc = check_keys(x, x->tree, "the file", keys);
    if (rc == 0 && (!dir || !base))
        rc = fault(x, "%s is missing: %s", dir ? "base" : "dir",
                   dir ? "the configuration that rows change" : "where everything is kept");
    json_array_foreach(targets, i, one)
    {
        if (rc == 0)
            rc = check_keys(x, one, "targets", "name|manifests|clips");
    }
    if (rc == 0)
        rc = resolve(x, dir, x->out->dir);
    return rc == 0 ? resolve(x, base, x->out->base) : rc;
}

/* The preset's tree below what the file says. */
static int apply_preset(struct spec *x)
{
    const char *name = text_of(x->tree, "preset", NULL);
    json_t *preset = NULL;
    snprintf(x->out->title, sizeof x->out->title, "%s", name ? name : "sweep");
    if (!name)
        return 0;
    const char *text = sweep_preset(name);
    if (!text)
        return fault(x, "preset: %s is none of %s", name, sweep_preset_names());
    int rc = yaml_tree(text, strlen(text), name, &preset, x->e);
    if (rc == 0)
        json_object_update_missing(x->tree, preset);
    json_decref(preset);
    return rc;
}

int sweep_read(const char *path, struct sweep *out, struct err *e)
{
    struct spec x = {.path = path, .out = out, .e = e};
    char real[PATH_MAX], *text = NULL;
    size_t size;
    *out = (struct sweep){.cells = json_array(), .columns = json_array()};
    if (!realpath(path, real))
        return err_sys(e, errno, "%s", path);
    *strrchr(real, '/') = 0;
    int rc = fs_path(x.dir, e, "%s", *real ? real : "/");
    if (rc == 0)
        rc = fs_read(path, 1 << 20, &text, &size, e);
    if (rc == 0)
        rc = yaml_tree(text, size, path, &x.tree, e);
    if (rc == 0 && !json_is_object(x.tree))
        rc = fault(&x, "must hold keys with values");
    if (rc == 0)
        rc = apply_preset(&x);
    if (rc == 0)
        rc = read_places(&x);
    if (rc == 0)
        rc = read_seeds(&x);
    if (rc == 0)
        rc = read_rows(&x);
    if (rc == 0)
        rc = read_columns(&x);
    json_decref(x.tree);
    free(text);
    return rc;
}

void sweep_close(struct sweep *s)
{
    json_decref(s->cells);
    json_decref(s->columns);
    json_decref(s->order);
    *s = (struct sweep){0};
}
