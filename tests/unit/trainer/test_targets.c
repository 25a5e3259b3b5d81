/* targets: the table of methods is the one of the architecture, labels come from the sources it names, and
 * what does not fit is refused by name. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/lib/small_net.h"
#include "tests/unit/trainer/tables.h"

enum { CLIPS = 300, K_VIDEO = 5, K_AUDIO = 7, K_JOINT = 3 };

static const char *const all_names[] = {"video", "audio", "joint"};
static const uint32_t all_k[] = {K_VIDEO, K_AUDIO, K_JOINT};

/* Labels of source s: scattered, one clip in eight without. */
static uint32_t label_of(uint32_t s, uint64_t clip)
{
    uint64_t x = rng_key(40 + s, "label", clip, 0, 0);
    return x % 8 == 0 ? LABEL_NONE : (uint32_t)(x / 8 % all_k[s]);
}

/* A table of the first `sources` of video, audio, joint. */
static struct label_table *make(uint32_t sources)
{
    static uint32_t labels[3][CLIPS];
    for (uint32_t s = 0; s < 3; s++)
        for (uint64_t c = 0; c < CLIPS; c++)
            labels[s][c] = label_of(s, c);
    return table_make(sources, all_names, all_k, (const uint32_t *const[]){labels[0], labels[1], labels[2]},
                      CLIPS);
}

static struct targets adopt(int64_t method, struct label_table *table)
{
    struct targets t;
    struct err e = {0};
    if (targets_adopt(&t, method_of(method), table, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

/* Row by row: who learns whose labels, and whether the clusterer makes them. */
static void methods_are_the_architectures(void **state)
{
    (void)state;
    static const struct {
        int64_t method;
        const char *name;
        bool clusters;
        uint32_t heads;
        const char *video[TARGETS_MAX], *audio[TARGETS_MAX];
    } rows[] = {{METHOD_SDC, "sdc", true, 1, {"video"}, {"audio"}},
                {METHOD_MDC, "mdc", true, 2, {"video", "audio"}, {"audio", "video"}},
                {METHOD_CDC, "cdc", true, 1, {"joint"}, {"joint"}},
                {METHOD_XDC, "xdc", true, 1, {"audio"}, {"video"}},
                {METHOD_SUPERVISED, "supervised", false, 1, {"truth"}, {"truth"}},
                {METHOD_SAME_MODALITY, "same-modality", true, 1, {"video-b"}, {"video-a"}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct targets_method *m = method_of(rows[i].method);
        assert_string_equal(m->name, rows[i].name);
        assert_int_equal(m->clusters, rows[i].clusters);
        assert_int_equal(m->heads[NET_VIDEO], rows[i].heads);
        assert_int_equal(m->heads[NET_AUDIO], rows[i].heads);
        for (uint32_t h = 0; h < rows[i].heads; h++) {
            assert_string_equal(m->source[NET_VIDEO][h], rows[i].video[h]);
            assert_string_equal(m->source[NET_AUDIO][h], rows[i].audio[h]);
        }
    }
}

/* Of selavi every head of both encoders learns a source of its own, heads go on, and groups are passes. */
static void selavi_has_a_source_for_each_head(void **state)
{
    (void)state;
    const struct targets_method *m = method_of(METHOD_SELAVI);
    assert_int_equal(m->heads[NET_VIDEO], 3);
    assert_int_equal(m->heads[NET_AUDIO], 3);
    assert_int_equal(m->groups, 2);
    assert_true(m->keeps_heads && m->clusters);
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        assert_string_equal(m->source[enc][0], "joint-h0");
        assert_string_equal(m->source[enc][2], "joint-h2");
        assert_null(m->source[enc][3]);
    }
    assert_false(method_of(METHOD_XDC)->keeps_heads);
    assert_int_equal(method_of(METHOD_XDC)->groups, 0);
}

/* Both encoders of same-modality see what it says, under names of their own, and learn from each other. */
static void same_modality_follows_its_key(void **state)
{
    (void)state;
    struct conf *c = calloc(1, sizeof *c);
    struct targets_method m;
    assert_non_null(c);
    c->method = METHOD_SAME_MODALITY;
    for (int audio = 0; audio < 2; audio++) {
        c->same.modality = audio ? MODALITY_AUDIO : MODALITY_VIDEO;
        targets_method(c, &m);
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
            assert_int_equal(net_modality(m.pair, (enum net_encoder)enc), audio ? NET_AUDIO : NET_VIDEO);
            assert_string_equal(m.source[enc][0], net_encoder_name(m.pair, (enum net_encoder)(1 - enc)));
        }
    }
    assert_string_equal(net_encoder_name(m.pair, NET_VIDEO), "audio-a");
    free(c);
}

/* Labels of another run: those of its newest table; not of another manifest, of other clips or, as its record
 * tells, of other moments. */
static void given_labels_must_be_of_these_clips(void **state)
{
    (void)state;
    static const char record[] = "{\"config\": {\"run.seed\": \"%d\", \"data.clips_per_video\": \"2\", "
                                 "\"video.frames\": \"8\", \"video.fps\": \"30\"}}";
    char path[128], text[256];
    struct targets t = {0};
    struct err e = {0};
    struct conf *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->run.seed = 4;
    c->data.clips_per_video = 2;
    c->video.frames = 8;
    c->video.fps = 30;
    label_table_close(make(2)); /* manifest 2 */
    snprintf(c->labels.from, sizeof c->labels.from, "%s", table_path());
    assert_int_equal(targets_given(&t, method_of(METHOD_XDC), c, 2, CLIPS, &e), 0);
    assert_int_equal(targets_label(&t, NET_VIDEO, 0, 7), label_of(1, 7));
    targets_close(&t);
    assert_int_equal(targets_given(&t, method_of(METHOD_XDC), c, 3, CLIPS, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "manifest"));
    assert_int_equal(targets_given(&t, method_of(METHOD_XDC), c, 2, CLIPS + 1, &e), XDC_EMISMATCH);
    assert_int_equal(targets_given(&t, method_of(METHOD_CDC), c, 2, CLIPS, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "no source joint"));

    snprintf(path, sizeof path, "%s/labels", tables_dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/labels/round-0007.xdcl", tables_dir);
    assert_int_equal(link(table_path(), path), 0);
    snprintf(c->labels.from, sizeof c->labels.from, "%s", tables_dir);
    for (int seed = 4; seed < 6; seed++) {
        snprintf(text, sizeof text, record, seed);
        snprintf(path, sizeof path, "%s/run.json", tables_dir);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
        int rc = targets_given(&t, method_of(METHOD_XDC), c, 2, CLIPS, &e);
        assert_int_equal(rc, seed == 4 ? 0 : XDC_EMISMATCH);
        targets_close(&t);
        c->data.clip_times = CLIP_UNIFORM; /* the record is of a run from before there was a choice */
        if (seed == 4)
            assert_int_equal(targets_given(&t, method_of(METHOD_XDC), c, 2, CLIPS, &e), XDC_EMISMATCH);
        c->data.clip_times = CLIP_RANDOM;
    }
    assert_non_null(strstr(e.msg, "its run.seed is 5, here it is 4"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(targets_given(&t, method_of(METHOD_XDC), c, 2, CLIPS, &e), -ENOENT);
    snprintf(path, sizeof path, "%s/labels/round-0007.xdcl", tables_dir);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/labels", tables_dir);
    assert_int_equal(rmdir(path), 0);
    table_drop();
    free(c);
}

/* Every method's labels, classes and counts are those of the sources that it names, in a table that has all
 * of them. */
static void labels_come_from_the_named_sources(void **state)
{
    (void)state;
    static const int64_t methods[] = {METHOD_SDC, METHOD_MDC, METHOD_CDC, METHOD_XDC};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        struct targets t = adopt(methods[i], make(3));
        assert_int_equal(t.clips, CLIPS);
        assert_int_equal(t.hash, label_table_info(t.table)->hash);
        for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
            for (uint32_t h = 0; h < t.method->heads[enc]; h++) {
                const char *source = t.method->source[enc][h];
                uint32_t s = source[0] == 'v' ? 0 : source[0] == 'a' ? 1 : 2;
                uint64_t counts[8] = {0}, labelled = 0;
                assert_int_equal(t.classes[enc][h], all_k[s]);
                for (uint64_t c = 0; c < CLIPS; c++) {
                    uint32_t label = label_of(s, c);
                    assert_int_equal(targets_label(&t, (enum net_encoder)enc, h, c), label);
                    if (label != LABEL_NONE)
                        counts[label]++, labelled++;
                }
                assert_int_equal(t.labelled[enc][h], labelled);
                assert_memory_equal(t.counts[enc][h], counts, all_k[s] * sizeof counts[0]);
                assert_int_equal(targets_label(&t, (enum net_encoder)enc, h, CLIPS), LABEL_NONE);
            }
        }
        targets_close(&t);
        table_drop();
    }
}

/* A clip counts as labelled when any head of the encoder has a label for it. */
static void labelled_means_any_head(void **state)
{
    (void)state;
    struct targets mdc = adopt(METHOD_MDC, make(2)), xdc = adopt(METHOD_XDC, make(2));
    unsigned only_one = 0;
    for (uint64_t c = 0; c < CLIPS; c++) {
        bool v = label_of(0, c) != LABEL_NONE, a = label_of(1, c) != LABEL_NONE;
        assert_int_equal(targets_labelled(&mdc, NET_VIDEO, c), v || a);
        assert_int_equal(targets_labelled(&xdc, NET_VIDEO, c), a);
        assert_int_equal(targets_labelled(&xdc, NET_AUDIO, c), v);
        only_one += v != a;
    }
    assert_true(only_one > 10);
    assert_false(targets_labelled(&mdc, NET_VIDEO, CLIPS));
    targets_close(&mdc);
    targets_close(&xdc);
    table_drop();
}

/* One encoder trained for a few steps on synthetic clips by the labels of `t`; the hash of both encoders. */
static uint64_t train_video(const struct targets *t)
{
    enum { B = 4, P = 16, STEPS = 3, VIDEO = FRAMES * P * P * 3 };
    const struct net_spec spec = SMALL_NET(4, P, 1);
    struct net_sgd sgd = {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true};
    static uint8_t frames[B * VIDEO];
    struct net *net;
    struct err e = {0};
    uint64_t seed = 8, hash;
    if (net_create(&spec, &net, &e) < 0 ||
        net_reset_heads(net, NET_VIDEO, NET_HEAD_LINEAR, 1, t->classes[NET_VIDEO], &seed, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint64_t step = 0; step < STEPS; step++) {
        int64_t y[B];
        struct net_step out;
        for (uint64_t i = 0; i < B; i++) {
            uint32_t label = targets_label(t, NET_VIDEO, 0, step * B + i);
            y[i] = label == LABEL_NONE ? -1 : (int64_t)label;
            small_noise(step * B + i, frames + i * VIDEO, VIDEO, NULL, 0);
        }
        struct net_batch batch = {B, frames};
        if (net_train_step(net, NET_VIDEO, &batch, (const int64_t *const[]){y}, NULL, &sgd, &out, &e) < 0)
            fail_msg("%s", e.msg);
    }
    assert_int_equal(net_hash(net, &hash, &e), 0);
    net_destroy(net);
    return hash;
}

/* algorithms.md 9, method wiring: XDC's video encoder on y^a is SDC's on y^v := y^a, bit for bit; on its own
 * y^v it is not. */
static void xdc_is_sdc_on_the_other_labels(void **state)
{
    (void)state;
    static uint32_t labels[2][CLIPS];
    for (uint64_t c = 0; c < CLIPS; c++) {
        labels[0][c] = label_of(0, c);
        labels[1][c] = label_of(1, c);
    }
    struct targets xdc = adopt(METHOD_XDC, make(2)), own = adopt(METHOD_SDC, make(2));
    struct targets sdc =
        adopt(METHOD_SDC, table_make(2, all_names, (const uint32_t[]){K_AUDIO, K_VIDEO},
                                     (const uint32_t *const[]){labels[1], labels[0]}, CLIPS));
    for (unsigned enc = 0; enc < NET_ENCODERS; enc++) {
        assert_int_equal(xdc.classes[enc][0], sdc.classes[enc][0]);
        assert_memory_equal(xdc.counts[enc][0], sdc.counts[enc][0], xdc.classes[enc][0] * sizeof(uint64_t));
        for (uint64_t c = 0; c < CLIPS; c++)
            assert_int_equal(targets_label(&xdc, (enum net_encoder)enc, 0, c),
                             targets_label(&sdc, (enum net_encoder)enc, 0, c));
    }
    uint64_t hash = train_video(&xdc);
    assert_int_equal(train_video(&sdc), hash);
    assert_int_not_equal(train_video(&own), hash);
    targets_close(&xdc);
    targets_close(&sdc);
    targets_close(&own);
    table_drop();
}

/* A method whose source the table lacks is refused, with both names, and everything is closed. */
static void missing_sources_are_named(void **state)
{
    (void)state;
    static const struct {
        int64_t method;
        uint32_t sources;
        const char *says;
    } rows[] = {{METHOD_XDC, 1, "no source audio, which method xdc needs"},
                {METHOD_SDC, 1, "no source audio, which method sdc needs"},
                {METHOD_MDC, 1, "no source audio, which method mdc needs"},
                {METHOD_CDC, 2, "no source joint, which method cdc needs"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct targets t;
        struct err e = {0};
        assert_int_equal(targets_adopt(&t, method_of(rows[i].method), make(rows[i].sources), &e),
                         XDC_EMISMATCH);
        assert_non_null(strstr(e.msg, rows[i].says));
        assert_null(t.table);
        table_drop();
    }
}

/* A source without a single label cannot be learnt. */
static void a_source_without_labels_is_refused(void **state)
{
    (void)state;
    uint32_t some[CLIPS], none[CLIPS];
    struct targets t;
    struct err e = {0};
    for (unsigned c = 0; c < CLIPS; c++) {
        some[c] = c % 2;
        none[c] = LABEL_NONE;
    }
    struct label_table *table =
        table_make(2, all_names, (const uint32_t[]){2, 2}, (const uint32_t *const[]){some, none}, CLIPS);
    assert_int_equal(targets_adopt(&t, method_of(METHOD_XDC), table, &e), XDC_EMISMATCH);
    assert_non_null(strstr(e.msg, "no clip has a label of source audio"));
    table_drop();
}

/* A label that is not below k would index beyond the head: refused with clip and k, also when the file
 * changes under the map after it was opened and checked. */
static void labels_beyond_k_are_refused(void **state)
{
    (void)state;
    struct targets t;
    struct err e = {0};
    struct label_table *table = make(2);
    int fd = open(table_path(), O_WRONLY);
    uint8_t wrong = K_AUDIO;
    off_t size = lseek(fd, 0, SEEK_END);
    /* the last source's last clip: one byte a label, the hash behind it */
    assert_int_equal(pwrite(fd, &wrong, 1, size - 8 - 1), 1);
    close(fd);
    assert_int_equal(targets_adopt(&t, method_of(METHOD_XDC), table, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "label 7 of clip 299 is not below k = 7"));
    assert_null(t.table);
    table_drop();
}

/* balance: weight: N / (k n_c), so that every class weighs the same and the weights' sum over clips is N. */
static void weights_even_out_the_classes(void **state)
{
    (void)state;
    uint32_t labels[CLIPS];
    static const uint32_t k[] = {4, 4};
    for (unsigned c = 0; c < CLIPS; c++) /* 30 unlabelled; classes of 200, 60, 10 and none */
        labels[c] = c < 30 ? LABEL_NONE : c < 230 ? 0 : c < 290 ? 1 : 2;
    struct targets t =
        adopt(METHOD_SDC, table_make(2, all_names, k, (const uint32_t *const[]){labels, labels}, CLIPS));
    static const double want[] = {270.0 / (4 * 200), 270.0 / (4 * 60), 270.0 / (4 * 10)};
    for (uint32_t label = 0; label < 3; label++)
        assert_true(targets_weight(&t, NET_VIDEO, 0, label) == (float)want[label]);
    assert_true(targets_weight(&t, NET_VIDEO, 0, 3) == 0.0f);
    targets_close(&t);
    table_drop();
}

/* A manifest of n videos; truth i % 3 but none for each fourth, when `classes`. */
static struct manifest *make_manifest(uint32_t n, bool classes)
{
    static const char *const names[] = {"bark", "rain", "siren"};
    char path[96];
    struct manifest *m;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/manifest.lmdb", tables_dir);
    assert_int_equal(manifest_create(path, tables_dir, &m, &e), 0);
    struct manifest_video *v = calloc(1, sizeof *v);
    assert_non_null(v);
    for (uint32_t i = 0; i < n; i++) {
        *v = (struct manifest_video){.size_bytes = 10, .duration_s = 3, .fps = 30, .truth = -1};
        snprintf(v->uri, sizeof v->uri, "%04u.mp4", i);
        if (classes && i % 4 != 3)
            assert_int_equal(manifest_class(m, names[i % 3], &v->truth, &e), 0);
        assert_int_equal(manifest_append(m, v, &e), 0);
    }
    free(v);
    if (manifest_commit(m, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(unlink(path), 0);
    return m;
}

/* Truth is the manifest's label for all clips of a video, the same for both encoders; its hash is of the
 * labels. */
static void truth_is_the_manifests(void **state)
{
    (void)state;
    enum { VIDEOS = 40, PER_VIDEO = 3 };
    struct manifest *m = make_manifest(VIDEOS, true), *half = make_manifest(VIDEOS / 2, true);
    struct targets t, again, other;
    struct err e = {0};
    assert_int_equal(targets_truth(&t, method_of(METHOD_SUPERVISED), m, PER_VIDEO, &e), 0);
    assert_int_equal(t.clips, VIDEOS * PER_VIDEO);
    for (uint64_t c = 0; c < VIDEOS * PER_VIDEO + 1; c++) {
        uint64_t v = c / PER_VIDEO;
        uint32_t want = v < VIDEOS && v % 4 != 3 ? (uint32_t)(v % 3) : LABEL_NONE;
        assert_int_equal(targets_label(&t, NET_VIDEO, 0, c), want);
        assert_int_equal(targets_label(&t, NET_AUDIO, 0, c), want);
        assert_int_equal(targets_labelled(&t, NET_AUDIO, c), want != LABEL_NONE);
    }
    assert_int_equal(t.classes[NET_AUDIO][0], 3);
    assert_int_equal(t.labelled[NET_AUDIO][0], 30 * PER_VIDEO);
    assert_int_equal(targets_truth(&again, method_of(METHOD_SUPERVISED), m, PER_VIDEO, &e), 0);
    assert_int_equal(targets_truth(&other, method_of(METHOD_SUPERVISED), half, PER_VIDEO, &e), 0);
    assert_int_equal(again.hash, t.hash);
    assert_int_not_equal(other.hash, t.hash);
    targets_close(&t);
    targets_close(&again);
    targets_close(&other);
    manifest_close(m);
    manifest_close(half);
}

/* A manifest without classes cannot supervise; the sentence names the option that makes them. */
static void truth_needs_labels(void **state)
{
    (void)state;
    struct manifest *m = make_manifest(5, false);
    struct targets t;
    struct err e = {0};
    assert_int_equal(targets_truth(&t, method_of(METHOD_SUPERVISED), m, 1, &e), XDC_ECONF);
    assert_non_null(strstr(e.msg, "xdc index --labels"));
    targets_close(&t);
    manifest_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_the_architectures),
        cmocka_unit_test(selavi_has_a_source_for_each_head),
        cmocka_unit_test(same_modality_follows_its_key),
        cmocka_unit_test(given_labels_must_be_of_these_clips),
        cmocka_unit_test(labels_come_from_the_named_sources),
        cmocka_unit_test(labelled_means_any_head),
        cmocka_unit_test(xdc_is_sdc_on_the_other_labels),
        cmocka_unit_test(missing_sources_are_named),
        cmocka_unit_test(a_source_without_labels_is_refused),
        cmocka_unit_test(labels_beyond_k_are_refused),
        cmocka_unit_test(weights_even_out_the_classes),
        cmocka_unit_test(truth_is_the_manifests),
        cmocka_unit_test(truth_needs_labels),
    };
    return cmocka_run_group_tests(tests, tables_setup, tables_teardown);
}
