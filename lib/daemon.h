/* daemon: what the three mains share: options, configuration with all its faults, signals, the ready notice,
 * the end with the supervisor. Used by services/<x>/main.c only. Loop thread. The one place of lib/ that
 * writes to stderr, since telling a person about options and configuration is its whole purpose. */
#pragma once
#include <stdbool.h>
#include <uv.h>
#include "lib/conf.h"

struct daemon {
    const char *name; /* "xdc-trainer" */
    struct conf conf;
    char config_path[CONF_STRING_MAX];
    int index; /* --rank R (trainer) or --index I (decoder); 0 */
    bool index_given, verbose;
    uv_signal_t on_term, on_int, on_usr1; /* loop thread */
    void (*stop)(void *arg);              /* SIGTERM, SIGINT */
    void (*checkpoint)(void *arg);        /* SIGUSR1; may be NULL */
    void *arg;
};

/* Parses -c FILE, -n (check and exit), -v, -V, --set KEY=VALUE, --rank R, --index I, -h, --help-config; loads
 * the configuration and prints every fault; makes the run's directory; sets the log up; ends with the
 * supervisor when XDC_SUPERVISOR_PID names the parent. `help`: what --help prints, examples first. Returns -1
 * to go on, else the exit status. */
int daemon_begin(struct daemon *d, const char *name, const char *help, int argc, char **argv) WARN_UNUSED;

/* Catches SIGTERM and SIGINT (stop) and SIGUSR1 (checkpoint) on the loop; SIGPIPE is ignored. Also after a
 * failure daemon_end closes what was opened. */
int daemon_signals(struct daemon *d, uv_loop_t *loop, void (*stop)(void *), void (*checkpoint)(void *),
                   void *arg, struct err *e) WARN_UNUSED;
/* Tells systemd READY=1 with a status line; may be called again with another one. */
void daemon_ready(const char *status);
/* Tells systemd STOPPING=1 and closes the signal handles; call before the loop runs empty. A second call does
 * nothing. */
void daemon_end(struct daemon *d);

/* Endpoint of an edge ("clips", "features", "labels") of rank `rank`: the configured one (for rank R with
 * port + R, or -R behind an ipc path; labels has no ranks), or ipc in the runtime directory. -ENOENT when the
 * run's directory is missing; XDC_ECONF when there is no such port. */
int daemon_endpoint(const struct conf *c, const char *edge, int rank, char out[CONF_STRING_MAX],
                    struct err *e) WARN_UNUSED;
/* Path of a daemon's status socket: <runtime dir>/<name>.sock, e.g. "trainer-0", "decoder-1", "clusterer". */
int daemon_status_path(const struct conf *c, const char *name, char *out, size_t size,
                       struct err *e) WARN_UNUSED;
