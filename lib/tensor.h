/* tensor: arrays of numbers in files: NumPy's .npy (npy.c) and safetensors (safetensors.c), read and written.
 * Pure C, no libtorch. Used by the trainer's checkpoints, exports, the clusterer, and the command. Blocking;
 * any thread. Writes are atomic: on failure nothing with the final name has changed. Readers take the bytes
 * for hostile; XDC_EFORMAT says what is wrong. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct iovec;

#ifdef __cplusplus
extern "C" {
#endif

#define TENSOR_DIMS_MAX 8

enum tensor_dtype { TENSOR_U8 = 1, TENSOR_I32, TENSOR_U32, TENSOR_I64, TENSOR_F16, TENSOR_F32, TENSOR_F64 };

/* A view: C-contiguous data that belongs to somebody else. */
struct tensor {
    char name[256]; /* key in a safetensors file */
    enum tensor_dtype dtype;
    uint32_t ndim;
    uint64_t shape[TENSOR_DIMS_MAX];
    const void *data;
};

size_t tensor_dtype_size(enum tensor_dtype d);
const char *tensor_dtype_name(enum tensor_dtype d);
/* "[3, 4]", for sentences. Returns `out`. */
const char *tensor_shape_text(const struct tensor *t, char *out, size_t size);
/* Elements; 1 for a scalar. */
uint64_t tensor_count(const struct tensor *t);
/* Bytes of the data; XDC_EFORMAT for an unknown dtype, more than TENSOR_DIMS_MAX dimensions or a product
 * beyond int64. */
int tensor_bytes(const struct tensor *t, uint64_t *out, struct err *e) WARN_UNUSED;
/* Writes the parts one after the other to `path`: tmp + fsync + rename + fsync of the directory. */
int tensor_write_parts(const char *path, const struct iovec *parts, size_t n, struct err *e) WARN_UNUSED;

/* What comes before the data in NumPy's format 1.0; eight dimensions of 20 digits stay far below the size. */
#define NPY_HEADER_BYTES 512
size_t npy_header(const struct tensor *t, char head[NPY_HEADER_BYTES]);
/* NumPy format 1.0. */
int npy_write(const char *path, const struct tensor *t, struct err *e) WARN_UNUSED;
/* Reads format 1.0 to 3.0, u8, i32, u32, i64, f16, f32, f64 in little endian and C order; *out_data is
 * malloc'd and the caller's, out->data points to it. */
int npy_read(const char *path, struct tensor *out, void **out_data, struct err *e) WARN_UNUSED;

/* A .npy file of which parts are read. */
struct npy_file {
    struct tensor t; /* without data */
    char *path;      /* owned */
    int fd;          /* owned */
    uint64_t start;  /* of the data */
};
/* What npy_read takes. */
int npy_open(const char *path, struct npy_file *out, struct err *e) WARN_UNUSED;
/* Elements first .. first + n, as they lie in the file; they are within it. */
int npy_read_at(const struct npy_file *f, uint64_t first, uint64_t n, void *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void npy_close(struct npy_file *f);

/* Writes a conformant safetensors file: header <= 100 MiB padded to 8, tensors in the given order without
 * holes. `metadata`: n_meta pairs key, value. */
int safetensors_write(const char *path, const struct tensor *tensors, size_t n,
                      const char *const (*metadata)[2], size_t n_meta, struct err *e) WARN_UNUSED;

struct safetensors;
/* Maps a file and checks its header: bounds, no overlaps, no holes. XDC_EFORMAT says what is wrong. */
int safetensors_open(const char *path, struct safetensors **out, struct err *e) WARN_UNUSED;
void safetensors_close(struct safetensors *s);
size_t safetensors_count(const struct safetensors *s);
/* The i-th tensor in the order of the data; its data is a loan until close, aligned to its dtype. */
const struct tensor *safetensors_at(const struct safetensors *s, size_t i);
/* NULL when there is none of that name. */
const struct tensor *safetensors_find(const struct safetensors *s, const char *name);
/* NULL when there is none of that key. */
const char *safetensors_metadata(const struct safetensors *s, const char *key);

#ifdef __cplusplus
}
#endif
