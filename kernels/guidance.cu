// Classifier-free guidance with rescaled spread: the coefficients of each sample are made on the
// device, and lincomb_rows combines with them.
#include "vec16.h"

inline namespace thisfile {

constexpr int THREADS = 256, WARPS = THREADS / 32, PER = 8;

__device__ __forceinline__ double warpSumDouble(double v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}

// The sums of c, c^2, g, g^2 with g = w c + (1 - w) u.
struct Sums {
    double c, cc, g, gg;
};

__device__ __forceinline__ void add(Sums& s, double w, double c, double u)
{
    const double g = __dadd_rn(__dmul_rn(w, c), __dmul_rn(1.0 - w, u));
    s.c += c;
    s.cc = fma(c, c, s.cc);
    s.g += g;
    s.gg = fma(g, g, s.gg);
}

template <class T>
__device__ __forceinline__ void moments(double* part, const T* c, const T* u, const double* w,
                                        double w0, long long size, int parts)
{
    constexpr int V = Vec16<T>::n;
    __shared__ double of[WARPS][4];
    const unsigned b = blockIdx.x / static_cast<unsigned>(parts);
    const unsigned p = blockIdx.x - b * static_cast<unsigned>(parts);
    const long long row = static_cast<long long>(b) * size;
    const long long first = static_cast<long long>(p) * THREADS * V * PER;
    const long long end = first + static_cast<long long>(THREADS) * V * PER;
    const double weight = w != nullptr ? w[b] : w0;
    c += row;
    u += row;
    Sums s = {0, 0, 0, 0};
    if (aligned16(c) && aligned16(u) && end <= size) {
#pragma unroll 2
        for (int j = 0; j < PER; j++) {
            const long long at = first + (static_cast<long long>(j) * THREADS + threadIdx.x) * V;
            const typename Vec16<T>::Raw a = load16(c + at), d = load16(u + at);
#pragma unroll
            for (int i = 0; i < V; i++)
                add(s, weight, lane<T>(a, i), lane<T>(d, i));
        }
    } else {
#pragma unroll 1
        for (long long e = first + threadIdx.x; e < end && e < size; e += THREADS)
            add(s, weight, widen(c[e]), widen(u[e]));
    }
    const double v[4] = {warpSumDouble(s.c), warpSumDouble(s.cc), warpSumDouble(s.g),
                         warpSumDouble(s.gg)};
    const int warp = threadIdx.x / 32, l = threadIdx.x % 32;
    if (l == 0) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            of[warp][i] = v[i];
    }
    __syncthreads();
    if (threadIdx.x < 4) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++)
            sum += of[i][threadIdx.x];
        part[4 * static_cast<long long>(blockIdx.x) + threadIdx.x] = sum;
    }
}

} // namespace thisfile

// guide_moments - sums for the spread of the conditional and of the guided prediction.
//
//     part[b, p] = sums of c, c^2, g, g^2 over part p of row b,   g = w_b c + (1 - w_b) u
//
// kernels  guide_moments_f32 guide_moments_f64 guide_moments_f16 guide_moments_bf16
// shapes   part: 4 doubles a row and part. c, u: rows of size values. w: one double a row, or null:
//          then w0 holds for all.
// params   parts = ceil(size / (2048 V)), V = 16 bytes of values.
// launch   grid rows * parts, block 256, shared 0.
// bound    memory: 2 values an element, 8 double operations. Goal: 70 % of peak bandwidth from 2^22
//          values on.
// expect   regs <= 64, shared <= 1024, occupancy >= 50, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.Guide; sums of doubles, which agree to 2^-50 of the sum of absolute values.
// source   Lin et al. 2023, arXiv 2305.08891, section 3.4. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    guide_moments_f32(double* part, const float* c, const float* u, const double* w, double w0,
                      long long size, int parts)
{
    moments(part, c, u, w, w0, size, parts);
}
EXPORT(guide_moments_f32)

extern "C" __global__ void __launch_bounds__(256)
    guide_moments_f64(double* part, const double* c, const double* u, const double* w, double w0,
                      long long size, int parts)
{
    moments(part, c, u, w, w0, size, parts);
}
EXPORT(guide_moments_f64)

extern "C" __global__ void __launch_bounds__(256)
    guide_moments_f16(double* part, const half* c, const half* u, const double* w, double w0,
                      long long size, int parts)
{
    moments(part, c, u, w, w0, size, parts);
}
EXPORT(guide_moments_f16)

extern "C" __global__ void __launch_bounds__(256)
    guide_moments_bf16(double* part, const bf16* c, const bf16* u, const double* w, double w0,
                       long long size, int parts)
{
    moments(part, c, u, w, w0, size, parts);
}
EXPORT(guide_moments_bf16)

// guide_scale - the coefficients of each sample from its sums.
//
//     coef[b] = (f w_b, f (1 - w_b)),   f = rescale std(c) / std(g) + 1 - rescale
//
// kernels  guide_scale
// shapes   coef: 2 doubles a row. part: 4 doubles a row and part, as guide_moments writes them. w:
//          one double a row, or null: then w0 holds for all.
// params   0 <= rescale <= 1. size > 0 values of a row. Where g does not vary, f = 1.
// launch   grid ceil(rows / 8), block 256, shared 0: a warp a row.
// bound    latency: 32 bytes a part.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Guide
// source   Lin et al. 2023, arXiv 2305.08891, eq. 14-16. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    guide_scale(double* coef, const double* part, const double* w, double w0, double rescale,
                long long size, int parts, int rows)
{
    const int b = blockIdx.x * WARPS + threadIdx.x / 32, l = threadIdx.x % 32;
    if (b >= rows) return; // the whole warp
    double s[4] = {0, 0, 0, 0};
#pragma unroll 1
    for (int p = l; p < parts; p += 32)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[i] += part[4 * (static_cast<long long>(b) * parts + p) + i];
#pragma unroll
    for (int i = 0; i < 4; i++)
        s[i] = warpSumDouble(s[i]);
    if (l != 0) return;
    const double n = static_cast<double>(size), weight = w != nullptr ? w[b] : w0;
    const double vc = s[1] - s[0] * s[0] / n, vg = s[3] - s[2] * s[2] / n;
    const double ratio = vg > 0 ? sqrt((vc > 0 ? vc : 0) / vg) : 1;
    const double f = rescale * ratio + 1 - rescale;
    coef[2 * static_cast<long long>(b)] = f * weight;
    coef[2 * static_cast<long long>(b) + 1] = f * (1 - weight);
}
EXPORT(guide_scale)
