// Normalisation of groups of channels, with weights and with scales and shifts of each sample, and its
// gradient.
#include "norm.h"

inline namespace thisfile {

// Which channel of a group an element is in, and where that channel's values are.
struct Channels {
    unsigned area;
    int first;        // channel of the group
    long long sample; // channel 0 of the sample's modulation
    __device__ __forceinline__ int of(int e) const
    {
        return first + static_cast<int>(static_cast<unsigned>(e) / area);
    }
};

template <class T>
__device__ __forceinline__ void groupNorm(T* y, T* mean, T* inv, const T* x, const T* weight,
                                          const T* bias, const T* scale, const T* shift, double eps,
                                          int groups, int per, int area)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(ROW_THREADS);
    const int n = per * area;
    y += t.row * n;
    x += t.row * n;
    const Channels ch = {static_cast<unsigned>(area), static_cast<int>(t.row % groups) * per,
                         t.row / groups * groups * per};
    const bool wide = multiple16<T>(area) && aligned16(y) && aligned16(x);
    T m, var;
    moments(x, n, t, wide, false, of, m, var);
    const T k = T(1) / root(var + static_cast<T>(eps));
    if (t.rank == 0) {
        mean[t.row] = m;
        inv[t.row] = k;
    }
    eachOf<T>(n, t, wide, [&](auto w, int e) { // one channel's
        auto v = take<w.n>(x + e);
        const int c = ch.of(e);
        const T f = 1 + orElse(scale, ch.sample + c, T(0));
        const T by = orElse(weight, c, T(1)) * f;
        const T off = orElse(bias, c, T(0)) * f + orElse(shift, ch.sample + c, T(0));
#pragma unroll
        for (int i = 0; i < w.n; i++)
            v.v[i] = fma((v.v[i] - m) * k, by, off);
        give<w.n>(y + e, v);
    });
}

// A channel of a small area is one warp's, else the block's.
template <class T>
__device__ __forceinline__ void
groupNormBack(T* dx, T* sums, const T* x, const T* dy, const T* mean, const T* inv, const T* weight,
              const T* scale, int groups, int per, int area, int threads, int add)
{
    __shared__ T of[ROW_WARPS];
    const Team all = rowTeam(ROW_THREADS);
    const int n = per * area, channels = groups * per;
    dx += all.row * n;
    x += all.row * n;
    dy += all.row * n;
    const long long sample = all.row / groups;
    const Channels ch = {static_cast<unsigned>(area), static_cast<int>(all.row % groups) * per,
                         sample * channels};
    sums += 2 * sample * channels;
    const T m = mean[all.row], k = inv[all.row];
    const bool wide = multiple16<T>(area) && aligned16(dx) && aligned16(x) && aligned16(dy);
    Team t = all;
    if (threads == 32) t = {0, static_cast<int>(threadIdx.x & 31), 32};
    const int step = threads == 32 ? ROW_WARPS : 1;
#pragma unroll 1
    for (int c = threads == 32 ? static_cast<int>(threadIdx.x >> 5) : 0; c < per; c += step) {
        const T *xs = x + c * static_cast<long long>(area),
                *gs = dy + c * static_cast<long long>(area);
        T sum = 0, along = 0;
        eachOf<T>(area, t, wide, [&](auto w, int e) {
            const auto v = take<w.n>(xs + e), g = take<w.n>(gs + e);
#pragma unroll
            for (int i = 0; i < w.n; i++) {
                sum += g.v[i];
                along = fma(g.v[i], (v.v[i] - m) * k, along);
            }
        });
        sum = teamSum(sum, t, of);
        along = teamSum(along, t, of);
        if (t.rank == 0) {
            sums[ch.first + c] = sum;
            sums[channels + ch.first + c] = along;
        }
    }
    __syncthreads();
    T c1 = 0, c2 = 0;
    for (int c = ch.first + all.rank; c < ch.first + per; c += ROW_THREADS) {
        const T by = orElse(weight, c, T(1)) * (1 + orElse(scale, ch.sample + c, T(0)));
        c1 = fma(by, sums[c], c1);
        c2 = fma(by, sums[channels + c], c2);
    }
    c1 = teamSum(c1, all, of) / static_cast<T>(n);
    c2 = teamSum(c2, all, of) / static_cast<T>(n);
    eachOf<T>(n, all, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
        auto g = take<w.n>(dy + e);
        const int c = ch.of(e);
        const T by = orElse(weight, c, T(1)) * (1 + orElse(scale, ch.sample + c, T(0)));
#pragma unroll
        for (int i = 0; i < w.n; i++)
            g.v[i] = k * (by * g.v[i] - c1 - (v.v[i] - m) * k * c2);
        if (add) {
            const auto old = take<w.n>(dx + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                g.v[i] += old.v[i];
        }
        give<w.n>(dx + e, g);
    });
}

} // namespace thisfile

// group_norm - normalisation of groups of channels.
//
//     u = (x - mean) / sqrt(var + eps) weight + bias,   y = u (1 + scale) + shift
//
// kernels  group_norm_f32 group_norm_f64
// shapes   y, x: [N, groups, per, area], per area below 2^31; y may be x. mean, inv: [N, groups]. weight,
//          bias: [groups per] or null. scale, shift: [N, groups per] or null.
// launch   grid N * groups, block 256, shared 0.
// bound    memory: 2 values an element; a group is read two times more, from the cache where it fits.
//          Goal: 50 % of peak bandwidth from 2^22 values and 264 groups on.
// expect   group_norm_f32: regs <= 64, shared <= 32, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   group_norm_f64: regs <= 64, shared <= 64, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.GroupNorm
// source   Wu and He 2018, arXiv 1803.08494. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_f32(float* y, float* mean, float* inv, const float* x, const float* weight,
                   const float* bias, const float* scale, const float* shift, double eps,
                   int groups, int per, int area)
{
    groupNorm(y, mean, inv, x, weight, bias, scale, shift, eps, groups, per, area);
}
EXPORT(group_norm_f32)

extern "C" __global__ void __launch_bounds__(256)
    group_norm_f64(double* y, double* mean, double* inv, const double* x, const double* weight,
                   const double* bias, const double* scale, const double* shift, double eps,
                   int groups, int per, int area)
{
    groupNorm(y, mean, inv, x, weight, bias, scale, shift, eps, groups, per, area);
}
EXPORT(group_norm_f64)

// group_norm_back - the gradient of group_norm by its operand, and the sums for those of its parameters.
//
//     g = dy (1 + scale) weight,   h = (x - mean) inv,   dx = inv (g - avg g - h avg (g h))
//     sums = sum dy and sum dy h of each channel
//
// kernels  group_norm_back_f32 group_norm_back_f64
// shapes   as of group_norm. sums: [N, 2, groups per]. dx may be dy. With add the gradient is added.
// params   threads: 32, a warp a channel, or 256, a block a channel.
// launch   grid N * groups, block 256, shared 0.
// bound    memory: 3 values an element, 4 with add; x and dy are read once more from the cache where a
//          group fits. Goal: 50 % of peak bandwidth from 2^22 values and 264 groups on.
// expect   group_norm_back_f32: regs <= 64, shared <= 32, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   group_norm_back_f64: regs <= 80, shared <= 64, occupancy >= 37, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.GroupNormBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_back_f32(float* dx, float* sums, const float* x, const float* dy, const float* mean,
                        const float* inv, const float* weight, const float* scale, int groups,
                        int per, int area, int threads, int add)
{
    groupNormBack(dx, sums, x, dy, mean, inv, weight, scale, groups, per, area, threads, add);
}
EXPORT(group_norm_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    group_norm_back_f64(double* dx, double* sums, const double* x, const double* dy,
                        const double* mean, const double* inv, const double* weight,
                        const double* scale, int groups, int per, int area, int threads, int add)
{
    groupNormBack(dx, sums, x, dy, mean, inv, weight, scale, groups, per, area, threads, add);
}
EXPORT(group_norm_back_f64)
