/* xdc synth: made-up videos with sound and known event classes, to try the whole pipeline on. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/worker_pool.h"
#include "lib/cpus.h"
#include "lib/fsutil.h"
#include "lib/media/synth.h"
#include "lib/progress.h"

#define JOBS_MAX 256

static const char help[] =
    "examples:\n"
    "  xdc synth --out clips --videos 240                        240 videos of 8 event classes in "
    "clips/videos\n"
    "  xdc synth --out clips --videos 240 --flaws                the same, and 4 x 12 broken files among "
    "them\n"
    "  xdc synth --out big --videos 5000 --classes 16 --seed 7   another set, harder\n"
    "  xdc index clips/videos --out m.lmdb --labels clips/labels.csv    what usually comes next\n"
    "\n"
    "usage: xdc synth --out DIR [options]\n"
    "  --out DIR      directory to write: DIR/videos/*.mp4 and DIR/labels.csv (path,label,split)\n"
    "  --videos N     videos (default 240)\n"
    "  --classes C    event classes, 2 to 64 (default 8); up to 8 are easy, more share shapes and timbres\n"
    "  --seed S       another seed, other videos (default 0)\n"
    "  --flaws        add max(1, N/20) videos each that are silent, too short, truncated, without sound\n"
    "  --jobs J       videos written at a time (default: one per CPU)\n"
    "  --force        replace the set that the directory holds\n"
    "  --json         print the summary as one JSON object\n"
    "\n"
    "H.264 + AAC in mp4, 30 fps, 160x120 or 176x144, 2.5 to 6 s. An event class pairs a moving shape with a\n"
    "rhythmic sound; nothing else in picture or sound depends on it. Every fifth video has split test. The "
    "same\n"
    "command gives the same videos. labels.csv is written last: where it is, the set is complete.\n"
    "Exits 0, 64 for wrong arguments, 73 when DIR has a set already, else as sysexits.h says.\n";

struct synth_options {
    const char *dir;
    uint64_t videos, seed;
    uint32_t classes, jobs;
    bool flaws, force, json;
};

/* What the writer threads share. The first failure stops all. */
struct synth_job {
    const struct synth_options *options;
    uint64_t flaws_each, total;
    atomic_uint_fast64_t next, done, bytes;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards error */
    struct err error;
};

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct synth_options *o)
{
    unsigned cpus = cpus_usable();
    *o = (struct synth_options){.videos = 240, .classes = 8, .jobs = cpus < JOBS_MAX ? cpus : JOBS_MAX};
    const struct cli_option options[] = {
        {"out", .text = &o->dir},
        {"videos", .count = &o->videos, .lo = 1, .hi = 99999},
        {"classes", .count32 = &o->classes, .lo = 2, .hi = SYNTH_CLASSES_MAX},
        {"seed", .count = &o->seed, .hi = UINT64_MAX},
        {"jobs", .count32 = &o->jobs, .lo = 1, .hi = JOBS_MAX},
        {"flaws", .on = &o->flaws},
        {"force", .on = &o->force},
        {"json", .on = &o->json},
        {0}};
    int status = cli_options("synth", help, options, argc, argv);
    if (status >= 0)
        return status;
    if (optind < argc)
        return cli_usage("synth", "it takes no arguments beside its options");
    if (!o->dir || !*o->dir)
        return cli_usage("synth", "--out DIR is missing");
    return -1;
}

/* Item i of the set: its videos first, then the flaws kind by kind. Their looks go on where the videos' end.
 */
static void item(const struct synth_job *job, uint64_t i, struct synth_clip *c, char name[64])
{
    const struct synth_options *o = job->options;
    synth_clip_init(c, o->seed, i, o->classes);
    if (i < o->videos) {
        snprintf(name, 64, "videos/%05" PRIu64 ".mp4", i);
        return;
    }
    uint64_t k = i - o->videos;
    enum synth_flaw flaw = (enum synth_flaw)(SYNTH_SOUND + 1 + k / job->flaws_each);
    synth_clip_spoil(c, flaw, k % job->flaws_each);
    snprintf(name, 64, "videos/flaw-%s-%04" PRIu64 ".mp4", synth_flaw_name(flaw), k % job->flaws_each);
}

static int write_item(struct synth_job *job, uint64_t i, struct err *e)
{
    struct synth_clip c;
    char name[64], path[PATH_MAX];
    item(job, i, &c, name);
    int rc = fs_path(path, e, "%s/%s", job->options->dir, name);
    if (!rc)
        rc = synth_write(&c, path, e);
    struct stat st;
    if (!rc && !stat(path, &st))
        atomic_fetch_add(&job->bytes, (uint64_t)st.st_size);
    return rc;
}

static void *writer_main(void *arg)
{
    struct synth_job *job = arg;
    while (!atomic_load(&job->stop)) {
        uint64_t i = atomic_fetch_add(&job->next, 1);
        if (i >= job->total)
            break;
        struct err e = {0};
        if (write_item(job, i, &e)) {
            pthread_mutex_lock(&job->lock);
            if (!job->error.code)
                job->error = e;
            pthread_mutex_unlock(&job->lock);
            atomic_store(&job->stop, true);
            break;
        }
        atomic_fetch_add(&job->done, 1);
    }
    return NULL;
}

/* Runs the writers and shows how far they are. */
static int write_videos(struct synth_job *job, struct err *e)
{
    pthread_t threads[JOBS_MAX];
    uint32_t running = 0;
    int rc = 0;
    while (!rc && running < job->options->jobs && running < job->total) {
        rc = pthread_create(&threads[running], NULL, writer_main, job);
        running += !rc;
    }
    if (!running)
        return err_sys(e, rc, "start writer");
    struct progress p;
    progress_init(&p, "synth", job->total);
    while (!atomic_load(&job->stop) && atomic_load(&job->done) < job->total) {
        progress_set(&p, atomic_load(&job->done));
        progress_print(&p, stderr, false);
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    }
    for (uint32_t i = 0; i < running; i++)
        pthread_join(threads[i], NULL);
    progress_set(&p, atomic_load(&job->done));
    progress_print(&p, stderr, true);
    *e = job->error;
    return e->code;
}

static int write_labels(const struct synth_job *job, const char *path, struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return err_sys(e, errno, "allocate labels");
    fputs("path,label,split\n", f);
    for (uint64_t i = 0; i < job->total; i++) {
        struct synth_clip c;
        char name[64];
        item(job, i, &c, name);
        if (c.flaw)
            fprintf(f, "%s,,train\n", name);
        else
            fprintf(f, "%s,c%u,%s\n", name, c.label, synth_is_test(i) ? "test" : "train");
    }
    int rc = fclose(f) ? err_sys(e, errno, "write labels") : fs_write_atomic(path, text, size, e);
    free(text);
    return rc;
}

/* "00017.mp4" and "flaw-short-0000.mp4" are ours; anything else in the folder stays. */
static bool is_ours(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    return !strncmp(name, "flaw-", 5) || (digits == 5 && !strcmp(name + digits, ".mp4"));
}

/* Takes away the videos of an earlier set, which may have been larger; without --force there must be none. */
static int clear_videos(const char *videos, bool force, struct err *e)
{
    DIR *d = opendir(videos);
    if (!d)
        return err_sys(e, errno, "open %s", videos);
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(d));) {
        if (!is_ours(entry->d_name))
            continue;
        if (!force)
            rc = err_set(e, -EEXIST, "%s has videos already: give another --out, or --force to replace them",
                         videos);
        else if (unlinkat(dirfd(d), entry->d_name, 0))
            rc = err_sys(e, errno, "remove %s/%s", videos, entry->d_name);
    }
    closedir(d);
    return rc;
}

/* DIR/videos is there and empty of our videos, and DIR/labels.csv is not there. */
static int prepare(const struct synth_options *o, char labels[PATH_MAX], struct err *e)
{
    char videos[PATH_MAX];
    int rc = fs_path(labels, e, "%s/labels.csv", o->dir);
    if (!rc)
        rc = fs_path(videos, e, "%s/videos", o->dir);
    if (rc)
        return rc;
    if (!o->force && !access(labels, F_OK))
        return err_set(e, -EEXIST, "%s exists: give another --out, or --force to replace the set", labels);
    if (unlink(labels) && errno != ENOENT && errno != ENOTDIR)
        return err_sys(e, errno, "remove %s", labels);
    rc = fs_mkdirs(videos, e);
    return rc ? rc : clear_videos(videos, o->force, e);
}

static void summarise(const struct synth_job *job, const char *labels, double seconds)
{
    const struct synth_options *o = job->options;
    uint64_t flaws = job->total - o->videos, bytes = atomic_load(&job->bytes);
    if (!o->json) {
        printf("%" PRIu64 " videos of %u classes, %" PRIu64 " flawed, %.1f MB in %.1f s\nlabels: %s\n",
               o->videos, o->classes, flaws, (double)bytes / 1e6, seconds, labels);
        return;
    }
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "dir", o->dir, "labels", labels, "videos",
                  (json_int_t)o->videos, "classes", (json_int_t)o->classes, "seed", (json_int_t)o->seed,
                  "flaws", (json_int_t)flaws, "size_bytes", (json_int_t)bytes, "seconds", seconds);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
    putchar('\n');
    json_decref(j);
}

int cli_synth(int argc, char **argv)
{
    struct synth_options o;
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    struct synth_job job = {.options = &o, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (o.flaws)
        job.flaws_each = o.videos / 20 ? o.videos / 20 : 1;
    job.total = o.videos + job.flaws_each * (SYNTH_FLAWS - 1);
    char labels[PATH_MAX];
    struct err e = {0};
    double start_s = progress_now_s();
    int rc = prepare(&o, labels, &e);
    if (!rc)
        rc = write_videos(&job, &e);
    if (!rc)
        rc = write_labels(&job, labels, &e);
    if (rc) {
        fprintf(stderr, "xdc synth: %s\n", e.msg);
        return err_exit_status(rc);
    }
    summarise(&job, labels, progress_now_s() - start_s);
    return EX_OK;
}
