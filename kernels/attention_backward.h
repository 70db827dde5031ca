// The backward pass on tensor cores: one template for the gradients of keys and
// values, one for those of queries. Both form the probabilities again from lse:
//
//     p = exp2(c s + bias - lse),  ds = p (dout . v - delta),  delta = dout . out
//
// Every sum has one owner and one order, so there are no atomics.
#pragma once
#include "attention_tile.h"

namespace attention {

template <class T> struct BackwardArgs {
    T *dk, *dv, *dq; // what the kernel does not write is null
    const T *dout, *q, *k, *v;
    const float *lse, *delta; // [batch, heads, lq]
    const float* bias;
    float scale;
    int biasBatch, biasHeads;
    Problem p;
};

// Scores of 16 ATOMS keys (rows) by 8 K queries (columns) to probabilities.
// lse holds the K columns' values; bias is at (query, key) = (0, 0).
template <int ATOMS, int K>
__device__ __forceinline__ void keyProbabilities(float (&s)[ATOMS][K][4], const float* lse, float c,
                                                 const float* bias, int stride, int query, int key,
                                                 int lq, int lk)
{
    const int lane = opaque(threadIdx.x & 31), t = 2 * (lane & 3);
#pragma unroll
    for (int n = 0; n < K; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int i = query + 8 * n + t + e;
            const float base = finite(lse[8 * n + t + e]) * LOG2E;
#pragma unroll
            for (int m = 0; m < ATOMS; m++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int j = key + 16 * m + 8 * r + (lane >> 2);
                    float x = -base;
                    if (bias && i < lq && j < lk) x = fmaf(bias[(size_t)i * stride + j], LOG2E, x);
                    s[m][n][2 * r + e] = exp2Approx(fmaf(s[m][n][2 * r + e], c, x));
                }
        }
}

// The same with queries as rows; base holds their lse, finite and in units of log 2.
template <int ATOMS, int K>
__device__ __forceinline__ void queryProbabilities(float (&s)[ATOMS][K][4], const float* base,
                                                   float c, const float* bias, int stride,
                                                   int query, int key, int lq, int lk)
{
    const int lane = opaque(threadIdx.x & 31);
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int i = query + 16 * m + 8 * r + (lane >> 2), j = key + 2 * (lane & 3);
            const int left = bias && i < lq ? lk - j : 0;
            const float* const at = left > 0 ? bias + (size_t)i * stride + j : nullptr;
            const float line = base[16 * m + 8 * r + (lane >> 2)];
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float x = -line;
                    if (8 * n + e < left) x = fmaf(at[8 * n + e], LOG2E, x);
                    s[m][n][2 * r + e] = exp2Approx(fmaf(s[m][n][2 * r + e], c, x));
                }
        }
}

// One block: 16 ATOMS WARPS / SPLIT keys of one key head, QUERIES queries a step,
// through the query heads that share the key head. Scores are formed transposed,
// keys as rows, so that probabilities and their gradients are already the left
// operand of the products that sum over queries. SPLIT warps share a set of rows
// and sum WIDTH / SPLIT columns each. Two steps' queries are in shared memory.
template <class T, int WIDTH, int ATOMS, int WARPS, int SPLIT, int QUERIES>
__device__ __forceinline__ void backwardKeys(const BackwardArgs<T>& a)
{
    constexpr int OWN = 16 * ATOMS, ROWS = OWN * WARPS / SPLIT, THREADS = 32 * WARPS;
    constexpr int N = WIDTH / 8 / SPLIT, STAGE = 2 * QUERIES * WIDTH;
    DYNAMIC_SHARED(T, shared);
    T* const sk = shared;
    T* const sv = sk + ROWS * WIDTH;
    T* const steps = sv + ROWS * WIDTH;               // per stage: q, dout
    float* const lines = (float*)(steps + 2 * STAGE); // per stage: lse, delta

    const Problem& p = a.p;
    const float c = a.scale * LOG2E;
    const bool aligned = p.aligned;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    const int own = warp / SPLIT * OWN, column = warp % SPLIT * N;
    const int group = p.heads / p.kvHeads;
    const size_t stride = (size_t)p.heads * p.d;
    int i0, first, end, head; // queries that see a key of the block
    int some, over, all,
        none; // of the warp's keys, queries some ... over - 1 see one, all ... none - 1 every one
    {
        const Place here = keyPlace<ROWS>(p, blockIdx.x);
        if (here.row >= here.lk) return;
        const size_t kStride = (size_t)p.kvHeads * p.d, at = here.keyAt(p, here.h, here.row);
        loadTile<T, ROWS, WIDTH, THREADS>(sk, a.k + at, kStride, here.lk - here.row, p.d, aligned);
        loadTile<T, ROWS, WIDTH, THREADS>(sv, a.v + at, kStride, here.lk - here.row, p.d, aligned);
        const int block = min(here.row + ROWS, here.keys) - 1;
        first = max(0, here.row - here.hi + 1) / QUERIES * QUERIES;
        end = here.row < here.keys ? min(here.lq, block - here.lo + 1) : 0;
        const int top = here.row + own, last = min(top + OWN, here.keys) - 1;
        some = top - here.hi + 1;
        over = top <= last ? last - here.lo + 1 : 0;
        all = top + OWN <= here.keys ? top + OWN - here.hi : here.lq;
        none = top - here.lo + 1;
        i0 = first;
        head = here.h * group;
    }
    auto fetch = [&](int stage, int i, int h) { // queries i.. of head h
        const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
        T* const sq = steps + stage * STAGE;
        const size_t at = here.queryAt(p, h, i);
        loadTile<T, QUERIES, WIDTH, THREADS>(sq, a.q + at, stride, here.lq - i, p.d, aligned);
        loadTile<T, QUERIES, WIDTH, THREADS>(sq + QUERIES * WIDTH, a.dout + at, stride, here.lq - i,
                                             p.d, aligned);
        if (threadIdx.x < 2 * QUERIES) { // rows past the end have dout and delta 0 and add nothing
            const int x = threadIdx.x % QUERIES;
            const float* const from = threadIdx.x < QUERIES ? a.lse : a.delta;
            copyAsync4(lines + stage * 2 * QUERIES + threadIdx.x, from + here.lineAt(p, h) + i + x,
                       i + x < here.lq);
        }
    };

    float dk[ATOMS][N][4] = {}, dv[ATOMS][N][4] = {};
    int left = first < end ? group : 0, stage = 0; // heads to go
    auto advance = [&] {
        i0 += QUERIES;
        if (i0 >= end) i0 = first, head++, left--;
    };
    auto settle = [&] { // at the first step from here on of which a mask of blocks leaves something
        if (!p.blocks) return;
        const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
        while (left && !blocksLeft<QUERIES, ROWS>(p, here.b, head, i0, here.row))
            advance();
    };
    auto leaves = [&](int h, int i) { // of this warp's keys
        if (!p.blocks) return true;
        const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
        return blocksLeft<QUERIES, OWN>(p, here.b, h, i, here.row + own);
    };
    settle();
    if (left) fetch(0, i0, head);
    copyAsyncCommit();
    while (left) {
        copyAsyncWait<0>();
        __syncthreads(); // this step is here, and every warp is done with the last one
        const T* const sq = steps + stage * STAGE;
        const T* const sdo = sq + QUERIES * WIDTH;
        const float* const lse = lines + stage * 2 * QUERIES;
        const int i = i0, h = head;
        advance();
        settle();
        stage ^= 1;
        if (left) fetch(stage, i0, head);
        copyAsyncCommit();
        if (i >= over || i + QUERIES <= some || !leaves(h, i)) continue;

        float s[ATOMS][QUERIES / 8][4] = {};
        multiplyRows<T, WIDTH>(s, sk, own, sq, 0);
        const float* bias = nullptr;
        int top = 0, lq = 0, lk = 0;
        if (a.bias) {
            const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
            bias = biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, h);
            top = here.row + own, lq = here.lq, lk = here.lk;
        }
        keyProbabilities(s, lse, c, bias, p.lk, i, top, lq, lk);
        if (i < all || i + QUERIES > none) {
            const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
            const int lane = opaque(threadIdx.x & 31), j = here.row + own + (lane >> 2);
#pragma unroll
            for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int x = i + 8 * n + 2 * (lane & 3) + e;
                    const int from = here.first(x) - j, to = here.end(x) - j;
#pragma unroll
                    for (int m = 0; m < ATOMS; m++)
#pragma unroll
                        for (int r = 0; r < 2; r++)
                            if (16 * m + 8 * r < from || 16 * m + 8 * r >= to)
                                s[m][n][2 * r + e] = 0.f;
                }
        }
        multiplyHeld<T, WIDTH>(dv, s, sdo, column);

        float dp[ATOMS][QUERIES / 8][4] = {};
        multiplyRows<T, WIDTH>(dp, sv, own, sdo, 0);
        const float* const delta = lse + QUERIES + 2 * (threadIdx.x & 3);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
#pragma unroll
                for (int m = 0; m < ATOMS; m++)
#pragma unroll
                    for (int r = 0; r < 2; r++)
                        s[m][n][2 * r + e] *= dp[m][n][2 * r + e] - delta[8 * n + e];
        multiplyHeld<T, WIDTH>(dk, s, sq, column);
    }
    copyAsyncWait<0>();
    __syncthreads(); // k and v make room for their gradients

    const Place here = keyPlace<ROWS>(p, opaque(blockIdx.x));
    const size_t kStride = (size_t)p.kvHeads * p.d, at = here.keyAt(p, here.h, here.row);
    float scale[ATOMS][2];
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
        scale[m][0] = scale[m][1] = a.scale;
    if (a.dk)
        storeRows<T, WIDTH>(a.dk + at, kStride, here.lk - here.row, p.d, aligned, sk, own, column,
                            dk, scale);
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
        scale[m][0] = scale[m][1] = 1.f;
    if (a.dv)
        storeRows<T, WIDTH>(a.dv + at, kStride, here.lk - here.row, p.d, aligned, sv, own, column,
                            dv, scale);
}

// One block: 16 ATOMS WARPS queries of one head, KEYS keys a step, two steps'
// keys and values in shared memory.
template <class T, int WIDTH, int ATOMS, int WARPS, int KEYS>
__device__ __forceinline__ void backwardQueries(const BackwardArgs<T>& a)
{
    constexpr int OWN = 16 * ATOMS, ROWS = OWN * WARPS, THREADS = 32 * WARPS, N = WIDTH / 8;
    constexpr int STAGE = 2 * KEYS * WIDTH;
    DYNAMIC_SHARED(T, shared);
    T* const sq = shared;
    T* const sdo = sq + ROWS * WIDTH;
    T* const steps = sdo + ROWS * WIDTH;              // per stage: k, v
    float* const lines = (float*)(steps + 2 * STAGE); // lse, finite and in units of log 2; delta

    const Problem& p = a.p;
    const float c = a.scale * LOG2E;
    const bool aligned = p.aligned;
    const size_t stride = (size_t)p.kvHeads * p.d;
    const int own = __shfl_sync(~0u, threadIdx.x / 32, 0) * OWN;
    int j0, end;               // keys that a query of the block sees
    int some, over, all, none; // keys some ... over - 1 are seen by one of the warp's queries, all
                               // ... none - 1 by each
    {
        const Place here = queryPlace<ROWS>(p, blockIdx.x);
        if (here.row >= here.lq) return;
        const int rows = min(ROWS, here.lq - here.row);
        const size_t qStride = (size_t)p.heads * p.d, qAt = here.queryAt(p, here.h, here.row);
        loadTile<T, ROWS, WIDTH, THREADS>(sq, a.q + qAt, qStride, rows, p.d, aligned);
        loadTile<T, ROWS, WIDTH, THREADS>(sdo, a.dout + qAt, qStride, rows, p.d, aligned);
        for (int i = threadIdx.x; i < ROWS; i += THREADS) {
            const size_t line = here.lineAt(p, here.h) + here.row + i;
            lines[i] = i < rows ? finite(a.lse[line]) * LOG2E : 0.f;
            lines[ROWS + i] = i < rows ? a.delta[line] : 0.f;
        }
        j0 = here.first(here.row) / KEYS * KEYS;
        end = here.end(here.row + rows - 1);
        const int top = here.row + own, last = min(top + OWN, here.lq) - 1;
        some = here.first(top);
        over = top <= last ? here.end(last) : 0;
        all = here.first(last);
        none = here.end(top);
    }
    auto fetch = [&](int stage) {
        const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
        const size_t at = here.keyAt(p, here.h / (p.heads / p.kvHeads), j0);
        T* const sk = steps + stage * STAGE;
        loadTile<T, KEYS, WIDTH, THREADS>(sk, a.k + at, stride, end - j0, p.d, aligned);
        loadTile<T, KEYS, WIDTH, THREADS>(sk + KEYS * WIDTH, a.v + at, stride, end - j0, p.d,
                                          aligned);
    };

    // The first step from j on of which a mask of blocks leaves something.
    auto next = [&](int j) {
        if (!p.blocks) return j;
        const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
        while (j < end && !blocksLeft<ROWS, KEYS>(p, here.b, here.h, here.row, j))
            j += KEYS;
        return j;
    };
    auto leaves = [&](int j) { // of this warp's rows
        if (!p.blocks) return true;
        const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
        return blocksLeft<OWN, KEYS>(p, here.b, here.h, here.row + own, j);
    };

    float dq[ATOMS][N][4] = {};
    int stage = 0;
    j0 = next(j0);
    if (j0 < end) fetch(0);
    copyAsyncCommit();
    while (j0 < end) {
        copyAsyncWait<0>();
        __syncthreads(); // this step is here, and every warp is done with the last one
        const T* const sk = steps + stage * STAGE;
        const T* const sv = sk + KEYS * WIDTH;
        const int j = j0;
        stage ^= 1;
        j0 = next(j0 + KEYS);
        if (j0 < end) fetch(stage);
        copyAsyncCommit();
        if (j >= over || j + KEYS <= some || !leaves(j)) continue;

        float s[ATOMS][KEYS / 8][4] = {}, dp[ATOMS][KEYS / 8][4] = {};
        multiplyRows<T, WIDTH>(s, sq, own, sk, 0);
        const float* bias = nullptr;
        int top = 0, lq = 0, lk = 0;
        if (a.bias) {
            const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
            bias = biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, here.h);
            top = here.row + own, lq = here.lq, lk = here.lk;
        }
        queryProbabilities(s, lines + own, c, bias, p.lk, top, j, lq, lk);
        if (j < all || j + KEYS > none) {
            const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
            const int lane = opaque(threadIdx.x & 31);
#pragma unroll
            for (int m = 0; m < ATOMS; m++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int i = here.row + own + 16 * m + 8 * r + (lane >> 2),
                              x = j + 2 * (lane & 3);
                    const int from = here.first(i) - x, to = here.end(i) - x;
#pragma unroll
                    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (8 * n + e < from || 8 * n + e >= to) s[m][n][2 * r + e] = 0.f;
                }
        }
        multiplyRows<T, WIDTH>(dp, sdo, own, sv, 0);
        const float* const delta = lines + ROWS + own + ((threadIdx.x & 31) >> 2);
#pragma unroll
        for (int m = 0; m < ATOMS; m++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[m][n][e] *= dp[m][n][e] - delta[16 * m + 8 * (e >> 1)];
        multiplyHeld<T, WIDTH>(dq, s, sk, 0);
    }
    copyAsyncWait<0>();
    __syncthreads(); // without a key no barrier came before: other warps' copies of queries have landed
    const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
    float scale[ATOMS][2];
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
        scale[m][0] = scale[m][1] = a.scale;
    storeRows<T, WIDTH>(a.dq + here.queryAt(p, here.h, here.row), (size_t)p.heads * p.d,
                        here.lq - here.row, p.d, aligned, sq, own, 0, dq, scale);
}

} // namespace attention
