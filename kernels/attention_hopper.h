// The forward pass of attention for compute capability 9.0: the copy engine fills a ring of tiles
// of keys and values, two groups of four warps multiply out of it.
//
// A group has 64 queries. Under the exponentials of one step run the products of the step before
// (its values) and, in turns that named barriers keep, those of the other group: tensor cores and
// exponentials work at a time.
#pragma once
#include "attention_forward.h"
#include "device_hopper.h"

namespace attention {

struct HopperSizes {
    const int* keyLens; // [batch] or null
    int right, batch, heads, kvHeads, lq, lk;
};

// What a block has in shared memory, from a multiple of 1024 bytes on: tiles of 64 columns, 128
// bytes a row, swizzled. D is the head dimension, STAGES the places of the ring.
template <class T, int D, int STAGES> struct HopperTiles {
    static constexpr int KEYS = 128, PARTS = D / 64;
    static constexpr int QUERY_PART = 64 * 64, KEY_PART = KEYS * 64; // elements of one tile
    static constexpr int QUERIES = PARTS * QUERY_PART, STEP = PARTS * KEY_PART;
    T* first;

    __device__ __forceinline__ T* queries(int group) const { return first + group * QUERIES; }
    __device__ __forceinline__ T* keys(int stage) const
    {
        return first + 2 * QUERIES + 2 * stage * STEP;
    }
    __device__ __forceinline__ T* values(int stage) const { return keys(stage) + STEP; }
};

// The barriers of the ring: full when a box is there, empty when all eight warps have used it.
template <int STAGES> struct HopperBarriers {
    unsigned long long queries[2];
    unsigned long long fullKeys[STAGES], emptyKeys[STAGES], fullValues[STAGES], emptyValues[STAGES];
};

// One thread's work: asks for the queries and for all steps of keys and values, the last one first,
// since it is there that masks cut.
template <class T, int D, int STAGES>
__device__ __forceinline__ void hopperLoad(const HopperTiles<T, D, STAGES>& tiles,
                                           HopperBarriers<STAGES>& barriers, const TensorMap& q,
                                           const TensorMap& k, const TensorMap& v,
                                           const Place& here, int keyHead, int steps)
{
    typedef HopperTiles<T, D, STAGES> Tiles;
#pragma unroll
    for (int group = 0; group < 2; group++) {
        barrierExpect(&barriers.queries[group], Tiles::QUERIES * sizeof(T));
#pragma unroll
        for (int part = 0; part < Tiles::PARTS; part++)
            copyBox(tiles.queries(group) + part * Tiles::QUERY_PART, q, &barriers.queries[group],
                    64 * part, here.h, here.row + 64 * group, here.b);
    }
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        const int stage = i % STAGES, free = (i / STAGES & 1) ^ 1,
                  key = (steps - 1 - i) * Tiles::KEYS;
        barrierWait(&barriers.emptyKeys[stage], free);
        barrierExpect(&barriers.fullKeys[stage], Tiles::STEP * sizeof(T));
#pragma unroll
        for (int part = 0; part < Tiles::PARTS; part++)
            copyBox(tiles.keys(stage) + part * Tiles::KEY_PART, k, &barriers.fullKeys[stage],
                    64 * part, keyHead, key, here.b);
        barrierWait(&barriers.emptyValues[stage], free);
        barrierExpect(&barriers.fullValues[stage], Tiles::STEP * sizeof(T));
#pragma unroll
        for (int part = 0; part < Tiles::PARTS; part++)
            copyBox(tiles.values(stage) + part * Tiles::KEY_PART, v, &barriers.fullValues[stage],
                    64 * part, keyHead, key, here.b);
    }
}

// s = the group's queries times the keys of a stage: begun, not awaited.
template <class T, int D, int STAGES>
__device__ __forceinline__ void
hopperScores(float (&s)[1][16][4], const HopperTiles<T, D, STAGES>& tiles, int group, int stage)
{
    typedef HopperTiles<T, D, STAGES> Tiles;
    const unsigned long long left = swizzled128(tiles.queries(group), 16, 1024);
    const unsigned long long right = swizzled128(tiles.keys(stage), 16, 1024);
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        wgmma<T, Tiles::KEYS, 0>(
            s[0], advanced(left, k / 4 * Tiles::QUERY_PART * (int)sizeof(T) + k % 4 * 32),
            advanced(right, k / 4 * Tiles::KEY_PART * (int)sizeof(T) + k % 4 * 32), k > 0);
    wgmmaCommit();
}

// out += p times the values of a stage: begun, not awaited.
template <class T, int D, int STAGES>
__device__ __forceinline__ void hopperValues(float (&out)[1][D / 8][4], const unsigned (&p)[8][4],
                                             const HopperTiles<T, D, STAGES>& tiles, int stage)
{
    typedef HopperTiles<T, D, STAGES> Tiles;
    const unsigned long long right =
        swizzled128(tiles.values(stage), Tiles::KEY_PART * sizeof(T), 1024);
#pragma unroll
    for (int k = 0; k < Tiles::KEYS / 16; k++)
        wgmma<T, D, 1>(out[0], p[k], advanced(right, k * 16 * 128), true);
    wgmmaCommit();
}

// Softmax::update without the scaling of out, by what shrink then holds.
__device__ __forceinline__ void hopperSoftmax(Softmax<1>& soft, float (&s)[1][16][4],
                                              float (&shrink)[2], float c)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = soft.most[0][r];
#pragma unroll
        for (int n = 0; n < 16; n++)
            top = fmaxf(top, fmaxf(s[0][n][2 * r], s[0][n][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float base = top == -INFINITY ? 0.f : top * c;
        shrink[r] = exp2Approx(fmaf(soft.most[0][r], c, -base));
        soft.most[0][r] = top;
        float part = 0.f;
#pragma unroll
        for (int n = 0; n < 16; n++)
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; e++)
                part += s[0][n][e] = exp2Approx(fmaf(s[0][n][e], c, -base));
        soft.sum[0][r] = fmaf(soft.sum[0][r], shrink[r], part);
    }
}

template <class T>
__device__ __forceinline__ void hopperPack(unsigned (&p)[8][4], const float (&s)[1][16][4])
{
#pragma unroll
    for (int k = 0; k < 8; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[k][i] = pack2<T>(s[0][2 * k + i / 2][i % 2 * 2], s[0][2 * k + i / 2][i % 2 * 2 + 1]);
}

template <class T, int D, int STAGES>
__device__ __forceinline__ void attendHopper(T* outTo, float* lse, const TensorMap& q,
                                             const TensorMap& k, const TensorMap& v, float scale,
                                             const HopperSizes& sizes)
{
    typedef HopperTiles<T, D, STAGES> Tiles;
    constexpr int KEYS = Tiles::KEYS, ROWS = 128;
    __shared__ HopperBarriers<STAGES> barriers;
    DYNAMIC_SHARED(T, shared);
    const Tiles tiles = {shared + ((0u - sharedAddress(shared)) & 1023) / sizeof(T)};

    const Problem problem = {sizes.keyLens, nullptr,     nullptr,     -1,
                             sizes.right,   sizes.batch, sizes.heads, sizes.kvHeads,
                             sizes.lq,      sizes.lk,    D,           1};
    const Place here = queryPlace<ROWS>(problem, blockIdx.x);
    const int end = max(0, here.end(min(here.row + ROWS, here.lq) - 1));
    const int steps = (end + KEYS - 1) / KEYS;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x & 31;

    if (threadIdx.x == 0) {
#pragma unroll
        for (int i = 0; i < 2; i++)
            barrierInit(&barriers.queries[i], 1);
#pragma unroll
        for (int i = 0; i < STAGES; i++) {
            barrierInit(&barriers.fullKeys[i], 1);
            barrierInit(&barriers.fullValues[i], 1);
            barrierInit(&barriers.emptyKeys[i], 8);
            barrierInit(&barriers.emptyValues[i], 8);
        }
        fenceProxyAsync();
    }
    __syncthreads();

    if (warp < 4) {
        registersDown<24>();
        if (threadIdx.x == 0 && steps > 0)
            hopperLoad(tiles, barriers, q, k, v, here, here.h / (sizes.heads / sizes.kvHeads),
                       steps);
        return;
    }
    registersUp<240>();
    const int group = warp / 4 - 1;
    const int top = here.row + 16 * (warp - 4); // this warp's first query
    const float c = scale * LOG2E;
    float out[1][D / 8][4] = {};
    Softmax<1> soft;

    if (steps > 0) {
        // The turn for products: barrier 1 is the first group's, 2 the second's, whose first turn
        // comes after the first one's.
        if (group == 1) namedArrive(1, 256);
        float s[1][16][4], shrink[2];
        unsigned p[8][4];

        barrierWait(&barriers.queries[group], 0);
        barrierWait(&barriers.fullKeys[0], 0);
        namedSync(1 + group, 256);
        wgmmaFence();
        hopperScores(s, tiles, group, 0);
        if (group == 0 || steps > 1) namedArrive(2 - group, 256);
        wgmmaWait<0>();
        settle(s[0]);
        if (lane == 0) barrierArrive(&barriers.emptyKeys[0]);
        int key = (steps - 1) * KEYS;
        if (key + KEYS > min(here.keys, top + here.hi))
            maskScores<1, 16>(s, here.lo, here.hi, here.keys, top, key);
        hopperSoftmax(soft, s, shrink, c);
        hopperPack<T>(p, s);

        if (here.keys < min(here.lk, key + KEYS)) {
            // Values behind keyLens may be anything, and 0 times it is not always 0.
            barrierWait(&barriers.fullValues[0], 0);
            const int rows = key + KEYS - here.keys;
            for (int i = threadIdx.x - 128; i < rows * 8 * Tiles::PARTS; i += 256) {
                const int row = KEYS - rows + i / 8 % rows, part = i / 8 / rows;
                *(uint4*)(tiles.values(0) + part * Tiles::KEY_PART + row * 64 + i % 8 * 8) =
                    make_uint4(0, 0, 0, 0);
            }
            fenceProxyAsync();
            namedSync(3, 256);
        }

        if (steps > 1) barrierWait(&barriers.fullKeys[1 % STAGES], 1 / STAGES & 1);
#pragma unroll 1
        for (int i = 1; i < steps; i++) {
            const int stage = i % STAGES, before = (i - 1) % STAGES;
            key -= KEYS;
            namedSync(1 + group, 256);
            settle(out[0]);
            settle(p);
            wgmmaFence();
            hopperScores(s, tiles, group, stage);
            barrierWait(&barriers.fullValues[before], (i - 1) / STAGES & 1);
            wgmmaFence();
            hopperValues(out, p, tiles, before);
            if (group == 0 || i + 1 < steps) namedArrive(2 - group, 256);
            wgmmaWait<1>();
            settle(s[0]);
            if (lane == 0) barrierArrive(&barriers.emptyKeys[stage]);
            if (key + KEYS > min(here.keys, top + here.hi))
                maskScores<1, 16>(s, here.lo, here.hi, here.keys, top, key);
            hopperSoftmax(soft, s, shrink, c);
            settle(s[0]);
            // The loop that waits for the next keys keeps the exponentials above it and the wait
            // for the products below; next to each other, the compiler waits first.
            if (i + 1 < steps)
                barrierWait(&barriers.fullKeys[(i + 1) % STAGES], (i + 1) / STAGES & 1);
            wgmmaWait<0>();
            settle(out[0]);
            settle(p);
            if (lane == 0) barrierArrive(&barriers.emptyValues[before]);
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    out[0][n][e] *= shrink[e / 2];
            hopperPack<T>(p, s);
        }
        const int last = steps - 1;
        barrierWait(&barriers.fullValues[last % STAGES], last / STAGES & 1);
        settle(out[0]);
        settle(p);
        wgmmaFence();
        hopperValues(out, p, tiles, last % STAGES);
        wgmmaWait<0>();
        settle(out[0]);
        settle(p);
    }

    // The group's queries have been used: their place takes the results on the way out.
    namedSync(4 + group, 128);
    if (top >= here.lq) return;
    soft.finish();
    float factor[1][2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float sum = soft.sum[0][r];
        factor[0][r] = sum == 0.f ? 0.f : __fdividef(1.f, sum); // a NaN stays one
        const int i = top + 8 * r + (lane >> 2);
        if (lse && (lane & 3) == 0 && i < here.lq)
            lse[here.lineAt(problem, here.h) + i] =
                sum == 0.f ? -INFINITY : soft.most[0][r] * scale + logf(sum);
    }
    const int row = here.row + 64 * group;
    storeRows<T, D, 1, D / 8>(outTo + here.queryAt(problem, here.h, row), (size_t)problem.heads * D,
                              here.lq - row, D, true, tiles.queries(group), warp % 4 * 16, 0, out,
                              factor);
}

} // namespace attention
