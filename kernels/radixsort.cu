// radix_histogram - how often each digit occurs, for all passes of a sort at once.
//
//     counts[p][d] = the number of keys whose bits [first + 8 p, first + 8 p + 8) are d
//
// kernels  radix_histogram_u32
// shapes   counts: passes x 256 uint32, zero; keys: n uint32.
// params   passes <= 4; n >= 1; mask: the bits of the last digit that count.
// launch   grid min(ceil(n / 4096), some per multiprocessor), block 256, shared 0. A block strides over the keys.
// bound    memory: 4 n bytes. Goal: 60 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 4096, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatForward, in its lists; kernels/radixsort_test.go holds the sort to sort.SliceStable.
#include "radix_tile.h"

inline namespace thisfile {

// The two top bits of a block's word for a digit say what the rest is: nothing yet, how often the
// block has it, how often all blocks up to this one have it.
constexpr unsigned own = 1u << 30, whole = 2u << 30, value = own - 1;

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(256)
    radix_histogram_u32(unsigned* __restrict__ counts, const unsigned* __restrict__ keys, int first,
                        int passes, unsigned mask, int n)
{
    __shared__ unsigned local[4][digits];
    for (int p = 0; p < passes; p++)
        local[p][threadIdx.x] = 0;
    __syncthreads();
    const long long step = (long long)gridDim.x * threads;
    for (long long i = (long long)blockIdx.x * threads + threadIdx.x; i < n; i += step) {
        const unsigned key = keys[i] >> first;
        for (int p = 0; p < passes; p++) {
            const unsigned m = p == passes - 1 ? mask : 255u;
            atomicAdd(&local[p][key >> 8 * p & m], 1u);
        }
    }
    __syncthreads();
    for (int p = 0; p < passes; p++)
        if (local[p][threadIdx.x])
            atomicAdd(counts + p * digits + threadIdx.x, local[p][threadIdx.x]);
}
EXPORT(radix_histogram_u32)

// radix_starts - where each digit's keys begin.
//
//     starts[p][d] = the sum of counts[p][e], e < d
//
// kernels  radix_starts_u32
// shapes   starts, counts: passes x 256 uint32; starts may be counts.
// launch   grid passes, block 256, shared 0.
// bound    latency: 2 kB a pass.
// expect   regs <= 32, shared <= 64, occupancy >= 75, not LDL STL
// repro    yes
// twin     as radix_histogram_u32.
extern "C" __global__ void __launch_bounds__(256)
    radix_starts_u32(unsigned* starts, const unsigned* counts)
{
    __shared__ unsigned sums[warps];
    const int at = blockIdx.x * digits + threadIdx.x;
    const unsigned start = sumBefore(counts[at], sums);
    starts[at] = start;
}
EXPORT(radix_starts_u32)

// radix_pass - one stable pass of a least-significant-digit sort of keys with values.
//
//     the pairs in the order of the digit keys >> shift & mask, equal digits in their order before
//
// kernels  radix_pass_u32
// shapes   keys, values and keysIn, valuesIn: n uint32, apart; starts: 256 uint32 (radix_starts_u32's row);
//          state: ceil(n / 4096) x 256 uint32 and ticket: 1 uint32, both zero. valuesIn null stands for 0, 1, 2, ...
// params   1 <= n < 2^30; mask <= 255.
// launch   grid ceil(n / 4096), block 256, shared 0. A warp ranks 512 neighbours by match, 32 at a time, so ranks are
//          stable; blocks find their offset for each digit by decoupled look-back, in the order of their tickets.
// bound    memory: 16 n bytes. Goal: 60 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 80, shared <= 28000, occupancy >= 37, has MATCH, not LDL STL
// repro    yes
// twin     as radix_histogram_u32.
// source   Adinets and Merrill 2022, Onesweep, arXiv 2206.01784. Own derivation.
extern "C" __global__ void __launch_bounds__(256, 3)
    radix_pass_u32(unsigned* __restrict__ keys, unsigned* __restrict__ values,
                   const unsigned* __restrict__ keysIn, const unsigned* __restrict__ valuesIn,
                   const unsigned* __restrict__ starts, unsigned* state, unsigned* ticket,
                   int shift, unsigned mask, int n)
{
    __shared__ unsigned place, sums[warps];
    __shared__ unsigned counts[warps]
                              [digits]; // of a warp's keys; later where they start in the block
    __shared__ unsigned begin[digits];  // where a digit starts in the block
    __shared__ unsigned target[digits]; // where it goes in memory, less begin
    __shared__ unsigned sorted[tile];
    if (threadIdx.x == 0) place = atomicAdd(ticket, 1u);
    for (int w = 0; w < warps; w++)
        counts[w][threadIdx.x] = 0;
    __syncthreads();
    const int block = place, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const long long base = (long long)block * tile;
    const int here = n - base < tile ? (int)(n - base) : tile; // keys of this block
    const int mine = warp * 32 * each + lane;                  // my first, the others 32 apart
    unsigned key[each];
    unsigned rank[each]; // among the warp's keys of the digit
#pragma unroll
    for (int k = 0; k < each; k++)
        key[k] = mine + 32 * k < here ? keysIn[base + mine + 32 * k] : 0;
    rankInWarp(rank, key, counts, here, shift, mask);
    __syncthreads();
    // Thread d sums digit d over the warps and announces it.
    const unsigned sum = sumWarps(counts);
    unsigned* word = state + (size_t)block * digits + threadIdx.x;
    storeRelaxed(word, (block == 0 ? whole : own) | sum);
    const unsigned start = sumBefore(sum, sums);
    begin[threadIdx.x] = start;
    if (block > 0) {
        unsigned before = 0;
        for (const unsigned* w = word - digits;;) {
            const unsigned s = loadRelaxed(w);
            if (s == 0) { // its ticket is out, so it comes
                __nanosleep(20);
                continue;
            }
            before += s & value;
            if (s & whole) break;
            w -= digits;
        }
        storeRelaxed(word, whole | (before + sum));
        target[threadIdx.x] = starts[threadIdx.x] + before - start;
    } else {
        target[threadIdx.x] = starts[threadIdx.x] - start;
    }
    __syncthreads();
    // Sort within the block, so that neighbours in memory are written by neighbouring threads.
#pragma unroll
    for (int k = 0; k < each; k++) {
        if (mine + 32 * k >= here) continue;
        const unsigned digit = key[k] >> shift & mask;
        rank[k] += (begin[digit] + counts[warp][digit]);
        sorted[rank[k]] = key[k];
    }
    __syncthreads();
    unsigned where[each];
#pragma unroll
    for (int k = 0; k < each; k++) {
        const int i = threadIdx.x + threads * k;
        if (i >= here) continue;
        const unsigned v = sorted[i];
        where[k] = target[v >> shift & mask] + i;
        keys[where[k]] = v;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < each; k++)
        if (mine + 32 * k < here)
            sorted[rank[k]] =
                valuesIn ? valuesIn[base + mine + 32 * k] : (unsigned)(base + mine + 32 * k);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < each; k++) {
        const int i = threadIdx.x + threads * k;
        if (i < here) values[where[k]] = sorted[i];
    }
}
EXPORT(radix_pass_u32)
