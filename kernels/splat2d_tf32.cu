// splat2d_tf32 - drawing Gaussians with more than eight features on tensor cores.
//
//     F[256 pixels x C] = G[256 x n] f[n x C], with G as splat2d's g, both rounded to tf32 and summed in float
//
// kernels  splat2d_tensor16_tf32 splat2d_tensor32_tf32 splat2d_tensor64_tf32
// shapes   as splat2d_wide's.
// params   normalised, stored as splat2d's.
// launch   grid (B * tiles, ceil(c / CP)), block 256, shared 0; CP = 16, 32 or 64 features a block. A warp has two rows of 16
//          pixels; its lanes evaluate just the elements of G that their fragments hold, so that G is in no memory.
// bound    f32: 14 flops and an exp for each Gaussian and pixel of a tile that its box touches; 2 c on the tensor cores beside.
//          Goal: 50 %.
// expect   regs <= 80, shared <= 12000, occupancy >= 37, HMMA >= 4, has MUFU.EX2 LDS.128, not LDL STL
// expect   splat2d_tensor32_tf32: regs <= 112, shared <= 12000, occupancy >= 25, HMMA >= 8, has MUFU.EX2 LDS.128
// expect   splat2d_tensor64_tf32: regs <= 128, shared <= 16000, occupancy >= 25, HMMA >= 16, has MUFU.EX2 LDS.128
// repro    yes
// twin     ops.SplatForward with TF32; |gpu - float64| <= 2^-10 sum_i g_i |f_i| + 1e-5 max(1, |F|).
// source   Own derivation.
#include "device_tf32.h"
#include "splat2d_tile.h"

inline namespace thisfile {

constexpr int threads = 256, warps = threads / 32, batch = 32;

__device__ __forceinline__ void store2(void* p, size_t i, float a, float b, int stored)
{
    if (stored == splat::storedF32)
        *reinterpret_cast<float2*>(static_cast<float*>(p) + i) = make_float2(a, b);
    else
        *reinterpret_cast<unsigned*>(static_cast<unsigned short*>(p) + i) =
            stored == splat::storedF16 ? pack2<half>(a, b) : pack2<bf16>(a, b);
}

template <int CP>
__device__ __forceinline__ void
draw(void* image, float* z, const splat::Scene& s, const float* background, float eps,
     int normalised, int corners, int planar, int stored, int width, int height, int c)
{
    constexpr int
        blocks = CP / 8,
        row = CP + 8; // of 8 features; words of a row, so that 4 x 8 lanes have banks of their own
    __shared__ splat::Found<warps> found;
    __shared__ float4 place[batch], shape[batch];
    __shared__ __align__(16) unsigned feature[batch][row];
    const int across = (width + splat::side - 1) / splat::side;
    const int tiles = across * ((height + splat::side - 1) / splat::side);
    const int image_ = blockIdx.x / tiles, tile = blockIdx.x - image_ * tiles;
    const int tx = tile % across * splat::side, ty = tile / across * splat::side;
    const int lane = threadIdx.x & 31, top = (threadIdx.x >> 5) * 2, g = lane >> 2, t = lane & 3;
    const int c0 = blockIdx.y * CP;
    const splat::Axis horizontal(width, corners), vertical(height, corners);
    const float px[2] = {horizontal(tx + g), horizontal(tx + g + 8)};
    const float py[2] = {vertical(ty + top), vertical(ty + top + 1)};
    splat::TileList<warps> list;
    list.find(found, s, image_, blockIdx.x, tx, ty, horizontal, vertical);
    __syncthreads();
    list.close();
    float acc[2][blocks][4] = {}, weight[2][2] = {};
    for (int first = 0; first < list.length; first += batch) {
        const int here = min(batch, list.length - first);
        for (int j = threadIdx.x; j < batch * (CP / 4); j += threads) {
            const int i = j / (CP / 4), k = j % (CP / 4) * 4;
            float4 v = make_float4(0, 0, 0, 0);
            if (i < here && c0 + k < s.cp) {
                const size_t id = list.gaussian(list.value(first + i));
                v = *reinterpret_cast<const float4*>(s.feature + id * s.cp + c0 + k);
            }
            *reinterpret_cast<uint4*>(&feature[i][k]) =
                make_uint4(toTf32(v.x), toTf32(v.y), toTf32(v.z), toTf32(v.w));
        }
        if (threadIdx.x < batch) {
            float4 p = make_float4(0, 0, 0, 1), v = make_float4(1, 0, -1, 0); // draws nothing
            if ((int)threadIdx.x < here) {
                const size_t id = list.gaussian(list.value(first + threadIdx.x));
                p = s.place[id];
                v = s.shape[id];
                v.w = __uint_as_float(splat::tileMask(s.box[id], tx, ty));
            }
            place[threadIdx.x] = p;
            shape[threadIdx.x] = v;
        }
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < here; k += 8) {
            unsigned a[2][4];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float4 p = place[k + t + 4 * h], v = shape[k + t + 4 * h];
                const unsigned mask = __float_as_uint(v.w);
#pragma unroll
                for (int m = 0; m < 2; m++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float u, value = 0;
                        const float q = splat::distance(p, v.x, px[e] - p.x, py[m] - p.y, u);
                        if (splat::inMask(mask, g + 8 * e, top + m) && q <= v.z)
                            value = v.y * __expf(-q);
                        weight[m][e] += value;
                        a[m][2 * h + e] = toTf32(value);
                    }
            }
#pragma unroll
            for (int n = 0; n < blocks; n++) {
                const unsigned b[2] = {feature[k + t][8 * n + g], feature[k + t + 4][8 * n + g]};
                mma1688tf32(acc[0][n], a[0], b);
                mma1688tf32(acc[1][n], a[1], b);
            }
        }
        __syncthreads();
    }
    const size_t area = (size_t)width * height;
    float scale[2][2], rest[2][2];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float w = weight[m][e];
            w += __shfl_xor_sync(~0u, w, 1);
            w += __shfl_xor_sync(~0u, w, 2);
            scale[m][e] = normalised ? 1.f / (w + eps) : 1.f;
            rest[m][e] = normalised ? eps * scale[m][e] : 1.f;
            const int x = tx + g + 8 * e, y = ty + top + m;
            if (normalised && t == 0 && blockIdx.y == 0 && x < width && y < height)
                z[(size_t)image_ * area + (size_t)y * width + x] = w;
        }
#pragma unroll
    for (int n = 0; n < blocks; n++) {
        const int channel = c0 + 8 * n + 2 * t;
        if (channel >= c) continue;
        const bool second = channel + 1 < c;
        float bg[2] = {0, 0};
        if (background) {
            bg[0] = background[(size_t)image_ * c + channel];
            if (second) bg[1] = background[(size_t)image_ * c + channel + 1];
        }
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int x = tx + g + 8 * e, y = ty + top + m;
                if (x >= width || y >= height) continue;
                const float f0 = fmaf(acc[m][n][2 * e], scale[m][e], rest[m][e] * bg[0]);
                const float f1 = fmaf(acc[m][n][2 * e + 1], scale[m][e], rest[m][e] * bg[1]);
                const size_t p = (size_t)y * width + x;
                size_t at = ((size_t)image_ * area + p) * c + channel, next = 1;
                if (planar) {
                    at = ((size_t)image_ * c + channel) * area + p;
                    next = area;
                } else if ((c & 1) == 0) {
                    store2(image, at, f0, f1, stored);
                    continue;
                }
                splat::store(image, at, f0, stored);
                if (second) splat::store(image, at + next, f1, stored);
            }
    }
}

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(256, 3)
    splat2d_tensor16_tf32(void* image, float* z, const float4* __restrict__ place,
                          const float4* __restrict__ shape, const int4* __restrict__ box,
                          const float* __restrict__ feature, const float* __restrict__ background,
                          const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                          float eps, int normalised, int corners, int planar, int stored, int width,
                          int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, cp};
    draw<16>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_tensor16_tf32)

extern "C" __global__ void __launch_bounds__(256, 2)
    splat2d_tensor32_tf32(void* image, float* z, const float4* __restrict__ place,
                          const float4* __restrict__ shape, const int4* __restrict__ box,
                          const float* __restrict__ feature, const float* __restrict__ background,
                          const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                          float eps, int normalised, int corners, int planar, int stored, int width,
                          int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, cp};
    draw<32>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_tensor32_tf32)

extern "C" __global__ void __launch_bounds__(256, 2)
    splat2d_tensor64_tf32(void* image, float* z, const float4* __restrict__ place,
                          const float4* __restrict__ shape, const int4* __restrict__ box,
                          const float* __restrict__ feature, const float* __restrict__ background,
                          const unsigned* __restrict__ entries, const int2* __restrict__ ranges,
                          float eps, int normalised, int corners, int planar, int stored, int width,
                          int height, int c, int cp, int n)
{
    const splat::Scene s = {place, shape, box, feature, entries, ranges, nullptr, n, cp};
    draw<64>(image, z, s, background, eps, normalised, corners, planar, stored, width, height, c);
}
EXPORT(splat2d_tensor64_tf32)
