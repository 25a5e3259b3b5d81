#include "services/decoder/job.h"

#define SAMPLES_MAX (UINT64_C(64) << 20) /* bytes of a job of several clips */

/* The lease and those of its grant that are queued behind it and must be decoded. */
static void gather(const struct clip_cache *cache, struct lease *l, struct job *out)
{
    uint64_t sample = media_slot_bytes(&l->recipe), part = media_clip_bytes(&out->media), group = l->group;
    for (; l && out->n < MEDIA_CLIPS_MAX; l = l->next) {
        if (out->n &&
            (l->group != group || (out->n + 1) * sample > SAMPLES_MAX || (out->n + 1) * part > JOB_SLOT_MAX))
            break;
        if (l->state == LEASE_QUEUED && (!out->n || !clip_cache_has(cache, l)))
            out->leases[out->n++] = l;
        if (!group)
            break;
    }
}

void job_make(const struct clip_cache *cache, struct lease *first, struct job *out)
{
    *out = (struct job){
        .fd = -1,
        .media = {.kind = MEDIA_JOB_DECODE,
                  .id = first->key.clip,
                  .video_stream = first->video_stream,
                  .audio_stream = first->audio_stream,
                  .duration_s = first->duration_s,
                  .recipe = first->recipe},
    };
    if (clip_cache_use(cache, first, &out->media, &out->fd))
        out->leases[out->n++] = first;
    else
        gather(cache, first, out);
    out->media.clips = out->n;
    for (unsigned i = 0; i < out->n; i++)
        out->media.clip[i] = out->leases[i]->clip;
    out->bytes = out->n * media_clip_bytes(&out->media);
}
