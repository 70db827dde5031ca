// splat2d_alphafast - the gradient of front-to-back blending, summed by atomics.
//
//     from the last Gaussian of a tile's list to the first, with R = T v . bg - T dCoverage at the end:
//     T /= 1 - alpha; h = T v . f - R / (1 - alpha), 0 where alpha is capped; R += alpha T v . f; df = sum alpha T v
//
// kernels  splat2d_alphafast4_f32 splat2d_alphafast8_f32 splat2d_alphafast16_f32 splat2d_alphafast32_f32 splat2d_alphafast64_f32
// shapes   sums: [n, 6] and df: [n, c], zero before.
//          place, shape, box: n; feature: [n, cp]; entries, ranges: the sorted list; owner: the Gaussian of an entry's value; v:
//          [B, height, width, cp] (splat2d_fold); background: [B, c] or null; dCoverage: [B, height, width] or null; left, last:
//          as splat2d_alpha left them.
// params   cp <= 4, 8, 16, 32, or any with 64.
// launch   grid (B * tiles, ceil(cp / 64) for alphafast64, else 1), block 256, shared 0. A thread a pixel; sums over a warp by
//          shuffles, over the block in shared memory.
// bound    f32: (40 + 4 c) flops and an exp for each Gaussian and pixel of a tile that its box touches. Goal: 25 %.
// expect   regs <= 80, shared <= 17000, occupancy >= 37, has MUFU.EX2, not LDL STL
// expect   splat2d_alphafast32_f32: regs <= 96, shared <= 12000, occupancy >= 25
// expect   splat2d_alphafast64_f32: regs <= 192, shared <= 22000, occupancy >= 12
// repro    no: float atomics
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   Kerbl et al. 2023, arXiv 2308.04079. Own derivation.
#include "splat2d_alphaback.h"

extern "C" __global__ void __launch_bounds__(256)
    splat2d_alphafast4_f32(float* sums, float* df, const float4* __restrict__ place,
                           const float4* __restrict__ shape, const int4* __restrict__ box,
                           const float* __restrict__ feature, const unsigned* __restrict__ entries,
                           const unsigned* __restrict__ owner, const int2* __restrict__ ranges,
                           const float* __restrict__ v, const float* __restrict__ background,
                           const float* __restrict__ dCoverage, const float* __restrict__ left,
                           const int* __restrict__ last, int corners, int width, int height, int c,
                           int cp)
{
    const splat::Behind s = {
        place,     shape, box,  feature,          entries,           owner, ranges, v, background,
        dCoverage, left,  last, {width, corners}, {height, corners}, width, height, c, cp};
    splat::alphaBack<4, true>(nullptr, sums, df, s, splat::moments + cp);
}
EXPORT(splat2d_alphafast4_f32)

extern "C" __global__ void __launch_bounds__(256)
    splat2d_alphafast8_f32(float* sums, float* df, const float4* __restrict__ place,
                           const float4* __restrict__ shape, const int4* __restrict__ box,
                           const float* __restrict__ feature, const unsigned* __restrict__ entries,
                           const unsigned* __restrict__ owner, const int2* __restrict__ ranges,
                           const float* __restrict__ v, const float* __restrict__ background,
                           const float* __restrict__ dCoverage, const float* __restrict__ left,
                           const int* __restrict__ last, int corners, int width, int height, int c,
                           int cp)
{
    const splat::Behind s = {
        place,     shape, box,  feature,          entries,           owner, ranges, v, background,
        dCoverage, left,  last, {width, corners}, {height, corners}, width, height, c, cp};
    splat::alphaBack<8, true>(nullptr, sums, df, s, splat::moments + cp);
}
EXPORT(splat2d_alphafast8_f32)

extern "C" __global__ void __launch_bounds__(256)
    splat2d_alphafast16_f32(float* sums, float* df, const float4* __restrict__ place,
                            const float4* __restrict__ shape, const int4* __restrict__ box,
                            const float* __restrict__ feature, const unsigned* __restrict__ entries,
                            const unsigned* __restrict__ owner, const int2* __restrict__ ranges,
                            const float* __restrict__ v, const float* __restrict__ background,
                            const float* __restrict__ dCoverage, const float* __restrict__ left,
                            const int* __restrict__ last, int corners, int width, int height, int c,
                            int cp)
{
    const splat::Behind s = {
        place,     shape, box,  feature,          entries,           owner, ranges, v, background,
        dCoverage, left,  last, {width, corners}, {height, corners}, width, height, c, cp};
    splat::alphaBack<16, true>(nullptr, sums, df, s, splat::moments + cp);
}
EXPORT(splat2d_alphafast16_f32)

extern "C" __global__ void __launch_bounds__(256)
    splat2d_alphafast32_f32(float* sums, float* df, const float4* __restrict__ place,
                            const float4* __restrict__ shape, const int4* __restrict__ box,
                            const float* __restrict__ feature, const unsigned* __restrict__ entries,
                            const unsigned* __restrict__ owner, const int2* __restrict__ ranges,
                            const float* __restrict__ v, const float* __restrict__ background,
                            const float* __restrict__ dCoverage, const float* __restrict__ left,
                            const int* __restrict__ last, int corners, int width, int height, int c,
                            int cp)
{
    const splat::Behind s = {
        place,     shape, box,  feature,          entries,           owner, ranges, v, background,
        dCoverage, left,  last, {width, corners}, {height, corners}, width, height, c, cp};
    splat::alphaBack<32, true>(nullptr, sums, df, s, splat::moments + cp);
}
EXPORT(splat2d_alphafast32_f32)

extern "C" __global__ void __launch_bounds__(256)
    splat2d_alphafast64_f32(float* sums, float* df, const float4* __restrict__ place,
                            const float4* __restrict__ shape, const int4* __restrict__ box,
                            const float* __restrict__ feature, const unsigned* __restrict__ entries,
                            const unsigned* __restrict__ owner, const int2* __restrict__ ranges,
                            const float* __restrict__ v, const float* __restrict__ background,
                            const float* __restrict__ dCoverage, const float* __restrict__ left,
                            const int* __restrict__ last, int corners, int width, int height, int c,
                            int cp)
{
    const splat::Behind s = {
        place,     shape, box,  feature,          entries,           owner, ranges, v, background,
        dCoverage, left,  last, {width, corners}, {height, corners}, width, height, c, cp};
    splat::alphaBack<64, true>(nullptr, sums, df, s, splat::moments + cp);
}
EXPORT(splat2d_alphafast64_f32)
