// Products of 16-bit matrices for networks, on tensor cores: batches, products that are added, long
// sums in pieces, and a bias, a function and a residual in the same pass.
#include "mma_finish.h"
#include "vec16.h"

inline namespace thisfile {

// What is multiplied, and how blocks share it.
template <class T> struct Operands16 {
    const T *a, *b;
    int m, n, k, lda, ldb;
    long long strideA, strideB; // from one matrix to the next
    int flags, pieces, depth;   // sums are cut into pieces of depth steps
};

// What becomes of it, as the kernels' parameters say it.
struct Layer16 {
    void *out, *pre;
    const void* residual;
    const float* bias;
    float alpha, a, b;
    int add, floats, function;
};

// A block's tile, its piece of the sum and its matrix.
struct Place16 {
    int row0, col0, piece, batch;
    __device__ __forceinline__ Place16(int block, int m, int n, int pieces, int rows, int cols)
    {
        const int across = (n + cols - 1) / cols, tiles = (m + rows - 1) / rows * across;
        const int t = block % tiles, rest = block / tiles;
        row0 = t / across * rows;
        col0 = t % across * cols;
        piece = rest % pieces;
        batch = rest / pieces;
    }
};

template <class M, class T, bool aAlongK, bool bAlongK>
__device__ __forceinline__ void products16(typename M::Sums& acc, T* ring, const Operands16<T>& o)
{
    const Place16 at(blockIdx.x, o.m, o.n, o.pieces, M::rows, M::cols);
    const long long first = static_cast<long long>(at.piece) * o.depth;
    const T* const a = o.a + at.batch * o.strideA + (aAlongK ? first : first * o.lda);
    const T* const b = o.b + at.batch * o.strideB + (bAlongK ? first : first * o.ldb);
    const int k = min(o.depth, o.k - at.piece * o.depth);
    const bool wideA = wideRows(a, o.lda), wideB = wideRows(b, o.ldb);
    M::template run<aAlongK, bAlongK>(
        acc, ring, (k + M::depth - 1) / M::depth,
        [&](T* tile, int s) {
            fetchMatrix<T, M::rows, aAlongK, M::threads>(tile, a, o.lda, wideA, at.row0, o.m,
                                                         s * M::depth, k);
        },
        [&](T* tile, int s) {
            fetchMatrix<T, M::cols, bAlongK, M::threads>(tile, b, o.ldb, wideB, at.col0, o.n,
                                                         s * M::depth, k);
        });
}

// O is float or T.
template <class M, class O>
__device__ __forceinline__ void storeLayer(const typename M::Sums& acc, float* shared,
                                           const Layer16& l, int m, int n, int pieces)
{
    // Found anew, so that the products have the registers.
    const Place16 at(opaque(blockIdx.x), m, n, pieces, M::rows, M::cols);
    const long long size = static_cast<long long>(m) * n, matrix = at.batch * size;
    O* const pre = static_cast<O*>(l.pre);
    const O* const residual = static_cast<const O*>(l.residual);
    const Finish16<O> z = {static_cast<O*>(l.out) + (at.batch * pieces + at.piece) * size,
                           pre != nullptr ? pre + matrix : nullptr,
                           residual != nullptr ? residual + matrix : nullptr,
                           l.bias,
                           l.alpha,
                           l.a,
                           l.b,
                           m,
                           n,
                           n,
                           l.add,
                           l.function};
    store16<M>(acc, shared, z, at.row0, at.col0);
}

template <class M, class T>
__device__ __forceinline__ void layer16(T* ring, const Operands16<T>& o, const Layer16& l)
{
    typename M::Sums acc = {};
    switch (o.flags & (transA | transB)) {
    case 0: products16<M, T, true, true>(acc, ring, o); break;
    case transA: products16<M, T, false, true>(acc, ring, o); break;
    case transB: products16<M, T, true, false>(acc, ring, o); break;
    default: products16<M, T, false, false>(acc, ring, o);
    }
    float* const shared = reinterpret_cast<float*>(ring);
    if (l.floats)
        storeLayer<M, float>(acc, shared, l, o.m, o.n, o.pieces);
    else
        storeLayer<M, T>(acc, shared, l, o.m, o.n, o.pieces);
}

// The sum of a product's pieces, in order.
template <class T>
__device__ __forceinline__ void sumPieces16(const float* part, const Layer16& l, int batch, int m,
                                            int n, int pieces)
{
    __shared__ float sums[256];
    const long long size = static_cast<long long>(m) * n;
    const long long at = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= size * batch) return;
    const long long matrix = at / size;
    part += matrix * pieces * size + (at - matrix * size);
    float v = 0;
#pragma unroll 4
    for (int p = 0; p < pieces; p++)
        v += part[p * size];
    sums[threadIdx.x] = v;
    const int c = static_cast<int>((at - matrix * size) % n);
    const Finish16<T> z = {static_cast<T*>(l.out),
                           static_cast<T*>(l.pre),
                           static_cast<const T*>(l.residual),
                           l.bias,
                           l.alpha,
                           l.a,
                           l.b,
                           m,
                           n,
                           n,
                           l.add,
                           l.function};
    finish16(z, at, c, &sums[threadIdx.x], 1, false);
}

// A thread's eight values.
template <class T> __device__ __forceinline__ void narrow16(T* out, const float* x, long long n)
{
    const long long at = (static_cast<long long>(blockIdx.x) * 256 + threadIdx.x) * 8;
    if (at + 8 <= n && aligned16(out) && aligned16(x)) {
        const float4 u = *reinterpret_cast<const float4*>(x + at);
        const float4 v = *reinterpret_cast<const float4*>(x + at + 4);
        *reinterpret_cast<uint4*>(out + at) = make_uint4(pack2<T>(u.x, u.y), pack2<T>(u.z, u.w),
                                                         pack2<T>(v.x, v.y), pack2<T>(v.z, v.w));
        return;
    }
#pragma unroll 1
    for (long long i = at; i < min(n, at + 8); i++)
        out[i] = fromFloat<T>(x[i]);
}

} // namespace thisfile

// matmul16 - products of 16-bit matrices on tensor cores, with what a layer does to them.
//
//     u = alpha op(A) op(B) + bias, or old + alpha op(A) op(B);   pre = u,   out = f(u) + residual
//
// Products are exact, sums and all that follows float; what is stored is rounded once, to nearest even.
//
// kernels  matmul16_large_bf16 matmul16_large_f16 matmul16_bf16 matmul16_f16 matmul16_small_bf16 matmul16_small_f16
// shapes   op(A): m x k, op(B)^T: n x k, out, pre, residual: m x n, all without gaps; matrix b of the batch
//          lies strideA, strideB elements behind b - 1, 0 for one that all share. bias: [n] float, or null.
//          pre, residual: or null. out, pre and residual are of the operands' type, or, with floats, float;
//          out may be residual, and out, pre are no operands.
// params   flags: 1 A is stored k x m, 2 B is stored k x n (without it n x k). add: old values are added, those
//          of pre where there is one. function: of cpu.Func, with fa and fb. pieces: sums are cut into pieces of
//          depth steps, a multiple of 32, each of which has its product, alone, in out: [batch, pieces, m, n],
//          float; then no bias, pre, residual, function or add.
// launch   matmul16_bf16, matmul16_f16: grid batch * pieces * tiles of 128 x 128, block 128, shared 65536.
//          matmul16_large: tiles of 256 x 128, block 256, shared 98304. matmul16_small: of 64 x 64, shared 32768.
// bound    compute: 2 m n k flops a matrix on tensor cores. Goal: of matmul16_large 60 % of an A100's peak, 50 %
//          of an H100's, whose mma.sync reaches about 62 %, from m = n = k = 2048 on; of matmul16 five sixths of
//          that, of matmul16_small half.
// expect   matmul16_large_bf16 matmul16_large_f16: regs <= 255, occupancy >= 12, block 256, dynamic 98304
// expect   matmul16_bf16 matmul16_f16: regs <= 255, occupancy >= 12, block 128, dynamic 65536
// expect   matmul16_small_bf16 matmul16_small_f16: regs <= 128, occupancy >= 25, block 128, dynamic 32768
// expect   has HMMA LDSM.16.M88.4 LDSM.16.MT88.4 LDGSTS.E.BYPASS.LTC128B.128, not LDL STL
// repro    yes: every element is one chain over k and a piece, 16 steps at a time, the same in both tiles, at any
//          batch and place.
// twin     ops.MatMul, ops.Linear, ops.LinearResidual; the product's error is at most (k + 2) 2^-23 sum |a b|, since
//          tensor cores cut off what they do not keep.
// source   own derivation.
// note     Loads are 16 bytes wide where rows are multiples of that and the operand is aligned, else single values.
extern "C" __global__ void __launch_bounds__(256, 1)
    matmul16_large_bf16(void* out, void* pre, const bf16* a, const bf16* b, const float* bias,
                        const void* residual, int m, int n, int k, int lda, int ldb,
                        long long strideA, long long strideB, int flags, double alpha, int add,
                        int floats, int function, double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(bf16, ring);
    layer16<MmaLarge<bf16>, bf16>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_large_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    matmul16_bf16(void* out, void* pre, const bf16* a, const bf16* b, const float* bias,
                  const void* residual, int m, int n, int k, int lda, int ldb, long long strideA,
                  long long strideB, int flags, double alpha, int add, int floats, int function,
                  double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(bf16, ring);
    layer16<MmaMiddle<bf16>, bf16>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_bf16)

extern "C" __global__ void __launch_bounds__(256, 1)
    matmul16_large_f16(void* out, void* pre, const half* a, const half* b, const float* bias,
                       const void* residual, int m, int n, int k, int lda, int ldb,
                       long long strideA, long long strideB, int flags, double alpha, int add,
                       int floats, int function, double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(half, ring);
    layer16<MmaLarge<half>, half>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_large_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    matmul16_f16(void* out, void* pre, const half* a, const half* b, const float* bias,
                 const void* residual, int m, int n, int k, int lda, int ldb, long long strideA,
                 long long strideB, int flags, double alpha, int add, int floats, int function,
                 double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(half, ring);
    layer16<MmaMiddle<half>, half>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    matmul16_small_bf16(void* out, void* pre, const bf16* a, const bf16* b, const float* bias,
                        const void* residual, int m, int n, int k, int lda, int ldb,
                        long long strideA, long long strideB, int flags, double alpha, int add,
                        int floats, int function, double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(bf16, ring);
    layer16<MmaSmall<bf16>, bf16>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_small_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    matmul16_small_f16(void* out, void* pre, const half* a, const half* b, const float* bias,
                       const void* residual, int m, int n, int k, int lda, int ldb,
                       long long strideA, long long strideB, int flags, double alpha, int add,
                       int floats, int function, double fa, double fb, int pieces, int depth)
{
    DYNAMIC_SHARED(half, ring);
    layer16<MmaSmall<half>, half>(
        ring, {a, b, m, n, k, lda, ldb, strideA, strideB, flags, pieces, depth},
        {out, pre, residual, bias, static_cast<float>(alpha), static_cast<float>(fa),
         static_cast<float>(fb), add, floats, function});
}
EXPORT(matmul16_small_f16)

// matmul16_sum - the sum of the pieces of a product, in order, and what a layer does to it, rounded to 16 bits.
//
//     u = part[0] + part[1] + ... + bias, or old + that;   pre = u,   out = f(u) + residual
//
// kernels  matmul16_sum_f32 matmul16_sum_bf16 matmul16_sum_f16
// shapes   part: [batch, pieces, m, n] float. out, pre, residual of the type in the name, bias as of matmul16.
// params   as of matmul16.
// launch   grid ceil(batch * m * n / 256), block 256, shared 0.
// bound    memory: 4 pieces + 2 bytes an element, of matmul16_sum_f32 4 pieces + 4. Goal: 60 % of peak bandwidth
//          from 2^22 values on.
// expect   regs <= 64, shared <= 1024, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.MatMul, ops.Linear, ops.LinearResidual
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    matmul16_sum_f32(float* out, float* pre, const float* part, const float* bias,
                     const float* residual, int batch, int m, int n, int pieces, int add,
                     int function, double fa, double fb)
{
    sumPieces16<float>(part,
                       {out, pre, residual, bias, 1, static_cast<float>(fa), static_cast<float>(fb),
                        add, 1, function},
                       batch, m, n, pieces);
}
EXPORT(matmul16_sum_f32)

extern "C" __global__ void __launch_bounds__(256)
    matmul16_sum_bf16(bf16* out, bf16* pre, const float* part, const float* bias,
                      const bf16* residual, int batch, int m, int n, int pieces, int add,
                      int function, double fa, double fb)
{
    sumPieces16<bf16>(part,
                      {out, pre, residual, bias, 1, static_cast<float>(fa), static_cast<float>(fb),
                       add, 0, function},
                      batch, m, n, pieces);
}
EXPORT(matmul16_sum_bf16)

extern "C" __global__ void __launch_bounds__(256)
    matmul16_sum_f16(half* out, half* pre, const float* part, const float* bias,
                     const half* residual, int batch, int m, int n, int pieces, int add,
                     int function, double fa, double fb)
{
    sumPieces16<half>(part,
                      {out, pre, residual, bias, 1, static_cast<float>(fa), static_cast<float>(fb),
                       add, 0, function},
                      batch, m, n, pieces);
}
EXPORT(matmul16_sum_f16)

// narrow16 - floats rounded to bfloat16, as operands of products on tensor cores.
//
//     out[i] = x[i], to nearest even; what is too large becomes infinite, NaN stays one
//
// kernels  narrow16_bf16
// shapes   out, x: n values; out does not overlap x.
// launch   grid ceil(n / 2048), block 256, shared 0.
// bound    memory: 6 n bytes. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 32, shared <= 0, occupancy >= 100, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.MatMul, ops.LinearBF16, ops.Conv2D; the same bits as ops.RoundBF16.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    narrow16_bf16(bf16* out, const float* x, long long n)
{
    narrow16(out, x, n);
}
EXPORT(narrow16_bf16)
