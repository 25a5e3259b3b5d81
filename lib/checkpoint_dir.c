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

void checkpoint_dir_done(uint64_t state_hash, char out[CHECKPOINT_DONE_SIZE + 1])
{
    snprintf(out, CHECKPOINT_DONE_SIZE + 1, "%016" PRIx64 "\n", state_hash);
}

/* DONE must be, byte for byte, what a state of that hash has. */
static int check_done(const char *dir, uint64_t state_hash, struct err *e)
{
    char path[PATH_MAX], want[CHECKPOINT_DONE_SIZE + 1];
    char *text = NULL;
    size_t size;
    int rc = fs_path(path, e, "%s/" CHECKPOINT_DONE, dir);
    if (rc == 0)
        rc = fs_read(path, 64, &text, &size, e);
    if (rc < 0)
        return rc;
    checkpoint_dir_done(state_hash, want);
    if (size != CHECKPOINT_DONE_SIZE || memcmp(text, want, size) != 0)
        rc = err_set(e, XDC_EFORMAT,
                     "%s does not hold the hash of " CHECKPOINT_STATE ": one of them is altered", path);
    free(text);
    return rc;
}

/* Reads the state and compares its hash with DONE; *out_weights is the hash that the weights must have. */
static int read_state(const char *dir, json_t **out_state, uint64_t *out_weights, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    json_error_t je;
    int rc = fs_path(path, e, "%s/" CHECKPOINT_STATE, dir);
    if (rc == 0)
        rc = fs_read(path, STATE_MAX, &text, &size, e);
    if (rc == 0)
        rc = check_done(dir, XXH3_64bits(text, size), e);
    json_t *state = rc == 0 ? json_loads(text, 0, &je) : NULL;
    free(text);
    if (rc < 0)
        return rc;
    const char *hash = json_string_value(json_object_get(state, "weights_xxh3"));
    if (!hash || sscanf(hash, "%16" SCNx64, out_weights) != 1) {
        json_decref(state);
        return err_set(e, XDC_EFORMAT, "%s: not a checkpoint's state", path);
    }
    *out_state = state;
    return 0;
}

/* 0 when the checkpoint is whole; *out_state is then a new reference. */
static int read_whole(const char *dir, json_t **out_state, struct err *e)
{
    char path[PATH_MAX];
    json_t *state = NULL;
    uint64_t hash = 0, want = 0;
    int rc = read_state(dir, &state, &want, e);
    if (rc == 0)
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

/* Forgets the cached pages of a synced file, so that it is read from the disk; a wish, not a demand. */
static void forget_cached(const char *dir, const char *name)
{
    char path[PATH_MAX];
    int fd = fs_path(path, NULL, "%s/%s", dir, name) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

int checkpoint_dir_verify(const char *dir, struct err *e)
{
    json_t *state = NULL;
    forget_cached(dir, CHECKPOINT_WEIGHTS);
    forget_cached(dir, CHECKPOINT_STATE);
    forget_cached(dir, CHECKPOINT_DONE);
    int rc = read_whole(dir, &state, e);
    json_decref(state);
    return rc;
}

int checkpoint_dir_latest(const char *run_dir, char out_path[PATH_MAX], json_t **out_state,
                          checkpoint_dir_on_refused on_refused, void *arg, struct err *e)
{
    char dir[PATH_MAX];
    struct dirent **names = NULL;
    int rc = fs_path(dir, e, "%s/checkpoints", run_dir);
    if (rc < 0)
        return rc;
    int n = scandir(dir, &names, is_step, newest_first);
    if (n < 0)
        return err_sys(e, errno, "list %s", dir);
    rc = -ENOENT;
    for (int i = 0; i < n; i++) {
        if (rc == -ENOENT) {
            struct err refused;
            int r = fs_path(out_path, &refused, "%s/%s", dir, names[i]->d_name);
            if (r == 0 && read_whole(out_path, out_state, &refused) == 0)
                rc = 0;
            else if (on_refused)
                on_refused(arg, refused.msg);
        }
        free(names[i]);
    }
    free(names);
    return rc == 0 ? 0 : err_sys(e, ENOENT, "no whole checkpoint in %s", dir);
}

/* The weights' hash counts, not DONE alone: altered ones must not push out what can still be restored. */
static bool is_whole(const char *dir)
{
    json_t *state = NULL;
    struct err ignored;
    bool whole = read_whole(dir, &state, &ignored) == 0;
    json_decref(state);
    return whole;
}

/* Older ones that are kept were verified when they were written; their weights are not read again and again.
 */
static bool is_complete(const char *dir)
{
    json_t *state = NULL;
    uint64_t weights;
    struct err ignored;
    bool complete = read_state(dir, &state, &weights, &ignored) == 0;
    json_decref(state);
    return complete;
}

/* Which of the n names, newest first, are the first ones of their `every` steps. */
static void mark_firsts(const char *dir, struct dirent **names, int n, uint64_t every, bool *out_first)
{
    char path[PATH_MAX];
    uint64_t last = UINT64_MAX;
    for (int i = n - 1; i >= 0; i--) {
        uint64_t of = strtoull(names[i]->d_name + strlen("step-"), NULL, 10) / every;
        out_first[i] = is_step(names[i]) && of != last &&
                       fs_path(path, NULL, "%s/%s", dir, names[i]->d_name) == 0 && is_complete(path);
        if (out_first[i])
            last = of;
    }
}

static int prune(const char *dir, struct dirent **names, int n, const struct checkpoint_keep *keep,
                 const bool *first, struct err *e)
{
    char path[PATH_MAX];
    unsigned whole = 0;
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = fs_path(path, e, "%s/%s", dir, names[i]->d_name);
        if (rc < 0)
            break;
        if (!is_step(names[i])) {
            rc = fs_remove_tree(path, e);
            continue;
        }
        bool good = whole < keep->newest ? is_whole(path) : first[i];
        if (!good && whole > 0)
            rc = fs_remove_tree(path, e);
        whole += good && whole < keep->newest;
    }
    return rc;
}

int checkpoint_dir_prune(const char *run_dir, const struct checkpoint_keep *keep, struct err *e)
{
    char dir[PATH_MAX];
    struct dirent **names = NULL;
    int rc = fs_path(dir, e, "%s/checkpoints", run_dir);
    if (rc < 0)
        return rc;
    int n = scandir(dir, &names, is_step_or_left, newest_first);
    if (n < 0)
        return err_sys(e, errno, "list %s", dir);
    bool *first = calloc((size_t)n + 1, sizeof *first);
    if (!first)
        rc = err_sys(e, ENOMEM, "list %s", dir);
    else if (keep->every)
        mark_firsts(dir, names, n, keep->every, first);
    if (rc == 0)
        rc = prune(dir, names, n, keep, first, e);
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    free(first);
    return rc;
}
