// The forward pass on tensor cores, one template for every head dimension.
#pragma once
#include "attention_tile.h"

namespace attention {

// Running maximum and sum of 16 ATOMS rows: each thread keeps rows g and g + 8 of
// each 16, g = lane / 4; the sum is over this thread's own columns until finish.
template <int ATOMS> struct Softmax {
    float most[ATOMS][2], sum[ATOMS][2];

    __device__ __forceinline__ Softmax()
    {
#pragma unroll
        for (int m = 0; m < ATOMS; m++)
            for (int r = 0; r < 2; r++)
                most[m][r] = -INFINITY, sum[m][r] = 0.f;
    }

    // Turns scores into exp2(c (score - max)) and scales what was summed before.
    template <int K, int N>
    __device__ __forceinline__ void update(float (&s)[ATOMS][K][4], float (&out)[ATOMS][N][4],
                                           float c)
    {
#pragma unroll
        for (int m = 0; m < ATOMS; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float top = most[m][r];
#pragma unroll
                for (int n = 0; n < K; n++)
                    top = fmaxf(top, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
                // A row that has seen no key yet keeps exp2(-inf - 0) = 0.
                const float base = top == -INFINITY ? 0.f : top * c;
                const float shrink = exp2Approx(fmaf(most[m][r], c, -base));
                most[m][r] = top;
                float part = 0.f;
#pragma unroll
                for (int n = 0; n < K; n++)
#pragma unroll
                    for (int e = 2 * r; e < 2 * r + 2; e++)
                        part += s[m][n][e] = exp2Approx(fmaf(s[m][n][e], c, -base));
                sum[m][r] = fmaf(sum[m][r], shrink, part);
#pragma unroll
                for (int n = 0; n < N; n++)
                    out[m][n][2 * r] *= shrink, out[m][n][2 * r + 1] *= shrink;
            }
    }

    __device__ __forceinline__ void finish()
    {
#pragma unroll
        for (int m = 0; m < ATOMS; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                sum[m][r] += __shfl_xor_sync(~0u, sum[m][r], 1);
                sum[m][r] += __shfl_xor_sync(~0u, sum[m][r], 2);
            }
    }
};

// Scores times scale plus bias, in units of log 2: only where there is a bias
// or the scale is not positive, else the softmax folds the scale in.
template <int ATOMS, int K>
__device__ __forceinline__ void addBias(float (&s)[ATOMS][K][4], const float* bias, float c,
                                        int row, int key, int lq, int lk, size_t stride)
{
    const int lane = opaque(threadIdx.x & 31);
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int i = row + 16 * m + 8 * r + (lane >> 2), j = key + 2 * (lane & 3);
            const int left = bias && i < lq ? lk - j : 0;
            const float* const at = left > 0 ? bias + i * stride + j : nullptr;
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const float add = 8 * n + e < left ? at[8 * n + e] * LOG2E : 0.f;
                    s[m][n][2 * r + e] = fmaf(s[m][n][2 * r + e], c, add);
                }
        }
}

// -inf where a query does not see a key.
template <int ATOMS, int K>
__device__ __forceinline__ void maskScores(float (&s)[ATOMS][K][4], int lo, int hi, int keys,
                                           int row, int key)
{
    const int lane = opaque(threadIdx.x & 31);
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int i = row + 16 * m + 8 * r + (lane >> 2), j0 = key + 2 * (lane & 3);
            const int from = max(0, i + lo) - j0, to = min(keys, i + hi) - j0;
#pragma unroll
            for (int n = 0; n < K; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (8 * n + e < from || 8 * n + e >= to) s[m][n][2 * r + e] = -INFINITY;
        }
}

template <class T> struct ForwardArgs {
    T* out;     // [b, lq, heads, d]
    float* lse; // [b, heads, lq] or null
    const T *q, *k, *v;
    const float* bias; // [biasBatch, biasHeads, lq, lk] or null
    float scale;
    int biasBatch, biasHeads;
    Problem p;
};

// One block: 16 ATOMS WARPS queries of one head, KEYS keys a step. The next
// step's keys are copied under this step's softmax and second product, this
// step's values under its first product.
template <class T, int WIDTH, int ATOMS, int WARPS, int KEYS>
__device__ __forceinline__ void forward(const ForwardArgs<T>& a)
{
    constexpr int OWN = 16 * ATOMS, ROWS = OWN * WARPS, THREADS = 32 * WARPS, N = WIDTH / 8;
    DYNAMIC_SHARED(T, shared);
    T* const sq = shared;
    T* const sk = sq + ROWS * WIDTH;
    T* const sv = sk + KEYS * WIDTH;

    const Problem& p = a.p;
    const float c = a.scale * LOG2E;
    const bool plain = !a.bias && c > 0.f, aligned = p.aligned;
    const size_t stride = (size_t)p.kvHeads * p.d;
    const int own = __shfl_sync(~0u, threadIdx.x / 32, 0) * OWN; // this warp's rows in the block
    size_t at; // element of k and v: this step's first key
    int j0, end, top, last, lo, hi, keys;
    {
        const Place here = queryPlace<ROWS>(p, blockIdx.x);
        if (here.row >= here.lq) return;
        const int rows = min(ROWS, here.lq - here.row);
        loadTile<T, ROWS, WIDTH, THREADS>(sq, a.q + here.queryAt(p, here.h, here.row),
                                          (size_t)p.heads * p.d, rows, p.d, aligned);
        top = here.row + own;
        last = min(here.row + own + OWN, here.lq) - 1;
        j0 = here.first(here.row) / KEYS * KEYS;
        end = here.end(here.row + rows - 1);
        at = here.keyAt(p, here.h / (p.heads / p.kvHeads), j0);
        lo = here.lo;
        hi = here.hi;
        keys = here.keys;
    }
    auto firstKey = [&](int i) { return max(0, i + lo); };
    auto endKey = [&](int i) { return min(keys, i + hi); };

    // The first step from j on of which a mask of blocks leaves something.
    auto next = [&](int j) {
        if (!p.blocks) return j;
        const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
        while (j < end && !blocksLeft<ROWS, KEYS>(p, here.b, here.h, here.row, j))
            j += KEYS;
        return j;
    };
    auto left = [&](int j) { // of this warp's rows
        if (!p.blocks) return true;
        const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
        return blocksLeft<OWN, KEYS>(p, here.b, here.h, top, j);
    };

    float out[ATOMS][N][4] = {};
    Softmax<ATOMS> soft;
    __shared__ int ahead[WARPS]; // the step after this one, as each warp has found it: no registers
    auto after = [&] { return p.blocks ? ahead[threadIdx.x / 32] : j0 + KEYS; };
    auto goTo = [&](int j) { at += (j - j0) * stride, j0 = j; };
    goTo(next(j0));
    if (j0 < end) loadTile<T, KEYS, WIDTH, THREADS>(sk, a.k + at, stride, end - j0, p.d, aligned);
    copyAsyncCommit();
    for (; j0 < end; goTo(after())) {
        copyAsyncWait<0>();
        __syncthreads(); // keys are here, and every warp is done with the last step's values
        loadTile<T, KEYS, WIDTH, THREADS>(sv, a.v + at, stride, end - j0, p.d, aligned);
        copyAsyncCommit();

        if (p.blocks && (threadIdx.x & 31) == 0) ahead[threadIdx.x / 32] = next(j0 + KEYS);
        // Warps whose rows see nothing of this tile only help to copy.
        const bool some = top <= last && j0 < endKey(last) && j0 + KEYS > firstKey(top) && left(j0);
        float s[ATOMS][KEYS / 8][4] = {};
        if (some) multiplyRows<T, WIDTH, ATOMS, KEYS / 8>(s, sq, own, sk, 0);

        copyAsyncWait<0>();
        __syncthreads(); // values are here, and every warp is done with the keys
        if (const int to = after(); to < end)
            loadTile<T, KEYS, WIDTH, THREADS>(sk, a.k + at + (to - j0) * stride, stride, end - to,
                                              p.d, aligned);
        copyAsyncCommit();
        if (!some) continue;

        if (!plain) {
            const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
            addBias<ATOMS, KEYS / 8>(
                s, a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, here.h) : nullptr,
                c, top, j0, here.lq, here.lk, p.lk);
        }
        if (j0 < firstKey(last) || j0 + KEYS > endKey(top))
            maskScores<ATOMS, KEYS / 8>(s, lo, hi, keys, top, j0);
        soft.template update<KEYS / 8, N>(s, out, plain ? c : 1.f);
        multiplyHeld<T, WIDTH, ATOMS, KEYS / 8, N>(out, s, sv, 0);
    }
    copyAsyncWait<0>();
    __syncthreads(); // without a key no barrier came before: other warps' copies of queries have landed
    if (top > last) return;

    const Place here = queryPlace<ROWS>(p, opaque(blockIdx.x));
    soft.finish();
    const int lane = threadIdx.x & 31;
    float scale[ATOMS][2];
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float sum = soft.sum[m][r];
            scale[m][r] = sum == 0.f ? 0.f : __fdividef(1.f, sum); // a NaN stays one
            const int i = top + 16 * m + 8 * r + (lane >> 2);
            if (a.lse && (lane & 3) == 0 && i < here.lq)
                a.lse[here.lineAt(p, here.h) + i] =
                    sum == 0.f ? -INFINITY : soft.most[m][r] * (plain ? a.scale : LN2) + logf(sum);
        }
    storeRows<T, WIDTH, ATOMS, N>(a.out + here.queryAt(p, here.h, here.row), (size_t)p.heads * p.d,
                                  here.lq - here.row, p.d, aligned, sq, own, 0, out, scale);
}

} // namespace attention
