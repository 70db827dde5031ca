// splat2d_prepare - Gaussians made ready to draw: the record of splat2d.h and checks.
//
//     [[a, b], [b, c]] from the form's numbers, k = -b / c, p = c / (2 det), v = 1 / (2 c)
//     extents s sqrt(a), s sqrt(c), where the support is a box or an ellipse of s, or the level s = tau
//
// kernels  splat2d_prepare_f32
// shapes   place, shape: n float4; box: n int4; spoiled: n uint32, not 0 where splat2d_pad found a feature that
//          is not finite; depthKey: n uint32, or null; fault: 1 uint64, all ones before,
//          the first faulty Gaussian << 8 | why; faults: 1 uint32, zero before, how many. mean: [n, 2]; cov:
//          [n, 3]; opacity, depth: n or null; all float32.
// params   form 0 cholesky, 1 rs, 2 sigmarho; support 0 level, 1 box, 2 ellipse, of size; corners 0 or 1; tight: leave out
//          tiles that the ellipse does not reach; lowX, lowY >= 0 are added to a and c.
// launch   grid ceil(n / 128), block 128, shared 0. A thread a Gaussian.
// bound    memory: 84 n bytes; about 150 double flops a Gaussian.
// expect   regs <= 80, shared <= 0, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.SplatForward; the record within 1 eps of its components.
// source   Gaussians as in Zhang et al. 2024, GaussianImage, arXiv 2403.08551, and Zhang et al. 2025, GPSToken,
//          arXiv 2509.01109. Own derivation.
#include "splat2d_covariance.h"

inline namespace thisfile {

constexpr int threads = 128;

// The pixels of an axis no further than extent from mean, as drawing would decide it.
__device__ __forceinline__ void within(float mean, float extent, int n, bool corners, int& lo,
                                       int& hi)
{
    const splat::Axis at(n, corners);
    const double first = corners ? -1.0 : 0.5;
    const double perUnit = corners ? (n - 1) * 0.5 : 1.0; // pixels
    const double from = ((double)mean - extent - first) * perUnit,
                 to = ((double)mean + extent - first) * perUnit;
    int a = (int)fmin(fmax(from, 0.0), (double)n) - 1, b = (int)fmin(fmax(to, 0.0), (double)n) + 2;
    a = max(a, 0);
    b = min(b, n);
    while (a < b && !(fabsf(at(a) - mean) <= extent))
        a++;
    while (b > a && !(fabsf(at(b - 1) - mean) <= extent))
        b--;
    lo = a;
    hi = b;
}

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(128)
    splat2d_prepare_f32(float4* __restrict__ place, float4* __restrict__ shape,
                        int4* __restrict__ box, const unsigned* __restrict__ spoiled,
                        unsigned* __restrict__ depthKey, unsigned long long* fault,
                        unsigned* faults, const float* __restrict__ mean,
                        const float* __restrict__ cov, const float* __restrict__ opacity,
                        const float* __restrict__ depth, int form, int support, float size,
                        int corners, int tight, float lowX, float lowY, int width, int height,
                        int n)
{
    const long long i = (long long)blockIdx.x * threads + threadIdx.x;
    if (i >= n) return;
    const float x = mean[2 * i], y = mean[2 * i + 1], o = opacity ? opacity[i] : 1.f;
    const float v0 = cov[3 * i], v1 = cov[3 * i + 1], v2 = cov[3 * i + 2];
    const double stepX = corners ? 2.0 / (width - 1) : 1.0,
                 stepY = corners ? 2.0 / (height - 1) : 1.0;
    int why = splat::faultNone;
    splat::Covariance s = {1, 0, 1, 1, false, false, false};
    if (!splat::finite(x) || !splat::finite(y))
        why = splat::faultMean;
    else if (!splat::finite(v0) || !splat::finite(v1) || !splat::finite(v2))
        why = splat::faultCov;
    else if (!splat::finite(o))
        why = splat::faultOpacity;
    else
        why = splat::covariance(s, form, v0, v1, v2, stepX, stepY, (double)lowX * stepX * stepX,
                                (double)lowY * stepY * stepY);
    if (why == splat::faultNone && spoiled[i]) why = splat::faultFeature;
    unsigned key = 0;
    if (depth) {
        const float d = depth[i];
        if (why == splat::faultNone && !(d >= 0 && splat::finite(d))) why = splat::faultDepth;
        key = __float_as_uint(d + 0.f); // -0 is 0
    }
    if (depthKey) depthKey[i] = key;
    float qmax = INFINITY;
    double reach = size;
    bool drawn = why == splat::faultNone;
    if (support == 2) qmax = (float)((double)size * size / 2);
    if (support == 0) {
        drawn = drawn && o > size;
        const double q = drawn ? log((double)o / size) : 0.0;
        qmax = (float)q;
        reach = sqrt(2 * q);
    }
    if (support != 1) reach *= 1 + 1e-5;     // q decides; the box only has to hold the ellipse
    const bool ok = why == splat::faultNone; // else no number that could spread
    place[i] = ok ? make_float4(x, y, (float)(-s.b / s.c), (float)(s.c / (2 * s.det)))
                  : make_float4(0, 0, 0, 1);
    shape[i] = ok ? make_float4((float)(1 / (2 * s.c)), o, qmax, tight ? qmax * 1.0001f : INFINITY)
                  : make_float4(1, 0, 0, 0);
    int4 b = make_int4(0, 0, 0, 0);
    if (drawn) {
        within(x, (float)(reach * sqrt(s.a)), width, corners, b.x, b.z);
        within(y, (float)(reach * sqrt(s.c)), height, corners, b.y, b.w);
        if (b.x >= b.z || b.y >= b.w) b = make_int4(0, 0, 0, 0);
    }
    if (why != splat::faultNone) {
        atomicMin(fault, (unsigned long long)i << 8 | (unsigned)why);
        atomicAdd(faults, 1u);
    }
    box[i] = b;
}
EXPORT(splat2d_prepare_f32)

// splat2d_count - how many tiles each Gaussian may draw in, and how wide the Gaussians are.
//
//     tiles[i] = sum over its rows of tiles of the columns that columnsOf of splat2d.h gives, for tiles of 16 pixels; small[i]
//     for tiles of 8
//
// kernels  splat2d_count
// shapes   tiles: n uint32; small: n uint32 or null, then drawn and spread are not written either; drawn: 1 uint32, zero
//          before, the Gaussians with a pixel; spread: 1 uint64, zero before, the sum of their boxes' widths and heights;
//          place, shape, box: n.
// launch   grid ceil(n / 128), block 128, shared 0. A thread a Gaussian.
// bound    memory: 56 n bytes; about 60 flops for each row of tiles of a box.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.SplatForward; no tile with a pixel that is drawn is left out.
// source   The idea of exact intersection: Hanson et al. 2025, Speedy-Splat, arXiv 2412.00578. Own derivation.
inline namespace thisfile {

__device__ __forceinline__ unsigned countTiles(float4 place, float4 shape, int4 box, int side,
                                               splat::Axis across, splat::Axis down)
{
    unsigned sum = 0;
    for (int ty = box.y / side * side; ty < box.w; ty += side) {
        const int2 c = splat::columnsOf(place, shape, box, ty, side, across, down);
        sum += (unsigned)(c.y - c.x);
    }
    return sum;
}

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(128)
    splat2d_count(unsigned* __restrict__ tiles, unsigned* __restrict__ small, unsigned* drawn,
                  unsigned long long* spread, const float4* __restrict__ place,
                  const float4* __restrict__ shape, const int4* __restrict__ box, int corners,
                  int width, int height, int n)
{
    const long long i = (long long)blockIdx.x * threads + threadIdx.x;
    int4 b = make_int4(0, 0, 0, 0);
    if (i < n) {
        b = box[i];
        const bool some = b.x < b.z;
        const splat::Axis across(width, corners), down(height, corners);
        tiles[i] = some ? countTiles(place[i], shape[i], b, 16, across, down) : 0;
        if (small) small[i] = some ? countTiles(place[i], shape[i], b, 8, across, down) : 0;
    }
    if (!small) return;
    const unsigned wide = (unsigned)(b.z - b.x),
                   high = (unsigned)(b.w - b.y); // 32 of them may be beyond 32 bits
    const unsigned count = __popc(__ballot_sync(~0u, wide > 0));
    const unsigned low = __reduce_add_sync(~0u, (wide & 0xffffu) + (high & 0xffffu));
    const unsigned upper = __reduce_add_sync(~0u, (wide >> 16) + (high >> 16));
    if ((threadIdx.x & 31) == 0 && count > 0) {
        atomicAdd(drawn, count);
        atomicAdd(spread, ((unsigned long long)upper << 16) + low);
    }
}
EXPORT(splat2d_count)

// splat2d_pad - features in float, each Gaussian's padded to a multiple of four.
//
//     padded[g][k] = feature[g][k] where k < c and that is finite, else 0; spoiled[g] = 1 where one is not finite
//
// kernels  splat2d_pad_f32
// shapes   padded: [n, cp] float32, cp = c rounded up to 4; spoiled: n uint32, zero before; feature: [n, c], by stored
//          0 float32, 1 float16, 2 bfloat16.
// launch   grid ceil(n cp / 1024), block 256, shared 0. A thread four features.
// bound    memory: n (4 cp + 4 c) bytes. Goal: 50 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatForward.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_pad_f32(float* __restrict__ padded, unsigned* spoiled, const void* __restrict__ feature,
                    int stored, int c, int cp, int n)
{
    const long long j = (long long)blockIdx.x * 256 + threadIdx.x, quads = cp / 4;
    const long long g = j / quads;
    if (g >= n) return;
    const int k = (int)(j - g * quads) * 4;
    float f[4];
    bool bad = false;
#pragma unroll
    for (int m = 0; m < 4; m++) {
        f[m] = k + m < c ? splat::load(feature, g * c + k + m, stored) : 0.f;
        if (!splat::finite(f[m])) {
            bad = true;
            f[m] = 0;
        }
    }
    if (bad) atomicOr(spoiled + g, 1u);
    *reinterpret_cast<float4*>(padded + 4 * j) = make_float4(f[0], f[1], f[2], f[3]);
}
EXPORT(splat2d_pad_f32)
