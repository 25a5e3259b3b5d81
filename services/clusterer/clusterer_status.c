/* What the clusterer tells about itself. */
#include <unistd.h>
#include "lib/progress.h"
#include "services/clusterer/clusterer.h"

static json_t *wire_json(const struct wire *w)
{
    if (!w)
        return json_null();
    const struct wire_counters *c = wire_counters(w);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "received", (json_int_t)c->received, "sent",
                     (json_int_t)c->sent, "bytes_in", (json_int_t)c->bytes_in, "bytes_out",
                     (json_int_t)c->bytes_out, "malformed", (json_int_t)c->malformed, "oversized",
                     (json_int_t)c->oversized, "unsent", (json_int_t)c->unsent);
}

json_t *clusterer_status(void *clusterer)
{
    struct clusterer *c = clusterer;
    double seconds = progress_now_s() - c->job_start_s;
    double rate = c->working && seconds > 0 ? (double)atomic_load(&c->job.row_passes) / seconds : 0;
    const char *source = c->working ? cluster_source_name(&c->conf, atomic_load(&c->job.source)) : NULL;
    json_t *failed = json_object();
    for (uint32_t i = 0; i < c->rounds.n; i++)
        if (c->rounds.entry[i].state == ROUND_FAILED) {
            char round[16];
            snprintf(round, sizeof round, "%u", c->rounds.entry[i].round);
            json_object_set_new(failed, round, json_string(c->rounds.entry[i].detail));
        }
    json_t *j =
        json_pack("{s:s, s:i, s:s, s:s, s:o, s:s?, s:f, s:I, s:f, s:o, s:O?, s:o, s:{s:o, s:o}}", "daemon",
                  "clusterer", "pid", (int)getpid(), "state",
                  c->working  ? "working"
                  : c->active ? "idle"
                              : "standby",
                  "device", nearest_device_on(c->device) ? c->device->name : "cpu", "round",
                  c->working ? json_integer((json_int_t)c->job.round) : json_null(), "source", source, "done",
                  clusterer_done(c), "tables", (json_int_t)c->tables, "rows_per_s", rate, "failed", failed,
                  "last", c->last, "pull", features_pull_status(&c->features.pull), "wire", "features",
                  wire_json(c->features.links[0].wire), "labels", wire_json(c->labels.wire));
    return j;
}

const char *clusterer_unhealthy(void *clusterer)
{
    struct clusterer *c = clusterer;
    for (uint32_t i = 0; i < c->rounds.n; i++)
        if (c->rounds.entry[i].state == ROUND_FAILED)
            return c->rounds.entry[i].detail;
    const struct features_pull *p = &c->features.pull;
    return p->failed.detail[0] ? p->failed.detail : NULL;
}
