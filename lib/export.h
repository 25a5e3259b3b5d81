/* export: an encoder out of a run's newest checkpoint, as safetensors with torchvision's key names and the
 * recipe in the metadata; and the heads out of it. Used by the trainer at the end of a run and by `xdc
 * export`. Needs no libtorch. Blocking; writes atomically. */
#pragma once
#include <stddef.h>
#include "lib/checkpoint_dir.h"

enum export_what {
    EXPORT_CLASSIFIER = 1, /* the encoder's one linear head goes along as torchvision's classifier */
    EXPORT_EMA = 2,        /* the average of the weights (train.ema), with the newest batch-norm statistics */
};

/* `encoder`: "video" or "audio", or of same-modality "video-a", ...; `what`: of enum export_what. A
 * classifier is "fc.*", S3D's "classifier.1.*". -ENOENT when the run has no checkpoint yet, XDC_EUSAGE for
 * another encoder, XDC_EMISMATCH when the run is not of it (net.encoders), there is no such head, or no
 * average. on_refused (may be NULL) hears, with arg NULL, of each newer checkpoint that is not whole. */
int export_encoder(const char *run_dir, const char *encoder, unsigned what, const char *out,
                   checkpoint_dir_on_refused on_refused, struct err *e) WARN_UNUSED;

/* The heads of a run of method selavi out of the same checkpoint, by the names that a dump's
 * heads.safetensors has them under (docs/formats.md). The metadata's xdc.weights is that of the encoders of
 * this checkpoint, but of averages, and of no others. -ENOENT when the run has no checkpoint yet,
 * XDC_EMISMATCH for a run of another method: the heads of its encoders do not answer one question. */
int export_heads(const char *run_dir, const char *out, checkpoint_dir_on_refused on_refused,
                 struct err *e) WARN_UNUSED;

/* The same as export_encoder out of one weights file (lib/torch's net_save) without the classifier, with n
 * pairs {key, value} of metadata. XDC_EFORMAT when the file has no such encoder. */
int export_weights(const char *weights, const char *encoder, const char *const (*metadata)[2], size_t n,
                   const char *out, struct err *e) WARN_UNUSED;

/* audio.frontend of the text that an export's xdc.front_end is, "logmel" or "vmz"; NULL for any other. */
const char *export_front_end(const char *text);

/* The flavour of a run's encoder, "xdc" or "torchvision"; the text is static. */
int export_flavour(const char *run_dir, const char *encoder, const char **out, struct err *e) WARN_UNUSED;
