// Products of matrices for networks: batches, products that are added, long sums in pieces, and a
// bias and a function of the result in the same pass.
#include "gemm_finish.h"

inline namespace thisfile {

// The block's matrices, piece of the sum and tile.
template <class T>
__device__ __forceinline__ void place(Operands<T>& o, long long strideA, long long strideB,
                                      int flags, int pieces, int depth, int rows, int cols)
{
    const int across = (o.n + cols - 1) / cols, tiles = (o.m + rows - 1) / rows * across;
    const int t = blockIdx.x % tiles, rest = blockIdx.x / tiles;
    const int piece = rest % pieces, batch = rest / pieces;
    o.row0 = t / across * rows;
    o.col0 = t % across * cols;
    const long long first = static_cast<long long>(piece) * depth;
    o.a += batch * strideA + (flags & transA ? first * o.lda : first);
    o.b += batch * strideB + (flags & transB ? first * o.ldb : first);
    o.k = min(depth, o.k - piece * depth);
}

// Where the block's results go. After the products, which need all registers: block is opaque.
template <class T>
__device__ __forceinline__ void place(Finish<T>& z, int block, int pieces, int rows, int cols,
                                      int& row0, int& col0)
{
    const int across = (z.n + cols - 1) / cols, tiles = (z.m + rows - 1) / rows * across;
    const int t = block % tiles, rest = block / tiles;
    row0 = t / across * rows;
    col0 = t % across * cols;
    const long long size = static_cast<long long>(z.m) * z.n;
    z.out += rest * size;
    if (z.pre != nullptr) z.pre += rest / pieces * size; // there is one piece
}

// The sum of a product's pieces, in order.
template <class T>
__device__ __forceinline__ void sumPieces(const T* part, const Finish<T>& z, int batch, int pieces)
{
    const long long size = static_cast<long long>(z.m) * z.n, n = size * batch;
    const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= n) return;
    const long long matrix = at / size, in = at - matrix * size;
    part += matrix * pieces * size + in;
    T v = 0;
#pragma unroll 4
    for (int p = 0; p < pieces; p++)
        v += part[p * size];
    finish(z, at, static_cast<int>(in % z.n), v);
}

} // namespace thisfile

// matmul - products of matrices, with what a layer does to them.
//
//     u = alpha op(A) op(B) + bias, or old + alpha op(A) op(B);   pre = u,   out = f(u)
//
// kernels  matmul_f32 matmul_small_f32 matmul_f64
// shapes   op(A): m x k, op(B)^T: n x k, out, pre: m x n, all without gaps; matrix b of the batch lies
//          strideA, strideB elements behind b - 1, 0 for one that all share. bias: [n], or null.
//          pre: or null. out, pre are no operands.
// params   flags: 1 A is stored k x m, 2 B is stored k x n (without it n x k). add: old values are
//          added, those of pre where there is one. function: of cpu.Func, with a and b. pieces: sums
//          are cut into pieces of depth steps, a multiple of 16, each of which has its product, alone,
//          in out: [batch, pieces, m, n]; then no bias, pre, function or add.
// launch   matmul_f32: grid batch * pieces * tiles of 128 x 128, block 256, shared 67584.
//          matmul_small_f32: tiles of 64 x 64, shared 17408. matmul_f64: tiles of 128 x 64, block 128,
//          shared 61440.
// bound    compute: 2 m n k flops a matrix. Goal: 60 % of the FMA peak, of matmul_small_f32 40 %, of
//          matmul_f64 60 % of the double tensor cores' peak, from m = n = k = 1024 on.
// expect   matmul_f32: regs <= 128, shared <= 67584, occupancy >= 25, block 256, dynamic 67584, has FFMA LDG.E.128, not LDL STL
// expect   matmul_small_f32: regs <= 84, shared <= 17408, occupancy >= 37, block 256, dynamic 17408, has FFMA LDG.E.128, not LDL STL
// expect   matmul_f64: regs <= 255, shared <= 61440, occupancy >= 12, block 128, dynamic 61440, has DMMA LDGSTS, not LDL STL
// repro    yes: every element is one chain over k and a piece, the same at any batch and place.
// twin     ops.MatMul, ops.Linear; the product's error is at most (k + 2) u sum |a b|, u = 2^-24, 2^-53.
// source   own derivation.
// note     Loads are 16 bytes wide where rows are multiples of that and the operand is aligned.
extern "C" __global__ void __launch_bounds__(256, 2)
    matmul_f32(float* out, float* pre, const float* a, const float* b, const float* bias, int m,
               int n, int k, int lda, int ldb, long long strideA, long long strideB, int flags,
               double alpha, int add, int function, double fa, double fb, int pieces, int depth)
{
    typedef TileF32<128> Tile;
    DYNAMIC_SHARED(float, shared);
    Tile::Sums acc = {};
    Operands<float> o = {a, b, m, n, k, lda, ldb, 0, 0, wideRows(a, lda), wideRows(b, ldb)};
    place(o, strideA, strideB, flags, pieces, depth, 128, 128);
    Tile::tile(acc, shared, o, flags);
    Finish<float> z = {out,
                       pre,
                       bias,
                       static_cast<float>(alpha),
                       static_cast<float>(fa),
                       static_cast<float>(fb),
                       m,
                       n,
                       add,
                       function};
    int row0, col0;
    place(z, opaque(blockIdx.x), pieces, 128, 128, row0, col0);
    store<128, 128, 128, Tile::threads>([](const auto& sums, auto f) { Tile::each(sums, f); }, acc,
                                        shared, z, row0, col0);
}
EXPORT(matmul_f32)

extern "C" __global__ void __launch_bounds__(256, 3)
    matmul_small_f32(float* out, float* pre, const float* a, const float* b, const float* bias,
                     int m, int n, int k, int lda, int ldb, long long strideA, long long strideB,
                     int flags, double alpha, int add, int function, double fa, double fb,
                     int pieces, int depth)
{
    typedef TileF32<64> Tile;
    DYNAMIC_SHARED(float, shared);
    Tile::Sums acc = {};
    Operands<float> o = {a, b, m, n, k, lda, ldb, 0, 0, wideRows(a, lda), wideRows(b, ldb)};
    place(o, strideA, strideB, flags, pieces, depth, 64, 64);
    Tile::tile(acc, shared, o, flags);
    Finish<float> z = {out,
                       pre,
                       bias,
                       static_cast<float>(alpha),
                       static_cast<float>(fa),
                       static_cast<float>(fb),
                       m,
                       n,
                       add,
                       function};
    int row0, col0;
    place(z, opaque(blockIdx.x), pieces, 64, 64, row0, col0);
    store<64, 64, 64, Tile::threads>([](const auto& sums, auto f) { Tile::each(sums, f); }, acc,
                                     shared, z, row0, col0);
}
EXPORT(matmul_small_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    matmul_f64(double* out, double* pre, const double* a, const double* b, const double* bias,
               int m, int n, int k, int lda, int ldb, long long strideA, long long strideB,
               int flags, double alpha, int add, int function, double fa, double fb, int pieces,
               int depth)
{
    DYNAMIC_SHARED(double, shared);
    f64::Sums acc = {};
    Operands<double> o = {a, b, m, n, k, lda, ldb, 0, 0, wideRows(a, lda), wideRows(b, ldb)};
    place(o, strideA, strideB, flags, pieces, depth, f64::rows, f64::cols);
    f64::tile(acc, shared, o, flags);
    Finish<double> z = {out, pre, bias, alpha, fa, fb, m, n, add, function};
    int row0, col0;
    place(z, opaque(blockIdx.x), pieces, f64::rows, f64::cols, row0, col0);
    store<f64::rows, f64::cols, 64, f64::threads>(
        [](const auto& sums, auto f) { f64::each(sums, f); }, acc, shared, z, row0, col0);
}
EXPORT(matmul_f64)

// matmul_sum - the sum of the pieces of a product, in order, and what a layer does to it.
//
//     u = part[0] + part[1] + ... + bias, or old + that;   pre = u,   out = f(u)
//
// kernels  matmul_sum_f32 matmul_sum_f64
// shapes   part: [batch, pieces, m, n]. out, pre, bias as of matmul.
// params   as of matmul.
// launch   grid ceil(batch * m * n / 256), block 256, shared 0.
// bound    memory: pieces + 1 values an element. Goal: 60 % of peak bandwidth from 2^22 values on.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.MatMul, ops.Linear
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    matmul_sum_f32(float* out, float* pre, const float* part, const float* bias, int batch, int m,
                   int n, int pieces, int add, int function, double fa, double fb)
{
    const Finish<float> z = {
        out, pre, bias, 1, static_cast<float>(fa), static_cast<float>(fb), m, n, add, function};
    sumPieces(part, z, batch, pieces);
}
EXPORT(matmul_sum_f32)

extern "C" __global__ void __launch_bounds__(256)
    matmul_sum_f64(double* out, double* pre, const double* part, const double* bias, int batch,
                   int m, int n, int pieces, int add, int function, double fa, double fb)
{
    const Finish<double> z = {out, pre, bias, 1, fa, fb, m, n, add, function};
    sumPieces(part, z, batch, pieces);
}
EXPORT(matmul_sum_f64)
