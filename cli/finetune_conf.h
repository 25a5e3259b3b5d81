/* finetune_conf: what fine-tuning an encoder is asked for, and the KEY=VALUE settings of the run that does
 * it. Used by eval finetune. Blocking where it reads the encoder's file; one thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "cli/settings.h"
#include "lib/encoder_file.h"

#define FINETUNE_SETS_MAX 64
#define FINETUNE_RATES_MAX 16

/* A published schedule (algorithms.md 2.3; what is not stated there is said in docs/evaluation.md). */
struct finetune_preset {
    const char *name;    /* of --preset */
    const char *dataset; /* as the published tables call it (published.h) */
    enum net_encoder sees;
    const char *const *sets; /* KEY=VALUE, NULL behind them */
};

/* NULL when there is none of that name. */
const struct finetune_preset *finetune_preset(const char *name);
/* "ucf101, hmdb51, ..."; static. */
const char *finetune_preset_names(void);

struct finetune_request {
    const char *encoder; /* path */
    const struct finetune_preset *preset;
    bool fc;                          /* only a linear layer learns, on the frozen encoder */
    double rates[FINETUNE_RATES_MAX]; /* learning rates, rising; several: one is chosen */
    uint32_t n_rates;
    double holdout; /* share of train's videos that the rates are compared on */
    uint64_t clips; /* of a test video */
    uint64_t seed;
    const char *sets[FINETUNE_SETS_MAX]; /* of the command line */
    uint32_t n_sets;
};

/* One run of it. */
struct finetune_run {
    const char *manifest, *dir;
    double rate, holdout; /* holdout 0: all of train is learnt */
};

/* The published grid, or ten times that for fc (algorithms.md 2.3 [R]). */
void finetune_rates(bool fc, double rates[FINETUNE_RATES_MAX], uint32_t *n);

/* Refuses --set options that the command or the encoder's file contradicts, and files that lack what no --set
 * gives: XDC_ECONF, XDC_EFORMAT. */
int finetune_check(const struct finetune_request *q, const struct encoder_file *f, struct err *e) WARN_UNUSED;

/* The settings of a run, checked as a configuration: faults are printed, XDC_ECONF. settings_close in any
 * case. */
int finetune_conf_make(const struct finetune_request *q, const struct encoder_file *f,
                       const struct finetune_run *r, struct settings *out, struct err *e) WARN_UNUSED;
/* What of the encoder's input is not as it was trained: "video.frames 32 (the encoder's: 8)", comma
 * between them; "" when nothing. */
void finetune_differences(const struct finetune_request *q, const struct encoder_file *f, char *out,
                          size_t size);
/* True for a --set that also holds for the extraction of test's features: how, not what is computed. */
bool finetune_set_of_embed(const char *set);
