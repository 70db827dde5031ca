// The gradients of additive and normalised blending for Gaussians that cover much of an image and have many features: a
// product of matrices for each row of tiles, so that the gradient of the image is read once for sixteen of them.
#pragma once

#include "splat2d_tile.h"

namespace splat {

constexpr int together = 16; // Gaussians of a block

// Whether a Gaussian's box has more than `most` pixels; then it is not splat2d_gather's.
__device__ __forceinline__ bool covers(int4 box, int most)
{
    return (long long)(box.z - box.x) * (box.w - box.y) > most;
}

// GT Gaussians by FT features a lane, whose sums over 32 pixels it makes; a warp has 32 pixels at a time.
template <int CP> struct CoverShape;
template <> struct CoverShape<16> {
    static constexpr int warps = 8, gt = 2, ft = 4;
};
template <> struct CoverShape<32> {
    static constexpr int warps = 4, gt = 4, ft = 4;
};
template <> struct CoverShape<64> {
    static constexpr int warps = 2, gt = 4, ft = 8;
};

// What the warps of a block share; a row of v and of e has four words more, so that 8 lanes' rows have banks of their own.
template <int CP> struct Cover {
    static constexpr int warps = CoverShape<CP>::warps, values = moments + CP;
    __align__(16) float v[warps][32][CP + 4]; // later each warp's sums, [together][values]
    __align__(16) float e[warps][32][together + 4];
    __align__(16) float feature[together][CP];
    float4 place[together], shape[together];
    int4 box[together];
    Found<warps> found;
};

// parts[(image rows + row) perImage + i][0..6 + cp) of the covering Gaussians i of this block: its row of tiles' share.
template <int CP>
__device__ __forceinline__ void cover(float* parts, const float4* place, const float4* shape,
                                      const int4* box, const float* feature, View w, int height,
                                      int cp, int perImage, int most)
{
    typedef CoverShape<CP> Shape;
    constexpr int warps = Shape::warps, gt = Shape::gt, ft = Shape::ft, across = CP / ft,
                  values = moments + CP;
    static_assert(together / gt * across == 32, "a warp's lanes make all sums");
    static_assert(32 * (CP + 4) >= together * values, "the sums fit where v was");
    __shared__ Cover<CP> b;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int rows = (height + side - 1) / side, image = blockIdx.x / rows,
              ty = (blockIdx.x - image * rows) * side;
    const size_t base = (size_t)image * perImage;
    TileList<warps> list;
    list.search(b.found, base, perImage, [&](int i) { return covers(box[base + i], most); });
    __syncthreads();
    list.close();
    const int first = blockIdx.y * together, here = min(together, list.length - first);
    if (here <= 0) return;
    for (int i = threadIdx.x; i < together * (CP / 4); i += 32 * warps) {
        const int j = i / (CP / 4), k = i % (CP / 4) * 4;
        float4 f = make_float4(0, 0, 0, 0);
        if (j < here && k < cp)
            f = *reinterpret_cast<const float4*>(feature + (size_t)list.value(first + j) * cp + k);
        *reinterpret_cast<float4*>(&b.feature[j][k]) = f;
    }
    if (threadIdx.x < together) {
        float4 p = make_float4(0, 0, 0, 1), s = make_float4(1, 0, -1, 0); // draws nothing
        int4 r = make_int4(0, 0, 0, 0);
        if ((int)threadIdx.x < here) {
            const size_t id = list.value(first + threadIdx.x);
            p = place[id];
            s = shape[id];
            r = box[id];
        }
        b.place[threadIdx.x] = p;
        b.shape[threadIdx.x] = s;
        b.box[threadIdx.x] = r;
    }
    __syncthreads();
    const size_t plane = (size_t)image * height * w.width;
    float df[gt][ft] = {}, sums[together / 4] = {};
    const int gi = lane / across * gt, fi = lane % across * 4;
    const int strips = (w.width + side - 1) / side * 8; // of two rows of 16 pixels
    for (int strip = warp; strip < strips; strip += warps) {
        const int x = strip / 8 * side + (lane & 15), y = ty + strip % 8 * 2 + (lane >> 4);
        const bool inside = x < w.width && y < height;
        const size_t at = plane + (size_t)y * w.width + x;
        float h[together];
        const float off = inside && w.offset ? -w.offset[at] : 0.f;
#pragma unroll
        for (int j = 0; j < together; j++)
            h[j] = off;
#pragma unroll 1
        for (int k = 0; k < CP; k += 4) {
            float4 t = make_float4(0, 0, 0, 0);
            if (inside && k < cp) t = *reinterpret_cast<const float4*>(w.v + at * cp + k);
            *reinterpret_cast<float4*>(&b.v[warp][lane][k]) = t;
#pragma unroll
            for (int j = 0; j < together; j++) {
                const float4 f = *reinterpret_cast<const float4*>(&b.feature[j][k]);
                h[j] = fmaf(t.x, f.x, fmaf(t.y, f.y, fmaf(t.z, f.z, fmaf(t.w, f.w, h[j]))));
            }
        }
        const float px = w.across(x), py = w.down(y);
#pragma unroll
        for (int group = 0; group < together / 4; group++) {
            float e[4], all[32];
#pragma unroll
            for (int m = 0; m < 4; m++) {
                const int j = group * 4 + m;
                const float4 p = b.place[j], s = b.shape[j];
                const int4 r = b.box[j];
                const float dy = py - p.y;
                float u;
                const float q = distance(p, s.x, px - p.x, dy, u);
                const bool use =
                    (x >= r.x) & (x < r.z) & (y >= r.y) & (y < r.w) & (q <= s.z); // no branches
                const float falloff = __expf(-q);
                e[m] = use ? falloff : 0.f;
                const float t = e[m] * h[j], tu = t * u,
                            td = t * dy; // of 0: 0, as u and dy are finite
                all[8 * m] = t;
                all[8 * m + 1] = tu;
                all[8 * m + 2] = td;
                all[8 * m + 3] = tu * u;
                all[8 * m + 4] = tu * dy;
                all[8 * m + 5] = td * dy;
                all[8 * m + 6] = all[8 * m + 7] = 0;
            }
            sums[group] += warpSums(all);
            *reinterpret_cast<float4*>(&b.e[warp][lane][4 * group]) =
                make_float4(e[0], e[1], e[2], e[3]);
        }
        __syncwarp(); // e and v of all pixels are here
#pragma unroll 4
        for (int p = 0; p < 32; p++) {
            float e[gt], v[ft];
#pragma unroll
            for (int i = 0; i < gt; i += 2) {
                const float2 t = *reinterpret_cast<const float2*>(&b.e[warp][p][gi + i]);
                e[i] = t.x, e[i + 1] = t.y;
            }
#pragma unroll
            for (int k = 0; k < ft; k += 4) {
                const float4 t = *reinterpret_cast<const float4*>(&b.v[warp][p][fi + k * across]);
                v[k] = t.x, v[k + 1] = t.y, v[k + 2] = t.z, v[k + 3] = t.w;
            }
#pragma unroll
            for (int i = 0; i < gt; i++)
#pragma unroll
                for (int k = 0; k < ft; k++)
                    df[i][k] = fmaf(e[i], v[k], df[i][k]);
        }
        __syncwarp(); // all have read them
    }
    float* mine = &b.v[warp][0][0];
#pragma unroll
    for (int group = 0; group < together / 4; group++)
        if ((lane & 7) < moments) mine[(group * 4 + lane / 8) * values + (lane & 7)] = sums[group];
#pragma unroll
    for (int i = 0; i < gt; i++)
#pragma unroll
        for (int k = 0; k < ft; k++)
            mine[(gi + i) * values + moments + fi + k / 4 * 4 * across + k % 4] = df[i][k];
    __syncthreads();
    for (int i = threadIdx.x; i < here * values; i += 32 * warps) {
        const int j = i / values, k = i - j * values;
        if (k >= moments + cp) continue;
        float sum = 0;
        for (int m = 0; m < warps; m++)
            sum += (&b.v[m][0][0])[i];
        const size_t slot = (size_t)blockIdx.x * perImage + (list.value(first + j) - base);
        parts[slot * (moments + cp) + k] = sum;
    }
}

} // namespace splat
