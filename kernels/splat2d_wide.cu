// splat2d_wide - drawing Gaussians with more than eight features: a product of matrices for each tile.
//
//     F[256 pixels x C] = G[256 x n] f[n x C], with G as splat2d's g (normalised by its sum) or splat2d_alpha's
//     alpha T; formulas, modes and shapes there
//
// kernels  splat2d_wide16_f32 splat2d_wide32_f32 splat2d_wide64_f32
// shapes   as splat2d's and splat2d_alpha's; feature: [B, n, cp], cp a multiple of 4. z, left, coverage, last may be
//          null where their mode is not asked for.
// params   mode 0 additive, 1 normalised, 2 alpha (by entries with owner); stored as splat2d's.
// launch   grid (B * tiles, ceil(c / CP)), block 256, shared 0; CP = 16, 32 or 64 features a block. 16 Gaussians at a
//          time: each thread evaluates them at its pixel into shared memory, then makes 4 x 4, 8 x 4 or 8 x 8
//          products of pixels and features.
// bound    f32: (14 + 2 c) flops and an exp for each Gaussian and pixel of a tile that its box touches. Goal: 50 %.
// expect   regs <= 64, shared <= 24000, occupancy >= 50, has MUFU.EX2 LDS.128, not LDL STL
// expect   splat2d_wide32_f32: regs <= 112, shared <= 24000, occupancy >= 25, has MUFU.EX2 LDS.128
// expect   splat2d_wide64_f32: regs <= 128, shared <= 28000, occupancy >= 25, has MUFU.EX2 LDS.128
// repro    yes
// twin     ops.SplatForward; |gpu - float64| <= 1e-5 max(1, |F|).
// source   Own derivation.
#include "splat2d_tile.h"

inline namespace thisfile {

constexpr int threads = 256, warps = threads / 32, batch = 16, pixels = 256;
enum Mode { additive, normalised, alphaMode };

// TP pixels by TC features a thread: TP neighbours in a row of G, TC in fours.
template <int CP> struct Shape;
template <> struct Shape<16> {
    static constexpr int tp = 4, tc = 4;
};
template <> struct Shape<32> {
    static constexpr int tp = 8, tc = 4;
};
template <> struct Shape<64> {
    static constexpr int tp = 8, tc = 8;
};

template <int CP>
__device__ __forceinline__ void draw(void* image, float* z, float* left, float* coverage, int* last,
                                     const splat::Scene& s, const float* background, float eps,
                                     int mode, int corners, int planar, int stored, int width,
                                     int height, int c)
{
    constexpr int tp = Shape<CP>::tp, tc = Shape<CP>::tc, groups = CP / tc;
    __shared__ splat::Found<warps> found;
    __shared__ float4 place[batch], shape[batch];
    __shared__ __align__(16) float feature[batch][CP];
    __shared__ __align__(16) float g[batch][pixels];
    const int across = (width + splat::side - 1) / splat::side;
    const int tiles = across * ((height + splat::side - 1) / splat::side);
    const int image_ = blockIdx.x / tiles, tile = blockIdx.x - image_ * tiles;
    const int tx = tile % across * splat::side, ty = tile / across * splat::side;
    const int column = threadIdx.x & 15, row = threadIdx.x >> 4, c0 = blockIdx.y * CP;
    const float px = splat::Axis(width, corners)(tx + column),
                py = splat::Axis(height, corners)(ty + row);
    splat::TileList<warps> list;
    list.find(found, s, image_, blockIdx.x, tx, ty, {width, corners}, {height, corners});
    __syncthreads();
    list.close();
    const int group = threadIdx.x % groups,
              run = threadIdx.x / groups; // features 4 group.., pixels tp run..
    float acc[tp][tc];
#pragma unroll
    for (int i = 0; i < tp; i++)
#pragma unroll
        for (int k = 0; k < tc; k++)
            acc[i][k] = 0;
    float weight = 0, light = 1;
    int final = 0;
    bool open = tx + column < width && ty + row < height;
    for (int first = 0; first < list.length; first += batch) {
        if (mode == alphaMode && !__syncthreads_or(open)) break;
        const int here = min(batch, list.length - first);
        for (int j = threadIdx.x; j < batch * (CP / 4); j += threads) {
            const int i = j / (CP / 4), k = c0 + j % (CP / 4) * 4;
            float4 v = make_float4(0, 0, 0, 0);
            if (i < here && k < s.cp) {
                const size_t id = list.gaussian(list.value(first + i));
                v = *reinterpret_cast<const float4*>(s.feature + id * s.cp + k);
            }
            *reinterpret_cast<float4*>(&feature[i][j % (CP / 4) * 4]) = v;
        }
        if ((int)threadIdx.x < here) {
            const size_t id = list.gaussian(list.value(first + threadIdx.x));
            place[threadIdx.x] = s.place[id];
            float4 v = s.shape[id];
            v.w = __uint_as_float(splat::tileMask(s.box[id], tx, ty));
            shape[threadIdx.x] = v;
        }
        __syncthreads();
#pragma unroll 4
        for (int j = 0; j < batch; j++) {
            float value = 0;
            if (j < here) {
                const float4 p = place[j], v = shape[j];
                float u;
                const float q = splat::distance(p, v.x, px - p.x, py - p.y, u);
                if (splat::inMask(__float_as_uint(v.w), column, row) && q <= v.z)
                    value = v.y * __expf(-q);
            }
            if (mode == alphaMode) {
                const float a = fminf(value, splat::alphaCap);
                value = 0;
                if (open && a >= splat::alphaLeast) {
                    const float then = light * (1 - a);
                    if (then <= splat::alphaEnd) {
                        open = false;
                    } else {
                        value = a * light;
                        light = then;
                        final = first + j + 1;
                    }
                }
            } else {
                weight += value;
            }
            g[j][threadIdx.x] = value;
        }
        __syncthreads();
#pragma unroll(CP == 64 ? 1 : 2)
        for (int j = 0; j < batch; j++) {
            float a[tp], f[tc];
#pragma unroll
            for (int i = 0; i < tp; i += 4) {
                const float4 v = *reinterpret_cast<const float4*>(&g[j][run * tp + i]);
                a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
            }
#pragma unroll
            for (int k = 0; k < tc;
                 k += 4) { // the second four half a row on, so that a warp reads without conflicts
                const float4 v =
                    *reinterpret_cast<const float4*>(&feature[j][k * groups + group * 4]);
                f[k] = v.x, f[k + 1] = v.y, f[k + 2] = v.z, f[k + 3] = v.w;
            }
#pragma unroll
            for (int i = 0; i < tp; i++)
#pragma unroll
                for (int k = 0; k < tc; k++)
                    acc[i][k] = fmaf(a[i], f[k], acc[i][k]);
        }
        __syncthreads();
    }
    // Each pixel's factor and its background's go to those who hold its sums.
    __syncthreads();
    const size_t area = (size_t)width * height;
    const size_t mine = (size_t)image_ * area + (size_t)(ty + row) * width + tx + column;
    const bool inside = tx + column < width && ty + row < height && blockIdx.y == 0;
    float scale = 1, rest = 1;
    if (mode == normalised) {
        scale = 1.f / (weight + eps);
        rest = eps * scale;
        if (inside) z[mine] = weight;
    } else if (mode == alphaMode) {
        rest = light;
        if (inside) {
            left[mine] = light;
            coverage[mine] = 1 - light;
            last[mine] = final;
        }
    }
    g[0][threadIdx.x] = scale;
    g[1][threadIdx.x] = rest;
    __syncthreads();
    float bg[tc];
#pragma unroll
    for (int k = 0; k < tc; k++) {
        const int channel = c0 + k / 4 * 4 * groups + group * 4 + k % 4;
        bg[k] = background && channel < c ? background[(size_t)image_ * c + channel] : 0.f;
    }
    const int y = ty + run * tp / splat::side, x0 = tx + run * tp % splat::side;
    if (y >= height) return;
#pragma unroll
    for (int i = 0; i < tp; i++)
#pragma unroll
        for (int k = 0; k < tc; k++)
            acc[i][k] = fmaf(acc[i][k], g[0][run * tp + i], g[1][run * tp + i] * bg[k]);
#pragma unroll
    for (int k = 0; k < tc; k += 4) {
        const int channel = c0 + k * groups + group * 4;
#pragma unroll
        for (int i = 0; i < tp; i += 4) {
            if (planar && (width & 3) == 0) {
#pragma unroll
                for (int m = 0; m < 4; m++)
                    if (channel + m < c && x0 + i < width)
                        splat::store4(image,
                                      ((size_t)image_ * c + channel + m) * area +
                                          (size_t)y * width + x0 + i,
                                      make_float4(acc[i][k + m], acc[i + 1][k + m],
                                                  acc[i + 2][k + m], acc[i + 3][k + m]),
                                      stored);
                continue;
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (x0 + i + e >= width) continue;
                const size_t p = (size_t)y * width + x0 + i + e;
                if (!planar && (c & 3) == 0) {
                    if (channel < c)
                        splat::store4(image, ((size_t)image_ * area + p) * c + channel,
                                      make_float4(acc[i + e][k], acc[i + e][k + 1],
                                                  acc[i + e][k + 2], acc[i + e][k + 3]),
                                      stored);
                    continue;
                }
#pragma unroll
                for (int m = 0; m < 4; m++)
                    if (channel + m < c)
                        splat::store(image,
                                     planar ? ((size_t)image_ * c + channel + m) * area + p
                                            : ((size_t)image_ * area + p) * c + channel + m,
                                     acc[i + e][k + m], stored);
            }
        }
    }
}

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(256, 4)
    splat2d_wide16_f32(void* image, float* z, float* left, float* coverage, int* last,
                       const float4* __restrict__ place, const float4* __restrict__ shape,
                       const int4* __restrict__ box, const float* __restrict__ feature,
                       const float* __restrict__ background, const unsigned* __restrict__ entries,
                       const int2* __restrict__ ranges, const unsigned* __restrict__ owner,
                       float eps, int mode, int corners, int planar, int stored, int width,
                       int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, owner, n, cp};
    draw<16>(image, z, left, coverage, last, s, background, eps, mode, corners, planar, stored,
             width, height, c);
}
EXPORT(splat2d_wide16_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    splat2d_wide32_f32(void* image, float* z, float* left, float* coverage, int* last,
                       const float4* __restrict__ place, const float4* __restrict__ shape,
                       const int4* __restrict__ box, const float* __restrict__ feature,
                       const float* __restrict__ background, const unsigned* __restrict__ entries,
                       const int2* __restrict__ ranges, const unsigned* __restrict__ owner,
                       float eps, int mode, int corners, int planar, int stored, int width,
                       int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, owner, n, cp};
    draw<32>(image, z, left, coverage, last, s, background, eps, mode, corners, planar, stored,
             width, height, c);
}
EXPORT(splat2d_wide32_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    splat2d_wide64_f32(void* image, float* z, float* left, float* coverage, int* last,
                       const float4* __restrict__ place, const float4* __restrict__ shape,
                       const int4* __restrict__ box, const float* __restrict__ feature,
                       const float* __restrict__ background, const unsigned* __restrict__ entries,
                       const int2* __restrict__ ranges, const unsigned* __restrict__ owner,
                       float eps, int mode, int corners, int planar, int stored, int width,
                       int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, owner, n, cp};
    draw<64>(image, z, left, coverage, last, s, background, eps, mode, corners, planar, stored,
             width, height, c);
}
EXPORT(splat2d_wide64_f32)
