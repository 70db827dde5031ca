// What layers do to products: old values, a bias and a function, as the tiles of gemm_tile.h are
// stored.
#pragma once
#include "functions.h"
#include "gemm_tile.h"

inline namespace thisfile {

// What becomes of a product.
template <class T> struct Finish {
    T *out, *pre;  // pre: what the function is of, or null
    const T* bias; // of each column, or null
    T alpha, a, b;
    int m, n, add, function;
};

template <class T> __device__ __forceinline__ T functionOf(int f, T x, T a, T b)
{
    switch (f) {
#define CASE(f)                                                                                    \
    case f: return valueOf<f>(x, a, b);
        CASE(RELU)
        CASE(LEAKY)
        CASE(SILU)
        CASE(GELU)
        CASE(GELU_TANH)
        CASE(SIGMOID)
        CASE(TANH)
        CASE(SOFTPLUS)
        CASE(EXP)
        CASE(LOG)
        CASE(SQUARE)
        CASE(ABS)
        CASE(CLIP)
        CASE(INVERSE)
        CASE(SQRT)
        CASE(SIGN)
        CASE(SIN)
        CASE(COS)
        CASE(ERF)
#undef CASE
    }
    return x;
}

// Element at, in column c: what a product v becomes.
template <class T> __device__ __forceinline__ void finish(const Finish<T>& z, size_t at, int c, T v)
{
    if (z.add) v += (z.pre != nullptr ? z.pre : z.out)[at];
    if (z.bias != nullptr) v += z.bias[c];
    if (z.pre != nullptr) z.pre[at] = v;
    z.out[at] = functionOf(z.function, v, z.a, z.b);
}

// The block's tile of sums goes through shared memory, BAND rows at a time, so that neighbours are
// stored by neighbours and the functions are compiled once, not for every sum, and find registers.
template <int ROWS, int COLS, int BAND, int THREADS, class Tile, class Sums, class T>
__device__ __forceinline__ void store(Tile each, const Sums& acc, T* shared, const Finish<T>& z,
                                      int row0, int col0)
{
    constexpr int stride = COLS + 4;
#pragma unroll 1
    for (int band = 0; band < ROWS; band += BAND) {
        __syncthreads(); // the sums of the band before, or the tiles of the products, were read
        each(acc, [&](int r, int c, T v, T next) {
            if (r >= band && r < band + BAND) {
                shared[(r - band) * stride + c] = v;
                shared[(r - band) * stride + c + 1] = next;
            }
        });
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < BAND * COLS; i += THREADS) {
            const int r = row0 + band + i / COLS, c = col0 + i % COLS;
            if (r < z.m && c < z.n)
                finish(z, static_cast<size_t>(r) * z.n + c, c,
                       z.alpha * shared[i / COLS * stride + i % COLS]);
        }
    }
}

} // namespace thisfile
