#include "services/decoder/golden.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/fsutil.h"

/* Fixed for ever: another recipe would give another hash. It scales, crops and resamples in time, so that
 * every stage that can differ between builds takes part. */
static const struct media_recipe golden_recipe = {
    .frames = 8,
    .fps = 12,
    .resize_min = 40,
    .resize_max = 40,
    .crop = 32,
    .want_video = true,
    .want_audio = true,
};

static int golden_file(int *out_fd, struct err *e)
{
    int fd = memfd_create("golden.mp4", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "golden clip: create a memory file");
    int rc = fs_write_all(fd, golden_clip, golden_clip_size, "golden clip", e);
    if (!rc && lseek(fd, 0, SEEK_SET) < 0)
        rc = err_sys(e, errno, "golden clip: rewind");
    if (rc) {
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

/* By somebody else, for want of memory or by hand: that says nothing of this machine's FFmpeg. */
static bool was_killed(const struct media_result *r)
{
    return r->reason == MEDIA_WORKER_DIED || r->reason == MEDIA_MEMORY_LIMIT;
}

int golden_hash(const struct media_child_limits *limits, uint64_t *out, uint32_t *out_sandbox, struct err *e)
{
    struct media_child child = {0};
    struct media_result result = {0};
    struct media_child_limits own = *limits;
    own.slot_bytes = media_slot_bytes(&golden_recipe);
    struct media_job job = {
        .kind = MEDIA_JOB_DECODE,
        .id = 1,
        .video_stream = -1,
        .audio_stream = -1,
        .clips = 1,
        .clip = {{.start_s = 0.25, .key_pos = -1}},
        .duration_s = 2,
        .recipe = golden_recipe,
    };
    int fd = -1;
    int rc = golden_file(&fd, e);
    if (rc)
        return rc;
    rc = media_child_start(&child, &own, e);
    if (!rc)
        rc = media_child_run(&child, &job, fd, &result, e);
    if (rc)
        err_wrap(e, "golden clip");
    else if (result.reason)
        rc = err_set(e, was_killed(&result) ? XDC_ELOST : XDC_EMEDIA, "golden clip: %s: %s",
                     media_code_name(result.reason), result.detail);
    if (!rc)
        *out = result.hash;
    *out_sandbox = child.sandbox;
    media_child_stop(&child);
    close(fd);
    return rc;
}
