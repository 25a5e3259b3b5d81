/* eigen: eigenvalues and eigenvectors of a symmetric matrix, in f64 (Householder tridiagonalisation, then
 * implicit QL; EISPACK's tred2 and tql2). Used by normalize. Pure, one thread. Owns nothing; fails only when
 * stopped or when QL does not converge. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "lib/err.h"

/* `a` is symmetric [n, n]; afterwards its rows are unit eigenvectors and `values` [n] the eigenvalues, in
 * falling order. Of each vector the component of the largest magnitude (the first of equal ones) is positive.
 * 0, XDC_ESTOPPED, XDC_EFORMAT (no convergence: not finite) or -ENOMEM. */
int eigen_symmetric(double *a, double *values, uint32_t n, const atomic_bool *stop,
                    struct err *e) WARN_UNUSED;
