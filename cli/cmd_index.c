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
#include "cli/cli_options.h"
#include "cli/index_files.h"
#include "cli/index_labels.h"
#include "cli/index_probe.h"
#include "cli/index_write.h"
#include "cli/worker_pool.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

static const char help[] =
    "examples:\n"
    "  xdc index clips/ --out manifest.lmdb                            every media file below clips/\n"
    "  xdc index clips/ --out manifest.lmdb --labels clips/labels.csv  with classes and splits, for "
    "evaluation only\n"
    "  xdc index files.txt --out manifest.lmdb --jobs 16               the files that a list names\n"
    "  xdc index clips/ --out manifest.lmdb --update                   what is new or has changed since\n"
    "\n"
    "usage: xdc index PATH --out MANIFEST [options]\n"
    "  PATH            a folder (walked, links followed), one media file, or a text file with one path a "
    "line\n"
    "  --out FILE      the manifest to write; it appears whole or not at all\n"
    "  --labels CSV    a file path,label[,split]; paths count from its folder; split is train, val, test or "
    "empty\n"
    "  --jobs N        media workers at one time (default: one per CPU)\n"
    "  --update        keep an existing manifest's videos by their numbers: new files come behind them, "
    "changed "
    "ones are\n"
    "                  probed again, those that are gone are marked open_failed; unchanged ones cost a stat\n"
    "  --force         replace an existing manifest\n"
    "  --json          print the summary as one JSON object\n"
    "\n"
    "What is done is kept in MANIFEST.partial: an index that was interrupted or killed goes on when the same "
    "command is\n"
    "given again. The identity of a manifest, which a run is bound to, stays as long as no file is new or "
    "changed. Files that\n"
    "cannot be read are recorded with the reason. Exits 0, 64 for wrong "
    "arguments, 65 for a\n"
    "faulty CSV file, 66 when there are no media files, 73 when the manifest exists, 75 when interrupted.\n";

struct index_options {
    const char *path, *out, *labels;
    unsigned jobs;
    bool force, update, json;
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
    *o = (struct index_options){.jobs = pool_cpus()};
    const struct cli_option options[] = {{"out", 'o', .text = &o->out},
                                         {"labels", 'l', .text = &o->labels},
                                         {"jobs", 'j', .count32 = &o->jobs, .lo = 1, .hi = 1024},
                                         {"update", .on = &o->update},
                                         {"force", 'f', .on = &o->force},
                                         {"json", .on = &o->json},
                                         {0}};
    int status = cli_options("index", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind != argc - 1 || !o->out)
        return cli_usage("index", "needs one PATH and --out FILE");
    if (o->force && o->update)
        return cli_usage("index", "--force and --update contradict each other");
    o->path = argv[optind];
    return -1;
}

static json_t *names_json(const uint64_t *counts, unsigned first, unsigned end)
{
    json_t *j = json_object();
    for (unsigned c = first; c < end; c++)
        if (counts[c - first])
            json_object_set_new(j, media_code_name(c), json_integer((json_int_t)counts[c - first]));
    return j;
}

static void print_json(const struct index_options *o, const struct index_files *files,
                       const struct index_labels *l, const struct index_summary *s)
{
    char identity[17];
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)s->identity);
    json_t *root = json_pack(
        "{ss ss ss sI sI sI sf sI so so s{si sI sI sI} s{sI sI sI sI} sI sI sI sI sf}", "manifest", o->out,
        "identity", identity, "media_root", files->root, "videos", (json_int_t)s->videos, "with_video",
        (json_int_t)s->with_video, "with_audio", (json_int_t)s->with_audio, "hours", s->hours, "bytes",
        (json_int_t)s->bytes, "unreadable", names_json(s->reasons + 1, 1, MEDIA_REASONS), "facts",
        names_json(s->facts, MEDIA_ROTATED, MEDIA_FACTS_END), "labels", "classes", (int)s->classes,
        "labelled", (json_int_t)l->labelled, "unmatched_rows", (json_int_t)l->unmatched_rows,
        "unmatched_files", (json_int_t)l->unmatched_files, "splits", "none",
        (json_int_t)s->splits[MANIFEST_SPLIT_NONE], "train", (json_int_t)s->splits[MANIFEST_SPLIT_TRAIN],
        "val", (json_int_t)s->splits[MANIFEST_SPLIT_VAL], "test", (json_int_t)s->splits[MANIFEST_SPLIT_TEST],
        "repeated", (json_int_t)files->repeated, "unreadable_folders", (json_int_t)files->unreadable,
        "probed", (json_int_t)s->probed, "keyframes", (json_int_t)s->keyframes, "seconds", s->seconds);
    if (o->update)
        json_object_set_new(root, "update",
                            json_pack("{sI sI sI sI}", "unchanged", (json_int_t)s->unchanged, "changed",
                                      (json_int_t)s->changed, "gone", (json_int_t)s->gone, "added",
                                      (json_int_t)s->added));
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static void print_labels(const struct index_labels *l, const struct index_summary *s)
{
    printf("labels        %u classes, %zu files labelled\n", s->classes, l->labelled);
    printf("splits        %llu train, %llu val, %llu test, %llu none\n",
           (unsigned long long)s->splits[MANIFEST_SPLIT_TRAIN],
           (unsigned long long)s->splits[MANIFEST_SPLIT_VAL],
           (unsigned long long)s->splits[MANIFEST_SPLIT_TEST],
           (unsigned long long)s->splits[MANIFEST_SPLIT_NONE]);
    printf("unmatched     %zu rows without a file, %zu files without a row\n", l->unmatched_rows,
           l->unmatched_files);
}

static void print_table(const struct index_options *o, const struct index_files *files,
                        const struct index_labels *l, const struct index_summary *s)
{
    printf("videos        %llu\n", (unsigned long long)s->videos);
    if (o->update)
        printf("update        %llu unchanged, %llu changed, %llu gone, %llu new\n",
               (unsigned long long)s->unchanged, (unsigned long long)s->changed, (unsigned long long)s->gone,
               (unsigned long long)s->added);
    printf("with video    %llu\n", (unsigned long long)s->with_video);
    printf("with audio    %llu\n", (unsigned long long)s->with_audio);
    printf("hours         %.2f\n", s->hours);
    printf("bytes         %llu\n", (unsigned long long)s->bytes);
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (s->reasons[i])
            printf("unreadable    %llu %s: %s\n", (unsigned long long)s->reasons[i], media_code_name(i),
                   media_code_text(i));
    if (o->labels)
        print_labels(l, s);
    if (files->repeated)
        printf("repeated      %zu lines that name a file again\n", files->repeated);
    printf("identity      %016llx\n", (unsigned long long)s->identity);
    printf("seconds       %.2f\n", s->seconds);
}

/* A file that an interrupted index has probed, and that is still the same. */
static void on_record(void *arg, uint64_t at, const char *uri, const struct index_found *found)
{
    struct index_files *files = arg;
    struct index_file *f = index_files_by_uri(files, uri);
    struct stat st;
    if (f && f->at != INDEX_UNCHANGED && index_files_stat(files, uri, &st) == 0 &&
        (uint64_t)st.st_size == found->size_bytes && index_files_mtime(&st) == found->mtime_ns)
        f->at = at;
}

/* What is there to go by: files, their labels, the manifest to update. */
static int find_all(const struct index_options *o, struct index_files *files, struct index_labels *labels,
                    struct manifest **out_old, struct err *e)
{
    bool there = access(o->out, F_OK) == 0;
    if (there && !o->force && !o->update)
        return err_set(e, -EEXIST, "%s exists: choose another --out, or add --update or --force", o->out);
    int rc = index_files_find(files, o->path, e);
    if (rc == 0 && files->unreadable)
        fprintf(stderr, "xdc index: warning: %zu folders below %s could not be read\n", files->unreadable,
                o->path);
    if (rc == 0 && o->labels) /* before the long work: its faults are told at once */
        rc = index_labels_apply(labels, o->labels, files, e);
    if (rc == 0 && there && o->update)
        rc = manifest_open(o->out, out_old, e);
    if (rc == 0 && *out_old)
        rc = index_update_mark(files, *out_old, e);
    return rc;
}

static int probe_and_write(const struct index_options *o, struct index_files *files,
                           const struct manifest *old, struct index_summary *s, struct err *e)
{
    char path[PATH_MAX];
    struct index_partial partial = {.fd = -1};
    catch_signals(); /* only now: before there is nothing to leave in order */
    int rc = fs_path(path, e, "%s.partial", o->out);
    if (rc == 0)
        rc = index_partial_open(&partial, path, files->root, on_record, files, e);
    if (rc == 0)
        rc = index_probe_all(files, &partial, o->jobs, &stop, &s->probed, e);
    if (rc == 0)
        rc = index_write(o->out, files, &partial, old, o->labels != NULL, s, e);
    index_partial_close(&partial, rc == 0);
    return rc;
}

/* A quarantine that the doctor made of the manifest before would be refused by every run. */
static void warn_of_quarantine(const struct index_options *o, const struct manifest *old,
                               const struct index_summary *s)
{
    char path[PATH_MAX];
    if (fs_path(path, NULL, "%s.quarantine", o->out) == 0 && access(path, F_OK) == 0 &&
        (!old || manifest_identity(old) != s->identity))
        fprintf(stderr, "xdc index: note: %s belongs to the manifest before: run xdc doctor %s again\n", path,
                o->out);
}

static int run(const struct index_options *o, struct index_files *files, struct index_labels *labels,
               struct err *e)
{
    struct index_summary s = {0};
    struct manifest *old = NULL;
    double start_s = progress_now_s();
    int rc = find_all(o, files, labels, &old, e);
    if (rc == 0)
        rc = probe_and_write(o, files, old, &s, e);
    if (rc == 0)
        warn_of_quarantine(o, old, &s);
    manifest_close(old);
    if (rc)
        return rc;
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
    int rc = run(&o, &files, &labels, &e);
    if (rc)
        fprintf(stderr, "xdc index: %s\n", e.msg);
    index_files_close(&files);
    index_labels_close(&labels);
    return err_exit_status(rc);
}
