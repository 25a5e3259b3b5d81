#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>
#include "escape.h"

static struct sockaddr_un name_of(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    return a;
}

static long bind_to(int fd, const char *path)
{
    struct sockaddr_un a = name_of(path);
    return bind(fd, (struct sockaddr *)&a, sizeof a);
}

static long connect_to(int fd, const char *path)
{
    struct sockaddr_un a = name_of(path);
    return connect(fd, (struct sockaddr *)&a, sizeof a);
}

/* fd: a socket of its own; second: a listener at "listener". */
static long prepare_listener(struct scene *s)
{
    s->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    s->second = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    return bind_to(s->second, "listener") < 0 ? -1 : listen(s->second, 1);
}

static long prepare_caller(struct scene *s)
{
    return prepare_listener(s) < 0 ? -1 : connect_to(s->fd, "listener");
}

/* fd: one end, with a message waiting; second: the other. */
static long prepare_pair(struct scene *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return -1;
    s->fd = pair[0];
    s->second = pair[1];
    return send(s->second, "hello", 5, 0);
}

static long prepare_tcp(struct scene *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    s->second = socket(AF_INET, SOCK_STREAM, 0);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->second, (struct sockaddr *)&a, sizeof a) < 0 || listen(s->second, 1) < 0)
        return -1;
    return getsockname(s->second, (struct sockaddr *)&a, &size);
}

static long connect_tcp(struct scene *s)
{
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    getsockname(s->second, (struct sockaddr *)&a, &size);
    return connect(s->fd, (struct sockaddr *)&a, sizeof a);
}

static long prepare_pipe(struct scene *s)
{
    int pair[2];
    if (pipe(pair) < 0)
        return -1;
    s->fd = pair[0];
    s->second = pair[1];
    return write(s->second, "hello", 5);
}

/* A descriptor handed to somebody else. */
static long send_descriptor(int socket, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {"x", 1};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    return sendmsg(socket, &msg, 0);
}

static long receive_message(struct scene *s)
{
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    return recvmsg(s->fd, &msg, 0);
}

static long send_to_name(struct scene *s)
{
    struct sockaddr_un a = name_of("listener");
    return sendto(s->socket, "x", 1, 0, (struct sockaddr *)&a, sizeof a);
}

/* The very socket that the sandbox knows, as one that can send to any name; and somebody with a name. */
static long prepare_named(struct scene *s)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    s->fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return dup2(fd, s->socket) < 0 ? -1 : bind_to(s->fd, "listener");
}

static long make_ring(struct scene *s)
{
    (void)s;
    struct io_uring_params p = {0};
    return syscall(SYS_io_uring_setup, 2, &p);
}

static long make_counter(struct scene *s)
{
    (void)s;
    struct perf_event_attr a = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_CPU_CLOCK, .exclude_kernel = 1};
    return syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
}

static long make_bpf_map(struct scene *s)
{
    (void)s;
    union bpf_attr a = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a);
}

static long make_queue(struct scene *s)
{
    char name[32];
    snprintf(name, sizeof name, "/xdc-escape-%d", (int)s->victim);
    mqd_t q = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
    if (q >= 0)
        mq_unlink(name);
    return q;
}

static long make_messages(struct scene *s)
{
    (void)s;
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (id >= 0)
        msgctl(id, IPC_RMID, NULL);
    return id;
}

static long make_semaphores(struct scene *s)
{
    (void)s;
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    if (id >= 0)
        semctl(id, 0, IPC_RMID);
    return id;
}

static long watch_signals(struct scene *s)
{
    (void)s;
    sigset_t set;
    sigemptyset(&set);
    return signalfd(-1, &set, 0);
}

ESCAPE(make_inet, socket(AF_INET, SOCK_STREAM, 0))
ESCAPE(make_inet6, socket(AF_INET6, SOCK_DGRAM, 0))
ESCAPE(make_unix, socket(AF_UNIX, SOCK_STREAM, 0))
ESCAPE(make_netlink, socket(AF_NETLINK, SOCK_RAW, 0))
ESCAPE(make_packet, socket(AF_PACKET, SOCK_RAW, 0))
ESCAPE(make_pair, socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}))
ESCAPE(connect_unix, connect_to(s->fd, "listener"))
ESCAPE(bind_unix, bind_to(s->fd, "mine"))
ESCAPE(listen_again, listen(s->second, 5))
ESCAPE(accept_caller, accept(s->second, NULL, NULL))
ESCAPE(send_elsewhere, send(s->fd, "x", 1, 0))
ESCAPE(send_message, send_descriptor(s->fd, 0))
ESCAPE(send_to_parent, send_descriptor(s->socket, 0))
ESCAPE(receive_elsewhere, recv(s->fd, &(char){0}, 1, 0))
ESCAPE(set_option, setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)))
ESCAPE(ask_name, getsockname(s->fd, &(struct sockaddr){0}, &(socklen_t){sizeof(struct sockaddr)}))
ESCAPE(shut_down, shutdown(s->fd, SHUT_RDWR))
ESCAPE(make_pipe, pipe2((int[2]){0}, 0))
ESCAPE(read_pipe, read(s->fd, &(char){0}, 1))
ESCAPE(write_pipe, write(s->second, "x", 1))
ESCAPE(wait_for_pipe, poll(&(struct pollfd){.fd = s->fd, .events = POLLIN}, 1, 0))
ESCAPE(make_event, eventfd(0, 0))
ESCAPE(make_timer, timerfd_create(CLOCK_MONOTONIC, 0))
ESCAPE(make_epoll, epoll_create1(0))
ESCAPE(add_key, syscall(SYS_add_key, "user", "xdc-escape", "x", 1, -1 /* KEY_SPEC_THREAD_KEYRING */))
ESCAPE(ask_keys, syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -1, 1))

const struct escape message_escapes[] = {
    {"socket AF_INET", NULL, make_inet},
    {"socket AF_INET6", NULL, make_inet6},
    {"socket AF_UNIX", NULL, make_unix},
    {"socket AF_NETLINK", NULL, make_netlink},
    {"socket AF_PACKET", NULL, make_packet},
    {"socketpair", NULL, make_pair},
    {"connect", prepare_listener, connect_unix},
    {"connect tcp", prepare_tcp, connect_tcp},
    {"bind", prepare_listener, bind_unix},
    {"listen", prepare_listener, listen_again},
    {"accept", prepare_caller, accept_caller},
    {"send on another socket", prepare_pair, send_elsewhere},
    {"send a descriptor on another socket", prepare_pair, send_message},
    {"send a descriptor to the parent", NULL, send_to_parent},
    {"send to a name", prepare_named, send_to_name},
    {"recv from another socket", prepare_pair, receive_elsewhere},
    {"recvmsg from another socket", prepare_pair, receive_message},
    {"setsockopt", prepare_listener, set_option},
    {"getsockname", prepare_listener, ask_name},
    {"shutdown", prepare_caller, shut_down},
    {"pipe", NULL, make_pipe},
    {"read a pipe", prepare_pipe, read_pipe},
    {"write a pipe", prepare_pipe, write_pipe},
    {"poll", prepare_pipe, wait_for_pipe},
    {"eventfd", NULL, make_event},
    {"timerfd_create", NULL, make_timer},
    {"signalfd", NULL, watch_signals},
    {"epoll_create", NULL, make_epoll},
    {"msgget", NULL, make_messages},
    {"semget", NULL, make_semaphores},
    {"mq_open", NULL, make_queue},
    {"io_uring_setup", NULL, make_ring},
    {"perf_event_open", NULL, make_counter},
    {"bpf", NULL, make_bpf_map},
    {"add_key", NULL, add_key},
    {"keyctl", NULL, ask_keys},
};
const size_t message_escape_count = sizeof message_escapes / sizeof message_escapes[0];
