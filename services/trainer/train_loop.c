#include "services/trainer/train_loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/rng.h"
#include "services/trainer/memory_need.h"
#include "services/trainer/trainer.h"

void train_show_phase(struct train_loop *l, uint64_t done, uint64_t total)
{
    struct trainer_shared *s = &l->t->shared;
    l->phase_start_s = progress_now_s();
    l->phase_clips = 0;
    l->waited_s = l->stepped_s = 0;
    pthread_mutex_lock(&s->lock);
    s->phase = l->state.phase;
    if (s->round != l->state.round)
        json_array_clear(s->warnings);
    s->round = l->state.round;
    s->epoch = l->state.epoch;
    s->step = l->state.step;
    s->done = s->phase_first = done;
    s->total = total;
    s->phase_start_s = l->phase_start_s;
    pthread_mutex_unlock(&s->lock);
}

void train_show_done(struct train_loop *l, uint64_t done)
{
    struct trainer_shared *s = &l->t->shared;
    pthread_mutex_lock(&s->lock);
    s->done = done;
    s->step = l->state.step;
    for (int i = 0; i < NET_ENCODERS; i++) {
        double n = l->state.labelled[i] ? (double)l->state.labelled[i] : 1.0;
        s->loss[i] = l->state.loss[i] / n;
        s->accuracy[i] = (double)l->state.correct[i] / n;
        s->early[i] = l->state.early[i];
    }
    pthread_mutex_unlock(&s->lock);
}

int train_note_batch(struct train_loop *l, const struct plan *p, const struct batch *b, struct err *e)
{
    struct trainer *t = l->t;
    uint64_t before = l->phase_clips;
    for (uint32_t s = 0; s < p->streams; s++) {
        for (uint32_t row = 0; row < b->n; row++) {
            const struct batch_slot *slot = &b->stream[s].slots[row];
            if (slot->disposition == LEDGER_TRAINED)
                l->phase_clips++;
            if (slot->disposition != LEDGER_QUARANTINED || slot->reason == 0)
                continue;
            if (quarantine_add(&t->quarantine, slot->clip, slot->reason) < 0)
                return err_sys(e, ENOMEM, "quarantine");
        }
    }
    l->clips += (double)(l->phase_clips - before) / p->streams;
    uint64_t bad = quarantine_count(&t->quarantine), all = clip_set_size(&t->set);
    if ((double)bad > t->conf.limits.max_bad_share * (double)all)
        return err_set(e, XDC_EMEDIA,
                       "%" PRIu64 " of %" PRIu64
                       " clips are quarantined, more than limits.max_bad_share = %g allows: see "
                       "the warnings above for the reasons",
                       bad, all, t->conf.limits.max_bad_share);
    return 0;
}

uint32_t train_compact(const struct trainer *t, struct batch_stream *s, uint32_t n, bool video, bool audio,
                       uint32_t *rows)
{
    uint32_t kept = 0;
    size_t vb = t->batcher.video_bytes, ab = sizeof(float) * MEDIA_AUDIO_FLOATS;
    for (uint32_t row = 0; row < n; row++) {
        if (s->slots[row].disposition != LEDGER_TRAINED)
            continue;
        if (video && kept != row)
            memcpy(s->video + kept * vb, s->video + row * vb, vb);
        if (audio && kept != row)
            memcpy(s->audio + (size_t)kept * MEDIA_AUDIO_FLOATS, s->audio + (size_t)row * MEDIA_AUDIO_FLOATS,
                   ab);
        rows[kept++] = row;
    }
    return kept;
}

bool train_divides(const struct train_loop *l)
{
    const struct conf *c = &l->t->conf;
    return c->method == METHOD_SELAVI && l->method->clusters && c->selavi.relabel_power > 0;
}

const char *train_encoder(const struct train_loop *l, enum net_encoder enc)
{
    return net_encoder_name(l->method->pair, enc);
}

const void *train_rows(const struct train_loop *l, enum net_encoder enc, const struct batch_stream *s)
{
    return net_modality(l->method->pair, enc) == NET_VIDEO ? (const void *)s->video : s->audio;
}

struct plan_stream train_stream(const struct train_loop *l, bool first, bool second, struct draw *draw)
{
    const bool wanted[NET_ENCODERS] = {first, second};
    struct plan_stream s = {.draw = draw};
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        bool video = net_modality(l->method->pair, (enum net_encoder)enc) == NET_VIDEO;
        bool used = wanted[enc] && trainer_wants(l->t, (enum net_encoder)enc);
        s.video |= used && video;
        s.audio |= used && !video;
    }
    return s;
}

uint32_t train_epochs(const struct train_loop *l)
{
    const struct conf *c = &l->t->conf;
    if (train_divides(l))
        return 1;
    bool last = l->state.round + 1 >= c->train.rounds && c->train.last_round_epochs > 0;
    return (uint32_t)(last ? c->train.last_round_epochs : c->train.epochs);
}

/* New heads for an encoder, each a function of (seed, round, encoder, target). */
static int make_heads(struct train_loop *l, enum net_encoder enc, const uint32_t *classes, struct err *e)
{
    const struct conf *c = &l->t->conf;
    uint64_t seeds[TARGETS_MAX];
    bool mlp = c->heads.kind == NET_HEAD_MLP || (c->heads.kind != NET_HEAD_LINEAR && l->method->groups > 0);
    for (uint32_t h = 0; h < l->method->heads[enc]; h++)
        seeds[h] = rng_key((uint64_t)c->run.seed, "head", l->state.round, enc, h);
    return net_reset_heads(l->net, enc, mlp ? NET_HEAD_MLP : NET_HEAD_LINEAR, l->method->heads[enc], classes,
                           seeds, e);
}

/* True when the encoder's heads, kept from the round before, fit the labels of this one. */
static bool heads_fit(const struct train_loop *l, enum net_encoder enc)
{
    uint32_t classes[NET_HEADS_MAX], n = net_heads(l->net, enc, classes);
    return n == l->method->heads[enc] && memcmp(classes, l->targets.classes[enc], n * sizeof *classes) == 0;
}

/* Heads for the round: anew, unless they are kept. */
static int reset_heads(struct train_loop *l, struct err *e)
{
    int rc = 0;
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++) {
        if (l->method->keeps_heads && heads_fit(l, (enum net_encoder)enc))
            continue;
        if (l->method->keeps_heads && l->state.round > 0)
            return err_set(e, XDC_EMISMATCH,
                           "heads.between_rounds: keep, but the labels of round %u have other numbers of "
                           "classes than the heads",
                           l->state.round);
        rc = make_heads(l, (enum net_encoder)enc, l->targets.classes[enc], e);
    }
    return rc;
}

/* Heads that make the first labels are there before them. */
static int make_first_heads(struct train_loop *l, struct err *e)
{
    uint32_t classes[TARGETS_MAX];
    int rc = 0;
    for (unsigned h = 0; h < TARGETS_MAX; h++)
        classes[h] = (uint32_t)l->t->conf.cluster.k;
    for (unsigned enc = 0; rc == 0 && l->method->groups > 0 && enc < NET_ENCODERS; enc++)
        rc = make_heads(l, (enum net_encoder)enc, classes, e);
    return rc;
}

/* Output `j` of an audio head becomes what the clusterer found to go with the video head's: once, before
 * anything is learnt. `alignment`: {"joint-h0": [order], ...}, or NULL. */
static int align_heads(struct train_loop *l, const json_t *alignment, struct err *e)
{
    for (uint32_t h = 0; alignment && h < l->method->heads[NET_AUDIO]; h++) {
        const json_t *list = json_object_get(alignment, l->method->source[NET_AUDIO][h]);
        uint32_t k = l->targets.classes[NET_AUDIO][h];
        uint32_t *order = json_array_size(list) == k ? malloc(k * sizeof *order) : NULL;
        if (!order)
            return err_set(e, XDC_EMISMATCH, "the label table does not say how the outputs of head %u go", h);
        for (uint32_t j = 0; j < k; j++) {
            json_int_t v = json_integer_value(json_array_get(list, j));
            order[j] = v >= 0 && v < (json_int_t)k ? (uint32_t)v : UINT32_MAX;
        }
        int rc = net_permute_head(l->net, NET_AUDIO, h, order, e);
        free(order);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int note_table(struct train_loop *l, struct label_table *table, struct err *e)
{
    json_t *quality = json_loads(label_table_quality(table), 0, NULL);
    struct trainer_shared *s = &l->t->shared;
    json_object_del(quality, "alignment"); /* numbers by the thousand */
    char *text = json_dumps(quality, JSON_COMPACT);
    pthread_mutex_lock(&s->lock);
    json_decref(s->quality);
    s->quality = json_incref(quality);
    pthread_mutex_unlock(&s->lock);
    log_info("round %u: labels adopted: %s", l->state.round, text ? text : "");
    free(text);
    return events_write(&l->events, "labels",
                        json_pack("{s:i, s:f, s:o}", "round", (int)l->state.round, "seconds",
                                  progress_now_s() - l->phase_start_s, "quality",
                                  quality ? quality : json_null()),
                        e);
}

/* Gets the round's labels from the clusterer; *out_new when they are not those of the state (which a resume
 * has). */
static int adopt_table(struct train_loop *l, struct err *e)
{
    struct label_table *table = NULL;
    int rc = labels_in_wait(&l->t->labels, l->state.round, l->state.features, &table, e);
    if (rc < 0)
        return rc;
    if (l->state.labels && l->state.labels != label_table_info(table)->hash) {
        label_table_close(table);
        return err_set(e, XDC_EMISMATCH,
                       "labels of round %u are not those that the checkpoint was trained on", l->state.round);
    }
    if (l->state.labels == 0)
        rc = note_table(l, table, e);
    if (rc < 0) {
        label_table_close(table);
        return rc;
    }
    targets_close(&l->targets);
    rc = train_agree(l, "label table", label_table_info(table)->hash, e);
    if (rc < 0) {
        label_table_close(table);
        return rc;
    }
    rc = targets_adopt(&l->targets, l->method, table, e);
    return rc == 0 ? train_warn_clusters(l, e) : rc;
}

static int align_first(struct train_loop *l, struct err *e)
{
    if (l->method->groups == 0 || l->state.round > 0)
        return 0;
    json_t *quality = json_loads(label_table_quality(l->targets.table), 0, NULL);
    int rc = align_heads(l, json_object_get(quality, "alignment"), e);
    json_decref(quality);
    return rc;
}

static int phase_labels(struct train_loop *l, bool last, struct err *e)
{
    train_show_phase(l, 0, 0);
    int rc = adopt_table(l, e);
    if (rc < 0 || last)
        return rc;
    l->state.labels = l->targets.hash;
    l->state.epoch = 0;
    l->state.batch = 0;
    rc = align_first(l, e);
    return rc == 0 ? reset_heads(l, e) : rc;
}

/* Labels that no clusterer makes. */
static int adopt_given(struct train_loop *l, struct err *e)
{
    const struct trainer *t = l->t;
    if (!t->conf.labels.from[0])
        return targets_truth(&l->targets, l->method, t->manifest, t->set.clips_per_video, e);
    int rc = targets_given(&l->targets, l->method, &t->conf, t->manifest_id,
                           t->set.videos * t->set.clips_per_video, e);
    if (rc == 0 && l->state.labels && l->state.labels != l->targets.hash) {
        targets_close(&l->targets);
        rc = err_set(e, XDC_EMISMATCH,
                     "labels.from: the labels of %s are not those that the checkpoint was trained on",
                     t->conf.labels.from);
    }
    return rc;
}

static int phase_train(struct train_loop *l, struct err *e)
{
    const struct conf *c = &l->t->conf;
    int rc = 0;
    if (!l->targets.method) { /* resumed within the round, or the labels are the manifest's */
        if (l->method->clusters)
            rc = adopt_table(l, e);
        else
            rc = adopt_given(l, e);
    }
    if (rc == 0 && !l->method->clusters && l->state.epoch == 0 && l->state.batch == 0) {
        l->state.labels = l->targets.hash;
        rc = reset_heads(l, e);
    }
    while (rc == 0 && l->state.epoch < train_epochs(l)) {
        rc = train_epoch(l, e);
        bool last =
            l->state.epoch == train_epochs(l) || (!train_learns(l, NET_VIDEO) && !train_learns(l, NET_AUDIO));
        if (rc == 0 && last) { /* the checkpoint below already stands in the next phase */
            l->state.round++;
            l->state.epoch = 0;
            l->state.labels = l->state.features = 0;
            memset(l->state.early, 0, sizeof l->state.early);
            l->state.phase =
                phase_next(PHASE_TRAIN, true, l->method->clusters, l->state.round >= c->train.rounds);
            return train_checkpoint(l, e);
        }
        if (rc == 0)
            rc = train_checkpoint(l, e);
    }
    return rc;
}

static int step_phase(struct train_loop *l, struct err *e)
{
    bool last = l->state.round >= l->t->conf.train.rounds;
    enum phase next = phase_next(l->state.phase, l->t->conf.train.rounds > 0, l->method->clusters, last);
    int rc = 0;
    switch (l->state.phase) {
    case PHASE_STATS:
        rc = train_measure_stats(l, e);
        break;
    case PHASE_WARM:
        rc = train_measure_warm(l, e);
        break;
    case PHASE_EXTRACT:
        rc = train_extract(l, e);
        if (rc == 0)
            rc = train_probe(l, e);
        break;
    case PHASE_LABELS:
        rc = phase_labels(l, last, e);
        break;
    case PHASE_TRAIN:
        return phase_train(l, e);
    case PHASE_EXPORT: /* reads the newest checkpoint */
        rc = train_checkpoint_wait(l, e);
        if (rc == 0 && l->t->meet.rank == 0)
            rc = train_export(l, e);
        break;
    case PHASE_VALIDATE:
    case PHASE_DONE:
        break;
    }
    if (rc < 0)
        return rc;
    bool warmed = l->state.phase == PHASE_WARM;
    l->state.phase = next;
    return warmed ? train_checkpoint(l, e) : 0;
}

static void on_refused(void *arg, const char *why)
{
    ++*(unsigned *)arg;
    log_warn("a checkpoint is refused: %s", why);
}

/* What a phase computes for a clip with both encoders: a forward pass, or that and a backward one of twice
 * its cost where encoders learn. 0 where nothing enters them. */
static double flop_per_clip(const struct train_loop *l, enum phase phase)
{
    bool learns = phase == PHASE_TRAIN && l->t->conf.train.update != UPDATE_FC;
    if (phase != PHASE_WARM && phase != PHASE_EXTRACT && phase != PHASE_TRAIN)
        return 0;
    return (learns ? 3 : 1) * (l->flop[NET_VIDEO] + l->flop[NET_AUDIO]);
}

/* Goes through a phase and records what it took, also when it is stopped or rolled back on the way. */
static int go_through_phase(struct train_loop *l, struct err *e)
{
    enum phase phase = l->state.phase;
    const char *name = phase_name(phase);
    uint32_t round = l->state.round;
    double start = progress_now_s(), clips = l->clips;
    int rc = step_phase(l, e);
    if (rc < 0 && rc != XDC_ESTOPPED && rc != XDC_EUNSTABLE)
        return rc;
    double seconds = progress_now_s() - start;
    clips = l->clips - clips;
    json_t *fields = json_pack("{s:s, s:i, s:b, s:f, s:f}", "name", name, "round", (int)round, "ended",
                               rc == 0, "seconds", seconds, "clips", clips);
    if (fields && clips > 0) {
        json_object_set_new(fields, "clips_per_s", json_real(clips / seconds));
        json_object_set_new(fields, "flop", json_real(clips * flop_per_clip(l, phase)));
    }
    struct err written;
    if (events_write(&l->events, "phase", fields, &written) < 0) {
        *e = written;
        return e->code;
    }
    return rc;
}

/* The encoders that start from a file's weights. */
static int init_encoders(struct train_loop *l, struct err *e)
{
    const struct conf *c = &l->t->conf;
    const char *const files[NET_ENCODERS] = {c->net.init_video, c->net.init_audio}; /* of what they see */
    int rc = 0;
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        if (*files[net_modality(l->method->pair, (enum net_encoder)enc)])
            rc = net_init(l->net, (enum net_encoder)enc,
                          files[net_modality(l->method->pair, (enum net_encoder)enc)], e);
    return rc;
}

static int ledger_dir(const struct train_loop *l, uint32_t rank, char dir[PATH_MAX], struct err *e)
{
    return fs_path(dir, e, "%s/ledger/rank-%u", l->t->conf.run.dir, rank);
}

/* The marks of another number of ranks fit where an epoch begins: its files are empty then. */
static int change_ranks(struct train_loop *l, struct err *e)
{
    struct train_state *s = &l->state;
    uint32_t world = l->t->meet.world, epoch = s->ledgers[0].epoch;
    if (s->batch > 0)
        return err_set(e, XDC_ECONF,
                       "the newest checkpoint is of the middle of an epoch that %u ranks train: go on with "
                       "run.ranks: %u until the epoch has ended",
                       s->ranks, s->ranks);
    for (uint32_t r = s->ranks; r < world; r++)
        s->ledgers[r] = (struct ledger_mark){.epoch = epoch};
    int rc = 0;
    for (uint32_t r = world; rc == 0 && l->t->meet.rank == 0 && r < s->ranks; r++) {
        char dir[PATH_MAX];
        struct ledger *others = NULL;
        rc = ledger_dir(l, r, dir, e);
        if (rc == 0) /* cuts it back to the mark */
            rc = ledger_open(dir, &s->ledgers[r], &others, e);
        ledger_close(others);
    }
    s->ranks = world;
    return rc;
}

int train_open_ledger(struct train_loop *l, struct err *e)
{
    char dir[PATH_MAX];
    uint32_t rank = l->t->meet.rank;
    int rc = l->state.ranks != 0 && l->state.ranks != l->t->meet.world ? change_ranks(l, e) : 0;
    if (rc == 0)
        rc = ledger_dir(l, rank, dir, e);
    return rc == 0 ? ledger_open(dir, &l->state.ledgers[rank], &l->ledger, e) : rc;
}

/* Restores the newest checkpoint; without one the state is that of a new run. */
static int resume(struct train_loop *l, struct err *e)
{
    struct trainer *t = l->t;
    unsigned refused = 0;
    int rc = checkpoint_restore(t->conf.run.dir, t->run, &l->state, l->net, &t->quarantine, on_refused,
                                &refused, e);
    if (rc == -ENOENT) {
        if (refused)
            log_warn("no checkpoint is whole: the run begins anew");
        l->state = (struct train_state){.phase = PHASE_STATS};
        rc = init_encoders(l, e);
        if (rc == 0)
            rc = make_first_heads(l, e);
    } else if (rc == 0) {
        bool given = !l->method->clusters && l->state.round < t->conf.train.rounds;
        if (given && (l->state.phase == PHASE_EXPORT || l->state.phase == PHASE_EXTRACT))
            l->state.phase = PHASE_TRAIN; /* continued with more rounds */
        log_info("resumed at step %" PRIu64 ": %s, round %u, epoch %u", l->state.step,
                 phase_name(l->state.phase), l->state.round, l->state.epoch);
    }
    return rc == 0 ? train_open_ledger(l, e) : rc;
}

/* The encoder that the run is not of is there, as small as one can be. */
static void leave_out(const struct conf *c, struct net_spec *spec)
{
    if (c->net.encoders == ENCODERS_VIDEO) {
        spec->audio_stem = NET_STEM_TORCHVISION;
        spec->audio_depth = 10;
        spec->audio_width = 4;
    } else if (c->net.encoders == ENCODERS_AUDIO) {
        spec->video = NET_R2PLUS1D;
        spec->video_depth = 10;
        spec->video_width = 4;
        spec->frames = 1;
        spec->crop = 16;
    }
}

static int open_net(struct train_loop *l, struct err *e)
{
    const struct conf *c = &l->t->conf;
    struct net_spec spec = {.pair = l->method->pair,
                            .video = (enum net_video)c->net.video,
                            .flavour = (enum net_flavour)c->net.flavour,
                            .video_depth = (uint32_t)c->net.video_depth,
                            .video_width = (uint32_t)c->net.video_width,
                            .audio_stem = (enum net_stem)c->net.audio_stem,
                            .audio_depth = (uint32_t)c->net.audio_depth,
                            .audio_width = (uint32_t)c->net.audio_width,
                            .frames = (uint32_t)c->video.frames,
                            .crop = (uint32_t)c->video.crop,
                            .seed = (uint64_t)c->run.seed,
                            .threads = (int)c->train.threads,
                            .device = (enum net_device)c->train.device,
                            .gpu = l->t->meet.local,
                            .amp = (enum net_amp)c->train.amp,
                            .pad_channels = (enum net_switch)c->train.pad_channels,
                            .self_test = (enum net_switch)c->train.self_test,
                            .maps = c->features.kind == FEATURES_MAPS};
    leave_out(c, &spec);
    int rc = c->train.rounds > 0 ? memory_check(c, &spec, e) : 0; /* of a step */
    if (rc == 0)
        rc = net_create(&spec, &l->net, e);
    if (rc == 0)
        rc = net_set_ema(l->net, c->train.ema, e);
    for (unsigned enc = 0; rc == 0 && enc < NET_ENCODERS; enc++)
        rc = net_flop_per_clip(l->net, (enum net_encoder)enc, &l->flop[enc], e);
    return rc;
}

int train_loop_run(struct trainer *t, struct err *e)
{
    struct train_loop *l = calloc(1, sizeof *l);
    if (!l)
        return err_sys(e, ENOMEM, "training loop");
    l->t = t;
    l->method = &t->method;
    l->events.fd = -1;
    train_checkpoint_init(l);
    int rc = open_net(l, e);
    if (rc == 0)
        rc = train_meet(l, e);
    if (rc == 0)
        rc = train_unstable_open(l, e);
    if (rc == 0)
        rc = resume(l, e);
    if (rc == 0)
        rc = train_agree_on_state(l, e);
    if (rc == 0 && t->meet.rank == 0) /* one record of a run is enough */
        rc = events_open(&l->events, t->conf.run.dir, t->conf.train.tensorboard != 0, &l->state.step,
                         l->state.phase != PHASE_STATS, e);
    while (rc == 0 && l->state.phase != PHASE_DONE) {
        rc = atomic_load(&t->stop) ? err_set(e, XDC_ESTOPPED, "stopped") : go_through_phase(l, e);
        if (rc == XDC_EUNSTABLE)
            rc = train_roll_back(l, e);
    }
    rc = train_name_lost(l, rc, e);
    struct err unwritten;
    if (train_checkpoint_wait(l, &unwritten) < 0) {
        if (rc < 0 && rc != XDC_ESTOPPED)
            log_warn("%s", unwritten.msg);
        else
            rc = err_set(e, unwritten.code, "%s", unwritten.msg);
    }
    if (rc == 0)
        rc = events_write(&l->events, "finished", json_pack("{s:i}", "rounds", (int)l->state.round), e);
    if (rc == 0)
        train_show_phase(l, 1, 1);
    if (rc == 0 || (rc == XDC_ESTOPPED && l->parting)) {
        struct err e_leave;
        if (train_leave(l, &e_leave) < 0)
            log_warn("%s", e_leave.msg);
    }
    unstable_close(&l->unstable);
    targets_close(&l->targets);
    ledger_close(l->ledger);
    events_close(&l->events);
    net_destroy(l->net);
    free(l);
    return rc;
}
