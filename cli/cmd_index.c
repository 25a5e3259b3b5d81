/* xdc index: finds media files, probes them in sandboxed workers, writes the manifest. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/index_files.h"
#include "cli/index_labels.h"
#include "cli/index_probe.h"
#include "lib/progress.h"

static const char help[] =
    "examples:\n"
    "  xdc index clips/ --out manifest.lmdb                            every media file below clips/\n"
    "  xdc index clips/ --out manifest.lmdb --labels clips/labels.csv  with classes and splits, for "
    "evaluation only\n"
    "  xdc index files.txt --out manifest.lmdb --jobs 16               the files that a list names\n"
    "\n"
    "usage: xdc index PATH --out MANIFEST [options]\n"
    "  PATH            a folder (walked, links followed), one media file, or a text file with one path a "
    "line\n"
    "  --out FILE      the manifest to write; it appears whole or not at all\n"
    "  --labels CSV    a file path,label[,split]; paths count from its folder; split is train, val, test or "
    "empty\n"
    "  --jobs N        media workers at one time (default: one per CPU)\n"
    "  --force         replace an existing manifest\n"
    "  --json          print the summary as one JSON object\n"
    "\n"
    "Files that cannot be read are recorded with the reason and never drawn. Exits 0, 64 for wrong "
    "arguments, 65 for a\n"
    "faulty CSV file, 66 when there are no media files, 73 when the manifest exists, 75 when interrupted.\n";

struct index_options {
    const char *path, *out, *labels;
    unsigned jobs;
    bool force, json;
};

struct summary {
    uint64_t videos, with_video, with_audio, bytes;
    uint64_t reasons[MEDIA_REASONS];
    uint64_t splits[4];
    double hours, seconds;
    uint32_t classes;
    uint64_t identity;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct index_options *o)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'},
        {"labels", required_argument, NULL, 'l'},
        {"jobs", required_argument, NULL, 'j'},
        {"force", no_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'J'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t jobs = cpus > 0 ? (uint64_t)cpus : 1;
    int c;
    *o = (struct index_options){0};
    optind = 0;
    while ((c = getopt_long(argc, argv, "o:l:j:fh", options, NULL)) != -1) {
        switch (c) {
        case 'o':
            o->out = optarg;
            break;
        case 'l':
            o->labels = optarg;
            break;
        case 'j':
            if (!cli_parse_count(optarg, 1, 1024, &jobs)) {
                fprintf(stderr, "xdc index: --jobs %s: not a number from 1 to 1024\n", optarg);
                return 64;
            }
            break;
        case 'f':
            o->force = true;
            break;
        case 'J':
            o->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return 64;
        }
    }
    if (optind != argc - 1 || !o->out) {
        fprintf(stderr, "xdc index: needs one PATH and --out FILE; see xdc index --help\n");
        return 64;
    }
    o->path = argv[optind];
    o->jobs = (unsigned)jobs;
    return -1;
}

static int append(struct manifest *m, const struct index_file *f, struct err *e)
{
    struct manifest_video v = {
        .size_bytes = f->size_bytes,
        .duration_s = f->probe.duration_s,
        .fps = f->probe.fps,
        .width = f->probe.width,
        .height = f->probe.height,
        .video_stream = f->probe.video_stream,
        .audio_stream = f->probe.audio_stream,
        .sample_rate = f->probe.sample_rate,
        .channels = f->probe.channels,
        .probe_reason = f->reason,
        .truth = -1,
        .split = f->split,
    };
    int rc = f->label ? manifest_class(m, f->label, &v.truth, e) : 0;
    if (rc)
        return rc;
    snprintf(v.uri, sizeof v.uri, "%s", f->uri);
    return manifest_append(m, &v, e);
}

static int write_manifest(const struct index_options *o, const struct index_files *files, struct summary *s,
                          struct err *e)
{
    struct manifest *m = NULL;
    int rc = manifest_create(o->out, files->root, &m, e);
    for (size_t i = 0; i < files->count && !rc; i++)
        rc = append(m, &files->file[i], e);
    if (!rc)
        rc = manifest_commit(m, e);
    if (!rc) {
        s->identity = manifest_identity(m);
        s->classes = manifest_classes(m);
    }
    manifest_close(m);
    return rc;
}

static void summarize(const struct index_files *files, struct summary *s)
{
    double duration_s = 0;
    for (size_t i = 0; i < files->count; i++) {
        const struct index_file *f = &files->file[i];
        s->videos++;
        s->with_video += f->probe.video_stream >= 0;
        s->with_audio += f->probe.audio_stream >= 0;
        s->bytes += f->size_bytes;
        s->reasons[f->reason < MEDIA_REASONS ? f->reason : MEDIA_UNREADABLE]++;
        s->splits[f->split]++;
        duration_s += f->probe.duration_s;
    }
    s->hours = duration_s / 3600;
}

static void print_json(const struct index_options *o, const struct index_files *files,
                       const struct index_labels *l, const struct summary *s)
{
    char identity[17];
    json_t *reasons = json_object();
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)s->identity);
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (s->reasons[i])
            json_object_set_new(reasons, media_code_name(i), json_integer((json_int_t)s->reasons[i]));
    json_t *root = json_pack(
        "{ss ss ss sI sI sI sf sI so s{si sI sI sI} s{sI sI sI sI} sI sI sf}", "manifest", o->out, "identity",
        identity, "media_root", files->root, "videos", (json_int_t)s->videos, "with_video",
        (json_int_t)s->with_video, "with_audio", (json_int_t)s->with_audio, "hours", s->hours, "bytes",
        (json_int_t)s->bytes, "unreadable", reasons, "labels", "classes", (int)s->classes, "labelled",
        (json_int_t)l->labelled, "unmatched_rows", (json_int_t)l->unmatched_rows, "unmatched_files",
        (json_int_t)l->unmatched_files, "splits", "none", (json_int_t)s->splits[MANIFEST_SPLIT_NONE], "train",
        (json_int_t)s->splits[MANIFEST_SPLIT_TRAIN], "val", (json_int_t)s->splits[MANIFEST_SPLIT_VAL], "test",
        (json_int_t)s->splits[MANIFEST_SPLIT_TEST], "repeated", (json_int_t)files->repeated,
        "unreadable_folders", (json_int_t)files->unreadable, "seconds", s->seconds);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static void print_table(const struct index_options *o, const struct index_files *files,
                        const struct index_labels *l, const struct summary *s)
{
    printf("videos        %llu\n", (unsigned long long)s->videos);
    printf("with video    %llu\n", (unsigned long long)s->with_video);
    printf("with audio    %llu\n", (unsigned long long)s->with_audio);
    printf("hours         %.2f\n", s->hours);
    printf("bytes         %llu\n", (unsigned long long)s->bytes);
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (s->reasons[i])
            printf("unreadable    %llu %s: %s\n", (unsigned long long)s->reasons[i], media_code_name(i),
                   media_code_text(i));
    if (o->labels) {
        printf("labels        %u classes, %zu files labelled\n", s->classes, l->labelled);
        printf("splits        %llu train, %llu val, %llu test, %llu none\n",
               (unsigned long long)s->splits[MANIFEST_SPLIT_TRAIN],
               (unsigned long long)s->splits[MANIFEST_SPLIT_VAL],
               (unsigned long long)s->splits[MANIFEST_SPLIT_TEST],
               (unsigned long long)s->splits[MANIFEST_SPLIT_NONE]);
        printf("unmatched     %zu rows without a file, %zu files without a row\n", l->unmatched_rows,
               l->unmatched_files);
    }
    if (files->repeated)
        printf("repeated      %zu lines that name a file again\n", files->repeated);
    printf("identity      %016llx\n", (unsigned long long)s->identity);
    printf("seconds       %.2f\n", s->seconds);
}

static int run(const struct index_options *o, struct index_files *files, struct index_labels *labels,
               struct err *e)
{
    struct summary s = {0};
    double start_s = progress_now_s();
    if (!o->force && !access(o->out, F_OK))
        return err_set(e, -EEXIST, "%s exists: choose another --out, or add --force to replace it", o->out);
    int rc = index_files_find(files, o->path, e);
    if (!rc && files->unreadable)
        fprintf(stderr, "xdc index: warning: %zu folders below %s could not be read\n", files->unreadable,
                o->path);
    if (!rc && o->labels) /* before the long work: its faults are told at once */
        rc = index_labels_apply(labels, o->labels, files, e);
    if (!rc)
        rc = index_probe_all(files, o->jobs, &stop, e);
    if (!rc)
        rc = write_manifest(o, files, &s, e);
    if (rc)
        return rc;
    summarize(files, &s);
    s.seconds = progress_now_s() - start_s;
    if (o->json)
        print_json(o, files, labels, &s);
    else
        print_table(o, files, labels, &s);
    if (fflush(stdout) || ferror(stdout))
        return err_sys(e, errno, "write the summary");
    return 0;
}

int cli_index(int argc, char **argv)
{
    struct index_options o;
    struct index_files files = {0};
    struct index_labels labels = {0};
    struct err e = {0};
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    catch_signals();
    int rc = run(&o, &files, &labels, &e);
    if (rc)
        fprintf(stderr, "xdc index: %s\n", e.msg);
    index_files_close(&files);
    index_labels_close(&labels);
    return err_exit_status(rc);
}
