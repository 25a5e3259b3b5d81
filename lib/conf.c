#include "lib/conf.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>
#include "lib/conf_across.h"
#include "lib/fsutil.h"

#define FILE_MAX (1024 * 1024)
#define FAULTS_MAX 100 /* told one by one */
#define KEY_MAX 128
#define WHERE_MAX (PATH_MAX + 64)

/* Where a key's value comes from; set == NULL and line == 0: its default. */
struct origin {
    size_t line, column;
    const char *set;
    bool bad; /* a fault was told, the default stands in */
};

struct load {
    const char *path; /* NULL: no file */
    conf_on_fault on_fault;
    void *arg;
    struct conf *out;
    struct origin *origins; /* owned: one per schema key */
    size_t faults;
};

static void tell(struct load *l, const char *where, const char *what)
{
    l->faults++;
    if (l->faults <= FAULTS_MAX && l->on_fault)
        l->on_fault(l->arg, where, what);
}

static void PRINTF_LIKE(3, 4) fault(struct load *l, struct origin at, const char *fmt, ...)
{
    char where[WHERE_MAX], what[1024];
    if (at.set)
        snprintf(where, sizeof where, "--set %s", at.set);
    else if (l->path && at.line > 0)
        snprintf(where, sizeof where, "%s:%zu:%zu", l->path, at.line, at.column);
    else
        snprintf(where, sizeof where, "%s", l->path ? l->path : "configuration");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    tell(l, where, what);
}

static int64_t *int_of(struct conf *c, const struct conf_key *k)
{
    return (int64_t *)(void *)((char *)c + k->offset);
}

static double *real_of(struct conf *c, const struct conf_key *k)
{
    return (double *)(void *)((char *)c + k->offset);
}

static char *string_of(struct conf *c, const struct conf_key *k)
{
    return (char *)c + k->offset;
}

/* one value */

/* Each parse_* returns true, or false with the reason in `what`. */
static bool parse_int(const struct conf_key *k, const char *text, int64_t *out, char *what, size_t size)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)*text)) {
        snprintf(what, size, "'%.80s' is not a whole number", text);
        return false;
    }
    if (errno == ERANGE || (double)v < k->min || (double)v > k->max) {
        snprintf(what, size, "%.80s is out of range: %.15g to %.15g%s%s", text, k->min, k->max,
                 k->unit ? " " : "", k->unit ? k->unit : "");
        return false;
    }
    *out = v;
    return true;
}

static bool parse_real(const struct conf_key *k, const char *text, double *out, char *what, size_t size)
{
    char *end;
    double v = strtod(text, &end);
    /* strtod takes more than YAML has: spaces, hexadecimal, nan. */
    if (end == text || *end || text[strspn(text, "+-.0123456789eE")]) {
        snprintf(what, size, "'%.80s' is not a number", text);
        return false;
    }
    if (!(v >= k->min && v <= k->max)) {
        snprintf(what, size, "%.80s is out of range: %.15g to %.15g%s%s", text, k->min, k->max,
                 k->unit ? " " : "", k->unit ? k->unit : "");
        return false;
    }
    *out = v;
    return true;
}

size_t conf_choice_length(const char *choices)
{
    size_t n = strcspn(choices, "|");
    while (choices[n] == '|' && choices[n + 1] == '|')
        n++;
    return n;
}

static bool parse_choice(const struct conf_key *k, const char *text, int64_t *out, char *what, size_t size)
{
    size_t len = strlen(text);
    int64_t index = 0;
    for (const char *p = k->choices; *p; index++) {
        size_t n = conf_choice_length(p);
        if (n == len && memcmp(p, text, n) == 0) {
            *out = index;
            return true;
        }
        p += n + (p[n] == '|');
    }
    snprintf(what, size, "'%.80s' is not one of %s", text, k->choices);
    return false;
}

static bool parse_string(const struct conf_key *k, const char *text, char *out, char *what, size_t size)
{
    if (strlen(text) >= CONF_STRING_MAX) {
        snprintf(what, size, "is longer than %d bytes", CONF_STRING_MAX - 1);
        return false;
    }
    if ((k->flags & CONF_REQUIRED) && !*text) {
        snprintf(what, size, "may not be empty");
        return false;
    }
    for (const char *p = text; *p; p++) {
        if (iscntrl((unsigned char)*p)) {
            snprintf(what, size, "holds a control character");
            return false;
        }
    }
    snprintf(out, CONF_STRING_MAX, "%s", text);
    return true;
}

static bool parse_value(struct conf *c, const struct conf_key *k, const char *text, char *what, size_t size)
{
    switch (k->type) {
    case CONF_INT:
        return parse_int(k, text, int_of(c, k), what, size);
    case CONF_REAL:
        return parse_real(k, text, real_of(c, k), what, size);
    case CONF_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            snprintf(what, size, "'%.80s' is neither true nor false", text);
            return false;
        }
        *int_of(c, k) = text[0] == 't';
        return true;
    case CONF_CHOICE:
        return parse_choice(k, text, int_of(c, k), what, size);
    case CONF_STRING:
        return parse_string(k, text, string_of(c, k), what, size);
    }
    return false;
}

static const char *wanted(const struct conf_key *k)
{
    static const char *const word[] = {"a whole number", "a number", "true or false", "text",
                                       "one of a few words"};
    return word[k->type];
}

/* keys */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein distance; texts beyond KEY_MAX count as far away. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[KEY_MAX + 1];
    if (n > KEY_MAX || m > KEY_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            row[j] = smaller(smaller(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[m];
}

const struct conf_key *conf_find(const char *key)
{
    for (size_t i = 0; i < conf_schema_len; i++) {
        if (strcmp(conf_schema[i].key, key) == 0)
            return &conf_schema[i];
    }
    return NULL;
}

static bool is_section(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < conf_schema_len; i++) {
        if (strncmp(conf_schema[i].key, name, len) == 0 && conf_schema[i].key[len] == '.')
            return true;
    }
    return false;
}

/* The key meant by an unknown one: the same word in another section, or the nearest key or section; "" if
 * none is near. */
static void nearest(const char *key, char out[KEY_MAX])
{
    const char *dot = strrchr(key, '.');
    const char *word = dot ? dot + 1 : key;
    size_t best = smaller(3, strlen(word) / 3 + 1);
    out[0] = '\0';
    for (size_t i = 0; i < conf_schema_len; i++) {
        const char *k = conf_schema[i].key, *end = strrchr(k, '.');
        char section[KEY_MAX];
        snprintf(section, sizeof section, "%.*s", end ? (int)(end - k) : 0, k);
        const char *candidates[] = {k, section};
        for (size_t j = 0; j < 2; j++) {
            size_t d = *candidates[j] ? edit_distance(key, candidates[j]) : SIZE_MAX;
            if (d <= best && (d < best || !*out)) {
                best = d;
                snprintf(out, KEY_MAX, "%s", candidates[j]);
            }
        }
    }
    for (size_t i = 0; i < conf_schema_len && !*out; i++) {
        const char *end = strrchr(conf_schema[i].key, '.');
        if (end && strcmp(end + 1, word) == 0)
            snprintf(out, KEY_MAX, "%s", conf_schema[i].key);
    }
}

static void unknown_key(struct load *l, struct origin at, const char *key)
{
    char near[KEY_MAX];
    nearest(key, near);
    if (*near)
        fault(l, at, "unknown key %.*s: did you mean %s?", KEY_MAX, key, near);
    else
        fault(l, at, "unknown key %.*s", KEY_MAX, key);
}

/* Checks and stores one value. */
static void put_value(struct load *l, const struct conf_key *k, struct origin at, const char *text)
{
    char what[512];
    at.bad = !parse_value(l->out, k, text, what, sizeof what);
    if (at.bad)
        fault(l, at, "%s: %s", k->key, what);
    l->origins[k - conf_schema] = at;
}

/* the file */

static struct origin origin_of(const yaml_node_t *n)
{
    return (struct origin){.line = n->start_mark.line + 1, .column = n->start_mark.column + 1};
}

/* A plain empty scalar, ~ or null is YAML's way to say nothing. */
static const char *scalar_text(const yaml_node_t *n)
{
    const char *text = (const char *)n->data.scalar.value;
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return plain && (strcmp(text, "~") == 0 || strcmp(text, "null") == 0) ? "" : text;
}

static void load_leaf(struct load *l, const struct conf_key *k, const yaml_node_t *key,
                      const yaml_node_t *value)
{
    struct origin at = origin_of(value), first = l->origins[k - conf_schema];
    if (first.line > 0) {
        fault(l, origin_of(key), "%s is given twice, first in line %zu", k->key, first.line);
        return;
    }
    bool quoted = value->type == YAML_SCALAR_NODE && value->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    at.bad = true;
    if (value->type != YAML_SCALAR_NODE)
        fault(l, at, "%s is a %s where %s is wanted", k->key,
              value->type == YAML_MAPPING_NODE ? "section" : "list", wanted(k));
    else if (strlen((const char *)value->data.scalar.value) != value->data.scalar.length)
        fault(l, at, "%s holds a control character", k->key);
    else if (quoted && k->type != CONF_STRING && k->type != CONF_CHOICE)
        fault(l, at, "%s is text in quotes where %s is wanted", k->key, wanted(k));
    else
        at.bad = false;
    if (at.bad)
        l->origins[k - conf_schema] = at;
    else
        put_value(l, k, at, scalar_text(value));
}

/* Goes down only where the schema has such a section, so that neither depth nor aliases can run away. */
static void load_map(struct load *l, yaml_document_t *doc, const yaml_node_t *map, const char *prefix)
{
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(doc, p->key);
        const yaml_node_t *value = yaml_document_get_node(doc, p->value);
        if (l->faults > FAULTS_MAX)
            return;
        if (key->type != YAML_SCALAR_NODE) {
            fault(l, origin_of(key), "a key must be a word");
            continue;
        }
        char name[KEY_MAX];
        int n = snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "",
                         (const char *)key->data.scalar.value);
        const struct conf_key *k = n < (int)sizeof name ? conf_find(name) : NULL;
        if (k)
            load_leaf(l, k, key, value);
        else if (n >= (int)sizeof name || !is_section(name))
            unknown_key(l, origin_of(key), name);
        else if (value->type == YAML_MAPPING_NODE)
            load_map(l, doc, value, name);
        else if (value->type == YAML_SEQUENCE_NODE || *scalar_text(value))
            fault(l, origin_of(value), "%s is a section: its keys belong below it", name);
    }
}

static void yaml_fault(struct load *l, const yaml_parser_t *parser, const char *text)
{
    struct origin at = {.line = parser->problem_mark.line + 1, .column = parser->problem_mark.column + 1};
    if (parser->error == YAML_READER_ERROR) {
        at = (struct origin){.line = 1, .column = 1};
        for (size_t i = 0; i < parser->problem_offset && text[i]; i++) {
            at.column = text[i] == '\n' ? 1 : at.column + 1;
            at.line += text[i] == '\n';
        }
    }
    fault(l, at, "not YAML: %s%s%s", parser->problem ? parser->problem : "out of memory",
          parser->context ? " " : "", parser->context ? parser->context : "");
}

/* False when the document is not to be judged further. */
static bool load_document(struct load *l, yaml_parser_t *parser, const char *text)
{
    yaml_document_t doc;
    if (!yaml_parser_load(parser, &doc)) {
        yaml_fault(l, parser, text);
        return false;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    bool good =
        !root || root->type == YAML_MAPPING_NODE || (root->type == YAML_SCALAR_NODE && !*scalar_text(root));
    if (!good)
        fault(l, origin_of(root), "the file must hold keys with values");
    else if (root && root->type == YAML_MAPPING_NODE)
        load_map(l, &doc, root, "");
    yaml_document_delete(&doc);
    if (!root)
        return true;
    if (!yaml_parser_load(parser, &doc)) {
        yaml_fault(l, parser, text);
        return false;
    }
    root = yaml_document_get_root_node(&doc);
    if (root)
        fault(l, origin_of(root), "a second document: one file holds one configuration");
    yaml_document_delete(&doc);
    return good;
}

static bool load_file(struct load *l)
{
    struct err e;
    char *text;
    size_t size;
    if (fs_read(l->path, FILE_MAX, &text, &size, &e) < 0) {
        fault(l, (struct origin){0}, "cannot be read: %s", e.msg);
        return false;
    }
    yaml_parser_t parser;
    bool good = false;
    if (yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
        good = load_document(l, &parser, text);
        yaml_parser_delete(&parser);
    } else {
        fault(l, (struct origin){0}, "cannot be read: out of memory");
    }
    free(text);
    return good;
}

/* the rest */

static void load_set(struct load *l, const char *set)
{
    struct origin at = {.set = set};
    char key[KEY_MAX];
    size_t n = strcspn(set, "=");
    if (set[n] != '=' || n == 0) {
        fault(l, at, "is not KEY=VALUE");
        return;
    }
    snprintf(key, sizeof key, "%.*s", (int)smaller(n, KEY_MAX - 1), set);
    const struct conf_key *k = n < KEY_MAX ? conf_find(key) : NULL;
    if (k)
        put_value(l, k, at, set + n + 1);
    else
        unknown_key(l, at, key);
}

static void check_required(struct load *l)
{
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct origin *o = &l->origins[i];
        if ((conf_schema[i].flags & CONF_REQUIRED) && !o->set && o->line == 0)
            fault(l, (struct origin){.line = 1, .column = 1}, "%s is missing: %s", conf_schema[i].key,
                  conf_schema[i].help);
    }
}

/* Where a fault between keys is told: at the first of them that was given, else at the top. False when one of
 * them has a fault of its own, since its value is then not the one that was meant. */
static bool origin_of_keys(const struct load *l, const char *a, const char *b, struct origin *out)
{
    const struct origin *first = &l->origins[conf_find(a) - conf_schema];
    const struct origin *second = &l->origins[conf_find(b) - conf_schema];
    *out = (struct origin){.line = 1, .column = 1};
    if (first->set || first->line > 0)
        *out = *first;
    else if (second->set || second->line > 0)
        *out = *second;
    return !first->bad && !second->bad;
}

static void on_conflict(void *load, const char *a, const char *b, const char *what)
{
    struct load *l = load;
    struct origin at;
    if (origin_of_keys(l, a, b, &at))
        fault(l, at, "%s", what);
}

/* The directory that relative paths of an origin count from. */
static bool base_of(const struct load *l, const struct origin *o, char base[PATH_MAX])
{
    if (o->set)
        return getcwd(base, PATH_MAX) != NULL;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", l->path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        snprintf(dir, sizeof dir, ".");
    else if (slash == dir)
        dir[1] = '\0';
    else
        *slash = '\0';
    return realpath(dir, base) != NULL;
}

static void resolve_paths(struct load *l)
{
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct origin *o = &l->origins[i];
        char *value = string_of(l->out, &conf_schema[i]);
        if (!(conf_schema[i].flags & CONF_PATH) || (!o->set && o->line == 0) || !*value || *value == '/')
            continue;
        char base[PATH_MAX], full[PATH_MAX + CONF_STRING_MAX];
        if (!base_of(l, o, base)) {
            fault(l, *o, "%s: its directory cannot be found: %s", conf_schema[i].key, strerror(errno));
            continue;
        }
        int n = snprintf(full, sizeof full, "%s/%s", strcmp(base, "/") == 0 ? "" : base, value);
        if (n >= CONF_STRING_MAX)
            fault(l, *o, "%s: as an absolute path it is longer than %d bytes", conf_schema[i].key,
                  CONF_STRING_MAX - 1);
        else
            memcpy(value, full, (size_t)n + 1);
    }
}

static void fill_defaults(struct conf *c)
{
    char what[512];
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct conf_key *k = &conf_schema[i];
        if (!(k->flags & CONF_REQUIRED))
            (void)parse_value(c, k, k->def, what, sizeof what);
    }
}

int conf_load(const char *path, const char *const *sets, size_t n_sets, conf_on_fault on_fault, void *arg,
              struct conf *out, struct err *e)
{
    struct load l = {.path = path && *path ? path : NULL, .on_fault = on_fault, .arg = arg, .out = out};
    l.origins = calloc(conf_schema_len, sizeof *l.origins);
    if (!l.origins)
        return err_sys(e, ENOMEM, "load the configuration");
    fill_defaults(out);
    bool good = !l.path || load_file(&l);
    for (size_t i = 0; i < n_sets; i++)
        load_set(&l, sets[i]);
    if (good) {
        check_required(&l);
        conf_across(l.out, on_conflict, &l);
        resolve_paths(&l);
    }
    free(l.origins);
    if (l.faults == 0)
        return 0;
    return err_set(e, XDC_ECONF, "the configuration has %zu fault%s%s", l.faults, l.faults == 1 ? "" : "s",
                   l.faults > FAULTS_MAX ? " or more" : "");
}
