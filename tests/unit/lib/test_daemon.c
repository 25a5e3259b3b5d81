/* Options and faults are seen as a person sees them: exit status, stdout and stderr of a process of its own.
 */
#include "lib/daemon.h"
#include "lib/fsutil.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GOES_ON 200
#define RUN "--set", "run.dir=r", "--set", "data.manifest=m"

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/xdc-test-daemon-XXXXXX");
    if (!mkdtemp(dir) || chdir(dir) < 0)
        return -1;
    unsetenv("RUNTIME_DIRECTORY");
    unsetenv("NOTIFY_SOCKET");
    unsetenv("XDC_SUPERVISOR_PID");
    return setenv("XDG_RUNTIME_DIR", dir, 1);
}

static int tear_down(void **state)
{
    (void)state;
    return chdir("/") < 0 ? -1 : fs_remove_tree(dir, NULL);
}

static char out_text[65536], err_text[65536];

static void read_text(const char *path, char *text, size_t size)
{
    struct err e;
    char *data;
    size_t n;
    assert_int_equal(fs_read(path, size - 1, &data, &n, &e), 0);
    memcpy(text, data, n + 1);
    free(data);
}

/* daemon_begin in a child; its exit status, or GOES_ON. */
static int begin(const char *const *args, struct daemon *d)
{
    char *argv[32] = {(char[]){"xdc-trainer"}};
    int argc = 1, status;
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("out", "w", stdout) || !freopen("err", "w", stderr))
            _exit(201);
        status = daemon_begin(d, "xdc-trainer", "help with examples\n", argc, argv);
        fflush(NULL);
        _exit(status < 0 ? GOES_ON : status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_text("out", out_text, sizeof out_text);
    read_text("err", err_text, sizeof err_text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Every way to call a daemon has its status, and says its line on the right stream. */
static void command_lines(void **state)
{
    (void)state;
    static const struct {
        const char *args[10];
        int status;
        const char *out, *err;
    } cases[] = {
        {{"-V"}, 0, "xdc-trainer " XDC_VERSION "\n", ""},
        {{"--version"}, 0, "xdc-trainer " XDC_VERSION "\n", ""},
        {{"-h"}, 0, "help with examples\n", ""},
        {{"-n", RUN}, 0, "configuration is good\n", ""},
        {{"-v", RUN}, GOES_ON, "", ""},
        {{"-x"}, 64, "", "xdc-trainer: unknown option -x; see xdc-trainer --help\n"},
        {{"--nope"}, 64, "", "xdc-trainer: unknown option --nope; see xdc-trainer --help\n"},
        {{"-c"}, 64, "", "xdc-trainer: a value is missing after -c; see xdc-trainer --help\n"},
        {{"file"}, 64, "", "xdc-trainer: unexpected argument file; see xdc-trainer --help\n"},
        {{"--rank", "x"}, 64, "", "xdc-trainer: not a number from 0 to 65535: x; see xdc-trainer --help\n"},
        {{"--index", "-1"},
         64,
         "",
         "xdc-trainer: not a number from 0 to 65535: -1; see xdc-trainer --help\n"},
        {{"--rank", "1", RUN},
         64,
         "",
         "xdc-trainer: --rank is not below run.ranks; see xdc-trainer --help\n"},
        {{"-c", "none.yaml"},
         78,
         "",
         "xdc-trainer: none.yaml: cannot be read: open none.yaml: No such file or directory\n"
         "xdc-trainer: the configuration has 1 fault; xdc-trainer --help-config explains every key\n"},
        {{"--set", "run.dir=none.yaml/x", "--set", "data.manifest=m"}, GOES_ON, "", ""},
        {{"--set", "run.dir=/dev/null/x", "--set", "data.manifest=m"},
         70,
         "",
         "xdc-trainer: run.dir: create directory /dev/null/x: Not a directory\n"},
    };
    static struct daemon d;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(begin(cases[i].args, &d), cases[i].status);
        assert_string_equal(out_text, cases[i].out);
        assert_string_equal(err_text, cases[i].err);
    }
}

/* Each fault has its own line with the daemon's name and the place; -n says them too and makes nothing. */
static void faults(void **state)
{
    (void)state;
    static struct daemon d;
    struct err e;
    const char *text = "run.dir: r2\ndata.manifest: m\ntrain: {lr: x,\n    btch: 1}\n";
    assert_int_equal(fs_write_atomic("xdc.yaml", text, strlen(text), &e), 0);
    const char *args[] = {"-n", "-c", "xdc.yaml", "--set", "cluster.k=1", NULL};
    assert_int_equal(begin(args, &d), 78);
    assert_string_equal(
        err_text,
        "xdc-trainer: xdc.yaml:3:13: train.lr: 'x' is not a number\n"
        "xdc-trainer: xdc.yaml:4:5: unknown key train.btch: did you mean train.batch?\n"
        "xdc-trainer: --set cluster.k=1: cluster.k: 1 is out of range: 2 to 1000000 clusters\n"
        "xdc-trainer: the configuration has 3 faults; xdc-trainer --help-config explains every key\n");
    assert_string_equal(out_text, "");
    assert_int_equal(access("r2", F_OK), -1);
}

/* --help-config prints a file that a daemon takes. */
static void help_config(void **state)
{
    (void)state;
    static struct daemon d;
    struct err e;
    const char *print[] = {"--help-config", NULL}, *check[] = {"-n", "-c", "all.yaml", NULL};
    assert_int_equal(begin(print, &d), 0);
    assert_int_equal(fs_write_atomic("all.yaml", out_text, strlen(out_text), &e), 0);
    assert_int_equal(begin(check, &d), 0);
    assert_string_equal(out_text, "configuration is good\n");
}

/* What was asked for is in the struct: path, index, verbosity, configuration; the last --set wins; run.dir
 * exists. */
static void fills_the_struct(void **state)
{
    (void)state;
    static struct daemon d;
    struct err e;
    const char *text = "run.dir: r3\ndata.manifest: m\n";
    assert_int_equal(fs_write_atomic("good.yaml", text, strlen(text), &e), 0);
    char *argv[] = {(char[]){"xdc-decoder"}, (char[]){"-vcgood.yaml"}, (char[]){"--index=3"},
                    (char[]){"--set"},       (char[]){"cluster.k=5"},  (char[]){"--set=cluster.k=6"}};
    for (int i = 0; i < 2; i++) { /* getopt's state does not leak into the second */
        assert_int_equal(daemon_begin(&d, "xdc-decoder", "", 6, argv), -1);
        assert_string_equal(d.name, "xdc-decoder");
        assert_string_equal(d.config_path, "good.yaml");
        assert_int_equal(d.index, 3);
        assert_true(d.verbose);
        assert_int_equal(d.conf.cluster.k, 6);
    }
    struct stat st;
    assert_int_equal(stat("r3", &st), 0);
    assert_true(S_ISDIR(st.st_mode));
}

/* In a child of the supervisor: begin, tell the pipe, sleep. */
static void supervised(int ready)
{
    static struct daemon d;
    char *argv[] = {(char[]){"xdc-decoder"}, (char[]){"--set"}, (char[]){"run.dir=r"}, (char[]){"--set"},
                    (char[]){"data.manifest=m"}};
    pid_t pid = getpid();
    if (daemon_begin(&d, "xdc-decoder", "", 5, argv) == -1 && write(ready, &pid, sizeof pid) == sizeof pid)
        for (;;)
            pause();
    _exit(1);
}

/* A daemon gets SIGTERM when the supervisor is killed: its end of the pipe closes though nobody told it to.
 */
static void ends_with_the_supervisor(void **state)
{
    (void)state;
    int fds[2];
    pid_t grandchild = 0;
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        char text[32];
        snprintf(text, sizeof text, "%d", (int)getpid());
        setenv("XDC_SUPERVISOR_PID", text, 1);
        if (fork() == 0)
            supervised(fds[1]);
        close(fds[1]);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &grandchild, sizeof grandchild), sizeof grandchild);
    assert_int_equal(kill(supervisor, SIGKILL), 0);
    assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
    char byte;
    alarm(10);
    assert_int_equal(read(fds[0], &byte, 1), 0);
    alarm(0);
    close(fds[0]);
}

/* A supervisor that is gone already means exit 75; one that is alive but no parent of ours is let be. */
static void supervisor_gone(void **state)
{
    (void)state;
    static struct daemon d;
    const char *args[] = {RUN, NULL};
    char text[32];
    pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    snprintf(text, sizeof text, "%d", (int)dead);
    setenv("XDC_SUPERVISOR_PID", text, 1);
    assert_int_equal(begin(args, &d), 75);
    assert_non_null(strstr(err_text, "is gone\n"));
    setenv("XDC_SUPERVISOR_PID", "1", 1);
    assert_int_equal(begin(args, &d), GOES_ON);
    unsetenv("XDC_SUPERVISOR_PID");
}

struct calls {
    struct daemon *d;
    int stops, checkpoints;
};

static void on_stop(void *arg)
{
    struct calls *c = arg;
    if (++c->stops == 2)
        daemon_end(c->d);
}

static void on_checkpoint(void *arg)
{
    ((struct calls *)arg)->checkpoints++;
}

/* SIGTERM and SIGINT stop, SIGUSR1 makes a checkpoint, SIGPIPE does nothing; after daemon_end the loop runs
 * empty. */
static void signals(void **state)
{
    (void)state;
    static struct daemon d;
    struct calls c = {.d = &d};
    struct err e;
    uv_loop_t loop;
    memset(&d, 0, sizeof d);
    daemon_end(&d); /* nothing opened: nothing to close */
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(daemon_signals(&d, &loop, on_stop, on_checkpoint, &c, &e), 0);
    raise(SIGPIPE);
    raise(SIGUSR1);
    raise(SIGTERM);
    raise(SIGINT);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(c.checkpoints, 1);
    assert_int_equal(c.stops, 2);
    daemon_end(&d);
    assert_int_equal(uv_loop_close(&loop), 0);

    /* without a checkpoint to make SIGUSR1 is harmless */
    c = (struct calls){.d = &d, .stops = 1};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(daemon_signals(&d, &loop, on_stop, NULL, &c, &e), 0);
    raise(SIGUSR1);
    raise(SIGTERM);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(c.stops, 2);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* The service manager hears READY with the status line, and STOPPING. */
static void notices(void **state)
{
    (void)state;
    static struct daemon d;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char text[256] = {0};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/notify", dir);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    daemon_ready("waiting for leases");
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "READY=1\nSTATUS=waiting for leases");
    memset(text, 0, sizeof text);
    daemon_end(&d);
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "STOPPING=1");
    unsetenv("NOTIFY_SOCKET");
    close(fd);
}

/* Endpoints and status sockets: the configured ones, or one name a rank in the runtime directory, if it is
 * short enough. */
static void sockets(void **state)
{
    (void)state;
    static struct conf c;
    struct err e;
    char out[CONF_STRING_MAX], runtime[PATH_MAX], want[PATH_MAX + 64], path[PATH_MAX];
    assert_int_equal(fs_mkdirs("run", &e), 0);
    snprintf(c.run.dir, sizeof c.run.dir, "%s/run", dir);
    assert_int_equal(fs_runtime_dir(c.run.dir, runtime, &e), 0);
    static const struct {
        const char *edge, *name;
    } cases[] = {{"clips", "clips-2"}, {"features", "features-2"}, {"labels", "labels"}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(daemon_endpoint(&c, cases[i].edge, 2, out, &e), 0);
        snprintf(want, sizeof want, "ipc://%s/%s.sock", runtime, cases[i].name);
        assert_string_equal(out, want);
    }
    assert_int_equal(daemon_endpoint(&c, "no", 0, out, &e), -EINVAL);
    assert_int_equal(daemon_status_path(&c, "trainer-0", path, sizeof path, &e), 0);
    snprintf(want, sizeof want, "%s/trainer-0.sock", runtime);
    assert_string_equal(path, want);
    assert_int_equal(daemon_status_path(&c, "trainer-0", path, strlen(want), &e), -ENAMETOOLONG);
    assert_int_equal(daemon_status_path(&c, "trainer-0", path, strlen(want) + 1, &e), 0);

    char deep[200];
    snprintf(deep, sizeof deep, "%s/%0*d", dir, 100, 0);
    setenv("RUNTIME_DIRECTORY", deep, 1);
    assert_int_equal(daemon_endpoint(&c, "clips", 0, out, &e), -ENAMETOOLONG);
    assert_non_null(strstr(e.msg, "too long for a socket"));
    unsetenv("RUNTIME_DIRECTORY");

    snprintf(c.endpoints.clips, sizeof c.endpoints.clips, "tcp://127.0.0.1:5");
    snprintf(c.run.dir, sizeof c.run.dir, "%s/absent", dir);
    assert_int_equal(daemon_endpoint(&c, "clips", 0, out, &e), 0);
    assert_string_equal(out, "tcp://127.0.0.1:5");
    assert_int_equal(daemon_endpoint(&c, "labels", 0, out, &e), -ENOENT);
}

/* Each rank has an endpoint of its own next to the configured one, but for the clusterer's; one that cannot
 * be is a fault of the configuration. */
static void endpoints_of_ranks(void **state)
{
    static const struct {
        const char *given, *edge;
        int rank;
        const char *want; /* NULL: XDC_ECONF */
    } cases[] = {
        {"tcp://127.0.0.1:7000", "clips", 0, "tcp://127.0.0.1:7000"},
        {"tcp://127.0.0.1:7000", "clips", 3, "tcp://127.0.0.1:7003"},
        {"tcp://[::1]:7000", "features", 12, "tcp://[::1]:7012"},
        {"tcp://127.0.0.1:7000", "labels", 3, "tcp://127.0.0.1:7000"},
        {"ipc:///run/x:1.sock", "features", 2, "ipc:///run/x:1.sock-2"},
        {"tcp://127.0.0.1:65535", "clips", 1, NULL},
        {"tcp://127.0.0.1:*", "clips", 1, NULL},
        {"tcp://nonsense", "clips", 1, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conf c = {0};
        struct err e;
        char out[CONF_STRING_MAX];
        snprintf(c.endpoints.clips, sizeof c.endpoints.clips, "%s", cases[i].given);
        snprintf(c.endpoints.features, sizeof c.endpoints.features, "%s", cases[i].given);
        snprintf(c.endpoints.labels, sizeof c.endpoints.labels, "%s", cases[i].given);
        int rc = daemon_endpoint(&c, cases[i].edge, cases[i].rank, out, &e);
        assert_int_equal(rc, cases[i].want ? 0 : XDC_ECONF);
        if (cases[i].want)
            assert_string_equal(out, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_lines),
        cmocka_unit_test(faults),
        cmocka_unit_test(help_config),
        cmocka_unit_test(fills_the_struct),
        cmocka_unit_test(ends_with_the_supervisor),
        cmocka_unit_test(supervisor_gone),
        cmocka_unit_test(signals),
        cmocka_unit_test(notices),
        cmocka_unit_test(sockets),
        cmocka_unit_test(endpoints_of_ranks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
