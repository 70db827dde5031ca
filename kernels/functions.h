// The functions of one variable that networks use, and their slopes, in float and double.
#pragma once
#include "device.h"

inline namespace thisfile {

// In the order of cpu.Func.
enum Function {
    IDENTITY,
    RELU,
    LEAKY,
    SILU,
    GELU,
    GELU_TANH,
    SIGMOID,
    TANH,
    SOFTPLUS,
    EXP,
    LOG,
    SQUARE,
    ABS,
    CLIP,
    INVERSE,
    SQRT,
    SIGN,
    SIN,
    COS,
    ERF,
};

__device__ __forceinline__ float expOf(float x) { return expf(x); }
__device__ __forceinline__ double expOf(double x) { return exp(x); }
__device__ __forceinline__ float logOf(float x) { return logf(x); }
__device__ __forceinline__ double logOf(double x) { return log(x); }
__device__ __forceinline__ float log1pOf(float x) { return log1pf(x); }
__device__ __forceinline__ double log1pOf(double x) { return log1p(x); }
__device__ __forceinline__ float tanhOf(float x) { return tanhf(x); }
__device__ __forceinline__ double tanhOf(double x) { return tanh(x); }
__device__ __forceinline__ float erfOf(float x) { return erff(x); }
__device__ __forceinline__ double erfOf(double x) { return erf(x); }
__device__ __forceinline__ float erfcOf(float x) { return erfcf(x); }
__device__ __forceinline__ double erfcOf(double x) { return erfc(x); }
__device__ __forceinline__ float sqrtOf(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrtOf(double x) { return sqrt(x); }
__device__ __forceinline__ float absOf(float x) { return fabsf(x); }
__device__ __forceinline__ double absOf(double x) { return fabs(x); }

// The bits of 2/pi after the point.
__constant__ unsigned long long twoOverPi[20] = {
    0xa2f9836e4e441529ull, 0xfc2757d1f534ddc0ull, 0xdb6295993c439041ull, 0xfe5163abdebbc561ull,
    0xb7246e3a424dd2e0ull, 0x06492eea09d1921cull, 0xfe1deb1cb129a73eull, 0xe88235f52ebb4484ull,
    0xe99c7026b45f7e41ull, 0x3991d639835339f4ull, 0x9c845f8bbdf9283bull, 0x1ff897ffde05980full,
    0xef2f118b5a0a6d1full, 0x6d367ecf27cb09b7ull, 0x4f463f669e5fea2dull, 0x7527bac7ebe5f17bull,
    0x3d0739f78a5292eaull, 0x6bfb5fb11f8d5d08ull, 0x56033046fc7b6babull, 0xf0cfbc209af4361dull};

// x - q pi/2 in [-pi/4, pi/4] for |x| >= 2^30, from the bits of 2/pi that matter (Payne and Hanek
// 1983): those of multiples of four quarters are left out, 192 are multiplied, 128 are looked at.
// The library's function does the same through an array in local memory.
__device__ __forceinline__ double quarterOfLarge(double x, int& q)
{
    const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(x));
    const int e = static_cast<int>(bits >> 52 & 2047) - 1075; // x = m 2^e
    const unsigned long long m = (bits & 0xfffffffffffffull) | 1ull << 52;
    // Bit i of 2/pi, from 1 on, has weight 2^(e-i) with m: the first that is not a multiple of 4 is e - 1.
    const int first = e - 2; // bits before it are dropped; negative for small e: zeros in front
    unsigned long long w[3];
#pragma unroll
    for (int k = 0; k < 3; k++) {
        const int at = first + 64 * k, word = at >> 6, shift = at & 63;
        const unsigned long long hi = word >= 0 ? twoOverPi[word] : 0;
        const unsigned long long lo = word >= -1 ? twoOverPi[word + 1] : 0;
        w[k] = shift ? hi << shift | lo >> (64 - shift) : hi;
    }
    // The upper 128 of the lower 192 bits of the product; its unit is 2^-190 quarters.
    const unsigned long long p1 = m * w[1] + __umul64hi(m, w[2]);
    unsigned long long lo = p1, hi = m * w[0] + __umul64hi(m, w[1]) + (p1 < m * w[1]);
    const unsigned long long up = hi + (1ull << 61); // half a quarter
    q = static_cast<int>(up >> 62);
    hi -= static_cast<unsigned long long>(q) << 62;
    const bool below = hi >> 63;
    if (below) { // so that nothing cancels
        lo = ~lo + 1;
        hi = ~hi + (lo == 0);
    }
    const double r = fma(static_cast<double>(hi), 0x1p-62, static_cast<double>(lo) * 0x1p-126) *
                     1.57079632679489661923;
    if (below != (x < 0)) {
        q = x < 0 ? -q : q;
        return -r;
    }
    q = x < 0 ? -q : q;
    return r;
}

// x - q pi/2 in [-pi/4, pi/4] or a hair more.
__device__ __forceinline__ double quarterOf(double x, int& q)
{
    if (!(fabs(x) < 0x1p30)) {
        q = 0;
        return isfinite(x) ? quarterOfLarge(x, q) : x - x;
    }
    const double k = rint(x * 0.63661977236758134308);
    q = static_cast<int>(k);
    double r = fma(-k, 0x1.921fb54442d18p+0, x); // pi/2 in three parts; the first step is exact
    r = fma(-k, 0x1.1a62633145c07p-54, r);
    return fma(-k, -0x1.f1976b7ed8fbcp-110, r);
}

// sin(x + turn pi/2), to a unit in the last place: the polynomials of fdlibm's __kernel_sin and
// __kernel_cos.
__device__ __forceinline__ double sineOf(double x, int turn)
{
    int q;
    const double r = quarterOf(x, q), z = r * r;
    q += turn;
    double s = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
    s = fma(z, s, 2.75573137070700676789e-06);
    s = fma(z, s, -1.98412698298579493134e-04);
    s = fma(z, s, 8.33333333332248946124e-03);
    s = fma(z, s, -1.66666666666666324348e-01);
    s = fma(z * r, s, r);
    double c = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
    c = fma(z, c, -2.75573143513906633035e-07);
    c = fma(z, c, 2.48015872894767294178e-05);
    c = fma(z, c, -1.38888888888741095749e-03);
    c = fma(z, c, 4.16666666666666019037e-02);
    c = fma(z * z, c, fma(z, -0.5, 1.0));
    const double v = q & 1 ? c : s;
    return q & 2 ? -v : v;
}

// The logistic function and its slope from the exponential that does not overflow.
template <class C> __device__ __forceinline__ C sigmoid(C x)
{
    const C e = expOf(-absOf(x));
    return (x < 0 ? e : C(1)) / (1 + e);
}
template <class C> __device__ __forceinline__ C sigmoidSlope(C x)
{
    const C e = expOf(-absOf(x));
    return e / ((1 + e) * (1 + e));
}

// below, at or above, by the sign of x.
template <class C> __device__ __forceinline__ C bySign(C x, C below, C at, C above)
{
    return x < 0 ? below : x > 0 ? above : at;
}

template <class C> __device__ __forceinline__ C geluArgument(C x)
{
    return C(1.59576912160573071176) * (x + C(0.044715) * x * x * x); // 2 sqrt(2 / pi)
}

// f(x).
template <int f, class C> __device__ __forceinline__ C valueOf(C x, C a, C b)
{
    switch (f) {
    case RELU: return x < 0 ? C(0) : x;
    case LEAKY: return x < 0 ? a * x : x;
    case SILU: return x * sigmoid(x);
    case GELU: return x * (C(0.5) * erfcOf(-x * C(0.70710678118654752440)));
    case GELU_TANH: return x * sigmoid(geluArgument(x));
    case SIGMOID: return sigmoid(x);
    case TANH: return tanhOf(x);
    case SOFTPLUS: return (x > 0 ? x : C(0)) + log1pOf(expOf(-absOf(x)));
    case EXP: return expOf(x);
    case LOG: return logOf(x);
    case SQUARE: return x * x;
    case ABS: return absOf(x);
    case CLIP: return x < a ? a : x > b ? b : x;
    case INVERSE: return 1 / x;
    case SQRT: return sqrtOf(x);
    case SIGN: return x > 0 ? C(1) : x < 0 ? C(-1) : x;
    case SIN: return static_cast<C>(sineOf(x, 0));
    case COS: return static_cast<C>(sineOf(x, 1));
    case ERF: return erfOf(x);
    }
    return x;
}

// f'(x).
template <int f, class C> __device__ __forceinline__ C slopeOf(C x, C a, C b)
{
    switch (f) {
    case RELU: return bySign(x, C(0), C(0), C(1));
    case LEAKY: return bySign(x, a, a, C(1));
    case SILU: return sigmoid(x) + x * sigmoidSlope(x);
    case GELU:
        return C(0.5) * erfcOf(-x * C(0.70710678118654752440)) +
               x * C(0.39894228040143267794) * expOf(C(-0.5) * x * x);
    case GELU_TANH: {
        const C u = geluArgument(x);
        return sigmoid(u) +
               x * sigmoidSlope(u) * C(1.59576912160573071176) * (1 + C(0.134145) * x * x);
    }
    case SIGMOID: return sigmoidSlope(x);
    case TANH: return 4 * sigmoidSlope(2 * x);
    case SOFTPLUS: return sigmoid(x);
    case EXP: return expOf(x);
    case LOG: return 1 / x;
    case SQUARE: return 2 * x;
    case ABS: return bySign(x, C(-1), C(0), C(1));
    case CLIP: return x < a || x > b ? C(0) : C(1);
    case INVERSE: return -1 / (x * x);
    case SQRT: return C(0.5) / sqrtOf(x);
    case SIGN: return C(0);
    case SIN: return static_cast<C>(sineOf(x, 1));
    case COS: return -static_cast<C>(sineOf(x, 0));
    case ERF: return C(1.12837916709551257390) * expOf(-x * x);
    }
    return C(1);
}

} // namespace thisfile
