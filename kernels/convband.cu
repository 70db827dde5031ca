// A convolution of some channels of maps into some channels of others, for networks that are only run.
#include "conv_tile.h"

inline namespace thisfile {

constexpr int CHAIN = 256;

// The sizes; c and o are the channels that are read and written, of pixels that are `from` and `to` values apart.
struct Strip {
    int c, from, h, w, o, to, kh, kw, oh, ow, strideY, strideX, dilation, top, left;
};

__device__ __forceinline__ void strip(float* out, const float* x, const float* w, const float* bias,
                                      int m, const Strip& p, int clip)
{
    const int depth = p.kh * p.kw * p.c;
    int row0, col0;
    tileOf(m, p.o, row0, col0);
    const bool wide = p.c % EACH == 0;
    const bool wideX = wide && p.from % EACH == 0 && aligned16(x), wideW = wide && aligned16(w);
    Products<float> sums;
    const int mine = row0 + sums.line(false), column = col0 + sums.line(false);
    const Digits pixel(mine < m ? mine : 0, p.oh, p.ow); // picture, y, x
    // A pixel past the last lies in no picture.
    const int y0 = mine < m ? pixel.b * p.strideY - p.top : -p.h - p.kh * p.dilation;
    const int x0 = pixel.c * p.strideX - p.left;
    const long long line = static_cast<long long>(p.w) * p.from;
    const float* const image = x + pixel.a * (p.h * line);
    const bool inside = column < p.o;
    const float* const kernel = w + (inside ? static_cast<long long>(column) * depth : 0);
    const auto fromMap = [&](float(&v)[EACH], int k, int end) {
        Digits t(k, p.kw, p.c); // of the kernel's rows, columns, channels
        if (wideX) { // one place's
            const int y = y0 + t.a * p.dilation, xx = x0 + t.b * p.dilation;
            if (k < end && y >= 0 && y < p.h && xx >= 0 && xx < p.w) {
                sums.quad(v, image + y * line + static_cast<long long>(xx) * p.from + t.c);
                return;
            }
#pragma unroll
            for (int e = 0; e < EACH; e++)
                v[e] = 0;
            return;
        }
#pragma unroll
        for (int e = 0; e < EACH; e++, t.next()) {
            const int y = y0 + t.a * p.dilation, xx = x0 + t.b * p.dilation;
            v[e] = k + e < end && y >= 0 && y < p.h && xx >= 0 && xx < p.w
                       ? image[y * line + static_cast<long long>(xx) * p.from + t.c]
                       : 0.f;
        }
    };
    const auto fromKernel = [&](float(&v)[EACH], int k, int end) {
        if (wideW && inside && k < end) {
            sums.quad(v, kernel + k);
            return;
        }
#pragma unroll
        for (int e = 0; e < EACH; e++)
            v[e] = inside && k + e < end ? kernel[k + e] : 0.f;
    };
    // A float's chain is CHAIN long: the error does not grow with the depth.
    float total[EACH][EACH] = {};
    int k = 0;
#pragma unroll 1
    do {
        sums.run(k, min(depth, k + CHAIN), false, false, false, fromMap, fromKernel);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                total[i][j] += sums.acc[i][j];
    } while ((k += CHAIN) < depth);
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++)
            sums.acc[i][j] = total[i][j];
    sums.each([&](int r, int c, float v) {
        const int at = row0 + r, k = col0 + c;
        if (at >= m || k >= p.o) return;
        if (bias != nullptr) v += bias[k];
        out[static_cast<long long>(at) * p.to + k] = clip != 0 && v < 0 ? 0.f : v; // a NaN stays
    });
}

} // namespace thisfile

// conv_band - a convolution of some channels of maps, with its bias and rectifier, into some channels of others.
//
//     out[i, y, x, o] = f(bias[o] + sum over a, b, c of x[i, y strideY - top + a dilation, x strideX - left + b dilation, c] w[o, a, b, c])
//
// kernels  conv_band_f32
// shapes   x: n maps of h x width pixels, c channels each, pixels `from` values apart. out: n maps of oh x ow
//          pixels, o channels each, `to` values apart; what lies between is left alone. w: [o, kh, kw, c].
//          bias: [o], or null. What lies outside a map is 0. n oh ow and c kh kw below 2^31.
// params   clip: f is max(0, v), else v.
// launch   grid tiles of 64 pixels x 64 channels, block 256, shared 0.
// bound    compute: 2 n oh ow o c kh kw flops. Goal: 35 % of the FMA peak from 2^15 pixels, 64 channels on, where
//          c, from and the operands' places are multiples of 16 bytes.
// expect   regs <= 84, shared <= 17408, occupancy >= 37, has FFMA LDG.E.128, not LDL STL
// repro    yes: every element is a sum of chains of 256 terms over (a, b, c), the same at any place of any batch.
// twin     ops.ConvBand; the error is at most (258 + ceil(c kh kw / 256)) u sum |x w|, u = 2^-24.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv_band_f32(float* out, const float* x, const float* w, const float* bias, int n, int c,
                  int from, int h, int width, int o, int to, int kh, int kw, int oh, int ow,
                  int stride_y, int stride_x, int dilation, int top, int left, int clip)
{
    strip(out, x, w, bias, n * oh * ow,
          {c, from, h, width, o, to, kh, kw, oh, ow, stride_y, stride_x, dilation, top, left}, clip);
}
EXPORT(conv_band_f32)
