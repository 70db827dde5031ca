// A block's tile of a product of matrices whose operands are taken from where they lie by functions of the caller: what
// convolutions are made of.
#pragma once
#include "rows.h"

inline namespace thisfile {

constexpr int EDGE = 64, DEPTH = 16, STRIDE = EDGE + 4, EACH = 4;

__device__ __forceinline__ float fusedAdd(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fusedAdd(double a, double b, double c) { return fma(a, b, c); }

// Two digits and a third that change fastest first: where a sum is.
struct Digits {
    int a, b, c; // c counts fastest, then b
    int nb, nc;
    __device__ __forceinline__ Digits(int at, int sizeB, int sizeC) : nb(sizeB), nc(sizeC)
    {
        const unsigned u = static_cast<unsigned>(at), q = u / static_cast<unsigned>(nc);
        c = static_cast<int>(u - q * nc);
        a = static_cast<int>(q / static_cast<unsigned>(nb));
        b = static_cast<int>(q - static_cast<unsigned>(a) * nb);
    }
    __device__ __forceinline__ void next()
    {
        if (++c < nc) return;
        c = 0;
        if (++b < nb) return;
        b = 0;
        a++;
    }
};

// The tile's products. Every thread takes EACH values that follow one another in the sum, of one row
// and of one column: takeA(v, k) and takeB(v, k) give those from k on, 0 past the end. spreadA says
// that neighbours have neighbouring rows, else that they have the next values of the same row.
// Neighbouring threads hold neighbouring columns of the result, with turned neighbouring rows.
template <class T> struct Products {
    T acc[EACH][EACH];
    int row, col; // of acc[0][0] in the tile

    static __device__ __forceinline__ int line(bool spread)
    {
        const int tid = threadIdx.x;
        return spread ? tid % EDGE : tid / (DEPTH / EACH);
    }
    static __device__ __forceinline__ int step(bool spread)
    {
        const int tid = threadIdx.x;
        return EACH * (spread ? tid / EDGE : tid % (DEPTH / EACH));
    }
    static __device__ __forceinline__ void put(T* to, const T (&v)[EACH], bool spread)
    {
        to += step(spread) * STRIDE + line(spread);
#pragma unroll
        for (int e = 0; e < EACH; e++)
            to[e * STRIDE] = v[e];
    }

    template <class A, class B>
    __device__ __forceinline__ void run(int first, int end, bool turned, bool spreadA, bool spreadB,
                                        A takeA, B takeB)
    {
        [[maybe_unused]] constexpr int AHEAD = sizeof(T) == 8 ? 2 : 4;
        __shared__ __align__(16) T tiles[2][2][DEPTH * STRIDE];
        const int across = threadIdx.x % (EDGE / EACH), down = threadIdx.x / (EDGE / EACH);
        row = EACH * (turned ? across : down);
        col = EACH * (turned ? down : across);
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                acc[i][j] = 0;
        T va[EACH], vb[EACH];
        if (first < end) {
            takeA(va, first + step(spreadA), end);
            takeB(vb, first + step(spreadB), end);
            put(tiles[0][0], va, spreadA);
            put(tiles[0][1], vb, spreadB);
        }
        __syncthreads();
        int at = 0;
#pragma unroll 1
        for (int k0 = first; k0 < end; k0 += DEPTH, at ^= 1) {
            const bool more = k0 + DEPTH < end;
            if (more) { // in flight during the products
                takeA(va, k0 + DEPTH + step(spreadA), end);
                takeB(vb, k0 + DEPTH + step(spreadB), end);
            }
            const T *as = tiles[at][0] + row, *bs = tiles[at][1] + col;
#pragma unroll AHEAD
            for (int k = 0; k < DEPTH; k++) {
                T a[EACH], b[EACH];
                quad(a, as + k * STRIDE);
                quad(b, bs + k * STRIDE);
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++)
                        acc[i][j] = fusedAdd(a[i], b[j], acc[i][j]);
            }
            if (more) { // the other tiles, which all left at the barrier before
                put(tiles[at ^ 1][0], va, spreadA);
                put(tiles[at ^ 1][1], vb, spreadB);
            }
            __syncthreads();
        }
    }

    // Four values that are aligned to 16 bytes.
    static __device__ __forceinline__ void quad(T (&v)[EACH], const T* p)
    {
        constexpr int V = Vec16<T>::n;
#pragma unroll
        for (int e = 0; e < EACH; e += V) {
            const auto u = take<V>(p + e);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[e + i] = u.v[i];
        }
    }

    // f(row, column, v) for the sums of the thread.
    template <class F> __device__ __forceinline__ void each(F f)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                f(row + i, col + j, acc[i][j]);
    }
};

// The block's tile of a product of m rows and n columns, and its number among the other things.
__device__ __forceinline__ int tileOf(int m, int n, int& row0, int& col0)
{
    const unsigned across = (n + EDGE - 1) / EDGE, tiles = (m + EDGE - 1) / EDGE * across;
    const unsigned t = blockIdx.x % tiles;
    row0 = static_cast<int>(t / across) * EDGE;
    col0 = static_cast<int>(t % across) * EDGE;
    return static_cast<int>(blockIdx.x / tiles);
}

} // namespace thisfile
