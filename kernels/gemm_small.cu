#include "linalg.h"

inline namespace thisfile {

// Bits of the parameter flags.
constexpr int transA = 1; // A is stored k x m
constexpr int transB = 2; // B is stored k x n
constexpr int lower =
    4; // C is symmetric: its tiles on and below the diagonal are made, and mirrored

// What one block needs to know of its matrices.
template <class T> struct Job {
    const T *a, *b, *d;
    T* c;
    double alpha, beta;
    int m, n, k, lda, ldb, ldc, row0, col0;
    bool mirror;
};

// The result's element (r, c) from the product's.
template <class T>
__device__ __forceinline__ void storeOne(const Job<T>& job, int r, int c, T product)
{
    if (r >= job.m || c >= job.n || (job.mirror && c > r)) return;
    const size_t at = static_cast<size_t>(r) * job.ldc + c;
    T v = static_cast<T>(job.alpha) * product;
    if (job.d) v += static_cast<T>(job.beta) * job.d[at];
    job.c[at] = v;
    if (job.mirror && c < r) job.c[static_cast<size_t>(c) * job.ldc + r] = v;
}

template <class T> struct PairOf;
template <> struct PairOf<float> {
    using Type = float2;
};
template <> struct PairOf<double> {
    using Type = double2;
};

// The elements (r, c) and (r, c + 1), c even: in one access where their addresses allow it.
template <class T>
__device__ __forceinline__ void storePair(const Job<T>& job, int r, int c, T first, T second)
{
    using Pair = typename PairOf<T>::Type;
    if (job.ldc % 2 != 0 || r >= job.m || c + 1 >= job.n || job.mirror) {
        storeOne(job, r, c, first);
        storeOne(job, r, c + 1, second);
        return;
    }
    const size_t at = static_cast<size_t>(r) * job.ldc + c;
    Pair v;
    v.x = static_cast<T>(job.alpha) * first;
    v.y = static_cast<T>(job.alpha) * second;
    if (job.d) {
        const Pair d = *reinterpret_cast<const Pair*>(job.d + at);
        v.x += static_cast<T>(job.beta) * d.x;
        v.y += static_cast<T>(job.beta) * d.y;
    }
    *reinterpret_cast<Pair*>(job.c + at) = v;
}

namespace f64 {

constexpr int rows = 128, cols = 64, depth = 16, threads = 128;
constexpr int stageA = rows * (depth + 4), stageB = cols * (depth + 4); // the larger layout
static_assert(stageA >= depth * (rows + 4) && stageB >= depth * (cols + 4), "tiles fit");

// Starts the copy of R rows and `depth` steps from (row0, k0) on; beyond rows or k it writes zeros.
template <int R, bool alongK>
__device__ __forceinline__ void load(double* to, const double* from, int ld, int row0, int nrows,
                                     int k0, int k)
{
    using Place = Tile<R, depth, alongK>;
    const int tid = threadIdx.x;
    if (ld % 2 == 0) { // 16 bytes at a time; then nrows or k, whichever lies along memory, is even
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
__device__ __forceinline__ void products(double (&acc)[4][4][4], double* shared,
                                         const Job<double>& job)
{
    double* const as = shared; // two stages of A, then two of B
    double* const bs = shared + 2 * stageA;
    const int warp = threadIdx.x >> 5, row = (warp & 1) * 64, col = (warp >> 1) * 32;
    const int steps = job.alpha == 0 ? 0 : (job.k + depth - 1) / depth;
    auto fetch = [&](int s) {
        if (s < steps) {
            load<rows, aAlongK>(as + (s & 1) * stageA, job.a, job.lda, job.row0, job.m, s * depth,
                                job.k);
            load<cols, bAlongK>(bs + (s & 1) * stageB, job.b, job.ldb, job.col0, job.n, s * depth,
                                job.k);
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

__device__ __forceinline__ void run(const Job<double>& job, int flags)
{
    DYNAMIC_SHARED(double, shared);
    double acc[4][4][4] = {};
    switch (flags & (transA | transB)) {
    case 0: products<true, true>(acc, shared, job); break;
    case transA: products<false, true>(acc, shared, job); break;
    case transB: products<true, false>(acc, shared, job); break;
    default: products<false, false>(acc, shared, job);
    }
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const int r = job.row0 + (warp & 1) * 64 + (lane >> 2);
    const int c = job.col0 + (warp >> 1) * 32 + 2 * (lane & 3);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            storePair(job, r + 16 * i, c + 8 * j, acc[i][j][0], acc[i][j][1]);
            storePair(job, r + 16 * i + 8, c + 8 * j, acc[i][j][2], acc[i][j][3]);
        }
}

} // namespace f64

namespace f32 {

constexpr int edge = 128, depth = 8, stride = edge + 4; // 256 threads

// Takes this thread's 4 values of a tile of 128 rows and 8 steps from memory.
template <bool alongK>
__device__ __forceinline__ void take(float (&v)[4], const float* from, int ld, int row0, int nrows,
                                     int k0, int k)
{
    const int tid = threadIdx.x;
    const int r = row0 + (alongK ? tid / 2 : tid % 32 * 4);
    const int step = k0 + (alongK ? tid % 2 * 4 : tid / 32);
    const size_t at =
        alongK ? static_cast<size_t>(r) * ld + step : static_cast<size_t>(step) * ld + r;
    const bool in = r < nrows && step < k;
    if (ld % 4 == 0) {
        const float4 x = in ? *reinterpret_cast<const float4*>(from + at) : make_float4(0, 0, 0, 0);
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
template <bool alongK> __device__ __forceinline__ void put(float* to, const float (&v)[4])
{
    const int tid = threadIdx.x;
    if constexpr (alongK) { // lanes: 16 rows by 2 groups of steps, which lie 16 banks apart
#pragma unroll
        for (int e = 0; e < 4; e++)
            to[(tid % 2 * 4 + e) * stride + tid / 2] = v[e];
    } else {
        *reinterpret_cast<float4*>(&to[tid / 32 * stride + tid % 32 * 4]) =
            make_float4(v[0], v[1], v[2], v[3]);
    }
}

template <bool aAlongK, bool bAlongK>
__device__ __forceinline__ void products(float (&acc)[8][8], float* shared, const Job<float>& job)
{
    constexpr int stage = depth * stride;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float va[4], vb[4];
    const int steps = job.alpha == 0 ? 0 : (job.k + depth - 1) / depth;
    auto fetch = [&](int s) {
        take<aAlongK>(va, job.a, job.lda, job.row0, job.m, s * depth, job.k);
        take<bAlongK>(vb, job.b, job.ldb, job.col0, job.n, s * depth, job.k);
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
    for (int s = 0; s < steps; s++) {
        if (s + 1 < steps) fetch(s + 1); // in flight during the products
        const float* as = shared + (s & 1) * 2 * stage;
        const float* bs = as + stage;
#pragma unroll
        for (int k = 0; k < depth; k++) {
            float a[8], b[8];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float4 x =
                    *reinterpret_cast<const float4*>(&as[k * stride + 64 * h + 4 * ty]);
                const float4 y =
                    *reinterpret_cast<const float4*>(&bs[k * stride + 64 * h + 4 * tx]);
                a[4 * h] = x.x, a[4 * h + 1] = x.y, a[4 * h + 2] = x.z, a[4 * h + 3] = x.w;
                b[4 * h] = y.x, b[4 * h + 1] = y.y, b[4 * h + 2] = y.z, b[4 * h + 3] = y.w;
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
        }
        if (s + 1 < steps) keep(s + 1); // the other stage, which all left at the barrier before
        __syncthreads();
    }
}

__device__ __forceinline__ void run(const Job<float>& job, int flags)
{
    DYNAMIC_SHARED(float, shared);
    float acc[8][8] = {};
    switch (flags & (transA | transB)) {
    case 0: products<true, true>(acc, shared, job); break;
    case transA: products<false, true>(acc, shared, job); break;
    case transB: products<true, false>(acc, shared, job); break;
    default: products<false, false>(acc, shared, job);
    }
    const int r = job.row0 + 4 * (threadIdx.x / 16), c = job.col0 + 4 * (threadIdx.x % 16);
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            storePair(job, r + 64 * (i >> 2) + (i & 3), c + 64 * (j >> 2) + (j & 3), acc[i][j],
                      acc[i][j + 1]);
}

} // namespace f32

// Finds the block's matrices and tile; false when there is nothing to do.
template <class T, int rows, int cols>
__device__ __forceinline__ bool place(Job<T>& job, long long strideA, long long strideB,
                                      long long strideC, const double* alpha, const double* beta,
                                      int flags, int tiles)
{
    const int batch = blockIdx.x / tiles, t = blockIdx.x % tiles;
    job.alpha = alpha ? alpha[batch] : 1;
    job.beta = beta ? beta[batch] : 1;
    if (job.alpha == 0 && !job.d) return false;
    job.a += batch * strideA;
    job.b += batch * strideB;
    job.c += batch * strideC;
    if (job.d) job.d += batch * strideC;
    job.mirror = flags & lower;
    int i, j;
    if (job.mirror && rows == cols) {
        lowerTile(t, 1, i, j);
    } else if (job.mirror) { // rows of tiles of 2, 4, 6, ... but for those beyond the last column
        lowerTile(t, rows / cols, i, j);
    } else {
        const int across = (job.n + cols - 1) / cols;
        i = t / across;
        j = t % across;
    }
    job.row0 = i * rows;
    job.col0 = j * cols;
    return true;
}

} // namespace thisfile

// gemm_small - batched products of matrices in float and double.
//
//     C = alpha[b] op(A) op(B) + beta[b] D
//
// kernels  gemm_small_f32 gemm_small_f64
// shapes   op(A): m x k, op(B)^T: n x k, C, D: m x n, rows of lda, ldb, ldc elements; matrix b of
//          the batch lies strideA, strideB, strideC elements behind b - 1, 0 for one that all share.
//          alpha, beta: [B]; null stands for 1. D null: nothing is added. C may be D, not A or B.
// params   flags: 1 A is stored k x m, 2 B is stored k x n (without it n x k), 4 the product is
//          symmetric: only tiles on and below the diagonal are made, C is mirrored, m = n.
//          tiles: blocks of one matrix. A matrix with alpha = 0 gets beta D, or nothing if D is
//          null. lda even (f64) or a multiple of 4 (f32) makes the loads 16 bytes wide.
// launch   f64: grid B tiles of 128 x 64, block 128, shared 61440. f32: tiles of 128 x 128, block
//          256, shared 16896. With flag 4 row i of the f64 tiles has 2 i + 2 tiles.
// bound    compute: 2 m n k flops a matrix, half with flag 4. Goal: 60 % of the double tensor
//          cores' peak (f32: of the FMA peak) from m = n = k = 1024 on.
// expect   gemm_small_f64: regs <= 255, shared <= 61440, occupancy >= 12, block 128, dynamic 61440, has DMMA LDGSTS, not LDL STL
// expect   gemm_small_f32: regs <= 128, shared <= 16896, occupancy >= 25, block 256, dynamic 16896, has FFMA LDG.E.128, not LDL STL
// repro    yes: every element is one chain over k, the same at any batch and place.
// twin     ops.GemmBatch; |C - exact| <= (k + 2) u (|alpha| |A| |B| + |beta| |D|), u = 2^-24, 2^-53.
// note     f64 runs on tensor cores (two stages of cp.async, warps of 64 x 32), whose double
//          products round as fused multiply-adds do.
extern "C" __global__ void __launch_bounds__(256, 2)
    gemm_small_f32(float* c, const float* a, const float* b, const float* d, const double* alpha,
                   const double* beta, int m, int n, int k, int lda, int ldb, int ldc,
                   long long strideA, long long strideB, long long strideC, int flags, int tiles)
{
    Job<float> job = {a, b, d, c, 0, 0, m, n, k, lda, ldb, ldc, 0, 0, false};
    if (!place<float, f32::edge, f32::edge>(job, strideA, strideB, strideC, alpha, beta, flags,
                                            tiles))
        return;
    f32::run(job, flags);
}
EXPORT(gemm_small_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    gemm_small_f64(double* c, const double* a, const double* b, const double* d,
                   const double* alpha, const double* beta, int m, int n, int k, int lda, int ldb,
                   int ldc, long long strideA, long long strideB, long long strideC, int flags,
                   int tiles)
{
    Job<double> job = {a, b, d, c, 0, 0, m, n, k, lda, ldb, ldc, 0, 0, false};
    if (!place<double, f64::rows, f64::cols>(job, strideA, strideB, strideC, alpha, beta, flags,
                                             tiles))
        return;
    f64::run(job, flags);
}
EXPORT(gemm_small_f64)
