/* The server: libmicrohttpd without threads of its own. Its epoll descriptor sits in the loop; whatever it
 * has to do is done by MHD_run from the loop thread. The client is in status_get.c. */
#include "lib/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32
#define IDLE_TIMEOUT_S 15u
#define METRIC_NAME_MAX 256

struct status_server {
    uv_poll_t poll;
    uv_timer_t timer;
    int open_handles;
    struct MHD_Daemon *mhd; /* owned */
    struct status_calls calls;
    char *daemon;  /* owned: copy of calls.daemon */
    int listen_fd; /* owned until mhd has it */
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    bool bound;
    dev_t dev; /* the socket file's, so that another server's is not removed */
    ino_t ino;
};

/* Queues `body` (taken, malloc'd; NULL: out of memory). */
static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, const char *type, char *body)
{
    if (!body)
        return MHD_NO;
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, MHD_HTTP_METHOD_GET);
    enum MHD_Result done = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned code, const char *text)
{
    return answer(c, code, "text/plain; charset=utf-8", strdup(text));
}

/* <prefix>_<part>, with what a metric's name may not hold turned into '_'. */
static void metric_name(char out[METRIC_NAME_MAX], const char *prefix, const char *part)
{
    snprintf(out, METRIC_NAME_MAX, "%s_%s", prefix, part);
    for (char *p = out; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
            *p = '_';
}

/* The shortest form that reads back as the same number. */
static void print_real(FILE *f, double v)
{
    char text[40];
    snprintf(text, sizeof text, "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof text, "%.17g", v);
    fprintf(f, "%s\n", text);
}

/* Two leaves of one name would make the whole page invalid; the first one stands. */
static void metric_leaf(FILE *f, const char *name, const json_t *leaf, json_t *seen)
{
    if (json_object_get(seen, name) || json_object_set_new(seen, name, json_true()) < 0)
        return;
    fprintf(f, "# TYPE %s gauge\n%s ", name, name);
    if (json_is_real(leaf))
        print_real(f, json_real_value(leaf));
    else if (json_is_integer(leaf))
        fprintf(f, "%lld\n", (long long)json_integer_value(leaf));
    else
        fprintf(f, "%d\n", json_is_true(leaf));
}

static void metric_walk(FILE *f, const char *name, json_t *node, json_t *seen)
{
    char child[METRIC_NAME_MAX], number[24];
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach(node, key, value)
    {
        metric_name(child, name, key);
        metric_walk(f, child, value, seen);
    }
    json_array_foreach(node, i, value)
    {
        snprintf(number, sizeof number, "%zu", i);
        metric_name(child, name, number);
        metric_walk(f, child, value, seen);
    }
    if (json_is_number(node) || json_is_boolean(node))
        metric_leaf(f, name, node, seen);
}

/* The status as Prometheus text, malloc'd; NULL without memory. */
static char *metrics_text(const char *daemon, json_t *status)
{
    char name[METRIC_NAME_MAX], *text = NULL;
    size_t size;
    json_t *seen = json_object();
    FILE *f = seen ? open_memstream(&text, &size) : NULL;
    if (f) {
        metric_name(name, "xdc", daemon);
        metric_walk(f, name, status, seen);
        bool bad = ferror(f) != 0;
        if (fclose(f) != 0 || bad) {
            free(text);
            text = NULL;
        }
    }
    json_decref(seen);
    return text;
}

/* The status as JSON with a newline at the end, malloc'd; NULL without memory. */
static char *status_text(const json_t *status, bool pretty)
{
    size_t flags = pretty ? JSON_INDENT(2) : JSON_COMPACT;
    size_t n = json_dumpb(status, NULL, 0, flags);
    char *text = n ? malloc(n + 2) : NULL;
    if (!text)
        return NULL;
    n = json_dumpb(status, text, n, flags);
    memcpy(text + n, "\n", 2);
    return text;
}

static enum MHD_Result answer_health(struct status_server *s, struct MHD_Connection *c)
{
    const char *why = s->calls.unhealthy ? s->calls.unhealthy(s->calls.arg) : NULL;
    return answer_text(c, why ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, why ? why : "ok");
}

static enum MHD_Result answer_status(struct status_server *s, struct MHD_Connection *c, bool metrics)
{
    json_t *status = s->calls.status(s->calls.arg);
    if (!status)
        return answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the status\n");
    const char *value;
    size_t size;
    bool pretty =
        MHD_lookup_connection_value_n(c, MHD_GET_ARGUMENT_KIND, "pretty", 6, &value, &size) == MHD_YES;
    char *text = metrics ? metrics_text(s->daemon, status) : status_text(status, pretty);
    json_decref(status);
    return answer(c, MHD_HTTP_OK, metrics ? "text/plain; version=0.0.4; charset=utf-8" : "application/json",
                  text);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size,
                                  void **request)
{
    struct status_server *s = arg;
    (void)version;
    (void)upload;
    (void)upload_size;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    /* The first call has the headers alone; an answer then would close a connection that could be kept. */
    if (!*request) {
        *request = s;
        return MHD_YES;
    }
    if (strcmp(url, "/healthz") == 0)
        return answer_health(s, c);
    if (strcmp(url, "/status") == 0 || strcmp(url, "/metrics") == 0)
        return answer_status(s, c, url[1] == 'm');
    return answer_text(c, MHD_HTTP_NOT_FOUND, "there are /status, /metrics and /healthz\n");
}

static void on_timer(uv_timer_t *t);

/* MHD wants another turn after this time even if no descriptor moves: idle connections, or work that did not
 * fit in one. */
static void run_mhd(struct status_server *s)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(s->mhd);
    if (MHD_get_timeout(s->mhd, &wait_ms) == MHD_YES)
        uv_timer_start(&s->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&s->timer);
}

static void on_timer(uv_timer_t *t)
{
    run_mhd(t->data);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    run_mhd(p->data);
}

/* Whether somebody accepts on the socket file; what is no socket is never ours to replace. */
static int clear_stale(const struct sockaddr_un *addr, struct err *e)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "stat %s", addr->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, -EEXIST, "%s is there and is not a socket", addr->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, errno, "create a socket");
    int r = connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? errno : 0;
    close(fd);
    /* EAGAIN: its queue is full, so somebody listens. */
    if (r == 0 || r == EAGAIN)
        return err_set(e, XDC_ELOCKED, "another process serves on %s", addr->sun_path);
    if (r != ECONNREFUSED && r != ENOENT)
        return err_sys(e, r, "connect to %s", addr->sun_path);
    if (unlink(addr->sun_path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "remove the stale %s", addr->sun_path);
    return 0;
}

static int listen_on(struct status_server *s, const char *path, struct err *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof addr.sun_path)
        return err_set(e, -ENAMETOOLONG, "a socket path holds %zu bytes", sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    int r = clear_stale(&addr, e);
    if (r < 0)
        return r;
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0)
        return err_sys(e, errno, "create a socket");
    if (bind(s->listen_fd, (const struct sockaddr *)&addr, sizeof addr) < 0) {
        if (errno == EADDRINUSE)
            return err_set(e, XDC_ELOCKED, "another process has just bound it");
        return err_sys(e, errno, "bind");
    }
    memcpy(s->path, addr.sun_path, sizeof s->path);
    s->bound = true;
    if (lstat(path, &st) < 0)
        return err_sys(e, errno, "stat");
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    if (listen(s->listen_fd, CONNECTIONS_MAX) < 0)
        return err_sys(e, errno, "listen");
    return 0;
}

static int start_mhd(struct status_server *s, int *out_epoll_fd, struct err *e)
{
    s->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
                              s->listen_fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                              MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_END);
    if (!s->mhd)
        return err_sys(e, errno ? errno : ENOMEM, "start the HTTP server");
    s->listen_fd = -1;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return err_set(e, -ENOTSUP, "the HTTP server has no epoll descriptor");
    *out_epoll_fd = info->epoll_fd;
    return 0;
}

static int start(struct status_server *s, uv_loop_t *loop, const char *path, struct err *e)
{
    int epoll_fd = -1;
    int r = listen_on(s, path, e);
    if (r == 0)
        r = start_mhd(s, &epoll_fd, e);
    if (r < 0)
        return r;
    r = uv_poll_init(loop, &s->poll, epoll_fd);
    if (r < 0)
        return err_sys(e, -r, "watch the HTTP server");
    uv_timer_init(loop, &s->timer);
    s->poll.data = s->timer.data = s;
    s->open_handles = 2;
    r = uv_poll_start(&s->poll, UV_READABLE, on_readable);
    return r < 0 ? err_sys(e, -r, "watch the HTTP server") : 0;
}

int status_start(uv_loop_t *loop, const char *path, const struct status_calls *calls,
                 struct status_server **out, struct err *e)
{
    *out = NULL;
    struct status_server *s = calloc(1, sizeof *s);
    if (!s || !(s->daemon = strdup(calls->daemon))) {
        free(s);
        return err_sys(e, ENOMEM, "serve the status on %s", path);
    }
    s->listen_fd = -1;
    s->calls = *calls;
    int r = start(s, loop, path, e);
    if (r < 0) {
        err_wrap(e, "serve the status on %s", path);
        status_stop(s);
        return r;
    }
    *out = s;
    return 0;
}

static void release(struct status_server *s)
{
    free(s->daemon);
    free(s);
}

static void on_closed(uv_handle_t *h)
{
    struct status_server *s = h->data;
    if (--s->open_handles == 0)
        release(s);
}

static void remove_socket_file(const struct status_server *s)
{
    struct stat st;
    if (s->bound && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->path);
}

void status_stop(struct status_server *s)
{
    if (!s)
        return;
    remove_socket_file(s);
    /* The loop must let go of the descriptor before MHD closes it. */
    if (s->open_handles) {
        uv_close((uv_handle_t *)&s->poll, on_closed);
        uv_close((uv_handle_t *)&s->timer, on_closed);
    }
    if (s->mhd)
        MHD_stop_daemon(s->mhd);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (!s->open_handles)
        release(s);
}
