// 16-bit tiles in shared memory and the fragments of mma.m16n8k16 read from them.
//
// A tile has rows of WIDTH values in chunks of 8 (16 bytes). Chunk c of row r
// lies where chunk c ^ swizzle(r) would, so that the 8 rows of one 8x8 matrix
// at equal c lie in the 8 different 16-byte columns of the 32 banks.
#pragma once
#include "attention.h"

namespace attention {

template <int WIDTH> __device__ __forceinline__ int tileAt(int row, int chunk)
{
    static_assert(WIDTH % 32 == 0, "a row is half of 128 bytes, or a multiple of it");
    const int swizzle = WIDTH % 64 == 0 ? row & 7 : (row >> 1) & 3;
    return row * WIDTH + ((chunk ^ swizzle) << 3);
}

// Copies rows [0, valid) x columns [0, d) of src into a tile and zero-fills the
// rest of it. Aligned rows go through cp.async, for which the caller commits and
// waits; others by plain loads and stores.
template <class T, int ROWS, int WIDTH, int THREADS>
__device__ __forceinline__ void loadTile(T* tile, const T* src, size_t stride, int valid, int d,
                                         bool aligned)
{
    constexpr int CHUNKS = WIDTH / 8, STEP = THREADS / CHUNKS;
    static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "one chunk a thread");
    if (aligned) {
        const int thread = opaque(threadIdx.x), row = thread / CHUNKS, chunk = thread % CHUNKS;
        const bool inside = chunk * 8 < d;
        const T* from = src + row * stride + chunk * 8;
#pragma unroll
        for (int r = 0; r < ROWS; r += STEP) {
            copyAsync16(tile + tileAt<WIDTH>(row + r, chunk), from, inside && row + r < valid);
            from += STEP * stride;
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
        const int row = i / WIDTH, column = i % WIDTH;
        tile[tileAt<WIDTH>(row, column / 8) + column % 8] =
            row < valid && column < d ? src[row * stride + column] : fromFloat<T>(0.f);
    }
}

// Address for ldmatrix4 of the 16x16 block at (row, 8 chunk): plain it gives the
// A operand of a product over columns, transposed the B operands of two
// n8 tiles of a product over rows.
template <int WIDTH, class T>
__device__ __forceinline__ const T* blockAt(const T* tile, int row, int chunk, int lane)
{
    return tile + tileAt<WIDTH>(row + (lane & 15), chunk + (lane >> 4));
}

// Address for ldmatrix4 of the 16x16 block at (row, 8 chunk) as the B operands
// of the n8 tiles of rows row..row+7 and row+8..row+15, product over columns.
template <int WIDTH, class T>
__device__ __forceinline__ const T* rowsAt(const T* tile, int row, int chunk, int lane)
{
    return tile + tileAt<WIDTH>(row + (lane & 7) + (lane >> 4 << 3), chunk + (lane >> 3 & 1));
}

// c[m][n] += A B^T over the columns of two tiles: rows a.. of A (16 ATOMS of
// them) by rows b.. of B (8 N of them).
template <class T, int WIDTH, int ATOMS, int N>
__device__ __forceinline__ void multiplyRows(float (&c)[ATOMS][N][4], const T* A, int a, const T* B,
                                             int b)
{
    const int lane = opaque(threadIdx.x & 31);
#pragma unroll(WIDTH > 64 ? 4 : 2)
    for (int k = 0; k < WIDTH / 16; k++) {
        unsigned left[ATOMS][4];
#pragma unroll
        for (int m = 0; m < ATOMS; m++)
            ldmatrix4(left[m], blockAt<WIDTH>(A, a + 16 * m, 2 * k, lane));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned right[4];
            ldmatrix4(right, rowsAt<WIDTH>(B, b + 8 * n, 2 * k, lane));
#pragma unroll
            for (int m = 0; m < ATOMS; m++) {
                mma16816<T>(c[m][n], left[m], right);
                mma16816<T>(c[m][n + 1], left[m], right + 2);
            }
        }
    }
}

// c[m][n] += P B, P [16 ATOMS, 8 K] the accumulators of an earlier product,
// rounded to T, and B the tile's rows [0, 8 K) by its columns 8 (column ... column + N).
template <class T, int WIDTH, int ATOMS, int K, int N>
__device__ __forceinline__ void multiplyHeld(float (&c)[ATOMS][N][4], const float (&p)[ATOMS][K][4],
                                             const T* B, int column)
{
    const int lane = opaque(threadIdx.x & 31);
#pragma unroll
    for (int k = 0; k < K; k += 2) {
        unsigned left[ATOMS][4];
#pragma unroll
        for (int m = 0; m < ATOMS; m++) {
            left[m][0] = pack2<T>(p[m][k][0], p[m][k][1]);
            left[m][1] = pack2<T>(p[m][k][2], p[m][k][3]);
            left[m][2] = pack2<T>(p[m][k + 1][0], p[m][k + 1][1]);
            left[m][3] = pack2<T>(p[m][k + 1][2], p[m][k + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned right[4];
            ldmatrix4Trans(right, blockAt<WIDTH>(B, 8 * k, column + n, lane));
#pragma unroll
            for (int m = 0; m < ATOMS; m++) {
                mma16816<T>(c[m][n], left[m], right);
                mma16816<T>(c[m][n + 1], left[m], right + 2);
            }
        }
    }
}

// Writes accumulators, times scale[m][0] in the upper and scale[m][1] in the lower 8 rows of each
// 16, through rows and columns of a tile that this warp owns to those of [0, valid) x [0, d) of
// dst, in pieces of 16 bytes where rows are aligned.
template <class T, int WIDTH, int ATOMS, int N>
__device__ __forceinline__ void
storeRows(T* dst, size_t stride, int valid, int d, bool aligned, T* tile, int row, int column,
          const float (&c)[ATOMS][N][4], const float (&scale)[ATOMS][2])
{
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < ATOMS; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int low = 0; low < 2; low++) {
                const float s = scale[m][low];
                *(unsigned*)(tile + tileAt<WIDTH>(row + 16 * m + 8 * low + g, column + n) + 2 * t) =
                    pack2<T>(c[m][n][2 * low] * s, c[m][n][2 * low + 1] * s);
            }
    __syncwarp();
    if (aligned) {
#pragma unroll
        for (int i = lane; i < 16 * ATOMS * N; i += 32) {
            const int r = row + i / N, chunk = column + i % N;
            if (r < valid && chunk * 8 < d)
                *(uint4*)(dst + r * stride + chunk * 8) =
                    *(const uint4*)(tile + tileAt<WIDTH>(r, chunk));
        }
        return;
    }
#pragma unroll 1
    for (int i = lane; i < 16 * ATOMS * N * 8; i += 32) {
        const int r = row + i / (N * 8), x = column * 8 + i % (N * 8);
        if (r < valid && x < d) dst[r * stride + x] = tile[tileAt<WIDTH>(r, x / 8) + x % 8];
    }
}

} // namespace attention
