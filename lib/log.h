/* log: one line per event on stderr, "time level name: sentence", or with journald's priority prefix under
 * systemd. Used by mains, services and the command; never by lib/. Any thread. Holds the only global state
 * (level and name). */
#pragma once
#include "lib/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `name` is kept, not copied. */
void log_init(const char *name, enum log_level level);
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);
