/* xdc run: a whole run on this machine, supervised. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/run_live.h"
#include "cli/run_view.h"
#include "lib/daemon.h"
#include "lib/fsutil.h"
#include "lib/manifest.h"
#include "lib/run_json.h"

static const char help[] =
    "examples:\n"
    "  xdc run -c xdc.yaml                                      train; the same command goes on where a run "
    "stopped\n"
    "  xdc run -c xdc.yaml --set train.rounds=8                 the same with one value changed\n"
    "  xdc run -c xdc.yaml -n                                   check the configuration and exit\n\n"
    "Starts run.decoders decoders, the trainer and a clusterer as child processes, starts again what dies, "
    "shows a line per\n"
    "phase and ends with a table. Ctrl-C finishes the step, writes a checkpoint and exits 75; a second one "
    "stops now.\n"
    "The daemons' logs are in <run.dir>/logs; `xdc status RUN` asks them. xdc run --help-config lists every "
    "key.\n";

static json_t *read_finished(const char *dir)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    struct err e;
    if (fs_path(path, &e, "%s/finished.json", dir) < 0 || fs_read(path, 1 << 20, &text, &size, &e) < 0)
        return NULL;
    json_t *j = json_loads(text, 0, NULL);
    free(text);
    return j;
}

/* True when this very run has been trained for all its rounds. Another configuration is the trainer's to
 * refuse. */
static bool is_finished(const struct conf *c, uint64_t run)
{
    json_t *finished = read_finished(c->run.dir), *record;
    struct err unsaid;
    char hex[17];
    bool begun = run_json_read(c->run.dir, &record, &unsaid) == 0;
    snprintf(hex, sizeof hex, "%016" PRIx64, run);
    const char *id = json_string_value(json_object_get(record, "run"));
    bool done = begun && finished && id && strcmp(id, hex) == 0 &&
                json_integer_value(json_object_get(finished, "rounds")) >= c->train.rounds;
    json_decref(finished);
    json_decref(record);
    return done;
}

/* -c and --set of our own command line, for the children. */
static char **child_args(int argc, char **argv)
{
    char **args = calloc((size_t)argc + 1, sizeof *args);
    for (int i = 1; args && i < argc; i++)
        args[i - 1] = argv[i];
    return args;
}

static int conclude(const struct conf *c)
{
    struct err e;
    const char *dir = c->run.dir;
    enum net_pair pair = conf_pair(c);
    if (run_view_summary(dir, stdout, &e) < 0)
        return cli_fail("run", &e);
    if (c->train.rounds == 0)
        printf("features: %s/features/round-0000, for `xdc features`\n", dir);
    if (c->net.encoders != ENCODERS_BOTH && c->train.rounds == 0)
        return 0; /* it was given to the run */
    printf("encoders:");
    for (unsigned i = 0; i < NET_ENCODERS; i++)
        if (c->net.encoders == ENCODERS_BOTH || (c->net.encoders == ENCODERS_VIDEO) == (i == NET_VIDEO))
            printf(" %s/export/%s.safetensors", dir, net_encoder_name(pair, (enum net_encoder)i));
    putchar('\n');
    return 0;
}

static int run_locked(struct daemon *d, int argc, char **argv)
{
    struct err e = {0};
    struct manifest *m = NULL;
    struct run_end end = {0};
    if (manifest_open(d->conf.data.manifest, &m, &e) < 0)
        return cli_fail("run", &e);
    uint64_t run = conf_identity(&d->conf, manifest_identity(m));
    manifest_close(m);
    if (is_finished(&d->conf, run)) {
        printf("the run in %s is finished; more rounds: --set train.rounds=N\n", d->conf.run.dir);
        return conclude(&d->conf);
    }
    char **args = child_args(argc, argv);
    int rc = args ? run_live(d, args, &end, &e) : err_sys(&e, ENOMEM, "arguments");
    free(args);
    if (rc < 0)
        return cli_fail("run", &e);
    if (end.reason[0]) {
        fprintf(stderr, "xdc run: %s\n", end.reason);
        return end.status;
    }
    return conclude(&d->conf);
}

int cli_run(int argc, char **argv)
{
    struct daemon *d = calloc(1, sizeof *d);
    if (!d)
        return 70;
    int status = daemon_begin(d, "xdc run", help, argc, argv);
    if (status >= 0) {
        free(d);
        return status;
    }
    struct err e = {0};
    int lock = -1;
    int rc = run_live_lock("xdc run", d->conf.run.dir, &lock, &e);
    status = rc < 0 ? cli_fail("run", &e) : run_locked(d, argc, argv);
    if (lock >= 0)
        close(lock);
    free(d);
    return status;
}
