// What the kernels of the Gaussian rasteriser share: the record of a Gaussian, the pixel grid, the
// evaluation, and sums of many values over a warp.
//
// A Gaussian ready to draw (splat2d_prepare) is
//   place[i] = (x, y, k, p)       mean, in the grid's unit
//   shape[i] = (v, o, qmax, r)    q = p (dx + k dy)^2 + v dy^2, value o exp(-q) where q <= qmax; r is a little more
//                                 than qmax, or infinite: tiles beyond q <= r are left out (columnsOf)
//   box[i]   = (x0, y0, x1, y1)   the pixels [x0, x1) x [y0, y1) outside of which it is 0
// q is a sum of squares: it has no cancellation, however thin the Gaussian.
#pragma once

#include "device.h"

namespace splat {

constexpr int side = 16;                  // of a tile, where nothing else is said
constexpr float alphaCap = 0.99f;         // alpha is at most this
constexpr float alphaLeast = 1.f / 255.f; // skipped below
constexpr float alphaEnd = 1e-4f;         // a pixel is closed before its light falls to this
constexpr float farthest =
    1e-30f; // a sum of weights below this is splat2d_far's, where that is asked for
constexpr int moments =
    6; // sums of t, t u, t dy, t u^2, t u dy, t dy^2 with t = exp(-q) dL/dg, u = dx + k dy

// Where the pixels of an axis of n sit: i + 0.5, or with corners 2 i / (n - 1) - 1.
struct Axis {
    int first;
    float scale;
    __device__ __forceinline__ Axis(int n, int corners)
        : first(corners ? 1 - n : 1), scale(corners ? __frcp_rn((float)(n - 1)) : 0.5f)
    {
    }
    __device__ __forceinline__ float operator()(int i) const
    {
        return (float)(2 * i + first) * scale;
    }
};

// The part of a box that lies in the tile at (tx, ty), as bits: columns in the lower half, rows in
// the upper; 0 where they are apart.
template <int SIDE = side> __device__ __forceinline__ unsigned tileMask(int4 box, int tx, int ty)
{
    const int x0 = max(box.x - tx, 0), x1 = min(box.z - tx, SIDE);
    const int y0 = max(box.y - ty, 0), y1 = min(box.w - ty, SIDE);
    if (x0 >= x1 || y0 >= y1) return 0;
    const unsigned columns = (0xffffu >> (16 - (x1 - x0))) << x0;
    const unsigned rows = (0xffffu >> (16 - (y1 - y0))) << y0;
    return columns | rows << 16;
}
__device__ __forceinline__ bool inMask(unsigned mask, int x, int y)
{
    return (mask >> x & mask >> (16 + y) & 1u) != 0;
}

// The columns [x, y) of tiles, in the row of tiles that begins at pixel row ty, in which a Gaussian may draw: those
// of its box, less those beyond its ellipse q <= shape.w. Over the rows' dy in [lo, hi] the ellipse reaches from
// -k dy - w to -k dy + w, w = sqrt((r - v dy^2) / p); the ends have their extremes at the same dy but for the
// sign. Margins of a hundredth of a pixel and of 2^-20 of all that is added are more than any rounding, the
// drawing's too. No product may be fused with a sum here, as counting and listing are different kernels and have
// to agree to the bit.
__device__ __forceinline__ int2 columnsOf(float4 place, float4 shape, int4 box, int ty, int tile,
                                          Axis across, Axis down)
{
    const int first = box.x / tile, end = (box.z - 1) / tile + 1;
    if (shape.w == INFINITY) return make_int2(first, end);
    const float k = place.z, p = place.w, v = shape.x, tiny = 1e-37f;
    const float top = down(max(ty, box.y)), bottom = down(min(ty + tile, box.w) - 1);
    const float tall = sqrtf(__fdividef(shape.w, v)); // half the ellipse's height
    const float slack =
        __fmaf_rn(0x1p-20f, __fadd_rn(fabsf(place.y), fmaxf(fabsf(top), fabsf(bottom))),
                  __fmul_rn(0.02f, down.scale));
    const float lo = fmaxf(__fsub_rn(__fsub_rn(top, place.y), slack), -tall);
    const float hi = fminf(__fadd_rn(__fsub_rn(bottom, place.y), slack), tall);
    if (lo > hi) return make_int2(0, 0);
    const float skew = __fmul_rn(p, __fmul_rn(k, k));
    const float turn = __fmul_rn(copysignf(tall, k), sqrtf(__fdividef(skew, __fadd_rn(skew, v))));
    const float yl = fminf(fmaxf(turn, lo), hi), yr = fminf(fmaxf(-turn, lo), hi);
    const float wl = sqrtf(__fdividef(fmaxf(__fmaf_rn(__fmul_rn(-v, yl), yl, shape.w), tiny), p));
    const float wr = sqrtf(__fdividef(fmaxf(__fmaf_rn(__fmul_rn(-v, yr), yr, shape.w), tiny), p));
    const float kl = __fmul_rn(k, yl), kr = __fmul_rn(k, yr);
    const float zero = __fmul_rn((float)across.first, across.scale); // where pixel 0 is
    const float most = __fadd_rn(__fadd_rn(fabsf(place.x), fabsf(zero)),
                                 __fadd_rn(fmaxf(fabsf(kl), fabsf(kr)), fmaxf(wl, wr)));
    const float margin = __fmaf_rn(0x1p-20f, most, __fmul_rn(0.02f, across.scale));
    const float left = __fsub_rn(__fsub_rn(__fsub_rn(place.x, kl), wl), margin);
    const float right = __fadd_rn(__fadd_rn(__fsub_rn(place.x, kr), wr), margin);
    const float step = __fadd_rn(across.scale, across.scale);
    const float a = fmaxf(ceilf(__fdividef(__fsub_rn(left, zero), step)), (float)box.x);
    const float b = fminf(floorf(__fdividef(__fsub_rn(right, zero), step)), (float)(box.z - 1));
    if (a > b) return make_int2(0, 0);
    return make_int2((int)a / tile, (int)b / tile + 1);
}

// How features and images are stored. They are computed in float.
enum Stored { storedF32, storedF16, storedBf16 };

__device__ __forceinline__ float load(const void* p, size_t i, int stored)
{
    if (stored == storedF32) return static_cast<const float*>(p)[i];
    return stored == storedF16 ? toFloat(static_cast<const half*>(p)[i])
                               : toFloat(static_cast<const bf16*>(p)[i]);
}
__device__ __forceinline__ void store(void* p, size_t i, float v, int stored)
{
    if (stored == storedF32)
        static_cast<float*>(p)[i] = v;
    else if (stored == storedF16)
        static_cast<half*>(p)[i] = fromFloat<half>(v);
    else
        static_cast<bf16*>(p)[i] = fromFloat<bf16>(v);
}
// Four neighbours, i a multiple of four.
__device__ __forceinline__ void store4(void* p, size_t i, float4 v, int stored)
{
    if (stored == storedF32) {
        *reinterpret_cast<float4*>(static_cast<float*>(p) + i) = v;
        return;
    }
    uint2 w;
    if (stored == storedF16) {
        w.x = pack2<half>(v.x, v.y);
        w.y = pack2<half>(v.z, v.w);
    } else {
        w.x = pack2<bf16>(v.x, v.y);
        w.y = pack2<bf16>(v.z, v.w);
    }
    *reinterpret_cast<uint2*>(static_cast<unsigned short*>(p) + i) = w;
}

// q at a pixel, and u.
__device__ __forceinline__ float distance(float4 place, float v, float dx, float dy, float& u)
{
    u = fmaf(place.z, dy, dx);
    return fmaf(place.w * u, u, v * dy * dy);
}

// One step of warpSums: the lanes of a pair `half` apart share out their 2 half values.
template <int half, int W> __device__ __forceinline__ void halveValues(float (&v)[W])
{
    if constexpr (half > 0) {
        const bool upper = (threadIdx.x & half) != 0;
#pragma unroll
        for (int i = 0; i < half; i++) {
            const float send = upper ? v[i] : v[i + half];
            const float keep = upper ? v[i + half] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, send, half);
        }
        halveValues<half / 2>(v);
    }
}

// The sums over the warp of W values a lane, W = 16 or 32, each a different one in every lane: lane
// l gets that of value l (l % 16 for W = 16). A butterfly that halves the values at each step: 31
// shuffles (31 also for 16) instead of 5 W.
template <int W> __device__ __forceinline__ float warpSums(float (&v)[W])
{
    static_assert(W == 16 || W == 32, "16 or 32 values");
    if constexpr (W == 16) {
#pragma unroll
        for (int i = 0; i < W; i++)
            v[i] += __shfl_xor_sync(0xffffffffu, v[i], 16);
    }
    halveValues<W / 2>(v);
    return v[0];
}

// The sums over the warp of N values a lane, written to out[0..N) by the lanes, in groups of 32 or 16.
template <int first = 0, int N, class Store>
__device__ __forceinline__ void sumValues(const float (&v)[N], Store store)
{
    if constexpr (first < N) {
        constexpr int W = N - first > 16 ? 32 : 16;
        const int lane = threadIdx.x & 31;
        float w[W];
#pragma unroll
        for (int i = 0; i < W; i++)
            w[i] = first + i < N ? v[first + i] : 0.f;
        const float s = warpSums<W>(w);
        if (lane < W && first + lane < N) store(first + lane, s);
        sumValues<first + W>(v, store);
    }
}

} // namespace splat
