#include "cli/compare_pairs.h"

#include <errno.h>
#include <stdio.h>
#include "cli/compare_labels.h"
#include "cli/pair_counts.h"
#include "lib/clip.h"

/* Counts of two clusterings; pairs within a video are of one class whatever the clusters are worth, so they
 * are counted apart and left out. */
struct tally {
    struct pair_counts all, video;      /* owned; video: of the one in work */
    struct pair_sum within[PAIR_KINDS]; /* videos that are done */
};

struct counting {
    const struct compare_run *run;
    const struct compare_labels *labels;
    struct clip_holdout holdout;
    struct tally encoders, joint;
    uint64_t clips, no_label, held_out, no_truth; /* each clip is one of these */
};

static int tally_add(struct tally *t, bool alone, uint32_t first, uint32_t second, uint32_t class,
                     struct err *e)
{
    int rc = pair_counts_add(&t->all, first, second, class, e);
    return rc || alone ? rc : pair_counts_add(&t->video, first, second, class, e);
}

static void end_video(struct tally *t)
{
    struct pair_sum sum[PAIR_KINDS];
    pair_counts_take(&t->video, sum);
    for (unsigned i = 0; i < PAIR_KINDS; i++) {
        t->within[i].pairs += sum[i].pairs;
        t->within[i].same_class += sum[i].same_class;
    }
}

static void tally_take(struct tally *t, struct pair_sum out[PAIR_KINDS])
{
    pair_counts_take(&t->all, out);
    for (unsigned i = 0; i < PAIR_KINDS; i++) {
        out[i].pairs -= t->within[i].pairs;
        out[i].same_class -= t->within[i].same_class;
    }
}

static void tally_close(struct tally *t)
{
    pair_counts_close(&t->all);
    pair_counts_close(&t->video);
}

static bool is_there(const struct compare_labels *l, unsigned which)
{
    return l->labeling[which].name[0] != '\0';
}

static int count_clip(struct counting *w, uint64_t clip, uint64_t per_video, struct err *e)
{
    const struct compare_labels *l = w->labels;
    uint32_t label[COMPARE_LABELINGS];
    uint64_t video = clip / per_video;
    uint32_t class = video < w->run->videos ? w->run->truth[video] : LABEL_NONE;
    bool labelled = true;
    for (unsigned i = 0; i < COMPARE_LABELINGS; i++) {
        label[i] = is_there(l, i) ? compare_label(&l->labeling[i], clip) : 0;
        labelled = labelled && label[i] != LABEL_NONE;
    }
    uint64_t *counted = !labelled                              ? &w->no_label
                        : clip_holdout_has(&w->holdout, video) ? &w->held_out
                        : class == LABEL_NONE                  ? &w->no_truth
                                                               : &w->clips;
    ++*counted;
    int rc = 0;
    if (counted == &w->clips && is_there(l, COMPARE_FIRST))
        rc = tally_add(&w->encoders, per_video == 1, label[COMPARE_FIRST], label[COMPARE_SECOND], class, e);
    if (rc == 0 && counted == &w->clips && is_there(l, COMPARE_JOINT))
        rc = tally_add(&w->joint, per_video == 1, label[COMPARE_JOINT], 0, class, e);
    return rc;
}

static int count_all(struct counting *w, struct err *e)
{
    const struct conf *c = &w->run->conf;
    uint64_t per_video = (uint64_t)c->data.clips_per_video;
    int rc = 0;
    clip_holdout_init(&w->holdout, (uint64_t)c->run.seed, c->train.holdout,
                      (uint64_t)c->train.holdout_min_clips, w->labels->clips / per_video,
                      (uint32_t)per_video);
    for (uint64_t clip = 0; rc == 0 && clip < w->labels->clips; clip++) {
        rc = count_clip(w, clip, per_video, e);
        if (per_video > 1 && clip % per_video == per_video - 1) {
            end_video(&w->encoders);
            end_video(&w->joint);
        }
    }
    return rc;
}

static json_t *share(uint64_t part, uint64_t all)
{
    return all ? json_real((double)part / (double)all) : json_null();
}

/* "same_video": {"pairs", "same_class", "p", "lift"}; the lift is p over the base rate. */
static void put_kind(json_t *j, const char *name, const struct pair_sum *s, const struct pair_sum *base)
{
    char key[40];
    double p = s->pairs ? (double)s->same_class / (double)s->pairs : 0;
    double rate = base->pairs ? (double)base->same_class / (double)base->pairs : 0;
    snprintf(key, sizeof key, "same_%s", name);
    json_object_set_new(j, key,
                        json_pack("{s:I, s:I, s:o, s:o}", "pairs", (json_int_t)s->pairs, "same_class",
                                  (json_int_t)s->same_class, "p", share(s->same_class, s->pairs), "lift",
                                  s->pairs && rate > 0 ? json_real(p / rate) : json_null()));
}

static json_t *report(struct counting *w)
{
    const struct compare_labels *l = w->labels;
    bool encoders = is_there(l, COMPARE_FIRST);
    struct pair_sum sum[PAIR_KINDS], joint[PAIR_KINDS];
    tally_take(&w->encoders, sum);
    tally_take(&w->joint, joint);
    const struct tally *any = encoders ? &w->encoders : &w->joint;
    const struct pair_sum *base = encoders ? &sum[PAIRS_ALL] : &joint[PAIRS_ALL];
    json_t *from = json_object();
    for (unsigned i = 0; i < COMPARE_LABELINGS; i++)
        if (is_there(l, i))
            json_object_set_new(from, l->labeling[i].name,
                                json_string(l->labeling[i].made ? "k-means" : "table"));
    json_t *j =
        json_pack("{s:o, s:I, s:{s:I, s:I, s:I}, s:I, s:{s:I, s:I, s:o}}", "labels", from, "clips",
                  (json_int_t)w->clips, "left_out", "no_label", (json_int_t)w->no_label, "held_out",
                  (json_int_t)w->held_out, "no_truth", (json_int_t)w->no_truth, "pairs_within_videos",
                  (json_int_t)any->within[PAIRS_ALL].pairs, "base", "pairs", (json_int_t)base->pairs,
                  "same_class", (json_int_t)base->same_class, "p", share(base->same_class, base->pairs));
    if (encoders) {
        put_kind(j, l->labeling[COMPARE_FIRST].name, &sum[PAIRS_FIRST], base);
        put_kind(j, l->labeling[COMPARE_SECOND].name, &sum[PAIRS_SECOND], base);
        put_kind(j, "both", &sum[PAIRS_BOTH], base);
        put_kind(j, "either", &sum[PAIRS_EITHER], base);
    }
    if (is_there(l, COMPARE_JOINT))
        put_kind(j, l->labeling[COMPARE_JOINT].name, &joint[PAIRS_FIRST], base);
    return j;
}

int compare_pairs(const struct compare_run *r, uint32_t round, bool recluster, json_t *missing, json_t **out,
                  struct err *e)
{
    struct compare_labels labels = {0};
    struct counting w = {.run = r, .labels = &labels};
    *out = NULL;
    int rc = r->truth ? compare_labels_read(&labels, r, round, recluster, missing, e)
                      : compare_say(missing, 0, r->no_truth.msg, e);
    bool any = is_there(&labels, COMPARE_FIRST) || is_there(&labels, COMPARE_JOINT);
    if (rc == 0 && any)
        rc = count_all(&w, e);
    if (rc == 0)
        *out = any ? report(&w) : json_null();
    if (rc == 0 && !*out)
        rc = err_sys(e, ENOMEM, "pairs of round %u", round);
    tally_close(&w.encoders);
    tally_close(&w.joint);
    compare_labels_close(&labels);
    return rc;
}
