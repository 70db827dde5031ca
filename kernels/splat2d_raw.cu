// splat2d_activate - raw variables made into what is drawn.
//
//     a mean from half images, by tanh or 2 sigmoid - 1, to the grid's unit; cholesky (l11 + 1/2, l21, l22 + 1/2); rs (|sx +
//     1/2|, |sy + 1/2|, 2 pi sigmoid); sigmarho (sigmoid, sigmoid, 2 sigmoid - 1)
//
// kernels  splat2d_activate_f32
// shapes   outMean, mean: [n, 2]; outCov, cov: [n, 3]; float32. What is not finite stays so.
// params   form 0 cholesky, 1 rs, 2 sigmarho; rawMean 0 as it is, 1 tanh, 2 sigmoid; rawCov 0 as it is, 1; corners; width,
//          height of the image in pixels.
// launch   grid ceil(5 n / 128), block 128, shared 0. A thread a number.
// bound    memory: 40 n bytes; about 150 double flops a Gaussian.
// expect   regs <= 80, shared <= 0, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.SplatForward, by ops/splatraw.go; the values within 1 eps.
// source   Zhang et al. 2024, GaussianImage, arXiv 2403.08551, and Zhang et al. 2025, GPSToken, arXiv 2509.01109.
#include "splat2d_covariance.h"

inline namespace thisfile {

__device__ __forceinline__ double sigmoid(double x) { return 1 / (1 + exp(-x)); }
__device__ __forceinline__ double sigmoidSlope(double x)
{
    const double e = exp(-fabs(x));
    return e / ((1 + e) * (1 + e));
}

// tanh x = 2 sigmoid(2 x) - 1. Half an image is 1 on the corners grid, else n / 2 pixels.
__device__ __forceinline__ float activateMean(float x, int raw, int n, int corners)
{
    if (raw == 0 || !splat::finite(x)) return x;
    const double s = sigmoid(raw == 1 ? 2.0 * x : (double)x);
    return (float)(corners ? 2 * s - 1 : n * s);
}
__device__ __forceinline__ float meanSlope(float x, int raw, int n, int corners)
{
    if (raw == 0) return 1;
    const double k = raw == 1 ? 2 : 1, half = corners ? 1.0 : 0.5 * n;
    return (float)(2 * half * k * sigmoidSlope(k * x));
}

constexpr float least = 1e-30f,
                most =
                    1 -
                    0x1p-23f; // a sigma and a |rho| that are not refused, but held by their limits
constexpr double turn = 6.28318530717958647693;

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(128)
    splat2d_activate_f32(float* __restrict__ outMean, float* __restrict__ outCov,
                         const float* __restrict__ mean, const float* __restrict__ cov, int form,
                         int rawMean, int rawCov, int corners, int width, int height, int n)
{
    const long long i = (long long)blockIdx.x * 128 + threadIdx.x, m = i - 2ll * n;
    if (m < 0) outMean[i] = activateMean(mean[i], rawMean, i & 1 ? height : width, corners);
    if (m < 0 || m >= 3ll * n) return;
    const int k = (int)(m % 3);
    float v = cov[m];
    if (rawCov && splat::finite(v)) {
        if (form == splat::cholesky) {
            if (k != 1) v += 0.5f;
        } else if (form == splat::rs && k < 2) {
            v = fmaxf(fabsf(v + 0.5f), least);
        } else {
            const double s = sigmoid(v);
            if (form == splat::rs)
                v = (float)(turn * s);
            else if (k < 2)
                v = fmaxf((float)s, least);
            else
                v = fminf(fmaxf((float)(2 * s - 1), -most), most);
        }
    }
    outCov[m] = v;
}
EXPORT(splat2d_activate_f32)

// splat2d_slope - gradients of what is drawn made into those of the raw variables.
//
//     each times the derivative of its activation: sigmoid' = y (1 - y), tanh' = 1 - y^2, |x|' = sign x
//
// kernels  splat2d_slope_f32
// shapes   dMean: [n, 2] and dCov: [n, 3] are changed in place; mean: [n, 2] and cov: [n, 3] raw.
// params   as splat2d_activate's.
// launch   grid ceil(5 n / 128), block 128, shared 0. A thread a number.
// bound    memory: 60 n bytes; about 200 double flops a Gaussian.
// expect   regs <= 80, shared <= 0, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   As splat2d_activate's.
extern "C" __global__ void __launch_bounds__(128)
    splat2d_slope_f32(float* __restrict__ dMean, float* __restrict__ dCov,
                      const float* __restrict__ mean, const float* __restrict__ cov, int form,
                      int rawMean, int rawCov, int corners, int width, int height, int n)
{
    const long long i = (long long)blockIdx.x * 128 + threadIdx.x, m = i - 2ll * n;
    if (m >= 3ll * n) return;
    float* out = m < 0 ? dMean + i : dCov + m;
    const float g = *out; // 0 of what is left out of the image, which may hold anything
    if (g == 0) return;
    if (m < 0) {
        *out = g * meanSlope(mean[i], rawMean, i & 1 ? height : width, corners);
        return;
    }
    if (!rawCov || form == splat::cholesky) return;
    const int k = (int)(m % 3);
    if (form == splat::rs && k < 2)
        *out = cov[m] + 0.5f < 0 ? -g : g;
    else
        *out = (float)(g * sigmoidSlope(cov[m]) * (form == splat::rs ? turn : k == 2 ? 2.0 : 1.0));
}
EXPORT(splat2d_slope_f32)
