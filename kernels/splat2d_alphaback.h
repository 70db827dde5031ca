// The gradient of front-to-back blending: a tile's Gaussians from the last drawn to the first.
#pragma once

#include "splat2d.h"

namespace splat {

// What a block gets; shapes in splat2d_alphaback.cu.
struct Behind {
    const float4 *place, *shape;
    const int4* box;
    const float* feature;
    const unsigned *entries, *owner;
    const int2* ranges;
    const float *v, *background, *dCoverage, *left;
    const int* last;
    Axis across, down;
    int width, height, c, cp;
};

template <int CP> struct BehindBatch {
    static constexpr int count = CP <= 8 ? 32 : CP == 16 ? 16 : 8, values = moments + CP, warps = 8;
    float4 place[count], shape[count];
    unsigned entry[count], owner[count];
    __align__(16) float feature[count][CP];
    float parts[count][warps][values];
};

// Writes the moments and the features [c0, c0 + CP) of every entry to its slot; with fast adds them up where
// they belong instead.
template <int CP, bool fast>
__device__ __forceinline__ void alphaBack(float* slots, float* sums, float* df, const Behind& s,
                                          int perSlot)
{
    typedef BehindBatch<CP> Batch;
    constexpr int values = Batch::values, warps = Batch::warps;
    __shared__ Batch b;
    __shared__ int furthest;
    const int across = (s.width + side - 1) / side, tiles = across * ((s.height + side - 1) / side);
    const int image = blockIdx.x / tiles, tile = blockIdx.x - image * tiles;
    const int tx = tile % across * side, ty = tile / across * side;
    const int column = threadIdx.x & 15, row = threadIdx.x >> 4, lane = threadIdx.x & 31,
              warp = threadIdx.x >> 5;
    const int x = tx + column, y = ty + row, c0 = blockIdx.y * CP;
    const bool inside = x < s.width && y < s.height;
    const float px = s.across(x), py = s.down(y);
    const int2 range = s.ranges[blockIdx.x];
    const size_t p = ((size_t)image * s.height + y) * s.width + x;
    int last = 0;
    float t = 1, behind = 0, v[CP];
#pragma unroll
    for (int k = 0; k < CP; k++)
        v[k] = 0;
    if (inside) {
        last = s.last[p];
        t = s.left[p];
#pragma unroll
        for (int k = 0; k < CP; k += 4)
            if (c0 + k < s.cp) {
                const float4 g = *reinterpret_cast<const float4*>(s.v + p * s.cp + c0 + k);
                v[k] = g.x, v[k + 1] = g.y, v[k + 2] = g.z, v[k + 3] = g.w;
            }
        if (c0 == 0) {
            if (s.background)
                for (int k = 0; k < s.c; k++)
                    behind = fmaf(s.v[p * s.cp + k], s.background[(size_t)image * s.c + k], behind);
            if (s.dCoverage) behind -= s.dCoverage[p];
            behind *= t;
        }
    }
    if (threadIdx.x == 0) furthest = 0;
    __syncthreads();
    const int mine = __reduce_max_sync(0xffffffffu, last);
    if (lane == 0 && mine > 0) atomicMax(&furthest, mine);
    __syncthreads();
    const int length = furthest;
    if (!fast) // what nobody drew has no gradient
        for (int i = range.x + length + warp; i < range.y; i += warps)
            for (int j = lane; j < values; j += 32)
                if (j >= moments ? c0 + j - moments < s.cp : c0 == 0)
                    slots[(size_t)s.entries[i] * perSlot + (j >= moments ? c0 + j : j)] = 0;
    for (int end = length; end > 0; end -= Batch::count) {
        const int first = max(end - Batch::count, 0), here = end - first;
        for (int j = threadIdx.x; j < Batch::count * (CP / 4); j += 256) {
            const int i = j / (CP / 4), k = j % (CP / 4) * 4;
            float4 f = make_float4(0, 0, 0, 0);
            if (i < here && c0 + k < s.cp)
                f = *reinterpret_cast<const float4*>(
                    s.feature + (size_t)s.owner[s.entries[range.x + first + i]] * s.cp + c0 + k);
            *reinterpret_cast<float4*>(&b.feature[i][k]) = f;
        }
        if ((int)threadIdx.x < here) {
            const unsigned entry = s.entries[range.x + first + threadIdx.x], g = s.owner[entry];
            b.entry[threadIdx.x] = entry;
            b.owner[threadIdx.x] = g;
            b.place[threadIdx.x] = s.place[g];
            float4 shape = s.shape[g];
            shape.w = __uint_as_float(tileMask(s.box[g], tx, ty));
            b.shape[threadIdx.x] = shape;
        }
        __syncthreads();
        for (int j = here - 1; j >= 0; j--) {
            const float4 place = b.place[j], shape = b.shape[j];
            const float dy = py - place.y;
            float u, all[values];
            const float q = distance(place, shape.x, px - place.x, dy, u);
            const float e = __expf(-q), g = shape.y * e, a = fminf(g, alphaCap);
            const bool use = first + j < last && inMask(__float_as_uint(shape.w), column, row) &&
                             q <= shape.z && a >= alphaLeast;
            if (!__any_sync(0xffffffffu, use)) {
                for (int k = lane; k < values; k += 32)
                    b.parts[j][warp][k] = 0;
                continue;
            }
            float w = 0, h = 0;
            if (use) {
                const float rest = 1 - a, before = t / rest;
                w = a * before;
                if (c0 == 0) {
                    float vf = 0;
#pragma unroll
                    for (int k = 0; k < CP; k++)
                        vf = fmaf(v[k], b.feature[j][k], vf);
                    if constexpr (CP == 64) { // there may be more
                        for (int k = CP; k < s.cp; k++)
                            vf = fmaf(s.v[p * s.cp + k], s.feature[(size_t)b.owner[j] * s.cp + k],
                                      vf);
                    }
                    h = g <= alphaCap ? before * vf - behind / rest : 0.f;
                    behind = fmaf(w, vf, behind);
                }
                t = before;
            }
            const float th = e * h, tu = th * u, td = th * dy;
            all[0] = use ? th : 0.f;
            all[1] = use ? tu : 0.f;
            all[2] = use ? td : 0.f;
            all[3] = use ? tu * u : 0.f;
            all[4] = use ? tu * dy : 0.f;
            all[5] = use ? td * dy : 0.f;
#pragma unroll
            for (int k = 0; k < CP; k++)
                all[moments + k] = w * v[k];
            sumValues(all, [&](int k, float value) { b.parts[j][warp][k] = value; });
        }
        __syncthreads();
        for (int i = threadIdx.x; i < here * values; i += 256) {
            const int j = i / values, k = i - j * values;
            float value = 0;
#pragma unroll
            for (int m = 0; m < warps; m++)
                value += b.parts[j][m][k];
            const int feature = c0 + k - moments;
            if (fast) {
                if (k < moments) {
                    if (c0 == 0) atomicAdd(sums + (size_t)b.owner[j] * moments + k, value);
                } else if (feature < s.c) {
                    atomicAdd(df + (size_t)b.owner[j] * s.c + feature, value);
                }
            } else if (k < moments ? c0 == 0 : feature < s.cp) {
                slots[(size_t)b.entry[j] * perSlot + (k < moments ? k : moments + feature)] = value;
            }
        }
        __syncthreads();
    }
}

} // namespace splat
