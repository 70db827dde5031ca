// splat2d_cover - the gradients of additive and normalised blending, Gaussians that cover much of an image.
//
//     df = E^T V and h = V f^T for the pixels of a row of tiles and 16 Gaussians; the rest as splat2d_gather
//
// kernels  splat2d_cover16_f32 splat2d_cover32_f32 splat2d_cover64_f32
// shapes   parts: [B rows, perImage, 6 + cp], rows = ceil(height / 16): a row of tiles' share of each covering Gaussian's
//          sums; the others' are not written. place, shape, box: [B perImage]; feature: [B perImage, cp]; v: [B, height,
//          width, cp] and offset: [B, height, width] or null, from splat2d_fold. perImage <= 2048.
// params   cp <= 16, 32, 64; a Gaussian covers whose box has more than `most` pixels.
// launch   grid (B rows, ceil(perImage / 16)), block 256 (cover16), 128 (cover32) or 64 (cover64), shared 0. A warp takes 32
//          pixels at a time: it evaluates 16 Gaussians at them, sums their moments by shuffles, and multiplies.
// bound    f32: (20 + 4 c) flops and an exp for each pixel and 16 Gaussians together; v is read once for 16. Goal: 40 %.
// expect   block 256, regs <= 128, shared <= 49152, occupancy >= 25, has MUFU.EX2 LDS.128 LDG.E.128, not LDL STL
// expect   splat2d_cover32_f32: block 128, regs <= 168, shared <= 40000, occupancy >= 18
// expect   splat2d_cover64_f32: block 64, regs <= 168, shared <= 40000, occupancy >= 9
// repro    yes
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   Own derivation.
#include "splat2d_gather.h"
#include "splat2d_cover.h"

extern "C" __global__ void __launch_bounds__(256, 2)
    splat2d_cover16_f32(float* __restrict__ parts, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height,
                        int cp, int perImage, int most)
{
    splat::cover<16>(parts, place, shape, box, feature,
                     {v, offset, width, cp, {width, corners}, {height, corners}}, height, cp,
                     perImage, most);
}
EXPORT(splat2d_cover16_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    splat2d_cover32_f32(float* __restrict__ parts, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height,
                        int cp, int perImage, int most)
{
    splat::cover<32>(parts, place, shape, box, feature,
                     {v, offset, width, cp, {width, corners}, {height, corners}}, height, cp,
                     perImage, most);
}
EXPORT(splat2d_cover32_f32)

extern "C" __global__ void __launch_bounds__(64, 4)
    splat2d_cover64_f32(float* __restrict__ parts, const float4* __restrict__ place,
                        const float4* __restrict__ shape, const int4* __restrict__ box,
                        const float* __restrict__ feature, const float* __restrict__ v,
                        const float* __restrict__ offset, int corners, int width, int height,
                        int cp, int perImage, int most)
{
    splat::cover<64>(parts, place, shape, box, feature,
                     {v, offset, width, cp, {width, corners}, {height, corners}}, height, cp,
                     perImage, most);
}
EXPORT(splat2d_cover64_f32)

// splat2d_covertotal - the sums of covering Gaussians over the rows of tiles, in order.
//
//     sums[g] = sum over the rows of tiles of g's box of parts[row][g][0..6), df[g] = o sum of parts[row][g][6..)
//
// kernels  splat2d_covertotal_f32
// shapes   sums: [n, 6]; df: [n, c]; parts as splat2d_cover left it; shape, box: n = B * perImage.
// params   most as splat2d_cover's.
// launch   grid ceil(n / 8), block 256, shared 0. A warp a Gaussian, lanes over the values.
// bound    memory: 4 (6 + cp) bytes for each covering Gaussian and row. Goal: 50 % of peak bandwidth.
// expect   regs <= 48, shared <= 0, occupancy >= 62, not LDL STL
// repro    yes
// twin     as splat2d_cover's.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_covertotal_f32(float* __restrict__ sums, float* __restrict__ df,
                           const float* __restrict__ parts, const float4* __restrict__ shape,
                           const int4* __restrict__ box, int height, int c, int cp, int perImage,
                           int most, int n)
{
    const long long g = (long long)blockIdx.x * 8 + (threadIdx.x >> 5);
    if (g >= n) return;
    const int4 b = box[g];
    if (!splat::covers(b, most)) return;
    const int rows = (height + splat::side - 1) / splat::side, width = splat::moments + cp;
    const long long image = g / perImage, i = g - image * perImage;
    const float o = shape[g].y;
    for (int j = threadIdx.x & 31; j < width; j += 32) {
        float sum = 0;
        for (int row = b.y / splat::side; row <= (b.w - 1) / splat::side; row++)
            sum += parts[((image * rows + row) * perImage + i) * width + j];
        splat::write(sums, df, g, j, sum, o, 0, c);
    }
}
EXPORT(splat2d_covertotal_f32)
