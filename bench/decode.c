/* decode: our decoder on a list of clips, in this process: CPU milliseconds a clip. bench/decode.py runs it
 * in turns with its peers. Usage: bench_decode fast|exact|fast+audio|child|floor LIST; a line of LIST is a
 * path and a start in seconds; clips are 8 frames of 112x112 unless it is said otherwise. `child` is `fast`
 * in a sandboxed worker. `floor` is what libavcodec and the scaler alone take for the same frames: the
 * packets lie in memory, codec and scaler are warm. */
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <libavutil/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/media/child.h"
#include "lib/media/session.h"
#include "lib/media/stream_decoder.h"
#include "lib/media/video_decode.h"

enum { CLIPS_MAX = 4096, WARM = 3 };

struct clip {
    char path[1024];
    double start_s;
};

static struct clip clips[CLIPS_MAX];
static int n_clips;
static uint8_t slot[64 << 20];
static uint32_t frames = 8, side = 128, crop = 112;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_decode: %s: %s\n", what, why);
    exit(70);
}

static double cpu_s(pid_t pid)
{
    struct timespec t = {0};
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    if (pid)
        clock_getcpuclockid(pid, &clock);
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_list(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        die(path, "cannot be read");
    while (n_clips < CLIPS_MAX && fscanf(f, "%1023s %lf", clips[n_clips].path, &clips[n_clips].start_s) == 2)
        n_clips++;
    fclose(f);
}

static struct media_job job_of(const struct clip *c, uint32_t scaling, bool audio)
{
    return (struct media_job){.kind = MEDIA_JOB_DECODE,
                              .video_stream = -1,
                              .audio_stream = -1,
                              .clips = 1,
                              .clip = {{.start_s = c->start_s, .key_pos = -1}},
                              .recipe = {.frames = frames,
                                         .fps = 30,
                                         .resize_min = side,
                                         .resize_max = side,
                                         .crop = crop,
                                         .want_video = true,
                                         .want_audio = audio,
                                         .min_sound_s = 1.1,
                                         .scaling = scaling}};
}

static bool on_result(void *arg, const struct media_result *r)
{
    (void)arg;
    if (r->reason)
        die(media_code_name(r->reason), r->detail);
    return true;
}

static int open_clip(const struct clip *c)
{
    int fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(c->path, "cannot be opened");
    return fd;
}

static double run_session(uint32_t scaling, bool audio)
{
    struct media_session *s = NULL;
    struct err e = {0};
    double begin = 0;
    if (media_session_create(&s, &e))
        die("session", e.msg);
    for (int i = -WARM; i < n_clips; i++) {
        const struct clip *c = &clips[i < 0 ? 0 : i];
        struct media_job job = job_of(c, scaling, audio);
        begin = i == 0 ? cpu_s(0) : begin;
        int fd = open_clip(c);
        media_session_run(s, &job, fd, slot, sizeof slot, on_result, NULL);
        close(fd);
    }
    double took = cpu_s(0) - begin;
    media_session_destroy(s);
    return took;
}

static double run_child(void)
{
    struct media_child child = {0};
    struct media_result result;
    struct err e = {0};
    double begin = 0;
    for (int i = -WARM; i < n_clips; i++) {
        const struct clip *c = &clips[i < 0 ? 0 : i];
        struct media_job job = job_of(c, MEDIA_SCALING_FAST, false);
        if (i == 0)
            begin = cpu_s(0) + cpu_s(child.pid);
        int fd = open_clip(c);
        if (media_child_run(&child, &job, fd, &result, &e))
            die("child", e.msg);
        on_result(NULL, &result);
        close(fd);
    }
    double took = cpu_s(0) + cpu_s(child.pid) - begin;
    media_child_stop(&child);
    return took;
}

/* The packets that must be decoded for a clip, and whose frames are wanted. */
struct minimal {
    AVPacket *packets[4096];
    bool wanted[4096];
    int n, missing;
};

static void choose(struct minimal *m, struct input *in, struct video_plan *p, const struct clip *c,
                   struct err *e)
{
    enum plan_result made = PLAN_EARLIER;
    if (input_seek(in, in->video, c->start_s + in->origin_s, e) == 0)
        made = video_plan_read(p, in, c->start_s, c->start_s + (frames - 1) / 30.0, 0, false);
    if (made == PLAN_EARLIER && input_rewind(in, in->video, e) == 0)
        made = video_plan_read(p, in, c->start_s, c->start_s + (frames - 1) / 30.0, 0, true);
    if (made != PLAN_MADE)
        die(c->path, "has no plan");
    for (uint32_t i = 0; i < frames; i++)
        video_plan_want(p, video_plan_at(p, c->start_s + i / 30.0));
    for (size_t i = 0; i <= p->last; i++) {
        m->packets[m->n] = av_packet_clone(p->packets[i].pkt);
        m->missing += p->packets[i].wanted;
        m->wanted[m->n++] = p->packets[i].wanted;
    }
}

static void take(struct stream_decoder *d, struct picture *pic, AVFrame *frame, struct minimal *m,
                 struct err *e)
{
    while (m->missing && stream_decoder_receive(d, frame) == 1) {
        for (int i = 0; i < m->n; i++) {
            if (!m->wanted[i] || m->packets[i]->pts != frame->pts)
                continue;
            if (picture_make(pic, frame, slot, e))
                die("scale", e->msg);
            m->missing--;
        }
    }
}

static double run_floor(void)
{
    static struct codec_cache cache;
    struct picture pic = {0};
    struct augment a = {.short_side = side};
    struct video_plan plan = {0};
    AVFrame *frame = av_frame_alloc();
    double took = 0;
    for (int k = -WARM; k < n_clips; k++) {
        const struct clip *c = &clips[k < 0 ? 0 : k];
        struct media_job job = job_of(c, MEDIA_SCALING_FAST, false);
        struct minimal m = {0};
        struct stream_decoder d;
        struct input in;
        struct err e = {0};
        int fd = open_clip(c);
        if (input_open(&in, fd, &(struct media_window){0}, -1, -1, INPUT_LOOK_LITTLE, &e) ||
            input_find_origin(&in, &e))
            die(c->path, e.msg);
        in.codecs = &cache;
        choose(&m, &in, &plan, c, &e);
        if (stream_decoder_open(&d, &in, in.video, &e))
            die(c->path, e.msg);
        stream_decoder_flush(&d);
        picture_begin(&pic, &job.recipe, &a, (AVRational){0, 1}, 0);
        double begin = cpu_s(0);
        for (int i = 0; i < m.n && m.missing; i++) {
            d.codec->skip_frame = m.wanted[i] ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
            if (stream_decoder_send(&d, m.packets[i]))
                die(c->path, "does not decode");
            take(&d, &pic, frame, &m, &e);
        }
        if (m.missing && stream_decoder_send(&d, NULL) == 0)
            take(&d, &pic, frame, &m, &e);
        took += k < 0 ? 0 : cpu_s(0) - begin;
        if (m.missing)
            die(c->path, "gave too few frames");
        for (int i = 0; i < m.n; i++)
            av_packet_free(&m.packets[i]);
        stream_decoder_close(&d);
        input_close(&in);
        close(fd);
    }
    av_frame_free(&frame);
    video_plan_close(&plan);
    picture_close(&pic);
    codec_cache_close(&cache);
    return took;
}

int main(int argc, char **argv)
{
    double s;
    if (argc != 3 && argc != 6) {
        fputs("usage: bench_decode fast|exact|fast+audio|child|floor LIST [FRAMES SIDE CROP]\n", stderr);
        return 64;
    }
    if (argc == 6) {
        frames = (uint32_t)atoi(argv[3]);
        side = (uint32_t)atoi(argv[4]);
        crop = (uint32_t)atoi(argv[5]);
    }
    av_log_set_level(AV_LOG_QUIET);
    read_list(argv[2]);
    if (!strcmp(argv[1], "floor"))
        s = run_floor();
    else if (!strcmp(argv[1], "child"))
        s = run_child();
    else
        s = run_session(strcmp(argv[1], "exact") ? MEDIA_SCALING_FAST : MEDIA_SCALING_EXACT,
                        !strcmp(argv[1], "fast+audio"));
    printf("{\"clips\": %d, \"ms\": %.4f}\n", n_clips, s / n_clips * 1e3);
    return 0;
}
