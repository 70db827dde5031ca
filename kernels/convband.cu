// A convolution of some channels of maps into some channels of others, for networks that are only run.
#include "gemm_tile.h"
#include "rows.h"

inline namespace thisfile {

constexpr int CHAIN = 256;

// The sizes; c and o are the channels that are read and written, of pixels that are `from` and `to` values apart.
struct Strip {
    int c, from, h, w, o, to, kh, kw, oh, ow, strideY, strideX, dilation, top, left;
};

// A tile of N x N pixels and channels. shared has the tiles of the operands, and of 128 the sums of the chains too, for which a thread has no
// registers left.
template <int N>
__device__ __forceinline__ void strip(float* out, const float* x, const float* w, const float* bias,
                                      int m, const Strip& p, int clip, float* shared)
{
    typedef TileF32<N> Tile;
    constexpr bool KEPT = N > 64; // in shared memory
    constexpr int groups = Tile::depth / 4;
    const int depth = p.kh * p.kw * p.c, across = (p.o + N - 1) / N;
    const int row0 = static_cast<int>(blockIdx.x) / across * N,
              col0 = static_cast<int>(blockIdx.x) % across * N;
    const bool wide = p.c % 4 == 0;
    const bool wideX = wide && p.from % 4 == 0 && aligned16(x), wideW = wide && aligned16(w);
    const int mine = row0 + static_cast<int>(threadIdx.x) / groups,
              step = static_cast<int>(threadIdx.x) % groups * 4;
    const int column = col0 + static_cast<int>(threadIdx.x) / groups;
    const Digits pixel(mine < m ? mine : 0, p.oh, p.ow); // picture, y, x
    // A pixel past the last lies in no picture.
    const int y0 = mine < m ? pixel.b * p.strideY - p.top : -p.h - p.kh * p.dilation;
    const int x0 = pixel.c * p.strideX - p.left;
    const long long line = static_cast<long long>(p.w) * p.from;
    const float* const image = x + pixel.a * (p.h * line);
    const bool inside = column < p.o;
    const float* const kernel = w + (inside ? static_cast<long long>(column) * depth : 0);
    const auto fromMap = [&](float (&v)[4], int k) {
        Digits t(k, p.kw, p.c); // of the kernel's rows, columns, channels
        if (wideX) {            // one place's
            const int y = y0 + t.a * p.dilation, xx = x0 + t.b * p.dilation;
            const bool in = k < depth && y >= 0 && y < p.h && xx >= 0 && xx < p.w;
            const float4 u = in ? *reinterpret_cast<const float4*>(
                                      image + y * line + static_cast<long long>(xx) * p.from + t.c)
                                : make_float4(0, 0, 0, 0);
            v[0] = u.x, v[1] = u.y, v[2] = u.z, v[3] = u.w;
            return;
        }
#pragma unroll
        for (int e = 0; e < 4; e++, t.next()) {
            const int y = y0 + t.a * p.dilation, xx = x0 + t.b * p.dilation;
            v[e] = k + e < depth && y >= 0 && y < p.h && xx >= 0 && xx < p.w
                       ? image[y * line + static_cast<long long>(xx) * p.from + t.c]
                       : 0.f;
        }
    };
    const auto fromKernel = [&](float (&v)[4], int k) {
        if (wideW) {
            const float4 u = inside && k < depth ? *reinterpret_cast<const float4*>(kernel + k)
                                                 : make_float4(0, 0, 0, 0);
            v[0] = u.x, v[1] = u.y, v[2] = u.z, v[3] = u.w;
            return;
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            v[e] = inside && k + e < depth ? kernel[k + e] : 0.f;
    };
    // A float's chain is CHAIN long: the error does not grow with the depth.
    float* const kept = shared + Tile::shared + threadIdx.x; // of a thread, one in Tile::threads
    typename Tile::Sums total = {};
    int k0 = 0;
#pragma unroll 1
    do {
        typename Tile::Sums acc = {};
        const int steps = (min(depth - k0, CHAIN) + Tile::depth - 1) / Tile::depth;
        Tile::template walk<true, true>(
            acc, shared, steps,
            [&](float (&v)[4], int s) { fromMap(v, k0 + s * Tile::depth + step); },
            [&](float (&v)[4], int s) { fromKernel(v, k0 + s * Tile::depth + step); });
#pragma unroll
        for (int i = 0; i < Tile::per; i++)
#pragma unroll
            for (int j = 0; j < Tile::per; j++) {
                if constexpr (KEPT) {
                    float* const z = kept + (i * Tile::per + j) * Tile::threads;
                    *z = k0 > 0 ? *z + acc[i][j] : acc[i][j];
                } else {
                    total[i][j] += acc[i][j];
                }
            }
    } while ((k0 += CHAIN) < depth);
    if constexpr (KEPT) {
#pragma unroll
        for (int i = 0; i < Tile::per; i++)
#pragma unroll
            for (int j = 0; j < Tile::per; j++)
                total[i][j] = kept[(i * Tile::per + j) * Tile::threads];
    }
    const auto store = [&](int r, int c, float v) {
        const int at = row0 + r, k = col0 + c;
        if (at >= m || k >= p.o) return;
        if (bias != nullptr) v += bias[k];
        out[static_cast<long long>(at) * p.to + k] = clip != 0 && v < 0 ? 0.f : v; // a NaN stays
    };
    Tile::each(total, [&](int r, int c, float v, float next) {
        store(r, c, v);
        store(r, c + 1, next);
    });
}

} // namespace thisfile

// conv_band - a convolution of some channels of maps, with its bias and rectifier, into some channels of others.
//
//     out[i, y, x, o] = f(bias[o] + sum over a, b, c of x[i, y strideY - top + a dilation, x strideX - left + b dilation, c] w[o, a, b, c])
//
// kernels  conv_band_f32 conv_band_large_f32
// shapes   x: n maps of h x width pixels, c channels each, pixels `from` values apart. out: n maps of oh x ow
//          pixels, o channels each, `to` values apart; what lies between is left alone. w: [o, kh, kw, c].
//          bias: [o], or null. What lies outside a map is 0. n oh ow and c kh kw below 2^31.
// params   clip: f is max(0, v), else v.
// launch   conv_band_f32: grid tiles of 64 pixels x 64 channels, block 256, shared 17408.
//          conv_band_large_f32: of 128 x 128, shared 82432: 16896 and the sums, 65536.
// bound    compute: 2 n oh ow o c kh kw flops. Goal: 35 % of the FMA peak, of conv_band_large_f32 55 %, from 2^15 pixels,
//          64 channels on, where c, from and the operands' places are multiples of 16 bytes.
// expect   conv_band_f32: regs <= 84, shared <= 17408, occupancy >= 37, block 256, dynamic 17408, has FFMA LDG.E.128, not LDL STL
// expect   conv_band_large_f32: regs <= 128, shared <= 82432, occupancy >= 12, block 256, dynamic 82432, has FFMA LDG.E.128, not LDL STL
// repro    yes: every element is a sum of chains of 256 terms over (a, b, c), the same at any place of any batch.
// twin     ops.ConvBand; the error is at most (258 + ceil(c kh kw / 256)) u sum |x w|, u = 2^-24.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv_band_f32(float* out, const float* x, const float* w, const float* bias, int n, int c,
                  int from, int h, int width, int o, int to, int kh, int kw, int oh, int ow,
                  int stride_y, int stride_x, int dilation, int top, int left, int clip)
{
    DYNAMIC_SHARED(float, shared);
    strip<64>(out, x, w, bias, n * oh * ow,
              {c, from, h, width, o, to, kh, kw, oh, ow, stride_y, stride_x, dilation, top, left},
              clip, shared);
}
EXPORT(conv_band_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    conv_band_large_f32(float* out, const float* x, const float* w, const float* bias, int n, int c,
                        int from, int h, int width, int o, int to, int kh, int kw, int oh, int ow,
                        int stride_y, int stride_x, int dilation, int top, int left, int clip)
{
    DYNAMIC_SHARED(float, shared);
    strip<128>(out, x, w, bias, n * oh * ow,
               {c, from, h, width, o, to, kh, kw, oh, ow, stride_y, stride_x, dilation, top, left},
               clip, shared);
}
EXPORT(conv_band_large_f32)
