/* status_get: what the client makes of servers that answer well, badly, endlessly or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "lib/status.h"

#define TIMEOUT_MS 5000

static char dir[] = "/tmp/xdc-test-status-get-XXXXXX";
static char sock_path[64];

static int listen_at_path(int queue)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", sock_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, queue), 0);
    return fd;
}

/* What a false server answers, and what the client makes of it. */
struct answer {
    const char *text;
    int repeat; /* times `text` is sent */
    int http;   /* expected when rc is 0 */
    int rc;
    const char *body;
};

static int false_listen;
static const struct answer *false_answer;
static size_t false_sent; /* bytes that the client, or the buffer of its socket, has taken */

static void *false_server(void *arg)
{
    char request[2048];
    (void)arg;
    int fd = accept(false_listen, NULL, NULL);
    if (recv(fd, request, sizeof request, 0) > 0) {
        ssize_t n = 0;
        for (int i = 0; i < false_answer->repeat && n >= 0; i++) {
            n = send(fd, false_answer->text, strlen(false_answer->text), MSG_NOSIGNAL);
            false_sent += n > 0 ? (size_t)n : 0;
        }
    }
    /* The client hangs up first when it has seen too much. */
    shutdown(fd, SHUT_WR);
    while (recv(fd, request, sizeof request, 0) > 0)
        ;
    close(fd);
    return NULL;
}

/* The client takes complete answers and refuses, without reading on for ever, what is cut, endless or no
 * HTTP. */
static void client_is_strict(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 1, 200, 0, "hi"},
        {"HTTP/1.0 503 No\r\nX: 1\r\ncontent-length:   2\r\n\r\nhi", 1, 503, 0, "hi"},
        {"HTTP/1.1 204\r\n\r\n", 1, 204, 0, ""},
        {"HTTP/1.1 200 OK\r\nServer: no length\r\n\r\nto the end", 1, 200, 0, "to the end"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nhi", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 2000 OK\r\n\r\n", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 20\r\n\r\n", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/2 200 OK\r\n\r\n", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Le", 1, 0, XDC_EFORMAT, NULL},
        {"SSH-2.0-x\r\n\r\n", 1, 0, XDC_EFORMAT, NULL},
        {"", 1, 0, XDC_EFORMAT, NULL},
        {"HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234567890123456789", 200000, 0, XDC_EFORMAT, NULL},
        {"a header that never ends, ", 400000, 0, XDC_EFORMAT, NULL},
    };
    false_listen = listen_at_path(1);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct err e;
        pthread_t t;
        char *body;
        int http;
        false_answer = &answers[i];
        false_sent = 0;
        assert_int_equal(pthread_create(&t, NULL, false_server, NULL), 0);
        int rc = status_get(sock_path, "/x", TIMEOUT_MS, &body, &http, &e);
        pthread_join(t, NULL);
        if (rc != answers[i].rc)
            fail_msg("answer %zu: %d %s", i, rc, e.msg);
        if (answers[i].rc == 0) {
            assert_int_equal(http, answers[i].http);
            assert_string_equal(body, answers[i].body);
        } else {
            assert_null(body);
        }
        assert_true(false_sent < 6u << 20);
        free(body);
    }
    close(false_listen);
    unlink(sock_path);
}

/* A server that accepts and stays silent costs the timeout, no more; targets that would smuggle a line are
 * refused. */
static void client_gives_up(void **state)
{
    (void)state;
    static const char *const bad[] = {"status", "", "/a b", "/a\r\nX: 1", "/\x7f"};
    struct err e;
    char *body;
    int http;
    int fd = listen_at_path(0);
    double before_s = progress_now_s();
    assert_int_equal(status_get(sock_path, "/status", 200, &body, &http, &e), -ETIMEDOUT);
    assert_null(body);
    assert_true(progress_now_s() - before_s >= 0.19 && progress_now_s() - before_s < 4);

    /* Nobody has accepted the first: the queue of one is full, and connect itself has to wait. */
    assert_int_equal(status_get(sock_path, "/status", 100, &body, &http, &e), -ETIMEDOUT);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(status_get(sock_path, bad[i], 100, &body, &http, &e), XDC_EUSAGE);
    close(fd);
    unlink(sock_path);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(sock_path, sizeof sock_path, "%s/x.sock", dir);
    return 0;
}

static int tear_down(void **state)
{
    struct err e;
    (void)state;
    return fs_remove_tree(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_is_strict),
        cmocka_unit_test(client_gives_up),
    };
    return cmocka_run_group_tests_name("status_get", tests, set_up, tear_down);
}
