// Distances of sets along directions: rows of projections are sorted, and compared place by place.
#include "radix_tile.h"

inline namespace thisfile {

// ordered makes numbers of floats that rise as they do; value is the reverse.
__device__ __forceinline__ unsigned ordered(unsigned bits)
{
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ unsigned value(unsigned key)
{
    return key ^ (key >> 31 ? 0x80000000u : 0xffffffffu);
}

template <class T>
__device__ __forceinline__ void gaps(double* out, const T* a, const T* b, long long n)
{
    __shared__ double sums[warps];
    const T *x = a + blockIdx.x * n, *y = b + blockIdx.x * n;
    double s = 0;
    for (long long i = threadIdx.x; i < n; i += threads) {
        const double e = static_cast<double>(x[i]) - static_cast<double>(y[i]);
        s += e * e;
    }
    s = warpSum(s);
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = s;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < warps; w++)
        s += sums[w];
    out[blockIdx.x] = s;
}

} // namespace thisfile

// sliced_sort - the rows of a matrix, each sorted.
//
//     x[r] = x[r] rising
//
// kernels  sliced_sort_f32
// shapes   x, other: [rows, n] float32 as words; other is for the passes in between.
// params   1 <= n < 2^31 - 4096. -0 comes before 0, NaN at the ends, by its sign.
// launch   grid rows, block 256, shared 0; a block sorts a row, in four passes of eight bits over tiles of 4096.
// bound    memory: 36 n bytes a row, from L2 where rows in work fit there. Goal: 40 % of peak bandwidth from 528 rows on.
// expect   regs <= 80, shared <= 32768, occupancy >= 37, has MATCH, not LDL STL
// repro    yes
// twin     ops.SortRows, the same bits.
// source   Own derivation; ranks as radix_pass.
extern "C" __global__ void __launch_bounds__(256, 3)
    sliced_sort_f32(unsigned* x, unsigned* other, int n)
{
    __shared__ unsigned starts[4][digits]; // of each pass
    __shared__ unsigned counts[warps][digits], begin[digits], target[digits];
    __shared__ unsigned sorted[tile], sums[warps];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int mine = warp * 32 * each + lane; // my first of a tile, the others 32 apart
    x += static_cast<long long>(blockIdx.x) * n;
    other += static_cast<long long>(blockIdx.x) * n;
    for (int p = 0; p < 4; p++)
        starts[p][threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += threads) {
        const unsigned key = ordered(x[i]);
        for (int p = 0; p < 4; p++)
            atomicAdd(&starts[p][key >> 8 * p & 255u], 1u);
    }
    __syncthreads();
#pragma unroll 1
    for (int p = 0; p < 4; p++) {
        const unsigned* from = p % 2 == 0 ? x : other;
        unsigned* to = p % 2 == 0 ? other : x;
        unsigned next = sumBefore(starts[p][threadIdx.x], sums); // where my digit goes on
#pragma unroll 1
        for (int base = 0; base < n; base += tile) {
            const int here = n - base < tile ? n - base : tile;
            for (int w = 0; w < warps; w++)
                counts[w][threadIdx.x] = 0;
            __syncthreads(); // the tile before is written, and sums is free
            unsigned key[each], rank[each];
#pragma unroll
            for (int k = 0; k < each; k++) {
                key[k] = mine + 32 * k < here ? from[base + mine + 32 * k] : 0;
                if (p == 0) key[k] = ordered(key[k]);
            }
            rankInWarp(rank, key, counts, here, 8 * p, 255u);
            __syncthreads();
            const unsigned sum = sumWarps(counts), start = sumBefore(sum, sums);
            begin[threadIdx.x] = start;
            target[threadIdx.x] = next - start;
            next += sum;
            __syncthreads();
            // Sort within the block, so that neighbours in memory are written by neighbouring threads.
#pragma unroll
            for (int k = 0; k < each; k++) {
                if (mine + 32 * k >= here) continue;
                const unsigned digit = key[k] >> 8 * p & 255u;
                sorted[begin[digit] + counts[warp][digit] + rank[k]] = key[k];
            }
            __syncthreads();
#pragma unroll
            for (int k = 0; k < each; k++) {
                const int i = threadIdx.x + threads * k;
                if (i >= here) continue;
                const unsigned v = sorted[i];
                to[target[v >> 8 * p & 255u] + i] = p == 3 ? value(v) : v;
            }
        }
        __syncthreads(); // the pass is written
    }
}
EXPORT(sliced_sort_f32)

// sliced_gaps - squared distances of the rows of two matrices.
//
//     out[r] = sum over j of (a[r, j] - b[r, j])^2, in double
//
// kernels  sliced_gaps_f32 sliced_gaps_f64
// shapes   out: rows doubles. a, b: [rows, n].
// launch   grid rows, block 256, shared 0; a block a row.
// bound    memory: 2 n values a row. Goal: 60 % of peak bandwidth from 1000 rows of 4096 on.
// expect   regs <= 40, shared <= 64, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.RowDistances, within the rounding of a sum.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    sliced_gaps_f32(double* out, const float* a, const float* b, long long n)
{
    gaps(out, a, b, n);
}
EXPORT(sliced_gaps_f32)

extern "C" __global__ void __launch_bounds__(256)
    sliced_gaps_f64(double* out, const double* a, const double* b, long long n)
{
    gaps(out, a, b, n);
}
EXPORT(sliced_gaps_f64)
