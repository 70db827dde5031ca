// Attention maps: the probabilities themselves, their gradients, and products
// with maps that a caller owns. Maps are float and so is the arithmetic, in tiles
// of attention_tile32.h; tensors of rows may be of any type.
#pragma once
#include "attention_tile32.h"

namespace attention {

// What of the maps is chosen. Null stands for all, in order.
struct Choice {
    const int* heads;     // [picked] heads
    const int* keys;      // [mapKeys] keys
    const int* headPlace; // [heads] places in heads, -1 where a head is not chosen
    const int* keyPlace;  // [lk] likewise
    int picked, mapKeys;
    int mean; // the maps of the chosen heads are one map, their mean

    __device__ __forceinline__ int head(int m) const { return heads ? heads[m] : m; }
    __device__ __forceinline__ int key(int m) const { return keys ? keys[m] : m; }
    __device__ __forceinline__ int placeOfHead(int h) const { return headPlace ? headPlace[h] : h; }
    __device__ __forceinline__ int placeOfKey(int j) const { return keyPlace ? keyPlace[j] : j; }
    __device__ __forceinline__ float share() const { return mean ? 1.f / picked : 1.f; }
    // First element of the map of sequence b and of the place m among the heads.
    __device__ __forceinline__ size_t map(int b, int m, int lq) const
    {
        return (mean ? b : (size_t)b * picked + m) * lq * mapKeys;
    }
};

template <class T> struct MapArgs {
    float* maps;  // what is written or dmaps that is read: [batch, picked (mean: 1), lq, mapKeys]
    float* delta; // [batch, heads, lq]
    T* gradient;  // of q or of k
    const T *q, *k;
    const float* lse;
    const float* bias;
    float scale;
    int biasBatch, biasHeads;
    Choice choice;
    Problem p;
};

// Copies rows [0, valid), or those that pick names, x columns [0, d) of src into a
// tile as floats and zero-fills the rest of it.
template <int ROWS, int WIDTH, int THREADS, class T>
__device__ __forceinline__ void loadFloats(float* tile, const T* src, size_t stride, int valid,
                                           int d, const int* pick = nullptr)
{
#pragma unroll 4
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
        const int row = i / WIDTH, x = i % WIDTH;
        float v = 0.f;
        if (row < valid && x < d) v = toFloat(src[(pick ? pick[row] : row) * stride + x]);
        tile[row * (WIDTH + PAD) + x] = v;
    }
}

constexpr int SIDE = 64;  // rows of a block, and columns of d a step
constexpr int OTHER = 32; // rows of the other side a step, in the gradients

// q . k of this thread's queries own + y + 4 r and keys x + 8 c, in steps of SIDE columns.
template <int ROWS, int COLUMNS, int R, int C, class T>
__device__ __forceinline__ void dots(float (&s)[R][C], float* tileA, float* tileB, const T* A,
                                     size_t strideA, int validA, const T* B, size_t strideB,
                                     int validB, int d, int own, const int* pickB = nullptr)
{
    for (int x = 0; x < d; x += SIDE) {
        __syncthreads(); // every warp is done with the last step
        loadFloats<ROWS, SIDE, 128>(tileA, A + x, strideA, validA, d - x);
        loadFloats<COLUMNS, SIDE, 128>(tileB, B + x, strideB, validB, d - x, pickB);
        __syncthreads();
        multiplyRows32<SIDE>(s, tileA, own, tileB, 0);
    }
}

// The probability of query i and key j, from their product.
template <class T>
__device__ __forceinline__ float probability(const MapArgs<T>& a, const Place& here,
                                             const float* bias, size_t line, int i, int j, float s)
{
    if (i >= here.lq || j < here.first(i) || j >= here.end(i)) return 0.f;
    const float add = bias ? bias[(size_t)i * a.p.lk + j] : 0.f;
    return exp2Approx((fmaf(s, a.scale, add) - finite(a.lse[line + i])) * LOG2E);
}

// One block: 64 queries by 64 chosen keys of one map; of a mean, through its heads.
template <class T> __device__ __forceinline__ void maps(const MapArgs<T>& a)
{
    constexpr int R = 4, C = SIDE / 8;
    DYNAMIC_SHARED(float, shared);
    const Problem& p = a.p;
    const Choice& choice = a.choice;
    const unsigned across = (unsigned)(choice.mapKeys + SIDE - 1) / SIDE;
    const unsigned down = (unsigned)(p.lq + SIDE - 1) / SIDE,
                   slots = choice.mean ? 1 : choice.picked;
    const int key = blockIdx.x % across * SIDE, row = blockIdx.x / across % down * SIDE;
    const int slot = blockIdx.x / across / down % slots, b = blockIdx.x / across / down / slots;
    const int own = threadIdx.x / 32 * 16, heads = choice.mean ? choice.picked : 1;
    const size_t qStride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;

    float sum[R][C] = {};
    for (int m = slot; m < slot + heads; m++) {
        const int h = choice.head(m);
        const Place here = placeAt(p, b, h, row);
        const float* const bias =
            a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, b, h) : nullptr;
        const size_t line = here.lineAt(p, h);
        float s[R][C] = {};
        dots<SIDE, SIDE>(
            s, shared, shared + SIDE * (SIDE + PAD), a.q + here.queryAt(p, h, row), qStride,
            here.lq - row, a.k + here.keyAt(p, h / (p.heads / p.kvHeads), choice.keys ? 0 : key),
            kStride, choice.mapKeys - key, p.d, own, choice.keys ? choice.keys + key : nullptr);
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int place = key + laneX() + 8 * c;
            if (place >= choice.mapKeys) continue;
            const int j = choice.key(place);
#pragma unroll
            for (int r = 0; r < R; r++)
                sum[r][c] +=
                    probability(a, here, bias, line, row + own + laneY() + 4 * r, j, s[r][c]);
        }
    }
    float* const to = a.maps + choice.map(b, slot, p.lq);
    const float share = choice.share();
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = row + own + laneY() + 4 * r;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int place = key + laneX() + 8 * c;
            if (i < p.lq && place < choice.mapKeys)
                to[(size_t)i * choice.mapKeys + place] = sum[r][c] * share;
        }
    }
}

// One block: delta[i] = sum_j p[i, j] dp[i, j] of 64 queries of one chosen head, over the chosen
// keys.
template <class T> __device__ __forceinline__ void mapsDelta(const MapArgs<T>& a)
{
    constexpr int R = 4, C = SIDE / 8;
    DYNAMIC_SHARED(float, shared);
    const Problem& p = a.p;
    const Choice& choice = a.choice;
    const unsigned down = (unsigned)(p.lq + SIDE - 1) / SIDE;
    const int row = blockIdx.x % down * SIDE, m = blockIdx.x / down % choice.picked;
    const int b = blockIdx.x / down / choice.picked, h = choice.head(m);
    const int own = threadIdx.x / 32 * 16;
    const size_t qStride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;
    const Place here = placeAt(p, b, h, row);
    const float* const bias = a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, b, h) : nullptr;
    const float* const dmaps = a.maps + choice.map(b, m, p.lq);
    const size_t line = here.lineAt(p, h);

    float sum[R] = {};
    for (int key = 0; key < choice.mapKeys; key += SIDE) {
        float s[R][C] = {};
        dots<SIDE, SIDE>(
            s, shared, shared + SIDE * (SIDE + PAD), a.q + here.queryAt(p, h, row), qStride,
            here.lq - row, a.k + here.keyAt(p, h / (p.heads / p.kvHeads), choice.keys ? 0 : key),
            kStride, choice.mapKeys - key, p.d, own, choice.keys ? choice.keys + key : nullptr);
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int place = key + laneX() + 8 * c;
            if (place >= choice.mapKeys) continue;
            const int j = choice.key(place);
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int i = row + own + laneY() + 4 * r;
                if (i >= p.lq) continue;
                sum[r] = fmaf(probability(a, here, bias, line, i, j, s[r][c]),
                              dmaps[(size_t)i * choice.mapKeys + place], sum[r]);
            }
        }
    }
    const float share = choice.share();
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int x = 1; x < 8; x <<= 1)
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], x);
        const int i = row + own + laneY() + 4 * r;
        if (laneX() == 0 && i < p.lq) a.delta[line + i] = sum[r] * share;
    }
}

// One block: 64 rows by 64 columns of the gradient of q (of one head) or, with
// KEYS, of k (of one key head, through the chosen heads that share it), 32 rows of
// the other side a step. ds = p (dp - delta), where dp is 0 off the chosen keys.
template <class T, bool KEYS> __device__ __forceinline__ void mapsGradient(const MapArgs<T>& a)
{
    constexpr int R = 4, C = OTHER / 8, G = SIDE / 32, ROW = SIDE + PAD;
    DYNAMIC_SHARED(float, shared);
    float* const tileA = shared;
    float* const tileB = tileA + SIDE * ROW;
    float* const tileV = tileB + OTHER * ROW;
    const int own = threadIdx.x / 32 * 16;
    float* const held = tileV + OTHER * ROW + own * (OTHER + PAD_P);

    const Problem& p = a.p;
    const Choice& choice = a.choice;
    const int length = KEYS ? p.lk : p.lq, heads = KEYS ? p.kvHeads : p.heads;
    const unsigned parts = (unsigned)(p.d + SIDE - 1) / SIDE;
    const int column = blockIdx.x % parts * SIDE;
    const Place here = placeOf<SIDE>(p, blockIdx.x / parts, length, heads);
    const int group = p.heads / p.kvHeads, row = here.row, valid = length - row;
    const size_t qStride = (size_t)p.heads * p.d, kStride = (size_t)p.kvHeads * p.d;
    const int last = min(row + SIDE, length) - 1;
    int from, to; // rows of the other side that see these, or are seen
    if (KEYS) {
        from = max(0, row - here.hi + 1);
        to = row < here.keys ? min(p.lq, min(last, here.keys - 1) - here.lo + 1) : 0;
    } else {
        from = here.first(row);
        to = here.end(last);
    }

    float4 out[R][G] = {};
    for (int h = KEYS ? here.h * group : here.h; h < (KEYS ? (here.h + 1) * group : here.h + 1);
         h++) {
        const int m = choice.placeOfHead(h);
        if (m < 0) continue;
        const float* const bias =
            a.bias ? biasOf(a.bias, a.biasBatch, a.biasHeads, p, here.b, h) : nullptr;
        const float* const dmaps = a.maps + choice.map(here.b, m, p.lq);
        const size_t line = here.lineAt(p, h);
        const float share = choice.share();
        for (int j0 = from / OTHER * OTHER; j0 < to; j0 += OTHER) {
            const T* const q = a.q + here.queryAt(p, h, KEYS ? j0 : row);
            const T* const k = a.k + here.keyAt(p, h / group, KEYS ? row : j0);
            float s[R][C] = {};
            if (KEYS)
                dots<SIDE, OTHER>(s, tileA, tileB, k, kStride, valid, q, qStride, p.lq - j0, p.d,
                                  own);
            else
                dots<SIDE, OTHER>(s, tileA, tileB, q, qStride, valid, k, kStride, p.lk - j0, p.d,
                                  own);
#pragma unroll
            for (int c = 0; c < C; c++)
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const int mine = row + own + laneY() + 4 * r, other = j0 + laneX() + 8 * c;
                    const int i = KEYS ? other : mine, j = KEYS ? mine : other;
                    if (i >= p.lq || j >= p.lk) {
                        s[r][c] = 0.f;
                        continue;
                    }
                    const int place = choice.placeOfKey(j);
                    const float dp =
                        place < 0 ? 0.f : dmaps[(size_t)i * choice.mapKeys + place] * share;
                    s[r][c] =
                        probability(a, here, bias, line, i, j, s[r][c]) * (dp - a.delta[line + i]);
                }
            loadFloats<OTHER, SIDE, 128>(tileV, (KEYS ? q : k) + column, KEYS ? qStride : kStride,
                                         (KEYS ? p.lq : p.lk) - j0, p.d - column);
            hold32(held, s);
            __syncthreads();
            multiplyHeld32<SIDE, OTHER>(out, held, tileV);
        }
    }
    T* const dst = a.gradient + (KEYS ? here.keyAt(p, here.h, row) : here.queryAt(p, here.h, row));
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = own + laneY() + 4 * r;
        if (i >= valid) continue;
#pragma unroll
        for (int g = 0; g < G; g++) {
            const float v[4] = {out[r][g].x, out[r][g].y, out[r][g].z, out[r][g].w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int x = column + 4 * laneX() + 32 * g + e;
                if (x < p.d) dst[i * (KEYS ? kStride : qStride) + x] = fromFloat<T>(v[e] * a.scale);
            }
        }
    }
}

} // namespace attention
