// Normalisation of groups of channels that are the last axis, with weights, scales and shifts of each
// sample and SiLU after it, and its gradient.
#include "norm.h"

inline namespace thisfile {

// A group of one sample: `per` channels of each of `area` places, `step` apart.
struct Group {
    long long sample, origin; // channel 0 of the sample's modulation, the group's first element
    int first, per, area, step;
    __device__ __forceinline__ Group(int groups, int channels, int places)
        : per(channels), area(places), step(groups * channels)
    {
        const int g = static_cast<int>(blockIdx.x % groups);
        const long long i = blockIdx.x / groups;
        first = g * per;
        sample = i * step;
        origin = sample * area + first;
    }
    // Element e of the group, channels fastest: its channel, and where it is.
    __device__ __forceinline__ long long at(int e, int& channel) const
    {
        const int place = static_cast<int>(static_cast<unsigned>(e) / static_cast<unsigned>(per));
        channel = first + e - place * per;
        return origin + static_cast<long long>(place) * step + (e - place * per);
    }
};

// What a channel's values are multiplied by after the normalisation, and what is added.
template <class T> struct Line {
    T by, off;
};
template <class T>
__device__ __forceinline__ Line<T> lineOf(const T* weight, const T* bias, const T* scale,
                                          const T* shift, long long sample, int c)
{
    const T f = 1 + orElse(scale, sample + c, T(0));
    return {orElse(weight, c, T(1)) * f,
            orElse(bias, c, T(0)) * f + orElse(shift, sample + c, T(0))};
}

template <class T> __device__ __forceinline__ T sigmoidOf(T z)
{
    return T(1) / (T(1) + exponential(-z));
}

template <class T>
__device__ __forceinline__ void groupNormLast(T* y, T* mean, T* inv, const T* x, const T* weight,
                                              const T* bias, const T* scale, const T* shift,
                                              double eps, int groups, int per, int area, int silu)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(ROW_THREADS);
    const Group g(groups, per, area);
    const int n = per * area;
    const bool wide = multiple16<T>(per) && aligned16(y) && aligned16(x);
    int c;
    T s = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + g.at(e, c));
#pragma unroll
        for (int i = 0; i < w.n; i++)
            s += v.v[i];
    });
    const T m = teamSum(s, t, of) / static_cast<T>(n);
    s = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + g.at(e, c));
#pragma unroll
        for (int i = 0; i < w.n; i++)
            s = fma(v.v[i] - m, v.v[i] - m, s);
    });
    const T k = T(1) / root(teamSum(s, t, of) / static_cast<T>(n) + static_cast<T>(eps));
    if (t.rank == 0) {
        mean[blockIdx.x] = m;
        inv[blockIdx.x] = k;
    }
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const long long at = g.at(e, c);
        auto v = take<w.n>(x + at);
#pragma unroll
        for (int i = 0; i < w.n; i++) {
            const Line<T> line = lineOf(weight, bias, scale, shift, g.sample, c + i);
            const T z = fma((v.v[i] - m) * k, line.by, line.off);
            v.v[i] = silu ? z * sigmoidOf(z) : z;
        }
        give<w.n>(y + at, v);
    });
}

// Lanes, a power of two of them, have the group's channels, and the block's other threads other
// places. Their sums are added up in the order of the threads.
template <class T>
__device__ __forceinline__ void
groupNormLastBack(T* dx, T* sums, const T* x, const T* dy, const T* mean, const T* inv,
                  const T* weight, const T* bias, const T* scale, const T* shift, int groups,
                  int per, int area, int lanes, int silu, int add)
{
    __shared__ T of[2][ROW_THREADS];
    __shared__ T total[ROW_WARPS];
    const Team t = rowTeam(ROW_THREADS);
    const Group g(groups, per, area);
    const T m = mean[blockIdx.x], k = inv[blockIdx.x];
    // The gradient by what the normalisation and its line gave, from that by the result.
    auto inside = [&](T h, T d, const Line<T>& line) {
        if (!silu) return d;
        const T z = fma(h, line.by, line.off), s = sigmoidOf(z);
        return d * s * (1 + z * (1 - s));
    };
    sums += 2 * g.sample;
    const int lane = t.rank & (lanes - 1), first = t.rank / lanes, rows = ROW_THREADS / lanes;
    T c1 = 0, c2 = 0;
#pragma unroll 1
    for (int c0 = 0; c0 < per; c0 += lanes) {
        const int c = c0 + lane;
        T sum = 0, along = 0;
        Line<T> line = {T(0), T(0)};
        if (c < per) {
            line = lineOf(weight, bias, scale, shift, g.sample, g.first + c);
#pragma unroll 1
            for (int a = first; a < area; a += rows) {
                const long long at = g.origin + static_cast<long long>(a) * g.step + c;
                const T h = (x[at] - m) * k, d = inside(h, dy[at], line);
                sum += d;
                along = fma(d, h, along);
            }
        }
        __syncthreads(); // the sums of the channels before were read
        of[0][t.rank] = sum;
        of[1][t.rank] = along;
        __syncthreads();
        if (first == 0 && c < per) {
            for (int r = 1; r < rows; r++) {
                sum += of[0][r * lanes + lane];
                along += of[1][r * lanes + lane];
            }
            sums[g.first + c] = sum;
            sums[g.step + g.first + c] = along;
            c1 = fma(line.by, sum, c1);
            c2 = fma(line.by, along, c2);
        }
    }
    const T n = static_cast<T>(per) * static_cast<T>(area);
    c1 = teamSum(c1, t, total) / n;
    c2 = teamSum(c2, t, total) / n;
    const bool wide = multiple16<T>(per) && aligned16(dx) && aligned16(x) && aligned16(dy);
    eachOf<T>(per * area, t, wide, [&](auto w, int e) {
        int c;
        const long long at = g.at(e, c);
        const auto v = take<w.n>(x + at);
        auto d = take<w.n>(dy + at);
#pragma unroll
        for (int i = 0; i < w.n; i++) {
            const Line<T> line = lineOf(weight, bias, scale, shift, g.sample, c + i);
            const T h = (v.v[i] - m) * k;
            d.v[i] = k * (line.by * inside(h, d.v[i], line) - c1 - h * c2);
        }
        if (add) {
            const auto old = take<w.n>(dx + at);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                d.v[i] += old.v[i];
        }
        give<w.n>(dx + at, d);
    });
}

} // namespace thisfile

// group_norm_last - group_norm of channels that are the last axis, with SiLU after it.
//
//     z = ((x - mean) inv weight + bias) (1 + scale) + shift,   y = z, or z / (1 + e^-z)
//
// kernels  group_norm_last_f32 group_norm_last_f64
// shapes   x, y: [N, area, groups per]. mean, inv: [N, groups]. weight, bias: [groups per], scale, shift:
//          [N, groups per], or null. per area below 2^31. y may be x. silu: 0 leaves SiLU out.
// launch   grid N * groups, block 256, shared 0.
// bound    memory: 2 values an element; x is read twice more from the cache where a group fits. Goal: 35 %
//          of peak bandwidth from 2^22 values and 264 groups on, with 8 channels a group and more.
// expect   group_norm_last_f32: regs <= 64, shared <= 32, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   group_norm_last_f64: regs <= 80, shared <= 64, occupancy >= 37, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.GroupNormLast
// source   Wu and He 2018, arXiv 1803.08494.
// note     A group's channels lie side by side at every place: of fewer than 8 a sector is shared by
//          blocks, and comes from L2 for all but one.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_last_f32(float* y, float* mean, float* inv, const float* x, const float* weight,
                        const float* bias, const float* scale, const float* shift, double eps,
                        int groups, int per, int area, int silu)
{
    groupNormLast(y, mean, inv, x, weight, bias, scale, shift, eps, groups, per, area, silu);
}
EXPORT(group_norm_last_f32)

extern "C" __global__ void __launch_bounds__(256)
    group_norm_last_f64(double* y, double* mean, double* inv, const double* x, const double* weight,
                        const double* bias, const double* scale, const double* shift, double eps,
                        int groups, int per, int area, int silu)
{
    groupNormLast(y, mean, inv, x, weight, bias, scale, shift, eps, groups, per, area, silu);
}
EXPORT(group_norm_last_f64)

// group_norm_last_back - the gradient of group_norm_last by its operand, and the sums for those of its
// parameters.
//
//     d = dy s (1 + z (1 - s)) with s = 1 / (1 + e^-z), or dy;   g = d (1 + scale) weight,   h = (x - mean) inv
//     dx = inv (g - avg g - h avg (g h)),   sums = sum d and sum d h of each channel
//
// kernels  group_norm_last_back_f32 group_norm_last_back_f64
// shapes   as of group_norm_last. sums: [N, 2, groups per]. dx may be dy. With add the gradient is added.
// params   lanes: how many threads have channels of their own, the least power of two that is not below
//          per, at most 256.
// launch   grid N * groups, block 256, shared 0.
// bound    memory: 3 values an element, 4 with add; x and dy are read once more from the cache where a
//          group fits. Goal: 30 % of peak bandwidth from 2^22 values and 264 groups on, with 8 channels
//          a group and more.
// expect   group_norm_last_back_f32: regs <= 64, shared <= 2080, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   group_norm_last_back_f64: regs <= 128, shared <= 4160, occupancy >= 25, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.GroupNormLastBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    group_norm_last_back_f32(float* dx, float* sums, const float* x, const float* dy,
                             const float* mean, const float* inv, const float* weight,
                             const float* bias, const float* scale, const float* shift, int groups,
                             int per, int area, int lanes, int silu, int add)
{
    groupNormLastBack(dx, sums, x, dy, mean, inv, weight, bias, scale, shift, groups, per, area,
                      lanes, silu, add);
}
EXPORT(group_norm_last_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    group_norm_last_back_f64(double* dx, double* sums, const double* x, const double* dy,
                             const double* mean, const double* inv, const double* weight,
                             const double* bias, const double* scale, const double* shift,
                             int groups, int per, int area, int lanes, int silu, int add)
{
    groupNormLastBack(dx, sums, x, dy, mean, inv, weight, bias, scale, shift, groups, per, area,
                      lanes, silu, add);
}
EXPORT(group_norm_last_back_f64)
