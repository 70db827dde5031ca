// The Gaussians of one tile, for the blocks that draw it: found by testing all boxes of the image
// (few Gaussians) or read from a sorted list (many).
#pragma once

#include "splat2d.h"

namespace splat {

constexpr int fewest = 2048; // the most Gaussians of an image that are found by testing all

// What a drawing kernel gets.
struct Scene {
    const float4 *place, *shape; // [B, N]
    const int4* box;             // [B, N]
    const float* feature;        // [B, N, cp]
    const unsigned* entries;     // the sorted list, or null: test all
    const int2* ranges;          // [B * tiles] of entries
    const unsigned* owner;       // the Gaussian of an entry's value, or null: the value itself
    int n, cp;
};

// The tile's ids within its image, when all are tested: each warp tests a run of them in order.
template <int WARPS> struct Found {
    unsigned short ids[fewest];
    int count[WARPS];
};

// The list of one tile. All threads call find and then __syncthreads.
template <int WARPS, int SIDE = side> struct TileList {
    Found<WARPS>* found;
    const unsigned* entries;
    const unsigned* owner;
    size_t base; // the image's first Gaussian
    int length, run;

    __device__ __forceinline__ void find(Found<WARPS>& f, const Scene& s, int image, int tile,
                                         int tx, int ty, Axis across, Axis down)
    {
        base = (size_t)image * s.n;
        if (s.entries) {
            owner = s.owner;
            found = &f;
            run = 0;
            const int2 r = s.ranges[tile];
            entries = s.entries + r.x;
            length = r.y - r.x;
            return;
        }
        search(f, base, s.n, [&](int i) {
            const int4 box = s.box[base + i];
            if (tileMask<SIDE>(box, tx, ty) == 0) return false;
            const int2 c =
                columnsOf(s.place[base + i], s.shape[base + i], box, ty, SIDE, across, down);
            return c.x <= tx / SIDE && tx / SIDE < c.y;
        });
    }
    // Lists those of an image's n <= 2048 Gaussians for which hit(i) is true, in order.
    template <class Hit>
    __device__ __forceinline__ void search(Found<WARPS>& f, size_t start, int n, Hit hit)
    {
        base = start;
        owner = nullptr;
        found = &f;
        entries = nullptr;
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        run = (n + 32 * WARPS - 1) / (32 * WARPS) * 32;
        const int end = min((warp + 1) * run, n);
        int count = 0;
        for (int first = warp * run; first < end; first += 32) {
            const int i = first + lane;
            const bool is = i < end && hit(i);
            const unsigned hits = __ballot_sync(0xffffffffu, is);
            if (is)
                f.ids[warp * run + count + __popc(hits & ((1u << lane) - 1))] = (unsigned short)i;
            count += __popc(hits);
        }
        if (lane == 0) f.count[warp] = count;
    }
    // After the barrier.
    __device__ __forceinline__ void close()
    {
        if (entries || !found) return;
        length = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            length += found->count[w];
    }
    // The value of place i of the list: an entry's, or the Gaussian's.
    __device__ __forceinline__ unsigned value(int i) const
    {
        if (entries) return entries[i];
        int w = 0;
        while (i >= found->count[w]) {
            i -= found->count[w];
            w++;
        }
        return (unsigned)(base + found->ids[w * run + i]);
    }
    __device__ __forceinline__ size_t gaussian(unsigned value) const
    {
        return owner ? owner[value] : value;
    }
};

} // namespace splat
