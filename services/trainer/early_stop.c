#include "services/trainer/early_stop.h"

#include <math.h>

bool early_stop_note(struct early_stop *s, const struct early_stop_rule *r, uint32_t epochs, double loss)
{
    if (s->stopped)
        return false;
    if (isfinite(loss)) {
        s->best = s->measured ? fmin(s->best, loss) : loss;
        s->measured++;
    }
    if (epochs < r->warmup || (epochs - r->warmup) % r->period != 0 || s->measured == 0)
        return false;
    s->stopped = s->bounded && s->before - s->best < r->least;
    s->bounded = true;
    s->before = s->best;
    return s->stopped;
}

json_t *early_stop_to_json(const struct early_stop *s, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        json_t *one =
            json_pack("{s:i, s:f, s:b, s:f, s:b}", "measured", (int)s[i].measured, "best", s[i].best,
                      "bounded", s[i].bounded, "before", s[i].before, "stopped", s[i].stopped);
        if (json_array_append_new(list, one) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int early_stop_from_json(const json_t *j, struct early_stop *s, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        int measured, bounded, stopped;
        json_t *one = json_array_get(j, i);
        if (!one || json_unpack(one, "{s:i, s:F, s:b, s:F, s:b}", "measured", &measured, "best", &s[i].best,
                                "bounded", &bounded, "before", &s[i].before, "stopped", &stopped) < 0)
            return err_set(e, XDC_EFORMAT, "the losses on the hold-out lack a field or have a wrong one");
        s[i].measured = (uint32_t)measured;
        s[i].bounded = bounded;
        s[i].stopped = stopped;
    }
    return 0;
}
