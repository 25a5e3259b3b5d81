/* A media worker that takes a job and ends by a signal: the number behind the dash of its own file name
 * ("worker-31"). What its parent makes of each death is what test_doctor.py looks at. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/media/worker.h"

int main(void)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    const char *dash = strrchr(self, '-');
    int number = dash ? atoi(dash + 1) : 0;
    struct worker_hello hello = {.magic = WORKER_MAGIC,
                                 .job_bytes = sizeof(struct media_job),
                                 .result_bytes = sizeof(struct media_result)};
    static struct media_job job;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (send(WORKER_SOCKET, &hello, sizeof hello, MSG_NOSIGNAL) != (ssize_t)sizeof hello ||
        recv(WORKER_SOCKET, &job, sizeof job, 0) != (ssize_t)sizeof job)
        return 1;
    signal(number, SIG_DFL);
    kill(getpid(), number);
    return 1;
}
