#include "lib/media/input.h"

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavutil/avstring.h>
#include <math.h>
#include <string.h>
#include "lib/media/container.h"
#include "lib/media/stream_decoder.h"

#define STREAMS_MAX 256
#define STREAMS_READ_MAX 4096 /* beyond it libavformat speaks of memory */
#define ORIGIN_PACKETS 2000   /* packets read in search of the first key frame */
#define REORDER_MAX 16        /* frames that a codec may hold back */

/* Playlists and reference files name other files: none is ever opened. */
static int on_nested_open(AVFormatContext *s, AVIOContext **pb, const char *url, int flags,
                          AVDictionary **options)
{
    (void)s, (void)pb, (void)url, (void)flags, (void)options;
    return AVERROR(EACCES);
}

static bool codec_needs_no_probing(const AVCodecParameters *p)
{
    switch (p->codec_id) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1:
        return p->width > 0 && p->height > 0;
    case AV_CODEC_ID_AAC:
    case AV_CODEC_ID_OPUS:
    case AV_CODEC_ID_MP3:
    case AV_CODEC_ID_VORBIS:
    case AV_CODEC_ID_FLAC:
        return p->sample_rate > 0;
    default:
        return false;
    }
}

/* avformat_find_stream_info decodes frames of every stream, which costs more than decoding a clip. Headers of
 * MP4 and Matroska files with one stream of a kind say all that decoding and choosing needs. */
static bool header_suffices(const AVFormatContext *ic)
{
    if (ic->ctx_flags & AVFMTCTX_NOHEADER)
        return false;
    if (strncmp(ic->iformat->name, "mov,", 4) != 0 && strncmp(ic->iformat->name, "matroska,", 9) != 0)
        return false;
    int videos = 0, audios = 0;
    for (unsigned i = 0; i < ic->nb_streams; i++) {
        const AVCodecParameters *p = ic->streams[i]->codecpar;
        videos += p->codec_type == AVMEDIA_TYPE_VIDEO;
        audios += p->codec_type == AVMEDIA_TYPE_AUDIO;
        if ((p->codec_type == AVMEDIA_TYPE_VIDEO || p->codec_type == AVMEDIA_TYPE_AUDIO) &&
            !codec_needs_no_probing(p))
            return false;
    }
    return ic->nb_streams > 0 && videos <= 1 && audios <= 1;
}

static int choose_stream(AVFormatContext *ic, enum AVMediaType type, int wanted, int related)
{
    int i = wanted;
    if (wanted < 0)
        i = av_find_best_stream(ic, type, -1, related, NULL, 0);
    if (i < 0 || (unsigned)i >= ic->nb_streams || ic->streams[i]->codecpar->codec_type != type)
        return -1;
    return ic->streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC ? -1 : i;
}

static double duration_of(const struct input *in)
{
    int main_stream = in->video >= 0 ? in->video : in->audio;
    double s = main_stream >= 0 ? input_stream_duration_s(in, main_stream) : 0;
    if (s <= 0 && in->ic->duration > 0 && in->ic->duration != AV_NOPTS_VALUE)
        s = (double)in->ic->duration / AV_TIME_BASE;
    return s;
}

static bool names_other_files(const AVInputFormat *format)
{
    static const char *const lists[] = {"hls", "dash", "concat", "imf", "sdp", "rtsp", "sap"};
    if (format->flags & AVFMT_NOFILE)
        return true;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (av_match_name(lists[i], format->name))
            return true;
    return false;
}

/* What kind of file it is; a playlist is not even parsed. */
static int find_format(struct input *in, const AVInputFormat **out, struct err *e)
{
    if (avio_file_size(&in->file) == 0)
        return fault_set(e, MEDIA_EMPTY_FILE, "the file has no bytes");
    int rc = av_probe_input_buffer2(in->file.ctx, out, "", NULL, 0, 0);
    if (rc < 0)
        return fault_av(e, rc == AVERROR(EIO) ? MEDIA_OPEN_FAILED : MEDIA_UNREADABLE, rc, "read header");
    if (names_other_files(*out))
        return fault_set(e, MEDIA_PLAYLIST, "a list of other files (%s)", (*out)->name);
    return 0;
}

static int refuse_header(const struct input *in, const AVInputFormat *format, int averr, struct err *e)
{
    if (averr == AVERROR_INVALIDDATA && strncmp(format->name, "mov,", 4) == 0 &&
        !container_has_moov(&in->file))
        return fault_set(e, MEDIA_MOOV_MISSING,
                         "no moov atom: a recording or download that was not finished");
    /* Demuxers call an early end an I/O error, too. */
    bool failed = averr == AVERROR(EIO) && in->file.ctx->error < 0 && in->file.ctx->error != AVERROR_EOF;
    return fault_av(e, failed ? MEDIA_OPEN_FAILED : MEDIA_UNREADABLE, averr, "read header");
}

/* Streams without a header of their own are read for seconds to learn rate and duration: leave those out. */
static void look_less(AVFormatContext *ic)
{
    ic->fps_probe_size = 0;
    ic->skip_estimate_duration_from_pts = 1;
    ic->max_analyze_duration = AV_TIME_BASE / 4;
}

static int open_demuxer(struct input *in, int fd, const struct media_window *window, struct err *e)
{
    int rc = avio_file_open(&in->file, fd, window);
    if (rc < 0)
        return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "open file");
    const AVInputFormat *format = NULL;
    rc = find_format(in, &format, e);
    if (rc)
        return rc;
    in->ic = avformat_alloc_context();
    if (!in->ic)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "open file");
    in->ic->pb = in->file.ctx;
    in->ic->flags |= AVFMT_FLAG_CUSTOM_IO;
    in->ic->io_open = on_nested_open;
    in->ic->protocol_whitelist = av_strdup("none"); /* some demuxers open sockets past io_open */
    in->ic->max_streams = STREAMS_READ_MAX;
    rc = avformat_open_input(&in->ic, NULL, format, NULL);
    if (rc < 0)
        return refuse_header(in, format, rc, e);
    if (in->ic->nb_streams > STREAMS_MAX)
        return fault_set(e, MEDIA_TOO_MANY_STREAMS, "%u streams", in->ic->nb_streams);
    if (in->look == INPUT_LOOK_LEAST)
        look_less(in->ic);
    if (in->look == INPUT_LOOK_FULL || !header_suffices(in->ic)) {
        rc = avformat_find_stream_info(in->ic, NULL);
        if (rc < 0)
            return fault_av(e, MEDIA_UNREADABLE, rc, "read stream parameters");
    }
    if (in->ic->nb_streams == 0)
        return fault_set(e, MEDIA_UNREADABLE, "the header names no stream");
    const char *name = in->ic->iformat->name;
    size_t length = strlen(name);
    in->still = strcmp(name, "image2") == 0 || (length > 5 && strcmp(name + length - 5, "_pipe") == 0);
    in->at_start = true;
    return 0;
}

static void close_demuxer(struct input *in)
{
    avformat_close_input(&in->ic);
    avio_file_close(&in->file);
}

int input_open(struct input *in, int fd, const struct media_window *window, int video, int audio,
               enum input_look look, struct err *e)
{
    *in =
        (struct input){.video = -1, .audio = -1, .wanted_video = video, .wanted_audio = audio, .look = look};
    in->first = av_packet_alloc();
    if (!in->first)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "open file");
    int rc = open_demuxer(in, fd, window, e);
    if (rc)
        return rc;
    in->video = choose_stream(in->ic, AVMEDIA_TYPE_VIDEO, video, -1);
    in->audio = choose_stream(in->ic, AVMEDIA_TYPE_AUDIO, audio, in->video);
    in->duration_s = duration_of(in);
    return 0;
}

void input_close(struct input *in)
{
    close_demuxer(in);
    av_packet_free(&in->first);
}

static void read_only(struct input *in, int stream)
{
    for (unsigned i = 0; i < in->ic->nb_streams; i++)
        in->ic->streams[i]->discard = (int)i == stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
}

/* Time stamp of the first frame that decodes; AV_NOPTS_VALUE where none has one. Then the input is no longer
 * at its start. */
static int decode_first(struct input *in, int stream, int64_t *out_pts, struct err *e)
{
    struct stream_decoder d;
    AVFrame *frame = av_frame_alloc();
    int rc = stream_decoder_open(&d, in, stream, e);
    if (rc == 0 && (!frame || stream_decoder_next(&d, frame) < 0))
        rc = fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "decode first frame");
    if (rc == 0)
        *out_pts = frame->best_effort_timestamp;
    in->at_start = false;
    stream_decoder_close(&d);
    av_frame_free(&frame);
    return rc;
}

/* The first packet from which decoding can start goes to in->first. Where an edit list cuts off the
 * beginning, what is shown first may follow any packet: *out_shown is the earliest time of it. */
static int find_first(struct input *in, int stream, bool *out_found, int64_t *out_shown, struct err *e)
{
    bool cut = false;
    int shown = 0;
    for (int n = 0; n < ORIGIN_PACKETS; n++) {
        int rc = input_read(in, stream, in->first);
        if (rc == AVERROR(ENOMEM))
            return fault_av(e, MEDIA_MEMORY_LIMIT, rc, "read first packet");
        if (rc < 0)
            break;
        size_t size;
        if (av_packet_get_side_data(in->first, AV_PKT_DATA_ENCRYPTION_INFO, &size))
            return fault_set(e, MEDIA_ENCRYPTED, "the packets are encrypted");
        bool discard = in->first->flags & AV_PKT_FLAG_DISCARD;
        cut |= discard;
        if (cut && !discard && in->first->pts != AV_NOPTS_VALUE) {
            if (shown == 0 || in->first->pts < *out_shown)
                *out_shown = in->first->pts;
            if (++shown > REORDER_MAX)
                break;
        }
        if ((in->first->flags & AV_PKT_FLAG_KEY) && !cut) {
            in->at_start = n == 0;
            *out_found = true;
            return 0;
        }
        av_packet_unref(in->first);
    }
    in->at_start = false;
    return 0;
}

int input_find_origin(struct input *in, struct err *e)
{
    int stream = in->video >= 0 ? in->video : in->audio;
    if (stream < 0)
        return 0;
    const AVStream *st = in->ic->streams[stream];
    int64_t start = st->start_time;
    bool found = false;
    read_only(in, stream);
    int rc = find_first(in, stream, &found, &start, e);
    if (rc)
        return rc;
    if (found && in->first->pts != AV_NOPTS_VALUE)
        start = in->first->pts;
    else if (found && in->at_start)
        rc = decode_first(in, stream, &start, e);
    if (rc == MEDIA_UNSUPPORTED_CODEC)
        rc = 0; /* the other stream may still be of use */
    /* A packet that is not the first one would be decoded without those before it. */
    if (!in->at_start)
        av_packet_unref(in->first);
    in->origin_s = start == AV_NOPTS_VALUE ? 0 : (double)start * av_q2d(st->time_base);
    return rc;
}

static int reopen(struct input *in, struct err *e)
{
    int fd = in->file.fd;
    const struct media_window window = in->file.window;
    close_demuxer(in);
    int rc = open_demuxer(in, fd, &window, e);
    if (rc)
        return rc;
    int streams = (int)in->ic->nb_streams;
    if (in->video >= streams || in->audio >= streams)
        return fault_set(e, MEDIA_UNREADABLE, "the file has other streams when read again");
    return 0;
}

int input_seek(struct input *in, int stream, double time_s, struct err *e)
{
    const AVStream *st = in->ic->streams[stream];
    av_packet_unref(in->first);
    in->at_start = false;
    read_only(in, stream);
    double ticks = floor(time_s / av_q2d(st->time_base));
    if (!(fabs(ticks) < 0x1p62) || av_seek_frame(in->ic, stream, (int64_t)ticks, AVSEEK_FLAG_BACKWARD) < 0)
        return input_rewind(in, stream, e);
    return 0;
}

int input_seek_byte(struct input *in, int stream, int64_t pos, double time_s, struct err *e)
{
    /* A container with an index of its own goes by that. */
    if ((in->ic->iformat->flags & AVFMT_NO_BYTE_SEEK) || in->ic->iformat->read_seek)
        return input_seek(in, stream, time_s, e);
    av_packet_unref(in->first);
    in->at_start = false;
    read_only(in, stream);
    if (av_seek_frame(in->ic, stream, pos, AVSEEK_FLAG_BYTE) < 0)
        return input_seek(in, stream, time_s, e);
    return 0;
}

int input_rewind(struct input *in, int stream, struct err *e)
{
    bool unread = in->at_start && (!in->first->data || in->first->stream_index == stream);
    if (!unread) {
        av_packet_unref(in->first);
        const AVIndexEntry *entry = avformat_index_get_entry(in->ic->streams[stream], 0);
        bool indexed = strncmp(in->ic->iformat->name, "mov,", 4) == 0 && entry;
        read_only(in, stream);
        if (!indexed || av_seek_frame(in->ic, stream, entry->timestamp, AVSEEK_FLAG_BACKWARD) < 0) {
            int rc = reopen(in, e);
            if (rc)
                return rc;
        }
    }
    read_only(in, stream);
    in->at_start = false;
    return 0;
}

int input_read(struct input *in, int stream, AVPacket *pkt)
{
    if (pkt != in->first && in->first->data) {
        av_packet_move_ref(pkt, in->first);
        if (pkt->stream_index == stream)
            return 0;
        av_packet_unref(pkt);
    }
    for (;;) {
        int rc = av_read_frame(in->ic, pkt);
        if (rc < 0 || pkt->stream_index == stream)
            return rc;
        av_packet_unref(pkt);
    }
}

double input_stream_duration_s(const struct input *in, int stream)
{
    const AVStream *st = in->ic->streams[stream];
    if (st->duration == AV_NOPTS_VALUE || st->duration <= 0)
        return 0;
    return (double)st->duration * av_q2d(st->time_base);
}

double input_fps(const struct input *in)
{
    if (in->video < 0)
        return 25;
    const AVStream *st = in->ic->streams[in->video];
    double s = input_stream_duration_s(in, in->video);
    double fps = st->nb_frames > 1 && s > 0 ? (double)st->nb_frames / s : 0;
    if (!(fps > 0) && st->avg_frame_rate.num > 0 && st->avg_frame_rate.den > 0)
        fps = av_q2d(st->avg_frame_rate);
    if (!(fps > 0) && st->r_frame_rate.num > 0 && st->r_frame_rate.den > 0)
        fps = av_q2d(st->r_frame_rate);
    return fps > 0 && fps < 1e6 ? fps : 25;
}
