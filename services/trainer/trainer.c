#include "services/trainer/trainer.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/progress.h"
#include "services/trainer/run_record.h"
#include "services/trainer/run_set.h"
#include "services/trainer/targets.h"
#include "services/trainer/train_loop.h"

#define TICK_MS 250
#define LOST_GRACE_S 2.0
#define RECORD_POLL_US 50000

static void on_wake_up(void *arg)
{
    struct trainer *t = arg;
    uv_async_send(&t->wake);
}

static void on_clips_message(void *arg, const struct wire_peer *from, const Xdc__Envelope *env,
                             const struct wire_frame *raw, size_t n_raw)
{
    struct trainer *t = arg;
    if (env->body_case == XDC__ENVELOPE__BODY_SAMPLE)
        samples_in_message(t, env, raw, n_raw);
    else
        leases_out_message(&t->leases, from, env);
}

/* The loop's part of stopping: whatever the training thread waits for is woken. */
static void pump(struct trainer *t)
{
    if (t->closing)
        return;
    if (atomic_load(&t->finished)) {
        t->closing = true;
        uv_stop(&t->loop);
        return;
    }
    if (atomic_load(&t->stop) || atomic_load(&t->lost)) {
        batcher_stop(&t->batcher);
        labels_in_stop(&t->labels);
        return;
    }
    leases_out_pump(&t->leases);
    labels_in_pump(&t->labels);
    features_out_pump(&t->features);
}

/* What waits for the rank that has gone may wait for ever: then this process ends as it is. Nothing is lost
 * but what would be trained again anyway. */
static void end_if_stuck(struct trainer *t)
{
    double now = progress_now_s();
    if (!atomic_load(&t->lost) || atomic_load(&t->finished))
        return;
    if (t->lost_s == 0)
        t->lost_s = now;
    if (now - t->lost_s < LOST_GRACE_S)
        return;
    log_error("ends at once: an exchange with the rank that has gone does not return");
    _exit(err_exit_status(atomic_load(&t->stop) ? XDC_ESTOPPED : XDC_ELOST));
}

static void on_wake(uv_async_t *a)
{
    pump(a->data);
}

static void on_tick(uv_timer_t *timer)
{
    struct trainer *t = timer->data;
    leases_out_tick(&t->leases);
    end_if_stuck(t);
    pump(t);
}

void trainer_stop(void *trainer)
{
    struct trainer *t = trainer;
    atomic_store(&t->stop, true);
    uv_async_send(&t->wake);
}

void trainer_rank_lost(struct trainer *t)
{
    atomic_store(&t->lost, true);
    uv_async_send(&t->wake);
}

void trainer_checkpoint(void *trainer)
{
    struct trainer *t = trainer;
    atomic_store(&t->checkpoint, true);
}

static void *thread_main(void *arg)
{
    struct trainer *t = arg;
    t->result = train_loop_run(t, &t->err);
    atomic_store(&t->finished, true);
    uv_async_send(&t->wake);
    return NULL;
}

/* The recipe of a clip: evaluation (centre crop, nothing random) or training. How far crops lie from the
 * middle stands in both, so that decoders keep one clip for both. How far sound is moved does not: where its
 * decoding begins shows in codecs' noise, and features are to be those that any program makes of the encoder.
 */
static struct media_recipe make_recipe(const struct conf *c, bool augment)
{
    int64_t resize_max = augment && c->augment.resize_max ? c->augment.resize_max : c->video.resize;
    return (struct media_recipe){.frames = (uint32_t)c->video.frames,
                                 .fps = c->video.fps,
                                 .resize_min = (uint32_t)c->video.resize,
                                 .resize_max = (uint32_t)resize_max,
                                 .crop = (uint32_t)c->video.crop,
                                 .crop_jitter_px = (int32_t)c->augment.crop_jitter_px,
                                 .flip_probability = augment ? c->augment.flip : 0,
                                 .audio_shift_s = augment ? c->augment.audio_shift_s : 0,
                                 .time_mask_frames = augment ? (uint32_t)c->augment.time_mask_frames : 0,
                                 .augment = augment,
                                 .scaling = (uint32_t)c->video.scaling,
                                 .degrade = (uint32_t)c->video.degrade,
                                 .frontend = (uint32_t)c->audio.frontend,
                                 .short_clip = (uint32_t)c->data.short_clip,
                                 .min_sound_s = c->data.min_sound_s,
                                 .keep_silent = c->data.no_audio == NO_AUDIO_KEEP};
}

/* The clips of the run. */
static int fill_set(struct trainer *t, struct err *e)
{
    int rc = clip_set_init(&t->set, manifest_count(t->manifest), (uint32_t)t->conf.data.clips_per_video, e);
    if (rc == 0)
        rc = run_set_fill(&t->set, t->manifest, (enum conf_split)t->conf.data.split, e);
    unsigned long long all = t->set.members;
    if (rc == 0)
        rc = run_set_subset(&t->set, &t->conf, e);
    if (rc < 0)
        return err_wrap(e, "%s", t->conf.data.manifest);
    if (t->conf.data.subset.n)
        log_info("%llu of %llu videos are used, by data.subset", (unsigned long long)t->set.members, all);
    if (clip_set_size(&t->set) < t->meet.world)
        return err_set(e, XDC_ECONF, "%s has %llu clips for the run, fewer than run.ranks = %u",
                       t->conf.data.manifest, (unsigned long long)clip_set_size(&t->set), t->meet.world);
    return 0;
}

bool trainer_held_out(const struct trainer *t, uint64_t clip)
{
    return clip_set_has(&t->held, clip / t->set.clips_per_video);
}

/* The videos of the set that are held out. */
static int fill_held(struct trainer *t, struct err *e)
{
    const struct conf *c = &t->conf;
    int rc = run_set_held(&t->set, c, &t->held, e);
    if (rc < 0)
        return rc;
    unsigned long long held = clip_set_size(&t->held), all = clip_set_size(&t->set);
    if (held == all)
        return err_set(e, XDC_ECONF, "all %llu clips are held out: nothing to train on; set train.holdout: 0",
                       all);
    if (held == 0 && c->train.early_stop > 0)
        return err_set(
            e, XDC_ECONF,
            "train.early_stop: none of the %llu clips of %s are held out to stop by: train.holdout "
            "is %g, train.holdout_min_clips %lld",
            all, c->data.manifest, c->train.holdout, (long long)c->train.holdout_min_clips);
    if (held)
        log_info("%llu of %llu clips are held out: nothing is trained or clustered on them", held, all);
    return 0;
}

bool trainer_wants(const struct trainer *t, enum net_encoder enc)
{
    int64_t of = t->conf.net.encoders;
    return of == ENCODERS_BOTH || (of == ENCODERS_VIDEO) == (enc == NET_VIDEO);
}

/* The videos that the doctor found at fault, as far as the method needs what is wrong with them. */
static int take_faulty_videos(struct trainer *t, bool fresh, struct err *e)
{
    struct quarantine_needs needs = {.video = t->method.pair != NET_PAIR_AUDIO && trainer_wants(t, NET_VIDEO),
                                     .audio = t->method.pair != NET_PAIR_VIDEO && trainer_wants(t, NET_AUDIO),
                                     .keep_silent = t->conf.data.no_audio == NO_AUDIO_KEEP};
    return quarantine_take_videos(&t->quarantine, t->conf.run.dir, t->conf.data.manifest, t->manifest_id,
                                  fresh, &needs, (uint32_t)t->conf.data.clips_per_video, e);
}

static int count_faulty_videos(struct trainer *t, struct err *e)
{
    const struct quarantine *q = &t->quarantine;
    uint64_t members = clip_set_size(&t->set) / t->set.clips_per_video;
    for (size_t i = 0; i < q->n_videos; i++)
        t->faulty_videos += q->videos[i].video < t->set.videos && clip_set_has(&t->set, q->videos[i].video);
    if (t->faulty_videos == members)
        return err_set(e, XDC_ECONF,
                       "the doctor found every video of %s at fault: nothing to train on; see `xdc doctor`",
                       t->conf.data.manifest);
    if (t->faulty_videos)
        log_info("%llu of %llu videos are left out: the doctor found them at fault before the run began",
                 (unsigned long long)t->faulty_videos, (unsigned long long)members);
    return 0;
}

/* Rank 0 alone begins a run. */
static void wait_for_record(const struct trainer *t, const char *record)
{
    double said_s = progress_now_s();
    while (access(record, F_OK) < 0) {
        if (progress_now_s() - said_s > 5) {
            said_s = progress_now_s();
            log_info("rank %u of %u: waiting for rank 0 to write %s", t->meet.rank, t->meet.world, record);
        }
        usleep(RECORD_POLL_US);
    }
}

static int open_run(struct trainer *t, struct err *e)
{
    char path[PATH_MAX], record[PATH_MAX];
    pid_t owner;
    int rc = fs_mkdirs(t->conf.run.dir, e);
    if (rc == 0)
        rc = fs_path(path, e, "%s/trainer-%u.lock", t->conf.run.dir, t->meet.rank);
    if (rc == 0)
        rc = fs_lock(path, &t->lock_fd, &owner, e);
    if (rc == XDC_ELOCKED)
        return err_set(e, rc, "a trainer (pid %d) already runs in %s", (int)owner, t->conf.run.dir);
    if (rc == 0)
        rc = manifest_open(t->conf.data.manifest, &t->manifest, e);
    if (rc < 0)
        return rc;
    t->manifest_id = manifest_identity(t->manifest);
    t->run = conf_identity(&t->conf, t->manifest_id);
    if (t->meet.port == 0)
        t->meet.port = rendezvous_port(t->run);
    rc = fs_path(record, e, "%s/run.json", t->conf.run.dir);
    if (rc == 0 && t->meet.rank > 0)
        wait_for_record(t, record);
    bool fresh = rc == 0 && access(record, F_OK) < 0;
    if (rc == 0 && fresh)
        rc = take_faulty_videos(t, true, e);
    if (rc == 0)
        rc = run_record_check(&t->conf, t->run, t->manifest_id, e);
    if (rc == 0 && !fresh)
        rc = take_faulty_videos(t, false, e);
    if (rc == 0)
        rc = fill_set(t, e);
    if (rc == 0)
        rc = fill_held(t, e);
    return rc == 0 ? count_faulty_videos(t, e) : rc;
}

static int open_sockets(struct trainer *t, struct err *e)
{
    char endpoint[CONF_STRING_MAX], path[PATH_MAX], name[32];
    struct wire_options o = {.kind = WIRE_ROUTER,
                             .raw_frame_max = t->batcher.video_bytes + sizeof(float) * MEDIA_AUDIO_FLOATS,
                             .on_message = on_clips_message,
                             .arg = t};
    int rc = wire_context_create(&t->wires, e);
    if (rc == 0)
        rc = daemon_endpoint(&t->conf, "clips", (int)t->meet.rank, endpoint, e);
    if (rc == 0)
        rc = wire_open(t->wires, &t->loop, &o, &t->clips, e);
    if (rc == 0)
        rc = wire_bind(t->clips, endpoint, e);
    if (rc == 0)
        rc = features_out_open(&t->features, t, e);
    if (rc == 0)
        rc = labels_in_open(&t->labels, t, e);
    snprintf(name, sizeof name, "trainer-%u", t->meet.rank);
    if (rc == 0)
        rc = daemon_status_path(&t->conf, name, path, sizeof path, e);
    struct status_calls calls = {"trainer", trainer_status, trainer_unhealthy, t};
    if (rc == 0)
        rc = status_start(&t->loop, path, &calls, &t->status, e);
    return rc;
}

static int open_batcher(struct trainer *t, struct err *e)
{
    t->recipe_eval = make_recipe(&t->conf, false);
    t->recipe_train = make_recipe(&t->conf, true);
    size_t crop = (size_t)t->conf.video.crop;
    return batcher_init(&t->batcher, (uint32_t)t->conf.train.batch / t->meet.world,
                        (size_t)t->conf.video.frames * crop * crop * 3, on_wake_up, t, e);
}

int trainer_open(struct trainer *t, const struct conf *c, const struct rendezvous *meet, struct err *e)
{
    *t = (struct trainer){.conf = *c, .meet = *meet, .lock_fd = -1};
    targets_method(c, &t->method);
    /* One malloc arena: the training thread's own would give its large blocks back and fault them in again
     * every step. */
    mallopt(M_ARENA_MAX, 1);
    pthread_mutex_init(&t->shared.lock, NULL);
    quarantine_init(&t->quarantine);
    leases_out_init(&t->leases, t);
    if (getrandom(&t->incarnation, sizeof t->incarnation, 0) != sizeof t->incarnation)
        t->incarnation = (uint64_t)getpid();
    int rc = uv_loop_init(&t->loop);
    if (rc < 0)
        return err_set(e, rc, "event loop: %s", uv_strerror(rc));
    uv_async_init(&t->loop, &t->wake, on_wake);
    uv_timer_init(&t->loop, &t->tick);
    t->wake.data = t->tick.data = t;
    rc = open_run(t, e);
    if (rc == 0)
        rc = open_batcher(t, e);
    if (rc == 0)
        rc = open_sockets(t, e);
    if (rc == 0)
        uv_timer_start(&t->tick, on_tick, TICK_MS, TICK_MS);
    if (rc == 0 && pthread_create(&t->thread, NULL, thread_main, t) != 0)
        rc = err_sys(e, EAGAIN, "start the training thread");
    if (rc < 0)
        trainer_close(t);
    return rc;
}

int trainer_run(struct trainer *t, struct err *e)
{
    uv_run(&t->loop, UV_RUN_DEFAULT);
    pthread_join(t->thread, NULL);
    if (t->result == 0) {
        leases_out_finish(&t->leases);
        features_out_finish(&t->features);
    }
    *e = t->err;
    return t->result;
}

void trainer_close(struct trainer *t)
{
    status_stop(t->status);
    if (t->labels.trainer)
        labels_in_close(&t->labels);
    if (t->features.trainer)
        features_out_close(&t->features);
    wire_close(t->clips);
    uv_close((uv_handle_t *)&t->wake, NULL);
    uv_close((uv_handle_t *)&t->tick, NULL);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&t->loop) != 0)
        log_warn("the event loop still has handles");
    wire_context_destroy(t->wires);
    if (t->batcher.wake)
        batcher_close(&t->batcher);
    clip_set_close(&t->set);
    clip_set_close(&t->held);
    quarantine_close(&t->quarantine);
    manifest_close(t->manifest);
    json_decref(t->shared.quality);
    json_decref(t->shared.warnings);
    pthread_mutex_destroy(&t->shared.lock);
    if (t->lock_fd >= 0)
        close(t->lock_fd);
}
