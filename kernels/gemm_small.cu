#include "gemm_tile.h"

inline namespace thisfile {

constexpr int lower =
    4; // C is symmetric: its tiles on and below the diagonal are made, and mirrored

// What one block needs to know of its matrices.
template <class T> struct Job {
    const T *a, *b, *d;
    T* c;
    double alpha, beta;
    int m, n, k, lda, ldb, ldc, row0, col0;
    bool mirror;
    __device__ __forceinline__ Operands<T> operands() const
    {
        return {a,
                b,
                m,
                n,
                alpha == 0 ? 0 : k,
                lda,
                ldb,
                row0,
                col0,
                wideRows(a, lda),
                wideRows(b, ldb)};
    }
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
    typedef TileF32<128> Edge;
    Job<float> job = {a, b, d, c, 0, 0, m, n, k, lda, ldb, ldc, 0, 0, false};
    if (!place<float, 128, 128>(job, strideA, strideB, strideC, alpha, beta, flags, tiles)) return;
    DYNAMIC_SHARED(float, shared);
    Edge::Sums acc = {};
    Edge::tile(acc, shared, job.operands(), flags);
    Edge::each(acc, [&](int r, int c, float v, float next) {
        storePair(job, job.row0 + r, job.col0 + c, v, next);
    });
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
    DYNAMIC_SHARED(double, shared);
    f64::Sums acc = {};
    f64::tile(acc, shared, job.operands(), flags);
    f64::each(acc, [&](int r, int c, double v, double next) {
        storePair(job, job.row0 + r, job.col0 + c, v, next);
    });
}
EXPORT(gemm_small_f64)
