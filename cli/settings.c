#include "cli/settings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int settings_add(struct settings *s, struct err *e, const char *fmt, ...)
{
    if (s->n == SETTINGS_MAX)
        return err_set(e, XDC_ECONF, "more than %d settings", SETTINGS_MAX);
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return err_sys(e, ENOMEM, "settings");
    s->texts[s->n++] = text;
    return 0;
}

int settings_add_list(struct settings *s, const char *const *list, size_t n, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = settings_add(s, e, "%s", list[i]);
    return rc;
}

int settings_add_encoder(struct settings *s, const struct encoder_file *f, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->n; i++)
        rc = settings_add(s, e, "%s=%s", f->settings[i].key, f->settings[i].value);
    return rc;
}

void settings_close(struct settings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->texts[i]);
    *s = (struct settings){0};
}

static void on_fault(void *arg, const char *where, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", (const char *)arg, where, what);
}

int settings_load(const struct settings *s, const char *base, const char *command, struct conf *out,
                  struct err *e)
{
    return conf_load(base, (const char *const *)s->texts, s->n, on_fault, (void *)command, out, e);
}

const char *settings_value(const char *text, const char *key)
{
    size_t n = strlen(key);
    return strncmp(text, key, n) == 0 && text[n] == '=' ? text + n + 1 : NULL;
}

bool settings_same(const char *a, const char *b)
{
    char *end_a, *end_b;
    double x = strtod(a, &end_a), y = strtod(b, &end_b);
    return strcmp(a, b) == 0 || (*a && *b && !*end_a && !*end_b && x == y);
}
