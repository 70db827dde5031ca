// splat2d_emit - an entry for every tile that a Gaussian touches.
//
//     keys[e] = image * tiles + tile, owner[e] = the Gaussian, for e from offsets[i] on, i in the order given; a tile that
//     the Gaussian's ellipse does not reach has none (columnsOf in splat2d.h)
//
// kernels  splat2d_emit
// shapes   keys, owner: M uint32, M = offsets[n]; offsets: n + 1 uint32 (scan_exclusive_u32 of the tiles of
//          splat2d_prepare); place, shape, box: n; order: n int32, the Gaussians front to back, or null; n = B * perImage.
// params   width, height of the images in pixels; corners; side of a tile, 16 or 8.
// launch   grid ceil(n / 256), block 256, shared 0. The threads of a block share out its entries, so that one large
//          Gaussian does not hold up one thread.
// bound    memory: 8 M + 24 n bytes. Goal: 50 % of peak bandwidth from M = 2^22 on.
// expect   regs <= 40, shared <= 1100, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatForward, in its lists of bands.
// source   Own derivation.
#include "splat2d.h"

inline namespace thisfile {
constexpr int threads = 256;
}

extern "C" __global__ void __launch_bounds__(256)
    splat2d_emit(unsigned* __restrict__ keys, unsigned* __restrict__ owner,
                 const unsigned* __restrict__ offsets, const float4* __restrict__ place,
                 const float4* __restrict__ shape, const int4* __restrict__ box,
                 const int* __restrict__ order, int corners, int side, int width, int height,
                 int perImage, int n)
{
    __shared__ unsigned start[threads + 1];
    const int first = blockIdx.x * threads, here = min(threads, n - first);
    for (int j = threadIdx.x; j <= here; j += threads)
        start[j] = offsets[first + j];
    __syncthreads();
    const int across = (width + side - 1) / side;
    const unsigned tiles = (unsigned)across * ((height + side - 1) / side);
    for (unsigned e = start[0] + threadIdx.x; e < start[here]; e += threads) {
        int lo = 0, hi = here; // start[lo] <= e < start[hi]
        while (hi - lo > 1) {
            const int mid = (lo + hi) / 2;
            if (start[mid] <= e)
                lo = mid;
            else
                hi = mid;
        }
        const int g = order ? order[first + lo] : first + lo;
        const int4 b = box[g];
        int k = (int)(e - start[lo]), y = b.y / side, x;
        for (;; y++) {
            const int2 c = splat::columnsOf(place[g], shape[g], b, y * side, side, {width, corners},
                                            {height, corners});
            x = c.x + k;
            if (x < c.y) break;
            k -= c.y - c.x;
        }
        keys[e] = (unsigned)(g / perImage) * tiles + (unsigned)(y * across + x);
        owner[e] = (unsigned)g;
    }
}
EXPORT(splat2d_emit)

// splat2d_ranges - where each tile's entries lie in the sorted list.
//
//     ranges[k] = (the first i with keys[i] = k, the last + 1)
//
// kernels  splat2d_ranges
// shapes   ranges: B * tiles int2, zero before; keys: m uint32, sorted.
// launch   grid ceil(m / 256), block 256, shared 0.
// bound    memory: 8 m bytes. Goal: 60 % of peak bandwidth from m = 2^22 on.
// expect   regs <= 24, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     as splat2d_emit.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_ranges(int2* __restrict__ ranges, const unsigned* __restrict__ keys, int m)
{
    const long long i = (long long)blockIdx.x * threads + threadIdx.x;
    if (i >= m) return;
    const unsigned key = keys[i];
    if (i == 0 || keys[i - 1] != key) ranges[key].x = (int)i;
    if (i == m - 1 || keys[i + 1] != key) ranges[key].y = (int)i + 1;
}
EXPORT(splat2d_ranges)

// splat2d_total - the sum of each Gaussian's slots, in the order of its tiles.
//
//     sums[g] = sum of slots[e][0..6), df[g] = sum of slots[e][6..), e in [offsets[i], offsets[i + 1]), g = order[i]
//
// kernels  splat2d_total_f32
// shapes   sums: [n, 6]; df: [n, c]; slots: [M, 6 + cp] (splat2d_alphaback); offsets: n + 1; order: n int32 or null.
// launch   grid ceil(n / 8), block 256, shared 0. A warp a Gaussian, lanes over the values.
// bound    memory: 4 (6 + cp) M bytes. Goal: 60 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatBackward.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    splat2d_total_f32(float* __restrict__ sums, float* __restrict__ df,
                      const float* __restrict__ slots, const unsigned* __restrict__ offsets,
                      const int* __restrict__ order, int c, int cp, int n)
{
    const long long i = (long long)blockIdx.x * 8 + (threadIdx.x >> 5);
    if (i >= n) return;
    const size_t g = order ? order[i] : i;
    const int width = splat::moments + cp;
    const unsigned first = offsets[i], end = offsets[i + 1];
    for (int j = threadIdx.x & 31; j < splat::moments + c; j += 32) {
        float sum = 0;
        for (size_t e = first; e < end; e++)
            sum += slots[e * width + j];
        if (j < splat::moments)
            sums[g * splat::moments + j] = sum;
        else
            df[g * c + j - splat::moments] = sum;
    }
}
EXPORT(splat2d_total_f32)
