// splat2d_fold - the gradient of an image as the Gaussians' gradients want it: channel-last, padded, for
// normalised blending divided.
//
//     additive, alpha  out = v
//     normalised       out = v / (Z + eps), offset = sum_c out_c F_c
//
// kernels  splat2d_fold_f32
// shapes   out: [B, height, width, cp], cp = c rounded up to 4; offset, z: [B, height, width] or null; v, image:
//          [B, height, width, c], planar [B, c, height, width], by stored 0 float32, 1 float16, 2 bfloat16; image
//          is read where z is given.
// params   where z < least the gradient is 0: those pixels are splat2d_farback's.
// launch   grid ceil(B height width / 256), block 256, shared 0. A thread a pixel.
// bound    memory: 4 (c + cp) bytes a pixel, normalised 4 (2 c + cp + 2). Goal: 50 % of peak bandwidth.
// expect   regs <= 48, shared <= 0, occupancy >= 62, not LDL STL
// repro    yes
// twin     ops.SplatBackward.
// source   Own derivation.
#include "splat2d_covariance.h"

extern "C" __global__ void __launch_bounds__(256)
    splat2d_fold_f32(float* __restrict__ out, float* __restrict__ offset,
                     const void* __restrict__ v, const float* __restrict__ z,
                     const void* __restrict__ image, float eps, float least, int planar, int stored,
                     int c, int cp, long long area, long long n)
{
    const long long p = (long long)blockIdx.x * 256 + threadIdx.x;
    if (p >= n) return;
    const long long b = p / area, first = planar ? b * area * c + (p - b * area) : p * c,
                    next = planar ? area : 1;
    const float over = !z ? 1.f : z[p] < least ? 0.f : 1.f / (z[p] + eps);
    float dot = 0;
    for (int k = 0; k < cp; k += 4) {
        float t[4];
#pragma unroll
        for (int m = 0; m < 4; m++) {
            t[m] = k + m < c ? splat::load(v, first + (k + m) * next, stored) * over : 0.f;
            if (z && k + m < c)
                dot = fmaf(t[m], splat::load(image, first + (k + m) * next, stored), dot);
        }
        *reinterpret_cast<float4*>(out + p * cp + k) = make_float4(t[0], t[1], t[2], t[3]);
    }
    if (z) offset[p] = dot;
}
EXPORT(splat2d_fold_f32)

// splat2d_narrow - values rounded to half precision, to nearest even.
//
// kernels  splat2d_narrow_f32
// shapes   out: n float16 or bfloat16, by stored 1 or 2; in: n float32.
// launch   grid ceil(n / 256), block 256, shared 0.
// bound    memory: 6 n bytes. Goal: 50 % of peak bandwidth.
// expect   regs <= 24, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatBackward.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_narrow_f32(void* __restrict__ out, const float* __restrict__ in, int stored,
                       long long n)
{
    const long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i < n) splat::store(out, i, in[i], stored);
}
EXPORT(splat2d_narrow_f32)

// splat2d_background - the gradient of the background, in parts that are added up in order.
//
//     parts[b][s][k] = sum of weight[p] v[p][k] over slice s of 4096 pixels of image b; then dbg[b][k] = scale sum_s parts
//
// kernels  splat2d_background_f32 splat2d_background_total_f32
// shapes   parts: [B, slices, cp], slices = ceil(area / 4096); dbg: [B, c]; v: [B, area, cp]; weight: [B, area] or null for
//          1.
// launch   grid (slices, B, ceil(cp / 256)) for the parts, (ceil(c / 256), B) for the total; block 256, shared 0. Threads
//          stand side by side over the features and then the pixels.
// bound    memory: 4 (cp + 1) bytes a pixel. Goal: 50 % of peak bandwidth.
// expect   regs <= 40, shared <= 1024, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatBackward.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_background_f32(float* __restrict__ parts, const float* __restrict__ v,
                           const float* __restrict__ weight, long long area, int cp)
{
    __shared__ float sums[256];
    const int k0 = blockIdx.z * 256, here = min(256, cp - k0), lanes = 256 / here;
    const int k = threadIdx.x % here, lane = threadIdx.x / here;
    const long long first = blockIdx.x * 4096ll, end = min(first + 4096, area),
                    base = blockIdx.y * area;
    float sum = 0;
    if (lane < lanes)
        for (long long p = first + lane; p < end; p += lanes)
            sum = fmaf(weight ? weight[base + p] : 1.f, v[(base + p) * cp + k0 + k], sum);
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0) return;
    for (int j = 1; j < lanes; j++)
        sum += sums[j * here + k];
    parts[((size_t)blockIdx.y * gridDim.x + blockIdx.x) * cp + k0 + k] = sum;
}
EXPORT(splat2d_background_f32)

extern "C" __global__ void __launch_bounds__(256)
    splat2d_background_total_f32(float* __restrict__ dbg, const float* __restrict__ parts,
                                 float scale, int slices, int c, int cp)
{
    const int k = blockIdx.x * 256 + threadIdx.x;
    if (k >= c) return;
    float sum = 0;
    for (int s = 0; s < slices; s++)
        sum += parts[((size_t)blockIdx.y * slices + s) * cp + k];
    dbg[(size_t)blockIdx.y * c + k] = scale * sum;
}
EXPORT(splat2d_background_total_f32)

// splat2d_chain - from the six sums of a Gaussian to the gradients of its mean, covariance and opacity.
//
//     with T = 2 p u, R = k T + 2 v dy and m = -o t: mean -sum m (T, R); a, b, c: -sum m (T^2/2, T R, R^2/2), then the
//     form's chain; opacity sum t
//
// kernels  splat2d_chain_f32
// shapes   dMean: [n, 2]; dCov: [n, 3]; dOpacity: n or null; sums: [n, 6]; place, shape, box: n; cov: [n, 3].
// params   form, corners, lowX, lowY, width, height as in splat2d_prepare_f32.
// launch   grid ceil(n / 128), block 128, shared 0.
// bound    memory: 128 n bytes; about 150 double flops a Gaussian.
// expect   regs <= 80, shared <= 0, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.SplatBackward; |gpu - float64| <= 1e-4 of the largest.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(128)
    splat2d_chain_f32(float* __restrict__ dMean, float* __restrict__ dCov,
                      float* __restrict__ dOpacity, const float* __restrict__ sums,
                      const float4* __restrict__ place, const float4* __restrict__ shape,
                      const int4* __restrict__ box, const float* __restrict__ cov, int form,
                      int corners, float lowX, float lowY, int width, int height, int n)
{
    const long long i = (long long)blockIdx.x * 128 + threadIdx.x;
    if (i >= n) return;
    if (box[i].x >= box[i].z) { // not drawn; its numbers may be anything
        dMean[2 * i] = dMean[2 * i + 1] = 0;
        dCov[3 * i] = dCov[3 * i + 1] = dCov[3 * i + 2] = 0;
        if (dOpacity) dOpacity[i] = 0;
        return;
    }
    const double st = sums[6 * i], su = sums[6 * i + 1], sy = sums[6 * i + 2];
    const double suu = sums[6 * i + 3], suy = sums[6 * i + 4], syy = sums[6 * i + 5];
    const double k = place[i].z, p = place[i].w, v = shape[i].x, o = shape[i].y;
    dMean[2 * i] = (float)(o * 2 * p * su);
    dMean[2 * i + 1] = (float)(o * (2 * p * k * su + 2 * v * sy));
    if (dOpacity) dOpacity[i] = (float)st;
    const double tt = -o * 4 * p * p * suu;
    const double tr = -o * (4 * p * p * k * suu + 4 * p * v * suy);
    const double rr = -o * (4 * p * p * k * k * suu + 8 * p * k * v * suy + 4 * v * v * syy);
    double ga = -tt / 2, gb = -tr, gc = -rr / 2;
    double c0 = cov[3 * i], c1 = cov[3 * i + 1], c2 = cov[3 * i + 2];
    const double stepX = corners ? 2.0 / (width - 1) : 1.0,
                 stepY = corners ? 2.0 / (height - 1) : 1.0;
    const double lowA = (double)lowX * stepX * stepX, lowC = (double)lowY * stepY * stepY;
    splat::Covariance s;
    splat::covariance(s, form, c0, c1, c2, stepX, stepY, lowA, lowC);
    const double minX = splat::sigmaLeast * stepX, minY = splat::sigmaLeast * stepY;
    double d0, d1, d2;
    if (form == splat::cholesky) {
        if (s.fixed0) ga = 0;
        if (s.fixed1) gc = 0;
        d0 = 2 * c0 * ga + c1 * gb;
        d1 = c0 * gb + 2 * c1 * gc;
        d2 = 2 * c2 * gc;
    } else if (form == splat::rs) {
        const double least = fmin(minX, minY);
        c0 = fmax(c0, least);
        c1 = fmax(c1, least);
        double sin, cos;
        splat::turn(c2, sin, cos);
        d0 = s.fixed0 ? 0 : 2 * c0 * (cos * cos * ga + sin * cos * gb + sin * sin * gc);
        d1 = s.fixed1 ? 0 : 2 * c1 * (sin * sin * ga - sin * cos * gb + cos * cos * gc);
        d2 = (c0 - c1) * (c0 + c1) * (2 * sin * cos * (gc - ga) + (cos * cos - sin * sin) * gb);
    } else {
        // a T + b R = dx and b T + c R = dy, so that no large terms cancel.
        c0 = fmax(c0, minX);
        c1 = fmax(c1, minY);
        const double tx = -o * 2 * p * (suu - k * suy), ry = -o * (2 * p * k * suy + 2 * v * syy);
        d0 = s.fixed0 ? 0 : -(tx - lowA * tt) / c0;
        d1 = s.fixed1 ? 0 : -(ry - lowC * rr) / c1;
        d2 = s.fixed2 ? 0 : -c0 * c1 * tr;
    }
    dCov[3 * i] = (float)d0;
    dCov[3 * i + 1] = (float)d1;
    dCov[3 * i + 2] = (float)d2;
}
EXPORT(splat2d_chain_f32)
