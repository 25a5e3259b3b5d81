#include "services/trainer/dump_keep.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/checkpoint_dir.h"
#include "lib/fsutil.h"

#define GONE "removed-"

struct rounds {
    uint32_t *round; /* owned */
    size_t n;
};

static bool has(const struct rounds *r, uint32_t round)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->round[i] == round)
            return true;
    return false;
}

static int is_round(const struct dirent *d)
{
    unsigned round;
    int end = 0;
    return sscanf(d->d_name, "round-%u%n", &round, &end) == 1 && d->d_name[end] == '\0';
}

static int is_gone(const struct dirent *d)
{
    return strncmp(d->d_name, GONE, strlen(GONE)) == 0;
}

static int is_step(const struct dirent *d)
{
    return strncmp(d->d_name, "step-", 5) == 0;
}

static int by_round(const struct dirent **a, const struct dirent **b)
{
    unsigned long x = strtoul((*a)->d_name + 6, NULL, 10), y = strtoul((*b)->d_name + 6, NULL, 10);
    return (x > y) - (x < y);
}

/* The round that a checkpoint stands in. */
static int round_of(const char *run_dir, const char *step, uint32_t *out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    int rc = fs_path(path, e, "%s/checkpoints/%s/" CHECKPOINT_STATE, run_dir, step);
    if (rc == 0)
        rc = fs_read(path, (size_t)1 << 30, &text, &size, e);
    if (rc < 0)
        return rc;
    json_t *state = json_loadb(text, size, 0, NULL);
    json_t *round = json_object_get(state, "round");
    if (json_is_integer(round))
        *out = (uint32_t)json_integer_value(round);
    else
        rc = err_set(e, XDC_EFORMAT, "%s names no round", path);
    json_decref(state);
    free(text);
    return rc;
}

static int list(const char *run_dir, const char *folder, int (*filter)(const struct dirent *),
                int (*order)(const struct dirent **, const struct dirent **), struct dirent ***out,
                int *out_n, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s/%s", run_dir, folder);
    *out = NULL;
    *out_n = rc == 0 ? scandir(path, out, filter, order) : 0;
    if (*out_n >= 0)
        return rc;
    rc = errno == ENOENT ? 0 : err_sys(e, errno, "list %s", path);
    *out_n = 0;
    return rc;
}

static void free_list(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* 1, or 0 where a checkpoint does not say which round it stands in. */
static int named_rounds(const char *run_dir, struct rounds *out, struct err *e)
{
    struct dirent **names;
    int n, rc = list(run_dir, "checkpoints", is_step, alphasort, &names, &n, e);
    out->round = calloc((size_t)n + 1, sizeof *out->round);
    if (rc == 0 && !out->round)
        rc = err_sys(e, ENOMEM, "checkpoints of %s", run_dir);
    bool known = true;
    for (int i = 0; rc == 0 && known && i < n; i++)
        known = round_of(run_dir, names[i]->d_name, &out->round[out->n++], NULL) == 0;
    free_list(names, n);
    return rc < 0 ? rc : known;
}

static int remove_gone(const char *run_dir, struct err *e)
{
    struct dirent **names;
    int n, rc = list(run_dir, "features", is_gone, alphasort, &names, &n, e);
    for (int i = 0; rc == 0 && i < n; i++) {
        char path[PATH_MAX];
        rc = fs_path(path, e, "%s/features/%s", run_dir, names[i]->d_name);
        if (rc == 0)
            rc = fs_remove_tree(path, e);
    }
    free_list(names, n);
    return rc;
}

/* Out of everybody's sight, if the round has a table. */
static int put_away(const char *run_dir, const char *name, struct err *e)
{
    char table[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
    int rc = fs_path(table, e, "%s/labels/%s.xdcl", run_dir, name);
    if (rc < 0 || access(table, F_OK) < 0)
        return rc;
    rc = fs_path(from, e, "%s/features/%s", run_dir, name);
    if (rc == 0)
        rc = fs_path(to, e, "%s/features/" GONE "%s", run_dir, name);
    if (rc == 0)
        rc = fs_remove_tree(to, e);
    if (rc == 0 && rename(from, to) < 0)
        rc = err_sys(e, errno, "rename %s", from);
    return rc;
}

int dump_keep(const char *run_dir, unsigned newest, struct err *e)
{
    struct rounds named = {0};
    struct dirent **names;
    int n;
    if (newest == 0)
        return 0;
    int rc = named_rounds(run_dir, &named, e);
    if (rc <= 0) {
        free(named.round);
        return rc;
    }
    rc = list(run_dir, "features", is_round, by_round, &names, &n, e);
    for (int i = 0; rc == 0 && i + (int64_t)newest < n; i++)
        if (!has(&named, (uint32_t)strtoul(names[i]->d_name + 6, NULL, 10)))
            rc = put_away(run_dir, names[i]->d_name, e);
    free_list(names, n);
    free(named.round);
    return rc < 0 ? rc : remove_gone(run_dir, e);
}
