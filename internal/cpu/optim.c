//go:build native && cgo

// optim.c - one step of an optimiser over a slab of parameters, in one pass.

#pragma GCC optimize("no-math-errno") // so that square roots become vectors
#include "native.h"
#include "simd.h"
#include <math.h>

// m and v follow g and its square; p = keep p - step m / (sqrt(v) root + eps).
CLONES void vec_adam(long n, float* restrict p, float* restrict m, float* restrict v,
                     const float* restrict g, float scale, float beta1, float beta2, float step,
                     float root, float eps, float keep, float l2)
{
    const float b1 = 1 - beta1, b2 = 1 - beta2;
    for (long i = 0; i < n; i++) {
        const float d = scale * g[i] + l2 * p[i];
        m[i] = beta1 * m[i] + b1 * d;
        v[i] = beta2 * v[i] + b2 * (d * d);
        p[i] = keep * p[i] - step * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

// p = keep p - lr sign(beta1 m + (1 - beta1) g), then m follows g by beta2.
CLONES void vec_lion(long n, float* restrict p, float* restrict m, const float* restrict g,
                     float scale, float beta1, float beta2, float lr, float keep)
{
    const float b1 = 1 - beta1, b2 = 1 - beta2;
    for (long i = 0; i < n; i++) {
        const float d = scale * g[i], c = beta1 * m[i] + b1 * d;
        p[i] = keep * p[i] - (c > 0 ? lr : c < 0 ? -lr : 0);
        m[i] = beta2 * m[i] + b2 * d;
    }
}

typedef double d8 __attribute__((vector_size(64), aligned(8)));
typedef float f8 __attribute__((vector_size(32), aligned(4)));

// The sum of squares, in eight partial sums of float64.
CLONES double vec_sumsq(long n, const float* x)
{
    d8 s = {0};
    long i = 0;
    for (; i + 8 <= n; i += 8) {
        const d8 v = __builtin_convertvector(*(const f8*)(x + i), d8);
        s += v * v;
    }
    for (; i < n; i++)
        s[i & 7] += (double)x[i] * x[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
