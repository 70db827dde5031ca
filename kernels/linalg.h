// Pieces that the kernels of linear algebra share: products of shared-memory tiles on double tensor
// cores, and reductions over a block whose order never changes.
#pragma once
#include "device.h"

inline namespace thisfile {

// An operand tile in shared memory holds R rows by `depth` steps of k. Along k: element (r, k) at
// r * (depth + 4) + k. Along rows: at k * (R + 4) + r. Both paddings make 4 (mod 16) doubles of the
// stride, so that the 16 lanes of half a warp, 4 rows by 4 steps, meet all banks once.
template <int rows, int depth, bool alongK> struct Tile {
    static constexpr int stride = alongK ? depth + 4 : rows + 4;
    static constexpr int size = alongK ? rows * stride : depth * stride;
    static __device__ __forceinline__ int at(int r, int k)
    {
        return alongK ? r * stride + k : k * stride + r;
    }
};

// acc += A B^T for one warp: its 16 MT rows of A from row0 on, its 8 NT rows of B from col0 on.
template <class TileA, class TileB, int MT, int NT, int depth>
__device__ __forceinline__ void warpProduct(double (&acc)[MT][NT][4], const double* a,
                                            const double* b, int row0, int col0)
{
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll 1 // two steps at once want more registers than there are
    for (int k = 0; k < depth; k += 8) {
        double af[MT][4], bf[NT][2];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                af[i][e] = a[TileA::at(row0 + 16 * i + 8 * (e & 1) + g, k + 4 * (e >> 1) + t)];
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                bf[j][e] = b[TileB::at(col0 + 8 * j + g, k + 4 * e + t)];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
                mma1688f64(acc[i][j], af[i], bf[j]);
    }
}

// Tile number t of the lower triangle of a matrix that is cut into tiles of `tall` times as many
// rows as columns, row by row: i is its row of tiles, j its column.
__device__ __forceinline__ void lowerTile(int t, int tall, int& i, int& j)
{
    i = 0;
    while (t >= tall * (i + 1)) {
        t -= tall * (i + 1);
        i++;
    }
    j = t;
}

// The sum of v over the block, in every thread; shared has a double for each warp. All threads call.
__device__ __forceinline__ double blockSum(double v, double* shared)
{
    v = warpSum(v);
    __syncthreads(); // shared may still be read from a call before
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x >> 5); w++)
        sum += shared[w];
    return sum;
}

// The largest v >= 0 of the block, in every thread; NaN when one is NaN.
__device__ __forceinline__ double blockMax(double v, double* shared)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) {
        const double o = __shfl_xor_sync(0xffffffffu, v, m);
        v = o > v || o != o ? o : v;
    }
    __syncthreads();
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
    __syncthreads();
    double most = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x >> 5); w++) {
        const double o = shared[w];
        most = o > most || o != o ? o : most;
    }
    return most;
}

__device__ __forceinline__ double square(double x) { return x * x; }

} // namespace thisfile
