/* settings: a list of KEY=VALUE texts, for a configuration or the --set options of a command. Used by embed,
 * eval finetune and sweep. Pure; one thread; owns its texts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/conf.h"
#include "lib/encoder_file.h"

#define SETTINGS_MAX 192

struct settings {
    char *texts[SETTINGS_MAX + 1]; /* owned; NULL behind them */
    size_t n;
};

/* -ENOMEM, or XDC_ECONF beyond SETTINGS_MAX. */
int settings_add(struct settings *s, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4) WARN_UNUSED;
int settings_add_list(struct settings *s, const char *const *list, size_t n, struct err *e) WARN_UNUSED;
/* Those of an encoder's file. */
int settings_add_encoder(struct settings *s, const struct encoder_file *f, struct err *e) WARN_UNUSED;
/* Safe on a zeroed one. */
void settings_close(struct settings *s);

/* The configuration that they make over the file `base` (NULL: none); faults go to stderr as "<command>:
 * <where>: <what>". XDC_ECONF. */
int settings_load(const struct settings *s, const char *base, const char *command, struct conf *out,
                  struct err *e) WARN_UNUSED;

/* The value of the key in "KEY=VALUE", or NULL. */
const char *settings_value(const char *text, const char *key);
/* True for equal texts and equal numbers. */
bool settings_same(const char *a, const char *b);
