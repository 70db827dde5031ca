//go:build native && cgo

// func.c - the functions of one variable that networks use, and their slopes,
// in vectors of sixteen floats. Polynomials are those of Cephes (S. Moshier's
// single-precision expf, logf, tanhf, erff and erfcf).

#include "native.h"
#include "func.h"
#include "vec16.h"
#include <string.h>

INLINE f16 abs16(f16 x) { return (f16)((i16)x & 0x7fffffff); }

INLINE f16 sign_of(f16 magnitude, f16 x)
{
    return (f16)((i16)magnitude | ((i16)x & (int32_t)0x80000000));
}

// log of sixteen floats: x = m 2^e, m in [sqrt(1/2), sqrt 2).
INLINE f16 log16(f16 x)
{
    const i16 tiny = x < 0x1p-126f * one;
    const f16 scaled = pick(tiny, x * 0x1p24f, x);
    i16 e = (((i16)scaled >> 23) & 255) - 126;
    f16 m = (f16)(((i16)scaled & 0x007fffff) | 0x3f000000); // [1/2, 1)
    const i16 low = m < 0.707106781186547524f * one;
    e += low - (tiny & 24); // a true comparison is -1
    m = pick(low, m + m, m) - 1.0f;
    const f16 n = __builtin_convertvector(e, f16), z = m * m;
    f16 p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z + n * -2.12194440e-4f - 0.5f * z;
    f16 y = m + p + n * 0.693359375f;
    const f16 inf = __builtin_inff() * one;
    y = pick(x == inf, inf, y);
    y = pick(x == 0.0f * one, -inf, y);
    return pick((x < 0.0f * one) | (x != x), x * __builtin_nanf(""), y);
}

// log(1 + e) of e in [0, 1]: the rounding of 1 + e is given back.
INLINE f16 log1p_within(f16 e)
{
    const f16 u = one + e;
    return log16(u) + (e - (u - one)) / u;
}

INLINE f16 tanh16(f16 x)
{
    const f16 t = abs16(x), z = x * x;
    const f16 q = exp16(-2.0f * t), far = sign_of((one - q) / (one + q), x);
    f16 p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return pick(t < 0.625f * one, p * z * x + x, pick(x != x, x, far));
}

// The normal distribution's integral up to x.
INLINE f16 normal16(f16 x)
{
    const f16 t = abs16(x) * 0.70710678118654752f, z = t * t, r = one / t, y = r * r;
    f16 p = z * 7.853861353153693e-5f - 8.010193625184903e-4f;
    p = p * z + 5.188327685732524e-3f;
    p = p * z - 2.685381193529856e-2f;
    p = p * z + 1.128358514861418e-1f;
    p = p * z - 3.761262582423300e-1f;
    p = p * z + 1.128379165726710f;
    const f16 near = 0.5f + 0.5f * sign_of(t * p, x);
    f16 a = y * 2.326819970068386e-2f - 1.387039388740657e-1f;
    a = a * y + 3.687424674597105e-1f;
    a = a * y - 5.824733027278666e-1f;
    a = a * y + 6.210004621745983e-1f;
    a = a * y - 4.944515323274145e-1f;
    a = a * y + 3.404879937665872e-1f;
    a = a * y - 2.741127028184656e-1f;
    a = a * y + 5.638259427386472e-1f;
    f16 b = y * -1.047766399936249e1f + 1.297719955372516e1f;
    b = b * y - 7.495518717768503f;
    b = b * y + 2.921019019210786f;
    b = b * y - 1.015265279202700f;
    b = b * y + 4.218463358204948e-1f;
    b = b * y - 2.820767439740514e-1f;
    b = b * y + 5.641895067754075e-1f;
    const f16 tail = 0.5f * exp16(-z) * r * pick(t < 2.0f * one, a, b);
    return pick(t < one, near, pick(x < 0.0f * one, tail, one - tail));
}

// x of the sigmoid that the tanh form of GELU multiplies with, and its slope.
INLINE f16 gelu_in(f16 x) { return 1.5957691216057308f * (x + 0.044715f * x * x * x); }
INLINE f16 gelu_in_slope(f16 x) { return 1.5957691216057308f * (one + 0.134145f * x * x); }

INLINE f16 value(int f, f16 x, float a, float b)
{
    const f16 zero = {0};
    switch (f) {
    case FUNC_RELU: return pick(x < zero, zero, x);
    case FUNC_LEAKY: return pick(x < zero, a * x, x);
    case FUNC_SILU: return x * sigmoid16(x);
    case FUNC_GELU: return x * normal16(x);
    case FUNC_GELU_TANH: return x * sigmoid16(gelu_in(x));
    case FUNC_SIGMOID: return sigmoid16(x);
    case FUNC_TANH: return tanh16(x);
    case FUNC_SOFTPLUS: return pick(x > zero, x, zero * x) + log1p_within(exp16(-abs16(x)));
    case FUNC_EXP: return exp16(x);
    case FUNC_LOG: return log16(x);
    case FUNC_SQUARE: return x * x;
    case FUNC_ABS: return abs16(x);
    case FUNC_CLIP: return pick(x < a * one, a * one, pick(x > b * one, b * one, x));
    case FUNC_INVERSE: return one / x;
    }
    return x;
}

INLINE f16 slope(int f, f16 x, float a, float b)
{
    const f16 zero = {0};
    switch (f) {
    case FUNC_RELU: return pick(x > zero, one, zero);
    case FUNC_LEAKY: return pick(x > zero, one, a * one);
    case FUNC_SILU: {
        const f16 s = sigmoid16(x);
        return s * (one + x * (one - s));
    }
    case FUNC_GELU: return normal16(x) + x * 0.39894228040143268f * exp16(-0.5f * x * x);
    case FUNC_GELU_TANH: {
        const f16 s = sigmoid16(gelu_in(x));
        return s + x * s * (one - s) * gelu_in_slope(x);
    }
    case FUNC_SIGMOID: {
        const f16 s = sigmoid16(x);
        return s * (one - s);
    }
    case FUNC_TANH: {
        const f16 t = tanh16(x);
        return one - t * t;
    }
    case FUNC_SOFTPLUS: return sigmoid16(x);
    case FUNC_EXP: return exp16(x);
    case FUNC_LOG: return one / x;
    case FUNC_SQUARE: return 2.0f * x;
    case FUNC_ABS: return pick(x > zero, one, pick(x < zero, -one, zero));
    case FUNC_CLIP: return pick((x >= a * one) & (x <= b * one), one, zero);
    case FUNC_INVERSE: return -one / (x * x);
    }
    return one;
}

#define LOAD(v, p, k)                                                                              \
    f16 v = {0};                                                                                   \
    memcpy(&v, p, sizeof(float) * (size_t)(k));

#define FORWARD(F)                                                                                 \
    case F:                                                                                        \
        for (; i + 16 <= n; i += 16)                                                               \
            *(f16*)(out + i) = value(F, *(const f16*)(x + i), a, b);                               \
        if (i < n) {                                                                               \
            LOAD(v, x + i, n - i)                                                                  \
            v = value(F, v, a, b);                                                                 \
            memcpy(out + i, &v, sizeof(float) * (size_t)(n - i));                                  \
        }                                                                                          \
        break;

#define ALL(M)                                                                                     \
    M(FUNC_RELU)                                                                                   \
    M(FUNC_LEAKY)                                                                                  \
    M(FUNC_SILU)                                                                                   \
    M(FUNC_GELU)                                                                                   \
    M(FUNC_GELU_TANH)                                                                              \
    M(FUNC_SIGMOID)                                                                                \
    M(FUNC_TANH)                                                                                   \
    M(FUNC_SOFTPLUS)                                                                               \
    M(FUNC_EXP)                                                                                    \
    M(FUNC_LOG) M(FUNC_SQUARE) M(FUNC_ABS) M(FUNC_CLIP) M(FUNC_INVERSE)

CLONES void vec_func(int f, float a, float b, long n, float* out, const float* x)
{
    long i = 0;
    switch (f) {
        ALL(FORWARD)
    }
}

// dx = dy f'(x), added to what dx holds where acc is set
#define BACKWARD(F)                                                                                \
    case F:                                                                                        \
        for (; i + 16 <= n; i += 16) {                                                             \
            const f16 g = *(const f16*)(dy + i) * slope(F, *(const f16*)(x + i), a, b);            \
            *(f16*)(dx + i) = acc ? *(const f16*)(dx + i) + g : g;                                 \
        }                                                                                          \
        if (i < n) {                                                                               \
            LOAD(v, x + i, n - i)                                                                  \
            LOAD(g, dy + i, n - i)                                                                 \
            LOAD(old, dx + i, n - i)                                                               \
            g *= slope(F, v, a, b);                                                                \
            g = acc ? old + g : g;                                                                 \
            memcpy(dx + i, &g, sizeof(float) * (size_t)(n - i));                                   \
        }                                                                                          \
        break;

CLONES void vec_func_back(int f, float a, float b, long n, float* dx, const float* x,
                          const float* dy, int acc)
{
    long i = 0;
    switch (f) {
        ALL(BACKWARD)
    }
}

// out = f(x) v
#define GATED(F)                                                                                   \
    case F:                                                                                        \
        for (long r = 0; r < rows; r++, out += ldo, x += ldx, v += ldx)                            \
            for (long i = 0; i < n; i += 16)                                                       \
                store(out + i, value(F, load(x + i, n - i), a, b) * load(v + i, n - i), n - i);    \
        break;

CLONES void vec_gated(int f, float a, float b, long rows, long n, float* out, long ldo,
                      const float* x, const float* v, long ldx)
{
    switch (f) {
        ALL(GATED)
    }
}

// dx = dy v f'(x), dv = dy f(x)
#define GATED_BACK(F)                                                                              \
    case F:                                                                                        \
        for (long r = 0; r < rows; r++, dx += ldx, dv += ldx, x += ldx, v += ldx, dy += ldy)       \
            for (long i = 0; i < n; i += 16) {                                                     \
                const f16 g = load(dy + i, n - i), u = load(x + i, n - i), w = load(v + i, n - i); \
                store(dx + i, g * w * slope(F, u, a, b), n - i);                                   \
                store(dv + i, value(F, u, a, b) * g, n - i);                                       \
            }                                                                                      \
        break;

CLONES void vec_gated_back(int f, float a, float b, long rows, long n, float* dx, float* dv,
                           const float* x, const float* v, long ldx, const float* dy, long ldy)
{
    switch (f) {
        ALL(GATED_BACK)
    }
}
