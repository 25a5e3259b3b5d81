/* status: a real server on a real loop, asked by the real client and by raw sockets from another thread. */
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
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/fsutil.h"
#include "lib/progress.h"
#include "lib/status.h"

#define TIMEOUT_MS 5000

static char dir[] = "/tmp/xdc-test-status-XXXXXX";
static char sock_path[64];

/* A server with its loop on the test's thread, and the work of a client on another. */
struct fixture {
    uv_loop_t loop;
    uv_async_t finished;
    struct status_server *server;
    const char *sick;
    size_t padding; /* bytes of a string leaf: makes a large status */
    void (*client)(void);
};

static json_t *on_status(void *arg)
{
    struct fixture *f = arg;
    json_t *j = json_pack("{s:s, s:i, s:f, s:b, s:b, s:n, s:{s:I, s:f}, s:[i, {s:i}]}", "phase", "train",
                          "step", 12, "loss", 0.1, "ready", 1, "stalled", 0, "nothing", "edge", "bytes in",
                          (json_int_t)1 << 40, "rate-1/s", 2.5, "ranks", 7, "gpu", 3);
    /* Two keys that sanitising makes equal: a page with both would be invalid. */
    json_object_set_new(j, "a-b", json_integer(1));
    json_object_set_new(j, "a.b", json_integer(2));
    if (f->padding) {
        char *text = malloc(f->padding);
        memset(text, 'x', f->padding);
        json_object_set_new(j, "padding", json_stringn(text, f->padding));
        free(text);
    }
    return j;
}

static const char *on_unhealthy(void *arg)
{
    return ((struct fixture *)arg)->sick;
}

static void on_finished(uv_async_t *a)
{
    struct fixture *f = a->data;
    status_stop(f->server);
    uv_close((uv_handle_t *)a, NULL);
}

static void *client_main(void *arg)
{
    struct fixture *f = arg;
    f->client();
    uv_async_send(&f->finished);
    return NULL;
}

/* Runs `client` on its own thread against a server, then stops the server and runs the loop until it is
 * empty. Assertions of cmocka jump, so the client only records; the test looks at what it recorded
 * afterwards. */
static void serve(struct fixture *f, void (*client)(void))
{
    const struct status_calls calls = {"test-er", on_status, on_unhealthy, f};
    struct err e;
    pthread_t thread;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_async_init(&f->loop, &f->finished, on_finished), 0);
    f->finished.data = f;
    f->client = client;
    assert_int_equal(status_start(&f->loop, sock_path, &calls, &f->server, &e), 0);
    assert_int_equal(pthread_create(&thread, NULL, client_main, f), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(access(sock_path, F_OK), -1);
}

/* What one request brought. */
struct result {
    const char *target;
    int rc, http;
    char *body;
    struct err e;
};

static struct result results[64];
static size_t n_results;

static void ask(const char *target)
{
    struct result *r = &results[n_results++];
    memset(r, 0, sizeof *r);
    r->target = target;
    r->rc = status_get(sock_path, target, TIMEOUT_MS, &r->body, &r->http, &r->e);
}

static void forget(void)
{
    while (n_results)
        free(results[--n_results].body);
}

static int connect_raw(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", sock_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void client_pages(void)
{
    static const char *const targets[] = {"/status", "/status?pretty", "/metrics",  "/healthz",
                                          "/",       "/statuses",      "/../status"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        ask(targets[i]);
}

/* /status is the JSON in one line or indented, /healthz says ok, every other path is 404. */
static void pages(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_pages);
    json_t *want = on_status(&f);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(results[i].rc, 0);
        assert_int_equal(results[i].http, 200);
        json_t *got = json_loads(results[i].body, 0, NULL);
        assert_true(json_equal(got, want));
        json_decref(got);
    }
    json_decref(want);
    assert_ptr_equal(strchr(results[0].body, '\n'), results[0].body + strlen(results[0].body) - 1);
    assert_non_null(strstr(results[1].body, "\n  \"step\": 12,\n"));
    assert_int_equal(results[3].http, 200);
    assert_string_equal(results[3].body, "ok");
    for (size_t i = 4; i < 7; i++) {
        assert_int_equal(results[i].rc, 0);
        assert_int_equal(results[i].http, 404);
    }
    forget();
}

static void client_metrics(void)
{
    ask("/metrics");
}

/* Numbers and booleans become gauges under clean names, everything else is left out, equal names appear once.
 */
static void metrics(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_metrics);
    assert_int_equal(results[0].http, 200);
    assert_string_equal(results[0].body,
                        "# TYPE xdc_test_er_step gauge\nxdc_test_er_step 12\n"
                        "# TYPE xdc_test_er_loss gauge\nxdc_test_er_loss 0.1\n"
                        "# TYPE xdc_test_er_ready gauge\nxdc_test_er_ready 1\n"
                        "# TYPE xdc_test_er_stalled gauge\nxdc_test_er_stalled 0\n"
                        "# TYPE xdc_test_er_edge_bytes_in gauge\nxdc_test_er_edge_bytes_in 1099511627776\n"
                        "# TYPE xdc_test_er_edge_rate_1_s gauge\nxdc_test_er_edge_rate_1_s 2.5\n"
                        "# TYPE xdc_test_er_ranks_0 gauge\nxdc_test_er_ranks_0 7\n"
                        "# TYPE xdc_test_er_ranks_1_gpu gauge\nxdc_test_er_ranks_1_gpu 3\n"
                        "# TYPE xdc_test_er_a_b gauge\nxdc_test_er_a_b 1\n");
    forget();
}

static void client_health(void)
{
    ask("/healthz");
}

/* An unhealthy daemon answers 503 with its sentence. */
static void health(void **state)
{
    struct fixture f = {.sick = "no sample for 60 s"};
    (void)state;
    serve(&f, client_health);
    assert_int_equal(results[0].rc, 0);
    assert_int_equal(results[0].http, 503);
    assert_string_equal(results[0].body, "no sample for 60 s");
    forget();
}

static char raw[65536];
static size_t raw_size;

static void exchange(const char *request)
{
    int fd = connect_raw();
    raw_size = 0;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        ssize_t n;
        while ((n = recv(fd, raw + raw_size, sizeof raw - raw_size - 1, 0)) > 0)
            raw_size += (size_t)n;
    }
    raw[raw_size] = '\0';
    close(fd);
}

static void client_post(void)
{
    exchange("POST /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
}

/* Whatever is not GET is refused, with the method that is allowed. */
static void only_get(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_post);
    assert_int_equal(strncmp(raw, "HTTP/1.1 405 ", 13), 0);
    assert_non_null(strstr(raw, "\r\nAllow: GET\r\n"));
}

static void client_pipelined(void)
{
    exchange("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
             "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

/* Several requests that arrive at once on one kept connection are all answered, though only the first wakes
 * the loop. */
static void pipelined(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_pipelined);
    const char *second = strstr(raw + 1, "HTTP/1.1 200 OK");
    assert_int_equal(strncmp(raw, "HTTP/1.1 200 OK", 15), 0);
    assert_non_null(second);
    assert_non_null(strstr(second, "HTTP/1.1 404 "));
}

static void client_rubbish(void)
{
    exchange("\x16\x03\x01 rubbish\r\n\r\n");
    int silent = connect_raw(), half = connect_raw(), gone = connect_raw();
    if (send(half, "GET /sta", 8, MSG_NOSIGNAL) != 8)
        abort();
    close(gone);
    ask("/healthz");
    close(silent);
    close(half);
}

/* Rubbish, silence, half a request and a client that goes away leave the server answering. */
static void bad_clients(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_rubbish);
    assert_true(raw_size == 0 || strncmp(raw, "HTTP/1.1 4", 10) == 0);
    assert_int_equal(results[0].rc, 0);
    assert_int_equal(results[0].http, 200);
    forget();
}

static void *ask_many(void *arg)
{
    long *good = arg;
    for (int i = 0; i < 50; i++) {
        char *body;
        int http;
        struct err e;
        if (status_get(sock_path, "/status", TIMEOUT_MS, &body, &http, &e) == 0 && http == 200)
            ++*good;
        free(body);
    }
    return NULL;
}

static long good[4];

static void client_crowd(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&t[i], NULL, ask_many, &good[i]) != 0)
            abort();
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

/* Four clients with fifty requests each all get answers, of more bytes than a socket buffer holds. */
static void crowd(void **state)
{
    struct fixture f = {.padding = 300000};
    (void)state;
    memset(good, 0, sizeof good);
    serve(&f, client_crowd);
    for (int i = 0; i < 4; i++)
        assert_int_equal(good[i], 50);
}

static int left_open;

static void client_leaves_open(void)
{
    left_open = connect_raw();
    if (send(left_open, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 34, MSG_NOSIGNAL) != 34)
        abort();
    if (recv(left_open, raw, 1, 0) != 1)
        abort();
}

/* A server with an open connection stops at once, closes it, and its loop runs empty. */
static void stops_with_open_connection(void **state)
{
    struct fixture f = {0};
    (void)state;
    double before_s = progress_now_s();
    serve(&f, client_leaves_open);
    assert_true(progress_now_s() - before_s < 5);
    while (recv(left_open, raw, sizeof raw, 0) > 0)
        ;
    close(left_open);
    status_stop(NULL);
}

static double idle_cpu_s;

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void client_idles(void)
{
    client_leaves_open();
    int silent = connect_raw();
    usleep(50000);
    double before_s = cpu_s();
    usleep(1000000);
    idle_cpu_s = cpu_s() - before_s;
    close(silent);
    close(left_open);
}

/* Connections that are open and silent cost no time: neither the descriptor nor the timer keeps the loop
 * spinning. */
static void idle_costs_nothing(void **state)
{
    struct fixture f = {0};
    (void)state;
    serve(&f, client_idles);
    assert_true(idle_cpu_s < 0.2);
}

/* Binds `sock_path` and closes the socket, as a killed server leaves it. */
static void leave_stale_file(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", sock_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    close(fd);
    assert_int_equal(access(sock_path, F_OK), 0);
}

/* The socket file of a dead server is replaced. */
static void stale_file_is_replaced(void **state)
{
    struct fixture f = {0};
    (void)state;
    leave_stale_file();
    ask("/healthz");
    assert_int_equal(results[0].rc, -ECONNREFUSED);
    forget();
    serve(&f, client_health);
    assert_int_equal(results[0].http, 200);
    forget();
}

/* A live server's file is left alone and the second server is XDC_ELOCKED; what is no socket is never
 * removed. */
static void live_file_is_respected(void **state)
{
    (void)state;
    const struct status_calls calls = {"x", on_status, NULL, NULL};
    struct status_server *first, *second;
    struct stat before, after;
    uv_loop_t loop;
    struct err e;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(status_start(&loop, sock_path, &calls, &first, &e), 0);
    assert_int_equal(stat(sock_path, &before), 0);
    assert_int_equal(status_start(&loop, sock_path, &calls, &second, &e), XDC_ELOCKED);
    assert_null(second);
    assert_non_null(strstr(e.msg, sock_path));
    assert_int_equal(stat(sock_path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    status_stop(first);
    uv_run(&loop, UV_RUN_DEFAULT);

    assert_int_equal(fs_write_atomic(sock_path, "precious", 8, &e), 0);
    assert_int_equal(status_start(&loop, sock_path, &calls, &second, &e), -EEXIST);
    assert_int_equal(stat(sock_path, &after), 0);
    assert_int_equal(after.st_size, 8);
    unlink(sock_path);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* A socket file that another server has put in the place of ours is not removed by our stop. */
static void foreign_file_survives_stop(void **state)
{
    (void)state;
    const struct status_calls calls = {"x", on_status, NULL, NULL};
    struct status_server *s;
    uv_loop_t loop;
    struct err e;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(status_start(&loop, sock_path, &calls, &s, &e), 0);
    /* Moved, not removed: a freed inode number may come back at once. */
    char moved[80];
    snprintf(moved, sizeof moved, "%s.moved", sock_path);
    assert_int_equal(rename(sock_path, moved), 0);
    leave_stale_file();
    status_stop(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(unlink(sock_path), 0);
    assert_int_equal(unlink(moved), 0);
}

/* Paths that cannot be bound: too long for a socket, in no directory. */
static void bad_paths(void **state)
{
    (void)state;
    const struct status_calls calls = {"x", on_status, NULL, NULL};
    char longer[200], nowhere[80];
    struct status_server *s;
    uv_loop_t loop;
    struct err e;
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    snprintf(nowhere, sizeof nowhere, "%s/none/x.sock", dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(status_start(&loop, longer, &calls, &s, &e), -ENAMETOOLONG);
    assert_int_equal(status_start(&loop, nowhere, &calls, &s, &e), -ENOENT);
    assert_int_equal(uv_loop_close(&loop), 0);
    ask("/status");
    assert_int_equal(results[0].rc, -ENOENT);
    assert_non_null(strstr(results[0].e.msg, "get /status from"));
    forget();
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
        cmocka_unit_test(pages),
        cmocka_unit_test(metrics),
        cmocka_unit_test(health),
        cmocka_unit_test(only_get),
        cmocka_unit_test(pipelined),
        cmocka_unit_test(bad_clients),
        cmocka_unit_test(crowd),
        cmocka_unit_test(stops_with_open_connection),
        cmocka_unit_test(idle_costs_nothing),
        cmocka_unit_test(stale_file_is_replaced),
        cmocka_unit_test(live_file_is_respected),
        cmocka_unit_test(foreign_file_survives_stop),
        cmocka_unit_test(bad_paths),
    };
    return cmocka_run_group_tests_name("status", tests, set_up, tear_down);
}
