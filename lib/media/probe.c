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
    if (r->want_audio && in->audio < 0)
        return fault_set(e, MEDIA_NO_AUDIO, "no audio stream");
    if (r->want_audio && duration_s > 0 && duration_s < r->min_sound_s)
        return fault_set(e, MEDIA_TOO_SHORT, "%.2f s long", duration_s);
    return r->want_audio ? check_codec(in, in->audio, e) : 0;
}

int probe_scan_duration(struct input *in, struct err *e)
{
    int stream = in->video >= 0 ? in->video : in->audio;
    AVPacket *pkt = av_packet_alloc();
    if (!pkt)
        return fault_av(e, MEDIA_MEMORY_LIMIT, AVERROR(ENOMEM), "measure duration");
    int rc = input_rewind(in, stream, e);
    double tick = av_q2d(in->ic->streams[stream]->time_base);
    while (rc == 0 && input_read(in, stream, pkt) >= 0) {
        if (pkt->pts != AV_NOPTS_VALUE)
            in->duration_s = fmax(in->duration_s, (double)(pkt->pts + pkt->duration) * tick - in->origin_s);
        av_packet_unref(pkt);
    }
    av_packet_free(&pkt);
    return rc;
}
