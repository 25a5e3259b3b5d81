/* A media worker that a file has taken over: it answers each probe with what its first byte asks for: 'n' a
 * duration that is no number, 's' a stream that cannot be, 'k' key frames that go back, 'l' one that is too
 * late; anything else is a film of 3 s with a key frame at 1 s. What test_index.py makes it tell. */
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/media/worker.h"

/* Takes a job and the file beside it, which it closes. Returns the file's first byte, -1 at the end. */
static int take_job(struct media_job *job)
{
    char room[CMSG_SPACE(sizeof(int))], first = 0;
    struct iovec v = {job, sizeof *job};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(WORKER_SOCKET, &m, 0) != (ssize_t)sizeof *job || !CMSG_FIRSTHDR(&m))
        return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    ssize_t n = pread(fd, &first, 1, 0);
    close(fd);
    return n == 1 ? first : -1;
}

int main(void)
{
    const struct worker_hello hello = {.magic = WORKER_MAGIC,
                                       .job_bytes = sizeof(struct media_job),
                                       .result_bytes = sizeof(struct media_result)};
    static const struct media_keyframe good[2] = {{0, 0}, {1, 10}}, back[2] = {{1, 10}, {0, 0}},
                                       late[2] = {{0, 0}, {1e12, 10}};
    static struct media_job job;
    void *slot = mmap(NULL, sizeof good, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_SLOT, 0);
    if (slot == MAP_FAILED ||
        send(WORKER_SOCKET, &hello, sizeof hello, MSG_NOSIGNAL) != (ssize_t)sizeof hello)
        return 1;
    for (int lie; (lie = take_job(&job)) >= 0;) {
        struct media_result r = {.id = job.id, .keyframes = 2};
        r.probe = (struct media_probe){.duration_s = lie == 'n' ? (double)NAN : 3,
                                       .fps = 25,
                                       .width = 64,
                                       .height = 48,
                                       .video_stream = lie == 's' ? -7 : 0,
                                       .audio_stream = -1};
        memcpy(slot, lie == 'k' ? back : lie == 'l' ? late : good, sizeof good);
        if (send(WORKER_SOCKET, &r, sizeof r, MSG_NOSIGNAL) != (ssize_t)sizeof r)
            return 1;
    }
    return 0;
}
