// Products of tiles of matrices in float and double: a block walks along k and keeps its tile of
// op(A) op(B) in registers. For the kernels that differ in what they do with it.
#pragma once
#include "linalg.h"

inline namespace thisfile {

// Bits of the parameter flags.
constexpr int transA = 1; // A is stored k x m
constexpr int transB = 2; // B is stored k x n

// What one block multiplies: its tile begins at (row0, col0), and sums go over k steps.
template <class T> struct Operands {
    const T *a, *b;
    int m, n, k, lda, ldb, row0, col0;
    bool wideA, wideB; // rows of A, of B, can be read 16 bytes at a time
};

// Rows of ld elements from p on can be read 16 bytes at a time, if their part that is read is a
// multiple of that too.
template <class T> __device__ __forceinline__ bool wideRows(const T* p, int ld)
{
    return ld % (16 / sizeof(T)) == 0 && (reinterpret_cast<size_t>(p) & 15) == 0;
}

namespace f64 {

constexpr int rows = 128, cols = 64, depth = 16, threads = 128;
constexpr int stageA = rows * (depth + 4), stageB = cols * (depth + 4); // the larger layout
static_assert(stageA >= depth * (rows + 4) && stageB >= depth * (cols + 4), "tiles fit");
typedef double Sums[4][4][4]; // of a thread; see place

// Starts the copy of R rows and `depth` steps from (row0, k0) on; beyond rows or k it writes zeros.
template <int R, bool alongK>
__device__ __forceinline__ void load(double* to, const double* from, int ld, bool wide, int row0,
                                     int nrows, int k0, int k)
{
    using Place = Tile<R, depth, alongK>;
    const int tid = threadIdx.x;
    if (wide) { // then nrows or k, whichever lies along memory, is even
#pragma unroll
        for (int i = 0; i < R * depth / 2 / threads; i++) {
            const int chunk = tid + i * threads;
            const int r = alongK ? chunk / (depth / 2) : chunk % (R / 2) * 2;
            const int step = alongK ? chunk % (depth / 2) * 2 : chunk / (R / 2);
            const bool in = row0 + r < nrows && k0 + step < k;
            const size_t at = alongK ? static_cast<size_t>(row0 + r) * ld + k0 + step
                                     : static_cast<size_t>(k0 + step) * ld + row0 + r;
            copyAsync16(&to[Place::at(r, step)], in ? from + at : from, in);
        }
        return;
    }
#pragma unroll 4
    for (int i = 0; i < R * depth / threads; i++) {
        const int chunk = tid + i * threads;
        const int r = alongK ? chunk / depth : chunk % R;
        const int step = alongK ? chunk % depth : chunk / R;
        const bool in = row0 + r < nrows && k0 + step < k;
        const size_t at = alongK ? static_cast<size_t>(row0 + r) * ld + k0 + step
                                 : static_cast<size_t>(k0 + step) * ld + row0 + r;
        copyAsync8(&to[Place::at(r, step)], in ? from + at : from, in);
    }
}

template <bool aAlongK, bool bAlongK>
__device__ __forceinline__ void products(Sums& acc, double* shared, const Operands<double>& o)
{
    double* const as = shared; // two stages of A, then two of B
    double* const bs = shared + 2 * stageA;
    const int warp = threadIdx.x >> 5, row = (warp & 1) * 64, col = (warp >> 1) * 32;
    const int steps = (o.k + depth - 1) / depth;
    auto fetch = [&](int s) {
        if (s < steps) {
            load<rows, aAlongK>(as + (s & 1) * stageA, o.a, o.lda, o.wideA, o.row0, o.m, s * depth,
                                o.k);
            load<cols, bAlongK>(bs + (s & 1) * stageB, o.b, o.ldb, o.wideB, o.col0, o.n, s * depth,
                                o.k);
        }
        copyAsyncCommit();
    };
    fetch(0);
    for (int s = 0; s < steps; s++) {
        fetch(s + 1);
        copyAsyncWait<1>();
        __syncthreads();
        warpProduct<Tile<rows, depth, aAlongK>, Tile<cols, depth, bAlongK>, 4, 4, depth>(
            acc, as + (s & 1) * stageA, bs + (s & 1) * stageB, row, col);
        __syncthreads(); // before the next fetch overwrites this stage
    }
}

// acc = the products; shared has 2 (stageA + stageB) values.
__device__ __forceinline__ void tile(Sums& acc, double* shared, const Operands<double>& o,
                                     int flags)
{
    switch (flags & (transA | transB)) {
    case 0: products<true, true>(acc, shared, o); break;
    case transA: products<false, true>(acc, shared, o); break;
    case transB: products<true, false>(acc, shared, o); break;
    default: products<false, false>(acc, shared, o);
    }
}

// f(row, column, v, v of the next column) for the thread's sums, by their place in the tile.
template <class F> __device__ __forceinline__ void each(const Sums& acc, F f)
{
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const int r = (warp & 1) * 64 + (lane >> 2), c = (warp >> 1) * 32 + 2 * (lane & 3);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            f(r + 16 * i, c + 8 * j, acc[i][j][0], acc[i][j][1]);
            f(r + 16 * i + 8, c + 8 * j, acc[i][j][2], acc[i][j][3]);
        }
}

} // namespace f64

// A tile of EDGE x EDGE, 128 or 64, by 256 threads.
template <int EDGE> struct TileF32 {
    static constexpr int threads = 256, depth = 1024 / EDGE, stride = EDGE + 4,
                         per = EDGE / 16; // sums of a thread, per x per
    static constexpr int stage = depth * stride,
                         shared = 4 * stage; // of two stages of both operands
    typedef float Sums[per][per];

    // Takes this thread's 4 values of a tile of EDGE rows and depth steps from memory.
    template <bool alongK>
    static __device__ __forceinline__ void take(float (&v)[4], const float* from, int ld, bool wide,
                                                int row0, int nrows, int k0, int k)
    {
        const int tid = threadIdx.x;
        const int r = row0 + (alongK ? tid / (depth / 4) : tid % (EDGE / 4) * 4);
        const int step = k0 + (alongK ? tid % (depth / 4) * 4 : tid / (EDGE / 4));
        const size_t at =
            alongK ? static_cast<size_t>(r) * ld + step : static_cast<size_t>(step) * ld + r;
        const bool in = r < nrows && step < k;
        if (wide) { // then nrows or k, whichever lies along memory, is a multiple of 4
            const float4 x =
                in ? *reinterpret_cast<const float4*>(from + at) : make_float4(0, 0, 0, 0);
            v[0] = x.x;
            v[1] = x.y;
            v[2] = x.z;
            v[3] = x.w;
            return;
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            v[e] = in && (alongK ? step + e < k : r + e < nrows) ? from[at + e] : 0;
    }

    // Puts them into shared memory, along rows.
    template <bool alongK>
    static __device__ __forceinline__ void put(float* to, const float (&v)[4])
    {
        const int tid = threadIdx.x;
        if constexpr (
            alongK) { // EDGE = 128: a warp has 16 rows by 2 groups of steps, 16 banks apart
#pragma unroll
            for (int e = 0; e < 4; e++)
                to[(tid % (depth / 4) * 4 + e) * stride + tid / (depth / 4)] = v[e];
        } else {
            *reinterpret_cast<float4*>(&to[tid / (EDGE / 4) * stride + tid % (EDGE / 4) * 4]) =
                make_float4(v[0], v[1], v[2], v[3]);
        }
    }

    // acc += the products of so many steps of depth. takeA(v, s) and takeB(v, s) take the thread's 4 values of step s, as take
    // does, from wherever they are.
    template <bool aAlongK, bool bAlongK, class A, class B>
    static __device__ __forceinline__ void walk(Sums& acc, float* shared, int steps, A takeA,
                                                B takeB)
    {
        const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
        float va[4], vb[4];
        auto fetch = [&](int s) {
            takeA(va, s);
            takeB(vb, s);
        };
        auto keep = [&](int s) {
            put<aAlongK>(shared + (s & 1) * 2 * stage, va);
            put<bAlongK>(shared + (s & 1) * 2 * stage + stage, vb);
        };
        if (steps > 0) {
            fetch(0);
            keep(0);
        }
        __syncthreads();
#pragma unroll 1
        for (int s = 0; s < steps; s++) {
            if (s + 1 < steps) fetch(s + 1); // in flight during the products
            const float* as = shared + (s & 1) * 2 * stage;
            const float* bs = as + stage;
#pragma unroll 2
            for (int k = 0; k < depth; k++) {
                float a[per], b[per];
#pragma unroll
                for (int h = 0; h < per / 4; h++) {
                    const float4 x =
                        *reinterpret_cast<const float4*>(&as[k * stride + 64 * h + 4 * ty]);
                    const float4 y =
                        *reinterpret_cast<const float4*>(&bs[k * stride + 64 * h + 4 * tx]);
                    a[4 * h] = x.x, a[4 * h + 1] = x.y, a[4 * h + 2] = x.z, a[4 * h + 3] = x.w;
                    b[4 * h] = y.x, b[4 * h + 1] = y.y, b[4 * h + 2] = y.z, b[4 * h + 3] = y.w;
                }
#pragma unroll
                for (int i = 0; i < per; i++)
#pragma unroll
                    for (int j = 0; j < per; j++)
                        acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
            }
            if (s + 1 < steps) keep(s + 1); // the other stage, which all left at the barrier before
            __syncthreads();
        }
    }

    template <bool aAlongK, bool bAlongK>
    static __device__ __forceinline__ void products(Sums& acc, float* shared,
                                                    const Operands<float>& o)
    {
        walk<aAlongK, bAlongK>(
            acc, shared, (o.k + depth - 1) / depth,
            [&](float (&v)[4], int s) {
                take<aAlongK>(v, o.a, o.lda, o.wideA, o.row0, o.m, s * depth, o.k);
            },
            [&](float (&v)[4], int s) {
                take<bAlongK>(v, o.b, o.ldb, o.wideB, o.col0, o.n, s * depth, o.k);
            });
    }

    // acc = the products; shared has that many values.
    static __device__ __forceinline__ void tile(Sums& acc, float* shared, const Operands<float>& o,
                                                int flags)
    {
        switch (flags & (transA | transB)) {
        case 0: products<true, true>(acc, shared, o); break;
        case transA: products<false, true>(acc, shared, o); break;
        case transB: products<true, false>(acc, shared, o); break;
        default: products<false, false>(acc, shared, o);
        }
    }

    // f(row, column, v, v of the next column) for the thread's sums, by their place in the tile.
    template <class F> static __device__ __forceinline__ void each(const Sums& acc, F f)
    {
        const int r = 4 * (threadIdx.x / 16), c = 4 * (threadIdx.x % 16);
#pragma unroll
        for (int i = 0; i < per; i++)
#pragma unroll
            for (int j = 0; j < per; j += 2)
                f(r + 64 * (i >> 2) + (i & 3), c + 64 * (j >> 2) + (j & 3), acc[i][j],
                  acc[i][j + 1]);
    }
};

} // namespace thisfile
