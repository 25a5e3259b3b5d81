#include "lib/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *log_name = "xdc";
static enum log_level log_max = LOG_LEVEL_INFO;
static int log_journal;

void log_init(const char *name, enum log_level level)
{
    log_name = name;
    log_max = level;
    log_journal = getenv("JOURNAL_STREAM") != NULL;
}

/* One write(2) a line, so that the lines of several processes on one terminal do not mix. */
static void PRINTF_LIKE(2, 0) emit(enum log_level level, const char *fmt, va_list ap)
{
    static const char *const word[] = {"error", "warn", "info", "debug"};
    static const int priority[] = {3, 4, 6, 7};
    if (level > log_max)
        return;
    char line[2048];
    int n;
    if (log_journal) {
        n = snprintf(line, sizeof line, "<%d>%s: ", priority[level], log_name);
    } else {
        struct timespec now;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        n = snprintf(line, sizeof line, "%02d:%02d:%02d.%03ld %-5s %s: ", tm.tm_hour, tm.tm_min, tm.tm_sec,
                     now.tv_nsec / 1000000, word[level], log_name);
    }
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len] = '\n';
    if (write(STDERR_FILENO, line, len + 1) < 0)
        return;
}

#define EMIT(level)       \
    va_list ap;           \
    va_start(ap, fmt);    \
    emit(level, fmt, ap); \
    va_end(ap)

void log_error(const char *fmt, ...)
{
    EMIT(LOG_LEVEL_ERROR);
}

void log_warn(const char *fmt, ...)
{
    EMIT(LOG_LEVEL_WARN);
}

void log_info(const char *fmt, ...)
{
    EMIT(LOG_LEVEL_INFO);
}

void log_debug(const char *fmt, ...)
{
    EMIT(LOG_LEVEL_DEBUG);
}
