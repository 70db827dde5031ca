// The gradients of additive and normalised blending: the sums of one Gaussian over the pixels of its box,
// by a warp (splat2d_gather) or by a block (splat2d_large).
#pragma once

#include "splat2d.h"

namespace splat {

constexpr int gatherThreads = 128, gatherWarps = gatherThreads / 32;
constexpr int small = 1024; // pixels of a box that a warp still takes
// A lane's share of the sums.
template <int CP> struct Gathered {
    float df[CP], m[moments];
};

struct View {
    const float *v,
        *offset; // the folded gradient [height, width, cp] of the image, and its offset or null
    int width, cp;
    Axis across, down;
};

// One pixel. f: the Gaussian's features [cp] in shared memory; c0: the block's first feature, whose
// sums it makes; only the block of feature 0 needs h.
template <int CP>
__device__ __forceinline__ void visit(Gathered<CP>& s, const View& w, float4 place, float4 shape,
                                      const float* f, int c0, int x, int y)
{
    const float dy = w.down(y) - place.y;
    float u;
    const float q = distance(place, shape.x, w.across(x) - place.x, dy, u);
    if (!(q <= shape.z)) return;
    const float e = __expf(-q);
    const size_t at = (size_t)y * w.width + x;
    const float* v = w.v + at * w.cp;
    float h = w.offset ? -w.offset[at] : 0.f;
#pragma unroll
    for (int k = 0; k < CP; k += 4) {
        if (c0 + k >= w.cp) break;
        const float4 t = *reinterpret_cast<const float4*>(v + c0 + k);
        const float4 g = *reinterpret_cast<const float4*>(f + c0 + k);
        h = fmaf(t.x, g.x, fmaf(t.y, g.y, fmaf(t.z, g.z, fmaf(t.w, g.w, h))));
        s.df[k] = fmaf(e, t.x, s.df[k]);
        s.df[k + 1] = fmaf(e, t.y, s.df[k + 1]);
        s.df[k + 2] = fmaf(e, t.z, s.df[k + 2]);
        s.df[k + 3] = fmaf(e, t.w, s.df[k + 3]);
    }
    if (c0 > 0) return;
    if constexpr (CP == 64) { // there may be more
#pragma unroll 1
        for (int k = CP; k < w.cp; k += 4) {
            const float4 t = *reinterpret_cast<const float4*>(v + k);
            const float4 g = *reinterpret_cast<const float4*>(f + k);
            h = fmaf(t.x, g.x, fmaf(t.y, g.y, fmaf(t.z, g.z, fmaf(t.w, g.w, h))));
        }
    }
    const float t = e * h, tu = t * u, ty = t * dy;
    s.m[0] += t;
    s.m[1] += tu;
    s.m[2] += ty;
    s.m[3] = fmaf(tu, u, s.m[3]);
    s.m[4] = fmaf(tu, dy, s.m[4]);
    s.m[5] = fmaf(ty, dy, s.m[5]);
}

template <int CP> __device__ __forceinline__ void clear(Gathered<CP>& s)
{
#pragma unroll
    for (int k = 0; k < CP; k++)
        s.df[k] = 0;
#pragma unroll
    for (int k = 0; k < moments; k++)
        s.m[k] = 0;
}

// Hands out the warp's sums: store(j, value), j < moments the six, from there on the features.
template <int CP, class Store>
__device__ __forceinline__ void total(const Gathered<CP>& s, Store store)
{
    float all[moments + CP];
#pragma unroll
    for (int k = 0; k < moments; k++)
        all[k] = s.m[k];
#pragma unroll
    for (int k = 0; k < CP; k++)
        all[moments + k] = s.df[k];
    sumValues(all, store);
}

// A Gaussian's sum j goes where it belongs.
__device__ __forceinline__ void write(float* sums, float* df, size_t g, int j, float value, float o,
                                      int c0, int c)
{
    if (j < moments) {
        if (c0 == 0) sums[g * moments + j] = value;
    } else if (c0 + j - moments < c) {
        df[g * c + c0 + j - moments] = o * value;
    }
}

// How many pixels a box has: more than 31 bits hold, perhaps.
__device__ __forceinline__ long long boxPixels(int4 b)
{
    return (long long)(b.z - b.x) * (b.w - b.y);
}

// Gaussians of at most `small` pixels, one a warp; the others are gatherLarge's, and those of more than `most`
// splat2d_cover's.
template <int CP>
__device__ __forceinline__ void gather(float* sums, float* df, const float4* place,
                                       const float4* shape, const int4* box, const float* feature,
                                       View w, size_t area, int c, int perImage, int most, int n)
{
    DYNAMIC_SHARED(float, features); // [gatherWarps][cp]
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, c0 = blockIdx.y * CP;
    const long long g = (long long)blockIdx.x * gatherWarps + warp;
    if (g >= n) return;
    const int4 b = box[g];
    if (boxPixels(b) > min(small, most)) return;
    const int across = b.z - b.x, pixels = across * (b.w - b.y);
    float* f = features + warp * w.cp;
    for (int k = lane; k < w.cp; k += 32)
        f[k] = feature[g * w.cp + k];
    __syncwarp();
    const size_t plane = (size_t)(g / perImage) * area;
    w.v += plane * w.cp;
    if (w.offset) w.offset += plane;
    const float4 p = place[g], s = shape[g];
    Gathered<CP> sum;
    clear(sum);
    const float over = 1.f / (float)max(across, 1);
#pragma unroll 1
    for (int i = lane; i < pixels; i += 32) {
        const int y = (int)((i + 0.5f) * over); // exact: i < 1024
        visit<CP>(sum, w, p, s, f, c0, b.x + i - y * across, b.y + y);
    }
    total<CP>(sum, [&](int j, float value) { write(sums, df, g, j, value, s.y, c0, c); });
}

// The large ones. Block i has the Gaussians i, i + grid, i + 2 grid, ... and does those of them that are large one after the
// other: warps take rows in turn, and their sums are added in order.
template <int CP, int WARPS>
__device__ __forceinline__ void
gatherLarge(float* sums, float* df, const float4* place, const float4* shape, const int4* box,
            const float* feature, View w, size_t area, int c, int perImage, int most, int n)
{
    DYNAMIC_SHARED(float, features);       // [cp], then [WARPS][moments + CP]
    __shared__ unsigned large[32 * WARPS]; // by warp, of its 32 Gaussians
    __shared__ int counts[WARPS];
    constexpr int values = moments + CP;
    float* parts = features + w.cp;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, c0 = blockIdx.y * CP;
    const View whole = w;
    for (long long first = blockIdx.x; first < n; first += 32ll * WARPS * gridDim.x) {
        const long long mine = first + (long long)threadIdx.x * gridDim.x;
        bool is = false;
        if (mine < n) {
            const long long pixels = boxPixels(box[mine]);
            is = pixels > small && pixels <= most;
        }
        const unsigned hits = __ballot_sync(0xffffffffu, is);
        if (is) large[32 * warp + __popc(hits & ((1u << lane) - 1))] = (unsigned)mine;
        if (lane == 0) counts[warp] = __popc(hits);
        __syncthreads();
        for (int list = 0; list < WARPS; list++)
            for (int i = 0; i < counts[list]; i++) {
                const size_t g = large[32 * list + i];
                for (int k = threadIdx.x; k < w.cp; k += 32 * WARPS)
                    features[k] = feature[g * w.cp + k];
                __syncthreads();
                const size_t plane = g / perImage * area;
                w.v = whole.v + plane * w.cp;
                if (w.offset) w.offset = whole.offset + plane;
                const float4 p = place[g], s = shape[g];
                const int4 b = box[g];
                Gathered<CP> sum;
                clear(sum);
                for (int y = b.y + warp; y < b.w; y += WARPS)
#pragma unroll 1
                    for (int x = b.x + lane; x < b.z; x += 32)
                        visit<CP>(sum, w, p, s, features, c0, x, y);
                total<CP>(sum, [&](int j, float value) { parts[warp * values + j] = value; });
                __syncthreads();
                for (int j = threadIdx.x; j < values; j += 32 * WARPS) {
                    float value = 0;
                    for (int k = 0; k < WARPS; k++)
                        value += parts[k * values + j];
                    write(sums, df, g, j, value, s.y, c0, c);
                }
                __syncthreads();
            }
        __syncthreads(); // large is free again
    }
}

} // namespace splat
