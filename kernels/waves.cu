// Sinusoidal embeddings of numbers, and their gradient.
#include "functions.h"

inline namespace thisfile {

constexpr int THREADS = 256;

template <class T>
__device__ __forceinline__ void waves(T* out, const T* t, double scale, double rate, int width,
                                      int cosFirst, long long n)
{
    const long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    const int half = width / 2;
    const unsigned number = static_cast<unsigned>(i) / static_cast<unsigned>(half);
    const int j = static_cast<int>(static_cast<unsigned>(i) - number * half);
    if (i >= n * half) return;
    const double angle = static_cast<double>(t[number]) * (scale * exp(rate * j));
    T* row = out + static_cast<long long>(number) * width;
    row[cosFirst ? half + j : j] = static_cast<T>(sineOf(angle, 0));
    row[cosFirst ? j : half + j] = static_cast<T>(sineOf(angle, 1));
}

// A warp has a number.
template <class T>
__device__ __forceinline__ void wavesBackward(T* dt, const T* dy, const T* t, double scale,
                                              double rate, int width, int cosFirst, long long n)
{
    const long long i = static_cast<long long>(blockIdx.x) * (THREADS / 32) + threadIdx.x / 32;
    const int half = width / 2, lane = threadIdx.x % 32;
    double s = 0;
    if (i < n) {
        const double v = t[i];
        const T* row = dy + i * width;
#pragma unroll 1
        for (int j = lane; j < half; j += 32) {
            const double w = scale * exp(rate * j), sine = sineOf(v * w, 0),
                         cosine = sineOf(v * w, 1);
            const double bySine = row[cosFirst ? half + j : j],
                         byCosine = row[cosFirst ? j : half + j];
            s += w * (bySine * cosine - byCosine * sine);
        }
    }
    s = warpSum(s);
    if (i < n && lane == 0) dt[i] += static_cast<T>(s);
}

} // namespace thisfile

// waves - sines and cosines of numbers at many frequencies.
//
//     out[i, j] = sin(t[i] w_j), out[i, width/2 + j] = cos(t[i] w_j),   w_j = scale e^(rate j); with cosFirst the
//     halves change places
//
// kernels  waves_f32 waves_f64
// shapes   out: [n, width]. t: n values. n width < 2^31.
// params   rate: the logarithm of one frequency over the one before it.
// launch   grid ceil(n (width/2) / 256), block 256, shared 0.
// bound    launches: a step has a few thousand of them. Angles are of double, so units of double beyond.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Waves; angles of double on both sides, of which the frequency is within 2 units in the last place.
// source   Vaswani et al. 2017, arXiv 1706.03762.
extern "C" __global__ void __launch_bounds__(256)
    waves_f32(float* out, const float* t, double scale, double rate, int width, int cosFirst,
              long long n)
{
    waves(out, t, scale, rate, width, cosFirst, n);
}
EXPORT(waves_f32)

extern "C" __global__ void __launch_bounds__(256)
    waves_f64(double* out, const double* t, double scale, double rate, int width, int cosFirst,
              long long n)
{
    waves(out, t, scale, rate, width, cosFirst, n);
}
EXPORT(waves_f64)

// waves_backward - the gradient of waves.
//
//     dt[i] += sum over j of w_j (dy_sin[i, j] cos(t[i] w_j) - dy_cos[i, j] sin(t[i] w_j))
//
// kernels  waves_backward_f32 waves_backward_f64
// shapes   dy: [n, width]. dt, t: n values.
// params   as of waves.
// launch   grid ceil(n / 8), block 256, shared 0: a warp a number.
// bound    launches, as of waves.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has SHFL, not LDL STL
// repro    yes: lanes are added in one order, in double.
// twin     ops.WavesBackward.
// source   Vaswani et al. 2017, arXiv 1706.03762.
extern "C" __global__ void __launch_bounds__(256)
    waves_backward_f32(float* dt, const float* dy, const float* t, double scale, double rate,
                       int width, int cosFirst, long long n)
{
    wavesBackward(dt, dy, t, scale, rate, width, cosFirst, n);
}
EXPORT(waves_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    waves_backward_f64(double* dt, const double* dy, const double* t, double scale, double rate,
                       int width, int cosFirst, long long n)
{
    wavesBackward(dt, dy, t, scale, rate, width, cosFirst, n);
}
EXPORT(waves_backward_f64)
