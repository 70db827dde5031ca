// The forward pass in float, exact products (no tf32), one template for every
// head dimension. The schedule is attention_forward.h's.
#pragma once
#include "attention_tile32.h"

namespace attention {

struct ForwardArgs32 {
    float* out;
    float* lse;
    const float *q, *k, *v;
    const float* bias;
    float scale;
    int biasBatch, biasHeads;
    Problem p;
};

// Scores times scale plus bias; needed where there is a bias or
// the scale is not positive, else the softmax folds the scale in.
template <int R, int C>
__device__ __forceinline__ void addBias32(float (&s)[R][C], const float* bias, float scale, int row,
                                          int key, int lq, int lk)
{
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = row + laneY() + 4 * r, j = key + laneX();
        const int left = bias && i < lq ? lk - j : 0;
        const float* const at = left > 0 ? bias + (size_t)i * lk + j : nullptr;
#pragma unroll
        for (int n = 0; n < C; n++)
            s[r][n] = fmaf(s[r][n], scale, 8 * n < left ? at[8 * n] : 0.f);
    }
}

// -inf where a query does not see a key.
template <int R, int C>
__device__ __forceinline__ void maskScores32(float (&s)[R][C], int lo, int hi, int keys, int row,
                                             int key)
{
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = row + laneY() + 4 * r, j = key + laneX();
        const int from = max(0, i + lo) - j, to = min(keys, i + hi) - j;
#pragma unroll
        for (int n = 0; n < C; n++)
            if (8 * n < from || 8 * n >= to) s[r][n] = -INFINITY;
    }
}

// One block: 16 R queries of one head, four warps of 4 R, KEYS keys a step.
template <int WIDTH, int R, int KEYS>
__device__ __forceinline__ void forward32(const ForwardArgs32& a)
{
    constexpr int WARPS = 4, OWN = 4 * R, ROWS = OWN * WARPS, THREADS = 32 * WARPS;
    constexpr int C = KEYS / 8, G = WIDTH / 32, ROW = WIDTH + PAD;
    DYNAMIC_SHARED(float, shared);
    float* const sq = shared;
    float* const sk = sq + ROWS * ROW;
    float* const sv = sk + KEYS * ROW;
    float* const held = sv + KEYS * ROW + threadIdx.x / 32 * OWN * (KEYS + PAD_P);

    const Problem& p = a.p;
    const bool plain = !a.bias && a.scale > 0.f, aligned = p.aligned;
    const size_t stride = (size_t)p.kvHeads * p.d;
    const int own = __shfl_sync(~0u, threadIdx.x / 32, 0) * OWN; // this warp's rows in the block
    const Place here = queryPlace<ROWS>(p, blockIdx.x);
    if (here.row >= here.lq) return;
    const int rows = min(ROWS, here.lq - here.row), end = here.end(here.row + rows - 1);
    const int top = here.row + own, last = min(top + OWN, here.lq) - 1;
    int j0 = here.first(here.row) / KEYS * KEYS;
    size_t at = here.keyAt(p, here.h / (p.heads / p.kvHeads),
                           j0); // element of k and v: this step's first key

    float4 out[R][G] = {};
    float most[R], sum[R]; // of this thread's rows; sum over its own keys only, until the end
#pragma unroll
    for (int r = 0; r < R; r++)
        most[r] = -INFINITY, sum[r] = 0.f;

    loadTile32<ROWS, WIDTH, THREADS>(sq, a.q + here.queryAt(p, here.h, here.row),
                                     (size_t)p.heads * p.d, rows, p.d, aligned);
    // The first step from j on of which a mask of blocks leaves something.
    auto next = [&](int j) {
        while (j < end && !blocksLeft<ROWS, KEYS>(p, here.b, here.h, here.row, j))
            j += KEYS;
        return j;
    };
    int to = next(j0);
    at += (to - j0) * stride;
    j0 = to;
    if (j0 < end) loadTile32<KEYS, WIDTH, THREADS>(sk, a.k + at, stride, end - j0, p.d, aligned);
    copyAsyncCommit();
    for (; j0 < end; j0 = to) {
        copyAsyncWait<0>();
        __syncthreads(); // keys are here, and every warp is done with the last step's values
        loadTile32<KEYS, WIDTH, THREADS>(sv, a.v + at, stride, end - j0, p.d, aligned);
        copyAsyncCommit();

        const bool some = top <= last && j0 < here.end(last) && j0 + KEYS > here.first(top) &&
                          blocksLeft<OWN, KEYS>(p, here.b, here.h, top, j0);
        float s[R][C] = {};
        if (some) multiplyRows32<WIDTH>(s, sq, own, sk, 0);

        copyAsyncWait<0>();
        __syncthreads(); // values are here, and every warp is done with the keys
        to = next(j0 + KEYS);
        at += (to - j0) * stride;
        if (to < end)
            loadTile32<KEYS, WIDTH, THREADS>(sk, a.k + at, stride, end - to, p.d, aligned);
        copyAsyncCommit();
        if (!some) continue;

        if (!plain)
            addBias32(
                s, a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, here.h) : nullptr,
                a.scale, top, j0, here.lq, here.lk);
        if (j0 < here.first(last) || j0 + KEYS > here.end(top))
            maskScores32(s, here.lo, here.hi, here.keys, top, j0);

        const float factor = plain ? a.scale * LOG2E : LOG2E;
#pragma unroll
        for (int r = 0; r < R; r++) {
            float peak = most[r];
#pragma unroll
            for (int n = 0; n < C; n++)
                peak = fmaxf(peak, s[r][n]);
#pragma unroll
            for (int x = 1; x < 8; x <<= 1)
                peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, x));
            // A row that has seen no key yet keeps exp2(-inf - 0) = 0.
            const float base = peak == -INFINITY ? 0.f : peak;
            const float shrink = exp2Approx((most[r] - base) * factor);
            most[r] = peak;
            float part = 0.f;
#pragma unroll
            for (int n = 0; n < C; n++)
                part += s[r][n] = exp2Approx((s[r][n] - base) * factor);
            sum[r] = fmaf(sum[r], shrink, part);
#pragma unroll
            for (int g = 0; g < G; g++)
                out[r][g].x *= shrink, out[r][g].y *= shrink, out[r][g].z *= shrink,
                    out[r][g].w *= shrink;
        }
        hold32(held, s);
        multiplyHeld32<WIDTH, KEYS>(out, held, sv);
    }
    copyAsyncWait<0>();
    if (top > last) return;

    float* const dst = a.out + here.queryAt(p, here.h, here.row);
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int x = 1; x < 8; x <<= 1)
            sum[r] += __shfl_xor_sync(~0u, sum[r], x);
        const int i = own + laneY() + 4 * r; // row of the block
        if (i >= rows) continue;
        const float scale = sum[r] == 0.f ? 0.f : 1.f / sum[r]; // a NaN stays one
        if (a.lse && laneX() == 0)
            a.lse[here.lineAt(p, here.h) + here.row + i] =
                sum[r] == 0.f ? -INFINITY : most[r] * (plain ? a.scale : 1.f) + logf(sum[r]);
#pragma unroll
        for (int g = 0; g < G; g++) {
            const int column = 4 * laneX() + 32 * g;
            storeGroup32(dst + (size_t)i * p.heads * p.d + column, p.d - column, aligned, out[r][g],
                         scale);
        }
    }
}

} // namespace attention
