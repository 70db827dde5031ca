// The gradient of an additive bias: ds of attention_backward.h, summed over the
// axes along which the bias is repeated.
#pragma once
#include "attention_backward.h"
#include "attention_backward32.h"

namespace attention {

// One block: 64 queries by 64 keys of one plane of the bias, through all
// sequences and heads that share the plane, in order; 64 columns of d a step.
template <class T>
__device__ __forceinline__ void biasGradient(float* dbias, const BackwardArgs<T>& a)
{
    constexpr int SIDE = 64, WIDTH = 64, THREADS = 128, N = SIDE / 8, TILE = SIDE * WIDTH;
    DYNAMIC_SHARED(T, shared);
    T* const sq = shared;
    T* const sdo = sq + TILE;
    T* const sk = sdo + TILE;
    T* const sv = sk + TILE;

    const Problem& p = a.p;
    const float c = a.scale * LOG2E;
    const size_t qStride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;
    const unsigned across = (unsigned)(p.lk + SIDE - 1) / SIDE,
                   down = (unsigned)(p.lq + SIDE - 1) / SIDE;
    const int key = blockIdx.x % across * SIDE, row = blockIdx.x / across % down * SIDE;
    const int plane = blockIdx.x / across / down, planeH = plane % a.biasHeads;
    const int lane = threadIdx.x & 31, own = __shfl_sync(~0u, threadIdx.x / 32, 0) * 16;

    float sum[1][N][4] = {};
    for (int b = a.biasBatch == 1 ? 0 : plane / a.biasHeads; b < p.batch;
         b += a.biasBatch == 1 ? 1 : p.batch)
        for (int h = a.biasHeads == 1 ? 0 : planeH; h < p.heads;
             h += a.biasHeads == 1 ? 1 : p.heads) {
            const Place here = placeAt(p, b, h, row);
            const int last = min(row + SIDE, here.lq) - 1;
            if (key >= here.end(last) || key + SIDE <= here.first(row)) continue; // of the block
            if (!blocksLeft<SIDE, SIDE>(p, b, h, row, key)) continue;
            float s[1][N][4] = {}, dp[1][N][4] = {};
            for (int x = 0; x < p.d; x += WIDTH) {
                const size_t q = here.queryAt(p, h, row) + x;
                const size_t k = here.keyAt(p, h / (p.heads / p.kvHeads), key) + x;
                __syncthreads(); // every warp is done with the last step
                loadTile<T, SIDE, WIDTH, THREADS>(sq, a.q + q, qStride, here.lq - row, p.d - x,
                                                  p.aligned);
                loadTile<T, SIDE, WIDTH, THREADS>(sdo, a.dout + q, qStride, here.lq - row, p.d - x,
                                                  p.aligned);
                loadTile<T, SIDE, WIDTH, THREADS>(sk, a.k + k, kStride, here.lk - key, p.d - x,
                                                  p.aligned);
                loadTile<T, SIDE, WIDTH, THREADS>(sv, a.v + k, kStride, here.lk - key, p.d - x,
                                                  p.aligned);
                copyAsyncCommit();
                copyAsyncWait<0>();
                __syncthreads();
                multiplyRows<T, WIDTH>(s, sq, own, sk, 0);
                multiplyRows<T, WIDTH>(dp, sdo, own, sv, 0);
            }
            const float* const bias = biasOf(a.bias, a.biasBatch, a.biasHeads, p, b, h);
            const size_t line = here.lineAt(p, h);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int i = row + own + 8 * r + (lane >> 2);
                if (i >= here.lq) continue;
                const float base = finite(a.lse[line + i]) * LOG2E, delta = a.delta[line + i];
                const int from = here.first(i), to = here.end(i);
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int j = key + 8 * n + 2 * (lane & 3) + e;
                        if (j < from || j >= to) continue;
                        const float x = fmaf(bias[(size_t)i * p.lk + j], LOG2E, -base);
                        const float prob = exp2Approx(fmaf(s[0][n][2 * r + e], c, x));
                        sum[0][n][2 * r + e] += prob * (dp[0][n][2 * r + e] - delta);
                    }
            }
        }
    float* const to = dbias + (size_t)plane * p.lq * p.lk;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int i = row + own + 8 * (e >> 1) + (lane >> 2),
                      j = key + 8 * n + 2 * (lane & 3) + (e & 1);
            if (i < p.lq && j < p.lk) to[(size_t)i * p.lk + j] = sum[0][n][e];
        }
}

// The same in float; 32 columns of d a step.
__device__ __forceinline__ void biasGradient32(float* dbias, const BackwardArgs32& a)
{
    constexpr int SIDE = 64, WIDTH = 32, THREADS = 128, R = 4, C = SIDE / 8,
                  TILE = SIDE * (WIDTH + PAD);
    DYNAMIC_SHARED(float, shared);
    float* const sq = shared;
    float* const sdo = sq + TILE;
    float* const sk = sdo + TILE;
    float* const sv = sk + TILE;

    const Problem& p = a.p;
    const size_t qStride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;
    const unsigned across = (unsigned)(p.lk + SIDE - 1) / SIDE,
                   down = (unsigned)(p.lq + SIDE - 1) / SIDE;
    const int key = blockIdx.x % across * SIDE, row = blockIdx.x / across % down * SIDE;
    const int plane = blockIdx.x / across / down, planeH = plane % a.biasHeads;
    const int own = threadIdx.x / 32 * 16;

    float sum[R][C] = {};
    for (int b = a.biasBatch == 1 ? 0 : plane / a.biasHeads; b < p.batch;
         b += a.biasBatch == 1 ? 1 : p.batch)
        for (int h = a.biasHeads == 1 ? 0 : planeH; h < p.heads;
             h += a.biasHeads == 1 ? 1 : p.heads) {
            const Place here = placeAt(p, b, h, row);
            const int last = min(row + SIDE, here.lq) - 1;
            if (key >= here.end(last) || key + SIDE <= here.first(row)) continue; // of the block
            if (!blocksLeft<SIDE, SIDE>(p, b, h, row, key)) continue;
            float s[R][C] = {}, dp[R][C] = {};
            for (int x = 0; x < p.d; x += WIDTH) {
                const size_t q = here.queryAt(p, h, row) + x;
                const size_t k = here.keyAt(p, h / (p.heads / p.kvHeads), key) + x;
                __syncthreads(); // every warp is done with the last step
                loadTile32<SIDE, WIDTH, THREADS>(sq, a.q + q, qStride, here.lq - row, p.d - x,
                                                 p.aligned);
                loadTile32<SIDE, WIDTH, THREADS>(sdo, a.dout + q, qStride, here.lq - row, p.d - x,
                                                 p.aligned);
                loadTile32<SIDE, WIDTH, THREADS>(sk, a.k + k, kStride, here.lk - key, p.d - x,
                                                 p.aligned);
                loadTile32<SIDE, WIDTH, THREADS>(sv, a.v + k, kStride, here.lk - key, p.d - x,
                                                 p.aligned);
                copyAsyncCommit();
                copyAsyncWait<0>();
                __syncthreads();
                multiplyRows32<WIDTH>(s, sq, own, sk, 0);
                multiplyRows32<WIDTH>(dp, sdo, own, sv, 0);
            }
            const float* const bias = biasOf(a.bias, a.biasBatch, a.biasHeads, p, b, h);
            const size_t line = here.lineAt(p, h);
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int i = row + own + laneY() + 4 * r;
                if (i >= here.lq) continue;
                const float lse = finite(a.lse[line + i]), delta = a.delta[line + i];
                const int from = here.first(i), to = here.end(i);
#pragma unroll
                for (int n = 0; n < C; n++) {
                    const int j = key + laneX() + 8 * n;
                    if (j < from || j >= to) continue;
                    const float score = fmaf(s[r][n], a.scale, bias[(size_t)i * p.lk + j]);
                    sum[r][n] += exp2Approx((score - lse) * LOG2E) * (dp[r][n] - delta);
                }
            }
        }
    float* const to = dbias + (size_t)plane * p.lq * p.lk;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int n = 0; n < C; n++) {
            const int i = row + own + laneY() + 4 * r, j = key + laneX() + 8 * n;
            if (i < p.lq && j < p.lk) to[(size_t)i * p.lk + j] = sum[r][n];
        }
}

} // namespace attention
