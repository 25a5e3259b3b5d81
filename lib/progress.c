#include "lib/progress.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define RATE_WINDOW_S 0.5
#define RATE_SMOOTH_S 5.0
#define PRINT_TERMINAL_S 0.2
#define PRINT_FILE_S 10.0

double progress_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void progress_init(struct progress *p, const char *what, uint64_t total)
{
    memset(p, 0, sizeof *p);
    p->what = what;
    p->total = total;
    p->start_s = p->last_print_s = p->rate_at_s = progress_now_s();
}

/* The rate with the window since rate_at_s in it. Young work gets the plain mean, since an average that
 * forgets would give its first half second, with all the warming up in it, the weight of five. */
static double rate_at(const struct progress *p, double now_s)
{
    double window_s = now_s - p->rate_at_s, elapsed_s = now_s - p->start_s;
    if (window_s <= 0 || elapsed_s <= 0)
        return p->rate;
    double in_window = p->done > p->rate_done ? (double)(p->done - p->rate_done) / window_s : 0;
    double weight = fmax(1 - exp(-window_s / RATE_SMOOTH_S), window_s / elapsed_s);
    return p->rate + weight * (in_window - p->rate);
}

void progress_set(struct progress *p, uint64_t done)
{
    double now_s = progress_now_s();
    p->done = done;
    if (now_s - p->rate_at_s < RATE_WINDOW_S)
        return;
    p->rate = rate_at(p, now_s);
    p->rate_at_s = now_s;
    p->rate_done = done;
}

double progress_rate(const struct progress *p)
{
    return rate_at(p, progress_now_s());
}

double progress_left_s(const struct progress *p)
{
    if (p->total == 0)
        return -1;
    if (p->done >= p->total)
        return 0;
    double rate = progress_rate(p);
    return rate > 0 ? (double)(p->total - p->done) / rate : -1;
}

static void format_span(double s, char *out, size_t size)
{
    /* Beyond a year no number helps, and the conversion below must not overflow. */
    unsigned long t = s < 365.0 * 86400 ? (unsigned long)(s + 0.5) : 365ul * 86400;
    if (t < 60)
        snprintf(out, size, "%lu s", t);
    else if (t < 3600)
        snprintf(out, size, "%lu min %02lu s", t / 60, t % 60);
    else if (t < 86400)
        snprintf(out, size, "%lu h %02lu min", t / 3600, t / 60 % 60);
    else
        snprintf(out, size, "%lu d %02lu h", t / 86400, t / 3600 % 24);
}

static void format_rate(double rate, char *out, size_t size)
{
    snprintf(out, size, rate < 9.995 ? "%.2f/s" : rate < 99.95 ? "%.1f/s" : "%.0f/s", rate);
}

/* The whole line without its end; on the last one the time taken and the mean rate stand for the time left.
 */
static void format_line(const struct progress *p, bool last, char *out, size_t size)
{
    char count[80], rate[32], span[32];
    double elapsed_s = progress_now_s() - p->start_s, left_s = progress_left_s(p);
    if (p->total)
        snprintf(count, sizeof count, "%llu/%llu (%.0f %%)", (unsigned long long)p->done,
                 (unsigned long long)p->total, floor(100.0 * (double)p->done / (double)p->total));
    else
        snprintf(count, sizeof count, "%llu", (unsigned long long)p->done);
    if (last)
        format_rate(elapsed_s > 0 ? (double)p->done / elapsed_s : 0, rate, sizeof rate);
    else
        format_rate(progress_rate(p), rate, sizeof rate);
    format_span(last ? elapsed_s : left_s, span, sizeof span);
    if (!last && left_s < 0)
        snprintf(out, size, "%s: %s, %s", p->what, count, rate);
    else
        snprintf(out, size, "%s: %s, %s, %s %s", p->what, count, rate, span, last ? "in all" : "left");
}

/* A line that wraps cannot be rewritten with a carriage return: cut it to the terminal. */
static void cut_to_terminal(int fd, char *line)
{
    struct winsize w;
    size_t width = 80;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
        width = w.ws_col;
    if (strlen(line) > width - 1)
        line[width - 1] = '\0';
}

void progress_print(struct progress *p, FILE *f, bool last)
{
    char line[256];
    double now_s = progress_now_s();
    bool terminal = isatty(fileno(f));
    if (!last && now_s - p->last_print_s < (terminal ? PRINT_TERMINAL_S : PRINT_FILE_S))
        return;
    p->last_print_s = now_s;
    format_line(p, last, line, sizeof line);
    if (terminal)
        cut_to_terminal(fileno(f), line);
    fprintf(f, terminal ? "\r%s\033[K%s" : "%s%s", line, terminal && !last ? "" : "\n");
    fflush(f);
}
