// splat2d - drawing two-dimensional Gaussians with up to eight features.
//
//     additive    F = bg + sum_i g_i f_i
//     normalised  F = (sum_i g_i f_i + eps bg) / (Z + eps), Z = sum_i g_i
//     with g_i = o_i exp(-q_i) where the Gaussian reaches (splat2d.h), in the order of i
//
// kernels  splat2d_sum4_f32 splat2d_sum8_f32
// shapes   image: B images of [height, width, c], or [c, height, width] when planar; z: [B, height, width] or
//          null; place, shape, box: [B, n]; feature: [B, n, cp], cp = 4 (sum4) or 8 (sum8), c <= cp; background:
//          [B, c] or null. entries, ranges: the Gaussians of each tile (splat2d_emit, splat2d_ranges), ranges
//          [B * tiles] pairs; or null where n <= 2048: then every block tests the boxes of its image itself.
// params   z is written and F divided where normalised is not 0. stored: the image is 0 float32, 1 float16, 2 bfloat16.
// launch   grid B * tiles, block 64, shared 0. A block draws a tile of 16 x 16 pixels, a thread 4 pixels of a
//          column, 4 rows apart; 64 Gaussians at a time in shared memory.
// bound    f32: (14 + 2 c) flops and an exp for each Gaussian and pixel of a tile that its box touches. Goal: 40 %.
// expect   regs <= 80, shared <= 8500, occupancy >= 37, has MUFU.EX2 LDS.128, not LDL STL
// repro    yes
// twin     ops.SplatForward; |gpu - float64| <= 1e-5 max(1, |F|).
// source   Zhang et al. 2024, GaussianImage, arXiv 2403.08551 (additive). Own derivation.
#include "splat2d_tile.h"

inline namespace thisfile {

// A tile's threads, who hold a column of pixels each, `apart` rows from one another, and take in that many Gaussians at a
// time.
template <int SIDE> struct Block {
    static constexpr int apart = 4, rows = SIDE / apart, threads = SIDE * apart,
                         warps = threads / 32, batch = threads;
};

// A Gaussian of the batch; the mask says which columns and rows of the tile its box has.
template <int C, int batch> struct Batch {
    float4 place[batch], shape[batch];
    float feature[batch][C];
};

// Loads entry i of the list into slot threadIdx.x.
template <int C, int SIDE>
__device__ __forceinline__ void load(Batch<C, Block<SIDE>::batch>& b, const splat::Scene& s,
                                     size_t g, int tx, int ty)
{
    const int t = threadIdx.x;
    b.place[t] = s.place[g];
    float4 shape = s.shape[g];
    shape.w = __uint_as_float(splat::tileMask<SIDE>(s.box[g], tx, ty));
    b.shape[t] = shape;
#pragma unroll
    for (int k = 0; k < C; k += 4)
        *reinterpret_cast<float4*>(&b.feature[t][k]) =
            *reinterpret_cast<const float4*>(s.feature + g * C + k);
}

template <int C, int SIDE> struct Tile {
    static constexpr int rows = Block<SIDE>::rows, apart = Block<SIDE>::apart;
    int image, tx, ty, column, row; // this thread's pixels: (tx + column, ty + row + apart r)
    float px, py[rows];

    __device__ __forceinline__ int place(int width, int height, int corners)
    {
        const int across = (width + SIDE - 1) / SIDE;
        const int tiles = across * ((height + SIDE - 1) / SIDE);
        image = blockIdx.x / tiles;
        const int t = blockIdx.x - image * tiles;
        tx = t % across * SIDE;
        ty = t / across * SIDE;
        column = threadIdx.x % SIDE;
        row = threadIdx.x / SIDE;
        px = splat::Axis(width, corners)(tx + column);
        const splat::Axis vertical(height, corners);
#pragma unroll
        for (int r = 0; r < rows; r++)
            py[r] = vertical(ty + row + apart * r);
        return blockIdx.x;
    }
    // Writes a pixel's C values; those beyond c are padding.
    __device__ __forceinline__ void store(void* image_, const float* v, int r, int width,
                                          int height, int c, int planar, int stored) const
    {
        const int x = tx + column, y = ty + row + apart * r;
        if (x >= width || y >= height) return;
        const size_t pixels = (size_t)width * height, p = (size_t)y * width + x;
        if (!planar && c == C) {
#pragma unroll
            for (int k = 0; k < C; k += 4)
                splat::store4(image_, ((size_t)image * pixels + p) * C + k,
                              make_float4(v[k], v[k + 1], v[k + 2], v[k + 3]), stored);
            return;
        }
#pragma unroll
        for (int k = 0; k < C; k++)
            if (k < c)
                splat::store(image_,
                             planar ? ((size_t)image * c + k) * pixels + p
                                    : ((size_t)image * pixels + p) * c + k,
                             v[k], stored);
    }
};

template <int C, int SIDE = splat::side>
__device__ __forceinline__ void sum(void* image, float* z, const splat::Scene& s,
                                    const float* background, float eps, int normalised, int corners,
                                    int planar, int stored, int width, int height, int c)
{
    constexpr int rows = Block<SIDE>::rows, apart = Block<SIDE>::apart, batch = Block<SIDE>::batch;
    constexpr int warps = Block<SIDE>::warps;
    __shared__ splat::Found<warps> found;
    __shared__ Batch<C, batch> b;
    Tile<C, SIDE> t;
    const int tile = t.place(width, height, corners);
    splat::TileList<warps, SIDE> list;
    list.find(found, s, t.image, tile, t.tx, t.ty, {width, corners}, {height, corners});
    __syncthreads();
    list.close();
    float acc[rows][C], weight[rows];
#pragma unroll
    for (int r = 0; r < rows; r++) {
        weight[r] = 0;
#pragma unroll
        for (int k = 0; k < C; k++)
            acc[r][k] = 0;
    }
    for (int first = 0; first < list.length; first += batch) {
        const int here = min(batch, list.length - first);
        if ((int)threadIdx.x < here)
            load<C, SIDE>(b, s, list.gaussian(list.value(first + threadIdx.x)), t.tx, t.ty);
        __syncthreads();
        for (int j = 0; j < here; j++) {
            const float4 place = b.place[j], shape = b.shape[j];
            const unsigned mask = __float_as_uint(shape.w) & (0xffff0000u | 1u << t.column);
            if (!(mask & 0xffffu)) continue;
            float f[C];
#pragma unroll
            for (int k = 0; k < C; k += 4) {
                const float4 v = *reinterpret_cast<const float4*>(&b.feature[j][k]);
                f[k] = v.x, f[k + 1] = v.y, f[k + 2] = v.z, f[k + 3] = v.w;
            }
#pragma unroll
            for (int r = 0; r < rows; r++) {
                float u;
                const float q =
                    splat::distance(place, shape.x, t.px - place.x, t.py[r] - place.y, u);
                if ((mask >> (16 + t.row + apart * r) & 1u) && q <= shape.z) {
                    const float g =
                        __fmul_rn(shape.y, __expf(-q)); // the same bits for tiles of any side
                    weight[r] += g;
#pragma unroll
                    for (int k = 0; k < C; k++)
                        acc[r][k] = fmaf(g, f[k], acc[r][k]);
                }
            }
        }
        __syncthreads();
    }
    float bg[C];
#pragma unroll
    for (int k = 0; k < C; k++)
        bg[k] = background && k < c ? background[(size_t)t.image * c + k] : 0.f;
#pragma unroll
    for (int r = 0; r < rows; r++) {
        if (normalised) {
            const float over = 1.f / (weight[r] + eps);
#pragma unroll
            for (int k = 0; k < C; k++)
                acc[r][k] = fmaf(eps, bg[k], acc[r][k]) * over;
            const int x = t.tx + t.column, y = t.ty + t.row + apart * r;
            if (x < width && y < height) z[((size_t)t.image * height + y) * width + x] = weight[r];
        } else {
#pragma unroll
            for (int k = 0; k < C; k++)
                acc[r][k] += bg[k];
        }
        t.store(image, acc[r], r, width, height, c, planar, stored);
    }
}

// Front to back. The light that is left at a pixel, and the place in the tile's list after its last Gaussian.
template <int C, int SIDE = splat::side>
__device__ __forceinline__ void alpha(void* image, float* left, float* coverage, int* last,
                                      const splat::Scene& s, const float* background, int corners,
                                      int planar, int stored, int width, int height, int c)
{
    constexpr int rows = Block<SIDE>::rows, apart = Block<SIDE>::apart, batch = Block<SIDE>::batch;
    constexpr int warps = Block<SIDE>::warps;
    __shared__ splat::Found<warps> found;
    __shared__ Batch<C, batch> b;
    Tile<C, SIDE> t;
    const int tile = t.place(width, height, corners);
    splat::TileList<warps, SIDE> list;
    list.find(found, s, t.image, tile, t.tx, t.ty, {width, corners}, {height, corners});
    __syncthreads();
    list.close();
    float acc[rows][C], light[rows];
    int final[rows];
    unsigned open = 0; // a bit for each of my pixels that may still change
#pragma unroll
    for (int r = 0; r < rows; r++) {
        light[r] = 1;
        final[r] = 0;
        if (t.tx + t.column < width && t.ty + t.row + apart * r < height) open |= 1u << r;
#pragma unroll
        for (int k = 0; k < C; k++)
            acc[r][k] = 0;
    }
    for (int first = 0; first < list.length; first += batch) {
        if (!__syncthreads_or(open != 0)) break; // no one looks at the batch before any more
        const int here = min(batch, list.length - first);
        if ((int)threadIdx.x < here)
            load<C, SIDE>(b, s, list.gaussian(list.value(first + threadIdx.x)), t.tx, t.ty);
        __syncthreads();
        for (int j = 0; j < here && open; j++) {
            const float4 place = b.place[j], shape = b.shape[j];
            const unsigned mask = __float_as_uint(shape.w) & (0xffff0000u | 1u << t.column);
            if (!(mask & 0xffffu)) continue;
#pragma unroll
            for (int r = 0; r < rows; r++) {
                float u;
                const float q =
                    splat::distance(place, shape.x, t.px - place.x, t.py[r] - place.y, u);
                const float a = fminf(shape.y * __expf(-q), splat::alphaCap);
                if (!(mask >> (16 + t.row + apart * r) & 1u) || !(q <= shape.z) ||
                    !(open >> r & 1u) || !(a >= splat::alphaLeast))
                    continue;
                const float then = light[r] * (1 - a);
                if (then <= splat::alphaEnd) {
                    open &= ~(1u << r);
                    continue;
                }
                const float w = a * light[r];
#pragma unroll
                for (int k = 0; k < C; k++)
                    acc[r][k] = fmaf(w, b.feature[j][k], acc[r][k]);
                light[r] = then;
                final[r] = first + j + 1;
            }
        }
    }
#pragma unroll
    for (int r = 0; r < rows; r++) {
        const int x = t.tx + t.column, y = t.ty + t.row + apart * r;
        if (x >= width || y >= height) continue;
        const size_t p = ((size_t)t.image * height + y) * width + x;
        left[p] = light[r];
        coverage[p] = 1 - light[r];
        last[p] = final[r];
#pragma unroll
        for (int k = 0; k < C; k++)
            if (background && k < c)
                acc[r][k] = fmaf(light[r], background[(size_t)t.image * c + k], acc[r][k]);
        t.store(image, acc[r], r, width, height, c, planar, stored);
    }
}

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(64, 16)
    splat2d_sum4_f32(void* image, float* z, const float4* __restrict__ place,
                     const float4* __restrict__ shape, const int4* __restrict__ box,
                     const float* __restrict__ feature, const float* __restrict__ background,
                     const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                     float eps, int normalised, int corners, int planar, int stored, int width,
                     int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, 4};
    sum<4>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_sum4_f32)

extern "C" __global__ void __launch_bounds__(64, 12)
    splat2d_sum8_f32(void* image, float* z, const float4* __restrict__ place,
                     const float4* __restrict__ shape, const int4* __restrict__ box,
                     const float* __restrict__ feature, const float* __restrict__ background,
                     const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                     float eps, int normalised, int corners, int planar, int stored, int width,
                     int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, 8};
    sum<8>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_sum8_f32)

// splat2d_small - drawing two-dimensional Gaussians of a few pixels, in tiles of 8 x 8.
//
//     as splat2d, and the same bits
//
// kernels  splat2d_small4_f32 splat2d_small8_f32
// shapes   as splat2d's, with tiles of 8 x 8 pixels.
// params   as splat2d's.
// launch   grid B * tiles, block 32, shared 0. A thread 2 pixels of a column, 4 rows apart; 32 Gaussians at a time.
// bound    f32: as splat2d's. A Gaussian of s x s pixels is evaluated at (s + 8)^2 of them, in large tiles at (s + 16)^2.
// expect   regs <= 72, shared <= 6500, occupancy >= 34, has MUFU.EX2 LDS.128, not LDL STL
// repro    yes
// twin     as splat2d's.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(32, 28)
    splat2d_small4_f32(void* image, float* z, const float4* __restrict__ place,
                       const float4* __restrict__ shape, const int4* __restrict__ box,
                       const float* __restrict__ feature, const float* __restrict__ background,
                       const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                       float eps, int normalised, int corners, int planar, int stored, int width,
                       int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, 4};
    sum<4, 8>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_small4_f32)

extern "C" __global__ void __launch_bounds__(32, 24)
    splat2d_small8_f32(void* image, float* z, const float4* __restrict__ place,
                       const float4* __restrict__ shape, const int4* __restrict__ box,
                       const float* __restrict__ feature, const float* __restrict__ background,
                       const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                       float eps, int normalised, int corners, int planar, int stored, int width,
                       int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, 8};
    sum<8, 8>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_small8_f32)

// splat2d_alpha - the same, front to back.
//
//     alpha_i = min(0.99, g_i), skipped below 1/255; T_1 = 1, T_(i+1) = T_i (1 - alpha_i), ended before T would
//     be <= 1e-4; F = sum_i alpha_i T_i f_i + T bg in the order of the tile's list
//
// kernels  splat2d_alpha4_f32 splat2d_alpha8_f32
// shapes   as splat2d's; left, coverage: [B, height, width], T at the end and 1 - T; last: [B, height, width] int32,
//          1 + the place in its tile's list of the last Gaussian drawn, 0 for none. entries' values are looked up in
//          owner, the Gaussian of each.
// launch   grid B * tiles, block 64, shared 0, as splat2d's. A block ends when all its pixels have.
// bound    f32: as splat2d's.
// expect   regs <= 96, shared <= 8500, occupancy >= 31, has MUFU.EX2 LDS.128, not LDL STL
// repro    yes
// twin     as splat2d's.
// source   Kerbl et al. 2023, arXiv 2308.04079; constants of gsplat. Own derivation.
extern "C" __global__ void __launch_bounds__(64, 14)
    splat2d_alpha4_f32(void* image, float* left, float* coverage, int* last,
                       const float4* __restrict__ place, const float4* __restrict__ shape,
                       const int4* __restrict__ box, const float* __restrict__ feature,
                       const float* __restrict__ background, const unsigned* __restrict__ entries,
                       const int2* __restrict__ ranges, const unsigned* __restrict__ owner,
                       int corners, int planar, int stored, int width, int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, owner, n, 4};
    alpha<4>(image, left, coverage, last, s, background, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_alpha4_f32)

extern "C" __global__ void __launch_bounds__(64, 10)
    splat2d_alpha8_f32(void* image, float* left, float* coverage, int* last,
                       const float4* __restrict__ place, const float4* __restrict__ shape,
                       const int4* __restrict__ box, const float* __restrict__ feature,
                       const float* __restrict__ background, const unsigned* __restrict__ entries,
                       const int2* __restrict__ ranges, const unsigned* __restrict__ owner,
                       int corners, int planar, int stored, int width, int height, int c, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, owner, n, 8};
    alpha<8>(image, left, coverage, last, s, background, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_alpha8_f32)
