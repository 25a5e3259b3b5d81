/* lease: any envelope that holds a grant gives leases within the bounds that slots are computed with, or a
 * sentence. */
#include <math.h>
#include <stdlib.h>
#include "envelope.pb-c.h"
#include "services/decoder/lease.h"
#include "tests/fuzz/fuzz.h"

static void check(const struct lease *l)
{
    const struct media_recipe *r = &l->recipe;
    if (!l->uri || !l->uri[0] || !isfinite(l->clip.start_s) || !isfinite(l->duration_s) || !isfinite(r->fps))
        abort();
    if (r->want_video && (r->frames > 4096 || r->crop > 4096 || !r->frames || !r->crop))
        abort();
    if (r->resize_min > 4096 || r->resize_max > 4096 || r->scaling > MEDIA_SCALING_EXACT ||
        r->frontend > MEDIA_FRONTEND_VMZ || r->short_clip > MEDIA_SHORT_DROP)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Xdc__Envelope *env = xdc__envelope__unpack(NULL, size, data);
    struct lease *leases[MEDIA_CLIPS_MAX];
    unsigned n = 0;
    struct err e = {0};
    if (env && env->body_case == XDC__ENVELOPE__BODY_LEASE_GRANT &&
        lease_from_grant(env->lease_grant, 0, 1, leases, &n, &e) == 0) {
        if (n != env->lease_grant->n_clips)
            abort();
        for (unsigned i = 0; i < n; i++)
            check(leases[i]);
    }
    if (n == 0 && env && env->body_case == XDC__ENVELOPE__BODY_LEASE_GRANT && !e.msg[0])
        abort();
    for (unsigned i = 0; i < n; i++)
        lease_destroy(leases[i]);
    if (env)
        xdc__envelope__free_unpacked(env, NULL);
    return 0;
}
