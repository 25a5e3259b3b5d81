#include "lib/media/probe.h"

#include <libavcodec/avcodec.h>
#include <math.h>
#include "lib/media/audio_decode.h"
#include "lib/media/picture.h"

void probe_fill(const struct input *in, struct media_probe *out)
{
    *out = (struct media_probe){
        .duration_s = in->duration_s, .video_stream = in->video, .audio_stream = in->audio};
    if (in->video >= 0) {
        const AVCodecParameters *p = in->ic->streams[in->video]->codecpar;
        out->fps = input_fps(in);
        out->width = p->width > 0 ? (uint32_t)p->width : 0;
        out->height = p->height > 0 ? (uint32_t)p->height : 0;
    }
    if (in->audio >= 0) {
        const AVCodecParameters *p = in->ic->streams[in->audio]->codecpar;
        out->sample_rate = p->sample_rate > 0 ? (uint32_t)p->sample_rate : 0;
        out->channels = p->ch_layout.nb_channels > 0 ? (uint32_t)p->ch_layout.nb_channels : 0;
    }
}

static int check_codec(const struct input *in, int stream, struct err *e)
{
    enum AVCodecID id = in->ic->streams[stream]->codecpar->codec_id;
    if (!avcodec_find_decoder(id))
        return fault_set(e, MEDIA_UNSUPPORTED_CODEC, "no decoder for %s", avcodec_get_name(id));
    return 0;
}

int probe_check(const struct input *in, const struct media_recipe *r, double duration_s,
                uint32_t *out_missing, struct err *e)
{
    *out_missing = (in->video < 0 ? 1u : 0) | (in->audio < 0 ? 2u : 0);
    if (*out_missing == 3)
        return fault_set(e, r->want_audio && !r->want_video ? MEDIA_NO_AUDIO : MEDIA_NO_VIDEO,
                         "neither a video nor an audio stream");
    if (r->want_video && in->video < 0)
        return fault_set(e, MEDIA_NO_VIDEO, "no video stream");
    if (r->want_video) {
        const AVCodecParameters *p = in->ic->streams[in->video]->codecpar;
        int rc = check_codec(in, in->video, e);
        if (rc == 0)
            rc = picture_check_size(p->width, p->height, e);
        if (rc)
            return rc;
    }
    if (r->want_audio && in->audio < 0 && r->keep_silent)
        return 0;
    if (r->want_audio && in->audio < 0)
        return fault_set(e, MEDIA_NO_AUDIO, "no audio stream");
    if (r->want_audio && duration_s > 0 && duration_s < r->min_sound_s)
        return fault_set(e, MEDIA_TOO_SHORT, "%.2f s long", duration_s);
    return r->want_audio ? check_codec(in, in->audio, e) : 0;
}

/* A list that is halved when it is full: every stride-th key frame stays. */
struct key_list {
    struct media_keyframe *keys;
    uint32_t n;
    uint64_t seen, stride;
};

static void add_key(struct key_list *l, double time_s, int64_t pos)
{
    if (l->seen++ % l->stride)
        return;
    if (l->n > 0 && (time_s <= l->keys[l->n - 1].time_s || pos < l->keys[l->n - 1].pos)) {
        l->seen--;
        return;
    }
    if (l->n == MEDIA_KEYFRAMES_MAX) {
        for (uint32_t i = 0; i < MEDIA_KEYFRAMES_MAX / 2; i++)
            l->keys[i] = l->keys[(size_t)2 * i];
        l->n = MEDIA_KEYFRAMES_MAX / 2;
        l->stride *= 2;
    }
    l->keys[l->n++] = (struct media_keyframe){.time_s = time_s, .pos = pos};
}

int probe_scan(struct input *in, bool measure, struct media_keyframe *keys, uint32_t *out_keys, struct err *e)
{
    int stream = in->video >= 0 ? in->video : in->audio;
    struct key_list list = {.keys = keys, .stride = 1};
    AVPacket *pkt = av_packet_alloc();
    if (!pkt)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "read the whole file");
    int rc = input_rewind(in, stream, e);
    double tick = av_q2d(in->ic->streams[stream]->time_base);
    int64_t pos = -1; /* of the newest packet that has one: program streams do not know it of each */
    while (rc == 0 && input_read(in, stream, pkt) >= 0) {
        double at = (double)pkt->pts * tick - in->origin_s;
        if (measure && pkt->pts != AV_NOPTS_VALUE)
            in->duration_s = fmax(in->duration_s, at + (double)pkt->duration * tick);
        pos = pkt->pos >= 0 ? pkt->pos : pos;
        if (keys && pkt->pts != AV_NOPTS_VALUE && pos >= 0 && (pkt->flags & AV_PKT_FLAG_KEY) && at >= 0)
            add_key(&list, at, pos);
        av_packet_unref(pkt);
    }
    *out_keys = list.n;
    av_packet_free(&pkt);
    return rc;
}
