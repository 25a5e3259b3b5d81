#include "cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/fsutil.h"

#define TAIL_BYTES 2048

static volatile sig_atomic_t live;    /* pid of the child, 0 without one */
static volatile sig_atomic_t stopped; /* a signal has come */
static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP};
#define N_PASSED_ON (sizeof passed_on / sizeof passed_on[0])

static void pass_on(int signal)
{
    stopped = 1;
    if (live > 0)
        kill((pid_t)live, signal == SIGHUP ? SIGTERM : signal);
}

/* In the new process: files in place, then the program. A group of its own: the terminal's Ctrl-C reaches it
 * once, through its parent. */
static void become(const struct child *c, int log, int out, pid_t parent)
{
    char *argv[512] = {(char *)"xdc"};
    size_t n = 1;
    for (size_t i = 0; c->args[i] && n + 1 < sizeof argv / sizeof argv[0]; i++)
        argv[n++] = (char *)c->args[i];
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || dup2(out, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(70);
    execv("/proc/self/exe", argv);
    _exit(70);
}

static int open_files(const struct child *c, int *log, int *out, struct err *e)
{
    *log = open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    *out = *log;
    if (*log < 0)
        return err_sys(e, errno, "%s", c->log);
    dprintf(*log, "$ xdc");
    for (size_t i = 0; c->args[i]; i++)
        dprintf(*log, " %s", c->args[i]);
    dprintf(*log, "\n");
    if (c->out)
        *out = open(c->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return *out < 0 ? err_sys(e, errno, "%s", c->out) : 0;
}

/* The last line of the log, or "". */
static void last_line(const char *path, char out[512])
{
    char tail[TAIL_BYTES + 1];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    out[0] = 0;
    off_t from = fd >= 0 && fstat(fd, &st) == 0 && st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
    ssize_t n = fd >= 0 ? pread(fd, tail, TAIL_BYTES, from) : 0;
    if (fd >= 0)
        close(fd);
    while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == '\r'))
        n--;
    tail[n > 0 ? n : 0] = 0;
    char *line = strrchr(tail, '\n');
    snprintf(out, 512, "%.511s", line ? line + 1 : tail);
}

/* The code that err_exit_status makes this status of. */
static int code_of(int status)
{
    static const int codes[] = {XDC_EUSAGE, XDC_EFORMAT,  -ENOENT, XDC_ELOST,
                                -EIO,       XDC_ESTOPPED, -EACCES, XDC_ECONF};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (err_exit_status(codes[i]) == status)
            return codes[i];
    return -ECHILD;
}

static int judge(const struct child *c, int status, struct err *e)
{
    char line[512];
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (stopped)
        return err_set(e, XDC_ESTOPPED, "stopped during `xdc %s`; the same command goes on", c->args[0]);
    last_line(c->log, line);
    if (WIFSIGNALED(status))
        return err_set(e, -ECHILD, "`xdc %s` died of signal %d: %s; its log is %s", c->args[0],
                       WTERMSIG(status), line, c->log);
    return err_set(e, code_of(WEXITSTATUS(status)), "`xdc %s` ended with status %d: %s; its log is %s",
                   c->args[0], WEXITSTATUS(status), line, c->log);
}

/* With the signals blocked: none is lost between their handlers and the child. */
static pid_t start(const struct child *c, int log, int out, struct err *e)
{
    sigset_t set, old;
    pid_t parent = getpid();
    sigemptyset(&set);
    for (size_t i = 0; i < N_PASSED_ON; i++)
        sigaddset(&set, passed_on[i]);
    sigprocmask(SIG_BLOCK, &set, &old);
    fflush(NULL);
    pid_t pid = stopped ? -1 : fork();
    if (pid == 0) {
        for (size_t i = 0; i < N_PASSED_ON; i++)
            signal(passed_on[i], SIG_DFL);
        sigprocmask(SIG_SETMASK, &old, NULL);
        become(c, log, out, parent);
    }
    if (pid < 0)
        stopped ? err_set(e, XDC_ESTOPPED, "stopped") : err_sys(e, errno, "fork");
    live = pid > 0 ? pid : 0;
    sigprocmask(SIG_SETMASK, &old, NULL);
    return pid;
}

int child_run(const struct child *c, struct err *e)
{
    struct sigaction act = {.sa_handler = pass_on};
    int log = -1, out = -1, status = 0;
    for (size_t i = 0; i < N_PASSED_ON; i++)
        sigaction(passed_on[i], &act, NULL);
    int rc = open_files(c, &log, &out, e);
    pid_t pid = rc == 0 ? start(c, log, out, e) : 0;
    if (pid < 0)
        rc = e->code;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    live = 0;
    if (out >= 0 && out != log)
        close(out);
    if (log >= 0)
        close(log);
    return rc == 0 ? judge(c, status, e) : rc;
}
