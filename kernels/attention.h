// What the attention kernels share: the problem's scalars, the rows of one
// sequence and head, and which keys a query sees.
#pragma once
#include "device.h"

namespace attention {

constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.69314718055994531f;

// The scalars of a call. Tensors are [batch, rows, heads, d], contiguous, or
// [rows, heads, d] with cuQ and cuK [batch + 1] as the sequences' first rows.
struct Problem {
    const int* keyLens; // [batch] or null
    const int* cuQ;     // [batch + 1] or null
    const int* cuK;     // [batch + 1], null as cuQ is
    int left, right; // query i sees keys i + lk - lq - left ... i + lk - lq + right; < 0: no limit
    int batch;
    int heads, kvHeads; // heads is a multiple of kvHeads
    int lq, lk, d;      // the longest lengths where cuQ is given
    int aligned;        // every row starts at a multiple of 16 bytes
    // [blockBatch, blockHeads, ceil(lq / side), ceil(lk / side)] or null: pairs in a block of
    // side = 2^blockShift >= 64 that is 0 are not seen. The extents before are 1 or the full ones.
    const unsigned char* blocks;
    int blockShift, blockBatch, blockHeads;
};

// Where a block works: a tile of rows of one sequence and head.
struct Place {
    int b, h, row;
    size_t q, k; // the sequence's first row in the query and in the key tensors
    int lq, lk;  // rows
    int keys;    // keys that count, at most lk
    int lo, hi;  // query i sees keys max(0, i + lo) <= j < min(keys, i + hi)

    __device__ __forceinline__ int first(int i) const { return max(0, i + lo); }
    __device__ __forceinline__ int end(int i) const { return min(keys, i + hi); }

    // Element of query i of head g in q, of key j of key head g in k.
    __device__ __forceinline__ size_t queryAt(const Problem& p, int g, int i) const
    {
        return ((q + i) * p.heads + g) * p.d;
    }
    __device__ __forceinline__ size_t keyAt(const Problem& p, int g, int j) const
    {
        return ((k + j) * p.kvHeads + g) * p.d;
    }
    // Place of the sequence's first query in lse and delta: [batch, heads, lq],
    // or [heads, rows] for sequences of their own lengths.
    __device__ __forceinline__ size_t lineAt(const Problem& p, int g) const
    {
        if (p.cuQ) return (size_t)g * p.cuQ[p.batch] + q;
        return ((size_t)b * p.heads + g) * p.lq;
    }
};

// Place of row row of head h of sequence b.
__device__ __forceinline__ Place placeAt(const Problem& p, int b, int h, int row)
{
    Place s;
    s.b = b;
    s.h = h;
    s.row = row;
    if (p.cuQ) {
        s.q = p.cuQ[b];
        s.k = p.cuK[b];
        s.lq = p.cuQ[b + 1] - p.cuQ[b];
        s.lk = p.cuK[b + 1] - p.cuK[b];
    } else {
        s.q = (size_t)b * p.lq;
        s.k = (size_t)b * p.lk;
        s.lq = p.lq;
        s.lk = p.lk;
    }
    s.keys = p.keyLens ? max(0, min(p.keyLens[b], s.lk)) : s.lk;
    s.lo = p.left < 0 ? -s.lq : s.lk - s.lq - p.left;
    s.hi = p.right < 0 ? s.lk : s.lk - s.lq + p.right + 1;
    return s;
}

// Place of a block in a grid of ceil(length / ROWS) tiles (fastest) by heads by batch.
template <int ROWS>
__device__ __forceinline__ Place placeOf(const Problem& p, unsigned block, int length, int heads)
{
    const unsigned tiles = (unsigned)(length + ROWS - 1) / ROWS;
    const unsigned h = block / tiles % (unsigned)heads, b = block / tiles / (unsigned)heads;
    return placeAt(p, b, h, block % tiles * ROWS);
}

// Tiles of queries, the last one first: under a causal mask it sees the most keys.
template <int ROWS> __device__ __forceinline__ Place queryPlace(const Problem& p, unsigned block)
{
    Place s = placeOf<ROWS>(p, block, p.lq, p.heads);
    s.row = (p.lq - 1) / ROWS * ROWS - s.row;
    return s;
}

// Tiles of keys of a key head, the first one first: the most queries see it.
template <int ROWS> __device__ __forceinline__ Place keyPlace(const Problem& p, unsigned block)
{
    return placeOf<ROWS>(p, block, p.lk, p.kvHeads);
}

// Additive bias [batch or 1, heads or 1, lq, lk] of one batch item and head.
__device__ __forceinline__ const float* biasOf(const float* bias, int biasBatch, int biasHeads,
                                               const Problem& p, int b, int h)
{
    const size_t plane = (size_t)(biasBatch == 1 ? 0 : b) * biasHeads + (biasHeads == 1 ? 0 : h);
    return bias + plane * p.lq * p.lk;
}

// Whether the mask of blocks, where there is one, leaves a pair of the queries i ... i + ROWS - 1 of
// head g of sequence b and the keys j ... j + KEYS - 1; i and j are multiples of these numbers.
template <int ROWS, int KEYS>
__device__ __forceinline__ bool blocksLeft(const Problem& p, int b, int g, int i, int j)
{
    if (!p.blocks) return true;
    const int down = ((p.lq - 1) >> p.blockShift) + 1, across = ((p.lk - 1) >> p.blockShift) + 1;
    const size_t plane =
        (size_t)(p.blockBatch == 1 ? 0 : b) * p.blockHeads + (p.blockHeads == 1 ? 0 : g);
    const unsigned char* const at = p.blocks + plane * down * across;
    int any = 0;
#pragma unroll
    for (int y = 0; y < ROWS; y += 64)
#pragma unroll
        for (int x = 0; x < KEYS; x += 64)
            if (i + y < p.lq && j + x < p.lk)
                any |= at[(size_t)((i + y) >> p.blockShift) * across + ((j + x) >> p.blockShift)];
    return any != 0;
}

// What is subtracted from a query's scores in place of lse. A query that saw no key
// has only scores of -inf; they stay it.
__device__ __forceinline__ float finite(float lse) { return lse == -INFINITY ? 0.f : lse; }

} // namespace attention
