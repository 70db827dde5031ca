// The backward pass of attention for compute capability 9.0, as attention_backward.h has it: one
// kernel sums over keys, one over queries, nothing is added by atomics. The copy engine fills a
// ring of tiles; two groups of four warps have 64 rows each.
#pragma once
#include "attention_backward.h"
#include "attention_hopper.h"

namespace attention {

// What the ring and the rows of both groups look like in shared memory: pairs of tiles (queries and
// the result's gradient, or keys and values), each of D / 64 parts of 64 columns. ROWS of a step.
template <class T, int D, int ROWS> struct HopperPairs {
    static constexpr int STAGES = 2, PARTS = D / 64;
    static constexpr int OWN_PART = 64 * 64, STEP_PART = ROWS * 64;
    static constexpr int OWN = PARTS * OWN_PART, STEP = PARTS * STEP_PART; // elements of one tile
    T* first;

    __device__ __forceinline__ T* own(int group, int which) const
    {
        return first + (2 * group + which) * OWN;
    }
    __device__ __forceinline__ T* step(int stage, int which) const
    {
        return first + 4 * OWN + (2 * stage + which) * STEP;
    }
};

struct HopperPairBarriers {
    unsigned long long own[2], full[2], empty[2];
};

// The barriers' start; others arrive at full beside the copies of a step.
__device__ __forceinline__ void hopperBegin(HopperPairBarriers& barriers, int others)
{
    if (threadIdx.x == 0) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            barrierInit(&barriers.own[i], 1);
            barrierInit(&barriers.full[i], 1 + others);
            barrierInit(&barriers.empty[i], 8);
        }
        fenceProxyAsync();
    }
    __syncthreads();
}

// One thread asks for the two tiles of both groups' rows, of head h from row on.
template <class T, int D, int ROWS>
__device__ __forceinline__ void hopperOwn(const HopperPairs<T, D, ROWS>& tiles,
                                          HopperPairBarriers& barriers, const TensorMap& a,
                                          const TensorMap& b, int h, int row, int batch)
{
    typedef HopperPairs<T, D, ROWS> Tiles;
#pragma unroll
    for (int group = 0; group < 2; group++) {
        barrierExpect(&barriers.own[group], 2 * Tiles::OWN * sizeof(T));
#pragma unroll
        for (int part = 0; part < Tiles::PARTS; part++) {
            copyBox(tiles.own(group, 0) + part * Tiles::OWN_PART, a, &barriers.own[group],
                    64 * part, h, row + 64 * group, batch);
            copyBox(tiles.own(group, 1) + part * Tiles::OWN_PART, b, &barriers.own[group],
                    64 * part, h, row + 64 * group, batch);
        }
    }
}

// The same thread asks for step i, when its place is empty.
template <class T, int D, int ROWS>
__device__ __forceinline__ void hopperStep(const HopperPairs<T, D, ROWS>& tiles,
                                           HopperPairBarriers& barriers, const TensorMap& a,
                                           const TensorMap& b, int i, int h, int row, int batch)
{
    typedef HopperPairs<T, D, ROWS> Tiles;
    const int stage = i % Tiles::STAGES;
    barrierWait(&barriers.empty[stage], (i / Tiles::STAGES & 1) ^ 1);
    barrierExpect(&barriers.full[stage], 2 * Tiles::STEP * sizeof(T));
#pragma unroll
    for (int part = 0; part < Tiles::PARTS; part++) {
        copyBox(tiles.step(stage, 0) + part * Tiles::STEP_PART, a, &barriers.full[stage], 64 * part,
                h, row, batch);
        copyBox(tiles.step(stage, 1) + part * Tiles::STEP_PART, b, &barriers.full[stage], 64 * part,
                h, row, batch);
    }
}

// s (64 x ROWS) = rows of the group times rows of the step, over the D columns: begun.
template <class T, int D, int ROWS>
__device__ __forceinline__ void hopperInner(float (&s)[1][ROWS / 8][4],
                                            const HopperPairs<T, D, ROWS>& tiles, int group,
                                            int stage, int which)
{
    typedef HopperPairs<T, D, ROWS> Tiles;
    const unsigned long long left = swizzled128(tiles.own(group, which), 16, 1024);
    const unsigned long long right = swizzled128(tiles.step(stage, which), 16, 1024);
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        wgmma<T, ROWS, 0>(
            s[0], advanced(left, k / 4 * Tiles::OWN_PART * (int)sizeof(T) + k % 4 * 32),
            advanced(right, k / 4 * Tiles::STEP_PART * (int)sizeof(T) + k % 4 * 32), k > 0);
    wgmmaCommit();
}

// sum (64 x D) += p (64 x ROWS) times a tile of the step: begun.
template <class T, int D, int ROWS>
__device__ __forceinline__ void
hopperOuter(float (&sum)[1][D / 8][4], const unsigned (&p)[ROWS / 16][4],
            const HopperPairs<T, D, ROWS>& tiles, int stage, int which)
{
    typedef HopperPairs<T, D, ROWS> Tiles;
    const unsigned long long right =
        swizzled128(tiles.step(stage, which), Tiles::STEP_PART * sizeof(T), 1024);
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++)
        wgmma<T, D, 1>(sum[0], p[k], advanced(right, k * 16 * 128), true);
    wgmmaCommit();
}

template <class T, int K>
__device__ __forceinline__ void hopperRound(unsigned (&p)[K / 2][4], const float (&s)[1][K][4])
{
#pragma unroll
    for (int k = 0; k < K / 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[k][i] = pack2<T>(s[0][2 * k + i / 2][i % 2 * 2], s[0][2 * k + i / 2][i % 2 * 2 + 1]);
}

template <class T> struct HopperGradients {
    T *dq, *dk, *dv;
    const float *lse, *delta; // [batch, heads, lq]
    float scale;
    HopperSizes sizes;
};

// dq of 128 queries of one head, KEYS keys a step. Products with the keys of a step run under the
// first products of the next.
template <class T, int D, int KEYS>
__device__ __forceinline__ void hopperQueries(const HopperGradients<T>& a, const TensorMap& q,
                                              const TensorMap& dout, const TensorMap& k,
                                              const TensorMap& v)
{
    typedef HopperPairs<T, D, KEYS> Tiles;
    constexpr int ROWS = 128, K = KEYS / 8;
    __shared__ HopperPairBarriers barriers;
    DYNAMIC_SHARED(T, shared);
    const Tiles tiles = {shared + ((0u - sharedAddress(shared)) & 1023) / sizeof(T)};

    const HopperSizes& sizes = a.sizes;
    const Problem problem = {nullptr,     nullptr,     nullptr,     -1,
                             sizes.right, sizes.batch, sizes.heads, sizes.kvHeads,
                             sizes.lq,    sizes.lk,    D,           1};
    const Place here = queryPlace<ROWS>(problem, blockIdx.x);
    const int end = max(0, here.end(min(here.row + ROWS, here.lq) - 1));
    const int steps = (end + KEYS - 1) / KEYS;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x & 31;
    hopperBegin(barriers, 0);

    if (warp < 4) {
        registersDown<24>();
        if (threadIdx.x == 0 && steps > 0) {
            hopperOwn(tiles, barriers, q, dout, here.h, here.row, here.b);
#pragma unroll 1
            for (int i = 0; i < steps; i++)
                hopperStep(tiles, barriers, k, v, i, here.h / (sizes.heads / sizes.kvHeads),
                           i * KEYS, here.b);
        }
        return;
    }
    registersUp<240>();
    const int group = warp / 4 - 1;
    const int top = here.row + 16 * (warp - 4); // this warp's first query
    const float c = a.scale * LOG2E;
    float sum[1][D / 8][4] = {};

    if (steps > 0) {
        float base[2], delta[2]; // of this thread's two rows; rows past the end have dout 0
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int i = top + 8 * r + (lane >> 2);
            const size_t line = here.lineAt(problem, here.h) + i;
            base[r] = i < here.lq ? finite(a.lse[line]) * LOG2E : 0.f;
            delta[r] = i < here.lq ? a.delta[line] : 0.f;
        }
        float s[1][K][4], dp[1][K][4];
        unsigned ds[KEYS / 16][4] = {};
        barrierWait(&barriers.own[group], 0);
#pragma unroll 1
        for (int i = 0; i < steps; i++) {
            const int stage = i % Tiles::STAGES, key = i * KEYS;
            barrierWait(&barriers.full[stage], i / Tiles::STAGES & 1);
            settle(sum[0]);
            settle(ds);
            wgmmaFence();
            hopperInner(s, tiles, group, stage, 0);
            hopperInner(dp, tiles, group, stage, 1);
            wgmmaWait<1>(); // and so for the last step's keys
            settle(s[0]);
            settle(sum[0]);
            settle(ds);
            if (i > 0 && lane == 0) barrierArrive(&barriers.empty[stage ^ 1]);
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[0][n][e] = exp2Approx(fmaf(s[0][n][e], c, -base[e / 2]));
            settle(s[0]);
            if (key + KEYS > min(here.keys, top + here.hi)) {
                const int x = key + 2 * (lane & 3);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int to = here.end(top + 8 * r + (lane >> 2)) - x;
#pragma unroll
                    for (int n = 0; n < K; n++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (8 * n + e >= to) s[0][n][2 * r + e] = 0.f;
                }
            }
            wgmmaWait<0>();
            settle(dp[0]);
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[0][n][e] *= dp[0][n][e] - delta[e / 2];
            hopperRound<T, K>(ds, s);
            settle(ds);
            wgmmaFence();
            hopperOuter(sum, ds, tiles, stage, 0);
        }
        wgmmaWait<0>();
        settle(sum[0]);
        settle(ds);
    }

    namedSync(1 + group, 128); // the group's queries make room for their gradients
    if (top >= here.lq) return;
    const float factor[1][2] = {{a.scale, a.scale}};
    const int row = here.row + 64 * group;
    storeRows<T, D, 1, D / 8>(a.dq + here.queryAt(problem, here.h, row), (size_t)problem.heads * D,
                              here.lq - row, D, true, tiles.own(group, 0), warp % 4 * 16, 0, sum,
                              factor);
}

// dk and dv of 128 keys of one key head, 64 queries a step, through the query heads that share it.
// Scores are formed transposed, keys as rows. A second warp brings lse and delta of a step.
template <class T, int D>
__device__ __forceinline__ void hopperKeys(const HopperGradients<T>& a, const TensorMap& q,
                                           const TensorMap& dout, const TensorMap& k,
                                           const TensorMap& v)
{
    constexpr int ROWS = 128, QUERIES = 64, K = QUERIES / 8;
    // Outer products of a step run under the inner ones of the next where registers allow.
    constexpr bool OVER = D == 64;
    typedef HopperPairs<T, D, QUERIES> Tiles;
    __shared__ HopperPairBarriers barriers;
    __shared__ float lines[2][2][QUERIES]; // of a stage: lse, finite and in units of log 2; delta
    DYNAMIC_SHARED(T, shared);
    const Tiles tiles = {shared + ((0u - sharedAddress(shared)) & 1023) / sizeof(T)};

    const HopperSizes& sizes = a.sizes;
    const Problem problem = {nullptr,     nullptr,     nullptr,     -1,
                             sizes.right, sizes.batch, sizes.heads, sizes.kvHeads,
                             sizes.lq,    sizes.lk,    D,           1};
    const Place here = keyPlace<ROWS>(problem, blockIdx.x);
    const int first =
        max(0, here.row - here.hi + 1) / QUERIES * QUERIES; // the first query that sees a key
    const int each = max(0, here.lq - first + QUERIES - 1) / QUERIES;
    const int heads = sizes.heads / sizes.kvHeads, steps = each * heads;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x & 31;
    hopperBegin(barriers, 32);

    if (warp < 4) {
        registersDown<24>();
        if (threadIdx.x == 0 && steps > 0) {
            hopperOwn(tiles, barriers, k, v, here.h, here.row, here.b);
#pragma unroll 1
            for (int i = 0; i < steps; i++)
                hopperStep(tiles, barriers, q, dout, i, here.h * heads + i / each,
                           first + i % each * QUERIES, here.b);
        }
        if (warp == 1) {
#pragma unroll 1
            for (int i = 0; i < steps; i++) {
                const int stage = i % 2, query = first + i % each * QUERIES + lane;
                const size_t line = here.lineAt(problem, here.h * heads + i / each) + query;
                barrierWait(&barriers.empty[stage], (i / 2 & 1) ^ 1);
#pragma unroll
                for (int x = 0; x < QUERIES; x += 32) { // rows past the end have dout 0
                    const bool inside = query + x < here.lq;
                    lines[stage][0][lane + x] = inside ? finite(a.lse[line + x]) * LOG2E : 0.f;
                    lines[stage][1][lane + x] = inside ? a.delta[line + x] : 0.f;
                }
                barrierArrive(&barriers.full[stage]);
            }
        }
        return;
    }
    registersUp<240>();
    const int group = warp / 4 - 1;
    const int top = here.row + 16 * (warp - 4); // this warp's first key
    const float c = a.scale * LOG2E;
    float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};

    if (steps > 0) {
        float s[1][K][4], dp[1][K][4];
        unsigned p[QUERIES / 16][4], ds[QUERIES / 16][4];
        barrierWait(&barriers.own[group], 0);
#pragma unroll 1
        for (int i = 0; i < steps; i++) {
            const int stage = i % 2, query = first + i % each * QUERIES;
            barrierWait(&barriers.full[stage], i / 2 & 1);
            settle(dk[0]);
            settle(dv[0]);
            wgmmaFence();
            hopperInner(s, tiles, group, stage, 0);
            hopperInner(dp, tiles, group, stage, 1);
            wgmmaWait<1>(); // and so for the last step's outer products
            settle(s[0]);
            if (OVER) {
                settle(dk[0]);
                settle(dv[0]);
                settle(p);
                settle(ds);
            }
            if (OVER && i > 0) {
                __syncwarp(); // every lane has read the last step's lines
                if (lane == 0) barrierArrive(&barriers.empty[stage ^ 1]);
            }
            const float* const base = lines[stage][0] + 2 * (lane & 3);
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[0][n][e] = exp2Approx(fmaf(s[0][n][e], c, -base[8 * n + e % 2]));
            settle(s[0]);
            if (top + 16 >
                min(here.keys, query + here.hi)) { // the step's first query sees fewest keys
#pragma unroll
                for (int n = 0; n < K; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int x = query + 8 * n + 2 * (lane & 3) + e % 2;
                        if (top + 8 * (e / 2) + (lane >> 2) >= here.end(x)) s[0][n][e] = 0.f;
                    }
            }
            hopperRound<T, K>(p, s);
            settle(p);
            wgmmaFence();
            hopperOuter(dv, p, tiles, stage, 1);
            wgmmaWait<1>();
            settle(dp[0]);
            const float* const delta = lines[stage][1] + 2 * (lane & 3);
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[0][n][e] *= dp[0][n][e] - delta[8 * n + e % 2];
            hopperRound<T, K>(ds, s);
            settle(ds);
            wgmmaFence();
            hopperOuter(dk, ds, tiles, stage, 0);
            if (!OVER) {
                wgmmaWait<0>();
                settle(dk[0]);
                settle(dv[0]);
                settle(p);
                settle(ds);
                __syncwarp();
                if (lane == 0) barrierArrive(&barriers.empty[stage]);
            }
        }
        wgmmaWait<0>();
        settle(dk[0]);
        settle(dv[0]);
    }

    namedSync(1 + group, 128); // the group's keys and values make room for their gradients
    if (top >= here.lk) return;
    const float factor[1][2] = {{a.scale, a.scale}}, one[1][2] = {{1.f, 1.f}};
    const int row = here.row + 64 * group;
    const size_t at = here.keyAt(problem, here.h, row), stride = (size_t)problem.kvHeads * D;
    if (a.dk)
        storeRows<T, D, 1, D / 8>(a.dk + at, stride, here.lk - row, D, true, tiles.own(group, 0),
                                  warp % 4 * 16, 0, dk, factor);
    if (a.dv)
        storeRows<T, D, 1, D / 8>(a.dv + at, stride, here.lk - row, D, true, tiles.own(group, 1),
                                  warp % 4 * 16, 0, dv, one);
}

} // namespace attention
