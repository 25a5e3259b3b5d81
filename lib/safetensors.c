/* safetensors: 8 bytes of little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
 * the data. The reader accepts exactly what the format's own reference accepts or less, never more. */
#include "lib/tensor.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ST_LENGTH_SIZE 8
#define ST_ALIGN 8
#define ST_HEADER_MAX ((uint64_t)100 << 20)
#define ST_METADATA "__metadata__"

static const struct {
    enum tensor_dtype dtype;
    const char *name;
} st_dtype[] = {
    {TENSOR_U8, "U8"},   {TENSOR_I32, "I32"}, {TENSOR_U32, "U32"}, {TENSOR_I64, "I64"},
    {TENSOR_F16, "F16"}, {TENSOR_F32, "F32"}, {TENSOR_F64, "F64"},
};
#define ST_DTYPES (sizeof st_dtype / sizeof st_dtype[0])

static const char *dtype_name(enum tensor_dtype d)
{
    for (size_t i = 0; i < ST_DTYPES; i++)
        if (st_dtype[i].dtype == d)
            return st_dtype[i].name;
    return "";
}

/* Puts {dtype, shape, data_offsets} of `t` under its name; *at is where its data starts and moves behind it.
 */
static int header_add(json_t *header, const struct tensor *t, uint64_t *at, struct err *e)
{
    uint64_t bytes, begin = *at;
    int r = tensor_bytes(t, &bytes, e);
    if (r < 0)
        return r;
    if (strnlen(t->name, sizeof t->name) == sizeof t->name)
        return err_set(e, XDC_EFORMAT, "the name does not end");
    if (strcmp(t->name, ST_METADATA) == 0 || json_object_get(header, t->name))
        return err_set(e, XDC_EFORMAT, "the name is taken");
    if (__builtin_add_overflow(begin, bytes, at) || *at > INT64_MAX)
        return err_set(e, XDC_EFORMAT, "the file would be too large");
    json_t *shape = json_array();
    for (uint32_t i = 0; i < t->ndim; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i])) < 0) {
            json_decref(shape);
            return err_sys(e, ENOMEM, "build the header");
        }
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->dtype), "shape", shape,
                              "data_offsets", (json_int_t)begin, (json_int_t)*at);
    if (json_object_set_new(header, t->name, entry) < 0)
        return err_set(e, XDC_EFORMAT, "the name is not UTF-8");
    return 0;
}

static int header_build(json_t *header, const struct tensor *tensors, size_t n,
                        const char *const (*metadata)[2], size_t n_meta, struct err *e)
{
    json_t *meta = n_meta ? json_object() : NULL;
    if (n_meta && json_object_set_new(header, ST_METADATA, meta) < 0)
        return err_sys(e, ENOMEM, "build the header");
    for (size_t i = 0; i < n_meta; i++)
        if (json_object_set_new(meta, metadata[i][0], json_string(metadata[i][1])) < 0)
            return err_set(e, XDC_EFORMAT, "metadata %zu is not UTF-8", i);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        int r = header_add(header, &tensors[i], &at, e);
        if (r < 0) {
            err_wrap(e, "tensor %zu (%.*s)", i, (int)strnlen(tensors[i].name, 200), tensors[i].name);
            return r;
        }
    }
    return 0;
}

/* The header as it stands in the file, length first; malloc'd. */
static int header_text(const json_t *header, char **out, size_t *out_size, struct err *e)
{
    size_t n = json_dumpb(header, NULL, 0, JSON_COMPACT);
    size_t padded = (n + ST_ALIGN - 1) / ST_ALIGN * ST_ALIGN;
    if (!n)
        return err_sys(e, ENOMEM, "build the header");
    if (padded > ST_HEADER_MAX)
        return err_set(e, XDC_EFORMAT, "a header of %zu bytes, the format allows 100 MiB", padded);
    char *text = malloc(ST_LENGTH_SIZE + padded);
    if (!text || json_dumpb(header, text + ST_LENGTH_SIZE, n, JSON_COMPACT) != n) {
        free(text);
        return err_sys(e, ENOMEM, "build the header");
    }
    memset(text + ST_LENGTH_SIZE + n, ' ', padded - n);
    uint64_t le = htole64(padded);
    memcpy(text, &le, sizeof le);
    *out = text;
    *out_size = ST_LENGTH_SIZE + padded;
    return 0;
}

int safetensors_write(const char *path, const struct tensor *tensors, size_t n,
                      const char *const (*metadata)[2], size_t n_meta, struct err *e)
{
    char *text = NULL;
    struct iovec *parts = calloc(n + 1, sizeof *parts);
    json_t *header = json_object();
    int r = parts && header ? 0 : err_sys(e, ENOMEM, "build the header");
    if (r == 0)
        r = header_build(header, tensors, n, metadata, n_meta, e);
    if (r == 0)
        r = header_text(header, &text, &parts[0].iov_len, e);
    if (r < 0) {
        err_wrap(e, "write %s", path);
        goto out;
    }
    parts[0].iov_base = text;
    for (size_t i = 0; i < n; i++) {
        parts[i + 1].iov_base = (void *)(uintptr_t)tensors[i].data;
        parts[i + 1].iov_len = (size_t)tensor_count(&tensors[i]) * tensor_dtype_size(tensors[i].dtype);
    }
    r = tensor_write_parts(path, parts, n + 1, e);
out:
    free(text);
    free(parts);
    json_decref(header);
    return r;
}

/* A tensor with its place in the data. */
struct entry {
    struct tensor tensor;
    uint64_t begin, end;
    size_t place;  /* in the header, which decides among empty tensors at one offset */
    void *aligned; /* owned; NULL when the mapped bytes can be used where they are */
};

struct safetensors {
    void *map; /* owned */
    size_t map_size;
    json_t *header;        /* owned */
    struct entry *entries; /* owned */
    size_t n;
};

static int parse_shape(const json_t *shape, struct tensor *t, struct err *e)
{
    if (!json_is_array(shape))
        return err_set(e, XDC_EFORMAT, "shape is not an array");
    if (json_array_size(shape) > TENSOR_DIMS_MAX)
        return err_set(e, XDC_EFORMAT, "more than %d dimensions", TENSOR_DIMS_MAX);
    t->ndim = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(e, XDC_EFORMAT, "a dimension is no size");
        t->shape[i] = (uint64_t)json_integer_value(d);
    }
    return 0;
}

static int parse_dtype(const json_t *dtype, struct tensor *t, struct err *e)
{
    if (!json_is_string(dtype))
        return err_set(e, XDC_EFORMAT, "dtype is not a string");
    for (size_t i = 0; i < ST_DTYPES; i++)
        if (strcmp(st_dtype[i].name, json_string_value(dtype)) == 0) {
            t->dtype = st_dtype[i].dtype;
            return 0;
        }
    return err_set(e, XDC_EFORMAT, "dtype %.32s is not supported (U8, I32, U32, I64, F16, F32, F64 are)",
                   json_string_value(dtype));
}

static int parse_offsets(const json_t *offsets, uint64_t data_size, struct entry *en, struct err *e)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return err_set(e, XDC_EFORMAT, "data_offsets are not two numbers");
    json_int_t b = json_integer_value(begin), f = json_integer_value(end);
    if (b < 0 || f < b || (uint64_t)f > data_size)
        return err_set(e, XDC_EFORMAT, "data_offsets [%lld, %lld] lie outside the %llu bytes of data",
                       (long long)b, (long long)f, (unsigned long long)data_size);
    en->begin = (uint64_t)b;
    en->end = (uint64_t)f;
    return 0;
}

static int parse_entry(const char *name, const json_t *value, uint64_t data_size, struct entry *en,
                       struct err *e)
{
    uint64_t bytes;
    if (strlen(name) >= sizeof en->tensor.name)
        return err_set(e, XDC_EFORMAT, "a name of %zu bytes", strlen(name));
    memcpy(en->tensor.name, name, strlen(name) + 1);
    const json_t *dtype = json_object_get(value, "dtype"), *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!dtype || !shape || !offsets || json_object_size(value) != 3)
        return err_set(e, XDC_EFORMAT, "it needs dtype, shape, data_offsets and nothing else");
    int r = parse_dtype(dtype, &en->tensor, e);
    if (r == 0)
        r = parse_shape(shape, &en->tensor, e);
    if (r == 0)
        r = tensor_bytes(&en->tensor, &bytes, e);
    if (r == 0)
        r = parse_offsets(offsets, data_size, en, e);
    if (r == 0 && en->end - en->begin != bytes)
        r = err_set(e, XDC_EFORMAT, "%llu bytes of data where the shape asks for %llu",
                    (unsigned long long)(en->end - en->begin), (unsigned long long)bytes);
    return r;
}

static int check_metadata(const json_t *meta, struct err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta))
        return err_set(e, XDC_EFORMAT, ST_METADATA " is not an object");
    json_object_foreach((json_t *)(uintptr_t)meta, key, value)
    {
        if (!json_is_string(value))
            return err_set(e, XDC_EFORMAT, ST_METADATA " key %.64s is not a string", key);
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* The tensors, sorted by offset, must tile the data. */
static int check_tiling(const struct safetensors *s, uint64_t data_size, struct err *e)
{
    uint64_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct entry *en = &s->entries[i];
        if (en->begin != at)
            return err_set(e, XDC_EFORMAT, "tensor %.64s starts at byte %llu %s", en->tensor.name,
                           (unsigned long long)en->begin,
                           en->begin < at ? "inside the one before it" : "and leaves a hole before it");
        at = en->end;
    }
    if (at != data_size)
        return err_set(e, XDC_EFORMAT, "%llu bytes at the end belong to no tensor",
                       (unsigned long long)(data_size - at));
    return 0;
}

static int parse_header(struct safetensors *s, uint64_t data_size, struct err *e)
{
    s->entries = calloc(json_object_size(s->header) + 1, sizeof *s->entries);
    if (!s->entries)
        return err_sys(e, ENOMEM, "%zu tensors", json_object_size(s->header));
    const char *key;
    json_t *value;
    json_object_foreach(s->header, key, value)
    {
        int r;
        if (strcmp(key, ST_METADATA) == 0) {
            r = check_metadata(value, e);
        } else {
            s->entries[s->n].place = s->n;
            r = parse_entry(key, value, data_size, &s->entries[s->n++], e);
            if (r < 0)
                err_wrap(e, "tensor %.64s", key);
        }
        if (r < 0)
            return r;
    }
    qsort(s->entries, s->n, sizeof *s->entries, by_offset);
    return check_tiling(s, data_size, e);
}

/* The format does not align tensors; readers of `data` may cast, so what lies crooked is copied. */
static int place_data(struct safetensors *s, const char *data, struct err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        struct entry *en = &s->entries[i];
        size_t size = (size_t)(en->end - en->begin);
        en->tensor.data = data + en->begin;
        if ((uintptr_t)en->tensor.data % tensor_dtype_size(en->tensor.dtype) == 0)
            continue;
        en->aligned = malloc(size ? size : 1);
        if (!en->aligned)
            return err_sys(e, ENOMEM, "%zu bytes", size);
        memcpy(en->aligned, en->tensor.data, size);
        en->tensor.data = en->aligned;
    }
    return 0;
}

static int parse_map(struct safetensors *s, struct err *e)
{
    uint64_t len;
    if (s->map_size < ST_LENGTH_SIZE + 2)
        return err_set(e, XDC_EFORMAT, "%zu bytes are too few", s->map_size);
    memcpy(&len, s->map, sizeof len);
    len = le64toh(len);
    if (len > ST_HEADER_MAX || len > s->map_size - ST_LENGTH_SIZE)
        return err_set(e, XDC_EFORMAT, "a header of %llu bytes in a file of %zu", (unsigned long long)len,
                       s->map_size);
    const char *text = (const char *)s->map + ST_LENGTH_SIZE;
    if (len == 0 || text[0] != '{')
        return err_set(e, XDC_EFORMAT, "the header is not a JSON object");
    json_error_t je;
    s->header = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, &je);
    if (!s->header)
        return err_set(e, XDC_EFORMAT, "the header is not valid JSON: %s", je.text);
    int r = parse_header(s, s->map_size - ST_LENGTH_SIZE - len, e);
    return r < 0 ? r : place_data(s, text + len, e);
}

static int map_file(struct safetensors *s, const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open");
    struct stat st;
    int r = 0;
    if (fstat(fd, &st) < 0)
        r = err_sys(e, errno, "stat");
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        r = err_set(e, XDC_EFORMAT, "%s", S_ISREG(st.st_mode) ? "the file is empty" : "not a regular file");
    if (r == 0) {
        s->map_size = (size_t)st.st_size;
        s->map = mmap(NULL, s->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (s->map == MAP_FAILED) {
            s->map = NULL;
            r = err_sys(e, errno, "map");
        }
    }
    close(fd);
    return r;
}

int safetensors_open(const char *path, struct safetensors **out, struct err *e)
{
    *out = NULL;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "open %s", path);
    int r = map_file(s, path, e);
    if (r == 0)
        r = parse_map(s, e);
    if (r < 0) {
        err_wrap(e, "read %s", path);
        safetensors_close(s);
        return r;
    }
    *out = s;
    return 0;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        free(s->entries[i].aligned);
    free(s->entries);
    json_decref(s->header);
    if (s->map)
        munmap(s->map, s->map_size);
    free(s);
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->n;
}

const struct tensor *safetensors_at(const struct safetensors *s, size_t i)
{
    return i < s->n ? &s->entries[i].tensor : NULL;
}

const struct tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->entries[i].tensor.name, name) == 0)
            return &s->entries[i].tensor;
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, ST_METADATA), key));
}
