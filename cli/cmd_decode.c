/* xdc decode: clips of one file, exactly as a run would decode it for evaluation, as NumPy arrays. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_options.h"
#include "lib/media/degrade.h"
#include "lib/media/child.h"
#include "lib/tensor.h"

static const char help[] =
    "examples:\n"
    "  xdc decode film.mp4 --start 3.5 --frames 8 --size 112 --resize 128 --fps 30 --video-out v.npy "
    "--audio-out a.npy\n"
    "  xdc decode film.mp4 --frames 16 --size 64 --video-out v.npy         the stream's own frames from its "
    "start\n"
    "  xdc decode film.mp4 --start 1 --start 2.5 --size 112 --resize 128 --fps 30 --video-out v.npy    two "
    "clips in one pass\n"
    "  xdc decode song.mp3 --start 10 --audio-out a.npy                    the log-mel spectrogram alone\n"
    "\n"
    "usage: xdc decode FILE [options]\n"
    "  FILE              a file, or a member of an archive as manifests name it: "
    "shard.tar#000000001536/cat.mp4\n"
    "  --start S         seconds from the first frame (default 0); up to 16 times: the arrays gain a first "
    "axis\n"
    "  --frames T        frames of the clip (default 8)\n"
    "  --size P          side of the centre crop in pixels (default 112)\n"
    "  --resize R        short side after scaling (default: --size)\n"
    "  --fps F           frames per second; 0: the stream's own frames (default 0)\n"
    "  --degrade F       pictures of F times fewer pixels a side, scaled up again (default 1: as they are)\n"
    "  --scaling MODE    fast (default): only the crop is scaled; exact: bit for bit FFmpeg's scaler, then "
    "the crop\n"
    "  --frontend NAME   logmel (default) or vmz\n"
    "  --short POLICY    where a stream ends before the clip: pad (default), loop or drop\n"
    "  --keep-silent     silence where there is no sound, instead of a reason\n"
    "  --video-out FILE  u8 [T, P, P, 3], RGB\n"
    "  --audio-out FILE  f32 [40, 100], natural log of the mel power + 1e-6\n"
    "  --json            print what was decoded as one JSON object\n"
    "\n"
    "A stream that the file does not have is a warning: its array is not written. Exits 0, 64 for wrong "
    "arguments, 65 with\n"
    "the reason when the file cannot be decoded.\n";

static const struct media_child_limits limits = {.cpu_s = 30, .memory_mib = 1024};

struct decode_options {
    const char *file, *video_out, *audio_out;
    double start_s[MEDIA_CLIPS_MAX], fps;
    uint32_t starts;
    uint64_t frames, size, resize, degrade;
    int scaling, frontend, short_clip;
    bool keep_silent, json;
};

/* -1 to go on, else the exit status. */
static int check_options(struct decode_options *o, int argc, char **argv)
{
    if (optind != argc - 1 || (!o->video_out && !o->audio_out))
        return cli_usage("decode", "needs one FILE and --video-out or --audio-out");
    o->file = argv[optind];
    o->starts = o->starts ? o->starts : 1;
    if (!o->resize)
        o->resize = o->size;
    if (o->resize < o->size)
        return cli_usage("decode", "--resize %d is smaller than --size %d", (int)o->resize, (int)o->size);
    return -1;
}

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct decode_options *o)
{
    *o = (struct decode_options){.frames = 8, .size = 112, .degrade = 1};
    const struct cli_option options[] = {
        {"start", .reals = o->start_s, .n_reals = &o->starts, .most = MEDIA_CLIPS_MAX, .max = 1e9},
        {"frames", .count = &o->frames, .lo = 1, .hi = 1024},
        {"size", .count = &o->size, .lo = 1, .hi = 2048},
        {"resize", .count = &o->resize, .lo = 1, .hi = 4096},
        {"fps", .real = &o->fps, .max = 1000},
        {"degrade", .count = &o->degrade, .lo = 1, .hi = DEGRADE_MAX},
        {"scaling", .word = &o->scaling, .words = "fast|exact"},
        {"frontend", .word = &o->frontend, .words = "logmel|vmz"},
        {"short", .word = &o->short_clip, .words = "pad|loop|drop"},
        {"video-out", .text = &o->video_out},
        {"audio-out", .text = &o->audio_out},
        {"keep-silent", .on = &o->keep_silent},
        {"json", .on = &o->json},
        {0}};
    int status = cli_options("decode", help, options, argc, argv);
    if (status >= 0)
        return status;
    return check_options(o, argc, argv);
}

/* One decode of all clips: out[0..starts). */
static int decode_once(const struct decode_options *o, bool video, bool audio, struct media_child *child,
                       struct media_result *out, struct err *e)
{
    struct media_job job = {
        .kind = MEDIA_JOB_DECODE,
        .id = 1,
        .video_stream = -1,
        .audio_stream = -1,
        .clips = o->starts,
        .recipe = {.frames = (uint32_t)o->frames,
                   .fps = o->fps,
                   .resize_min = (uint32_t)o->resize,
                   .resize_max = (uint32_t)o->resize,
                   .crop = (uint32_t)o->size,
                   .want_video = video,
                   .want_audio = audio,
                   .degrade = (uint32_t)o->degrade,
                   .scaling = (uint32_t)o->scaling,
                   .frontend = (uint32_t)o->frontend,
                   .short_clip = (uint32_t)o->short_clip,
                   .keep_silent = o->keep_silent,
                   .min_sound_s = 1.1},
    };
    for (uint32_t i = 0; i < o->starts; i++)
        job.clip[i] = (struct media_clip){.start_s = o->start_s[i], .key_pos = -1};
    struct media_child_limits own = limits;
    struct media_file file;
    own.slot_bytes = media_slot_bytes(&job.recipe) * o->starts;
    own.cpu_s *= o->starts;
    memset(out, 0, o->starts * sizeof *out);
    int rc = media_file_open(NULL, o->file, &file, e);
    if (rc)
        return rc;
    job.window = file.window;
    media_child_stop(child);
    rc = media_child_start(child, &own, e);
    if (!rc)
        rc = media_child_run(child, &job, file.fd, out, e);
    close(file.fd);
    return out->reason ? 0 : rc; /* a dead worker is a reason too */
}

static bool lacks(const struct media_result *r, bool video)
{
    return r->reason == (video ? MEDIA_NO_VIDEO : MEDIA_NO_AUDIO) || (r->missing & (video ? 1u : 2u));
}

/* Decodes what is wanted; without a stream that the file lacks, the other one alone. */
static int decode(const struct decode_options *o, bool *video, bool *audio, struct media_child *child,
                  struct media_result *out, struct err *e)
{
    int rc = decode_once(o, *video, *audio, child, out, e);
    bool no_video = *video && lacks(out, true), no_audio = *audio && lacks(out, false);
    if (rc || (!no_video && !no_audio))
        return rc;
    *video = *video && !no_video;
    *audio = *audio && !no_audio;
    if (no_video)
        fprintf(stderr, "xdc decode: warning: %s has no video\n", o->file);
    if (no_audio)
        fprintf(stderr, "xdc decode: warning: %s has no sound\n", o->file);
    if (!*video && !*audio) {
        out->reason = MEDIA_OK;
        return 0;
    }
    return out->reason ? decode_once(o, *video, *audio, child, out, e) : 0;
}

/* One array of all clips; a single one without the first axis. */
static int write_array(const char *path, const struct tensor *one, uint32_t clips, const uint8_t *slot,
                       const uint64_t *offsets, struct err *e)
{
    size_t bytes = tensor_count(one) * tensor_dtype_size(one->dtype);
    struct tensor all = *one;
    uint8_t *data = malloc(bytes * clips);
    if (!data)
        return err_sys(e, ENOMEM, "%s", path);
    for (uint32_t i = 0; i < clips; i++)
        memcpy(data + i * bytes, slot + offsets[i], bytes);
    if (clips > 1) {
        memmove(all.shape + 1, all.shape, (size_t)all.ndim * sizeof *all.shape);
        all.shape[0] = clips;
        all.ndim++;
    }
    all.data = data;
    int rc = npy_write(path, &all, e);
    free(data);
    return rc;
}

static int write_arrays(const struct decode_options *o, const struct media_child *child,
                        const struct media_result *r, struct err *e)
{
    const struct tensor v = {.dtype = TENSOR_U8, .ndim = 4, .shape = {o->frames, o->size, o->size, 3}};
    const struct tensor a = {.dtype = TENSOR_F32, .ndim = 2, .shape = {MEDIA_MELS, MEDIA_MEL_FRAMES}};
    uint64_t video[MEDIA_CLIPS_MAX], audio[MEDIA_CLIPS_MAX];
    int rc = 0;
    for (uint32_t i = 0; i < o->starts; i++) {
        video[i] = r[i].video_offset;
        audio[i] = r[i].audio_offset;
    }
    if (o->video_out && r->video_bytes)
        rc = write_array(o->video_out, &v, o->starts, child->slot, video, e);
    if (!rc && o->audio_out && r->audio_bytes)
        rc = write_array(o->audio_out, &a, o->starts, child->slot, audio, e);
    return rc;
}

static json_t *flags_json(uint32_t flags)
{
    static const char *const names[] = {"padded", "looped", "silent"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (flags >> i & 1)
            json_array_append_new(list, json_string(names[i]));
    return list;
}

static json_t *clips_json(const struct decode_options *o, const struct media_result *r)
{
    json_t *list = json_array();
    char hash[17];
    for (uint32_t i = 0; i < o->starts; i++) {
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r[i].hash);
        json_array_append_new(list, json_pack("{sf ss ss so}", "start_s", o->start_s[i], "reason",
                                              media_code_name(r[i].reason), "hash", hash, "flags",
                                              flags_json(r[i].flags)));
    }
    return list;
}

static void print_json(const struct decode_options *o, const struct media_result *r)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->hash);
    json_t *root =
        json_pack("{ss ss ss ss sf si si si ss so s{sf sf si si si si si si}}", "file", o->file, "reason",
                  media_code_name(r->reason), "detail", r->detail, "hash", hash, "start_s", o->start_s[0],
                  "frames", (int)o->frames, "size", (int)o->size, "resize", (int)o->resize, "wrote",
                  r->video_bytes && r->audio_bytes ? "video+audio"
                  : r->video_bytes                 ? "video"
                  : r->audio_bytes                 ? "audio"
                                                   : "nothing",
                  "clips", clips_json(o, r), "probe", "duration_s", r->probe.duration_s, "fps", r->probe.fps,
                  "width", (int)r->probe.width, "height", (int)r->probe.height, "video_stream",
                  r->probe.video_stream, "audio_stream", r->probe.audio_stream, "sample_rate",
                  (int)r->probe.sample_rate, "channels", (int)r->probe.channels);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

/* The first clip that could not be decoded, or 0. */
static uint32_t first_failed(const struct decode_options *o, const struct media_result *r)
{
    for (uint32_t i = 0; i < o->starts; i++)
        if (r[i].reason)
            return i;
    return 0;
}

int cli_decode(int argc, char **argv)
{
    struct decode_options o;
    struct media_child child = {0};
    struct media_result results[MEDIA_CLIPS_MAX] = {0};
    struct err e = {0};
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    bool video = o.video_out != NULL, audio = o.audio_out != NULL;
    int rc = decode(&o, &video, &audio, &child, results, &e);
    const struct media_result *worst = &results[first_failed(&o, results)];
    if (!rc && !worst->reason)
        rc = write_arrays(&o, &child, results, &e);
    media_child_stop(&child);
    if (rc) {
        fprintf(stderr, "xdc decode: %s\n", e.msg);
        return err_exit_status(rc);
    }
    if (o.json)
        print_json(&o, results);
    if (worst->reason) {
        fprintf(stderr, "xdc decode: %s: %s: %s %s\n", o.file, media_code_name(worst->reason),
                media_code_text(worst->reason), worst->detail);
        return err_exit_status(XDC_EMEDIA);
    }
    return fflush(stdout) || ferror(stdout) ? err_exit_status(-EIO) : 0;
}
