/* The sandbox as the parent sees it: what is in force, what is said where it is not, what a worker inherits,
 * and how one ends that breaks out. This program is its own worker: the job's id says what it does. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "lib/media/child.h"
#include "lib/media/sandbox.h"
#include "lib/media/worker.h"
#include "make_media.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

enum { BREAK_OUT = 1, ABORT, TELL_DESCRIPTORS, TELL_ENVIRONMENT };

static const struct media_child_limits limits = {.cpu_s = 5, .memory_mib = 512, .slot_bytes = 4096};
static char self[PATH_MAX];

/* ---- the worker ---- */

static void list_descriptors(char *out, size_t size)
{
    unsigned seen = 0;
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(d))
            seen |= 1u << atoi(entry->d_name);
    if (d)
        closedir(d);
    snprintf(out, size, "%x", seen);
}

static void list_environment(char *out, size_t size)
{
    size_t used = 0;
    for (char **v = environ; v && *v && used < size; v++)
        used += (size_t)snprintf(out + used, size - used, "%s ", *v);
}

/* With sanitizers there is no filter: what it would do is done by hand, for the parent's sake. */
static int misbehave(uint64_t how)
{
    uint32_t parts;
    if (sandbox_enter(64, WORKER_SOCKET, &parts) < 0)
        return 72;
    if (how == ABORT)
        abort();
    if (!(parts & SANDBOX_SECCOMP))
        raise(SIGSYS);
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? 73 : 0;
}

static int act_as_worker(void)
{
    const struct worker_hello hello = {.magic = WORKER_MAGIC,
                                       .job_bytes = sizeof(struct media_job),
                                       .result_bytes = sizeof(struct media_result)};
    struct media_job job;
    if (send(WORKER_SOCKET, &hello, sizeof hello, 0) < 0 ||
        recv(WORKER_SOCKET, &job, sizeof job, 0) != sizeof job)
        return 71;
    struct media_result r = {.id = job.id};
    if (job.id == BREAK_OUT || job.id == ABORT)
        return misbehave(job.id);
    if (job.id == TELL_DESCRIPTORS)
        list_descriptors(r.detail, sizeof r.detail);
    else
        list_environment(r.detail, sizeof r.detail);
    return send(WORKER_SOCKET, &r, sizeof r, 0) < 0;
}

/* ---- the parent ---- */

/* Starts a worker where there is none, and gives it a job with this id. Returns what media_child_recv did. */
static int ask(struct media_child *c, uint64_t id, const char *path, struct media_result *r)
{
    struct err e = {0};
    struct media_job job = {.kind = MEDIA_JOB_PROBE, .id = id, .video_stream = -1, .audio_stream = -1};
    int rc, fd = open_media(path);
    if (c->pid <= 0)
        assert_int_equal(media_child_start(c, &limits, &e), 0);
    assert_int_equal(media_child_send(c, &job, fd, &e), 0);
    close(fd);
    while ((rc = media_child_recv(c, r, &e)) == -EAGAIN) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        assert_true(poll(&p, 1, 60000) > 0);
    }
    return rc;
}

/* The value of a line of the worker's /proc/PID/status. */
static unsigned long long status_of(pid_t pid, const char *name, int base)
{
    char path[64], line[256];
    unsigned long long value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name) + 1, NULL, base);
    fclose(f);
    return value;
}

/* What the worker says is in force is what the kernel says of the process, and on a kernel with all it takes
 * nothing is missing; it does its jobs within, and ends by itself when the parent closes the socket. */
static void test_in_force(void **state)
{
    (void)state;
    char path[128];
    struct media_child c = {0};
    struct media_result r;
    make_media(&(struct make_media){.path = media_path(path, "good.mkv"), .frames = 20, .fps = 10});
    assert_int_equal(unsetenv("XDC_MEDIA_WORKER"), 0);
    assert_int_equal(ask(&c, 1, path, &r), 0);
    assert_int_equal(r.reason, MEDIA_OK);
    assert_int_equal(status_of(c.pid, "Seccomp:", 10), c.sandbox & SANDBOX_SECCOMP ? 2 : 0);
    assert_int_equal(status_of(c.pid, "NoNewPrivs:", 10), 1);
    assert_true(status_of(c.pid, "CapEff:", 16) == 0 && status_of(c.pid, "CapPrm:", 16) == 0);
    assert_true(c.sandbox & SANDBOX_NO_NEW_PRIVS);
    assert_int_equal(!(c.sandbox & SANDBOX_MEMORY), SANITIZED);
    if (!SANITIZED && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)
        assert_true(c.sandbox & SANDBOX_SECCOMP);
    int status;
    close(c.fd);
    c.fd = -1;
    assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
    assert_int_equal(status, 0);
    c.pid = 0;
    media_child_stop(&c);
}

/* A worker that makes a forbidden call is killed, its clip has a reason of its own, and the next job goes to
 * a new worker. */
static void test_violation(void **state)
{
    (void)state;
    struct media_child c = {0};
    struct media_result r;
    assert_int_equal(setenv("XDC_MEDIA_WORKER", self, 1), 0);
    for (uint64_t how = BREAK_OUT; how <= ABORT; how++) {
        assert_int_equal(ask(&c, how, self, &r), -EPIPE);
        assert_int_equal(r.reason, how == ABORT ? MEDIA_WORKER_DIED : MEDIA_SANDBOX_VIOLATION);
        assert_int_equal(r.id, how);
        assert_true(r.detail[0]);
        assert_int_equal(c.pid, 0);
    }
    assert_int_equal(unsetenv("XDC_MEDIA_WORKER"), 0);
    assert_int_equal(ask(&c, 9, self, &r), 0);
    media_child_stop(&c);
}

/* A worker holds 0, 1, 2, its socket and its slot, and nothing else of what the parent had open; of the
 * environment only what finds libraries and steers sanitizers. */
static void test_inherits_nothing(void **state)
{
    (void)state;
    int leaked[20];
    for (int i = 0; i < 20; i++)
        leaked[i] = open("/dev/zero", O_RDONLY); /* without O_CLOEXEC */
    struct media_child c = {0};
    struct media_result r;
    const struct {
        const char *name, *value;
    } set[] = {{"SECRET", "x"}, {"LD_LIBRARY_PATH", "/nowhere"}, {"TZ", ":/etc/localtime"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        assert_int_equal(setenv(set[i].name, set[i].value, 1), 0);
    assert_int_equal(setenv("XDC_MEDIA_WORKER", self, 1), 0);
    assert_int_equal(ask(&c, TELL_DESCRIPTORS, self, &r), 0);
    assert_string_equal(r.detail, "1f");
    media_child_stop(&c);
    assert_int_equal(ask(&c, TELL_ENVIRONMENT, self, &r), 0);
    assert_ptr_equal(strstr(r.detail, "TZ=UTC0 "), r.detail);
    assert_non_null(strstr(r.detail, "LD_LIBRARY_PATH=/nowhere "));
    assert_null(strstr(r.detail, "SECRET"));
    assert_null(strstr(r.detail, "PATH=/usr"));
    assert_null(strstr(r.detail, "XDC_MEDIA_WORKER"));
    media_child_stop(&c);
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        assert_int_equal(unsetenv(set[i].name), 0);
    for (int i = 0; i < 20; i++)
        close(leaked[i]);
}

/* A kernel that knows neither Landlock nor seccomp's filters: the calls fail as they do there. */
static uint32_t enter_on_old_kernel(void)
{
    static const int missing[] = {SCMP_SYS(landlock_create_ruleset), SCMP_SYS(seccomp)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    uint32_t parts = 0;
    bool ok = filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
                                         SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP)) == 0;
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        ok = ok && seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), missing[i], 0) == 0;
    if (!ok || seccomp_load(filter) < 0)
        return UINT32_MAX;
    seccomp_release(filter);
    return sandbox_enter(64, WORKER_SOCKET, &parts) < 0 ? UINT32_MAX : parts;
}

/* Where the kernel lacks a part, the part is not claimed. */
static void test_old_kernel(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)enter_on_old_kernel());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SANDBOX_NO_NEW_PRIVS | (SANITIZED ? 0 : SANDBOX_MEMORY));
}

/* What is missing is named in one sentence, however little room there is for it. */
static void test_missing(void **state)
{
    (void)state;
    char text[200], brief[10];
    assert_string_equal(sandbox_missing(SANDBOX_ALL, text, sizeof text), "");
    assert_string_equal(sandbox_missing(SANDBOX_ALL & ~(uint32_t)SANDBOX_MEMORY, text, sizeof text),
                        "media workers run without a memory limit");
    assert_string_equal(sandbox_missing(SANDBOX_NO_NEW_PRIVS | SANDBOX_MEMORY, text, sizeof text),
                        "media workers run without Landlock (files stay out of reach), seccomp (a list of "
                        "system calls)");
    assert_true(strlen(sandbox_missing(0, text, sizeof text)) < sizeof text - 1);
    assert_string_equal(sandbox_missing(0, brief, sizeof brief), "media wor");
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[0], "xdc-media-worker") == 0)
        return act_as_worker();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_force),         cmocka_unit_test(test_violation),
        cmocka_unit_test(test_inherits_nothing), cmocka_unit_test(test_old_kernel),
        cmocka_unit_test(test_missing),
    };
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    return cmocka_run_group_tests(tests, media_dir_setup, media_dir_teardown);
}
