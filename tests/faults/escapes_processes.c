#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "escape.h"

static char *const no_arguments[] = {(char *)(unsigned long)"true", NULL};
static char local[16];

ESCAPE(run_program, execve("/bin/true", no_arguments, NULL))
ESCAPE(run_open_program, syscall(SYS_execveat, s->fd, "", no_arguments, NULL, AT_EMPTY_PATH))

/* A program that is in no file. */
static long prepare_program(struct scene *s)
{
    struct stat st;
    int from = open("/bin/true", O_RDONLY);
    s->fd = memfd_create("program", 0);
    if (from < 0 || s->fd < 0 || fstat(from, &st) < 0)
        return -1;
    return sendfile(s->fd, from, NULL, (size_t)st.st_size);
}

/* What a new process or thread does: nothing. */
static long born(long pid)
{
    if (pid == 0)
        syscall(SYS_exit, 0);
    return pid;
}

ESCAPE(fork_raw, born(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)))
ESCAPE(fork_library, born(fork()))

static long fork_shared(struct scene *s)
{
    (void)s;
    pid_t pid = vfork();
    if (pid == 0)
        _exit(0);
    return pid;
}

static long clone_3(struct scene *s)
{
    (void)s;
    struct clone_args args = {.exit_signal = SIGCHLD};
    return born(syscall(SYS_clone3, &args, sizeof args));
}

static int thread(void *arg)
{
    (void)arg;
    return 0;
}

static long clone_thread(struct scene *s)
{
    static char stack[65536];
    (void)s;
    return clone(thread, stack + sizeof stack,
                 CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, NULL);
}

ESCAPE(signal_victim, kill(s->victim, SIGCONT))
ESCAPE(signal_group, kill(0, 0))
ESCAPE(signal_thread, syscall(SYS_tgkill, s->victim, s->victim, SIGCONT))
ESCAPE(signal_thread_old, syscall(SYS_tkill, s->victim, SIGCONT))
ESCAPE(signal_queue, sigqueue(s->victim, SIGCONT, (union sigval){0}))
ESCAPE(pidfd_make, syscall(SYS_pidfd_open, s->victim, 0))
ESCAPE(prepare_pidfd, s->fd = (int)syscall(SYS_pidfd_open, s->victim, 0))
ESCAPE(pidfd_signal, syscall(SYS_pidfd_send_signal, s->fd, SIGCONT, NULL, 0))
ESCAPE(pidfd_take, syscall(SYS_pidfd_getfd, s->fd, 0, 0))
ESCAPE(trace_victim, ptrace(PTRACE_SEIZE, s->victim, NULL, NULL))
ESCAPE(trace_me, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
ESCAPE(compare_victim, syscall(SYS_kcmp, getpid(), s->victim, KCMP_VM, 0, 0))
ESCAPE(victim_robust_list, syscall(SYS_get_robust_list, s->victim, local, local + 8))

/* The victim is a fork: the same variable is at the same address there. */
static long read_victim(struct scene *s)
{
    char here[sizeof local];
    struct iovec to = {here, sizeof here}, from = {local, sizeof local};
    return process_vm_readv(s->victim, &to, 1, &from, 1, 0);
}

static long write_victim(struct scene *s)
{
    struct iovec from = {local, sizeof local};
    return process_vm_writev(s->victim, &from, 1, &from, 1, 0);
}

static long advise_victim(struct scene *s)
{
    struct iovec all = {(void *)((unsigned long)local & ~4095ul), 4096};
    return syscall(SYS_process_madvise, s->fd, &all, 1, MADV_COLD, 0);
}

static long pin_victim(struct scene *s)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    return sched_setaffinity(s->victim, sizeof set, &set);
}

static long schedule_victim(struct scene *s)
{
    struct sched_param p = {0};
    return sched_setscheduler(s->victim, SCHED_BATCH, &p);
}

static long limit_victim(struct scene *s)
{
    struct rlimit r;
    return prlimit(s->victim, RLIMIT_NOFILE, NULL, &r);
}

static long raise_own_limit(struct scene *s)
{
    (void)s;
    struct rlimit r = {.rlim_cur = 64, .rlim_max = 64};
    return setrlimit(RLIMIT_NOFILE, &r);
}

static long drop_capabilities(struct scene *s)
{
    (void)s;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    return syscall(SYS_capset, &header, none);
}

ESCAPE(nice_victim, setpriority(PRIO_PROCESS, (id_t)s->victim, 5))
ESCAPE(io_priority, syscall(SYS_ioprio_set, 1, s->victim, 2 << 13 | 7))
ESCAPE(become_user, setuid(65534))
ESCAPE(become_group, setgid(65534))
ESCAPE(become_groups, setgroups(0, NULL))
ESCAPE(become_leader, setsid())
ESCAPE(join_group, setpgid(0, 0))
ESCAPE(be_dumpable, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
ESCAPE(rename_self, prctl(PR_SET_NAME, "kworker", 0, 0, 0))
ESCAPE(ask_seccomp, syscall(SYS_seccomp, 2 /* SECCOMP_GET_ACTION_AVAIL */, 0, &(unsigned){0}))
ESCAPE(change_personality, personality(READ_IMPLIES_EXEC))
ESCAPE(leave_uts, unshare(CLONE_NEWUTS))
ESCAPE(leave_user, unshare(CLONE_NEWUSER))
ESCAPE(prepare_uts, s->fd = open("/proc/self/ns/uts", O_RDONLY))
ESCAPE(enter_uts, setns(s->fd, CLONE_NEWUTS))
ESCAPE(rename_host, sethostname("host", 4))
ESCAPE(ask_name, uname((struct utsname *)(void *)&(struct utsname){0}))
ESCAPE(ask_system, sysinfo(&(struct sysinfo){0}))
ESCAPE(ask_clock, adjtimex(&(struct timex){0}))
ESCAPE(ask_log, syscall(SYS_syslog, 10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0))
ESCAPE(handle_signal, signal(SIGXCPU, SIG_IGN) == SIG_ERR ? -1 : 0)
ESCAPE(set_alarm, setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL))
ESCAPE(make_timer, syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &(int){0}))
ESCAPE(sleep_on, clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 1}, NULL))
ESCAPE(await_children, waitid(P_ALL, 0, &(siginfo_t){0}, WNOHANG | WEXITED) < 0 ? -1 : 0)
ESCAPE(prepare_child, born(fork()))

const struct escape process_escapes[] = {
    {"execve", NULL, run_program},
    {"execveat of a program in memory", prepare_program, run_open_program},
    {"fork", NULL, fork_library},
    {"clone as fork", NULL, fork_raw},
    {"vfork", NULL, fork_shared},
    {"clone a thread", NULL, clone_thread},
    {"clone3", NULL, clone_3},
    {"kill another process", NULL, signal_victim},
    {"kill the group", NULL, signal_group},
    {"tgkill another process", NULL, signal_thread},
    {"tkill another process", NULL, signal_thread_old},
    {"rt_sigqueueinfo", NULL, signal_queue},
    {"pidfd_open", NULL, pidfd_make},
    {"pidfd_send_signal", prepare_pidfd, pidfd_signal},
    {"pidfd_getfd", prepare_pidfd, pidfd_take},
    {"ptrace another process", NULL, trace_victim},
    {"ptrace me", NULL, trace_me},
    {"kcmp", NULL, compare_victim},
    {"get_robust_list", NULL, victim_robust_list},
    {"process_vm_readv", NULL, read_victim},
    {"process_vm_writev", NULL, write_victim},
    {"process_madvise", prepare_pidfd, advise_victim},
    {"sched_setaffinity of another process", NULL, pin_victim},
    {"sched_setscheduler of another process", NULL, schedule_victim},
    {"prlimit of another process", NULL, limit_victim},
    {"setrlimit", NULL, raise_own_limit},
    {"capset", NULL, drop_capabilities},
    {"setpriority of another process", NULL, nice_victim},
    {"ioprio_set", NULL, io_priority},
    {"setuid", NULL, become_user},
    {"setgid", NULL, become_group},
    {"setgroups", NULL, become_groups},
    {"setsid", NULL, become_leader},
    {"setpgid", NULL, join_group},
    {"prctl PR_SET_DUMPABLE", NULL, be_dumpable},
    {"prctl PR_SET_NAME", NULL, rename_self},
    {"seccomp", NULL, ask_seccomp},
    {"personality", NULL, change_personality},
    {"unshare the host name", NULL, leave_uts},
    {"unshare the user", NULL, leave_user},
    {"setns", prepare_uts, enter_uts},
    {"sethostname", leave_uts, rename_host},
    {"uname", NULL, ask_name},
    {"sysinfo", NULL, ask_system},
    {"adjtimex", NULL, ask_clock},
    {"syslog", NULL, ask_log},
    {"sigaction", NULL, handle_signal},
    {"setitimer", NULL, set_alarm},
    {"timer_create", NULL, make_timer},
    {"clock_nanosleep", NULL, sleep_on},
    {"waitid", prepare_child, await_children},
};
const size_t process_escape_count = sizeof process_escapes / sizeof process_escapes[0];
