/* encoder_file: what an exported encoder says of itself: its network and how its input is made, as settings
 * of the configuration that lets a run start from it. Used by the command (embed). Blocking; any thread; owns
 * nothing. The file's text is taken for hostile. Fails with the file's name and what is wrong or missing. */
#pragma once
#include <stdint.h>
#include "lib/err.h"
#include "lib/pair.h"

struct encoder_setting {
    const char *key; /* of the schema */
    char value[32];
};

struct encoder_file {
    enum net_encoder sees; /* NET_VIDEO or NET_AUDIO */
    uint64_t hash;         /* XXH3 of the file */
    char weights[17];      /* hash of the checkpoint's weights, 16 hexadecimal digits, or "": not recorded */
    struct encoder_setting settings[12];
    size_t n;
    const char *missing[12]; /* keys that it should record and does not */
    size_t n_missing;
};

/* XDC_EFORMAT: not a safetensors file, not written by `xdc export`, a network or front end that is unknown,
 * or of an audio encoder the log-mel's mean and deviation are not in it. */
int encoder_file_read(const char *path, struct encoder_file *out, struct err *e) WARN_UNUSED;

/* The recorded value of a key, or NULL. */
const char *encoder_file_value(const struct encoder_file *f, const char *key);
