// Float tiles in shared memory, and exact products of them in registers.
//
// A warp is 4 x 8 lanes: lane (y, x) = (lane / 8, lane % 8) has the rows y + 4 r
// of a product and either the columns x + 8 c (of scores) or the groups of four
// columns 4 x + 32 g (of outputs). Rows of tiles are PAD longer than WIDTH, a
// multiple of 32, so that 8 rows or 8 groups fetched at once lie in different banks.
#pragma once
#include "attention.h"

namespace attention {

constexpr int PAD = 4;   // rows that are read in groups of four along the row
constexpr int PAD_P = 8; // rows of held scores, which are also written by single values

__device__ __forceinline__ int laneY() { return (threadIdx.x & 31) >> 3; }
__device__ __forceinline__ int laneX() { return threadIdx.x & 7; }

// Copies rows [0, valid) x columns [0, d) of src into a tile and zero-fills the
// rest of it. Aligned rows go through cp.async, for which the caller commits and
// waits; others by plain loads and stores.
template <int ROWS, int WIDTH, int THREADS>
__device__ __forceinline__ void loadTile32(float* tile, const float* src, size_t stride, int valid,
                                           int d, bool aligned)
{
    constexpr int CHUNKS = WIDTH / 4, STEP = THREADS / CHUNKS, ROW = WIDTH + PAD;
    static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "one chunk a thread");
    if (aligned) {
        const int thread = opaque(threadIdx.x), row = thread / CHUNKS, chunk = thread % CHUNKS;
        const bool inside = chunk * 4 < d;
        const float* from = src + row * stride + chunk * 4;
        float* const to = tile + row * ROW + chunk * 4;
#pragma unroll
        for (int r = 0; r < ROWS; r += STEP) {
            copyAsync16(to + r * ROW, from, inside && row + r < valid);
            from += STEP * stride;
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
        const int row = i / WIDTH, column = i % WIDTH;
        tile[row * ROW + column] = row < valid && column < d ? src[row * stride + column] : 0.f;
    }
}

// s[r][c] += A[a + y + 4 r] . B[b + x + 8 c] over WIDTH columns.
template <int WIDTH, int R, int C>
__device__ __forceinline__ void multiplyRows32(float (&s)[R][C], const float* A, int a,
                                               const float* B, int b)
{
    constexpr int ROW = WIDTH + PAD;
    A += (a + laneY()) * ROW;
    B += (b + laneX()) * ROW;
#pragma unroll 2
    for (int k = 0; k < WIDTH; k += 4) {
        float4 left[R], right[C];
#pragma unroll
        for (int r = 0; r < R; r++)
            left[r] = *(const float4*)(A + 4 * r * ROW + k);
#pragma unroll
        for (int c = 0; c < C; c++)
            right[c] = *(const float4*)(B + 8 * c * ROW + k);
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int c = 0; c < C; c++) {
                s[r][c] = fmaf(left[r].x, right[c].x, s[r][c]);
                s[r][c] = fmaf(left[r].y, right[c].y, s[r][c]);
                s[r][c] = fmaf(left[r].z, right[c].z, s[r][c]);
                s[r][c] = fmaf(left[r].w, right[c].w, s[r][c]);
            }
    }
}

// Puts a warp's scores, 4 R rows of 8 C, where every lane of it can read them.
template <int R, int C> __device__ __forceinline__ void hold32(float* held, const float (&s)[R][C])
{
    constexpr int ROW = 8 * C + PAD_P;
    __syncwarp(); // the last reader is done
    float* const at = held + laneY() * ROW + laneX();
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < C; c++)
            at[4 * r * ROW + 8 * c] = s[r][c];
    __syncwarp();
}

// out[r][g] += held row y + 4 r times columns 4 x + 32 g of the rows [0, KEYS) of B.
template <int WIDTH, int KEYS, int R, int G>
__device__ __forceinline__ void multiplyHeld32(float4 (&out)[R][G], const float* held,
                                               const float* B)
{
    constexpr int ROW = KEYS + PAD_P;
    held += laneY() * ROW;
    B += 4 * laneX();
#pragma unroll 1
    for (int k = 0; k < KEYS; k += 4) {
        float4 p[R];
#pragma unroll
        for (int r = 0; r < R; r++)
            p[r] = *(const float4*)(held + 4 * r * ROW + k);
#pragma unroll
        for (int e = 0; e < 4; e++)
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float4 v = *(const float4*)(B + (k + e) * (WIDTH + PAD) + 32 * g);
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const float f = e == 0 ? p[r].x : e == 1 ? p[r].y : e == 2 ? p[r].z : p[r].w;
                    out[r][g].x = fmaf(f, v.x, out[r][g].x);
                    out[r][g].y = fmaf(f, v.y, out[r][g].y);
                    out[r][g].z = fmaf(f, v.z, out[r][g].z);
                    out[r][g].w = fmaf(f, v.w, out[r][g].w);
                }
            }
    }
}

// Writes one thread's group of four columns, times scale, to dst, of which left
// columns exist.
__device__ __forceinline__ void storeGroup32(float* dst, int left, bool aligned, float4 v,
                                             float scale)
{
    v.x *= scale, v.y *= scale, v.z *= scale, v.w *= scale;
    if (aligned) {
        if (left > 0) *(float4*)dst = v;
        return;
    }
    if (left > 0) dst[0] = v.x;
    if (left > 1) dst[1] = v.y;
    if (left > 2) dst[2] = v.z;
    if (left > 3) dst[3] = v.w;
}

} // namespace attention
