#include "lib/media/facts.h"

#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <string.h>
#include "lib/media/container.h"

#define START_S 0.05      /* what sound encoders delay shifts the picture by less */
#define OFFSET_S 0.1      /* MEDIA_AV_OFFSET */
#define PRIMING_PACKETS 8 /* of sound are skipped by every edit list that an encoder's delay makes */

static uint32_t bit_if(bool so, enum media_fact f)
{
    return so ? media_fact_bit(f) : 0;
}

static uint32_t of_format(int format, enum AVColorRange range)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)format);
    if (!d)
        return 0;
    bool rgb = d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL);
    bool chroma = !rgb && d->nb_components >= 3;
    bool full = range == AVCOL_RANGE_JPEG || strncmp(d->name, "yuvj", 4) == 0;
    return bit_if(d->comp[0].depth > 8, MEDIA_HIGH_BIT_DEPTH) | bit_if(full && !rgb, MEDIA_FULL_RANGE) |
           bit_if(chroma && (d->log2_chroma_w != 1 || d->log2_chroma_h != 1), MEDIA_CHROMA_NOT_420);
}

uint32_t facts_of_frame(const AVFrame *f)
{
    return of_format(f->format, f->color_range) | bit_if(f->interlaced_frame, MEDIA_INTERLACED);
}

static bool is_rotated(const AVStream *st)
{
    size_t size = 0;
    const uint8_t *matrix = av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (!matrix || size < 9 * sizeof(int32_t))
        return false;
    double angle = av_display_rotation_get((const int32_t *)(const void *)matrix);
    return !isnan(angle) && lround(angle / 90) % 4 != 0;
}

/* Packets that the container says are not to be shown. */
static bool has_edit_list(AVStream *st, int allowed)
{
    int skipped = 0, n = avformat_index_get_entries_count(st);
    for (int i = 0; i < n; i++)
        skipped += (avformat_index_get_entry(st, i)->flags & AVINDEX_DISCARD_FRAME) != 0;
    return skipped > allowed;
}

static uint32_t of_video(const struct input *in)
{
    AVStream *st = in->ic->streams[in->video];
    const AVCodecParameters *p = st->codecpar;
    AVRational sar = st->sample_aspect_ratio.num ? st->sample_aspect_ratio : p->sample_aspect_ratio;
    bool fields = p->field_order != AV_FIELD_UNKNOWN && p->field_order != AV_FIELD_PROGRESSIVE;
    return of_format(p->format, p->color_range) | bit_if(is_rotated(st), MEDIA_ROTATED) |
           bit_if(fields && !in->still, MEDIA_INTERLACED) |
           bit_if(sar.num > 0 && sar.den > 0 && sar.num != sar.den, MEDIA_NON_SQUARE_PIXELS) |
           bit_if((p->width | p->height) & 1, MEDIA_ODD_SIZE) | bit_if(in->still, MEDIA_STILL_IMAGE);
}

static bool start_of(const AVStream *st, double *out)
{
    if (st->start_time == AV_NOPTS_VALUE)
        return false;
    *out = (double)st->start_time * av_q2d(st->time_base);
    return true;
}

static uint32_t of_streams(const struct input *in)
{
    int videos = 0, audios = 0;
    for (unsigned i = 0; i < in->ic->nb_streams; i++) {
        const AVStream *st = in->ic->streams[i];
        if (st->disposition & AV_DISPOSITION_ATTACHED_PIC)
            continue;
        videos += st->codecpar->codec_type == AVMEDIA_TYPE_VIDEO;
        audios += st->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    }
    return bit_if(videos > 1, MEDIA_SEVERAL_VIDEO_STREAMS) | bit_if(audios > 1, MEDIA_SEVERAL_AUDIO_STREAMS);
}

static uint32_t of_start(const struct input *in)
{
    int first = in->video >= 0 ? in->video : in->audio;
    double start = 0, sound = 0;
    if (first < 0 || in->still || !start_of(in->ic->streams[first], &start))
        return 0;
    bool apart = in->video >= 0 && in->audio >= 0 && start_of(in->ic->streams[in->audio], &sound) &&
                 fabs(sound - start) > OFFSET_S;
    return bit_if(fabs(start) > START_S, MEDIA_START_NONZERO) | bit_if(apart, MEDIA_AV_OFFSET);
}

bool facts_lack_index(const struct input *in)
{
    const AVInputFormat *f = in->ic->iformat;
    if (in->video < 0 || in->still)
        return false;
    if (strncmp(f->name, "matroska,", 9) == 0)
        return !container_has_cues(&in->file);
    if (strcmp(f->name, "flv") == 0)
        return !container_has_flv_keyframes(&in->file);
    if (strcmp(f->name, "avi") == 0)
        return !container_has_avi_index(&in->file);
    return strcmp(f->name, "ogg") == 0 || (!f->read_seek && !f->read_seek2);
}

uint32_t facts_of_input(const struct input *in)
{
    uint32_t facts = of_streams(in) | of_start(in);
    if (in->video >= 0)
        facts |= of_video(in);
    int first = in->video >= 0 ? in->video : in->audio;
    bool edited = first >= 0 && strncmp(in->ic->iformat->name, "mov,", 4) == 0 &&
                  has_edit_list(in->ic->streams[first], in->video >= 0 ? 0 : PRIMING_PACKETS);
    return facts | bit_if(edited, MEDIA_EDIT_LIST) | bit_if(facts_lack_index(in), MEDIA_NO_SEEK_INDEX);
}
