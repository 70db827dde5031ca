// Maps with channels last, of which an operation reads or writes some: pools, means, and the ways in and out.
#include "rows.h"

inline namespace thisfile {

constexpr int BAND_THREADS = 256;

template <int N, class T> __device__ __forceinline__ void loadFloats(float (&v)[N], const T* p)
{
    if constexpr (N == 1) {
        v[0] = static_cast<float>(widen(*p));
    } else {
        const typename Vec16<T>::Raw r = load16(p);
#pragma unroll
        for (int i = 0; i < N; i++)
            v[i] = static_cast<float>(lane<T>(r, i));
    }
}

template <int N, class T> __device__ __forceinline__ void storeFloats(T* p, const float (&v)[N])
{
    if constexpr (N == 1) {
        *p = narrow<T>(v[0]);
    } else {
        double d[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            d[i] = v[i];
        store16(p, d);
    }
}

struct Windows {
    int c, from, h, w, to, oh, ow, kh, kw, strideY, strideX, top, left;
};

// The windows of N channels of one pixel.
template <int N, bool AVERAGE, class T>
__device__ __forceinline__ void poolOf(T* out, const T* x, unsigned at, const Windows& p)
{
    const unsigned across = static_cast<unsigned>(p.c / N), pixel = at / across;
    const int c = static_cast<int>(at - pixel * across) * N;
    const Digits place(static_cast<int>(pixel), p.oh, p.ow); // map, row, column
    const int y0 = place.b * p.strideY - p.top, x0 = place.c * p.strideX - p.left;
    x += static_cast<long long>(place.a) * p.h * p.w * p.from + c;
    out += static_cast<long long>(pixel) * p.to + c;
    const int firstY = max(y0, 0), endY = min(y0 + p.kh, p.h);
    const int firstX = max(x0, 0), endX = min(x0 + p.kw, p.w);
    float best[N];
#pragma unroll
    for (int i = 0; i < N; i++)
        best[i] = AVERAGE ? 0.f : minusInfinity<float>();
#pragma unroll 1
    for (int y = firstY; y < endY; y++)
#pragma unroll 1
        for (int xx = firstX; xx < endX; xx++) {
            float v[N];
            loadFloats<N>(v, x + (static_cast<long long>(y) * p.w + xx) * p.from);
#pragma unroll
            for (int i = 0; i < N; i++)
                best[i] = AVERAGE ? best[i] + v[i] : greater(best[i], v[i]);
        }
    if constexpr (AVERAGE) {
        const float cells = static_cast<float>((endY - firstY) * (endX - firstX));
        // No function is called for it: a subroutine's frame would be a spill.
        float share = __fdividef(1.f, cells);
        share = fmaf(fmaf(-share, cells, 1.f), share, share);
#pragma unroll
        for (int i = 0; i < N; i++) { // the quotient, correctly rounded: Markstein 1990, theorem 2
            const float q = best[i] * share;
            best[i] = isfinite(q) ? fmaf(fmaf(-q, cells, best[i]), share, q) : q;
        }
    }
    storeFloats<N>(out, best);
}

template <bool AVERAGE, class T>
__device__ __forceinline__ void pool(T* out, const T* x, unsigned pixels, const Windows& p)
{
    constexpr int V = Vec16<T>::n;
    const unsigned at = blockIdx.x * BAND_THREADS + threadIdx.x,
                   channels = static_cast<unsigned>(p.c);
    if (p.c % V == 0 && p.from % V == 0 && p.to % V == 0 && aligned16(out) && aligned16(x)) {
        if (at < pixels * (channels / V)) poolOf<V, AVERAGE>(out, x, at, p);
    } else {
        for (unsigned i = at; i < pixels * channels; i += gridDim.x * BAND_THREADS)
            poolOf<1, AVERAGE>(out, x, i, p);
    }
}

template <class T>
__device__ __forceinline__ void mean(float* out, const T* x, int n, int area, int c, int from)
{
    const int at = static_cast<int>(blockIdx.x) * BAND_THREADS + static_cast<int>(threadIdx.x);
    if (at >= n * c) return;
    const T* p = x + static_cast<long long>(at / c) * area * from + at % c;
    double sum = 0;
#pragma unroll 4
    for (int i = 0; i < area; i++)
        sum += widen(p[static_cast<long long>(i) * from]);
    out[at] = static_cast<float>(sum / area);
}

template <class T>
__device__ __forceinline__ void fromPlanes(T* out, const float* x, long long pixels, int area,
                                           int c, int to)
{
    const long long at = static_cast<long long>(blockIdx.x) * BAND_THREADS + threadIdx.x;
    if (at >= pixels) return;
    const long long image = at / area;
    x += image * c * area + (at - image * area);
    out += at * to;
#pragma unroll 1
    for (int k = 0; k < to; k++)
        out[k] = narrow<T>(k < c ? x[static_cast<long long>(k) * area] : 0.f);
}

template <class T>
__device__ __forceinline__ void toPlanes(float* out, const T* x, long long n, int area, int c,
                                         int from)
{
    long long at = static_cast<long long>(blockIdx.x) * BAND_THREADS + threadIdx.x;
    if (at >= n) return;
    float* const to = out + at;
    const int place = digitOf(at, area), k = digitOf(at, c);
    *to = static_cast<float>(widen(x[(at * area + place) * from + k]));
}

__device__ __forceinline__ void terms(bf16* out, const float* x, long long values, int c, int from)
{
    long long at = (static_cast<long long>(blockIdx.x) * BAND_THREADS + threadIdx.x) * 4;
    if (at >= values) return;
    const int k = digitOf(at, c);
    x += at * from + k;
    out += at * 3 * c + k;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bf16 h = fromFloat<bf16>(x[i]);
        out[i] = h;
        out[c + i] = fromFloat<bf16>(x[i] - toFloat(h));
        out[2 * c + i] = h;
    }
}

} // namespace thisfile

// pool_band - the greatest or the mean value of windows of some channels of maps.
//
//     out[i, y, x, c] = max, or mean, over a, b of x[i, y strideY - top + a, x strideX - left + b, c], of places in the map
//
// kernels  pool_band_f32 pool_band_bf16
// shapes   x: n maps of h x width pixels, c channels each, pixels `from` values apart. out: n maps of oh x ow
//          pixels, c channels each, `to` values apart; pixels: n oh ow, pixels c below 2^31. Every window has a place in its map.
// params   average: the mean, by the number of places that lie in the map; else the greatest, NaN where one is.
// launch   grid ceil(pixels ceil(c / V) / 256), block 256, shared 0, V the values of 16 bytes; channels, distances
//          and places that are no multiples of 16 bytes go one by one.
// bound    memory: out and what windows do not share of x. Goal: 50 % of peak bandwidth.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128, not LDL STL
// repro    yes: sums in float in the order of the places.
// twin     ops.PoolBand
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    pool_band_f32(float* out, const float* x, int pixels, int c, int from, int h, int width, int to,
                  int oh, int ow, int kh, int kw, int stride_y, int stride_x, int top, int left,
                  int average)
{
    const Windows p = {c, from, h, width, to, oh, ow, kh, kw, stride_y, stride_x, top, left};
    if (average != 0)
        pool<true>(out, x, pixels, p);
    else
        pool<false>(out, x, pixels, p);
}
EXPORT(pool_band_f32)

extern "C" __global__ void __launch_bounds__(256)
    pool_band_bf16(bf16* out, const bf16* x, int pixels, int c, int from, int h, int width, int to,
                   int oh, int ow, int kh, int kw, int stride_y, int stride_x, int top, int left,
                   int average)
{
    const Windows p = {c, from, h, width, to, oh, ow, kh, kw, stride_y, stride_x, top, left};
    if (average != 0)
        pool<true>(out, x, pixels, p);
    else
        pool<false>(out, x, pixels, p);
}
EXPORT(pool_band_bf16)

// mean_band - the mean of some channels of maps over all places.
//
//     out[i, c] = sum over the places p of x[i, p, c], in double, over their number
//
// kernels  mean_band_f32 mean_band_bf16
// shapes   out: [n, c] floats. x: n maps of area pixels, c channels each, pixels `from` values apart. n c below 2^31.
// launch   grid ceil(n c / 256), block 256, shared 0.
// bound    latency: a thread an element, whose sum is a chain; maps that are averaged are small.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes: the sum goes in the order of the places.
// twin     ops.MeanBand
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    mean_band_f32(float* out, const float* x, int n, int area, int c, int from)
{
    mean(out, x, n, area, c, from);
}
EXPORT(mean_band_f32)

extern "C" __global__ void __launch_bounds__(256)
    mean_band_bf16(float* out, const bf16* x, int n, int area, int c, int from)
{
    mean(out, x, n, area, c, from);
}
EXPORT(mean_band_bf16)

// planes_band - pictures whose channels are planes as maps with channels last.
//
//     out[i, p, k] = x[i, k, p] for k < c, 0 for the others
//
// kernels  planes_band_f32 planes_band_bf16
// shapes   x: [n, c, area] floats. out: [n, area, to], to >= c; pixels: n area.
// launch   grid ceil(pixels / 256), block 256, shared 0.
// bound    memory: pictures have few channels; reads run along planes. Goal: 40 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.BandOfPlanes
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    planes_band_f32(float* out, const float* x, long long pixels, int area, int c, int to)
{
    fromPlanes(out, x, pixels, area, c, to);
}
EXPORT(planes_band_f32)

extern "C" __global__ void __launch_bounds__(256)
    planes_band_bf16(bf16* out, const float* x, long long pixels, int area, int c, int to)
{
    fromPlanes(out, x, pixels, area, c, to);
}
EXPORT(planes_band_bf16)

// band_planes - some channels of maps with channels last as planes.
//
//     out[i, k, p] = x[i, p, k]
//
// kernels  band_planes_f32 band_planes_bf16
// shapes   out: [n, c, area] floats. x: n maps of area pixels, c channels each, pixels `from` values apart;
//          values: n c area.
// launch   grid ceil(values / 256), block 256, shared 0.
// bound    memory: reads jump from pixel to pixel, and what an image has of a result is small. Goal: 15 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.PlanesOfBand
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    band_planes_f32(float* out, const float* x, long long values, int area, int c, int from)
{
    toPlanes(out, x, values, area, c, from);
}
EXPORT(band_planes_f32)

extern "C" __global__ void __launch_bounds__(256)
    band_planes_bf16(float* out, const bf16* x, long long values, int area, int c, int from)
{
    toPlanes(out, x, values, area, c, from);
}
EXPORT(band_planes_bf16)

// band_terms - floats as sums of two bfloat16s, laid out for a product that is nearly that of the floats.
//
//     h = bf16(x), l = bf16(x - h);   out[p] = h of all channels, l of all channels, h of all channels
//
// kernels  band_terms
// shapes   x: pixels of c channels, `from` values apart. out: [pixels, 3 c]. c a multiple of 4; values: pixels c.
// launch   grid ceil(values / 4 / 256), block 256, shared 0.
// bound    memory: 10 bytes a value. Goal: 60 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplitBand
// source   own derivation: against weights laid out as h, h, l the sum is that of three of four products of the terms; the fourth is
//          below 2^-16 of the first.
extern "C" __global__ void __launch_bounds__(256)
    band_terms(bf16* out, const float* x, long long values, int c, int from)
{
    terms(out, x, values, c, from);
}
EXPORT(band_terms)
