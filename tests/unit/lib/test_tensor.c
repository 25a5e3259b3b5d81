/* tensor: files round-trip, an independent reader and writer agree with ours, and hostile bytes are refused
 * by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fsutil.h"
#include "lib/tensor.h"

#define ELEMENTS 30
#define DTYPES 7

static const struct {
    enum tensor_dtype dtype;
    const char *name;
    size_t size;
} dtypes[DTYPES] = {
    {TENSOR_U8, "U8", 1},   {TENSOR_I32, "I32", 4}, {TENSOR_U32, "U32", 4}, {TENSOR_I64, "I64", 8},
    {TENSOR_F16, "F16", 2}, {TENSOR_F32, "F32", 4}, {TENSOR_F64, "F64", 8},
};

static char dir[] = "/tmp/xdc-test-tensor-XXXXXX";

static const char *at(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* Half precision of a small whole number. */
static uint16_t half_of(int v)
{
    unsigned sign = v < 0 ? 0x8000u : 0, m = (unsigned)abs(v), exponent = 0;
    if (m == 0)
        return 0;
    while (m >> (exponent + 1))
        exponent++;
    return (uint16_t)(sign | (exponent + 15) << 10 | ((m << (10 - exponent)) & 0x3ff));
}

/* The values that tensor_peer.py agrees on. */
static void fill(enum tensor_dtype d, void *out)
{
    for (int i = 0; i < ELEMENTS; i++) {
        int u = (i * 7 + 3) % 251, s = u - 100;
        switch (d) {
        case TENSOR_U8:
            ((uint8_t *)out)[i] = (uint8_t)u;
            break;
        case TENSOR_I32:
            ((int32_t *)out)[i] = s;
            break;
        case TENSOR_U32:
            ((uint32_t *)out)[i] = (uint32_t)u;
            break;
        case TENSOR_I64:
            ((int64_t *)out)[i] = s;
            break;
        case TENSOR_F16:
            ((uint16_t *)out)[i] = half_of(s);
            break;
        case TENSOR_F32:
            ((float *)out)[i] = (float)s;
            break;
        case TENSOR_F64:
            ((double *)out)[i] = s;
            break;
        }
    }
}

static struct tensor make(enum tensor_dtype d, const char *name, double store[ELEMENTS])
{
    struct tensor t = {.dtype = d, .ndim = 3, .shape = {2, 3, 5}, .data = store};
    snprintf(t.name, sizeof t.name, "%s", name);
    fill(d, store);
    return t;
}

static void assert_agreed(const struct tensor *t, size_t which)
{
    double want[ELEMENTS];
    fill(dtypes[which].dtype, want);
    assert_int_equal(t->dtype, dtypes[which].dtype);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->shape[2], 5);
    assert_int_equal((uintptr_t)t->data % dtypes[which].size, 0);
    assert_memory_equal(t->data, want, ELEMENTS * dtypes[which].size);
}

static void put_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Every dtype comes back from .npy as it went in, with its shape. */
static void npy_round_trip(void **state)
{
    (void)state;
    struct err e;
    for (size_t i = 0; i < DTYPES; i++) {
        double store[ELEMENTS];
        struct tensor in = make(dtypes[i].dtype, "", store), out;
        void *data;
        assert_int_equal(tensor_dtype_size(in.dtype), dtypes[i].size);
        assert_int_equal(npy_write(at("a.npy"), &in, &e), 0);
        assert_int_equal(npy_read(at("a.npy"), &out, &data, &e), 0);
        assert_ptr_equal(out.data, data);
        assert_agreed(&out, i);
        free(data);
    }
}

/* Scalars, empty arrays and eight dimensions are arrays too; data of every .npy starts at a multiple of 64.
 */
static void npy_shapes(void **state)
{
    (void)state;
    static const struct {
        uint32_t ndim;
        uint64_t shape[TENSOR_DIMS_MAX];
        uint64_t count;
    } cases[] = {
        {0, {0}, 1},
        {1, {4}, 4},
        {2, {0, 7}, 0},
        {8, {1, 1, 2, 1, 1, 3, 1, 1}, 6},
        {3, {0, 4000000000u, 1u << 20}, 0},
    };
    const float values[6] = {1, 2, 3, 4, 5, 6};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor in = {.dtype = TENSOR_F32, .ndim = cases[i].ndim, .data = values}, out;
        struct stat st;
        struct err e;
        void *data;
        memcpy(in.shape, cases[i].shape, sizeof in.shape);
        assert_int_equal(npy_write(at("s.npy"), &in, &e), 0);
        assert_int_equal(stat(at("s.npy"), &st), 0);
        assert_int_equal((size_t)st.st_size % 64, cases[i].count * 4 % 64);
        assert_int_equal(npy_read(at("s.npy"), &out, &data, &e), 0);
        assert_int_equal(out.ndim, cases[i].ndim);
        assert_int_equal(tensor_count(&out), cases[i].count);
        assert_memory_equal(out.shape, cases[i].shape, cases[i].ndim * sizeof out.shape[0]);
        assert_memory_equal(data, values, cases[i].count * 4);
        free(data);
    }
}

/* A header of another form, dtype, order or size than the file is refused, and the sentence says which. */
static void npy_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *literal; /* NULL: the file is `raw` */
        int data;            /* bytes behind the header */
        const char *raw, *says;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16, NULL, "Fortran"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 2), }", 16, NULL, "'>f4' is not supported"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }", 32, NULL, "'|O' is not supported"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }", 16, NULL, "one plain dtype"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 15, NULL, "15 bytes of data"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 17, NULL, "17 bytes of data"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", 0, NULL, "asks for 16"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4), }", 16, NULL, "not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }", 16, NULL, "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,,), }", 16, NULL, "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4L,), }", 16, NULL, "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 2,), }", 16, NULL, "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,", 16, NULL, "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4, NULL, "more than 8"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0, NULL,
         "overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }", 0, NULL,
         "overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 0, NULL,
         "tuple of sizes"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (4,), }", 16, NULL, "neither True nor False"},
        {"{'descr': '<f4', 'shape': (4,), }", 16, NULL, "lacks"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", 16, NULL,
         "there twice"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1, }", 16, NULL,
         "'x' of the header is unknown"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), } 1", 16, NULL, "follows the dict"},
        {"{'descr' '<f4', 'fortran_order': False, 'shape': (4,), }", 16, NULL, "not a dict"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (4,), }", 16, NULL, "not a dict"},
        {"{'descr': '<f4", 0, NULL, "one plain dtype"},
        {"", 0, NULL, "not a dict"},
        {NULL, 0, "", "ends too early"},
        {NULL, 0, "PK\x03\x04-a-zip-file", "not a .npy"},
        {NULL, 0, "\x93NUMPY\x04\x01xxxxxxxx", "version 4.1"},
        {NULL, 0, "\x93NUMPY\x02\x02xxxxxxxx", "version 2.2"},
        {NULL, 0, "\x93NUMPY\x03", "ends too early"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[512] = "\x93NUMPY\x01";
        size_t n = 0;
        if (cases[i].literal) {
            n = strlen(cases[i].literal);
            file[8] = (char)n;
            memcpy(file + 10, cases[i].literal, n);
            n += 10 + (size_t)cases[i].data;
            put_file("h.npy", file, n);
        } else {
            put_file("h.npy", cases[i].raw, strlen(cases[i].raw));
        }
        struct tensor t;
        struct err e;
        void *data = &t;
        assert_int_equal(npy_read(at("h.npy"), &t, &data, &e), XDC_EFORMAT);
        assert_null(data);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.msg, cases[i].says);
        assert_non_null(strstr(e.msg, "h.npy"));
    }
}

/* Header lengths that lie about the file: a claim over the bound and one past the end. */
static void npy_hostile_length(void **state)
{
    (void)state;
    static const unsigned char huge[16] = "\x93NUMPY\x02\x00\xff\xff\xff\xff",
                               past[16] = "\x93NUMPY\x01\x00\x00\x10{}";
    struct tensor t;
    struct err e;
    void *data;
    put_file("l.npy", huge, sizeof huge);
    assert_int_equal(npy_read(at("l.npy"), &t, &data, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "header of 4294967295 bytes"));
    put_file("l.npy", past, sizeof past);
    assert_int_equal(npy_read(at("l.npy"), &t, &data, &e), XDC_EFORMAT);
    assert_non_null(strstr(e.msg, "ends too early"));
}

/* Tensors, their order and the metadata come back; the header is padded so that the data starts at a multiple
 * of 8. */
static void safetensors_round_trip(void **state)
{
    (void)state;
    double store[DTYPES][ELEMENTS];
    struct tensor in[DTYPES];
    for (size_t i = 0; i < DTYPES; i++)
        in[i] = make(dtypes[i].dtype, dtypes[i].name, store[i]);
    const char *const meta[][2] = {{"format", "pt"},
                                   {"say \"it\"", "gr\xc3\xbc\xc3\x9f"
                                                  "e"}};
    struct safetensors *s;
    struct err e;
    assert_int_equal(safetensors_write(at("a.safetensors"), in, DTYPES, meta, 2, &e), 0);

    char *file;
    size_t size;
    assert_int_equal(fs_read(at("a.safetensors"), 1 << 20, &file, &size, &e), 0);
    assert_int_equal((unsigned char)file[0] % 8, 0);
    free(file);

    assert_int_equal(safetensors_open(at("a.safetensors"), &s, &e), 0);
    assert_int_equal(safetensors_count(s), DTYPES);
    for (size_t i = 0; i < DTYPES; i++) {
        /* 30 bytes of u8 come first, so that every wider tensor lies crooked in the file and must still be
         * aligned. */
        assert_string_equal(safetensors_at(s, i)->name, dtypes[i].name);
        assert_agreed(safetensors_at(s, i), i);
        assert_ptr_equal(safetensors_find(s, dtypes[i].name), safetensors_at(s, i));
    }
    assert_null(safetensors_at(s, DTYPES));
    assert_null(safetensors_find(s, "nobody"));
    assert_string_equal(safetensors_metadata(s, "format"), "pt");
    assert_string_equal(safetensors_metadata(s, "say \"it\""), "gr\xc3\xbc\xc3\x9f"
                                                               "e");
    assert_null(safetensors_metadata(s, "nothing"));
    safetensors_close(s);
}

/* No tensors at all, no metadata, scalars and empty tensors at one offset. */
static void safetensors_small(void **state)
{
    (void)state;
    const float one = 1.5f;
    const struct tensor in[] = {
        {.name = "empty b", .dtype = TENSOR_F64, .ndim = 1, .shape = {0}},
        {.name = "empty a", .dtype = TENSOR_F64, .ndim = 2, .shape = {3, 0}},
        {.name = "scalar", .dtype = TENSOR_F32, .data = &one},
    };
    struct safetensors *s;
    struct err e;
    assert_int_equal(safetensors_write(at("b.safetensors"), NULL, 0, NULL, 0, &e), 0);
    assert_int_equal(safetensors_open(at("b.safetensors"), &s, &e), 0);
    assert_int_equal(safetensors_count(s), 0);
    assert_null(safetensors_metadata(s, "format"));
    safetensors_close(s);
    assert_int_equal(safetensors_write(at("b.safetensors"), in, 3, NULL, 0, &e), 0);
    assert_int_equal(safetensors_open(at("b.safetensors"), &s, &e), 0);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(safetensors_at(s, i)->name, in[i].name);
    assert_int_equal(safetensors_at(s, 1)->shape[0], 3);
    assert_true(*(const float *)safetensors_find(s, "scalar")->data == one);
    safetensors_close(s);
}

/* What no reader would accept is not written: names that are taken or no UTF-8, sizes that overflow. */
static void safetensors_write_refuses(void **state)
{
    (void)state;
    const char byte = 1;
    const char *const bad_meta[][2] = {{"key", "\xff\xfe"}};
    static const struct {
        const char *first, *second, *says;
    } names[] = {{"w", "w", "taken"}, {"w", "__metadata__", "taken"}, {"w", "\xff", "UTF-8"}};
    struct err e;
    for (size_t i = 0; i < 3; i++) {
        struct tensor in[2] = {{.dtype = TENSOR_U8, .data = &byte}, {.dtype = TENSOR_U8, .data = &byte}};
        snprintf(in[0].name, sizeof in[0].name, "%s", names[i].first);
        snprintf(in[1].name, sizeof in[1].name, "%s", names[i].second);
        assert_int_equal(safetensors_write(at("no.safetensors"), in, 2, NULL, 0, &e), XDC_EFORMAT);
        assert_non_null(strstr(e.msg, names[i].says));
    }
    const struct tensor huge = {
        .name = "w", .dtype = TENSOR_F64, .ndim = 2, .shape = {1u << 31, 1ull << 31}, .data = &byte};
    const struct tensor deep = {.name = "w", .dtype = TENSOR_U8, .ndim = 9, .data = &byte};
    const struct tensor odd = {.name = "w", .dtype = (enum tensor_dtype)99, .data = &byte};
    assert_int_equal(safetensors_write(at("no.safetensors"), &huge, 1, NULL, 0, &e), XDC_EFORMAT);
    assert_int_equal(safetensors_write(at("no.safetensors"), &deep, 1, NULL, 0, &e), XDC_EFORMAT);
    assert_int_equal(safetensors_write(at("no.safetensors"), &odd, 1, NULL, 0, &e), XDC_EFORMAT);
    assert_int_equal(npy_write(at("no.npy"), &deep, &e), XDC_EFORMAT);
    assert_int_equal(safetensors_write(at("no.safetensors"), NULL, 0, bad_meta, 1, &e), XDC_EFORMAT);
    assert_int_equal(access(at("no.safetensors"), F_OK), -1);
    assert_int_equal(access(at("no.npy"), F_OK), -1);
}

#define T(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* Holes, overlaps, lies about sizes, foreign dtypes and broken JSON are each refused, and the sentence says
 * which. */
static void safetensors_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int data;
        const char *says;
    } cases[] = {
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[12,16]") "}", 16, "leaves a hole"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12,
         "inside the one before"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[0,8]") "}", 8, "inside the one before"},
        {"{" T("a", "F32", "[2]", "[4,12]") "}", 12, "leaves a hole"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 9, "1 bytes at the end"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 7, "outside the 7 bytes"},
        {"{}", 1, "1 bytes at the end"},
        {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, "8 bytes of data where the shape asks for 12"},
        {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, "outside"},
        {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, "outside"},
        {"{" T("a", "F32", "[2]", "[0]") "}", 8, "two numbers"},
        {"{" T("a", "F32", "[2]", "[0,8,8]") "}", 8, "two numbers"},
        {"{" T("a", "F32", "[2]", "[0,8.0]") "}", 8, "two numbers"},
        {"{" T("a", "F32", "[2]", "{\"0\":0}") "}", 8, "two numbers"},
        {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, "no size"},
        {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, "no size"},
        {"{" T("a", "F32", "2", "[0,8]") "}", 8, "not an array"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, "more than 8"},
        {"{" T("a", "F32", "[4611686018427387905]", "[0,4]") "}", 4, "overflows"},
        {"{" T("a", "F32", "[4294967296,4294967296,4]", "[0,0]") "}", 0, "overflows"},
        {"{" T("a", "F32", "[99999999999999999999]", "[0,4]") "}", 4, "not valid JSON"},
        {"{" T("a", "BF16", "[4]", "[0,8]") "}", 8, "BF16 is not supported"},
        {"{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "not a string"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "nothing else"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, "nothing else"},
        {"{\"a\":[]}", 0, "nothing else"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[8,16]") "}", 16,
         "not valid JSON: duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "key a is not a string"},
        {"{\"__metadata__\":\"a\"}", 0, "not an object"},
        {"{\"a\":", 0, "not valid JSON"},
        {"{}{}", 0, "not valid JSON"},
        {"[]", 0, "not a JSON object"},
        {" {}", 0, "not a JSON object"},
        {"{\"\xff\":{}}", 0, "not valid JSON"},
        {"{\"a\\u0000\":{}}", 0, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[1024] = {0};
        uint64_t n = strlen(cases[i].json);
        memcpy(file, &n, sizeof n);
        memcpy(file + 8, cases[i].json, n);
        put_file("h.safetensors", file, 8 + n + (size_t)cases[i].data);
        struct safetensors *s;
        struct err e;
        assert_int_equal(safetensors_open(at("h.safetensors"), &s, &e), XDC_EFORMAT);
        assert_null(s);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.msg, cases[i].says);
        assert_non_null(strstr(e.msg, "h.safetensors"));
    }
}

/* Header lengths that are larger than the file, than the format's bound, or than any address. */
static void safetensors_hostile_length(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e;
    static const uint64_t lengths[] = {0, 3, 200, (100u << 20) + 1, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char file[16] = "12345678{}";
        memcpy(file, &lengths[i], sizeof lengths[i]);
        put_file("l.safetensors", file, 10);
        assert_int_equal(safetensors_open(at("l.safetensors"), &s, &e), XDC_EFORMAT);
    }
    for (size_t size = 0; size < 8; size++) {
        put_file("l.safetensors", "1234567", size);
        assert_int_equal(safetensors_open(at("l.safetensors"), &s, &e), XDC_EFORMAT);
    }
    assert_int_equal(safetensors_open(dir, &s, &e), XDC_EFORMAT);
    assert_int_equal(safetensors_open(at("none"), &s, &e), -ENOENT);
}

/* Every byte of a good file flipped, and the file cut at every length: never a crash, and a cut is always
 * refused. */
static void safetensors_damage(void **state)
{
    (void)state;
    double store[2][ELEMENTS];
    struct tensor in[2] = {make(TENSOR_U8, "a", store[0]), make(TENSOR_F32, "b", store[1])};
    const char *const meta[][2] = {{"k", "v"}};
    struct safetensors *s;
    struct err e;
    char *file;
    size_t size;
    assert_int_equal(safetensors_write(at("d.safetensors"), in, 2, meta, 1, &e), 0);
    assert_int_equal(fs_read(at("d.safetensors"), 1 << 20, &file, &size, &e), 0);
    for (size_t i = 0; i < size; i++) {
        put_file("d.safetensors", file, i);
        assert_int_equal(safetensors_open(at("d.safetensors"), &s, &e), XDC_EFORMAT);
        file[i] ^= 0x11;
        put_file("d.safetensors", file, size);
        int r = safetensors_open(at("d.safetensors"), &s, &e);
        assert_true(r == 0 || r == XDC_EFORMAT);
        safetensors_close(s);
        file[i] ^= 0x11;
    }
    free(file);
}

/* A write that fails leaves the old file and no temporary one. */
static void write_is_atomic(void **state)
{
    (void)state;
    double store[ELEMENTS];
    struct tensor old = make(TENSOR_U8, "old", store);
    struct safetensors *s;
    struct err e;
    char tmp[PATH_MAX];
    assert_int_equal(safetensors_write(at("w.safetensors"), &old, 1, NULL, 0, &e), 0);
    snprintf(tmp, sizeof tmp, "%s/w.safetensors.tmp", dir);
    assert_int_equal(symlink("/dev/full", tmp), 0);
    assert_int_equal(safetensors_write(at("w.safetensors"), &old, 0, NULL, 0, &e), -ENOSPC);
    assert_int_equal(access(tmp, F_OK), -1);
    assert_int_equal(safetensors_open(at("w.safetensors"), &s, &e), 0);
    assert_non_null(safetensors_find(s, "old"));
    safetensors_close(s);
    assert_int_equal(npy_write(at("missing/x.npy"), &old, &e), -ENOENT);
}

/* Runs tensor_peer.py; the test is skipped where there is no NumPy. */
static void run_peer(const char *verb, const char *folder)
{
    char command[2 * PATH_MAX];
    if (access("/usr/bin/python3", X_OK) != 0)
        skip();
    /* Python is not built with our sanitizers and must not load their runtime. */
    snprintf(command, sizeof command,
             "env -u LD_PRELOAD /usr/bin/python3 -I %s/tests/unit/lib/tensor_peer.py %s %s", XDC_SOURCE_DIR,
             verb, folder);
    int status = system(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

/* NumPy and a plain parser read what we write. */
static void peer_reads_ours(void **state)
{
    (void)state;
    double store[DTYPES][ELEMENTS];
    struct tensor in[DTYPES];
    struct err e;
    char name[32];
    for (size_t i = 0; i < DTYPES; i++) {
        in[i] = make(dtypes[i].dtype, dtypes[i].name, store[i]);
        snprintf(name, sizeof name, "ours/%s.npy", dtypes[i].name);
        assert_int_equal(fs_mkdirs(at("ours"), &e), 0);
        assert_int_equal(npy_write(at(name), &in[i], &e), 0);
    }
    const struct tensor scalar = {.dtype = TENSOR_F64, .data = store[6]};
    const struct tensor empty = {.dtype = TENSOR_F32, .ndim = 2, .shape = {0, 7}};
    const struct tensor line = {.dtype = TENSOR_I32, .ndim = 1, .shape = {4}, .data = store[1]};
    assert_int_equal(npy_write(at("ours/scalar.npy"), &scalar, &e), 0);
    assert_int_equal(npy_write(at("ours/empty.npy"), &empty, &e), 0);
    assert_int_equal(npy_write(at("ours/line.npy"), &line, &e), 0);
    const char *const meta[][2] = {{"format", "pt"},
                                   {"say \"it\"", "gr\xc3\xbc\xc3\x9f"
                                                  "e"}};
    assert_int_equal(safetensors_write(at("ours/all.safetensors"), in, DTYPES, meta, 2, &e), 0);
    run_peer("check", at("ours"));
}

/* We read what NumPy and a plain writer write, and refuse what is not for us. */
static void ours_reads_peer(void **state)
{
    (void)state;
    struct safetensors *s;
    struct tensor t;
    struct err e;
    void *data;
    char name[40];
    assert_int_equal(fs_mkdirs(at("theirs"), &e), 0);
    run_peer("make", at("theirs"));
    for (size_t i = 0; i < DTYPES; i++) {
        snprintf(name, sizeof name, "theirs/%s.npy", dtypes[i].name);
        assert_int_equal(npy_read(at(name), &t, &data, &e), 0);
        assert_agreed(&t, i);
        free(data);
    }
    for (int version = 1; version <= 3; version++) {
        snprintf(name, sizeof name, "theirs/version%d.npy", version);
        assert_int_equal(npy_read(at(name), &t, &data, &e), 0);
        assert_agreed(&t, 5);
        free(data);
    }
    assert_int_equal(npy_read(at("theirs/scalar.npy"), &t, &data, &e), 0);
    assert_int_equal(t.ndim, 0);
    assert_true(*(double *)data == 2.5);
    free(data);
    assert_int_equal(npy_read(at("theirs/empty.npy"), &t, &data, &e), 0);
    assert_int_equal(tensor_count(&t), 0);
    free(data);
    static const char *const refused[] = {"theirs/fortran.npy", "theirs/big_endian.npy",
                                          "theirs/structured.npy"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(npy_read(at(refused[i]), &t, &data, &e), XDC_EFORMAT);
    assert_int_equal(safetensors_open(at("theirs/all.safetensors"), &s, &e), 0);
    assert_string_equal(safetensors_metadata(s, "by"), "python");
    for (size_t i = 0; i < DTYPES; i++)
        assert_agreed(safetensors_at(s, i), i);
    safetensors_close(s);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err e;
    (void)state;
    return fs_remove_tree(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_round_trip),
        cmocka_unit_test(npy_shapes),
        cmocka_unit_test(npy_hostile),
        cmocka_unit_test(npy_hostile_length),
        cmocka_unit_test(safetensors_round_trip),
        cmocka_unit_test(safetensors_small),
        cmocka_unit_test(safetensors_write_refuses),
        cmocka_unit_test(safetensors_hostile),
        cmocka_unit_test(safetensors_hostile_length),
        cmocka_unit_test(safetensors_damage),
        cmocka_unit_test(write_is_atomic),
        cmocka_unit_test(peer_reads_ours),
        cmocka_unit_test(ours_reads_peer),
    };
    return cmocka_run_group_tests_name("tensor", tests, set_up, tear_down);
}
