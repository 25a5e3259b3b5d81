/* The way from a configuration to text: values, the commented schema, the run's identity. */
#include "lib/conf.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Plain only where no YAML reader could take it for anything but this text. */
static bool is_plain(const char *s)
{
    return isalpha((unsigned char)*s) &&
           s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")] == 0 &&
           strcmp(s, "null") != 0 && strcmp(s, "true") != 0 && strcmp(s, "false") != 0;
}

static void print_string(const char *s, char *out, size_t size)
{
    if (*s == '/' ? is_plain(s + 1) : is_plain(s)) {
        snprintf(out, size, "%s", s);
        return;
    }
    char quoted[2 * CONF_STRING_MAX + 3], *p = quoted;
    *p++ = '"';
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            *p++ = '\\';
        *p++ = *s;
    }
    *p++ = '"';
    *p = '\0';
    snprintf(out, size, "%s", quoted);
}

static void print_choice(const struct conf_key *k, int64_t index, char *out, size_t size)
{
    const char *p = k->choices;
    while (index-- > 0)
        p += conf_choice_length(p) + 1;
    snprintf(out, size, "%.*s", (int)conf_choice_length(p), p);
}

void conf_print_value(const struct conf *c, const struct conf_key *key, char *out, size_t size)
{
    const char *at = (const char *)c + key->offset;
    int64_t i = 0;
    double d = 0;
    if (key->type == CONF_REAL)
        memcpy(&d, at, sizeof d);
    else if (key->type != CONF_STRING)
        memcpy(&i, at, sizeof i);
    switch (key->type) {
    case CONF_INT:
        snprintf(out, size, "%" PRId64, i);
        break;
    case CONF_REAL:
        snprintf(out, size, "%.15g", d);
        if (strtod(out, NULL) != d)
            snprintf(out, size, "%.17g", d);
        break;
    case CONF_BOOL:
        snprintf(out, size, "%s", i ? "true" : "false");
        break;
    case CONF_CHOICE:
        print_choice(key, i, out, size);
        break;
    case CONF_STRING:
        print_string(at, out, size);
        break;
    }
}

static void print_form(FILE *f, const struct conf_key *k, const char *indent)
{
    static const char *const word[] = {"whole number", "number", "true or false", "text", "one of"};
    fprintf(f, "%s# %s\n%s# %s", indent, k->help, indent, k->flags & CONF_PATH ? "path" : word[k->type]);
    if (k->type == CONF_CHOICE)
        fprintf(f, " %s", k->choices);
    if (k->type == CONF_INT || k->type == CONF_REAL)
        fprintf(f, ", %.15g to %.15g", k->min, k->max);
    if (k->unit)
        fprintf(f, ", %s", k->unit);
    if (k->flags & CONF_REQUIRED)
        fprintf(f, "; required, the value below is an example");
    if (k->flags & CONF_IDENTITY)
        fprintf(f, "; fixed once a run has begun");
    fprintf(f, "\n");
}

void conf_print_schema(FILE *f)
{
    const char *section = "";
    size_t section_len = 0;
    fprintf(f, "# Every key of the configuration with its default. A relative path counts from this file's "
               "directory.\n"
               "# --set KEY=VALUE takes the same keys with dots, e.g. --set train.lr=0.02.\n");
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct conf_key *k = &conf_schema[i];
        const char *dot = strrchr(k->key, '.');
        size_t len = dot ? (size_t)(dot - k->key) : 0;
        if (len != section_len || strncmp(section, k->key, len) != 0) {
            section = k->key;
            section_len = len;
            if (len > 0)
                fprintf(f, "\n%.*s:\n", (int)len, k->key);
            else
                fprintf(f, "\n");
        }
        print_form(f, k, len > 0 ? "  " : "");
        fprintf(f, "%s%s: %s\n", len > 0 ? "  " : "", dot ? dot + 1 : k->key, *k->def ? k->def : "\"\"");
    }
}

bool conf_is_identity(const struct conf *c, const struct conf_key *key)
{
    if (key->offset == offsetof(struct conf, train.rounds)) /* they divide the whole training */
        return c->method == METHOD_SELAVI && c->selavi.relabel_power > 0;
    return key->flags & CONF_IDENTITY;
}

uint64_t conf_identity(const struct conf *c, uint64_t manifest_identity)
{
    char text[64 * 1024], value[2 * CONF_STRING_MAX + 3];
    size_t used = 0;
    for (size_t i = 0; i < conf_schema_len; i++) {
        if (!conf_is_identity(c, &conf_schema[i]))
            continue;
        conf_print_value(c, &conf_schema[i], value, sizeof value);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s\n", conf_schema[i].key, value);
        assert(used < sizeof text);
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "manifest=%016" PRIx64 "\n", manifest_identity);
    assert(used < sizeof text);
    return XXH3_64bits(text, used);
}
