// splat2d_large - the gradients of additive and normalised blending, the Gaussians that splat2d_gather left over.
//
//     as splat2d_gather
//
// kernels  splat2d_large4_f32 splat2d_large8_f32 splat2d_large16_f32 splat2d_large32_f32 splat2d_large64_f32
// shapes   as splat2d_gather's.
// params   as splat2d_gather's.
// launch   grid (some per multiprocessor, ceil(cp / 64) for large64, else 1), 512 threads (large64 256), dynamic shared
//          4 cp + 4 warps (6 + CP) bytes. A block looks for large ones among every gridDim.x-th Gaussian, and takes them one
//          at a time: its warps have the rows of the box in turn, and their sums are added in the order of the warps.
// bound    f32: as splat2d_gather's.
// expect   regs <= 96, shared <= 3840, occupancy >= 25, dynamic 1472, has MUFU.EX2 LDG.E.128, not LDL STL
// expect   splat2d_large32_f32: regs <= 120, shared <= 4864, occupancy >= 25, dynamic 2560
// expect   splat2d_large64_f32: regs <= 200, shared <= 3840, occupancy >= 12, dynamic 2496
// repro    yes
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   Own derivation.
#include "splat2d_gather.h"

extern "C" __global__ void __launch_bounds__(512, 1)
    splat2d_large4_f32(float* sums, float* df, const float4* __restrict__ place,
                       const float4* __restrict__ shape, const int4* __restrict__ box,
                       const float* __restrict__ feature, const float* __restrict__ v,
                       const float* __restrict__ offset, int corners, int width, int height, int c,
                       int cp, int perImage, int most, int n)
{
    splat::gatherLarge<4, 16>(sums, df, place, shape, box, feature,
                              {v, offset, width, cp, {width, corners}, {height, corners}},
                              (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_large4_f32)

extern "C" __global__ void __launch_bounds__(512, 1)
    splat2d_large8_f32(float* sums, float* df, const float4* __restrict__ place,
                       const float4* __restrict__ shape, const int4* __restrict__ box,
                       const float* __restrict__ feature, const float* __restrict__ v,
                       const float* __restrict__ offset, int corners, int width, int height, int c,
                       int cp, int perImage, int most, int n)
{
    splat::gatherLarge<8, 16>(sums, df, place, shape, box, feature,
                              {v, offset, width, cp, {width, corners}, {height, corners}},
                              (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_large8_f32)

extern "C" __global__ void __launch_bounds__(512, 1)
    splat2d_large16_f32(float* sums, float* df, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height, int c,
                        int cp, int perImage, int most, int n)
{
    splat::gatherLarge<16, 16>(sums, df, place, shape, box, feature,
                               {v, offset, width, cp, {width, corners}, {height, corners}},
                               (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_large16_f32)

extern "C" __global__ void __launch_bounds__(512, 1)
    splat2d_large32_f32(float* sums, float* df, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height, int c,
                        int cp, int perImage, int most, int n)
{
    splat::gatherLarge<32, 16>(sums, df, place, shape, box, feature,
                               {v, offset, width, cp, {width, corners}, {height, corners}},
                               (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_large32_f32)

extern "C" __global__ void __launch_bounds__(256, 1)
    splat2d_large64_f32(float* sums, float* df, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height, int c,
                        int cp, int perImage, int most, int n)
{
    splat::gatherLarge<64, 8>(sums, df, place, shape, box, feature,
                              {v, offset, width, cp, {width, corners}, {height, corners}},
                              (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_large64_f32)
