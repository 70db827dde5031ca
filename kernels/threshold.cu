// Dynamic thresholding: an exact quantile of the absolute values of each sample, by counting digits
// of their bits, and the clamp that it sets.
#include "device.h"

inline namespace thisfile {

constexpr int THREADS = 256, PER = 16, CHUNK = THREADS * PER;

// The 31 bits of an absolute value in three digits of 11, 10 and 10 bits: the bits of floats that
// are not negative are in the order of the floats. A row's counts lie one level after the other.
constexpr int BINS = 2048, COUNTS = 2048 + 1024 + 1024;

__device__ __forceinline__ int shiftOf(int level) { return level == 0 ? 20 : level == 1 ? 10 : 0; }
__device__ __forceinline__ int binsOf(int level) { return level == 0 ? 2048 : 1024; }
__device__ __forceinline__ int startOf(int level) { return level == 0 ? 0 : 1024 + 1024 * level; }

__device__ __forceinline__ unsigned magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

struct Choice {
    unsigned bin;   // that holds the element of the wanted rank
    unsigned below; // elements in the bins before it
    unsigned count; // and in it
};

// The bin of the element with `rank` others below it. All threads of the block call it and get the
// same; every thread sums a run of bins, thread sums are scanned, and the one that holds the rank
// looks through its run.
__device__ __forceinline__ Choice choose(const unsigned* counts, int bins, unsigned rank)
{
    __shared__ unsigned sums[THREADS / 32];
    __shared__ Choice chosen;
    const int run = bins / THREADS, first = threadIdx.x * run;
    const int l = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned own = 0;
    for (int i = 0; i < run; i++)
        own += counts[first + i];
    unsigned before = own; // inclusive over the warp
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        const unsigned v = __shfl_up_sync(0xffffffffu, before, d);
        if (l >= d) before += v;
    }
    if (l == 31) sums[warp] = before;
    __syncthreads();
    for (int i = 0; i < warp; i++)
        before += sums[i];
    before -= own;
    if (rank >= before && rank - before < own) {
        int bin = first;
        while (rank - before >= counts[bin])
            before += counts[bin++];
        chosen = {static_cast<unsigned>(bin), before, counts[bin]};
    }
    __syncthreads();
    const Choice c = chosen;
    __syncthreads(); // the next call overwrites it
    return c;
}

// What the levels before `level` have chosen: the leading digits, in place, and the rank that is
// left among the elements that have them.
__device__ __forceinline__ unsigned prefixOf(const unsigned* counts, int level, unsigned& rank)
{
    unsigned prefix = 0;
    for (int i = 0; i < level; i++) {
        const Choice c = choose(counts + startOf(i), binsOf(i), rank);
        prefix |= c.bin << shiftOf(i);
        rank -= c.below;
    }
    return prefix;
}

} // namespace thisfile

// threshold_count - counts one digit of the absolute values that have the leading digits chosen so far.
//
//     counts[b, level, d] += 1 for the elements of row b whose digit `level` is d
//     above[b] = the smallest bits of an element of row b with larger leading digits
//
// kernels  threshold_count_f32
// shapes   counts: 4096 numbers a row, zero before level 0. above: one number a row, all ones
//          before level 0. x: rows of size values.
// params   level 0, 1 and 2, in this order. rank < size of the element that is looked for.
//          blocks = ceil(size / 4096), what one row takes.
// launch   grid rows * blocks, block 256, shared 0.
// bound    memory: 4 bytes an element and level, of which the second and third mostly come from L2;
//          one shared atomic an element. Goal: 50 % of peak bandwidth from 2^22 values on.
// expect   regs <= 40, shared <= 9216, occupancy >= 75, not LDL STL
// repro    yes: integers
// twin     ops.DynamicThreshold; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    threshold_count_f32(unsigned* counts, unsigned* above, const float* x, int level, unsigned rank,
                        long long size, int blocks)
{
    __shared__ unsigned local[BINS];
    __shared__ unsigned least;
    const unsigned b = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - b * static_cast<unsigned>(blocks);
    counts += static_cast<long long>(b) * COUNTS;
    x += static_cast<long long>(b) * size;
    const unsigned prefix = prefixOf(counts, level, rank);
    const int bins = binsOf(level), shift = shiftOf(level);
    for (int i = threadIdx.x; i < bins; i += THREADS)
        local[i] = 0;
    if (threadIdx.x == 0) least = 0xffffffffu;
    __syncthreads();
    const int lead = level == 0 ? 31 : shiftOf(level - 1); // bits below the digits that are chosen
    const long long first = static_cast<long long>(part) * CHUNK;
    unsigned low = 0xffffffffu;
#pragma unroll 4
    for (int i = 0; i < PER; i++) {
        const long long e = first + i * THREADS + threadIdx.x;
        if (e >= size) break;
        const unsigned m = magnitude(x[e]);
        const unsigned mine = m >> lead, wanted = prefix >> lead;
        if (mine == wanted) atomicAdd(&local[(m >> shift) & (bins - 1)], 1u);
        if (mine > wanted && m < low) low = m;
    }
    if (low != 0xffffffffu) atomicMin(&least, low);
    __syncthreads();
    for (int i = threadIdx.x; i < bins; i += THREADS)
        if (local[i] != 0) atomicAdd(&counts[startOf(level) + i], local[i]);
    if (threadIdx.x == 0 && least != 0xffffffffu) atomicMin(&above[b], least);
}
EXPORT(threshold_count_f32)

// threshold_apply - the quantile from the counts, and the clamp to it.
//
//     q = v + fraction (v' - v),   v, v' the absolute values of rank `rank` and the next one
//     s = min(max(q, lo), hi),   out = min(max(x, -s), s) / s
//
// kernels  threshold_apply_f32
// shapes   out, x: rows of size values. out may be x. counts, above: as threshold_count left them.
// params   rank < size; 0 <= fraction < 1. 0 < lo <= hi.
// launch   grid rows * blocks, block 256, shared 0; blocks = ceil(size / 4096).
// bound    memory: 8 bytes an element. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   regs <= 40, shared <= 1024, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.DynamicThreshold; the same bits. NaN counts as larger than infinity and stays NaN.
// source   Saharia et al. 2022, arXiv 2205.11487, section 2.3; the interpolated quantile of
//          torch.quantile. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    threshold_apply_f32(float* out, const float* x, const unsigned* counts, const unsigned* above,
                        unsigned rank, double fraction, float lo, float hi, long long size,
                        int blocks)
{
    __shared__ unsigned next;
    const unsigned b = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - b * static_cast<unsigned>(blocks);
    counts += static_cast<long long>(b) * COUNTS;
    if (threadIdx.x == 0) next = 0xffffffffu;
    unsigned left = rank;
    const unsigned prefix = prefixOf(counts, 2, left);
    const Choice c = choose(counts + startOf(2), binsOf(2), left);
    // The next larger value: the same again, or the next bin of the last digit that is not empty, or
    // the smallest of those with larger leading digits.
    for (int i = threadIdx.x; i < binsOf(2); i += THREADS)
        if (i > static_cast<int>(c.bin) && counts[startOf(2) + i] != 0)
            atomicMin(&next, static_cast<unsigned>(i));
    __syncthreads();
    const unsigned bits = prefix | c.bin;
    const unsigned after = left - c.below + 1 < c.count ? bits
                           : next != 0xffffffffu        ? (prefix | next)
                           : above[b] != 0xffffffffu    ? above[b]
                                                        : bits; // the largest has no next
    const double v = __uint_as_float(bits), w = __uint_as_float(after);
    // Without a fraction the next value does not matter, not even infinity.
    const float q = static_cast<float>(fraction > 0 ? __dadd_rn(v, __dmul_rn(fraction, w - v)) : v);
    const float s = q < lo ? lo : q > hi ? hi : q; // NaN is neither
    const long long row = static_cast<long long>(b) * size;
    const long long first = static_cast<long long>(part) * CHUNK;
#pragma unroll 4
    for (int i = 0; i < PER; i++) {
        const long long e = first + i * THREADS + threadIdx.x;
        if (e >= size) break;
        const float t = x[row + e];
        out[row + e] = __fdiv_rn(t < -s ? -s : t > s ? s : t, s);
    }
}
EXPORT(threshold_apply_f32)
