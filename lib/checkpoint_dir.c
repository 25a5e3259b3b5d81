#include "lib/checkpoint_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"

#define STATE_MAX ((size_t)1 << 30)

int checkpoint_dir_hash(const char *path, uint64_t *out, struct err *e)
{
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    XXH3_state_t *state = XXH3_createState();
    char *buf = malloc(1 << 20);
    if (!state || !buf || XXH3_64bits_reset(state) != XXH_OK) {
        rc = err_sys(e, ENOMEM, "hash %s", path);
        goto out;
    }
    ssize_t n;
    while ((n = read(fd, buf, 1 << 20)) > 0)
        XXH3_64bits_update(state, buf, (size_t)n);
    if (n < 0)
        rc = err_sys(e, errno, "read %s", path);
    *out = XXH3_64bits_digest(state);
out:
    free(buf);
    XXH3_freeState(state);
    close(fd);
    return rc;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*b)->d_name, (*a)->d_name);
}

static int is_step(const struct dirent *d)
{
    return strncmp(d->d_name, "step-", 5) == 0;
}

static int is_step_or_left(const struct dirent *d)
{
    return is_step(d) || strncmp(d->d_name, "tmp-", 4) == 0;
}

static int parse_hash(const char *text, uint64_t *out)
{
    return text && sscanf(text, "%16" SCNx64, out) == 1 ? 0 : -EINVAL;
}

/* The hash of the state that DONE names. */
static int read_done(const char *dir, uint64_t *out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    int rc = fs_path(path, e, "%s/" CHECKPOINT_DONE, dir);
    if (rc == 0)
        rc = fs_read(path, 64, &text, &size, e);
    if (rc == 0 && parse_hash(text, out) < 0)
        rc = err_set(e, XDC_EFORMAT, "%s names no hash", path);
    free(text);
    return rc;
}

/* Reads the state, compares its hash and the weights'; 0 when the checkpoint is whole. */
static int read_whole(const char *dir, json_t **out_state, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    uint64_t hash, want = 0, want_state = 0;
    int rc = read_done(dir, &want_state, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/" CHECKPOINT_STATE, dir);
    if (rc == 0)
        rc = fs_read(path, STATE_MAX, &text, &size, e);
    if (rc < 0)
        return rc;
    if (XXH3_64bits(text, size) != want_state) {
        free(text);
        return err_set(e, XDC_EFORMAT, "%s is altered: its hash is not the one in " CHECKPOINT_DONE, path);
    }
    json_error_t je;
    json_t *state = json_loads(text, 0, &je);
    free(text);
    if (parse_hash(json_string_value(json_object_get(state, "weights_xxh3")), &want) < 0) {
        json_decref(state);
        return err_set(e, XDC_EFORMAT, "%s: not a checkpoint's state", path);
    }
    rc = fs_path(path, e, "%s/" CHECKPOINT_WEIGHTS, dir);
    if (rc == 0)
        rc = checkpoint_dir_hash(path, &hash, e);
    if (rc == 0 && hash != want)
        rc = err_set(e, XDC_EFORMAT, "%s is altered: its hash is not the one in " CHECKPOINT_STATE, path);
    if (rc < 0) {
        json_decref(state);
        return rc;
    }
    *out_state = state;
    return 0;
}

int checkpoint_dir_latest(const char *run_dir, char out_path[PATH_MAX], json_t **out_state,
                          unsigned *out_skipped, struct err *e)
{
    char dir[PATH_MAX];
    struct dirent **names = NULL;
    if (out_skipped)
        *out_skipped = 0;
    int rc = fs_path(dir, e, "%s/checkpoints", run_dir);
    if (rc < 0)
        return rc;
    int n = scandir(dir, &names, is_step, newest_first);
    if (n < 0)
        return err_sys(e, errno, "list %s", dir);
    rc = -ENOENT;
    for (int i = 0; i < n; i++) {
        if (rc == -ENOENT) {
            struct err skipped;
            int r = fs_path(out_path, &skipped, "%s/%s", dir, names[i]->d_name);
            if (r == 0 && read_whole(out_path, out_state, &skipped) == 0)
                rc = 0;
            else if (out_skipped)
                ++*out_skipped;
        }
        free(names[i]);
    }
    free(names);
    return rc == 0 ? 0 : err_sys(e, ENOENT, "no whole checkpoint in %s", dir);
}

/* The hash counts, not DONE alone: altered ones must not push out what can still be restored. */
static bool is_whole(const char *dir)
{
    json_t *state = NULL;
    struct err ignored;
    bool whole = read_whole(dir, &state, &ignored) == 0;
    json_decref(state);
    return whole;
}

int checkpoint_dir_prune(const char *run_dir, unsigned keep, struct err *e)
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct dirent **names = NULL;
    int rc = fs_path(dir, e, "%s/checkpoints", run_dir);
    if (rc < 0)
        return rc;
    int n = scandir(dir, &names, is_step_or_left, newest_first);
    if (n < 0)
        return err_sys(e, errno, "list %s", dir);
    unsigned whole = 0;
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = fs_path(path, e, "%s/%s", dir, names[i]->d_name);
        if (rc == 0) {
            bool good = is_step(names[i]) && whole < keep && is_whole(path);
            if (!good && (whole > 0 || !is_step(names[i])))
                rc = fs_remove_tree(path, e);
            whole += good;
        }
        free(names[i]);
    }
    free(names);
    return rc;
}
