#include "services/clusterer/eigen.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* QL sweeps allowed for one eigenvalue; two are usual. */
#define SWEEPS_MAX 60

static bool stopped(const atomic_bool *stop)
{
    return stop && atomic_load(stop);
}

static double dot(const double *x, const double *y, uint32_t n)
{
    double s = 0;
    for (uint32_t i = 0; i < n; i++)
        s += x[i] * y[i];
    return s;
}

/* y += f x */
static void axpy(double *y, double f, const double *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += f * x[i];
}

/* Reduces `a` to diagonal d and subdiagonal e (e[i] joins i - 1 and i) by Householder reflections I - v v' /
 * h. The vector of step i stays in row i, left of the diagonal; d[i] is its h until the end. */
static int tridiagonalise(double *a, double *d, double *e, uint32_t n, const atomic_bool *stop)
{
    for (uint32_t i = n - 1; i > 0; i--) {
        if (stopped(stop))
            return XDC_ESTOPPED;
        double *v = a + (size_t)i * n;
        double h = dot(v, v, i);
        d[i] = 0;
        e[i] = v[i - 1];
        if (i == 1 || h - v[i - 1] * v[i - 1] <= 0)
            continue; /* already in form */
        double g = v[i - 1] > 0 ? -sqrt(h) : sqrt(h);
        e[i] = g;
        h -= v[i - 1] * g;
        v[i - 1] -= g;
        d[i] = h;
        /* p = A v / h into e[0..i), from the lower triangle by rows */
        memset(e, 0, i * sizeof *e);
        for (uint32_t j = 0; j < i; j++) {
            const double *row = a + (size_t)j * n;
            e[j] += dot(row, v, j + 1);
            axpy(e, v[j], row, j);
        }
        for (uint32_t j = 0; j < i; j++)
            e[j] /= h;
        axpy(e, -dot(e, v, i) / (2 * h), v, i);
        /* A -= v q' + q v' */
        for (uint32_t j = 0; j < i; j++) {
            axpy(a + (size_t)j * n, -v[j], e, j + 1);
            axpy(a + (size_t)j * n, -e[j], v, j + 1);
        }
    }
    return 0;
}

/* Multiplies the reflections out: rows of `a` become the columns of the transform. d becomes the diagonal. */
static void accumulate(double *a, double *d, double *work, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double *v = a + (size_t)i * n;
        double diagonal = v[i], h = i ? d[i] : 0;
        if (h > 0) {
            /* The rows before i hold the transform Q of the leading block; Q <- (I - v v' / h) Q, on its
             * transpose. */
            for (uint32_t j = 0; j < i; j++)
                work[j] = dot(a + (size_t)j * n, v, i) / h;
            for (uint32_t j = 0; j < i; j++)
                axpy(a + (size_t)j * n, -work[j], v, i);
        }
        d[i] = diagonal;
        memset(v, 0, n * sizeof *v);
        v[i] = 1;
        for (uint32_t j = 0; j < i; j++)
            a[(size_t)j * n + i] = 0;
    }
}

static void rotate(double *x, double *y, double c, double s, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        double h = y[k];
        y[k] = s * x[k] + c * h;
        x[k] = c * x[k] - s * h;
    }
}

/* One implicit QL sweep over l..m. */
static void ql_sweep(double *a, double *d, double *e, uint32_t l, uint32_t m, uint32_t n)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]);
    double r = hypot(g, 1);
    g = d[m] - d[l] + e[l] / (g + (g >= 0 ? r : -r));
    double s = 1, c = 1, p = 0;
    for (uint32_t i = m; i-- > l;) {
        double f = s * e[i], b = c * e[i];
        r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) { /* underflow: the block splits here */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        rotate(a + (size_t)i * n, a + (size_t)(i + 1) * n, c, s, n);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static int ql(double *a, double *d, double *e, uint32_t n, const atomic_bool *stop)
{
    memmove(e, e + 1, (n - 1) * sizeof *e);
    e[n - 1] = 0;
    for (uint32_t l = 0; l < n; l++)
        for (unsigned sweep = 0;; sweep++) {
            uint32_t m = l;
            while (m + 1 < n && !(fabs(e[m]) <= DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1]))))
                m++;
            if (m == l)
                break;
            if (stopped(stop))
                return XDC_ESTOPPED;
            if (sweep == SWEEPS_MAX)
                return XDC_EFORMAT;
            ql_sweep(a, d, e, l, m, n);
        }
    return 0;
}

/* Falling order, by selection; signs. */
static void order(double *a, double *d, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t top = i;
        for (uint32_t j = i + 1; j < n; j++)
            if (d[j] > d[top])
                top = j;
        double t = d[i];
        d[i] = d[top];
        d[top] = t;
        double *x = a + (size_t)i * n, *y = a + (size_t)top * n;
        uint32_t largest = 0;
        for (uint32_t k = 0; k < n; k++) {
            t = x[k];
            x[k] = y[k];
            if (top != i)
                y[k] = t;
            if (fabs(x[k]) > fabs(x[largest]))
                largest = k;
        }
        for (uint32_t k = 0; x[largest] < 0 && k < n; k++)
            if (k != largest)
                x[k] = -x[k];
        x[largest] = fabs(x[largest]);
    }
}

int eigen_symmetric(double *a, double *values, uint32_t n, const atomic_bool *stop, struct err *e)
{
    double *off = calloc((size_t)n + 1, sizeof *off);
    if (!off)
        return err_sys(e, ENOMEM, "eigenvectors of %u x %u", n, n);
    int rc = tridiagonalise(a, values, off, n, stop);
    if (rc == 0) {
        double *work = malloc(n * sizeof *work);
        rc = work ? 0 : -ENOMEM;
        if (work)
            accumulate(a, values, work, n);
        free(work);
    }
    if (rc == 0)
        rc = ql(a, values, off, n, stop);
    if (rc == 0)
        order(a, values, n);
    free(off);
    return rc ? err_set(e, rc, "eigenvectors of %u x %u: %s", n, n,
                        rc == XDC_ESTOPPED  ? "asked to stop"
                        : rc == XDC_EFORMAT ? "no convergence"
                                            : "out of memory")
              : 0;
}
