/* Made-up clips: pure functions of their seed, as hard as they are meant to be, and real files when written.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "lib/fsutil.h"
#include "lib/media/logmel.h"
#include "lib/media/synth.h"
#include "lib/rng.h"

#define CLASSES 8
#define VIDEOS 240
#define SIDE 32
#define PIXELS (SIDE * SIDE)
#define RESTARTS 20

static char dir[] = "/tmp/xdc-test-synth-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static void *must_alloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* Same seed and index: same clip, frames and sound; another seed or index: others. */
static void test_pure(void **state)
{
    (void)state;
    struct synth_clip a, b, c, d;
    synth_clip_init(&a, 7, 12, CLASSES);
    synth_clip_init(&b, 7, 12, CLASSES);
    synth_clip_init(&c, 8, 12, CLASSES);
    synth_clip_init(&d, 7, 13, CLASSES);
    assert_int_equal(a.label, b.label);
    assert_int_equal(a.frames, b.frames);
    assert_int_equal(a.samples, b.samples);
    size_t picture = (size_t)SYNTH_WIDTH_MAX * SYNTH_HEIGHT_MAX * 3;
    uint8_t *frames = must_alloc(4, picture);
    struct synth_clip *clips[4] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++) {
        clips[i]->width = SYNTH_WIDTH_MAX;
        clips[i]->height = SYNTH_HEIGHT_MAX;
        synth_frame(clips[i], 5, frames + (size_t)i * picture);
    }
    assert_memory_equal(frames, frames + picture, picture);
    assert_memory_not_equal(frames, frames + 2 * picture, picture);
    assert_memory_not_equal(frames, frames + 3 * picture, picture);
    float *first = must_alloc(a.samples, sizeof *first), *second = must_alloc(a.samples, sizeof *second);
    synth_sound(&a, first);
    synth_sound(&b, second);
    assert_memory_equal(first, second, a.samples * sizeof *first);
    float peak = 0;
    for (uint32_t i = 0; i < a.samples; i++)
        peak = fmaxf(peak, fabsf(first[i]));
    assert_true(peak > 0.05F && peak <= 1);
    free(first);
    free(second);
    free(frames);
}

/* Forms stay in their ranges, and both splits have their classes in equal shares, for several numbers of
 * classes. */
static void test_forms_and_balance(void **state)
{
    (void)state;
    static const uint32_t counts[] = {2, 5, 8, 13, SYNTH_CLASSES_MAX};
    for (size_t n = 0; n < sizeof counts / sizeof counts[0]; n++) {
        uint32_t seen[2][SYNTH_CLASSES_MAX] = {{0}}, large = 0;
        uint32_t videos = counts[n] * 50;
        for (uint32_t i = 0; i < videos; i++) {
            struct synth_clip c;
            synth_clip_init(&c, 3, i, counts[n]);
            assert_true(c.label < counts[n]);
            assert_true(c.frames >= 75 && c.frames <= 180);
            assert_true(c.gop >= 30 && c.gop <= 60);
            assert_true(c.sample_rate == 16000 || c.sample_rate == 44100);
            assert_int_equal(c.samples, c.frames * c.sample_rate / SYNTH_FPS);
            assert_true((c.width == 160 && c.height == 120) || (c.width == 176 && c.height == 144));
            large += c.width == 176;
            seen[synth_is_test(i)][c.label]++;
        }
        assert_true(large > videos / 4 && large < videos * 3 / 4);
        for (uint32_t k = 0; k < counts[n]; k++) {
            assert_int_equal(seen[false][k], 40);
            assert_int_equal(seen[true][k], 10);
        }
    }
}

/* Inner products of n rows of d numbers, centred: k-means needs no more. */
static double *gram(const float *rows, uint32_t n, uint32_t d)
{
    double *g = must_alloc((size_t)n * n, sizeof *g), *mean = must_alloc(d, sizeof *mean);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < d; j++)
            mean[j] += rows[(size_t)i * d + j] / (double)n;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            double sum = 0;
            for (uint32_t m = 0; m < d; m++)
                sum += (rows[(size_t)i * d + m] - mean[m]) * (rows[(size_t)j * d + m] - mean[m]);
            g[i * n + j] = g[j * n + i] = sum;
        }
    }
    free(mean);
    return g;
}

/* Nearest centroid of every row for the clusters in `y`; returns the sum of squared distances. */
static double reassign(const double *g, uint32_t n, uint32_t *y)
{
    double size[CLASSES] = {0}, own[CLASSES] = {0}, sum = 0;
    double *to = must_alloc((size_t)n * CLASSES, sizeof *to); /* sum of inner products with the members */
    for (uint32_t i = 0; i < n; i++)
        size[y[i]]++;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            to[i * CLASSES + y[j]] += g[i * n + j];
    for (uint32_t i = 0; i < n; i++)
        own[y[i]] += to[i * CLASSES + y[i]];
    for (uint32_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (uint32_t k = 0; k < CLASSES; k++) {
            if (size[k] == 0)
                continue;
            double d = g[i * n + i] - 2 * to[i * CLASSES + k] / size[k] + own[k] / (size[k] * size[k]);
            if (d < best) {
                best = d;
                y[i] = k;
            }
        }
        sum += best;
    }
    free(to);
    return sum;
}

/* k-means++ seeds, then every row to its nearest seed. */
static void seed_clusters(const double *g, uint32_t n, struct rng *r, uint32_t *y)
{
    double *d = must_alloc(n, sizeof *d);
    for (uint32_t i = 0; i < n; i++)
        d[i] = INFINITY;
    uint32_t seed = (uint32_t)rng_below(r, n);
    for (uint32_t k = 0; k < CLASSES; k++) {
        double total = 0;
        for (uint32_t i = 0; i < n; i++) {
            double to = g[i * n + i] - 2 * g[i * n + seed] + g[seed * n + seed];
            if (to < d[i]) {
                d[i] = to;
                y[i] = k;
            }
            total += d[i];
        }
        double at = rng_uniform(r) * total;
        for (seed = 0; seed + 1 < n && at >= d[seed]; seed++)
            at -= d[seed];
    }
    free(d);
}

/* The best of RESTARTS runs of k-means on the rows whose inner products g holds. */
static void kmeans(const double *g, uint32_t n, uint32_t *out)
{
    uint32_t *y = must_alloc(n, sizeof *y);
    double best = INFINITY;
    struct rng r;
    rng_init(&r, rng_key(0, "test-kmeans", 0, 0, 0));
    for (int run = 0; run < RESTARTS; run++) {
        seed_clusters(g, n, &r, y);
        double now = reassign(g, n, y), before = INFINITY;
        for (int i = 0; i < 100 && now < before * (1 - 1e-9); i++) {
            before = now;
            now = reassign(g, n, y);
        }
        if (now < best) {
            best = now;
            memcpy(out, y, n * sizeof *y);
        }
    }
    free(y);
}

static double entropy(const double *counts, double n)
{
    double h = 0;
    for (int i = 0; i < CLASSES; i++)
        if (counts[i] > 0)
            h -= counts[i] / n * log(counts[i] / n);
    return h;
}

/* What the mutual information of two labellings with these counts is by chance: hypergeometric, as
 * scikit-learn has it. */
static double expected_information(const double *a, const double *b, double n)
{
    double sum = 0;
    for (int i = 0; i < CLASSES; i++) {
        for (int j = 0; j < CLASSES; j++) {
            double rest = lgamma(a[i] + 1) + lgamma(b[j] + 1) + lgamma(n - a[i] + 1) + lgamma(n - b[j] + 1) -
                          lgamma(n + 1);
            for (double m = fmax(1, a[i] + b[j] - n); m <= fmin(a[i], b[j]); m++)
                sum += m / n * log(n * m / (a[i] * b[j])) *
                       exp(rest - lgamma(m + 1) - lgamma(a[i] - m + 1) - lgamma(b[j] - m + 1) -
                           lgamma(n - a[i] - b[j] + m + 1));
        }
    }
    return sum;
}

/* Adjusted mutual information, normalised by the mean entropy. */
static double ami(const uint32_t *x, const uint32_t *y, uint32_t n)
{
    double both[CLASSES][CLASSES] = {{0}}, a[CLASSES] = {0}, b[CLASSES] = {0}, information = 0;
    for (uint32_t i = 0; i < n; i++) {
        both[x[i]][y[i]]++;
        a[x[i]]++;
        b[y[i]]++;
    }
    for (int i = 0; i < CLASSES; i++)
        for (int j = 0; j < CLASSES; j++)
            if (both[i][j] > 0)
                information += both[i][j] / n * log(n * both[i][j] / (a[i] * b[j]));
    double chance = expected_information(a, b, n);
    return (information - chance) / ((entropy(a, n) + entropy(b, n)) / 2 - chance);
}

/* The yardstick itself: 1 for the same partition under other names, and two values worked out with NumPy. */
static void test_ami(void **state)
{
    (void)state;
    static const uint32_t x[12] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2};
    static const uint32_t renamed[12] = {5, 5, 5, 5, 0, 0, 0, 0, 3, 3, 3, 3};
    static const uint32_t similar[12] = {0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0};
    static const uint32_t unlike[12] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    assert_true(fabs(ami(x, renamed, 12) - 1) < 1e-9);
    assert_true(fabs(ami(x, similar, 12) - 0.3500664905474498) < 1e-9);
    assert_true(fabs(ami(x, unlike, 12) - -0.4117748299575841) < 1e-9);
}

/* Adds a frame's middle square, scaled to SIDE x SIDE by nearest pixels, to rgb [PIXELS, 3] and gray
 * [PIXELS]. */
static void add_frame(const struct synth_clip *c, const uint8_t *frame, float *rgb, float *gray)
{
    uint32_t left = (c->width - c->height) / 2;
    for (uint32_t p = 0; p < PIXELS; p++) {
        uint32_t y = (2 * (p / SIDE) + 1) * c->height / (2 * SIDE),
                 x = (2 * (p % SIDE) + 1) * c->height / (2 * SIDE);
        const uint8_t *at = frame + ((size_t)y * c->width + left + x) * 3;
        for (int i = 0; i < 3; i++) {
            rgb[p * 3 + (uint32_t)i] += at[i];
            gray[p] += at[i];
        }
    }
}

/* Mean pictures of eight frames at 10 fps, and the log-mel of the first two seconds, of all clips of a seed.
 */
static void describe(uint64_t seed, float *rgb, float *gray, float *mel, uint32_t *labels)
{
    uint8_t *frame = must_alloc((size_t)SYNTH_WIDTH_MAX * SYNTH_HEIGHT_MAX, 3);
    float *wave = must_alloc(LOGMEL_SAMPLES, sizeof *wave);
    struct logmel *front;
    struct err e;
    assert_int_equal(logmel_create(&front, &e), 0);
    for (uint32_t i = 0; i < VIDEOS; i++) {
        struct synth_clip c;
        synth_clip_init(&c, seed, i, CLASSES);
        labels[i] = c.label;
        for (uint32_t t = 0; t < 8; t++) {
            synth_frame(&c, t * 3, frame);
            add_frame(&c, frame, rgb + (size_t)i * PIXELS * 3, gray + (size_t)i * PIXELS);
        }
        c.sample_rate = LOGMEL_RATE;
        c.samples = LOGMEL_SAMPLES;
        synth_sound(&c, wave);
        logmel_compute(front, MEDIA_FRONTEND_LOGMEL, wave, mel + (size_t)i * MEDIA_AUDIO_FLOATS);
    }
    logmel_destroy(front);
    free(wave);
    free(frame);
}

static double cluster_quality(const float *rows, uint32_t d, const uint32_t *labels)
{
    uint32_t found[VIDEOS];
    double *g = gram(rows, VIDEOS, d);
    kmeans(g, VIDEOS, found);
    free(g);
    return ami(labels, found, VIDEOS);
}

/* Clustering what meets the eye or the ear finds few of the classes: mean pictures next to none, the
 * spectrogram enough to begin with. A run that ends with good clusters has learnt them. */
static void test_difficulty(void **state)
{
    (void)state;
    float *rgb = must_alloc((size_t)VIDEOS * PIXELS * 3, sizeof *rgb);
    float *gray = must_alloc((size_t)VIDEOS * PIXELS, sizeof *gray);
    float *mel = must_alloc((size_t)VIDEOS * MEDIA_AUDIO_FLOATS, sizeof *mel);
    for (uint64_t seed = 0; seed < 3; seed++) {
        uint32_t labels[VIDEOS];
        memset(rgb, 0, (size_t)VIDEOS * PIXELS * 3 * sizeof *rgb);
        memset(gray, 0, (size_t)VIDEOS * PIXELS * sizeof *gray);
        describe(seed, rgb, gray, mel, labels);
        double by_rgb = cluster_quality(rgb, PIXELS * 3, labels);
        double by_gray = cluster_quality(gray, PIXELS, labels);
        double by_mel = cluster_quality(mel, MEDIA_AUDIO_FLOATS, labels);
        print_message("seed %d: AMI %.3f by mean picture, %.3f by mean gray picture, %.3f by log-mel\n",
                      (int)seed, by_rgb, by_gray, by_mel);
        assert_true(by_rgb <= 0.2);
        assert_true(by_gray <= 0.2);
        assert_true(by_mel <= 0.45);
        assert_true(by_mel >= 0.15);
    }
    free(rgb);
    free(gray);
    free(mel);
}

/* What a file holds, found out by decoding all of it. */
struct found {
    int streams, width, height, sample_rate;
    enum AVCodecID video, audio;
    AVRational fps;
    double duration_s;
    uint32_t pictures, samples;
    float peak;
    double luma_error; /* mean difference of the first picture's luma from what was drawn */
};

static double luma_error(const struct synth_clip *c, const AVFrame *f)
{
    uint8_t *rgb = must_alloc((size_t)c->width * c->height, 3);
    synth_frame(c, 0, rgb);
    double sum = 0;
    for (uint32_t y = 0; y < c->height; y++) {
        for (uint32_t x = 0; x < c->width; x++) {
            const uint8_t *p = rgb + ((size_t)y * c->width + x) * 3;
            double luma =
                16 + (65.738 * p[0] + 129.057 * p[1] + 25.064 * p[2]) / 256; /* BT.601, limited range */
            sum += fabs(luma - f->data[0][(size_t)y * (size_t)f->linesize[0] + x]);
        }
    }
    free(rgb);
    return sum / (c->width * c->height);
}

static void count_frame(const struct synth_clip *c, bool video, const AVFrame *f, struct found *out)
{
    if (video) {
        if (!out->pictures++)
            out->luma_error = luma_error(c, f);
        return;
    }
    out->samples += (uint32_t)f->nb_samples;
    const float *pcm = (const float *)(const void *)f->data[0];
    for (int i = 0; i < f->nb_samples; i++)
        out->peak = fmaxf(out->peak, fabsf(pcm[i]));
}

static void decode_stream(const struct synth_clip *c, const char *path, int index, struct found *out)
{
    AVFormatContext *format = NULL;
    assert_int_equal(avformat_open_input(&format, path, NULL, NULL), 0);
    const AVCodecParameters *par = format->streams[index]->codecpar;
    AVCodecContext *codec = avcodec_alloc_context3(avcodec_find_decoder(par->codec_id));
    assert_true(avcodec_parameters_to_context(codec, par) >= 0);
    assert_int_equal(avcodec_open2(codec, NULL, NULL), 0);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    bool more = true;
    while (more) {
        more = av_read_frame(format, packet) == 0;
        if (more && packet->stream_index != index) {
            av_packet_unref(packet);
            continue;
        }
        (void)avcodec_send_packet(codec, more ? packet : NULL);
        av_packet_unref(packet);
        while (avcodec_receive_frame(codec, frame) == 0)
            count_frame(c, par->codec_type == AVMEDIA_TYPE_VIDEO, frame, out);
    }
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&codec);
    avformat_close_input(&format);
}

/* False when no demuxer takes it. */
static bool look_into(const struct synth_clip *c, const char *path, struct found *out)
{
    *out = (struct found){0};
    AVFormatContext *format = NULL;
    if (avformat_open_input(&format, path, NULL, NULL))
        return false;
    assert_true(avformat_find_stream_info(format, NULL) >= 0);
    out->streams = (int)format->nb_streams;
    out->duration_s = (double)format->duration / AV_TIME_BASE;
    for (unsigned i = 0; i < format->nb_streams; i++) {
        const AVCodecParameters *par = format->streams[i]->codecpar;
        if (par->codec_type == AVMEDIA_TYPE_VIDEO) {
            out->video = par->codec_id;
            out->fps = format->streams[i]->avg_frame_rate;
            out->width = par->width;
            out->height = par->height;
        } else {
            out->audio = par->codec_id;
            out->sample_rate = par->sample_rate;
        }
        decode_stream(c, path, (int)i, out);
    }
    avformat_close_input(&format);
    return true;
}

static void path_of(char out[PATH_MAX], const char *name)
{
    assert_true(snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
}

/* A written clip is H.264 at 30 fps and AAC, as long and as large as the clip says, and shows what was drawn.
 */
static void test_write(void **state)
{
    (void)state;
    char path[PATH_MAX];
    path_of(path, "clip.mp4");
    for (uint64_t i = 0; i < 6; i++) {
        struct synth_clip c;
        struct found f;
        struct err e = {0};
        synth_clip_init(&c, 1, i, CLASSES);
        assert_int_equal(synth_write(&c, path, &e), 0);
        assert_true(look_into(&c, path, &f));
        assert_int_equal(f.streams, 2);
        assert_int_equal(f.video, AV_CODEC_ID_H264);
        assert_int_equal(f.audio, AV_CODEC_ID_AAC);
        assert_int_equal(av_cmp_q(f.fps, (AVRational){30, 1}), 0);
        assert_int_equal(f.width, c.width);
        assert_int_equal(f.height, c.height);
        assert_int_equal(f.sample_rate, c.sample_rate);
        assert_int_equal(f.pictures, c.frames);
        assert_true(f.samples >= c.samples && f.samples < c.samples + 4096);
        assert_true(fabs(f.duration_s - c.frames / 30.0) < 0.05);
        assert_true(f.peak > 0.03F);
        assert_true(f.luma_error < 8);
    }
}

/* Written twice, the bytes are the same; the index comes last, and nothing else is left in the folder. */
static void test_write_same_bytes(void **state)
{
    (void)state;
    struct synth_clip c;
    struct err e = {0};
    char path[PATH_MAX], *data[2];
    size_t size[2];
    path_of(path, "same.mp4");
    synth_clip_init(&c, 2, 0, CLASSES);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(synth_write(&c, path, &e), 0);
        assert_int_equal(fs_read(path, 1 << 24, &data[i], &size[i], &e), 0);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    const char *moov = memmem(data[0], size[0], "moov", 4), *mdat = memmem(data[0], size[0], "mdat", 4);
    assert_non_null(moov);
    assert_non_null(mdat);
    assert_true(mdat < moov);
    char part[PATH_MAX];
    path_of(part, "same.mp4.part");
    assert_int_equal(access(part, F_OK), -1);
    free(data[0]);
    free(data[1]);
}

/* Each flaw is in the file as its name says. */
static void test_flaws(void **state)
{
    (void)state;
    for (int flaw = SYNTH_SILENT; flaw < SYNTH_FLAWS; flaw++) {
        for (uint64_t i = 0; i < 2; i++) {
            struct synth_clip c;
            struct found f;
            struct err e = {0};
            char name[64], path[PATH_MAX];
            snprintf(name, sizeof name, "flaw-%s-%u.mp4", synth_flaw_name((enum synth_flaw)flaw),
                     (unsigned)i);
            path_of(path, name);
            synth_clip_init(&c, 5, 40 + i, CLASSES);
            synth_clip_spoil(&c, (enum synth_flaw)flaw, i);
            assert_int_equal(synth_write(&c, path, &e), 0);
            bool opened = look_into(&c, path, &f);
            if (flaw == SYNTH_TRUNCATED && i % 2 == 0) {
                assert_false(opened);
                continue;
            }
            assert_true(opened);
            assert_int_equal(f.streams, flaw == SYNTH_NO_AUDIO ? 1 : 2);
            assert_int_equal(f.video, AV_CODEC_ID_H264);
            if (flaw == SYNTH_TRUNCATED) {
                assert_true(f.pictures > 0 && f.pictures < c.frames * 3 / 4);
                assert_true(fabs(f.duration_s - c.frames / 30.0) < 0.05); /* what the index promises */
                continue;
            }
            assert_int_equal(f.pictures, c.frames);
            assert_true(flaw == SYNTH_SHORT ? f.duration_s < 1 : f.duration_s > 2);
            if (flaw == SYNTH_SILENT)
                assert_true(f.samples >= c.samples && f.peak < 1e-6F);
            if (flaw == SYNTH_SHORT)
                assert_true(f.peak > 0.03F);
        }
    }
}

/* What cannot be written is refused with the path in the sentence, and leaves nothing behind. */
static void test_write_fails(void **state)
{
    (void)state;
    struct synth_clip c;
    struct err e = {0};
    char path[PATH_MAX];
    synth_clip_init(&c, 0, 0, CLASSES);
    path_of(path, "missing/clip.mp4");
    assert_int_equal(synth_write(&c, path, &e), -ENOENT);
    assert_non_null(strstr(e.msg, path));

    path_of(path, "occupied.mp4"); /* a directory cannot be replaced by a file */
    assert_int_equal(fs_mkdirs(path, &e), 0);
    assert_int_equal(synth_write(&c, path, &e), -EISDIR);
    char part[PATH_MAX];
    path_of(part, "occupied.mp4.part");
    assert_int_equal(access(part, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pure),  cmocka_unit_test(test_forms_and_balance),
        cmocka_unit_test(test_ami),   cmocka_unit_test(test_difficulty),
        cmocka_unit_test(test_write), cmocka_unit_test(test_write_same_bytes),
        cmocka_unit_test(test_flaws), cmocka_unit_test(test_write_fails),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
