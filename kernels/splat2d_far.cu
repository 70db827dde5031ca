// splat2d_far - the pixels of normalised blending where all weights are too small for float.
//
//     F = sum_i w_i f_i / sum_i w_i, w_i = o_i exp(near - q_i), near the least q_i of those that reach with o_i != 0; the
//     background where none does
//
// kernels  splat2d_far_f32
// shapes   image, place, shape, box, feature, background, entries, ranges as splat2d's; z: [B, height, width] as splat2d left
//          it with eps = 0: pixels of z < farthest are drawn, the others left alone. far: [B, height, width] float2 (near,
//          sum w), written at those; none: [B, height, width], 1 where no Gaussian reaches, else 0.
// params   corners, planar, stored as splat2d's.
// launch   grid B * tiles, block 256, shared 0. A block ends at once where its tile has no such pixel. Eight features at a
//          time, each with a walk of the list.
// bound    memory: 8 bytes a pixel where there are none of them.
// expect   regs <= 80, shared <= 4200, occupancy >= 37, has MUFU.EX2, not LDL STL
// repro    yes
// twin     ops.SplatForward with ExactFar; |gpu - float64| <= 1e-4 max(1, |F|).
// source   Own derivation; the offset as in a softmax.
#include "splat2d_far.h"

extern "C" __global__ void __launch_bounds__(256, 3)
    splat2d_far_f32(void* image, float2* __restrict__ far, float* __restrict__ none,
                    const float* __restrict__ z, const float4* __restrict__ place,
                    const float4* __restrict__ shape, const int4* __restrict__ box,
                    const float* __restrict__ feature, const float* __restrict__ background,
                    const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                    int corners, int planar, int stored, int width, int height, int c, int cp,
                    int n)
{
    constexpr int warps = 8;
    __shared__ splat::Found<warps> found;
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, cp};
    const int across = (width + splat::side - 1) / splat::side;
    const int tiles = across * ((height + splat::side - 1) / splat::side);
    const int b = blockIdx.x / tiles, tile = blockIdx.x - b * tiles;
    const int tx = tile % across * splat::side, ty = tile / across * splat::side;
    const int column = threadIdx.x & 15, row = threadIdx.x >> 4, x = tx + column, y = ty + row;
    const size_t area = (size_t)width * height, p = b * area + (size_t)y * width + x;
    const bool inside = x < width && y < height, mine = inside && z[p] < splat::farthest;
    if (inside) none[p] = 0;
    if (!__syncthreads_or(mine)) return;
    const splat::Axis horizontal(width, corners), vertical(height, corners);
    splat::TileList<warps> list;
    list.find(found, s, b, blockIdx.x, tx, ty, horizontal, vertical);
    __syncthreads();
    list.close();
    if (!mine) return;
    const float px = horizontal(x), py = vertical(y);
    float near = INFINITY, sum = 0;
    for (int i = 0; i < list.length; i++) {
        const size_t g = list.value(i);
        const float q = splat::reached(place[g], shape[g], box[g], x, y, px, py);
        if (q < near && shape[g].y != 0) near = q;
    }
#pragma unroll 1
    for (int k = 0; k < c; k += 8) {
        float acc[8] = {};
        sum = 0;
        if (near < INFINITY)
            for (int i = 0; i < list.length; i++) {
                const size_t g = list.value(i);
                const float w = splat::weight(
                    shape[g].y, splat::reached(place[g], shape[g], box[g], x, y, px, py), near);
                sum += w;
#pragma unroll
                for (int m = 0; m < 8; m++)
                    if (k + m < c) acc[m] = fmaf(w, feature[g * cp + k + m], acc[m]);
            }
        const float over = __fdividef(1.f, sum);
#pragma unroll
        for (int m = 0; m < 8; m++)
            if (k + m < c) {
                const float bg = background ? background[(size_t)b * c + k + m] : 0.f;
                splat::store(image, splat::element(b, p - b * area, k + m, c, area, planar),
                             near < INFINITY ? acc[m] * over : bg, stored);
            }
    }
    far[p] = make_float2(near, sum);
    if (near == INFINITY) none[p] = 1;
}
EXPORT(splat2d_far_f32)

// splat2d_farback - what these pixels add to the gradients of the Gaussians.
//
//     as splat2d_gather, with e = exp(near - q) and v over sum w
//
// kernels  splat2d_farback_f32
// shapes   sums: [n, 6] and df: [n, c] are added to; far, z as splat2d_far's; place, shape, box, feature: n; v and image as
//          splat2d_fold's. n = B * perImage.
// params   as splat2d_far's.
// launch   grid ceil(n / 4), block 128, shared 0. A warp a Gaussian, lanes over the pixels of its box, once to look for such
//          pixels and only where there are again, for each feature once more.
// bound    memory: 4 bytes for each pixel of each box where there are none of them.
// expect   regs <= 80, shared <= 0, occupancy >= 37, has MUFU.EX2, not LDL STL
// repro    yes
// twin     ops.SplatBackward with ExactFar; |gpu - float64| <= 1e-3 of the largest.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(128)
    splat2d_farback_f32(float* sums, float* df, const float2* __restrict__ far,
                        const float* __restrict__ z, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const void* __restrict__ v,
                        const void* __restrict__ image, int corners, int planar, int stored,
                        int width, int height, int c, int cp, int perImage, int n)
{
    const long long g = (long long)blockIdx.x * 4 + (threadIdx.x >> 5);
    if (g >= n) return;
    const int4 b = box[g];
    const int lane = threadIdx.x & 31, columns = b.z - b.x;
    const long long pixels = (long long)columns * (b.w - b.y), picture = g / perImage;
    const size_t area = (size_t)width * height, base = picture * area;
    const float4 at = place[g], s = shape[g];
    const splat::Axis across(width, corners), down(height, corners);
    float m[splat::moments] = {};
    bool some = false;
    for (long long i = lane; i < pixels; i += 32) {
        const int y = b.y + (int)(i / columns), x = b.x + (int)(i % columns);
        const size_t p = (size_t)y * width + x;
        if (!(z[base + p] < splat::farthest)) continue;
        float u, dy = down(y) - at.y;
        const float q = splat::distance(at, s.x, across(x) - at.x, dy, u);
        const float2 f = far[base + p];
        if (!(q <= s.z) || f.x == INFINITY) continue;
        some = true;
        float h = 0;
        for (int k = 0; k < c; k++) {
            const size_t e = splat::element(picture, p, k, c, area, planar);
            h = fmaf(splat::load(v, e, stored), feature[g * cp + k] - splat::load(image, e, stored),
                     h);
        }
        const float t = __fdividef(splat::weight(1, q, f.x) * h, f.y);
        m[0] += t;
        m[1] += t * u;
        m[2] += t * dy;
        m[3] += t * u * u;
        m[4] += t * u * dy;
        m[5] += t * dy * dy;
    }
    if (!__any_sync(~0u, some)) return;
#pragma unroll
    for (int j = 0; j < splat::moments; j++) {
        const float sum = warpSum(m[j]);
        if (lane == 0) sums[g * splat::moments + j] += sum;
    }
    for (int k = 0; k < c; k++) {
        float sum = 0;
        for (long long i = lane; i < pixels; i += 32) {
            const int y = b.y + (int)(i / columns), x = b.x + (int)(i % columns);
            const size_t p = (size_t)y * width + x;
            if (!(z[base + p] < splat::farthest)) continue;
            const float2 f = far[base + p];
            const float q = splat::reached(at, s, b, x, y, across(x), down(y));
            if (q == INFINITY || f.x == INFINITY) continue;
            sum += __fdividef(
                splat::weight(s.y, q, f.x) *
                    splat::load(v, splat::element(picture, p, k, c, area, planar), stored),
                f.y);
        }
        sum = warpSum(sum);
        if (lane == 0) df[g * c + k] += sum;
    }
}
EXPORT(splat2d_farback_f32)
