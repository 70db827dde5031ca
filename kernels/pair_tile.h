// Products of the rows of two matrices in tiles of 64 x 64, 16 of a thread, for kernels that look at all pairs of vectors.
#pragma once
#include "device.h"

inline namespace thisfile {

constexpr int THREADS = 256, TILE = 64, DEPTH = 16, PITCH = TILE + 4;

// stage puts DEPTH coordinates of TILE rows from row first on into shared memory, the rows next to
// each other; what is beyond the matrix is 0.
template <class T>
__device__ __forceinline__ void stage(T (*to)[PITCH], const T* x, long long first, long long rows,
                                      int at, int d)
{
#pragma unroll
    for (int j = 0; j < TILE * DEPTH / THREADS; j++) {
        const int i = static_cast<int>(threadIdx.x) + j * THREADS, row = i / DEPTH, c = i % DEPTH;
        const bool in = first + row < rows && at + c < d;
        to[c][row] = in ? x[(first + row) * d + at + c] : T(0);
    }
}

// multiply adds the products of what is staged: rows 4 ty on of a with rows 4 tx on of b.
template <class T>
__device__ __forceinline__ void multiply(T (&sum)[4][4], const T (*a)[PITCH], const T (*b)[PITCH],
                                         int tx, int ty)
{
#pragma unroll 2
    for (int c = 0; c < DEPTH; c++) {
        T u[4], v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u[i] = a[c][4 * ty + i];
            v[i] = b[c][4 * tx + i];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum[i][j] = fma(u[i], v[j], sum[i][j]);
    }
}

} // namespace thisfile
