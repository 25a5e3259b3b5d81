#include "lib/fsutil.h"

#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/xdc-test-fsutil-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static char *in_dir(const char *name)
{
    static char out[4][PATH_MAX];
    static int turn;
    char *p = out[turn++ % 4];
    struct err e;
    assert_int_equal(fs_path(p, &e, "%s/%s", dir, name), 0);
    return p;
}

static void make_file(const char *path, const char *text)
{
    struct err e;
    assert_int_equal(fs_write_atomic(path, text, strlen(text), &e), 0);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* A path longer than PATH_MAX is refused, not cut. */
static void path_too_long(void **state)
{
    (void)state;
    char out[PATH_MAX];
    struct err e = {0};
    assert_int_equal(fs_path(out, &e, "%0*d", PATH_MAX - 1, 0), 0);
    assert_int_equal(strlen(out), PATH_MAX - 1);
    assert_int_equal(fs_path(out, &e, "%0*d", PATH_MAX, 0), -ENAMETOOLONG);
    assert_non_null(strstr(e.msg, "File name too long"));
}

/* Directories are made with all their parents, once or twice, and a file in the way is named. */
static void mkdirs(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(in_dir("a/b//c/"), &e), 0);
    assert_int_equal(fs_mkdirs(in_dir("a/b/c"), &e), 0);
    struct stat st;
    assert_int_equal(stat(in_dir("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    make_file(in_dir("a/file"), "x");
    assert_int_equal(fs_mkdirs(in_dir("a/file"), &e), -EEXIST);
    assert_int_equal(fs_mkdirs(in_dir("a/file/d"), &e), -ENOTDIR);
    assert_non_null(strstr(e.msg, "a/file/d"));
}

/* What is written is what is read, with a NUL behind it; the limit is exact. */
static void read_and_write(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 300000};
    struct err e = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *data = malloc(sizes[i] + 1), *got;
        size_t size = 1;
        for (size_t j = 0; j < sizes[i]; j++)
            data[j] = (char)(j * 7);
        assert_int_equal(fs_write_atomic(in_dir("f"), data, sizes[i], &e), 0);
        assert_int_equal(fs_read(in_dir("f"), sizes[i], &got, &size, &e), 0);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(got, data, size);
        assert_int_equal(got[size], 0);
        free(got);
        if (sizes[i] > 0)
            assert_int_equal(fs_read(in_dir("f"), sizes[i] - 1, &got, &size, &e), -EFBIG);
        free(data);
    }
    char *got;
    size_t size;
    assert_int_equal(fs_read(in_dir("none"), 10, &got, &size, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "none: No such file"));
    assert_int_equal(fs_read(dir, 10, &got, &size, &e), -EISDIR);
    /* the kernel says size 0 of its own files */
    assert_int_equal(fs_read("/proc/self/status", 1 << 20, &got, &size, &e), 0);
    assert_true(size > 100);
    free(got);
}

/* A write that fails leaves the old file and no temporary one. */
static void failed_write_changes_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_write_atomic(in_dir("no/such/f"), "x", 1, &e), -ENOENT);
    /* a directory of the final name: the rename fails, after the temporary file was written */
    assert_int_equal(fs_mkdirs(in_dir("d/full"), &e), 0);
    assert_int_equal(fs_write_atomic(in_dir("d"), "x", 1, &e), -EISDIR);
    assert_true(exists(in_dir("d/full")));
    char tmp[PATH_MAX];
    snprintf(tmp, sizeof tmp, "%s.%d.tmp", in_dir("d"), (int)gettid());
    assert_false(exists(tmp));
}

/* A full disk is told with its errno and the name given. */
static void full_disk(void **state)
{
    (void)state;
    struct err e = {0};
    int fd = open("/dev/full", O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, "abc", 3, "ledger", &e), -ENOSPC);
    assert_string_equal(e.msg, "write ledger: No space left on device");
    close(fd);
}

/* Short writes go on: more bytes than a pipe holds arrive whole. */
static void write_all_through_a_pipe(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        char *data = calloc(1, SIZE);
        int rc = fs_write_all(fds[1], data, SIZE, "pipe", NULL);
        _exit(rc == 0 ? 0 : 1);
    }
    close(fds[1]);
    size_t total = 0;
    char buf[1000];
    for (ssize_t n; (n = read(fds[0], buf, sizeof buf)) > 0;)
        total += (size_t)n;
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(total, SIZE);
}

/* A directory is published under its name; one that is there already with content is not replaced. */
static void publish_dir(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(in_dir("ck.tmp"), &e), 0);
    make_file(in_dir("ck.tmp/DONE"), "");
    assert_int_equal(fs_publish_dir(in_dir("ck.tmp"), in_dir("ck"), &e), 0);
    assert_true(exists(in_dir("ck/DONE")));
    assert_false(exists(in_dir("ck.tmp")));
    assert_int_equal(fs_mkdirs(in_dir("ck.tmp"), &e), 0);
    int rc = fs_publish_dir(in_dir("ck.tmp"), in_dir("ck"), &e);
    assert_true(rc == -ENOTEMPTY || rc == -EEXIST);
    assert_true(exists(in_dir("ck.tmp")));
    assert_int_equal(fs_publish_dir(in_dir("gone"), in_dir("x"), &e), -ENOENT);
    assert_int_equal(fs_sync_dir(in_dir("ck/DONE"), &e), -ENOTDIR);
}

/* A tree goes with all in it, links are removed and not followed, a missing one is no error. */
static void remove_tree(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(in_dir("t/a/b"), &e), 0);
    make_file(in_dir("t/a/b/f"), "x");
    make_file(in_dir("keep"), "x");
    assert_int_equal(symlink(dir, in_dir("t/link")), 0);
    assert_int_equal(symlink("nowhere", in_dir("t/dangling")), 0);
    assert_int_equal(fs_remove_tree(in_dir("t"), &e), 0);
    assert_false(exists(in_dir("t")));
    assert_true(exists(in_dir("keep")));
    assert_int_equal(fs_remove_tree(in_dir("t"), &e), 0);
    assert_int_equal(fs_remove_tree(in_dir("keep"), &e), 0);
    assert_false(exists(in_dir("keep")));
}

/* One holder at a time, in this process and in others; the other is told who holds it, and a dead holder's
 * lock is free. */
static void lock(void **state)
{
    (void)state;
    struct err e = {0};
    int fd, other;
    pid_t owner;
    assert_int_equal(fs_lock(in_dir("lock"), &fd, &owner, &e), 0);
    assert_int_equal(owner, getpid());
    assert_int_equal(fs_lock(in_dir("lock"), &other, &owner, &e), XDC_ELOCKED);
    assert_int_equal(owner, getpid());
    assert_non_null(strstr(e.msg, "is held by process"));
    close(fd);

    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = fs_lock(in_dir("lock"), &fd, &owner, NULL);
        (void)!write(fds[1], &rc, sizeof rc);
        pause();
        _exit(0);
    }
    int rc = -1;
    assert_int_equal(read(fds[0], &rc, sizeof rc), sizeof rc);
    assert_int_equal(rc, 0);
    assert_int_equal(fs_lock(in_dir("lock"), &fd, &owner, &e), XDC_ELOCKED);
    assert_int_equal(owner, pid);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(fs_lock(in_dir("lock"), &fd, &owner, &e), 0);
    close(fd);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(fs_lock(in_dir("no/lock"), &fd, &owner, &e), -ENOENT);
}

/* Free space is told in bytes, and a missing path is an error. */
static void free_bytes(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t n = 0;
    assert_int_equal(fs_free_bytes(dir, &n, &e), 0);
    assert_true(n > 4096);
    assert_int_equal(fs_free_bytes(in_dir("none"), &n, &e), -ENOENT);
}

/* The directory for sockets follows the environment, is private, and the same for every spelling of the run
 * directory. */
static void runtime_dir(void **state)
{
    (void)state;
    struct err e = {0};
    char out[PATH_MAX], again[PATH_MAX], want[PATH_MAX + 8];
    struct stat st;
    assert_int_equal(fs_mkdirs(in_dir("run"), &e), 0);
    assert_int_equal(fs_mkdirs(in_dir("other"), &e), 0);
    assert_int_equal(fs_mkdirs(in_dir("xdg"), &e), 0);

    unsetenv("RUNTIME_DIRECTORY");
    setenv("XDG_RUNTIME_DIR", in_dir("xdg"), 1);
    assert_int_equal(fs_runtime_dir(in_dir("run"), out, &e), 0);
    snprintf(want, sizeof want, "%s/xdc/", in_dir("xdg"));
    assert_memory_equal(out, want, strlen(want));
    assert_int_equal(strlen(out), strlen(want) + 16);
    assert_int_equal(stat(out, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(fs_runtime_dir(in_dir("other/../run/"), again, &e), 0);
    assert_string_equal(out, again);
    assert_int_equal(fs_runtime_dir(in_dir("other"), again, &e), 0);
    assert_string_not_equal(out, again);
    assert_int_equal(fs_runtime_dir(in_dir("missing"), again, &e), -ENOENT);

    /* an XDG_RUNTIME_DIR that is not there counts as unset */
    setenv("XDG_RUNTIME_DIR", in_dir("absent"), 1);
    assert_int_equal(fs_runtime_dir(in_dir("run"), again, &e), 0);
    snprintf(want, sizeof want, "/tmp/xdc-%u/", (unsigned)geteuid());
    assert_memory_equal(again, want, strlen(want));
    rmdir(again);

    char list[2 * PATH_MAX + 2];
    snprintf(list, sizeof list, "%s:%s", in_dir("systemd"), in_dir("second"));
    setenv("RUNTIME_DIRECTORY", list, 1);
    assert_int_equal(fs_runtime_dir(in_dir("run"), out, &e), 0);
    assert_string_equal(out, in_dir("systemd"));
    unsetenv("RUNTIME_DIRECTORY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_too_long),  cmocka_unit_test(mkdirs),
        cmocka_unit_test(read_and_write), cmocka_unit_test(failed_write_changes_nothing),
        cmocka_unit_test(full_disk),      cmocka_unit_test(write_all_through_a_pipe),
        cmocka_unit_test(publish_dir),    cmocka_unit_test(remove_tree),
        cmocka_unit_test(lock),           cmocka_unit_test(free_bytes),
        cmocka_unit_test(runtime_dir),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
