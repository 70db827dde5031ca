//go:build native && cgo

// optim.c - one step of an optimiser over a slab of parameters, in one pass.

#include "native.h"
#include "simd.h"
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct adam {
    float scale, beta1, beta2, b1, b2, step, root, eps, keep, l2;
};

// m and v follow g and its square; p = keep p - step m / (sqrt(v) root + eps).
INLINE void adam_one(const struct adam* a, float* p, float* m, float* v, float g)
{
    const float d = a->scale * g + a->l2 * *p;
    *m = a->beta1 * *m + a->b1 * d;
    *v = a->beta2 * *v + a->b2 * (d * d);
    *p = a->keep * *p - a->step * *m / (sqrtf(*v) * a->root + a->eps);
}

#if defined(__x86_64__)
// adam_ISA is adam_one of as many as vectors hold, and returns how many that are. The compiler
// makes no vectors of sqrtf, which may set errno.
#define ADAM(isa, target_, vec, load, store, root_)                                                \
    __attribute__((target(target_))) static long adam_##isa(                                       \
        const struct adam* a, long n, float* restrict p, float* restrict m, float* restrict v,     \
        const float* restrict g)                                                                   \
    {                                                                                              \
        enum { width = sizeof(vec) / sizeof(float) };                                              \
        long i = 0;                                                                                \
        for (; i + width <= n; i += width) {                                                       \
            const vec w = load(p + i), d = a->scale * load(g + i) + a->l2 * w,                     \
                      x = a->beta1 * load(m + i) + a->b1 * d,                                      \
                      y = a->beta2 * load(v + i) + a->b2 * (d * d);                                \
            store(m + i, x);                                                                       \
            store(v + i, y);                                                                       \
            store(p + i, a->keep * w - a->step * x / (root_(y) * a->root + a->eps));               \
        }                                                                                          \
        return i;                                                                                  \
    }
ADAM(avx512, "avx512f", __m512, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_sqrt_ps)
ADAM(avx2, "avx2", __m256, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_sqrt_ps)
#endif

void vec_adam(long n, float* restrict p, float* restrict m, float* restrict v,
              const float* restrict g, float scale, float beta1, float beta2, float step,
              float root, float eps, float keep, float l2)
{
    const struct adam a = {scale, beta1, beta2, 1 - beta1, 1 - beta2, step, root, eps, keep, l2};
    long i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        i = adam_avx512(&a, n, p, m, v, g);
    else if (__builtin_cpu_supports("avx2"))
        i = adam_avx2(&a, n, p, m, v, g);
#endif
    for (; i < n; i++)
        adam_one(&a, p + i, m + i, v + i, g[i]);
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

// The same with m in bfloat16, rounded to nearest even.
CLONES void vec_lion16(long n, float* restrict p, uint16_t* restrict m, const float* restrict g,
                       float scale, float beta1, float beta2, float lr, float keep)
{
    const float b1 = 1 - beta1, b2 = 1 - beta2;
    for (long i = 0; i < n; i++) {
        const union {
            uint32_t u;
            float f;
        } mean = {.u = (uint32_t)m[i] << 16};
        const float d = scale * g[i], c = beta1 * mean.f + b1 * d;
        p[i] = keep * p[i] - (c > 0 ? lr : c < 0 ? -lr : 0);
        const union {
            float f;
            uint32_t u;
        } next = {.f = beta2 * mean.f + b2 * d};
        m[i] = (uint16_t)(bf16_of(next.u) >> 16);
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
