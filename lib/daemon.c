#include "lib/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/log.h"

#define INDEX_MAX 65535

/* What the command line says; `sets` points into argv. */
struct options {
    const char **sets; /* owned */
    size_t n_sets;
    bool check, rank_given;
};

enum long_option { OPTION_SET = 256, OPTION_RANK, OPTION_INDEX, OPTION_HELP_CONFIG };

static int usage(const char *name, const char *what, const char *which)
{
    fprintf(stderr, "%s: %s%s; see %s --help\n", name, what, which, name);
    return err_exit_status(XDC_EUSAGE);
}

static bool parse_index(const char *text, int *out)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < 0 || v > INDEX_MAX)
        return false;
    *out = (int)v;
    return true;
}

/* -1, or the exit status. */
static int parse_options(struct daemon *d, const char *help, int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'n'},
        {"verbose", no_argument, NULL, 'v'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {"help-config", no_argument, NULL, OPTION_HELP_CONFIG},
        {"set", required_argument, NULL, OPTION_SET},
        {"rank", required_argument, NULL, OPTION_RANK},
        {"index", required_argument, NULL, OPTION_INDEX},
        {0},
    };
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":c:nvVh", longs, NULL)) != -1;) {
        switch (c) {
        case 'c':
            if (strlen(optarg) >= sizeof d->config_path)
                return usage(d->name, "too long a path: ", optarg);
            snprintf(d->config_path, sizeof d->config_path, "%s", optarg);
            break;
        case 'n':
            o->check = true;
            break;
        case 'v':
            d->verbose = true;
            break;
        case 'V':
            printf("%s %s\n", d->name, XDC_VERSION);
            return 0;
        case 'h':
            fputs(help, stdout);
            return 0;
        case OPTION_HELP_CONFIG:
            conf_print_schema(stdout);
            return 0;
        case OPTION_SET:
            o->sets[o->n_sets++] = optarg;
            break;
        case OPTION_RANK:
        case OPTION_INDEX:
            o->rank_given = c == OPTION_RANK;
            d->index_given = true;
            if (!parse_index(optarg, &d->index))
                return usage(d->name, "not a number from 0 to 65535: ", optarg);
            break;
        case ':':
            return usage(d->name, "a value is missing after ", argv[optind - 1]);
        default:
            return usage(d->name, "unknown option ", argv[optind - 1]);
        }
    }
    return optind < argc ? usage(d->name, "unexpected argument ", argv[optind]) : -1;
}

/* A process that `xdc run` started ends with it, even when it is killed. -1, or the exit status when it is
 * gone already. */
static int follow_supervisor(const char *name)
{
    const char *text = getenv("XDC_SUPERVISOR_PID");
    pid_t supervisor = text ? (pid_t)strtol(text, NULL, 10) : 0;
    if (supervisor <= 0)
        return -1;
    if (getppid() == supervisor) {
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0) {
            int errnum = errno;
            fprintf(stderr, "%s: follow the supervisor: %s\n", name, strerror(errnum));
            return err_exit_status(-errnum);
        }
        if (getppid() == supervisor)
            return -1;
    } else if (kill(supervisor, 0) == 0 || errno != ESRCH) {
        return -1; /* alive, but somebody stands between: a shell or a debugger */
    }
    fprintf(stderr, "%s: the supervisor, process %d, is gone\n", name, (int)supervisor);
    return err_exit_status(XDC_ESTOPPED);
}

static void on_fault(void *arg, const char *where, const char *what)
{
    const struct daemon *d = arg;
    fprintf(stderr, "%s: %s: %s\n", d->name, where, what);
}

/* -1, or the exit status. */
static int load_config(struct daemon *d, const struct options *o)
{
    struct err e;
    int rc = conf_load(d->config_path, o->sets, o->n_sets, on_fault, d, &d->conf, &e);
    if (rc < 0) {
        fprintf(stderr, "%s: %s; %s --help-config explains every key\n", d->name, e.msg, d->name);
        return err_exit_status(rc);
    }
    if (o->rank_given && d->index >= d->conf.run.ranks)
        return usage(d->name, "--rank is not below run.ranks", "");
    if (o->check) {
        printf("configuration is good\n");
        return 0;
    }
    /* A clusterer with a directory of its own may be where the run's is not. */
    if (d->conf.cluster.dir[0] && strcmp(d->name, "xdc-clusterer") == 0)
        return -1;
    rc = fs_mkdirs(d->conf.run.dir, &e);
    if (rc < 0) {
        fprintf(stderr, "%s: run.dir: %s\n", d->name, e.msg);
        return err_exit_status(rc);
    }
    return -1;
}

int daemon_begin(struct daemon *d, const char *name, const char *help, int argc, char **argv)
{
    memset(d, 0, sizeof *d);
    d->name = name;
    struct options o = {.sets = calloc((size_t)argc + 1, sizeof *o.sets)};
    if (!o.sets)
        return err_exit_status(-ENOMEM);
    int status = parse_options(d, help, argc, argv, &o);
    if (status < 0)
        status = follow_supervisor(name);
    if (status < 0)
        status = load_config(d, &o);
    if (status < 0)
        log_init(name, d->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    free(o.sets);
    return status;
}

static void on_stop_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    struct daemon *d = h->data;
    d->stop(d->arg);
}

static void on_checkpoint_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    struct daemon *d = h->data;
    if (d->checkpoint)
        d->checkpoint(d->arg);
}

/* A handle with data is open: daemon_end closes it. */
static int catch_signal(struct daemon *d, uv_loop_t *loop, uv_signal_t *h, uv_signal_cb call, int signum,
                        struct err *e)
{
    int rc = uv_signal_init(loop, h);
    if (rc == 0) {
        h->data = d;
        rc = uv_signal_start(h, call, signum);
    }
    return rc < 0 ? err_set(e, rc, "catch signal %d: %s", signum, uv_strerror(rc)) : 0;
}

int daemon_signals(struct daemon *d, uv_loop_t *loop, void (*stop)(void *), void (*checkpoint)(void *),
                   void *arg, struct err *e)
{
    d->stop = stop;
    d->checkpoint = checkpoint;
    d->arg = arg;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return err_sys(e, errno, "ignore SIGPIPE");
    int rc = catch_signal(d, loop, &d->on_term, on_stop_signal, SIGTERM, e);
    if (rc == 0)
        rc = catch_signal(d, loop, &d->on_int, on_stop_signal, SIGINT, e);
    /* Also without a checkpoint to make: SIGUSR1 would end the process. */
    if (rc == 0)
        rc = catch_signal(d, loop, &d->on_usr1, on_checkpoint_signal, SIGUSR1, e);
    return rc;
}

void daemon_ready(const char *status)
{
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void daemon_end(struct daemon *d)
{
    uv_signal_t *const handles[] = {&d->on_term, &d->on_int, &d->on_usr1};
    sd_notify(0, "STOPPING=1");
    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
        if (!handles[i]->data)
            continue;
        handles[i]->data = NULL;
        uv_close((uv_handle_t *)handles[i], NULL);
    }
}

/* `<runtime dir>/<name>.sock`, which must fit into a sockaddr_un. */
static int socket_path(const struct conf *c, const char *name, char out[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX];
    int rc = fs_runtime_dir(c->run.dir, dir, e);
    if (rc == 0)
        rc = fs_path(out, e, "%s/%s.sock", dir, name);
    if (rc == 0 && strlen(out) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        rc = err_set(e, -ENAMETOOLONG,
                     "%s is too long for a socket: let XDG_RUNTIME_DIR name a shorter directory", out);
    return rc;
}

/* Each rank binds its own: the next ports of a tcp endpoint, "-<rank>" behind an ipc one. */
static int given_endpoint(const char *given, int rank, char out[CONF_STRING_MAX], struct err *e)
{
    const char *colon = strrchr(given, ':');
    int n, port;
    if (rank == 0)
        n = snprintf(out, CONF_STRING_MAX, "%s", given);
    else if (strncmp(given, "tcp://", 6) != 0)
        n = snprintf(out, CONF_STRING_MAX, "%s-%d", given, rank);
    else if (parse_index(colon + 1, &port) && port + rank <= INDEX_MAX)
        n = snprintf(out, CONF_STRING_MAX, "%.*s:%d", (int)(colon - given), given, port + rank);
    else
        return err_set(e, XDC_ECONF, "endpoint %s: there is no port for rank %d", given, rank);
    return n < CONF_STRING_MAX ? 0
                               : err_set(e, XDC_ECONF, "endpoint %s is too long for rank %d", given, rank);
}

int daemon_endpoint(const struct conf *c, const char *edge, int rank, char out[CONF_STRING_MAX],
                    struct err *e)
{
    char path[PATH_MAX], name[64];
    const char *given;
    if (strcmp(edge, "clips") == 0)
        given = c->endpoints.clips;
    else if (strcmp(edge, "features") == 0)
        given = c->endpoints.features;
    else if (strcmp(edge, "labels") == 0)
        given = c->endpoints.labels;
    else
        return err_set(e, -EINVAL, "there is no edge '%s'", edge);
    if (*given)
        return given_endpoint(given, strcmp(edge, "labels") == 0 ? 0 : rank, out, e);
    /* The clusterer alone binds labels; the other edges are bound by each rank. */
    if (strcmp(edge, "labels") == 0)
        snprintf(name, sizeof name, "labels");
    else
        snprintf(name, sizeof name, "%s-%d", edge, rank);
    int rc = socket_path(c, name, path, e);
    if (rc == 0)
        snprintf(out, CONF_STRING_MAX, "ipc://%.*s", CONF_STRING_MAX - 7, path);
    return rc;
}

int daemon_status_path(const struct conf *c, const char *name, char *out, size_t size, struct err *e)
{
    char path[PATH_MAX];
    int rc = socket_path(c, name, path, e);
    if (rc < 0)
        return rc;
    if (strlen(path) >= size)
        return err_sys(e, ENAMETOOLONG, "socket %s", path);
    memcpy(out, path, strlen(path) + 1);
    return 0;
}
