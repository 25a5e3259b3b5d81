/* embed_conf: the configuration of a run that extracts what `xdc embed` was asked for, as KEY=VALUE settings
 * for its daemons. Used by cmd_embed. Blocking; one thread. Fails with what the encoder's file or the --set
 * options say wrong. */
#pragma once
#include "cli/settings.h"
#include "lib/conf.h"
#include "lib/encoder_file.h"

#define EMBED_SETS_MAX 64

struct embed_request {
    const char *encoder, *manifest, *run_dir;
    int split; /* enum conf_split, not auto */
    uint64_t clips;
    bool windows;
    double window_s, stride_s;        /* 0: a clip's span; the window */
    bool maps;                        /* features.kind; clips may be other than the encoder's */
    const char *sets[EMBED_SETS_MAX]; /* of the command line */
    uint32_t n_sets;
};

struct embed_conf {
    struct encoder_file encoder;
    struct conf conf;
    struct settings sets; /* owned */
};

/* Reads the encoder's file and the manifest's durations. XDC_EFORMAT for a file that is no encoder or lacks
 * what no --set gives; XDC_ECONF for a --set that the file or this command contradicts, and faults of values,
 * which are printed. embed_conf_close in any case. */
int embed_conf_make(const struct embed_request *q, struct embed_conf *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed one. */
void embed_conf_close(struct embed_conf *c);
