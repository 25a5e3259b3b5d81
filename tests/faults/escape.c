/* escape: tries every way out of the sandbox, in a process of its own each: first without the sandbox, where
 * it should succeed, then within, where it must not. Usage: escape DIRECTORY    one line each: name, outcome
 * without, outcome within; tab-separated escape --calls      the system calls that the sandbox allows escape
 * --sweep      every system call by number, without sense in its arguments: what the sandbox does Outcomes:
 * succeeded; killed (by SIGSYS); refused (EPERM or EACCES); and what should not be: error, signal,
 * unprepared, no sandbox. Used by test_escapes.py. */
#include "escape.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/media/sandbox.h"

#define MEMORY_MIB 64
#define LAST_CALL 511

enum outcome { SUCCEEDED = 0, REFUSED = 10, FAILED, UNPREPARED, NO_SANDBOX };

static bool enter(int socket)
{
    uint32_t parts;
    return sandbox_enter(MEMORY_MIB, socket, &parts) == 0 && parts == SANDBOX_ALL;
}

/* In the child; what it ends with is the outcome. */
static enum outcome attempt(const struct escape *x, struct scene *s, bool sandboxed)
{
    if (x->prepare && x->prepare(s) < 0)
        return UNPREPARED;
    if (sandboxed && !enter(s->socket))
        return NO_SANDBOX;
    errno = 0;
    if (x->attempt(s) >= 0)
        return SUCCEEDED;
    return errno == EPERM || errno == EACCES ? REFUSED : FAILED;
}

static const char *describe(int status, char text[64])
{
    static const char *const names[] = {"refused", "error", "unprepared", "no sandbox"};
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return "killed";
    if (WIFEXITED(status) && WEXITSTATUS(status) == SUCCEEDED)
        return "succeeded";
    if (WIFEXITED(status) && WEXITSTATUS(status) >= REFUSED && WEXITSTATUS(status) <= NO_SANDBOX)
        return names[WEXITSTATUS(status) - REFUSED];
    snprintf(text, 64, "wait status %d", status);
    return text;
}

static void fail(const char *what)
{
    fprintf(stderr, "escape: %s: %s\n", what, strerror(errno));
    exit(70);
}

/* The directory of one attempt, with what escapes look for in it. */
static void furnish(struct scene *s, const char *dir, int n)
{
    snprintf(s->dir, sizeof s->dir, "%s/%d", dir, n);
    if (mkdir(s->dir, 0700) < 0 || chdir(s->dir) < 0 || mkdir("sub", 0700) < 0 || symlink("file", "link") < 0)
        fail(s->dir);
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(i ? "other" : "file", "w");
        if (!f || fputs("some text\n", f) < 0 || fclose(f) != 0)
            fail(s->dir);
    }
}

static pid_t make_victim(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return pid;
}

static int try_once(const struct escape *x, const char *dir, int n, bool sandboxed)
{
    struct scene s = {.fd = -1, .second = -1};
    int pair[2], status;
    furnish(&s, dir, n);
    s.victim = make_victim();
    if (s.victim < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
        fail("set the scene");
    s.socket = pair[1];
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        _exit((int)attempt(x, &s, sandboxed));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        fail("wait");
    kill(s.victim, SIGKILL);
    waitpid(s.victim, NULL, 0);
    close(pair[0]);
    close(pair[1]);
    return status;
}

static int try_all(const char *dir)
{
    const struct {
        const struct escape *table;
        size_t n;
    } tables[] = {{file_escapes, file_escape_count},
                  {process_escapes, process_escape_count},
                  {memory_escapes, memory_escape_count},
                  {message_escapes, message_escape_count}};
    int n = 0;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (size_t i = 0; i < tables[t].n; i++, n += 2) {
            const struct escape *x = &tables[t].table[i];
            char a[64], b[64];
            int control = try_once(x, dir, n, false), within = try_once(x, dir, n + 1, true);
            printf("%s\t%s\t%s\n", x->name, describe(control, a), describe(within, b));
            fflush(stdout);
        }
    return 0;
}

static int sweep(void)
{
    for (long n = 0; n <= LAST_CALL; n++) {
        int status;
        char text[64];
        pid_t pid = fork();
        if (pid == 0) {
            if (!enter(3))
                _exit(NO_SANDBOX);
            long rc = syscall(n, 0L, 0L, 0L, 0L, 0L, 0L);
            _exit(rc < 0 && errno == EACCES ? REFUSED : SUCCEEDED);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            fail("wait");
        printf("%ld\t%s\n", n, describe(status, text));
    }
    return 0;
}

static int list_calls(void)
{
    const char *const *names;
    size_t n = sandbox_calls(&names);
    for (size_t i = 0; i < n; i++)
        puts(names[i]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: escape DIRECTORY | --calls | --sweep\n", stderr);
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(argv[1], "--calls") == 0)
        return list_calls();
    return strcmp(argv[1], "--sweep") == 0 ? sweep() : try_all(argv[1]);
}
