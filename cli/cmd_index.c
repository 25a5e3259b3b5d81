/* xdc index: finds media files, probes them in sandboxed workers, writes the manifest. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/index_files.h"
#include "cli/index_folders.h"
#include "cli/index_forms.h"
#include "cli/index_probe.h"
#include "cli/index_report.h"
#include "cli/index_resolve.h"
#include "cli/index_shards.h"
#include "cli/index_write.h"
#include "cli/worker_pool.h"
#include "lib/cpus.h"
#include "lib/fsutil.h"
#include "lib/progress.h"

static const char help[] =
    "examples:\n"
    "  xdc index clips/ --out manifest.lmdb                            every media file below clips/\n"
    "  xdc index clips/ --out manifest.lmdb --labels clips/labels.csv  with classes and splits, for "
    "evaluation only\n"
    "  xdc index clips/ --out manifest.lmdb --classes folders          each folder of clips/ is a class\n"
    "  xdc index lists/{classInd,trainlist01,testlist01}.txt --media UCF-101 --out ucf101.lmdb\n"
    "  xdc index esc50.csv --fold 1 --media audio --out fold1.lmdb     fold 1 is the test split\n"
    "  xdc index train.csv val.csv --media kinetics --only-classes sound.txt --out sound.lmdb\n"
    "  xdc index files.txt --out manifest.lmdb --jobs 16               the files that a list names\n"
    "  xdc index shard-{000000..000099}.tar --out manifest.lmdb        media in tar archives, read in place\n"
    "  xdc index clips/ --out manifest.lmdb --update                   what is new or has changed since\n"
    "\n"
    "usage: xdc index PATH... --out MANIFEST [options]\n"
    "  PATH            a folder (walked, links followed), one media file, tar archives (WebDataset shards, "
    "in "
    "folders too),\n"
    "                  or lists of one form: what they name is taken\n"
    "  --out FILE      the manifest to write; it appears whole or not at all\n"
    "  --labels FILE   a list of any form gives the files of PATH their classes and splits; all of them "
    "stay\n"
    "  --form NAME     the form of the lists, where their content does not tell: labels, kinetics, audioset, "
    "vggsound,\n"
    "                  ave, ucf101, hmdb51, esc50, list, jsonl, paths (docs/manifests.md)\n"
    "  --media DIR     where the media of lists lie (default: the folder of the first list)\n"
    "  --classes WHAT  folders: CLASS/file or train|val|test/CLASS/file; none: not even the latter, which is "
    "found\n"
    "                  by itself, nor the classes that archives hold\n"
    "  --only-classes FILE   only the classes that it names, one a line\n"
    "  --fold N        of a list with folds: N is the test split, the others are train\n"
    "  --split NAME    train, val, test or none: of rows without a split of their own (default: as their "
    "list or archive\n"
    "                  is named)\n"
    "  --jobs N        media workers at one time (default: one per CPU)\n"
    "  --update        keep an existing manifest's videos by their numbers: new files come behind them, "
    "changed ones are\n"
    "                  probed again, those that are gone are marked open_failed; unchanged ones cost a stat\n"
    "  --force         replace an existing manifest\n"
    "  --json          print the summary as one JSON object\n"
    "\n"
    "What is done is kept in MANIFEST.partial: an index that was interrupted or killed goes on when the same "
    "command is\n"
    "given again. The identity of a manifest, which a run is bound to, stays as long as no file is new or "
    "changed. Files that\n"
    "cannot be read are recorded with the reason; media that lists name and that are not there are in "
    "MANIFEST.missing.\n"
    "Exits 0, 64 for wrong arguments, 65 for a faulty list, 66 when there are no media files, 73 when the "
    "manifest exists,\n"
    "75 when interrupted.\n";

#define CLASSES "none|folders"
enum { CLASSES_NONE, CLASSES_FOLDERS, CLASSES_FOUND };

struct index_options {
    const char *const *path; /* as many as n_paths */
    size_t n_paths;
    const char *out, *labels, *media, *form, *only, *split;
    uint64_t fold;
    int classes, form_index, split_index;
    unsigned jobs;
    bool force, update, json;
};

/* What is there to be indexed. */
struct indexing {
    struct index_files files;
    struct index_rows rows;
    struct index_match match;
    enum index_folders folders;
    bool shards; /* classes and splits are those that archives hold */
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
    *o = (struct index_options){.jobs = cpus_usable(), .classes = CLASSES_FOUND, .split_index = -1};
    const struct cli_option options[] = {
        {"out", 'o', .text = &o->out},
        {"labels", 'l', .text = &o->labels},
        {"media", 'm', .text = &o->media},
        {"form", .text = &o->form, .word = &o->form_index, .words = INDEX_FORM_NAMES},
        {"classes", .word = &o->classes, .words = CLASSES},
        {"only-classes", .text = &o->only},
        {"fold", .count = &o->fold, .lo = 1, .hi = 63},
        {"split", .text = &o->split, .word = &o->split_index, .words = "none|train|val|test"},
        {"jobs", 'j', .count32 = &o->jobs, .lo = 1, .hi = 1024},
        {"update", .on = &o->update},
        {"force", 'f', .on = &o->force},
        {"json", .on = &o->json},
        {0}};
    int status = cli_options("index", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind >= argc || !o->out)
        return cli_usage("index", "needs a PATH and --out FILE");
    if (o->force && o->update)
        return cli_usage("index", "--force and --update contradict each other");
    if (o->labels && o->classes == CLASSES_FOLDERS)
        return cli_usage("index", "--labels and --classes folders contradict each other");
    o->path = (const char *const *)argv + optind;
    o->n_paths = (size_t)(argc - optind);
    return -1;
}

/* Whether the files' classes and splits are those of the manifest, in place of older ones. */
static bool has_labels(const struct index_options *o, const struct indexing *x)
{
    return x->folders || x->shards || (x->rows.form && (!x->rows.form->unlabelled || o->split_index > 0));
}

static void print(const struct index_options *o, const struct indexing *x, const struct index_summary *s)
{
    const struct index_form *form = x->rows.form;
    struct index_report report = {.out = o->out,
                                  .form = x->folders  ? "folders"
                                          : x->shards ? "webdataset"
                                          : form      ? form->name
                                                      : NULL,
                                  .what = x->folders == INDEX_FOLDERS_SPLITS
                                              ? "classes below train, val, test"
                                          : x->folders ? "each folder is a class"
                                          : x->shards  ? "members .cls and .json of tar archives"
                                          : form       ? form->what
                                                       : NULL,
                                  .update = o->update,
                                  .labelled = has_labels(o, x),
                                  .files = &x->files,
                                  .rows = &x->rows,
                                  .match = &x->match,
                                  .summary = s};
    if (o->json)
        index_report_json(&report);
    else
        index_report_table(&report);
}

/* A file that an interrupted index has probed, and that is still the same. */
static void on_record(void *arg, uint64_t at, const char *uri, const struct index_found *found)
{
    struct index_files *files = arg;
    struct index_file *f = index_files_by_uri(files, uri);
    if (f && f->at != INDEX_UNCHANGED && index_files_same(files, uri, found->size_bytes, found->mtime_ns))
        f->at = at;
}

static bool is_list(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode) && !index_files_is_media(path) &&
           !index_files_is_archive(path);
}

/* Whether PATH is a folder, a media file or archives, and no list. */
static bool holds_media(const struct index_options *o)
{
    for (size_t i = 0; o->n_paths > 1 && i < o->n_paths; i++)
        if (!index_files_is_archive(o->path[i]))
            return false;
    return o->n_paths > 1 || !is_list(o->path[0]);
}

/* The lists of PATH. */
static int find_lists(const struct index_options *o, const struct index_form_options *f, struct indexing *x,
                      struct err *e)
{
    for (size_t i = 0; i < o->n_paths; i++)
        if (!is_list(o->path[i]))
            return access(o->path[i], F_OK) < 0
                       ? err_sys(e, errno, "%s", o->path[i])
                       : err_set(e, XDC_EUSAGE,
                                 "%s is no list: several PATHs are lists, whose media lie where --media DIR "
                                 "says, or tar archives",
                                 o->path[i]);
    if (o->classes == CLASSES_FOLDERS)
        return err_set(e, XDC_EUSAGE, "--classes folders is for a folder, %s is a list", o->path[0]);
    int rc = index_forms_read(&x->rows, f, o->path, o->n_paths, e);
    if (rc == 0 && o->only && x->rows.form->unlabelled)
        rc = err_set(e, XDC_EUSAGE, "--only-classes: %s has no labels", o->path[0]);
    return rc == 0 ? index_resolve_lists(&x->rows, o->media, &x->files, &x->match, e) : rc;
}

/* The media of a folder, a file or archives, with the classes that archives hold if they are not given
 * otherwise. */
static int find_media(const struct index_options *o, struct indexing *x, struct err *e)
{
    const struct index_files *f = &x->files;
    int rc = index_files_find(&x->files, o->path, o->n_paths, e);
    if (rc == 0)
        rc = index_shards_read(&x->files, !o->labels && o->classes == CLASSES_FOUND, o->split_index, e);
    if (rc < 0)
        return rc;
    if (f->unreadable)
        fprintf(stderr, "xdc index: warning: %zu folders below %s could not be read\n", f->unreadable,
                o->path[0]);
    if (f->compressed && f->count)
        fprintf(stderr,
                "xdc index: warning: %zu compressed tar archives below %s are passed over: gunzip them\n",
                f->compressed, o->path[0]);
    for (size_t i = 0; i < f->shards.broken.count && i < INDEX_NAMED; i++)
        fprintf(stderr, "xdc index: warning: %s\n", f->shards.broken.first[i]);
    if (f->count)
        return 0;
    if (f->compressed)
        return err_set(e, -ENOENT,
                       "%s: no media files, but %zu compressed tar archives: gunzip them and index that",
                       o->path[0], f->compressed);
    return err_set(e, -ENOENT, "%s: no media files%s", o->path[0],
                   f->shards.archives ? " in the archives" : "");
}

/* The files of a folder and their classes, if there are some. */
static int find_folder(const struct index_options *o, const struct index_form_options *f, struct indexing *x,
                       struct err *e)
{
    bool asked = o->classes == CLASSES_FOLDERS;
    if (o->media || (!o->labels && (o->form || o->fold)))
        return err_set(e, XDC_EUSAGE, "%s: --%s is for lists, and PATH is none", o->path[0],
                       o->media  ? "media"
                       : o->form ? "form"
                                 : "fold");
    int rc = find_media(o, x, e);
    if (rc == 0) /* before the long work: its faults are told at once */
        rc = index_forms_read(&x->rows, f, &o->labels, o->labels ? 1 : 0, e);
    if (rc == 0 && o->labels)
        return index_resolve_labels(&x->rows, &x->files, &x->match, e);
    x->shards = x->files.shards.labels;
    if (rc == 0 && x->shards)
        rc = index_shards_apply(&x->files, &x->rows, &x->match, e);
    else if (rc == 0 && o->classes != CLASSES_NONE)
        rc = index_folders_apply(&x->files, &x->rows, asked, &x->match, &x->folders, e);
    if (rc == 0 && o->only && !x->folders && !x->shards)
        rc = err_set(e, XDC_EUSAGE,
                     "--only-classes: %s has no labels; --classes folders takes them from folders",
                     o->path[0]);
    return rc;
}

/* A list of paths, which another list gives labels to. */
static int find_labelled_list(const struct index_options *o, const struct index_form_options *f,
                              struct indexing *x, struct err *e)
{
    struct index_rows paths = {0};
    struct index_form_options plain = {.form = "paths", .split = MANIFEST_SPLIT_NONE};
    if (o->n_paths > 1)
        return err_set(e, XDC_EUSAGE, "--labels goes with one PATH");
    int rc = index_forms_read(&paths, &plain, o->path, 1, e);
    if (rc == 0)
        rc = index_resolve_lists(&paths, o->media, &x->files, &x->match, e);
    for (size_t i = 0; i < x->files.count; i++)
        x->files.file[i].named = false;
    if (rc == 0)
        rc = index_forms_read(&x->rows, f, &o->labels, 1, e);
    if (rc == 0)
        rc = index_resolve_labels(&x->rows, &x->files, &x->match, e);
    index_rows_close(&paths);
    return rc;
}

static int find_files(const struct index_options *o, struct indexing *x, struct err *e)
{
    struct index_form_options f = {.form = o->form,
                                   .fold = o->fold,
                                   .split = o->split_index,
                                   .labels_only = o->labels != NULL,
                                   .only = o->only};
    int rc = holds_media(o) ? find_folder(o, &f, x, e)
             : o->labels    ? find_labelled_list(o, &f, x, e)
                            : find_lists(o, &f, x, e);
    return rc == 0 ? index_resolve_classes(&x->rows, &x->files, &x->match, e) : rc;
}

/* What is there to go by: files, their labels, the manifest to update. */
static int find_all(const struct index_options *o, struct indexing *x, struct manifest **out_old,
                    struct err *e)
{
    bool there = access(o->out, F_OK) == 0;
    if (there && !o->force && !o->update)
        return err_set(e, -EEXIST, "%s exists: choose another --out, or add --update or --force", o->out);
    int rc = find_files(o, x, e);
    if (rc == 0 && there && o->update)
        rc = manifest_open(o->out, out_old, e);
    if (rc == 0 && *out_old)
        rc = index_update_mark(&x->files, *out_old, e);
    return rc;
}

static int write_missing(const struct index_options *o, const struct indexing *x, struct err *e)
{
    char path[PATH_MAX];
    int rc = fs_path(path, e, "%s.missing", o->out);
    return rc == 0 ? index_resolve_write_missing(&x->rows, path, e) : rc;
}

static int probe_and_write(const struct index_options *o, struct indexing *x, const struct manifest *old,
                           struct index_summary *s, struct err *e)
{
    struct index_files *files = &x->files;
    char path[PATH_MAX];
    struct index_partial partial = {.fd = -1};
    catch_signals(); /* only now: before there is nothing to leave in order */
    int rc = fs_path(path, e, "%s.partial", o->out);
    if (rc == 0)
        rc = index_partial_open(&partial, path, files->root, on_record, files, e);
    if (rc == 0)
        rc = index_probe_all(files, &partial, o->jobs, &stop, &s->probed, e);
    if (rc == 0)
        rc = index_write(o->out, files, &partial, old, has_labels(o, x), s, e);
    if (rc == 0)
        rc = write_missing(o, x, e);
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

static int run(const struct index_options *o, struct indexing *x, struct err *e)
{
    struct index_summary s = {0};
    struct manifest *old = NULL;
    double start_s = progress_now_s();
    int rc = find_all(o, x, &old, e);
    if (rc == 0)
        rc = probe_and_write(o, x, old, &s, e);
    if (rc == 0)
        warn_of_quarantine(o, old, &s);
    manifest_close(old);
    if (rc)
        return rc;
    s.seconds = progress_now_s() - start_s;
    print(o, x, &s);
    if (fflush(stdout) || ferror(stdout))
        return err_sys(e, errno, "write the summary");
    return 0;
}

int cli_index(int argc, char **argv)
{
    struct index_options o;
    struct indexing x = {0};
    struct err e = {0};
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    int rc = run(&o, &x, &e);
    if (rc)
        fprintf(stderr, "xdc index: %s\n", e.msg);
    index_files_close(&x.files);
    index_rows_close(&x.rows);
    return err_exit_status(rc);
}
