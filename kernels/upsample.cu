// Pictures enlarged by repeating their pixels, and the gradient.
#include "rows.h"

inline namespace thisfile {

template <int N, class T>
__device__ __forceinline__ void upsample(T* out, const T* x, long long n, int width, int channels,
                                         int k)
{
    long long at = (static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x) * N;
    if (at >= n) return;
    out += at;
    const int c = digitOf(at, channels), column = digitOf(at, width * k);
    digitOf(at, k); // the row of x
    give<N>(out, take<N>(x + (at * width + column / k) * channels + c));
}

template <int N, class T>
__device__ __forceinline__ void upsampleBack(T* dx, const T* dy, long long n, int width,
                                             int channels, int k, int add)
{
    long long at = (static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x) * N;
    if (at >= n) return;
    dx += at;
    const int c = digitOf(at, channels), column = digitOf(at, width);
    const long long row = static_cast<long long>(width) * k * channels;
    dy += at * k * row + static_cast<long long>(column) * k * channels + c;
    Pack<T, N> sum;
    if (add) {
        sum = take<N>(dx);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            sum.v[i] = 0;
    }
    for (int r = 0; r < k; r++)
        for (int q = 0; q < k; q++) {
            const auto v = take<N>(dy + r * row + q * channels);
#pragma unroll
            for (int i = 0; i < N; i++)
                sum.v[i] += v.v[i];
        }
    give<N>(dx, sum);
}

} // namespace thisfile

// upsample - pictures with every pixel repeated k times in both directions.
//
// kernels  upsample_f32 upsample_f64
// shapes   x: [rows, width, channels], out: [rows k, width k, channels], n values; channels is 1 where
//          that axis lies before the rows.
// params   whole: a thread has 16 bytes, of which channels are a multiple; out and x are aligned to that.
// launch   grid ceil(n / 256), of 16 bytes with whole, block 256, shared 0.
// bound    memory: 1 + 1 / k^2 values an element. Goal: 70 % of peak bandwidth from 2^22 values on
//          with whole.
// expect   regs <= 32, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Upsample
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    upsample_f32(float* out, const float* x, long long n, int width, int channels, int k, int whole)
{
    if (whole)
        upsample<4>(out, x, n, width, channels, k);
    else
        upsample<1>(out, x, n, width, channels, k);
}
EXPORT(upsample_f32)

extern "C" __global__ void __launch_bounds__(256)
    upsample_f64(double* out, const double* x, long long n, int width, int channels, int k,
                 int whole)
{
    if (whole)
        upsample<2>(out, x, n, width, channels, k);
    else
        upsample<1>(out, x, n, width, channels, k);
}
EXPORT(upsample_f64)

// upsample_back - the gradient of upsample: sums of squares of k x k pixels, row by row.
//
// kernels  upsample_back_f32 upsample_back_f64
// shapes   dx as x, n values, dy as out, of upsample. With add the gradient is added, to dx first.
// params   whole as of upsample.
// launch   grid ceil(n / 256), of 16 bytes with whole, block 256, shared 0.
// bound    memory: 1 + k^2 values an element. Goal: 70 % of peak bandwidth from 2^22 values on with whole.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.UpsampleBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    upsample_back_f32(float* dx, const float* dy, long long n, int width, int channels, int k,
                      int whole, int add)
{
    if (whole)
        upsampleBack<4>(dx, dy, n, width, channels, k, add);
    else
        upsampleBack<1>(dx, dy, n, width, channels, k, add);
}
EXPORT(upsample_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    upsample_back_f64(double* dx, const double* dy, long long n, int width, int channels, int k,
                      int whole, int add)
{
    if (whole)
        upsampleBack<2>(dx, dy, n, width, channels, k, add);
    else
        upsampleBack<1>(dx, dy, n, width, channels, k, add);
}
EXPORT(upsample_back_f64)
