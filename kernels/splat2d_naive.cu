// splat2d_naive - a yardstick: additive blending by a loop over all Gaussians at every pixel, and its gradient by a loop over
// all pixels for every Gaussian.
//
//     image += g f, with sigma_x, sigma_y, rho on the corners grid, where |dx| <= reach sigma_x and |dy| <= reach sigma_y
//
// kernels  splat2d_naive_f32 splat2d_naive_backward_f32
// shapes   image: B images of [height, width, c], zero before; dMean: [B, n, 2]; dCov: [B, n, 3]; df: [B, n, c], zero before;
//          mean: [B, n, 2]; cov: [B, n, 3]; feature: [B, n, c]; v, the gradient of the image; all float32.
// params   pixels = B height width, all = B n; height, width >= 2.
// launch   grid ceil(pixels / 256) or ceil(all / 128), block 256 (naive) or 128 (naive_backward), shared 0. A thread a pixel or
//          a Gaussian, who adds up in global memory.
// bound    memory: it is what others are held to, as plain loops have it.
// expect   block 256, regs <= 64, shared <= 0, occupancy >= 50, has MUFU.EX2, not LDL STL
// expect   splat2d_naive_backward_f32: block 128, regs <= 96, shared <= 0, occupancy >= 31, has MUFU.EX2
// repro    yes
// twin     none: it measures how fast one has to be. ops/splat_naive_test.go holds it to the formula.
// source   The schedule of the renderer of Zhang et al. 2025, GPSToken, arXiv 2509.01109. Own derivation.
#include "splat2d.h"

extern "C" __global__ void __launch_bounds__(256)
    splat2d_naive_f32(float* image, const float* __restrict__ mean, const float* __restrict__ cov,
                      const float* __restrict__ feature, float reach, int width, int height, int c,
                      int n, int pixels)
{
    const int p = blockIdx.x * 256 + threadIdx.x;
    if (p >= pixels) return;
    const int area = width * height, b = p / area, at = p - b * area;
    const float x = splat::Axis(width, 1)(at % width), y = splat::Axis(height, 1)(at / width);
    for (int i = b * n; i < (b + 1) * n; i++) {
        const float sx = cov[3 * i], sy = cov[3 * i + 1], rho = cov[3 * i + 2];
        const float dx = x - mean[2 * i], dy = y - mean[2 * i + 1];
        if (fabsf(dx) > reach * sx || fabsf(dy) > reach * sy) continue;
        const float u = dx / sx, w = dy / sy;
        const float g = __expf(-0.5f / (1 - rho * rho) * (u * u - 2 * rho * u * w + w * w));
        for (int k = 0; k < c; k++)
            image[(size_t)p * c + k] += g * feature[(size_t)i * c + k];
    }
}
EXPORT(splat2d_naive_f32)

extern "C" __global__ void __launch_bounds__(128)
    splat2d_naive_backward_f32(float* dMean, float* dCov, float* df, const float* __restrict__ mean,
                               const float* __restrict__ cov, const float* __restrict__ feature,
                               const float* __restrict__ v, float reach, int width, int height,
                               int c, int n, int all)
{
    const int i = blockIdx.x * 128 + threadIdx.x;
    if (i >= all) return;
    const int area = width * height;
    const float sx = cov[3 * i], sy = cov[3 * i + 1], rho = cov[3 * i + 2],
                over = 1 / (1 - rho * rho);
    const splat::Axis across(width, 1), down(height, 1);
    float mx = 0, my = 0, gx = 0, gy = 0, gr = 0;
    for (int at = 0; at < area; at++) {
        const float dx = across(at % width) - mean[2 * i], dy = down(at / width) - mean[2 * i + 1];
        if (fabsf(dx) > reach * sx || fabsf(dy) > reach * sy) continue;
        const float u = dx / sx, w = dy / sy, q = u * u - 2 * rho * u * w + w * w,
                    g = __expf(-0.5f * over * q);
        const size_t p = (size_t)(i / n) * area + at;
        float h = 0;
        for (int k = 0; k < c; k++) {
            h += v[p * c + k] * feature[(size_t)i * c + k];
            df[(size_t)i * c + k] += g * v[p * c + k];
        }
        h *= g * over;
        mx += h * (u - rho * w) / sx;
        my += h * (w - rho * u) / sy;
        gx += h * u * (u - rho * w) / sx;
        gy += h * w * (w - rho * u) / sy;
        gr += h * (u * w - rho * over * q);
    }
    dMean[2 * i] = mx;
    dMean[2 * i + 1] = my;
    dCov[3 * i] = gx;
    dCov[3 * i + 1] = gy;
    dCov[3 * i + 2] = gr;
}
EXPORT(splat2d_naive_backward_f32)
