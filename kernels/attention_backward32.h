// The backward pass in float, exact products (no tf32); attention_backward.h has
// the formulas. Probabilities and their gradients go through a warp's own shared
// memory into the products that sum over queries or keys.
#pragma once
#include "attention_tile32.h"

namespace attention {

struct BackwardArgs32 {
    float *dk, *dv, *dq; // what the kernel does not write is null
    const float *dout, *q, *k, *v;
    const float *lse, *delta; // [batch, heads, lq]
    const float* bias;
    float scale;
    int biasBatch, biasHeads;
    Problem p;
};

// One block: 16 R / SPLIT keys of one key head, four warps of 4 R (SPLIT warps
// share their keys and sum WIDTH / SPLIT columns each), 32 queries a step,
// through the query heads that share the key head. Scores have keys as rows.
template <int WIDTH, int R, int SPLIT>
__device__ __forceinline__ void backwardKeys32(const BackwardArgs32& a)
{
    constexpr int WARPS = 4, OWN = 4 * R, ROWS = OWN * WARPS / SPLIT, THREADS = 32 * WARPS;
    constexpr int QUERIES = 32, C = QUERIES / 8, G = WIDTH / 32 / SPLIT, ROW = WIDTH + PAD;
    DYNAMIC_SHARED(float, shared);
    float* const sk = shared;
    float* const sv = sk + ROWS * ROW;
    float* const sq = sv + ROWS * ROW;
    float* const sdo = sq + QUERIES * ROW;
    float* const lines = sdo + QUERIES * ROW; // lse, delta
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    float* const held = lines + 2 * QUERIES + warp * OWN * (QUERIES + PAD_P);
    const int own = warp / SPLIT * OWN, column = warp % SPLIT * (WIDTH / SPLIT);

    const Problem& p = a.p;
    const bool aligned = p.aligned;
    const int group = p.heads / p.kvHeads;
    const size_t stride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;
    const Place here = keyPlace<ROWS>(p, blockIdx.x);
    if (here.row >= here.lk) return;
    const size_t at = here.keyAt(p, here.h, here.row);
    loadTile32<ROWS, WIDTH, THREADS>(sk, a.k + at, kStride, here.lk - here.row, p.d, aligned);
    loadTile32<ROWS, WIDTH, THREADS>(sv, a.v + at, kStride, here.lk - here.row, p.d, aligned);
    copyAsyncCommit();
    const int top = here.row + own, last = min(top + OWN, here.keys) - 1;
    // Queries that see a key of the block.
    const int first = max(0, here.row - here.hi + 1) / QUERIES * QUERIES;
    const int end =
        here.row < here.keys ? min(here.lq, min(here.row + ROWS, here.keys) - here.lo) : 0;

    float4 dk[R][G] = {}, dv[R][G] = {};
    for (int h = here.h * group; h < (here.h + 1) * group; h++) {
        const float* const bias =
            a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, h) : nullptr;
        const size_t line = here.lineAt(p, h);
        for (int i = first; i < end; i += QUERIES) {
            if (!blocksLeft<QUERIES, ROWS>(p, here.b, h, i, here.row)) continue;
            __syncthreads(); // every warp is done with the last step
            const size_t from = here.queryAt(p, h, i);
            loadTile32<QUERIES, WIDTH, THREADS>(sq, a.q + from, stride, here.lq - i, p.d, aligned);
            if (threadIdx.x <
                2 * QUERIES) { // rows past the end have dout and delta 0 and add nothing
                const int x = threadIdx.x % QUERIES;
                copyAsync4(lines + threadIdx.x,
                           (threadIdx.x < QUERIES ? a.lse : a.delta) + line + i + x,
                           i + x < here.lq);
            }
            copyAsyncCommit();
            loadTile32<QUERIES, WIDTH, THREADS>(sdo, a.dout + from, stride, here.lq - i, p.d,
                                                aligned);
            copyAsyncCommit();
            copyAsyncWait<1>();
            __syncthreads(); // q is here

            const bool some = top <= last && i <= last - here.lo &&
                              i + QUERIES - 1 >= top - here.hi + 1 &&
                              blocksLeft<QUERIES, OWN>(p, here.b, h, i, top);
            float s[R][C] = {};
            if (some) {
                multiplyRows32<WIDTH>(s, sk, own, sq, 0);
#pragma unroll
                for (int n = 0; n < C; n++) {
                    const int x = i + laneX() + 8 * n, j = top + laneY();
                    const float lse = finite(lines[laneX() + 8 * n]);
                    const int from = here.first(x) - j, to = here.end(x) - j;
#pragma unroll
                    for (int r = 0; r < R; r++) {
                        const bool biased = bias && x < here.lq && j + 4 * r < here.lk;
                        const float add = biased ? bias[(size_t)x * p.lk + j + 4 * r] : 0.f;
                        const float prob = exp2Approx((fmaf(s[r][n], a.scale, add) - lse) * LOG2E);
                        s[r][n] = 4 * r >= from && 4 * r < to ? prob : 0.f;
                    }
                }
                hold32(held, s);
            }
            copyAsyncWait<0>();
            __syncthreads(); // dout is here
            if (!some) continue;
            multiplyHeld32<WIDTH, QUERIES>(dv, held, sdo + column);

            float dp[R][C] = {};
            multiplyRows32<WIDTH>(dp, sv, own, sdo, 0);
#pragma unroll
            for (int n = 0; n < C; n++) {
                const float delta = lines[QUERIES + laneX() + 8 * n];
#pragma unroll
                for (int r = 0; r < R; r++)
                    s[r][n] *= dp[r][n] - delta;
            }
            hold32(held, s);
            multiplyHeld32<WIDTH, QUERIES>(dk, held, sq + column);
        }
    }
    copyAsyncWait<0>();

#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = own + laneY() + 4 * r; // row of the block
        if (here.row + i >= here.lk) continue;
#pragma unroll
        for (int g = 0; g < G; g++) {
            const int x = column + 4 * laneX() + 32 * g;
            const size_t to = at + i * kStride + x;
            if (a.dk) storeGroup32(a.dk + to, p.d - x, aligned, dk[r][g], a.scale);
            if (a.dv) storeGroup32(a.dv + to, p.d - x, aligned, dv[r][g], 1.f);
        }
    }
}

// One block: 16 R queries of one head, four warps of 4 R, 32 keys a step.
template <int WIDTH, int R>
__device__ __forceinline__ void backwardQueries32(const BackwardArgs32& a)
{
    constexpr int WARPS = 4, OWN = 4 * R, ROWS = OWN * WARPS, THREADS = 32 * WARPS;
    constexpr int KEYS = 32, C = KEYS / 8, G = WIDTH / 32, ROW = WIDTH + PAD;
    DYNAMIC_SHARED(float, shared);
    float* const sq = shared;
    float* const sdo = sq + ROWS * ROW;
    float* const sk = sdo + ROWS * ROW;
    float* const sv = sk + KEYS * ROW;
    float* const lines = sv + KEYS * ROW; // lse, made finite; delta
    const int own = __shfl_sync(~0u, threadIdx.x / 32, 0) * OWN;
    float* const held = lines + 2 * ROWS + own * (KEYS + PAD_P);

    const Problem& p = a.p;
    const bool aligned = p.aligned;
    const size_t stride = (size_t)p.kvHeads * p.d, qStride = (size_t)p.heads * p.d;
    const Place here = queryPlace<ROWS>(p, blockIdx.x);
    if (here.row >= here.lq) return;
    const int rows = min(ROWS, here.lq - here.row);
    const size_t qAt = here.queryAt(p, here.h, here.row);
    loadTile32<ROWS, WIDTH, THREADS>(sq, a.q + qAt, qStride, rows, p.d, aligned);
    loadTile32<ROWS, WIDTH, THREADS>(sdo, a.dout + qAt, qStride, rows, p.d, aligned);
    copyAsyncCommit();
    for (int i = threadIdx.x; i < ROWS; i += THREADS) {
        const size_t line = here.lineAt(p, here.h) + here.row + i;
        lines[i] = i < rows ? finite(a.lse[line]) : 0.f;
        lines[ROWS + i] = i < rows ? a.delta[line] : 0.f;
    }
    const int top = here.row + own, last = min(top + OWN, here.lq) - 1;
    const int end = here.end(here.row + rows - 1);
    const float* const bias =
        a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, here.h) : nullptr;

    float4 dq[R][G] = {};
    for (int j0 = here.first(here.row) / KEYS * KEYS; j0 < end; j0 += KEYS) {
        if (!blocksLeft<ROWS, KEYS>(p, here.b, here.h, here.row, j0)) continue;
        __syncthreads(); // every warp is done with the last step
        const size_t from = here.keyAt(p, here.h / (p.heads / p.kvHeads), j0);
        loadTile32<KEYS, WIDTH, THREADS>(sk, a.k + from, stride, end - j0, p.d, aligned);
        copyAsyncCommit();
        loadTile32<KEYS, WIDTH, THREADS>(sv, a.v + from, stride, end - j0, p.d, aligned);
        copyAsyncCommit();
        copyAsyncWait<1>();
        __syncthreads(); // k is here

        const bool some = top <= last && j0 < here.end(last) && j0 + KEYS > here.first(top) &&
                          blocksLeft<OWN, KEYS>(p, here.b, here.h, top, j0);
        float s[R][C] = {};
        if (some) {
            multiplyRows32<WIDTH>(s, sq, own, sk, 0);
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int i = top + laneY() + 4 * r, j = j0 + laneX();
                const float lse = lines[own + laneY() + 4 * r];
                const int from = here.first(i) - j, to = here.end(i) - j;
#pragma unroll
                for (int n = 0; n < C; n++) {
                    const bool biased = bias && i < here.lq && j + 8 * n < here.lk;
                    const float add = biased ? bias[(size_t)i * p.lk + j + 8 * n] : 0.f;
                    const float prob = exp2Approx((fmaf(s[r][n], a.scale, add) - lse) * LOG2E);
                    s[r][n] = 8 * n >= from && 8 * n < to ? prob : 0.f;
                }
            }
        }
        copyAsyncWait<0>();
        __syncthreads(); // v is here
        if (!some) continue;
        float dp[R][C] = {};
        multiplyRows32<WIDTH>(dp, sdo, own, sv, 0);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float delta = lines[ROWS + own + laneY() + 4 * r];
#pragma unroll
            for (int n = 0; n < C; n++)
                s[r][n] *= dp[r][n] - delta;
        }
        hold32(held, s);
        multiplyHeld32<WIDTH, KEYS>(dq, held, sk);
    }
    copyAsyncWait<0>();

#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = own + laneY() + 4 * r; // row of the block
        if (i >= rows) continue;
#pragma unroll
        for (int g = 0; g < G; g++) {
            const int x = 4 * laneX() + 32 * g;
            storeGroup32(a.dq + qAt + i * qStride + x, p.d - x, aligned, dq[r][g], a.scale);
        }
    }
}

} // namespace attention
