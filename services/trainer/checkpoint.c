#include "services/trainer/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/fsutil.h"

static json_t *hex(uint64_t v)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static uint64_t from_hex(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? strtoull(text, NULL, 16) : 0;
}

static json_t *marks_to_json(const struct train_state *s)
{
    json_t *list = json_array();
    for (uint32_t r = 0; r < s->ranks; r++) {
        const struct ledger_mark *m = &s->ledgers[r];
        json_array_append_new(list, json_pack("{s:i, s:I, s:o}", "epoch", (int)m->epoch, "size_bytes",
                                              (json_int_t)m->size_bytes, "hash", hex(m->hash)));
    }
    return list;
}

static int marks_from_json(const json_t *list, struct train_state *s)
{
    size_t n = json_array_size(list);
    if (n == 0 || n > CONF_RANKS_MAX)
        return -1;
    s->ranks = (uint32_t)n;
    for (size_t r = 0; r < n; r++) {
        json_t *mark = json_array_get(list, r);
        int epoch;
        json_int_t size;
        if (json_unpack(mark, "{s:i, s:I}", "epoch", &epoch, "size_bytes", &size) < 0)
            return -1;
        s->ledgers[r] = (struct ledger_mark){(uint32_t)epoch, (uint64_t)size, from_hex(mark, "hash")};
    }
    return 0;
}

/* All of state.json but the hash of the weights, which is known when they are written. */
static json_t *state_to_json(uint64_t run, const struct train_state *s, struct quarantine *q)
{
    return json_pack("{s:i, s:o, s:s, s:i, s:i, s:I, s:I, s:o, s:o, s:o, s:[f,f], s:[I,I], "
                     "s:[I,I], s:o, s:o}",
                     "format", 1, "run", hex(run), "phase", phase_name(s->phase), "round", (int)s->round,
                     "epoch", (int)s->epoch, "batch", (json_int_t)s->batch, "step", (json_int_t)s->step,
                     "labels", hex(s->labels), "features", hex(s->features), "ledgers", marks_to_json(s),
                     "loss", s->loss[0], s->loss[1], "labelled", (json_int_t)s->labelled[0],
                     (json_int_t)s->labelled[1], "correct", (json_int_t)s->correct[0],
                     (json_int_t)s->correct[1], "quarantine", quarantine_to_json(q), "early_stop",
                     early_stop_to_json(s->early, NET_ENCODERS));
}

static int state_from_json(const json_t *j, struct train_state *s, struct err *e)
{
    const char *phase;
    int round, epoch;
    json_int_t batch, step, labelled[2], correct[2];
    const json_t *ledgers;
    int rc = json_unpack((json_t *)j, "{s:s, s:i, s:i, s:I, s:I, s:o, s:[F,F], s:[I,I], s:[I,I]}", "phase",
                         &phase, "round", &round, "epoch", &epoch, "batch", &batch, "step", &step, "ledgers",
                         &ledgers, "loss", &s->loss[0], &s->loss[1], "labelled", &labelled[0], &labelled[1],
                         "correct", &correct[0], &correct[1]);
    if (rc == 0)
        rc = marks_from_json(ledgers, s);
    if (rc < 0 || phase_parse(phase, &s->phase) < 0)
        return err_set(e, XDC_EFORMAT, "the checkpoint's state lacks a field or has a wrong one");
    s->round = (uint32_t)round;
    s->epoch = (uint32_t)epoch;
    s->batch = (uint64_t)batch;
    s->step = (uint64_t)step;
    s->labels = from_hex(j, "labels");
    s->features = from_hex(j, "features");
    for (int i = 0; i < NET_ENCODERS; i++) {
        s->labelled[i] = (uint64_t)labelled[i];
        s->correct[i] = (uint64_t)correct[i];
    }
    return early_stop_from_json(json_object_get(j, "early_stop"), s->early, NET_ENCODERS, e);
}

int checkpoint_take(struct checkpoint *out, uint64_t run, const struct train_state *s, struct net *net,
                    struct quarantine *q, struct err *e)
{
    *out = (struct checkpoint){.step = s->step, .state = state_to_json(run, s, q)};
    int rc = out->state ? net_snapshot_create(net, &out->weights, e) : err_sys(e, ENOMEM, "checkpoint state");
    if (rc < 0)
        checkpoint_free(out);
    return rc;
}

void checkpoint_free(struct checkpoint *c)
{
    json_decref(c->state);
    net_snapshot_destroy(c->weights);
    *c = (struct checkpoint){0};
}

/* The hash is that of the file; what it holds is compared with the copy, byte for byte. */
static int write_weights(const struct checkpoint *c, const char *tmp, uint64_t *out_hash, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s/" CHECKPOINT_WEIGHTS, tmp);
    if (rc == 0)
        rc = net_snapshot_write(c->weights, path, e);
    if (rc == 0)
        rc = checkpoint_dir_hash(path, out_hash, e);
    return rc == 0 ? net_snapshot_compare(c->weights, path, e) : rc;
}

static int write_state(const struct checkpoint *c, const char *tmp, uint64_t weights, uint64_t *out_hash,
                       struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    if (json_object_set_new(c->state, "weights_xxh3", hex(weights)) == 0)
        text = json_dumps(c->state, JSON_SORT_KEYS | JSON_INDENT(1));
    if (!text)
        return err_sys(e, ENOMEM, "checkpoint state");
    int rc = fs_path(path, e, "%s/" CHECKPOINT_STATE, tmp);
    if (rc == 0)
        rc = fs_write_atomic(path, text, strlen(text), e);
    *out_hash = XXH3_64bits(text, strlen(text));
    free(text);
    return rc;
}

/* Weights, state, DONE: in this order, into the directory `tmp`; then all is read back. */
static int write_files(const struct checkpoint *c, const char *tmp, struct err *e)
{
    char path[PATH_MAX], done[CHECKPOINT_DONE_SIZE + 1];
    uint64_t weights = 0, state = 0;
    int rc = write_weights(c, tmp, &weights, e);
    if (rc == 0)
        rc = write_state(c, tmp, weights, &state, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/" CHECKPOINT_DONE, tmp);
    if (rc < 0)
        return rc;
    checkpoint_dir_done(state, done);
    rc = fs_write_atomic(path, done, CHECKPOINT_DONE_SIZE, e);
    return rc == 0 ? checkpoint_dir_verify(tmp, e) : rc;
}

/* Gives the synced directory `tmp` its name. One of the same step is there until the new one is: it becomes
 * `tmp`, which pruning removes. */
static int publish(const char *run_dir, const char *tmp, const char *dir, struct err *e)
{
    char parent[PATH_MAX];
    int rc = fs_path(parent, e, "%s/checkpoints", run_dir);
    if (rc == 0 && renameat2(AT_FDCWD, tmp, AT_FDCWD, dir, RENAME_EXCHANGE) == 0)
        return fs_sync_dir(parent, e);
    /* There is none, or the file system cannot exchange. */
    if (rc == 0)
        rc = fs_remove_tree(dir, e);
    return rc < 0 ? rc : fs_publish_dir(tmp, dir, e);
}

int checkpoint_write(struct checkpoint *c, const char *run_dir, const struct checkpoint_keep *keep,
                     struct err *e)
{
    char dir[PATH_MAX], tmp[PATH_MAX];
    int rc = fs_path(dir, e, "%s/checkpoints/step-%012" PRIu64, run_dir, c->step);
    if (rc == 0)
        rc = fs_path(tmp, e, "%s/checkpoints/tmp-%012" PRIu64, run_dir, c->step);
    if (rc == 0)
        rc = fs_remove_tree(tmp, e);
    if (rc == 0)
        rc = fs_mkdirs(tmp, e);
    if (rc == 0)
        rc = write_files(c, tmp, e);
    if (rc == 0)
        rc = publish(run_dir, tmp, dir, e);
    if (rc == 0) /* in which `checkpoints` may be new */
        rc = fs_sync_dir(run_dir, e);
    if (rc < 0) {
        struct err ignored;
        if (fs_remove_tree(tmp, &ignored) < 0)
            return err_wrap(e, "checkpoint of step %" PRIu64 " (and %s stays)", c->step, tmp);
        return err_wrap(e, "checkpoint of step %" PRIu64, c->step);
    }
    return checkpoint_dir_prune(run_dir, keep, e);
}

int checkpoint_restore(const char *run_dir, uint64_t run, struct train_state *s, struct net *net,
                       struct quarantine *q, checkpoint_dir_on_refused on_refused, void *arg, struct err *e)
{
    char dir[PATH_MAX], path[PATH_MAX];
    json_t *state = NULL;
    int rc = checkpoint_dir_latest(run_dir, dir, &state, on_refused, arg, e);
    if (rc < 0)
        return rc;
    if (from_hex(state, "run") != run)
        rc = err_set(e, XDC_EMISMATCH, "%s is of another run (other configuration or manifest)", dir);
    if (rc == 0)
        rc = state_from_json(state, s, e);
    if (rc == 0)
        rc = quarantine_from_json(q, json_object_get(state, "quarantine"), e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/" CHECKPOINT_WEIGHTS, dir);
    if (rc == 0)
        rc = net_load(net, path, e);
    json_decref(state);
    return rc < 0 ? err_wrap(e, "restore %s", dir) : 0;
}
