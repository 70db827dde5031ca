// Products with maps that a caller owns: out = maps v and its gradients.
#pragma once
#include "attention_maps.h"

namespace attention {

// Copies the 64 x 32 block of a map at (i, j) into the held layout of
// attention_tile32.h, rows of 40; TURNED: its transpose, 64 keys by 32 queries.
template <bool TURNED>
__device__ __forceinline__ void loadMap(float* tile, const float* map, int lq, int lk, int i, int j)
{
    constexpr int ROW = OTHER + PAD_P;
#pragma unroll 4
    for (int n = threadIdx.x; n < SIDE * OTHER; n += 128) {
        // Turned, a warp takes 4 queries by 8 keys: whole sectors, two lanes a bank.
        const int x = TURNED ? n / 8 % 4 + n / (SIDE * 4) * 4 : n % OTHER;
        const int y = TURNED ? n % 8 + n / 32 % 8 * 8 : n / OTHER;
        const int q = i + (TURNED ? x : y), k = j + (TURNED ? y : x);
        tile[y * ROW + x] = q < lq && k < lk ? map[(size_t)q * lk + k] : 0.f;
    }
}

// One block: 64 rows by 64 columns of out = maps v of one head or, with KEYS, of
// dv = maps^T dout of one key head, through the heads that share it.
template <class T, bool KEYS>
__device__ __forceinline__ void mapped(T* to, const float* maps, const T* from, int heads,
                                       int kvHeads, int lq, int lk, int d)
{
    constexpr int R = 4, G = SIDE / 32;
    DYNAMIC_SHARED(float, shared);
    float* const map = shared;
    float* const tile = map + SIDE * (OTHER + PAD_P);
    const unsigned parts = (unsigned)(d + SIDE - 1) / SIDE;
    const int length = KEYS ? lk : lq, other = KEYS ? lq : lk;
    const unsigned tiles = (unsigned)(length + SIDE - 1) / SIDE;
    const int column = blockIdx.x % parts * SIDE, row = blockIdx.x / parts % tiles * SIDE;
    const unsigned rest = blockIdx.x / parts / tiles;
    const int toHeads = KEYS ? kvHeads : heads, fromHeads = KEYS ? heads : kvHeads;
    const int head = rest % (unsigned)toHeads, group = heads / kvHeads;
    const size_t b = rest / (unsigned)toHeads;
    const int own = threadIdx.x / 32 * 16;

    float4 out[R][G] = {};
    for (int h = KEYS ? head * group : head; h < (KEYS ? (head + 1) * group : head + 1); h++) {
        const float* const plane = maps + (b * heads + h) * lq * lk;
        const T* const rows = from + (b * other * fromHeads + (KEYS ? h : h / group)) * d + column;
        for (int j = 0; j < other; j += OTHER) {
            __syncthreads(); // every warp is done with the last step
            if (KEYS)
                loadMap<true>(map, plane, lq, lk, j, row);
            else
                loadMap<false>(map, plane, lq, lk, row, j);
            loadFloats<OTHER, SIDE, 128>(tile, rows + (size_t)j * fromHeads * d,
                                         (size_t)fromHeads * d, other - j, d - column);
            __syncthreads();
            multiplyHeld32<SIDE, OTHER>(out, map + own * (OTHER + PAD_P), tile);
        }
    }
    T* const dst = to + ((b * length + row) * toHeads + head) * d;
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = own + laneY() + 4 * r;
        if (row + i >= length) continue;
#pragma unroll
        for (int g = 0; g < G; g++) {
            const float v[4] = {out[r][g].x, out[r][g].y, out[r][g].z, out[r][g].w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int x = column + 4 * laneX() + 32 * g + e;
                if (x < d) dst[(size_t)i * toHeads * d + x] = fromFloat<T>(v[e]);
            }
        }
    }
}

// One block: 64 queries by 64 keys of dmaps = dout v^T of one head.
template <class T>
__device__ __forceinline__ void mappedMaps(float* dmaps, const T* dout, const T* v, int heads,
                                           int kvHeads, int lq, int lk, int d)
{
    constexpr int R = 4, C = SIDE / 8;
    DYNAMIC_SHARED(float, shared);
    const unsigned across = (unsigned)(lk + SIDE - 1) / SIDE,
                   down = (unsigned)(lq + SIDE - 1) / SIDE;
    const int key = blockIdx.x % across * SIDE, row = blockIdx.x / across % down * SIDE;
    const unsigned rest = blockIdx.x / across / down;
    const int h = rest % (unsigned)heads, own = threadIdx.x / 32 * 16;
    const size_t b = rest / (unsigned)heads;
    float s[R][C] = {};
    dots<SIDE, SIDE>(s, shared, shared + SIDE * (SIDE + PAD),
                     dout + ((b * lq + row) * heads + h) * d, (size_t)heads * d, lq - row,
                     v + ((b * lk + key) * kvHeads + h / (heads / kvHeads)) * d,
                     (size_t)kvHeads * d, lk - key, d, own);
    float* const to = dmaps + (b * heads + h) * lq * lk;
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = row + own + laneY() + 4 * r;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int j = key + laneX() + 8 * c;
            if (i < lq && j < lk) to[(size_t)i * lk + j] = s[r][c];
        }
    }
}

} // namespace attention
