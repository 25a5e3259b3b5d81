/* NumPy's .npy: magic, version, length, a Python dict literal, the data. The literal is parsed by a small
 * strict parser: three keys in any order, each once. */
#include "lib/tensor.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "lib/fsutil.h"

#define NPY_MAGIC "\x93NUMPY"
#define NPY_MAGIC_SIZE 6
#define NPY_ALIGN 64
/* NumPy's own bound for what it will parse; a header of eight dimensions has under 300 bytes. */
#define NPY_HEADER_MAX 10000

static const struct {
    enum tensor_dtype dtype;
    const char *descr;
} npy_descr[] = {
    {TENSOR_U8, "|u1"},  {TENSOR_I32, "<i4"}, {TENSOR_U32, "<u4"}, {TENSOR_I64, "<i8"},
    {TENSOR_F16, "<f2"}, {TENSOR_F32, "<f4"}, {TENSOR_F64, "<f8"},
};
#define NPY_DESCRS (sizeof npy_descr / sizeof npy_descr[0])

static const char *descr_of(enum tensor_dtype d)
{
    for (size_t i = 0; i < NPY_DESCRS; i++)
        if (npy_descr[i].dtype == d)
            return npy_descr[i].descr;
    return "";
}

size_t npy_header(const struct tensor *t, char head[NPY_HEADER_BYTES])
{
    size_t cap = NPY_HEADER_BYTES, used = NPY_MAGIC_SIZE + 4;
    memcpy(head, NPY_MAGIC "\x01\x00", NPY_MAGIC_SIZE + 2);
    used += (size_t)snprintf(head + used, cap - used, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                             descr_of(t->dtype));
    for (uint32_t i = 0; i < t->ndim; i++)
        used += (size_t)snprintf(head + used, cap - used, "%s%llu%s", i ? ", " : "",
                                 (unsigned long long)t->shape[i], t->ndim == 1 ? "," : "");
    used += (size_t)snprintf(head + used, cap - used, "), }");
    size_t total = (used + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    memset(head + used, ' ', total - used);
    head[total - 1] = '\n';
    uint16_t len = htole16((uint16_t)(total - NPY_MAGIC_SIZE - 4));
    memcpy(head + NPY_MAGIC_SIZE + 2, &len, sizeof len);
    return total;
}

int npy_write(const char *path, const struct tensor *t, struct err *e)
{
    uint64_t bytes;
    char head[NPY_HEADER_BYTES];
    if (tensor_bytes(t, &bytes, e) < 0)
        return err_wrap(e, "write %s", path);
    const struct iovec parts[] = {{head, npy_header(t, head)}, {(void *)(uintptr_t)t->data, (size_t)bytes}};
    return tensor_write_parts(path, parts, 2, e);
}

/* The literal, which need not end with a NUL. */
struct cursor {
    const char *p, *end;
};

static void skip_blank(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

/* Takes `ch` after blanks if it is next. */
static bool take(struct cursor *c, char ch)
{
    skip_blank(c);
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_blank(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

/* A quoted string of printable characters without escapes. */
static bool take_string(struct cursor *c, char *out, size_t size)
{
    skip_blank(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return false;
    char quote = *c->p++;
    size_t n = 0;
    while (c->p < c->end && *c->p != quote) {
        if (n + 1 >= size || !isprint((unsigned char)*c->p) || *c->p == '\\')
            return false;
        out[n++] = *c->p++;
    }
    out[n] = '\0';
    return take(c, quote);
}

static bool take_number(struct cursor *c, uint64_t *out)
{
    skip_blank(c);
    const char *first = c->p;
    uint64_t v = 0;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
        uint64_t digit = (uint64_t)(*c->p++ - '0');
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    *out = v;
    return c->p > first;
}

static int parse_shape(struct cursor *c, struct tensor *t, struct err *e)
{
    if (!take(c, '('))
        return err_set(e, XDC_EFORMAT, "shape is not a tuple");
    t->ndim = 0;
    bool comma = true;
    while (!take(c, ')')) {
        uint64_t d;
        if (!comma || !take_number(c, &d))
            return err_set(e, XDC_EFORMAT, "shape is not a tuple of sizes");
        if (t->ndim == TENSOR_DIMS_MAX)
            return err_set(e, XDC_EFORMAT, "more than %d dimensions", TENSOR_DIMS_MAX);
        t->shape[t->ndim++] = d;
        comma = take(c, ',');
    }
    /* In Python (3) is a number, not a tuple. */
    if (t->ndim == 1 && !comma)
        return err_set(e, XDC_EFORMAT, "shape is not a tuple");
    return 0;
}

static int parse_descr(struct cursor *c, struct tensor *t, struct err *e)
{
    char descr[32];
    if (!take_string(c, descr, sizeof descr))
        return err_set(e, XDC_EFORMAT, "descr is not one plain dtype");
    for (size_t i = 0; i < NPY_DESCRS; i++)
        if (strcmp(npy_descr[i].descr, descr) == 0) {
            t->dtype = npy_descr[i].dtype;
            return 0;
        }
    return err_set(e, XDC_EFORMAT,
                   "dtype '%s' is not supported (u1, i4, u4, i8, f2, f4, f8 in little endian are)", descr);
}

static int parse_order(struct cursor *c, struct err *e)
{
    if (take_word(c, "True"))
        return err_set(e, XDC_EFORMAT,
                       "the array is in Fortran order; save it in C order (numpy.ascontiguousarray)");
    if (!take_word(c, "False"))
        return err_set(e, XDC_EFORMAT, "fortran_order is neither True nor False");
    return 0;
}

static int parse_literal(const char *text, size_t size, struct tensor *t, struct err *e)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    struct cursor c = {text, text + size};
    unsigned seen = 0;
    bool comma = true;
    if (!take(&c, '{'))
        return err_set(e, XDC_EFORMAT, "the header is not a dict");
    while (!take(&c, '}')) {
        char key[32];
        if (!comma || !take_string(&c, key, sizeof key) || !take(&c, ':'))
            return err_set(e, XDC_EFORMAT, "the header is not a dict");
        unsigned bit = strcmp(key, "descr") == 0           ? DESCR
                       : strcmp(key, "fortran_order") == 0 ? ORDER
                       : strcmp(key, "shape") == 0         ? SHAPE
                                                           : 0;
        if (!bit || (seen & bit))
            return err_set(e, XDC_EFORMAT, "key '%s' of the header is %s", key,
                           bit ? "there twice" : "unknown");
        seen |= bit;
        int r = bit == DESCR   ? parse_descr(&c, t, e)
                : bit == ORDER ? parse_order(&c, e)
                               : parse_shape(&c, t, e);
        if (r < 0)
            return r;
        comma = take(&c, ',');
    }
    if (seen != (DESCR | ORDER | SHAPE))
        return err_set(e, XDC_EFORMAT, "the header lacks descr, fortran_order or shape");
    skip_blank(&c);
    if (c.p != c.end)
        return err_set(e, XDC_EFORMAT, "something follows the dict in the header");
    return 0;
}

/* Reads exactly `size` bytes. */
static int read_exact(int fd, void *out, size_t size, struct err *e)
{
    char *p = out;
    while (size) {
        ssize_t n = read(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "read");
        if (n == 0)
            return err_set(e, XDC_EFORMAT, "the file ends too early");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Reads magic to literal into *t; *out_size is where the data starts. */
static int read_header(int fd, struct tensor *t, uint64_t *out_size, struct err *e)
{
    unsigned char fixed[NPY_MAGIC_SIZE + 2];
    int r = read_exact(fd, fixed, sizeof fixed, e);
    if (r < 0)
        return r;
    if (memcmp(fixed, NPY_MAGIC, NPY_MAGIC_SIZE) != 0)
        return err_set(e, XDC_EFORMAT, "not a .npy file");
    unsigned major = fixed[NPY_MAGIC_SIZE], minor = fixed[NPY_MAGIC_SIZE + 1];
    if (major < 1 || major > 3 || minor != 0)
        return err_set(e, XDC_EFORMAT, ".npy version %u.%u is not known", major, minor);
    uint32_t len = 0; /* 2 bytes in version 1, 4 from version 2 on */
    size_t len_size = major == 1 ? 2 : 4;
    r = read_exact(fd, &len, len_size, e);
    if (r < 0)
        return r;
    len = le32toh(len);
    if (len > NPY_HEADER_MAX)
        return err_set(e, XDC_EFORMAT, "a header of %u bytes", len);
    char text[NPY_HEADER_MAX];
    r = read_exact(fd, text, len, e);
    if (r < 0)
        return r;
    *out_size = sizeof fixed + len_size + len;
    return parse_literal(text, len, t, e);
}

/* Header and size of the open file. */
static int open_data(struct npy_file *f, struct err *e)
{
    struct stat st;
    uint64_t bytes;
    if (fstat(f->fd, &st) < 0)
        return err_sys(e, errno, "stat");
    if (!S_ISREG(st.st_mode))
        return err_set(e, XDC_EFORMAT, "not a regular file");
    int r = read_header(f->fd, &f->t, &f->start, e);
    if (r == 0)
        r = tensor_bytes(&f->t, &bytes, e);
    if (r == 0 && ((uint64_t)st.st_size < f->start || (uint64_t)st.st_size - f->start != bytes))
        r = err_set(e, XDC_EFORMAT, "%lld bytes of data where the shape asks for %llu",
                    (long long)st.st_size - (long long)f->start, (unsigned long long)bytes);
    return r;
}

int npy_open(const char *path, struct npy_file *out, struct err *e)
{
    *out = (struct npy_file){.path = strdup(path), .fd = open(path, O_RDONLY | O_CLOEXEC)};
    int r = out->fd < 0 ? err_sys(e, errno, "open %s", path)
            : out->path ? open_data(out, e)
                        : err_sys(e, ENOMEM, "open %s", path);
    if (r == 0)
        return 0;
    if (out->fd >= 0) {
        err_wrap(e, "read %s", path);
        close(out->fd);
    }
    free(out->path);
    *out = (struct npy_file){0};
    return r;
}

int npy_read_at(const struct npy_file *f, uint64_t first, uint64_t n, void *out, struct err *e)
{
    size_t item = tensor_dtype_size(f->t.dtype);
    return fs_read_at(f->fd, out, n * item, f->start + first * item, f->path, e);
}

void npy_close(struct npy_file *f)
{
    if (f->path)
        close(f->fd);
    free(f->path);
    *f = (struct npy_file){0};
}

int npy_read(const char *path, struct tensor *out, void **out_data, struct err *e)
{
    struct npy_file f;
    uint64_t bytes;
    *out_data = NULL;
    memset(out, 0, sizeof *out);
    int r = npy_open(path, &f, e);
    if (r == 0)
        r = tensor_bytes(&f.t, &bytes, e);
    if (r == 0 && !(*out_data = malloc(bytes ? bytes : 1)))
        r = err_sys(e, ENOMEM, "read %s: %llu bytes", path, (unsigned long long)bytes);
    if (r == 0)
        r = npy_read_at(&f, 0, tensor_count(&f.t), *out_data, e);
    if (r == 0) {
        *out = f.t;
        out->data = *out_data;
    } else {
        free(*out_data);
        *out_data = NULL;
    }
    npy_close(&f);
    return r;
}
