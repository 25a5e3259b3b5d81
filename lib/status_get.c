/* The client of status.c: one GET over a Unix socket, HTTP/1.1 with Connection: close. Every wait counts
 * against one deadline, and what the other side sends is bounded and taken for hostile. */
#include "lib/status.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/progress.h"

#define HEAD_MAX ((size_t)16 << 10)
#define BODY_MAX ((size_t)4 << 20)

struct reply {
    char *data; /* owned: head and body as they came, a NUL behind them */
    size_t size, capacity;
};

/* Waits for `events` until the deadline. */
static int wait_for(int fd, short events, double deadline_s, struct err *e)
{
    for (;;) {
        double left_s = deadline_s - progress_now_s();
        if (left_s <= 0)
            return err_set(e, -ETIMEDOUT, "no answer in time");
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, (int)(left_s * 1000) + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_sys(e, errno, "poll");
    }
}

static int connect_to(int fd, const char *path, double deadline_s, struct err *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return err_set(e, -ENAMETOOLONG, "a socket path holds %zu bytes", sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    while (connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return err_sys(e, errno, "connect");
        /* EAGAIN: the server's queue is full. A Unix socket has no event for its end. */
        if (progress_now_s() > deadline_s)
            return err_set(e, -ETIMEDOUT, "no answer in time");
        const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int send_request(int fd, const char *target, double deadline_s, struct err *e)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                     target);
    if (n < 0 || (size_t)n >= sizeof text)
        return err_set(e, XDC_EUSAGE, "the target is too long");
    for (size_t sent = 0; sent < (size_t)n;) {
        ssize_t m = send(fd, text + sent, (size_t)n - sent, MSG_NOSIGNAL);
        if (m >= 0) {
            sent += (size_t)m;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return err_sys(e, errno, "send");
        int r = wait_for(fd, POLLOUT, deadline_s, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int grow(struct reply *r, struct err *e)
{
    if (r->size + 1 < r->capacity)
        return 0;
    size_t capacity = r->capacity ? 2 * r->capacity : 8192;
    char *larger = realloc(r->data, capacity);
    if (!larger)
        return err_sys(e, ENOMEM, "%zu bytes", capacity);
    r->data = larger;
    r->capacity = capacity;
    return 0;
}

/* Reads to the end of the stream. */
static int receive(int fd, struct reply *reply, double deadline_s, struct err *e)
{
    for (;;) {
        int r = grow(reply, e);
        if (r < 0)
            return r;
        ssize_t n = recv(fd, reply->data + reply->size, reply->capacity - reply->size - 1, 0);
        if (n == 0)
            break;
        if (n > 0) {
            reply->size += (size_t)n;
            if (reply->size > HEAD_MAX + BODY_MAX)
                return err_set(e, XDC_EFORMAT, "the answer is over 4 MiB");
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return err_sys(e, errno, "receive");
        r = wait_for(fd, POLLIN, deadline_s, e);
        if (r < 0)
            return r;
    }
    reply->data[reply->size] = '\0';
    return 0;
}

/* "HTTP/1.x NNN ..." */
static int parse_status_line(const char *head, int *out_http, struct err *e)
{
    if (strncmp(head, "HTTP/1.", 7) != 0 || (head[7] != '0' && head[7] != '1') || head[8] != ' ')
        return err_set(e, XDC_EFORMAT, "the answer is not HTTP/1.1");
    int code = 0;
    for (int i = 9; i < 12; i++) {
        if (head[i] < '0' || head[i] > '9')
            return err_set(e, XDC_EFORMAT, "the answer has no HTTP status");
        code = 10 * code + (head[i] - '0');
    }
    if (code < 100 || (head[12] != ' ' && head[12] != '\r'))
        return err_set(e, XDC_EFORMAT, "the answer has no HTTP status");
    *out_http = code;
    return 0;
}

/* The value of a header in [head, end), NULL without it. Lines end with CR LF. */
static const char *find_header(const char *head, const char *end, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line < end; line = strstr(line, "\r\n")) {
        line += 2;
        if ((size_t)(end - line) > n && strncasecmp(line, name, n) == 0 && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    }
    return NULL;
}

/* The body's place in the answer. */
static int parse_reply(const struct reply *r, size_t *out_start, size_t *out_size, int *out_http,
                       struct err *e)
{
    const char *end = strstr(r->data, "\r\n\r\n");
    if (!end || (size_t)(end - r->data) > HEAD_MAX)
        return err_set(e, XDC_EFORMAT, "the answer has no complete head");
    int status = parse_status_line(r->data, out_http, e);
    if (status < 0)
        return status;
    if (find_header(r->data, end + 2, "Transfer-Encoding"))
        return err_set(e, XDC_EFORMAT, "the answer comes in chunks");
    *out_start = (size_t)(end - r->data) + 4;
    *out_size = r->size - *out_start;
    if (*out_size > BODY_MAX)
        return err_set(e, XDC_EFORMAT, "the answer is over 4 MiB");
    const char *length = find_header(r->data, end + 2, "Content-Length");
    if (!length)
        return 0;
    char *rest;
    errno = 0;
    unsigned long long n = strtoull(length, &rest, 10);
    if (*length < '0' || *length > '9' || errno || *rest != '\r')
        return err_set(e, XDC_EFORMAT, "the answer's length is no number");
    if (n != *out_size)
        return err_set(e, XDC_EFORMAT, "%zu bytes of an answer of %llu", *out_size, n);
    return 0;
}

static int get(int fd, const char *path, const char *target, int timeout_ms, struct reply *reply,
               struct err *e)
{
    double deadline_s = progress_now_s() + timeout_ms * 1e-3;
    int r = connect_to(fd, path, deadline_s, e);
    if (r == 0)
        r = send_request(fd, target, deadline_s, e);
    return r < 0 ? r : receive(fd, reply, deadline_s, e);
}

/* A space or a line end in the target would make another request of it. */
static bool target_is_plain(const char *target)
{
    if (*target != '/')
        return false;
    for (const char *p = target; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return true;
}

int status_get(const char *path, const char *target, int timeout_ms, char **out_body, int *out_http,
               struct err *e)
{
    struct reply reply = {0};
    size_t start = 0, size = 0;
    *out_body = NULL;
    if (!target_is_plain(target))
        return err_set(e, XDC_EUSAGE, "'%s' is no path of a URL", target);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, errno, "create a socket");
    int r = get(fd, path, target, timeout_ms, &reply, e);
    if (r == 0)
        r = parse_reply(&reply, &start, &size, out_http, e);
    close(fd);
    if (r < 0) {
        err_wrap(e, "get %s from %s", target, path);
        free(reply.data);
        return r;
    }
    memmove(reply.data, reply.data + start, size + 1);
    *out_body = reply.data;
    return 0;
}
