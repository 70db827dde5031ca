// Convolutions of pictures and their gradients, as products of matrices that are never written: a
// block's tile takes its operands from pictures and kernels where they lie.
#include "rows.h"

inline namespace thisfile {

constexpr int EDGE = 64, DEPTH = 16, STRIDE = EDGE + 4, EACH = 4;

__device__ __forceinline__ float fusedAdd(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fusedAdd(double a, double b, double c) { return fma(a, b, c); }

// The sizes of a convolution; c and o are a group's channels.
struct Conv {
    int n, c, h, w, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last;
};

// Pictures of `channels` in all, of which those of a group begin at `from`.
struct Picture {
    int h, w;
    long long image, row, column, channel; // steps
    __device__ __forceinline__ Picture(int height, int width, int channels, bool last)
        : h(height), w(width)
    {
        const long long area = static_cast<long long>(height) * width;
        image = area * channels;
        column = last ? channels : 1;
        row = column * width;
        channel = last ? 1 : area;
    }
};

// A channel and an element of a kernel, in the order in which sums go over them: channels fastest
// where they are the last axis, so that reads of pictures run along memory, else the kernels'.
struct Tap {
    Digits d;
    bool last;
    __device__ __forceinline__ Tap(const Conv& p, int at, int channels)
        : d(at, p.last ? p.kw : p.kh, p.last ? channels : p.kw), last(p.last != 0)
    {
    }
    __device__ __forceinline__ int channel() const { return last ? d.c : d.a; }
    __device__ __forceinline__ int y() const { return last ? d.a : d.b; }
    __device__ __forceinline__ int x() const { return last ? d.b : d.c; }
};

// The tile's products. Every thread takes EACH values that follow one another in the sum, of one row
// and of one column: takeA(v, k) and takeB(v, k) give those from k on, 0 past the end. spreadA says
// that neighbours have neighbouring rows, else that they have the next values of the same row.
// Neighbouring threads hold neighbouring columns of the result, with turned neighbouring rows.
template <class T> struct Products {
    T acc[EACH][EACH];
    int row, col; // of acc[0][0] in the tile

    static __device__ __forceinline__ int line(bool spread)
    {
        const int tid = threadIdx.x;
        return spread ? tid % EDGE : tid / (DEPTH / EACH);
    }
    static __device__ __forceinline__ int step(bool spread)
    {
        const int tid = threadIdx.x;
        return EACH * (spread ? tid / EDGE : tid % (DEPTH / EACH));
    }
    static __device__ __forceinline__ void put(T* to, const T (&v)[EACH], bool spread)
    {
        to += step(spread) * STRIDE + line(spread);
#pragma unroll
        for (int e = 0; e < EACH; e++)
            to[e * STRIDE] = v[e];
    }

    template <class A, class B>
    __device__ __forceinline__ void run(int first, int end, bool turned, bool spreadA, bool spreadB,
                                        A takeA, B takeB)
    {
        [[maybe_unused]] constexpr int AHEAD = sizeof(T) == 8 ? 2 : 4;
        __shared__ __align__(16) T tiles[2][2][DEPTH * STRIDE];
        const int across = threadIdx.x % (EDGE / EACH), down = threadIdx.x / (EDGE / EACH);
        row = EACH * (turned ? across : down);
        col = EACH * (turned ? down : across);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                acc[i][j] = 0;
        T va[EACH], vb[EACH];
        if (first < end) {
            takeA(va, first + step(spreadA), end);
            takeB(vb, first + step(spreadB), end);
            put(tiles[0][0], va, spreadA);
            put(tiles[0][1], vb, spreadB);
        }
        __syncthreads();
        int at = 0;
#pragma unroll 1
        for (int k0 = first; k0 < end; k0 += DEPTH, at ^= 1) {
            const bool more = k0 + DEPTH < end;
            if (more) { // in flight during the products
                takeA(va, k0 + DEPTH + step(spreadA), end);
                takeB(vb, k0 + DEPTH + step(spreadB), end);
            }
            const T *as = tiles[at][0] + row, *bs = tiles[at][1] + col;
#pragma unroll AHEAD
            for (int k = 0; k < DEPTH; k++) {
                T a[EACH], b[EACH];
                quad(a, as + k * STRIDE);
                quad(b, bs + k * STRIDE);
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++)
                        acc[i][j] = fusedAdd(a[i], b[j], acc[i][j]);
            }
            if (more) { // the other tiles, which all left at the barrier before
                put(tiles[at ^ 1][0], va, spreadA);
                put(tiles[at ^ 1][1], vb, spreadB);
            }
            __syncthreads();
        }
    }

    // Four values that are aligned to 16 bytes.
    static __device__ __forceinline__ void quad(T (&v)[EACH], const T* p)
    {
        constexpr int V = Vec16<T>::n;
#pragma unroll
        for (int e = 0; e < EACH; e += V) {
            const auto u = take<V>(p + e);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[e + i] = u.v[i];
        }
    }

    // f(row, column, v) for the sums of the thread.
    template <class F> __device__ __forceinline__ void each(F f)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                f(row + i, col + j, acc[i][j]);
    }
};

// The block's tile of a product of m rows and n columns, and its number among the other things.
__device__ __forceinline__ int tileOf(int m, int n, int& row0, int& col0)
{
    const unsigned across = (n + EDGE - 1) / EDGE, tiles = (m + EDGE - 1) / EDGE * across;
    const unsigned t = blockIdx.x % tiles;
    row0 = static_cast<int>(t / across) * EDGE;
    col0 = static_cast<int>(t % across) * EDGE;
    return static_cast<int>(blockIdx.x / tiles);
}

// Rows are the result's pixels, columns its channels; sums go over taps.
template <class T>
__device__ __forceinline__ void forward(T* out, const T* x, const T* w, const T* bias,
                                        const Conv& p)
{
    const int m = p.n * p.oh * p.ow, taps = p.kh * p.kw, depth = p.c * taps;
    int row0, col0;
    const int g = tileOf(m, p.o, row0, col0);
    const Picture from(p.h, p.w, p.c * p.groups, p.last), to(p.oh, p.ow, p.o * p.groups, p.last);
    const bool last = p.last != 0, wide = last && p.c % EACH == 0 && aligned16(x);
    x += g * p.c * from.channel;
    w += static_cast<long long>(g) * p.o * depth;
    Products<T> sums;
    const int mine = row0 + sums.line(!last), column = col0 + sums.line(false);
    const Digits pixel(mine < m ? mine : 0, p.oh, p.ow); // picture, y, x
    const int y0 =
        mine < m ? pixel.b * p.stride - p.top : -p.h - p.kh * p.dilation; // in no picture
    const int x0 = pixel.c * p.stride - p.left;
    const T* const image = x + pixel.a * from.image;
    const bool inside = column < p.o;
    const T* const kernel = w + (inside ? static_cast<long long>(column) * depth : 0);
    sums.run(
        0, depth, !last, !last, false,
        [&](T(&v)[EACH], int k, int end) {
            Tap t(p, k, p.c);
            if (wide) { // one tap's
                const int y = y0 + t.y() * p.dilation, xx = x0 + t.x() * p.dilation;
                if (k < end && y >= 0 && y < p.h && xx >= 0 && xx < p.w) {
                    sums.quad(v, image + y * from.row + xx * from.column + t.channel());
                    return;
                }
#pragma unroll
                for (int e = 0; e < EACH; e++)
                    v[e] = 0;
                return;
            }
#pragma unroll
            for (int e = 0; e < EACH; e++, t.d.next()) {
                const int y = y0 + t.y() * p.dilation, xx = x0 + t.x() * p.dilation;
                v[e] = k + e < end && y >= 0 && y < p.h && xx >= 0 && xx < p.w
                           ? image[y * from.row + xx * from.column + t.channel() * from.channel]
                           : T(0);
            }
        },
        [&](T(&v)[EACH], int k, int end) {
            Tap t(p, k, p.c);
#pragma unroll
            for (int e = 0; e < EACH; e++, t.d.next())
                v[e] = inside && k + e < end ? kernel[t.channel() * taps + t.y() * p.kw + t.x()]
                                             : T(0);
        });
    out += g * p.o * to.channel;
    if (bias != nullptr) bias += g * p.o;
    const int area = p.oh * p.ow;
    sums.each([&](int r, int c, T v) {
        const int at = row0 + r, k = col0 + c;
        if (at >= m || k >= p.o) return;
        const int i = at / area;
        if (bias != nullptr) v += bias[k];
        out[i * to.image + (at - i * area) * to.column + k * to.channel] = v;
    });
}

// Rows are the pictures' pixels, columns their channels; sums go over the result's channels and the
// elements of the kernels that reach a pixel from a whole place.
template <class T>
__device__ __forceinline__ void dataGradient(T* dx, const T* dy, const T* w, const Conv& p, int add)
{
    const int m = p.n * p.h * p.w, taps = p.kh * p.kw, depth = p.o * taps;
    int row0, col0;
    const int g = tileOf(m, p.c, row0, col0);
    const Picture to(p.h, p.w, p.c * p.groups, p.last), from(p.oh, p.ow, p.o * p.groups, p.last);
    const bool last = p.last != 0, wide = last && p.o % EACH == 0 && aligned16(dy);
    dy += g * p.o * from.channel;
    w += static_cast<long long>(g) * p.o * p.c * taps;
    Products<T> sums;
    const int mine = row0 + sums.line(!last), column = col0 + sums.line(false);
    const Digits pixel(mine < m ? mine : 0, p.h, p.w);
    const int y0 = mine < m ? pixel.b + p.top : -1; // below 0: from nowhere
    const int x0 = pixel.c + p.left;
    const T* const image = dy + pixel.a * from.image;
    const bool inside = column < p.c;
    const T* const kernel = w + (inside ? static_cast<long long>(column) * taps : 0);
    // The place that reaches pixel `at` with an element `tap` places on, or -1.
    auto place = [&](int at, int tap, int size) {
        const int d = at - tap * p.dilation;
        if (d < 0) return -1;
        if (p.stride == 1) return d < size ? d : -1;
        const int q = static_cast<int>(static_cast<unsigned>(d) / static_cast<unsigned>(p.stride));
        return q * p.stride == d && q < size ? q : -1;
    };
    sums.run(
        0, depth, !last, !last, false,
        [&](T(&v)[EACH], int k, int end) {
            Tap t(p, k, p.o);
            if (wide) {
                const int y = place(y0, t.y(), p.oh), xx = place(x0, t.x(), p.ow);
                if (k < end && y >= 0 && xx >= 0) {
                    sums.quad(v, image + y * from.row + xx * from.column + t.channel());
                    return;
                }
#pragma unroll
                for (int e = 0; e < EACH; e++)
                    v[e] = 0;
                return;
            }
#pragma unroll
            for (int e = 0; e < EACH; e++, t.d.next()) {
                const int y = place(y0, t.y(), p.oh), xx = place(x0, t.x(), p.ow);
                v[e] = k + e < end && y >= 0 && xx >= 0
                           ? image[y * from.row + xx * from.column + t.channel() * from.channel]
                           : T(0);
            }
        },
        [&](T(&v)[EACH], int k, int end) {
            Tap t(p, k, p.o);
#pragma unroll
            for (int e = 0; e < EACH; e++, t.d.next())
                v[e] = inside && k + e < end
                           ? kernel[static_cast<long long>(t.channel()) * p.c * taps +
                                    t.y() * p.kw + t.x()]
                           : T(0);
        });
    dx += g * p.c * to.channel;
    const int area = p.h * p.w;
    sums.each([&](int r, int c, T v) {
        const int at = row0 + r, k = col0 + c;
        if (at >= m || k >= p.c) return;
        const int i = at / area;
        T* const z = dx + i * to.image + (at - i * area) * to.column + k * to.channel;
        *z = add ? *z + v : v;
    });
}

// Rows are the result's channels, columns the taps; sums go over a piece of the result's pixels.
template <class T>
__device__ __forceinline__ void weightGradient(T* dw, const T* dy, const T* x, const Conv& p,
                                               int pieces, int depth, int add)
{
    const int taps = p.kh * p.kw, n = p.c * taps, area = p.oh * p.ow;
    int row0, col0;
    const int item = tileOf(p.o, n, row0, col0), g = item / pieces;
    const int first = item % pieces * depth, end = min(first + depth, p.n * area);
    const Picture from(p.h, p.w, p.c * p.groups, p.last), of(p.oh, p.ow, p.o * p.groups, p.last);
    const bool last = p.last != 0;
    Products<T> sums;
    const int channel = row0 + sums.line(last), column = col0 + sums.line(last);
    const bool insideA = channel < p.o, insideB = column < n;
    dy += (g * p.o + (insideA ? channel : 0)) * of.channel;
    const Tap tap(p, insideB ? column : 0, p.c);
    const int y0 = tap.y() * p.dilation - p.top, x0 = tap.x() * p.dilation - p.left;
    x += (g * p.c + tap.channel()) * from.channel;
    sums.run(
        first, end, false, last, last,
        [&](T(&v)[EACH], int k, int stop) {
            Digits at(k, p.oh, p.ow);
#pragma unroll
            for (int e = 0; e < EACH; e++, at.next())
                v[e] = insideA && k + e < stop
                           ? dy[at.a * of.image + at.b * of.row + at.c * of.column]
                           : T(0);
        },
        [&](T(&v)[EACH], int k, int stop) {
            Digits at(k, p.oh, p.ow);
#pragma unroll
            for (int e = 0; e < EACH; e++, at.next()) {
                const int y = y0 + at.b * p.stride, xx = x0 + at.c * p.stride;
                v[e] = insideB && k + e < stop && y >= 0 && y < p.h && xx >= 0 && xx < p.w
                           ? x[at.a * from.image + y * from.row + xx * from.column]
                           : T(0);
            }
        });
    dw += static_cast<long long>(item) * p.o * n;
    sums.each([&](int r, int c, T v) {
        const int at = row0 + r, k = col0 + c;
        if (at >= p.o || k >= n) return;
        const Tap t(p, k, p.c);
        T* const z =
            dw + static_cast<long long>(at) * n + t.channel() * taps + t.y() * p.kw + t.x();
        *z = add ? *z + v : v;
    });
}

} // namespace thisfile

// conv - convolutions of pictures, as products of matrices whose operands are read in place.
//
//     out[i, o, y, x] = bias[o] + sum over c, a, b of x[i, c, y stride - top + a dilation, x stride - left + b dilation] w[o, c, a, b]
//
// kernels  conv_f32 conv_f64
// shapes   x: [n, groups c, h, w], out: [n, groups o, oh, ow], or with last [n, h, w, groups c] and
//          [n, oh, ow, groups o]. w: [groups o, c, kh, kw]. bias: [groups o], or null. What lies outside
//          a picture is 0. n oh ow and c kh kw below 2^31.
// launch   grid groups * tiles of 64 pixels x 64 channels, block 256, shared 0.
// bound    compute: 2 n oh ow groups o c kh kw flops. Goal: 35 % of the FMA peak from 2^15 pixels, 64
//          channels on, with a multiple of 4 channels that are the last axis; of double ones 25 %.
// expect   conv_f32: regs <= 84, shared <= 17408, occupancy >= 37, has FFMA LDG.E.128, not LDL STL
// expect   conv_f64: regs <= 128, shared <= 34816, occupancy >= 25, has DFMA, not LDL STL
// repro    yes: every element is one chain over channels and the kernel's elements.
// twin     ops.Conv2D
// source   own derivation.
// note     Sums go over (a, b, c) with channels last, else over (c, a, b). Groups of few channels leave
//          most of a tile empty.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv_f32(float* out, const float* x, const float* w, const float* bias, int n, int c, int h,
             int width, int o, int kh, int kw, int oh, int ow, int stride, int dilation, int top,
             int left, int groups, int last)
{
    forward(out, x, w, bias,
            {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last});
}
EXPORT(conv_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    conv_f64(double* out, const double* x, const double* w, const double* bias, int n, int c, int h,
             int width, int o, int kh, int kw, int oh, int ow, int stride, int dilation, int top,
             int left, int groups, int last)
{
    forward(out, x, w, bias,
            {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last});
}
EXPORT(conv_f64)

// conv_data - the gradient of conv by the pictures.
//
//     dx[i, c, y, x] = sum over o, a, b of dy[i, o, (y + top - a dilation) / stride, (x + left - b dilation) / stride] w[o, c, a, b]
//     over those that are whole
//
// kernels  conv_data_f32 conv_data_f64
// shapes   as of conv: dx as x, dy as out. n h w and o kh kw below 2^31. With add the gradient is added.
// launch   grid groups * tiles of 64 pixels x 64 channels, block 256, shared 0.
// bound    compute: 2 n h w groups o c kh kw flops, of which steps leave one in stride^2. Goal: 35 % of
//          the FMA peak as of conv, with step 1; of double ones 25 %.
// expect   conv_data_f32: regs <= 84, shared <= 17408, occupancy >= 37, has FFMA LDG.E.128, not LDL STL
// expect   conv_data_f64: regs <= 128, shared <= 34816, occupancy >= 25, has DFMA, not LDL STL
// repro    yes
// twin     ops.Conv2DBackwardData
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv_data_f32(float* dx, const float* dy, const float* w, int n, int c, int h, int width, int o,
                  int kh, int kw, int oh, int ow, int stride, int dilation, int top, int left,
                  int groups, int last, int add)
{
    dataGradient(dx, dy, w,
                 {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last},
                 add);
}
EXPORT(conv_data_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    conv_data_f64(double* dx, const double* dy, const double* w, int n, int c, int h, int width,
                  int o, int kh, int kw, int oh, int ow, int stride, int dilation, int top,
                  int left, int groups, int last, int add)
{
    dataGradient(dx, dy, w,
                 {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last},
                 add);
}
EXPORT(conv_data_f64)

// conv_weight - the gradient of conv by the kernels, or pieces of it.
//
//     dw[o, c, a, b] = sum over i, y, x of dy[i, o, y, x] x[i, c, y stride - top + a dilation, x stride - left + b dilation]
//
// kernels  conv_weight_f32 conv_weight_f64
// shapes   as of conv: dy as out, dw: [groups, pieces, o, c, kh, kw]. n oh ow and c kh kw below 2^31.
// params   the sum is cut into pieces of depth pixels, a multiple of 16; matmul_sum adds them up. With add
//          the gradient is added.
// launch   grid groups * pieces * tiles of 64 channels x 64 elements of a kernel, block 256, shared 0.
// bound    compute: 2 n oh ow groups o c kh kw flops. Goal: 25 % of the FMA peak from 2^15 pixels, 64
//          channels on; of double ones 20 %.
// expect   conv_weight_f32: regs <= 84, shared <= 17408, occupancy >= 37, has FFMA, not LDL STL
// expect   conv_weight_f64: regs <= 168, shared <= 34816, occupancy >= 12, has DFMA, not LDL STL
// repro    yes: every element is one chain over the pixels of a piece.
// twin     ops.Conv2DBackwardWeight
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 3)
    conv_weight_f32(float* dw, const float* dy, const float* x, int n, int c, int h, int width,
                    int o, int kh, int kw, int oh, int ow, int stride, int dilation, int top,
                    int left, int groups, int last, int pieces, int depth, int add)
{
    weightGradient(dw, dy, x,
                   {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last},
                   pieces, depth, add);
}
EXPORT(conv_weight_f32)

extern "C" __global__ void __launch_bounds__(256)
    conv_weight_f64(double* dw, const double* dy, const double* x, int n, int c, int h, int width,
                    int o, int kh, int kw, int oh, int ow, int stride, int dilation, int top,
                    int left, int groups, int last, int pieces, int depth, int add)
{
    weightGradient(dw, dy, x,
                   {n, c, h, width, o, kh, kw, oh, ow, stride, dilation, top, left, groups, last},
                   pieces, depth, add);
}
EXPORT(conv_weight_f64)
