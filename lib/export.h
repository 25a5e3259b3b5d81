/* export: an encoder out of a run's newest checkpoint, as safetensors with torchvision's key names and the
 * recipe in the metadata. Used by the trainer at the end of a run and by `xdc export`. Needs no libtorch.
 * Blocking; writes atomically. */
#pragma once
#include "lib/err.h"

/* `encoder`: "video" or "audio". -ENOENT when the run has no checkpoint yet, XDC_EUSAGE for another encoder.
 */
int export_encoder(const char *run_dir, const char *encoder, const char *out, struct err *e) WARN_UNUSED;

/* The same out of one weights file (lib/torch's net_save), with n pairs {key, value} of metadata. XDC_EFORMAT
 * when the file has no such encoder. */
int export_weights(const char *weights, const char *encoder, const char *const (*metadata)[2], size_t n,
                   const char *out, struct err *e) WARN_UNUSED;
