#include "lib/media/video_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE_S 1e-6
#define PACKETS_MAX 4096
#define BYTES_MAX ((size_t)64 << 20)
/* No codec shows a frame after more than 16 that were decoded later; of fields there are two packets each. */
#define REORDER_MAX 33

void video_plan_clear(struct video_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        av_packet_unref(p->packets[i].pkt);
    p->n = p->n_order = p->bytes = 0;
}

void video_plan_close(struct video_plan *p)
{
    for (size_t i = 0; i < p->capacity; i++)
        av_packet_free(&p->packets[i].pkt);
    free(p->packets);
    free(p->order);
    memset(p, 0, sizeof *p);
}

static bool grow(struct video_plan *p)
{
    if (p->n < p->capacity)
        return true;
    size_t more = p->capacity ? p->capacity * 2 : 64;
    struct plan_packet *packets = realloc(p->packets, more * sizeof *packets);
    if (!packets)
        return false;
    p->packets = packets;
    size_t *order = realloc(p->order, more * sizeof *order);
    if (!order)
        return false;
    p->order = order;
    for (; p->capacity < more; p->capacity++) {
        p->packets[p->capacity].pkt = av_packet_alloc();
        if (!p->packets[p->capacity].pkt)
            return false;
    }
    return true;
}

/* A key frame before everything wanted: what came before it is not needed. */
static void restart_at_newest(struct video_plan *p)
{
    struct plan_packet newest = p->packets[p->n - 1];
    for (size_t i = 0; i + 1 < p->n; i++)
        av_packet_unref(p->packets[i].pkt);
    p->packets[p->n - 1] = p->packets[0];
    p->packets[0] = newest;
    p->n = 1;
    p->bytes = (size_t)newest.pkt->size;
}

/* VP8 keeps its alternative reference frames in packets of their own. */
static bool hidden(const struct input *in, const AVPacket *pkt)
{
    return in->ic->streams[in->video]->codecpar->codec_id == AV_CODEC_ID_VP8 && pkt->size > 0 &&
           !(pkt->data[0] & 0x10);
}

/* 1: the next packet is the newest; 0: the end; negative: no plan. */
static int read_one(struct video_plan *p, struct input *in)
{
    if (p->n == PACKETS_MAX || p->bytes > BYTES_MAX || !grow(p))
        return -1;
    struct plan_packet *k = &p->packets[p->n];
    int rc = input_read(in, in->video, k->pkt);
    if (rc == AVERROR_EOF)
        return 0;
    if (rc < 0)
        return -1;
    double tick = av_q2d(in->ic->streams[in->video]->time_base);
    k->s = (double)k->pkt->pts * tick - in->origin_s;
    k->shown = !(k->pkt->flags & AV_PKT_FLAG_DISCARD) && !hidden(in, k->pkt);
    k->wanted = false;
    p->bytes += (size_t)k->pkt->size;
    p->n++;
    if (k->pkt->pts == AV_NOPTS_VALUE || (k->pkt->flags & AV_PKT_FLAG_CORRUPT))
        return -1;
    if (k->shown) {
        double frame_s = k->pkt->duration > 0 ? (double)k->pkt->duration * tick : 1 / input_fps(in);
        p->end_s = fmax(p->end_s, k->s + frame_s);
    }
    return 1;
}

static int by_time(const void *a, const void *b, void *arg)
{
    const struct video_plan *p = arg;
    double x = p->packets[*(const size_t *)a].s, y = p->packets[*(const size_t *)b].s;
    return (x > y) - (x < y);
}

/* Frames in order of time; false where two have the same. */
static bool sort(struct video_plan *p)
{
    p->n_order = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->packets[i].shown)
            p->order[p->n_order++] = i;
    qsort_r(p->order, p->n_order, sizeof *p->order, by_time, p);
    for (size_t i = 1; i < p->n_order; i++)
        if (p->packets[p->order[i]].pkt->pts == p->packets[p->order[i - 1]].pkt->pts)
            return false;
    return p->n_order > 0;
}

enum plan_result video_plan_read(struct video_plan *p, struct input *in, double from_s, double to_s,
                                 uint32_t count, bool at_start)
{
    unsigned later = 0, known = 0, passed = 0;
    bool is_mov = strncmp(in->ic->iformat->name, "mov,", 4) == 0;
    video_plan_clear(p);
    p->last = 0;
    p->ended = false;
    p->end_s = 0;
    for (;;) {
        int rc = read_one(p, in);
        if (rc < 0)
            return PLAN_NONE;
        p->ended = rc == 0;
        if (rc == 0)
            break;
        const struct plan_packet *k = &p->packets[p->n - 1];
        bool key = k->pkt->flags & AV_PKT_FLAG_KEY, before = k->s <= from_s + TOLERANCE_S;
        if (p->n == 1 && !key && (at_start || ++passed > PACKETS_MAX))
            return PLAN_NONE;
        if (p->n == 1 && !key) { /* a seek that met no key frame */
            video_plan_clear(p);
            continue;
        }
        if (p->n == 1 && !before && !at_start)
            return PLAN_EARLIER;
        if (p->n > 1 && key && before && k->shown)
            restart_at_newest(p);
        known += k->shown && k->s >= from_s - TOLERANCE_S;
        later += count ? known > count : k->s > to_s + TOLERANCE_S;
        /* The sample tables of MP4 give every packet the time it is due for decoding, before which no later
         * one can be shown. */
        double tick = av_q2d(in->ic->streams[in->video]->time_base);
        bool past = is_mov && !count && k->pkt->dts != AV_NOPTS_VALUE &&
                    (double)k->pkt->dts * tick - in->origin_s > to_s + TOLERANCE_S;
        if (later > REORDER_MAX || past)
            break;
    }
    if (p->n == 0 && !at_start)
        return PLAN_EARLIER;
    return p->n && sort(p) ? PLAN_MADE : PLAN_NONE;
}

size_t video_plan_from(const struct video_plan *p, double s)
{
    size_t lo = 0, hi = p->n_order;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->packets[p->order[mid]].s + TOLERANCE_S < s)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t video_plan_at(const struct video_plan *p, double s)
{
    size_t lo = 0, hi = p->n_order; /* the first frame after s */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->packets[p->order[mid]].s <= s + TOLERANCE_S)
            lo = mid + 1;
        else
            hi = mid;
    }
    return p->order[lo ? lo - 1 : 0];
}

void video_plan_want(struct video_plan *p, size_t packet)
{
    p->packets[packet].wanted = true;
    p->last = packet > p->last ? packet : p->last;
}

/* HEVC: whether the packet's pictures are of the kind that no picture of their temporal layer refers to, in a
 * stream of one layer. The codec itself cannot be told to pass over them. */
static bool hevc_disposable(const AVCodecParameters *par, const AVPacket *pkt)
{
    /* hvcC: version 1, layers in bits 3 to 5 and NAL length size in the low bits of byte 21 */
    if (par->extradata_size < 23 || par->extradata[0] != 1 || ((par->extradata[21] >> 3) & 7) != 1)
        return false;
    size_t length_size = (size_t)(par->extradata[21] & 3) + 1, at = 0, size = (size_t)pkt->size;
    bool any = false;
    while (at + length_size + 2 <= size) {
        size_t length = 0;
        for (size_t i = 0; i < length_size; i++)
            length = length << 8 | pkt->data[at + i];
        at += length_size;
        if (length < 2 || length > size - at)
            return false;
        unsigned type = (pkt->data[at] >> 1) & 0x3f;
        if (type < 32 && (type > 14 || (type & 1)))
            return false;
        any |= type < 32;
        at += length;
    }
    return any;
}

bool video_plan_needed(const struct input *in, const AVPacket *pkt)
{
    const AVCodecParameters *par = in->ic->streams[in->video]->codecpar;
    return par->codec_id != AV_CODEC_ID_HEVC || !hevc_disposable(par, pkt);
}
