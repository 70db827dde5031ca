// splat2d_gather - the gradients of additive and normalised blending, small Gaussians.
//
//     df = o sum_p e v, and the six sums of splat2d.h with t = e (v . f - offset), over the pixels of the box
//
// kernels  splat2d_gather4_f32 splat2d_gather8_f32 splat2d_gather16_f32 splat2d_gather32_f32 splat2d_gather64_f32
// shapes   sums: [n, 6]; df: [n, c]; those of Gaussians of more than 1024 pixels are splat2d_large's;
//          place, shape, box: n; feature: [n, cp]; v: [B, height, width, cp]
//          and offset: [B, height, width] or null, from splat2d_fold. n = B * perImage.
// params   cp <= 4, 8, 16, 32, or any with 64; Gaussians of more than `most` pixels are left to splat2d_cover.
// launch   grid (ceil(n / 4), ceil(cp / 64) for gather64, else 1), block 128, shared 16 cp bytes. A warp a Gaussian, lanes over
//          the pixels of its box; sums by shuffles. No atomics on floats: the order of each sum is fixed.
// bound    f32: (20 + 4 c) flops and an exp for each pixel of each box; v comes from L2. Goal: 40 %.
// expect   regs <= 80, shared <= 256, occupancy >= 37, dynamic 256, has MUFU.EX2 LDG.E.128, not LDL STL
// expect   splat2d_gather32_f32: regs <= 96, shared <= 512, occupancy >= 31, dynamic 512
// expect   splat2d_gather64_f32: regs <= 168, shared <= 1024, occupancy >= 18, dynamic 1024
// repro    yes
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   Own derivation; one thread per Gaussian over its pixels as in GPSToken's renderer.
#include "splat2d_gather.h"

extern "C" __global__ void __launch_bounds__(128)
    splat2d_gather4_f32(float* sums, float* df, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height, int c,
                        int cp, int perImage, int most, int n)
{
    splat::gather<4>(sums, df, place, shape, box, feature,
                     {v, offset, width, cp, {width, corners}, {height, corners}},
                     (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_gather4_f32)

extern "C" __global__ void __launch_bounds__(128)
    splat2d_gather8_f32(float* sums, float* df, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height, int c,
                        int cp, int perImage, int most, int n)
{
    splat::gather<8>(sums, df, place, shape, box, feature,
                     {v, offset, width, cp, {width, corners}, {height, corners}},
                     (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_gather8_f32)

extern "C" __global__ void __launch_bounds__(128)
    splat2d_gather16_f32(float* sums, float* df, const float4* __restrict__ place,
                         const float4* __restrict__ shape, const int4* __restrict__ box,
                         const float* __restrict__ feature, const float* __restrict__ v,
                         const float* __restrict__ offset, int corners, int width, int height,
                         int c, int cp, int perImage, int most, int n)
{
    splat::gather<16>(sums, df, place, shape, box, feature,
                      {v, offset, width, cp, {width, corners}, {height, corners}},
                      (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_gather16_f32)

extern "C" __global__ void __launch_bounds__(128)
    splat2d_gather32_f32(float* sums, float* df, const float4* __restrict__ place,
                         const float4* __restrict__ shape, const int4* __restrict__ box,
                         const float* __restrict__ feature, const float* __restrict__ v,
                         const float* __restrict__ offset, int corners, int width, int height,
                         int c, int cp, int perImage, int most, int n)
{
    splat::gather<32>(sums, df, place, shape, box, feature,
                      {v, offset, width, cp, {width, corners}, {height, corners}},
                      (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_gather32_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    splat2d_gather64_f32(float* sums, float* df, const float4* __restrict__ place,
                         const float4* __restrict__ shape, const int4* __restrict__ box,
                         const float* __restrict__ feature, const float* __restrict__ v,
                         const float* __restrict__ offset, int corners, int width, int height,
                         int c, int cp, int perImage, int most, int n)
{
    splat::gather<64>(sums, df, place, shape, box, feature,
                      {v, offset, width, cp, {width, corners}, {height, corners}},
                      (size_t)width * height, c, perImage, most, n);
}
EXPORT(splat2d_gather64_f32)
