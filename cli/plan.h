/* plan: what a run will cost, counted of its configuration and the number of its videos before anything is
 * decoded. Used by `xdc plan` (cmd_plan.c). Which phases there are, what is trained in each and what the
 * networks take are the trainer's own rules (xdc_trainer_rules, lib/net_cost). Every clip is taken to be
 * sound, every round to be trained to its end and every k-means to take all its iterations: the figures are
 * what a run takes at most. One thread. */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include "lib/conf.h"
#include "lib/net_cost.h"
#include "services/trainer/memory_need.h"
#include "services/trainer/phase.h"
#include "services/trainer/targets.h"

/* plan_videos.c: the videos of the run. */
struct plan_videos {
    bool of_manifest;      /* else what the options say */
    uint64_t all;          /* that the manifest has */
    uint64_t videos, held; /* of the run; of them, held out */
    uint64_t extracted;    /* clips of an extraction */
    double manifest_bytes; /* 0: there is none */
    double seconds;        /* of all of the run together */
    double fps, pixels;    /* of a video, mean */
    uint32_t classes;      /* 0: not known */
};

/* What is said of videos that there is no manifest of; a positive value goes before the manifest's. */
struct plan_said {
    uint64_t videos;
    double seconds, fps, width, height; /* of each */
};

/* Of the manifest, unless `said` has their number. -ENOENT when nothing says how many there are; XDC_ECONF
 * when the configuration leaves none of them, or asks for more. */
int plan_videos(const struct conf *c, const struct plan_said *said, struct plan_videos *out,
                struct err *e) WARN_UNUSED;

/* plan_decode.c: seconds of a core that a decoder takes for a clip, of video, sound or both; scaled from
 * `clips_per_s`, those of PLAN_DECODE_CLIP, by measured shares of picture size, frames and crop. Pure. */
#define PLAN_DECODE_CLIP "8 frames of 112x112 and 2 s of sound, of H.264 of 340x256 at 30 frames/s"
#define PLAN_DECODE_CLIPS_PER_S 81.0 /* 12.3 ms: bench/RESULTS.md, "Decoding", 340x256, GOP 30 */
double plan_decode_s(const struct conf *c, const struct plan_videos *v, bool video, bool audio,
                     double clips_per_s);

/* An encoder and its heads; everything of one clip. */
struct plan_encoder {
    const char *name; /* static */
    enum net_encoder sees;
    bool wanted; /* false: its features are not asked for */
    bool given;  /* it starts from a file */
    struct net_cost net, head;
    uint32_t heads; /* 0 where their classes are not known */
};

/* A phase of a round. */
struct plan_phase {
    enum phase phase; /* PHASE_LABELS: the clustering */
    uint32_t round;
    double clips;              /* that go through the encoders; of two streams each counts half */
    double flop[NET_ENCODERS]; /* with heads */
    double cluster_flop;
    double samples, decode_s, bytes; /* decoded and sent: clips, seconds of a core, bytes */
};

struct run_plan {
    struct conf conf;
    struct plan_videos videos;
    struct targets_method method;
    struct net_spec spec;
    struct plan_encoder encoder[NET_ENCODERS];
    double clips, held;  /* of the run */
    double gpu_flop_s;   /* of one GPU */
    double decode_rate;  /* clips/s of a core, see plan_decode_s */
    double sample_bytes; /* of a clip with all that the encoders see */
    uint32_t sources;    /* that are clustered in a round */
    double trained;      /* positions of all epochs, with those that are held out */
    double steps;
    struct plan_phase *phases; /* owned */
    size_t n;
};

/* plan_count.c: fills *out. conf, videos, gpu_flop_s and decode_rate are there already. -ENOMEM. */
int plan_count(struct run_plan *p, struct err *e) WARN_UNUSED;
void plan_close(struct run_plan *p);
/* A clip's part in a training step, with the heads. */
double plan_step_flop(const struct conf *c, const struct plan_encoder *x);
/* The sum of all rounds of a phase; `round` is their number. PHASE_DONE: of everything. */
struct plan_phase plan_sum(const struct run_plan *p, enum phase phase);
/* Hours of one GPU, and cores that must decode for as many GPUs as the run has ranks to have no wait; 0 where
 * nothing is computed. */
double plan_gpu_hours(const struct run_plan *p, const struct plan_phase *x);
double plan_cores(const struct run_plan *p, const struct plan_phase *x);

/* plan_disk.c: bytes, and what they follow from. */
#define PLAN_BYTES_MAX 12
struct plan_bytes {
    size_t n;
    struct {
        const char *name; /* static, a word */
        double bytes;
        char how[160];
    } part[PLAN_BYTES_MAX];
    double total;
};
void plan_disk(const struct run_plan *p, struct plan_bytes *out);
void plan_memory(const struct run_plan *p, struct plan_bytes *trainer, struct plan_bytes *clusterer);

/* plan_report.c: what people read: the networks, phases, bytes, and what the figures stand on. */
void plan_print(const struct run_plan *p, FILE *f);
/* plan_json.c. NULL without memory. */
json_t *plan_json(const struct run_plan *p);
