/* What several subcommands share. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "lib/fsutil.h"
#include "lib/run_json.h"

int cli_fail(const char *command, const struct err *e)
{
    fprintf(stderr, "xdc %s: %s\n", command, e->msg);
    return err_exit_status(e->code);
}

int cli_usage(const char *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "xdc %s: ", command);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "; see xdc %s --help\n", command);
    va_end(ap);
    return 64;
}

bool cli_parse_count(const char *text, uint64_t lo, uint64_t hi, uint64_t *out)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v < lo || v > hi)
        return false;
    *out = v;
    return true;
}

bool cli_parse_real(const char *text, double lo, double hi, double *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno || !(v >= lo && v <= hi))
        return false;
    *out = v;
    return true;
}

static int compare_reals(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

bool cli_parse_reals(const char *text, double lo, double hi, double *out, uint32_t most, uint32_t *out_n)
{
    char copy[1024], *rest = NULL;
    uint32_t n = 0, kept = 0;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return false;
    for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
        if (n == most || !cli_parse_real(one, lo, hi, &out[n++]))
            return false;
    qsort(out, n, sizeof *out, compare_reals);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || out[i] != out[kept - 1])
            out[kept++] = out[i];
    *out_n = kept;
    return kept > 0;
}

json_t *cli_json_uri(const char *uri)
{
    json_t *j = json_string(uri);
    char *text = j ? NULL : strdup(uri);
    for (char *p = text; p && *p; p++)
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    if (text)
        j = json_string(text);
    free(text);
    return j;
}

static void on_fault(void *arg, const char *where, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", (const char *)arg, where, what);
}

/* A value as conf_print_value writes it, without the quotes that a file needs. */
static void unquote(char *text)
{
    char *to = text;
    size_t n = strlen(text);
    if (n < 2 || text[0] != '"')
        return;
    for (const char *p = text + 1; p < text + n - 1; p++) {
        p += *p == '\\';
        *to++ = *p;
    }
    *to = '\0';
}

int cli_run_conf(const char *run_dir, struct conf *out, struct err *e)
{
    char path[PATH_MAX];
    json_t *record = NULL;
    size_t n = 0;
    int rc = fs_path(path, e, "%s/" RUN_JSON, run_dir);
    if (rc == 0)
        rc = run_json_read(run_dir, &record, e);
    if (rc < 0)
        return rc;
    char **sets = calloc(conf_schema_len, sizeof *sets);
    for (size_t i = 0; sets && i < conf_schema_len; i++) {
        const char *v = run_json_config(record, conf_schema[i].key);
        char *value = v ? strdup(v) : NULL;
        if (value)
            unquote(value);
        if (value && asprintf(&sets[n], "%s=%s", conf_schema[i].key, value) > 0)
            n++;
        free(value);
    }
    rc = conf_load(NULL, (const char *const *)sets, n, on_fault, path, out, e);
    for (size_t i = 0; i < n; i++)
        free(sets[i]);
    free(sets);
    json_decref(record);
    /* The directory may have been moved since. */
    if (rc == 0 && snprintf(out->run.dir, sizeof out->run.dir, "%s", run_dir) >= (int)sizeof out->run.dir)
        rc = err_sys(e, ENAMETOOLONG, "%s", run_dir);
    return rc;
}

int cli_round(const char *run_dir, const char *what, const char *text, uint32_t *out, struct err *e)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (end != text && !*end && !errno && v < UINT32_MAX) {
        *out = (uint32_t)v;
        return 0;
    }
    if (strcmp(text, "last") != 0)
        return err_set(e, XDC_EUSAGE, "--round is a number or last, not %s", text);
    char dir[PATH_MAX];
    int rc = fs_path(dir, e, "%s/%s", run_dir, what);
    return rc < 0 ? rc : fs_last_round(dir, strcmp(what, "labels") == 0 ? ".xdcl" : "", out, e);
}
