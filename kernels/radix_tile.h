// Ranks of a tile of keys by a digit, stable: what the radix sorts are made of. Thread d of a block is digit d's too.
#pragma once
#include "device.h"

inline namespace thisfile {

constexpr int threads = 256, warps = threads / 32, each = 16, tile = threads * each, digits = 256;

// rankInWarp sets rank to the places of a warp's keys among its keys of the same digit, and counts to
// how many it has of each, which must be zero before. A warp has 512 neighbours, key k of a lane 32
// behind the one before; here is how many keys the block has.
__device__ __forceinline__ void rankInWarp(unsigned (&rank)[each], const unsigned (&key)[each],
                                           unsigned (*counts)[digits], int here, int shift,
                                           unsigned mask)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, mine = warp * 32 * each + lane;
#pragma unroll
    for (int k = 0; k < each; k++) {
        const bool valid = mine + 32 * k < here;
        const unsigned digit =
            valid ? key[k] >> shift & mask : digits; // beyond the end: a digit of its own
        const unsigned peers = __match_any_sync(0xffffffffu, digit);
        const unsigned before = __popc(peers & ((1u << lane) - 1));
        const int leader = __ffs(peers) - 1;
        unsigned old = 0;
        if (lane == leader && valid) {
            old = counts[warp][digit];
            counts[warp][digit] = old + __popc(peers);
        }
        __syncwarp();
        rank[k] = (__shfl_sync(0xffffffffu, old, leader) + before);
    }
}

// sumWarps makes counts of thread d's digit those of the warps before, and returns the whole.
__device__ __forceinline__ unsigned sumWarps(unsigned (*counts)[digits])
{
    unsigned sum = 0;
    for (int w = 0; w < warps; w++) {
        const unsigned c = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = sum;
        sum += c;
    }
    return sum;
}

// sumBefore is the sum of what the threads before have. All threads of the block come here, with sums,
// which nobody else may be using.
__device__ __forceinline__ unsigned sumBefore(unsigned mine, unsigned (&sums)[warps])
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    unsigned upTo = mine;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const unsigned t = __shfl_up_sync(0xffffffffu, upTo, d);
        if (lane >= d) upTo += t;
    }
    if (lane == 31) sums[warp] = upTo;
    __syncthreads();
    unsigned start = upTo - mine;
    for (int w = 0; w < warp; w++)
        start += sums[w];
    return start;
}

} // namespace thisfile
