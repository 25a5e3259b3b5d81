#include "lib/conf.h"
#include "lib/fsutil.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOOD "run.dir: /r\ndata.manifest: /m\n"

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/xdc-test-conf-XXXXXX");
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return chdir("/") < 0 ? -1 : fs_remove_tree(dir, NULL);
}

/* All faults of a load, one "where: what" a line. */
struct faults {
    int n;
    char text[32768];
};

static void on_fault(void *arg, const char *where, const char *what)
{
    struct faults *f = arg;
    size_t used = strlen(f->text);
    f->n++;
    snprintf(f->text + used, sizeof f->text - used, "%s: %s\n", where, what);
}

static struct faults faults;

static int load(const char *path, const char *const *sets, size_t n_sets, struct conf *c)
{
    struct err e = {0};
    memset(&faults, 0, sizeof faults);
    int rc = conf_load(path, sets, n_sets, on_fault, &faults, c, &e);
    assert_int_equal(rc, faults.n ? XDC_ECONF : 0);
    return rc;
}

static int load_text(const char *text, size_t size, struct conf *c)
{
    struct err e;
    assert_int_equal(fs_write_atomic("xdc.yaml", text, size, &e), 0);
    return load("xdc.yaml", NULL, 0, c);
}

static int load_string(const char *text, struct conf *c)
{
    return load_text(text, strlen(text), c);
}

/* Without a file every key has the schema's default, and every default is a good value of its key. */
static void defaults(void **state)
{
    (void)state;
    static struct conf c;
    const char *sets[] = {"run.dir=/r", "data.manifest=/m"};
    assert_int_equal(load(NULL, sets, 2, &c), 0);
    assert_int_equal(load("", sets, 2, &c), 0);
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct conf_key *k = &conf_schema[i];
        if (k->flags & CONF_REQUIRED)
            continue;
        char set[600], value[1100], want[1100];
        conf_print_value(&c, k, want, sizeof want);
        snprintf(set, sizeof set, "%s=%s", k->key, k->def);
        const char *one[] = {sets[0], sets[1], set};
        static struct conf again;
        if (load(NULL, one, 3, &again) < 0)
            fail_msg("%s", faults.text);
        conf_print_value(&again, k, value, sizeof value);
        assert_string_equal(value, want);
    }
    assert_int_equal(c.train.batch, 32);
    assert_true(c.train.lr == 0.01);
    assert_int_equal(c.train.nesterov, 1);
    assert_int_equal(c.method, METHOD_XDC);
    assert_string_equal(c.run.dir, "/r");
}

/* The words of a choice stand in the order of the C enum, and are printed as they are read. */
static void choices_match_enums(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        size_t offset;
        int64_t want;
    } cases[] = {
        {"method=sdc", offsetof(struct conf, method), METHOD_SDC},
        {"method=mdc", offsetof(struct conf, method), METHOD_MDC},
        {"method=cdc", offsetof(struct conf, method), METHOD_CDC},
        {"method=xdc", offsetof(struct conf, method), METHOD_XDC},
        {"method=supervised", offsetof(struct conf, method), METHOD_SUPERVISED},
        {"method=same-modality", offsetof(struct conf, method), METHOD_SAME_MODALITY},
        {"method=selavi", offsetof(struct conf, method), METHOD_SELAVI},
        {"cluster.init=kmeans++", offsetof(struct conf, cluster.init), 0},
        {"cluster.init=kmeans||", offsetof(struct conf, cluster.init), 1},
        {"cluster.init=random", offsetof(struct conf, cluster.init), 2},
        {"cluster.normalize=none", offsetof(struct conf, cluster.normalize), NORMALIZE_NONE},
        {"cluster.normalize=l2", offsetof(struct conf, cluster.normalize), NORMALIZE_L2},
        {"cluster.normalize=pca-whiten-l2", offsetof(struct conf, cluster.normalize),
         NORMALIZE_PCA_WHITEN_L2},
        {"cluster.scale=none", offsetof(struct conf, cluster.scale), SCALE_NONE},
        {"cluster.scale=l2", offsetof(struct conf, cluster.scale), SCALE_L2},
        {"cluster.scale=variance", offsetof(struct conf, cluster.scale), SCALE_VARIANCE},
        {"train.balance=auto", offsetof(struct conf, train.balance), BALANCE_AUTO},
        {"train.balance=off", offsetof(struct conf, train.balance), BALANCE_OFF},
        {"train.balance=weight", offsetof(struct conf, train.balance), BALANCE_WEIGHT},
        {"train.balance=resample", offsetof(struct conf, train.balance), BALANCE_RESAMPLE},
        {"net.encoders=both", offsetof(struct conf, net.encoders), ENCODERS_BOTH},
        {"net.encoders=video", offsetof(struct conf, net.encoders), ENCODERS_VIDEO},
        {"net.encoders=audio", offsetof(struct conf, net.encoders), ENCODERS_AUDIO},
        {"features.dtype=f32", offsetof(struct conf, features.dtype), CONF_DTYPE_F32},
        {"features.dtype=f16", offsetof(struct conf, features.dtype), CONF_DTYPE_F16},
        {"features.dtype=bf16", offsetof(struct conf, features.dtype), CONF_DTYPE_BF16},
    };
    static struct conf c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* Without rounds every choice is a good one. */
        const char *sets[] = {"run.dir=/r", "data.manifest=/m", "train.rounds=0", cases[i].set};
        assert_int_equal(load(NULL, sets, 4, &c), 0);
        int64_t got;
        memcpy(&got, (const char *)&c + cases[i].offset, sizeof got);
        assert_int_equal(got, cases[i].want);
        const char *word = strchr(cases[i].set, '=') + 1;
        char key[64], printed[64];
        snprintf(key, sizeof key, "%.*s", (int)(word - cases[i].set) - 1, cases[i].set);
        conf_print_value(&c, conf_find(key), printed, sizeof printed);
        assert_string_equal(printed, word);
    }
}

/* Nested sections, dotted keys, quotes, comments and flow style all say the same. */
static void ways_to_write(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "run:\n  dir: /r\n  seed: 7\ndata:\n  manifest: /m\ntrain:\n  lr: 1e-3\n  nesterov: false\nmethod: "
        "cdc\n",
        "run.dir: /r\nrun.seed: 7\ndata.manifest: /m\ntrain.lr: 0.001\ntrain.nesterov: false\nmethod: cdc\n",
        "run: {dir: '/r', seed: +7}\ndata: {manifest: \"/m\"}\ntrain: # SGD\n  lr: .001\ntrain.nesterov: "
        "false\n"
        "method: 'cdc'\ncluster:\n",
        "{\"run.dir\": \"/r\", \"run\": {\"seed\": 7}, \"data\": {\"manifest\": \"/m\", \"media_root\": "
        "null},\n"
        " \"train\": {\"lr\": 0.001, \"nesterov\": false}, \"method\": \"cdc\"}\n",
        "x: &lr 0.001\n",
    };
    static struct conf first, c;
    assert_int_equal(load_string(texts[0], &first), 0);
    assert_int_equal(first.run.seed, 7);
    assert_true(first.train.lr == 0.001);
    assert_int_equal(first.train.nesterov, 0);
    assert_int_equal(first.method, METHOD_CDC);
    for (size_t i = 1; i < 4; i++) {
        if (load_string(texts[i], &c) < 0)
            fail_msg("%s", faults.text);
        assert_memory_equal(&c, &first, sizeof c);
    }
    assert_int_equal(load_string(texts[4], &c), XDC_ECONF);
}

/* A text behind GOOD that is refused, and all that is said of it. */
struct fault_row {
    const char *text, *want;
};

static void check_faults(const struct fault_row *rows, size_t n)
{
    static struct conf c;
    for (size_t i = 0; i < n; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s", GOOD, rows[i].text);
        assert_int_equal(load_string(text, &c), XDC_ECONF);
        assert_string_equal(faults.text, rows[i].want);
    }
}

/* A value that is not of its key's kind is told at its line and column, with what is wanted. */
static void faulty_values(void **state)
{
    (void)state;
    static const struct fault_row rows[] = {
        {"train:\n  lr: fast\n", "xdc.yaml:4:7: train.lr: 'fast' is not a number\n"},
        {"train.lr: 1e-3x\n", "xdc.yaml:3:11: train.lr: '1e-3x' is not a number\n"},
        {"train.lr: .nan\n", "xdc.yaml:3:11: train.lr: '.nan' is not a number\n"},
        {"train.lr: 0x1\n", "xdc.yaml:3:11: train.lr: '0x1' is not a number\n"},
        {"train.lr: 200\n", "xdc.yaml:3:11: train.lr: 200 is out of range: 0 to 100\n"},
        {"train.lr: -1e-9\n", "xdc.yaml:3:11: train.lr: -1e-9 is out of range: 0 to 100\n"},
        {"train.batch: 0\n", "xdc.yaml:3:14: train.batch: 0 is out of range: 1 to 4096 clips\n"},
        {"train.batch: 99999999999999999999\n",
         "xdc.yaml:3:14: train.batch: 99999999999999999999 is out of range: 1 to 4096 clips\n"},
        {"train.batch: 1.5\n", "xdc.yaml:3:14: train.batch: '1.5' is not a whole number\n"},
        {"train.batch: \"8\"\n",
         "xdc.yaml:3:14: train.batch is text in quotes where a whole number is wanted\n"},
        {"train.batch:\n", "xdc.yaml:3:13: train.batch: '' is not a whole number\n"},
        {"train.batch: [8]\n", "xdc.yaml:3:14: train.batch is a list where a whole number is wanted\n"},
        {"train.batch: {a: 8}\n", "xdc.yaml:3:14: train.batch is a section where a whole number is wanted\n"},
        {"train.nesterov: yes\n", "xdc.yaml:3:17: train.nesterov: 'yes' is neither true nor false\n"},
        {"method: xcd\n",
         "xdc.yaml:3:9: method: 'xcd' is not one of sdc|mdc|cdc|xdc|supervised|same-modality|selavi\n"},
        {"method: sdc|mdc\n",
         "xdc.yaml:3:9: method: 'sdc|mdc' is not one of sdc|mdc|cdc|xdc|supervised|same-modality|selavi\n"},
    };
    check_faults(rows, sizeof rows / sizeof rows[0]);
}

/* So is a key that is not there, or twice, and what is no YAML. */
static void faulty_keys(void **state)
{
    (void)state;
    static const struct fault_row rows[] = {
        {"train:\n  batc: 8\n", "xdc.yaml:4:3: unknown key train.batc: did you mean train.batch?\n"},
        {"trian:\n  lr: 8\n", "xdc.yaml:3:1: unknown key trian: did you mean train?\n"},
        {"momentum: 0.5\n", "xdc.yaml:3:1: unknown key momentum: did you mean train.momentum?\n"},
        {"methods: xdc\n", "xdc.yaml:3:1: unknown key methods: did you mean method?\n"},
        {"zzzzzzzz: 1\n", "xdc.yaml:3:1: unknown key zzzzzzzz\n"},
        {"train: 5\n", "xdc.yaml:3:8: train is a section: its keys belong below it\n"},
        {"train: [lr]\n", "xdc.yaml:3:8: train is a section: its keys belong below it\n"},
        {"[a]: 5\n", "xdc.yaml:3:1: a key must be a word\n"},
        {"train.lr: 1\ntrain:\n  lr: 2\n", "xdc.yaml:5:3: train.lr is given twice, first in line 3\n"},
        {"train: &t\n  lr: 1\n  sub: *t\n", "xdc.yaml:5:3: unknown key train.sub\n"},
        {"train: &t\n  batch: *t\n",
         "xdc.yaml:3:8: train.batch is a section where a whole number is wanted\n"},
        {"train.lr: *x\n", "xdc.yaml:3:11: not YAML: found undefined alias\n"},
        {"train:\n\tlr: 1\n", "xdc.yaml:4:1: not YAML: found character that cannot start any token while "
                              "scanning for the next token\n"},
        {"---\ntrain.lr: 1\n", "xdc.yaml:4:1: a second document: one file holds one configuration\n"},
        {"endpoints.clips: \"a\\nb\"\n", "xdc.yaml:3:18: endpoints.clips: holds a control character\n"},
        {"endpoints.clips: \"a\\0b\"\n", "xdc.yaml:3:18: endpoints.clips holds a control character\n"},
    };
    check_faults(rows, sizeof rows / sizeof rows[0]);
}

/* Keys that do not go together are told at one of them, with what to write instead; a faulty value leads to
 * no second fault. */
static void keys_that_contradict(void **state)
{
    (void)state;
    static const struct fault_row rows[] = {
        {"video.crop: 129\n", "xdc.yaml:3:13: video.crop: 129 does not fit into video.resize 128\n"},
        {"video.resize: 100\n", "xdc.yaml:3:15: video.crop: 112 does not fit into video.resize 100\n"},
        {"augment.resize_max: 127\n",
         "xdc.yaml:3:21: augment.resize_max: 127 is below video.resize 128; 0 switches it off\n"},
        {"train.early_stop: 0.05\ntrain.holdout: 0\n",
         "xdc.yaml:3:19: train.early_stop: nothing is held out to stop by: train.holdout is 0\n"},
        {"train.harvest: true\ntrain.balance: resample\n",
         "xdc.yaml:3:16: train.harvest: with train.balance resample each encoder has an order of its own, so "
         "that no clip goes through both; take off or weight\n"},
        {"method: sdc\ntrain.harvest: true\n",
         "xdc.yaml:4:16: train.harvest: with train.balance resample each encoder has an order of its own, so "
         "that no clip goes through both; take off or weight\n"},
        {"train.harvest: true\nmethod: supervised\n",
         "xdc.yaml:3:16: train.harvest: method supervised extracts no features\n"},
        {"init.labels: /l.npy\ninit.features: /f.npy\n",
         "xdc.yaml:3:14: init.labels: with init.features too nothing says which makes round 0's labels; take "
         "one\n"},
        {"init.features: /f.npy\nmethod: supervised\n",
         "xdc.yaml:3:16: init.features: method supervised has its labels from the manifest; leave it out\n"},
        {"method: selavi\ninit.labels: /l.npy\n", "xdc.yaml:4:14: init.labels: method selavi has its labels "
                                                  "from heads, several for each clip; leave it "
                                                  "out\n"},
        {"method: selavi\ndata.clips_per_video: 2\n",
         "xdc.yaml:4:23: data.clips_per_video: selavi gives one label to a video; set it to 1\n"},
        {"method: selavi\ntrain.balance: resample\n",
         "xdc.yaml:4:16: train.balance: selavi has several labels a clip, none to draw by; set it to off\n"},
        {"train.harvest: true\nmethod: selavi\n",
         "xdc.yaml:3:16: train.harvest: selavi makes its labels of passes of their own; set it to false\n"},
        {"train.harvest: true\nmethod: same-modality\n",
         "xdc.yaml:3:16: train.harvest: of same-modality each encoder sees a clip in a way of its own\n"},
        {"init.labels: /l.npy\nlabels.from: /r\n",
         "xdc.yaml:3:14: init.labels: with labels.from nothing is clustered; leave one of them out\n"},
        {"labels.from: /r\ninit.features: /f.npy\n",
         "xdc.yaml:4:16: init.features: with labels.from nothing is clustered; leave one of them out\n"},
        {"train.batch: 32\nrun.ranks: 3\n",
         "xdc.yaml:3:14: train.batch: 32 clips cannot be dealt evenly to run.ranks 3\n"},
        {"net.encoders: video\n",
         "xdc.yaml:3:15: net.encoders: labels are clustered from both encoders; one can be left out with "
         "method supervised, with labels.from, or with train.rounds 0\n"},
        {"train.rounds: 0\nmethod: same-modality\nnet.encoders: audio\n",
         "xdc.yaml:5:15: net.encoders: both encoders of same-modality see the same\n"},
        {"method: supervised\nnet.encoders: audio\ntrain.probe: 5\n",
         "xdc.yaml:4:15: net.encoders: train.probe needs both encoders; set it to 0\n"},
        {"method: supervised\nnet.encoders: audio\nnet.init_video: /v.safetensors\n",
         "xdc.yaml:4:15: net.encoders: net.init_video is for the encoder that is left out\n"},
        {"labels.from: /r\nnet.encoders: video\nnet.init_audio: /a.safetensors\n",
         "xdc.yaml:4:15: net.encoders: net.init_audio is for the encoder that is left out\n"},
        {"net.audio_depth: 12\n", "xdc.yaml:3:18: net.audio_depth: 12 is not 10, 18 or 34\n"},
        {"video.crop: 500\nvideo.resize: x\n", "xdc.yaml:4:15: video.resize: 'x' is not a whole number\n"},
    };
    check_faults(rows, sizeof rows / sizeof rows[0]);
}

/* What lies just beside those faults is taken. */
static void keys_that_agree(void **state)
{
    (void)state;
    static const char *const good[] = {"video.crop: 128\n",
                                       "video.crop: 200\naugment.crop_jitter_px: 0\n",
                                       "augment.resize_max: 128\n",
                                       "augment.resize_max: 0\n",
                                       "net.audio_depth: 10\n",
                                       "init.labels: /l.npy\n",
                                       "method: same-modality\ninit.features: /f.npy\n",
                                       "train.early_stop: 0.05\n",
                                       "train.holdout: 0\n",
                                       "train.harvest: true\n",
                                       "method: sdc\ntrain.balance: weight\ntrain.harvest: true\n",
                                       "train.balance: resample\ntrain.harvest: false\n",
                                       "method: selavi\ntrain.balance: weight\n",
                                       "labels.from: /r\n",
                                       "labels.from: /r\nnet.encoders: video\n",
                                       "train.rounds: 0\nnet.encoders: audio\n",
                                       "method: supervised\nnet.encoders: video\n"
                                       "net.init_video: /v.safetensors\n",
                                       "method: same-modality\nnet.encoders: both\n"};
    static struct conf c;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s", GOOD, good[i]);
        if (load_string(text, &c) < 0)
            fail_msg("%s", faults.text);
    }
}

/* All faults of file and --set come in one go, and the sentence counts them. */
static void all_faults_at_once(void **state)
{
    (void)state;
    static struct conf c;
    struct err e = {0};
    const char *text = "train:\n  lr: fast\n  btch: 3\nmethod: foo\nrun.dir:\n";
    const char *sets[] = {"train.batch=many", "cluster.kk=2", "nonsense", "=5", "cluster.k=3"};
    assert_int_equal(fs_write_atomic("xdc.yaml", text, strlen(text), &e), 0);
    assert_int_equal(load("xdc.yaml", sets, 5, &c), XDC_ECONF);
    assert_string_equal(
        faults.text,
        "xdc.yaml:2:7: train.lr: 'fast' is not a number\n"
        "xdc.yaml:3:3: unknown key train.btch: did you mean train.batch?\n"
        "xdc.yaml:4:9: method: 'foo' is not one of sdc|mdc|cdc|xdc|supervised|same-modality|selavi\n"
        "xdc.yaml:5:9: run.dir: may not be empty\n"
        "--set train.batch=many: train.batch: 'many' is not a whole number\n"
        "--set cluster.kk=2: unknown key cluster.kk: did you mean cluster.k?\n"
        "--set nonsense: is not KEY=VALUE\n"
        "--set =5: is not KEY=VALUE\n"
        "xdc.yaml:1:1: data.manifest is missing: manifest made by `xdc index`\n");
    assert_int_equal(conf_load("xdc.yaml", sets, 5, NULL, NULL, &c, &e), XDC_ECONF);
    assert_string_equal(e.msg, "the configuration has 9 faults");
}

/* Files that are no configuration: unreadable, empty, a list, binary; hostile ones end soon and with few
 * lines. */
static void bad_files(void **state)
{
    (void)state;
    static struct conf c;
    assert_int_equal(load("none.yaml", NULL, 0, &c), XDC_ECONF);
    assert_string_equal(faults.text,
                        "none.yaml: cannot be read: open none.yaml: No such file or directory\n");
    assert_int_equal(load(dir, NULL, 0, &c), XDC_ECONF);
    assert_int_equal(faults.n, 1);
    assert_int_equal(load(NULL, NULL, 0, &c), XDC_ECONF);
    assert_string_equal(faults.text,
                        "configuration: run.dir is missing: directory of the run: everything it writes\n"
                        "configuration: data.manifest is missing: manifest made by `xdc index`\n");
    static const char *const empty[] = {"", "# nothing\n", "---\n", "~\n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        assert_int_equal(load_string(empty[i], &c), XDC_ECONF);
        assert_int_equal(faults.n, 2); /* the two required keys */
        assert_non_null(strstr(faults.text, "xdc.yaml:1:1: run.dir is missing"));
    }
    assert_int_equal(load_string("- a\n- b\n", &c), XDC_ECONF);
    assert_string_equal(faults.text, "xdc.yaml:1:1: the file must hold keys with values\n");
    assert_int_equal(load_text("a: 1\nb: \xff\xfe\n", 11, &c), XDC_ECONF);
    assert_non_null(strstr(faults.text, "xdc.yaml:2:4: not YAML: "));
    assert_int_equal(faults.n, 1);

    char *many = malloc(600000), *p = many;
    for (int i = 0; i < 20000; i++)
        p += sprintf(p, "unknown_key_%d: 1\n", i);
    assert_int_equal(load_string(many, &c), XDC_ECONF);
    assert_true(faults.n <= 101);
    p = many;
    for (int i = 0; i < 5000; i++)
        p += sprintf(p, "{a: ");
    assert_int_equal(load_string(many, &c), XDC_ECONF);
    free(many);
}

/* A relative path of the file counts from its directory, one of --set from the working directory. */
static void paths(void **state)
{
    (void)state;
    static struct conf c;
    struct err e;
    char want[PATH_MAX], *here = realpath(".", NULL);
    const char *text = "run.dir: runs/a\ndata: {manifest: /abs/m.lmdb, media_root: ''}\n";
    assert_int_equal(fs_mkdirs("sub", &e), 0);
    assert_int_equal(fs_write_atomic("sub/xdc.yaml", text, strlen(text), &e), 0);
    assert_int_equal(load("sub/xdc.yaml", NULL, 0, &c), 0);
    snprintf(want, sizeof want, "%s/sub/runs/a", here);
    assert_string_equal(c.run.dir, want);
    assert_string_equal(c.data.manifest, "/abs/m.lmdb");
    assert_string_equal(c.data.media_root, "");
    const char *sets[] = {"run.dir=first", "run.dir=b"};
    assert_int_equal(load("sub/xdc.yaml", sets, 2, &c), 0);
    snprintf(want, sizeof want, "%s/b", here);
    assert_string_equal(c.run.dir, want);

    char set[CONF_STRING_MAX + 64];
    memcpy(set, "run.dir=", 8);
    memset(set + 8, 'x', CONF_STRING_MAX - 1);
    set[8 + CONF_STRING_MAX - 1] = '\0';
    const char *fits[] = {set};
    assert_int_equal(load("sub/xdc.yaml", fits, 1, &c), XDC_ECONF);
    assert_non_null(strstr(faults.text, "as an absolute path it is longer than 511 bytes"));
    set[8] = '/';
    assert_int_equal(load("sub/xdc.yaml", fits, 1, &c), 0);
    memcpy(set + 8 + CONF_STRING_MAX - 1, "y", 2);
    assert_int_equal(load("sub/xdc.yaml", fits, 1, &c), XDC_ECONF);
    assert_non_null(strstr(faults.text, "run.dir: is longer than 511 bytes"));
    free(here);
}

/* What is printed is YAML that reads back as the same value, for awkward texts and numbers too. */
static void printed_values_read_back(void **state)
{
    (void)state;
    static const char *const strings[] = {"",
                                          "plain",
                                          "a b",
                                          "null",
                                          "~",
                                          "5",
                                          "true",
                                          "a: b #c",
                                          "\"q\"",
                                          "\\",
                                          "x\\n",
                                          "'",
                                          "ü",
                                          "- a",
                                          "*x",
                                          "/abs/x-1.y",
                                          "tcp://127.0.0.1:5555",
                                          "{a}",
                                          "%",
                                          "@",
                                          "-",
                                          ".5",
                                          "a:"};
    static struct conf c, back;
    static char value[1100], text[1400];
    const struct conf_key *endpoint = conf_find("endpoints.clips"), *lr = conf_find("train.lr");
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        snprintf(c.endpoints.clips, sizeof c.endpoints.clips, "%s", strings[i]);
        conf_print_value(&c, endpoint, value, sizeof value);
        snprintf(text, sizeof text, "%sendpoints.clips: %s\n", GOOD, value);
        if (load_string(text, &back) < 0)
            fail_msg("%s", faults.text);
        assert_string_equal(back.endpoints.clips, strings[i]);
    }
    static const double reals[] = {0, 0.1, 1.0 / 3, 1e-4, 100, 1e-300, 0.1 + 0.2};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        c.train.lr = reals[i];
        conf_print_value(&c, lr, value, sizeof value);
        snprintf(text, sizeof text, "%strain.lr: %s\n", GOOD, value);
        assert_int_equal(load_string(text, &back), 0);
        assert_true(back.train.lr == reals[i]);
    }
}

/* The printed schema is a file that loads to the defaults, and names and explains every key. */
static void schema_loads(void **state)
{
    (void)state;
    static struct conf c, want;
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    conf_print_schema(f);
    fclose(f);
    if (load_text(text, size, &c) < 0)
        fail_msg("%s", faults.text);
    char run[PATH_MAX];
    snprintf(run, sizeof run, "%s/run", dir);
    assert_string_equal(c.run.dir, run);
    const char *sets[] = {"run.dir=run", "data.manifest=manifest.lmdb"};
    assert_int_equal(load(NULL, sets, 2, &want), 0);
    assert_memory_equal(&c, &want, sizeof c);
    for (size_t i = 0; i < conf_schema_len; i++) {
        const char *dot = strrchr(conf_schema[i].key, '.');
        char line[128];
        snprintf(line, sizeof line, "%s%s: ", dot ? "  " : "\n", dot ? dot + 1 : conf_schema[i].key);
        assert_non_null(strstr(text, line));
        assert_non_null(strstr(text, conf_schema[i].help));
    }
    free(text);
}

/* The identity follows every identity key and the manifest, and nothing else. */
static void identity(void **state)
{
    (void)state;
    static struct conf c, base;
    const char *sets[] = {"run.dir=/r", "data.manifest=/m"};
    assert_int_equal(load(NULL, sets, 2, &base), 0);
    uint64_t id = conf_identity(&base, 5);
    assert_true(conf_identity(&base, 6) != id);
    for (size_t i = 0; i < conf_schema_len; i++) {
        const struct conf_key *k = &conf_schema[i];
        c = base;
        char *at = (char *)&c + k->offset;
        if (k->type == CONF_STRING)
            at[0] ^= 1;
        else if (k->type == CONF_REAL)
            *(double *)(void *)at += 0x1p-40;
        else
            *(int64_t *)(void *)at =
                k->type == CONF_CHOICE ? !*(int64_t *)(void *)at : *(int64_t *)(void *)at ^ 1;
        assert_int_equal(conf_identity(&c, 5) != id, (k->flags & CONF_IDENTITY) != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(choices_match_enums),
        cmocka_unit_test(ways_to_write),
        cmocka_unit_test(faulty_values),
        cmocka_unit_test(faulty_keys),
        cmocka_unit_test(keys_that_contradict),
        cmocka_unit_test(keys_that_agree),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(all_faults_at_once),
        cmocka_unit_test(paths),
        cmocka_unit_test(printed_values_read_back),
        cmocka_unit_test(schema_loads),
        cmocka_unit_test(identity),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
