/* xdc decode: one clip of one file, exactly as a run would decode it for evaluation, as NumPy arrays. */
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
#include "lib/media/child.h"
#include "lib/tensor.h"

static const char help[] =
    "examples:\n"
    "  xdc decode film.mp4 --start 3.5 --frames 8 --size 112 --resize 128 --fps 30 --video-out v.npy "
    "--audio-out a.npy\n"
    "  xdc decode film.mp4 --frames 16 --size 64 --video-out v.npy         the stream's own frames from its "
    "start\n"
    "  xdc decode song.mp3 --start 10 --audio-out a.npy                    the log-mel spectrogram alone\n"
    "\n"
    "usage: xdc decode FILE [options]\n"
    "  --start S         seconds from the first frame (default 0)\n"
    "  --frames T        frames of the clip (default 8)\n"
    "  --size P          side of the centre crop in pixels (default 112)\n"
    "  --resize R        short side after scaling (default: --size)\n"
    "  --fps F           frames per second; 0: the stream's own frames (default 0)\n"
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
    double start_s, fps;
    uint64_t frames, size, resize;
    bool json;
};

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct decode_options *o)
{
    static const struct option options[] = {
        {"start", required_argument, NULL, 's'},
        {"frames", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 'p'},
        {"resize", required_argument, NULL, 'r'},
        {"fps", required_argument, NULL, 'f'},
        {"video-out", required_argument, NULL, 'v'},
        {"audio-out", required_argument, NULL, 'a'},
        {"json", no_argument, NULL, 'J'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c, at = 0;
    *o = (struct decode_options){.frames = 8, .size = 112};
    optind = 0;
    while ((c = getopt_long(argc, argv, "h", options, &at)) != -1) {
        bool good = true;
        switch (c) {
        case 's':
            good = cli_parse_real(optarg, 0, 1e9, &o->start_s);
            break;
        case 't':
            good = cli_parse_count(optarg, 1, 1024, &o->frames);
            break;
        case 'p':
            good = cli_parse_count(optarg, 1, 2048, &o->size);
            break;
        case 'r':
            good = cli_parse_count(optarg, 1, 4096, &o->resize);
            break;
        case 'f':
            good = cli_parse_real(optarg, 0, 1000, &o->fps);
            break;
        case 'v':
            o->video_out = optarg;
            break;
        case 'a':
            o->audio_out = optarg;
            break;
        case 'J':
            o->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return 64;
        }
        if (!good) {
            fprintf(stderr, "xdc decode: --%s %s: not a number in its range\n", options[at].name, optarg);
            return 64;
        }
    }
    if (optind != argc - 1 || (!o->video_out && !o->audio_out)) {
        fprintf(stderr, "xdc decode: needs one FILE and --video-out or --audio-out; see xdc decode --help\n");
        return 64;
    }
    o->file = argv[optind];
    if (!o->resize)
        o->resize = o->size;
    if (o->resize < o->size) {
        fprintf(stderr, "xdc decode: --resize %d is smaller than --size %d\n", (int)o->resize, (int)o->size);
        return 64;
    }
    return -1;
}

/* One decode; whatever the wanted streams are, the slot has room for both. */
static int decode_once(const struct decode_options *o, bool video, bool audio, struct media_child *child,
                       struct media_result *out, struct err *e)
{
    struct media_job job = {
        .kind = MEDIA_JOB_DECODE,
        .id = 1,
        .video_stream = -1,
        .audio_stream = -1,
        .clips = 1,
        .clip = {{.start_s = o->start_s, .key_pos = -1}},
        .recipe = {.frames = (uint32_t)o->frames,
                   .fps = o->fps,
                   .resize_min = (uint32_t)o->resize,
                   .resize_max = (uint32_t)o->resize,
                   .crop = (uint32_t)o->size,
                   .want_video = video,
                   .want_audio = audio,
                   .min_sound_s = 1.1},
    };
    struct media_child_limits own = limits;
    char full[PATH_MAX];
    uint64_t size = 0;
    int fd = -1;
    if (!realpath(o->file, full))
        return err_sys(e, errno, "%s", o->file);
    own.slot_bytes = media_slot_bytes(&job.recipe);
    memset(out, 0, sizeof *out);
    int rc = media_open_uri("/", full, &fd, &size, e);
    if (rc)
        return rc;
    media_child_stop(child);
    rc = media_child_start(child, &own, e);
    if (!rc)
        rc = media_child_run(child, &job, fd, out, e);
    close(fd);
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

static int write_arrays(const struct decode_options *o, const struct media_child *child,
                        const struct media_result *r, struct err *e)
{
    struct tensor v = {
        .dtype = TENSOR_U8, .ndim = 4, .shape = {o->frames, o->size, o->size, 3}, .data = child->slot};
    struct tensor a = {.dtype = TENSOR_F32, .ndim = 2, .shape = {MEDIA_MELS, MEDIA_MEL_FRAMES}};
    int rc = 0;
    if (r->video_bytes && r->video_bytes != tensor_count(&v))
        return err_set(e, XDC_EFORMAT, "the media worker answered with %u bytes of frames", r->video_bytes);
    if (r->audio_bytes && r->audio_bytes != MEDIA_AUDIO_FLOATS * sizeof(float))
        return err_set(e, XDC_EFORMAT, "the media worker answered with %u bytes of sound", r->audio_bytes);
    if (o->video_out && r->video_bytes)
        rc = npy_write(o->video_out, &v, e);
    if (!rc && o->audio_out && r->audio_bytes) {
        a.data = child->slot + r->audio_offset;
        rc = npy_write(o->audio_out, &a, e);
    }
    return rc;
}

static void print_json(const struct decode_options *o, const struct media_result *r)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->hash);
    json_t *root = json_pack(
        "{ss ss ss ss sf si si si ss s{sf sf si si si si si si}}", "file", o->file, "reason",
        r->reason ? media_code_name(r->reason) : "ok", "detail", r->detail, "hash", hash, "start_s",
        o->start_s, "frames", (int)o->frames, "size", (int)o->size, "resize", (int)o->resize, "wrote",
        r->video_bytes && r->audio_bytes ? "video+audio"
        : r->video_bytes                 ? "video"
        : r->audio_bytes                 ? "audio"
                                         : "nothing",
        "probe", "duration_s", r->probe.duration_s, "fps", r->probe.fps, "width", (int)r->probe.width,
        "height", (int)r->probe.height, "video_stream", r->probe.video_stream, "audio_stream",
        r->probe.audio_stream, "sample_rate", (int)r->probe.sample_rate, "channels", (int)r->probe.channels);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

int cli_decode(int argc, char **argv)
{
    struct decode_options o;
    struct media_child child = {0};
    struct media_result result = {0};
    struct err e = {0};
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    bool video = o.video_out != NULL, audio = o.audio_out != NULL;
    int rc = decode(&o, &video, &audio, &child, &result, &e);
    if (!rc && !result.reason)
        rc = write_arrays(&o, &child, &result, &e);
    media_child_stop(&child);
    if (rc) {
        fprintf(stderr, "xdc decode: %s\n", e.msg);
        return err_exit_status(rc);
    }
    if (o.json)
        print_json(&o, &result);
    if (result.reason) {
        fprintf(stderr, "xdc decode: %s: %s: %s %s\n", o.file, media_code_name(result.reason),
                media_code_text(result.reason), result.detail);
        return err_exit_status(XDC_EMEDIA);
    }
    return fflush(stdout) || ferror(stdout) ? err_exit_status(-EIO) : 0;
}
