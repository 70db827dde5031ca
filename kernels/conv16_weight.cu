// The gradient of conv16 by its kernels on tensor cores: a product of the result's gradient, turned, and
// the patches of pictures, of which a block takes its columns from the pixels where they lie.
#include "conv16.h"

inline namespace thisfile {

// The copies of 32 rows of patches, pixels of the result, by R columns from col0 on, which are elements
// of kernels with their channels fastest. A thread's eight columns are of one element.
template <class T, int R, int THREADS> struct Patches {
    static constexpr int CHUNKS = R / 8, STEP = THREADS / CHUNKS;
    const T* x;
    int dy, dx, by; // from a pixel's corner
    bool real;

    __device__ __forceinline__ Patches(const Conv16& p, const T* from, int col0)
    {
        const int column = col0 + threadIdx.x % CHUNKS * 8;
        const unsigned tap = static_cast<unsigned>(column) / static_cast<unsigned>(p.c);
        const int ty = static_cast<int>(tap / static_cast<unsigned>(p.kw));
        dy = ty * p.dilation;
        dx = (static_cast<int>(tap) - ty * p.kw) * p.dilation;
        by = dy * p.w + dx;
        real = ty < p.kh;
        x = from + p.at + (column - static_cast<int>(tap) * p.c);
    }

    __device__ __forceinline__ void fetch(const Conv16& p, T* to, int first, int end) const
    {
        const int line = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
#pragma unroll
        for (int i = 0; i < 32; i += STEP) {
            const int row = first + line + i;
            const Corner corner(p, row);
            const bool in = real && row < end && corner.inside(p, dy, dx);
            copyAsync16(to + tileAt<R>(line + i, chunk),
                        in ? x + static_cast<long long>(corner.pixel + by) * p.pitch : x, in);
        }
    }
};

// The block's tile of a piece.
template <class M, class T>
__device__ __forceinline__ void weight16(T* ring, float* part, const T* dy, const T* x,
                                         const Conv16& p, int depth)
{
    const int n = p.depth(), across = (n + M::cols - 1) / M::cols;
    const int tiles = (p.o + M::rows - 1) / M::rows * across;
    typename M::Sums acc = {};
    {
        const int t = blockIdx.x % tiles, row0 = t / across * M::rows, col0 = t % across * M::cols;
        const int first = blockIdx.x / tiles * depth, end = min(p.rows(), first + depth);
        const T* const from = dy + static_cast<long long>(first) * p.o;
        const Patches<T, M::cols, M::threads> patches(p, x, col0);
        M::template run<false, false>(
            acc, ring, (end - first + M::depth - 1) / M::depth,
            [&](T* tile, int s) {
                fetchMatrix<T, M::rows, false, M::threads>(tile, from, p.o, true, row0, p.o,
                                                           s * M::depth, end - first);
            },
            [&](T* tile, int s) { patches.fetch(p, tile, first + s * M::depth, end); });
    }
    // Found anew, so that the products have the registers.
    const int block = opaque(blockIdx.x), t = block % tiles;
    const Finish16<float> z = {part + static_cast<long long>(block / tiles) * p.o * n,
                               nullptr,
                               nullptr,
                               nullptr,
                               1,
                               0,
                               0,
                               p.o,
                               n,
                               n,
                               0,
                               IDENTITY};
    store16<M>(acc, reinterpret_cast<float*>(ring), z, t / across * M::rows, t % across * M::cols);
}

} // namespace thisfile

// conv16_weight - pieces of the gradient of conv16 by its kernels, on tensor cores.
//
//     part[p, o, a, b, c] = sum over the pixels i, y, x of piece p of
//         dy[i, y, x, o] x[i, y strideH - top + a dilation, x strideW - left + b dilation, c]
//
// kernels  conv16_weight_bf16 conv16_weight_small_bf16
// shapes   dy: [n, oh, ow, o], x: [n, h, width, c], part: [pieces, o, kh, kw, c] float. o and c multiples of 8,
//          dy and x on 16 bytes. n h width, n oh ow and kh kw c below 2^31; h, width, padding and the reach of a
//          kernel below 2^14.
// params   the sum is cut into pieces of depth pixels, a multiple of 32; conv16_weight_sum adds them up.
// launch   conv16_weight_bf16: grid pieces * tiles of 128 channels x 128 elements of a kernel, block 128, shared
//          65536. conv16_weight_small_bf16: tiles of 64 x 64, shared 32768.
// bound    compute: 2 n oh ow o kh kw c flops on tensor cores. Goal: 35 % of an H100's peak from 2^15 pixels and 256
//          channels on, of conv16_weight_small_bf16 20 %.
// expect   conv16_weight_bf16: regs <= 255, occupancy >= 12, block 128, dynamic 65536
// expect   conv16_weight_small_bf16: regs <= 128, occupancy >= 25, block 128, dynamic 32768
// expect   has HMMA LDSM.16.MT88.4 LDGSTS.E.BYPASS.LTC128B.128, not LDL STL
// repro    yes: every element is one chain over the pixels of a piece, 16 at a time.
// twin     ops.Conv2DBackwardWeight
// source   own derivation.
// note     A thread finds the place of each pixel anew for every step, by two divisions.
extern "C" __global__ void __launch_bounds__(128, 2)
    conv16_weight_bf16(float* part, const bf16* dy, const bf16* x, int n, int h, int width, int c,
                       int o, int kh, int kw, int oh, int ow, int strideH, int strideW,
                       int dilation, int top, int left, int depth)
{
    DYNAMIC_SHARED(bf16, ring);
    weight16<MmaMiddle<bf16>>(
        ring, part, dy, x,
        {n, h, width, c, c, 0, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left}, depth);
}
EXPORT(conv16_weight_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    conv16_weight_small_bf16(float* part, const bf16* dy, const bf16* x, int n, int h, int width,
                             int c, int o, int kh, int kw, int oh, int ow, int strideH, int strideW,
                             int dilation, int top, int left, int depth)
{
    DYNAMIC_SHARED(bf16, ring);
    weight16<MmaSmall<bf16>>(
        ring, part, dy, x,
        {n, h, width, c, c, 0, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left}, depth);
}
EXPORT(conv16_weight_small_bf16)

// conv16_weight_sum - the gradient of a convolution by its kernels from its pieces, added to what is there.
//
//     dw[o, c, t] += part[0, o, t, c] + part[1, o, t, c] + ...
//
// kernels  conv16_weight_sum_f32
// shapes   part: [pieces, o, taps, c], dw: [o, c, taps]; taps c below 2^31.
// launch   grid ceil(o taps c / 256), block 256, shared 0.
// bound    memory: 4 pieces + 8 bytes an element. Goal: none; kernels are small beside pictures.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes: pieces are added in order.
// twin     ops.Conv2DBackwardWeight
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    conv16_weight_sum_f32(float* dw, const float* part, int o, int c, int taps, int pieces)
{
    const long long at = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    const int each = c * taps;
    const long long size = static_cast<long long>(o) * each;
    if (at >= size) return;
    float v = 0;
#pragma unroll 4
    for (int p = 0; p < pieces; p++)
        v += part[p * size + at];
    const long long row = at / each;
    const int in = static_cast<int>(at - row * each), tap = in / c;
    dw[row * each + (in - tap * c) * static_cast<long long>(taps) + tap] += v;
}
EXPORT(conv16_weight_sum_f32)
