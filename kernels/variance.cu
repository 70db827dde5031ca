// Sums for the variance of every sample of a batch.
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

template <class T>
__device__ __forceinline__ void variance(double* part, const T* x, long long size, int parts)
{
    constexpr int V = Vec16<T>::n;
    __shared__ double of[WARPS][2];
    const unsigned b = blockIdx.x / static_cast<unsigned>(parts);
    const unsigned p = blockIdx.x - b * static_cast<unsigned>(parts);
    const long long first = static_cast<long long>(p) * THREADS * V * PER;
    const long long end = first + static_cast<long long>(THREADS) * V * PER;
    x += static_cast<long long>(b) * size;
    const double pivot = widen(x[0]);
    double s = 0, ss = 0;
    if (aligned16(x) && end <= size) {
#pragma unroll 4
        for (int j = 0; j < PER; j++) {
            const typename Vec16<T>::Raw v =
                load16(x + first + (static_cast<long long>(j) * THREADS + threadIdx.x) * V);
#pragma unroll
            for (int i = 0; i < V; i++) {
                const double d = lane<T>(v, i) - pivot;
                s += d;
                ss = fma(d, d, ss);
            }
        }
    } else {
#pragma unroll 1
        for (long long e = first + threadIdx.x; e < end && e < size; e += THREADS) {
            const double d = widen(x[e]) - pivot;
            s += d;
            ss = fma(d, d, ss);
        }
    }
    s = warpSumDouble(s);
    ss = warpSumDouble(ss);
    const int warp = threadIdx.x / 32, l = threadIdx.x % 32;
    if (l == 0) {
        of[warp][0] = s;
        of[warp][1] = ss;
    }
    __syncthreads();
    if (threadIdx.x < 2) {
        double sum = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++)
            sum += of[i][threadIdx.x];
        part[2 * static_cast<long long>(blockIdx.x) + threadIdx.x] = sum;
    }
}

} // namespace thisfile

// row_variance - sums for the variance of every sample.
//
//     part[b, p] = sums of d and d^2 over part p of row b,   d = x - x[b, 0]
//
// kernels  row_variance_f32 row_variance_f64 row_variance_f16 row_variance_bf16
// shapes   part: 2 doubles a row and part. x: rows of size > 0 values.
// params   parts = ceil(size / (2048 V)), V = 16 bytes of values. The host makes (sum d^2 - (sum d)^2 / size)
//          / (size - 1) of a row's parts.
// launch   grid rows * parts, block 256, shared 0.
// bound    memory: 1 value an element, 4 double operations. Goal: 70 % of peak bandwidth from 2^22
//          values on.
// expect   regs <= 64, shared <= 1024, occupancy >= 50, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.RowVariance; sums of doubles, which agree to 2^-50 of the sum of absolute values.
// source   Own derivation.
// note     guide_moments sums x and x^2, whose difference keeps no digits of rows that are far from 0
//          for their spread; and it reads two operands.
extern "C" __global__ void __launch_bounds__(256)
    row_variance_f32(double* part, const float* x, long long size, int parts)
{
    variance(part, x, size, parts);
}
EXPORT(row_variance_f32)

extern "C" __global__ void __launch_bounds__(256)
    row_variance_f64(double* part, const double* x, long long size, int parts)
{
    variance(part, x, size, parts);
}
EXPORT(row_variance_f64)

extern "C" __global__ void __launch_bounds__(256)
    row_variance_f16(double* part, const half* x, long long size, int parts)
{
    variance(part, x, size, parts);
}
EXPORT(row_variance_f16)

extern "C" __global__ void __launch_bounds__(256)
    row_variance_bf16(double* part, const bf16* x, long long size, int parts)
{
    variance(part, x, size, parts);
}
EXPORT(row_variance_bf16)
