// Convolutions of pictures of 16-bit channels on tensor cores, as products of matrices that are never
// written: a block's tile takes its rows from the pixels where they lie.
#include "conv16.h"

inline namespace thisfile {

// The place in the sum over rows, columns and channels of a kernel, channels fastest.
struct Step16 {
    int channel, ty, tx;
    __device__ __forceinline__ void forward(const Conv16& p, int by)
    {
        channel += by;
        while (channel >= p.c) {
            channel -= p.c;
            if (++tx == p.kw) {
                tx = 0;
                ty++;
            }
        }
    }
};

// The copies of R rows from row0 on, step after step. Eight values of a thread are of one pixel where
// c is a multiple of 8.
template <class T, int R, int THREADS> struct Pixels {
    static constexpr int STEP = THREADS / 4, EACH = R / STEP;
    const T* x;
    int pixel[EACH], place[EACH];
    Step16 next;

    __device__ __forceinline__ Pixels(const Conv16& p, const T* from, int row0)
    {
        x = from + p.at;
        next = {0, 0, 0};
        next.forward(p, threadIdx.x % 4 * 8);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const Corner corner(p, row0 + threadIdx.x / 4 + STEP * i);
            pixel[i] = corner.pixel;
            place[i] = corner.place;
        }
    }

    __device__ __forceinline__ void fetch(const Conv16& p, T* to)
    {
        const int dy = next.ty * p.dilation, dx = next.tx * p.dilation, by = dy * p.w + dx;
        const bool real = next.ty < p.kh;
        const int line = threadIdx.x / 4, chunk = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int y = (place[i] >> 16) + dy, xx = static_cast<short>(place[i]) + dx;
            const bool in = real && static_cast<unsigned>(y) < static_cast<unsigned>(p.h) &&
                            static_cast<unsigned>(xx) < static_cast<unsigned>(p.w);
            const T* const from =
                x + static_cast<long long>(pixel[i] + by) * p.pitch + next.channel;
            copyAsync16(to + tileAt<32>(line + STEP * i, chunk), in ? from : x, in);
        }
        next.forward(p, 32);
    }

    // The same for any number of channels, value by value: a warp has a row, a thread a step.
    static __device__ __forceinline__ void fetchEach(const Conv16& p, const T* x, int row0, int k,
                                                     T* to)
    {
        const int step = threadIdx.x % 32;
        const unsigned at = k + step, tap = at / static_cast<unsigned>(p.c);
        const int channel = static_cast<int>(at - tap * p.c), ty = static_cast<int>(tap) / p.kw;
        const int dy = ty * p.dilation, dx = (static_cast<int>(tap) - ty * p.kw) * p.dilation;
        const int by = dy * p.w + dx;
#pragma unroll 1
        for (int r = threadIdx.x / 32; r < R; r += THREADS / 32) {
            const Corner corner(p, row0 + r);
            const bool in = ty < p.kh && corner.inside(p, dy, dx);
            to[tileAt<32>(r, step / 8) + step % 8] =
                in ? x[static_cast<long long>(corner.pixel + by) * p.pitch + p.at + channel]
                   : fromFloat<T>(0.f);
        }
    }
};

// Where the result goes: out is of type T, or, with floats, of float.
struct Out16 {
    void* out;
    const float* bias;
    int pitch, at, add, floats, function;
    float a, b;
};

template <class M, class T, class O>
__device__ __forceinline__ void storePixels(const typename M::Sums& acc, float* shared,
                                            const Conv16& p, const Out16& to, int row0, int col0)
{
    const Finish16<O> z = {static_cast<O*>(to.out) + to.at,
                           nullptr,
                           nullptr,
                           to.bias,
                           1,
                           to.a,
                           to.b,
                           p.rows(),
                           p.o,
                           to.pitch,
                           to.add,
                           to.function};
    store16<M>(acc, shared, z, row0, col0);
}

// The block's tile.
template <class M, class T>
__device__ __forceinline__ void forward16(T* ring, const T* x, const T* w, const Conv16& p,
                                          const Out16& to)
{
    const int across = (p.o + M::cols - 1) / M::cols, k = p.depth();
    const int steps = (k + M::depth - 1) / M::depth;
    typename M::Sums acc = {};
    {
        const int row0 = blockIdx.x / across * M::rows, col0 = blockIdx.x % across * M::cols;
        const size_t lie = reinterpret_cast<size_t>(x + p.at) | reinterpret_cast<size_t>(w);
        if (p.c % 8 == 0 && p.pitch % 8 == 0 && lie % 16 == 0) {
            Pixels<T, M::rows, M::threads> pixels(p, x, row0);
            M::template run<true, true>(
                acc, ring, steps, [&](T* tile, int) { pixels.fetch(p, tile); },
                [&](T* tile, int s) {
                    fetchMatrix<T, M::cols, true, M::threads>(tile, w, k, true, col0, p.o,
                                                              s * M::depth, k);
                });
        } else {
            M::template run<true, true>(
                acc, ring, steps,
                [&](T* tile, int s) {
                    Pixels<T, M::rows, M::threads>::fetchEach(p, x, row0, s * M::depth, tile);
                },
                [&](T* tile, int s) {
                    fetchMatrix<T, M::cols, true, M::threads>(tile, w, k, false, col0, p.o,
                                                              s * M::depth, k);
                });
        }
    }
    // Found anew, so that the products have the registers.
    const int block = opaque(blockIdx.x), row0 = block / across * M::rows;
    const int col0 = block % across * M::cols;
    float* const shared = reinterpret_cast<float*>(ring);
    if (to.floats)
        storePixels<M, T, float>(acc, shared, p, to, row0, col0);
    else
        storePixels<M, T, T>(acc, shared, p, to, row0, col0);
}

// Element `at` of kernels in the order of the sum, forward or, turned, of the gradient by the pictures.
template <class T>
__device__ __forceinline__ void pack16(T* out, const float* w, int o, int c, int taps, int turned)
{
    const long long at = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    const int last = turned ? o : c, each = last * taps;
    if (at >= static_cast<long long>(o) * c * taps) return;
    const long long row = at / each;
    const int in = static_cast<int>(at - row * each), tap = in / last, channel = in - tap * last;
    out[at] =
        fromFloat<T>(turned ? w[(channel * static_cast<long long>(c) + row) * taps + taps - 1 - tap]
                            : w[(row * c + channel) * taps + tap]);
}

} // namespace thisfile

// conv16 - convolutions of pictures of 16-bit channels on tensor cores, as part of a concatenation.
//
//     out[i, y, x, outAt + o] = f(bias[o] + sum over a, b, c of
//         x[i, y strideH - top + a dilation, x strideW - left + b dilation, inAt + c] w[o, a, b, c])
//
// Products are exact, sums and the function float; the result is rounded once, to nearest even.
//
// kernels  conv16_large_bf16 conv16_large_f16 conv16_bf16 conv16_f16 conv16_narrow_bf16 conv16_narrow_f16
//          conv16_small_bf16 conv16_small_f16
// shapes   x: [n, h, width, inPitch], of which c channels from inAt on count. w: [o, kh, kw, c]. bias: [o]
//          float, or null. out: [n, oh, ow, outPitch], of which o channels from outAt on are written, of
//          x's type, or, with floats, of float. What lies outside a picture is 0. n h width, n oh ow and
//          kh kw c below 2^31; h, width, padding and the reach of a kernel below 2^14.
// params   function: of cpu.Func, with fa and fb. add: old values are added to the sum.
// launch   conv16_bf16, conv16_f16: grid tiles of 128 pixels x 128 channels, block 128, shared 65536.
//          conv16_large: of 256 x 128, block 256, shared 98304. conv16_narrow: of 128 x 64, shared 49152.
//          conv16_small: of 64 x 64, shared 32768.
// bound    compute: 2 n oh ow o kh kw c flops on tensor cores. Goal: of conv16_large 60 % of an A100's peak, 50 %
//          of an H100's, whose mma.sync reaches about 62 %, from m = n = k = 2048 on; of conv16 five sixths of
//          that, of conv16_narrow two thirds, of conv16_small half.
// expect   conv16_large_bf16 conv16_large_f16: regs <= 255, occupancy >= 12, block 256, dynamic 98304
// expect   conv16_bf16 conv16_f16: regs <= 255, occupancy >= 12, block 128, dynamic 65536
// expect   conv16_narrow_bf16 conv16_narrow_f16: regs <= 168, occupancy >= 18, block 128, dynamic 49152
// expect   conv16_small_bf16 conv16_small_f16: regs <= 128, occupancy >= 25, block 128, dynamic 32768
// expect   has HMMA LDSM.16.M88.4 LDGSTS.E.BYPASS.LTC128B.128, not LDL STL
// repro    yes: every element is one chain over k, 16 steps at a time, the same at any batch and in all tiles.
// twin     ops.Conv16, ops.Conv2D; the sum's error is at most (k + 2) 2^-23 sum |a b|, since tensor cores cut off what
//          they do not keep, and half a unit of the type is added.
// source   own derivation.
// note     With c, inPitch and inAt multiples of 8 copies are 16 bytes wide, else single values. Shared memory
//          is the limit beside the tensor cores: see mma_tile.h.
extern "C" __global__ void __launch_bounds__(256, 1)
    conv16_large_bf16(void* out, const bf16* x, const bf16* w, const float* bias, int n, int h,
                      int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh,
                      int ow, int strideH, int strideW, int dilation, int top, int left,
                      int outPitch, int outAt, int add, int floats, int function, double fa,
                      double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    forward16<MmaLarge<bf16>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_large_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    conv16_bf16(void* out, const bf16* x, const bf16* w, const float* bias, int n, int h, int width,
                int c, int inPitch, int inAt, int o, int kh, int kw, int oh, int ow, int strideH,
                int strideW, int dilation, int top, int left, int outPitch, int outAt, int add,
                int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    forward16<MmaMiddle<bf16>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_bf16)

extern "C" __global__ void __launch_bounds__(256, 1)
    conv16_large_f16(void* out, const half* x, const half* w, const float* bias, int n, int h,
                     int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh, int ow,
                     int strideH, int strideW, int dilation, int top, int left, int outPitch,
                     int outAt, int add, int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(half, ring);
    forward16<MmaLarge<half>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_large_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    conv16_f16(void* out, const half* x, const half* w, const float* bias, int n, int h, int width,
               int c, int inPitch, int inAt, int o, int kh, int kw, int oh, int ow, int strideH,
               int strideW, int dilation, int top, int left, int outPitch, int outAt, int add,
               int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(half, ring);
    forward16<MmaMiddle<half>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    conv16_narrow_bf16(void* out, const bf16* x, const bf16* w, const float* bias, int n, int h,
                       int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh,
                       int ow, int strideH, int strideW, int dilation, int top, int left,
                       int outPitch, int outAt, int add, int floats, int function, double fa,
                       double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    forward16<MmaNarrow<bf16>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_narrow_bf16)

extern "C" __global__ void __launch_bounds__(128, 3)
    conv16_narrow_f16(void* out, const half* x, const half* w, const float* bias, int n, int h,
                      int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh,
                      int ow, int strideH, int strideW, int dilation, int top, int left,
                      int outPitch, int outAt, int add, int floats, int function, double fa,
                      double fb)
{
    DYNAMIC_SHARED(half, ring);
    forward16<MmaNarrow<half>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_narrow_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    conv16_small_bf16(void* out, const bf16* x, const bf16* w, const float* bias, int n, int h,
                      int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh,
                      int ow, int strideH, int strideW, int dilation, int top, int left,
                      int outPitch, int outAt, int add, int floats, int function, double fa,
                      double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    forward16<MmaSmall<bf16>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_small_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    conv16_small_f16(void* out, const half* x, const half* w, const float* bias, int n, int h,
                     int width, int c, int inPitch, int inAt, int o, int kh, int kw, int oh, int ow,
                     int strideH, int strideW, int dilation, int top, int left, int outPitch,
                     int outAt, int add, int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(half, ring);
    forward16<MmaSmall<half>>(
        ring, x, w,
        {n, h, width, c, inPitch, inAt, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left},
        {out, bias, outPitch, outAt, add, floats, function, static_cast<float>(fa),
         static_cast<float>(fb)});
}
EXPORT(conv16_small_f16)

// conv16_pack - the kernels of a convolution as conv16 has them.
//
//     out[o, t, c] = w[o, c, t], or, turned, out[c, t, o] = w[o, c, taps - 1 - t]
//
// to nearest even; what is too large becomes infinite, NaN stays one. conv16 of a gradient and turned kernels is
// the gradient by the pictures, where steps are 1.
//
// kernels  conv16_pack_bf16
// shapes   w: [o, c, taps] float, out: [o, taps, c] or [c, taps, o]; c taps and o taps below 2^31.
// launch   grid ceil(o c taps / 256), block 256, shared 0.
// bound    memory: 6 o c taps bytes. Goal: none; a kernel is small beside its pictures.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Conv2D, ops.Conv2DBackwardData
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    conv16_pack_bf16(bf16* out, const float* w, int o, int c, int taps, int turned)
{
    pack16(out, w, o, c, taps, turned);
}
EXPORT(conv16_pack_bf16)
