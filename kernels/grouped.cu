// Layers of mixtures of experts: products of rows that lie in groups, each with a matrix of its own,
// and the gradients by the matrices. Where groups begin is known to the device alone.
#include "gemm_finish.h"
#include "grouped.h"

inline namespace thisfile {

// Rows that no group has: zeros, or what was there.
template <class T>
__device__ __forceinline__ void storeRest(const Finish<T>& z, const Part& p, int edge, int cols,
                                          int col0)
{
    if (z.add) return;
    const int last = min(p.count, p.row0 + edge), across = min(cols, z.n - col0);
    for (int i = threadIdx.x; i < (last - p.row0) * across; i += blockDim.x) {
        const size_t at =
            static_cast<size_t>(p.first + p.row0 + i / across) * z.n + col0 + i % across;
        z.out[at] = 0;
        if (z.pre != nullptr) z.pre[at] = 0;
    }
}

// The block's tile of a layer.
template <class Tile, int ROWS, int COLS, int BAND, class T>
__device__ __forceinline__ void rowsOfGroups(T* shared, Finish<T> z, const T* a, const T* w,
                                             const int* offsets, int groups, int rows, int k,
                                             int flags)
{
    const int across = (z.n + COLS - 1) / COLS, col0 = blockIdx.x % across * COLS;
    typename Tile::Sums acc = {};
    {
        const Part p = findPart(offsets, groups, rows, ROWS, blockIdx.x / across);
        if (p.group < 0) return;
        if (p.group == groups) {
            storeRest(z, p, ROWS, COLS, col0);
            return;
        }
        a += static_cast<size_t>(p.first) * k;
        w += static_cast<size_t>(p.group) * z.n * k;
        const int ldw = flags & transB ? z.n : k;
        const Operands<T> o = {
            a, w, p.count, z.n, k, k, ldw, p.row0, col0, wideRows(a, k), wideRows(w, ldw)};
        if (flags & transB)
            Tile::template products<true, false>(acc, shared, o);
        else
            Tile::template products<true, true>(acc, shared, o);
    }
    // Found anew, so that the products have the registers.
    const Part p = findPart(offsets, groups, rows, ROWS, opaque(blockIdx.x) / across);
    z.out += static_cast<size_t>(p.first) * z.n;
    if (z.pre != nullptr) z.pre += static_cast<size_t>(p.first) * z.n;
    if (z.bias != nullptr) z.bias += static_cast<size_t>(p.group) * z.n;
    z.m = p.count;
    store<ROWS, COLS, BAND, Tile::threads>([](const auto& sums, auto f) { Tile::each(sums, f); },
                                           acc, shared, z, p.row0, col0);
}

// The rows of piece `piece` of a group.
__device__ __forceinline__ void pieceOf(const int* offsets, int group, int rows, int piece,
                                        int pieces, int& first, int& count)
{
    first = begin(offsets, group, rows);
    count = max(0, begin(offsets, group + 1, rows) - first);
    const int depth = ((count + pieces - 1) / pieces + 15) / 16 * 16;
    first += min(count, piece * depth);
    count = max(0, min(depth, count - piece * depth));
}

// The block's tile of the gradient by a matrix, or of a piece of it.
template <class Tile, int ROWS, int COLS, int BAND, class T>
__device__ __forceinline__ void weightsOfGroups(T* shared, T* dw, const T* dy, const T* x,
                                                const int* offsets, int rows, int n, int k,
                                                int pieces, int add)
{
    const int across = (k + COLS - 1) / COLS, tiles = (n + ROWS - 1) / ROWS * across;
    const int t = blockIdx.x % tiles, rest = blockIdx.x / tiles;
    typename Tile::Sums acc = {};
    {
        int first, count;
        pieceOf(offsets, rest / pieces, rows, rest % pieces, pieces, first, count);
        dy += static_cast<size_t>(first) * n;
        x += static_cast<size_t>(first) * k;
        const Operands<T> o = {dy,
                               x,
                               n,
                               k,
                               count,
                               n,
                               k,
                               t / across * ROWS,
                               t % across * COLS,
                               wideRows(dy, n),
                               wideRows(x, k)};
        Tile::template products<false, false>(acc, shared, o);
    }
    const int block = opaque(blockIdx.x), u = block % tiles;
    const Finish<T> z = {dw + static_cast<size_t>(block / tiles) * n * k,
                         nullptr,
                         nullptr,
                         1,
                         0,
                         0,
                         n,
                         k,
                         add,
                         IDENTITY};
    store<ROWS, COLS, BAND, Tile::threads>([](const auto& sums, auto f) { Tile::each(sums, f); },
                                           acc, shared, z, u / across * ROWS, u % across * COLS);
}

// f64's functions as those of TileF32 are.
struct TileF64 {
    static constexpr int threads = f64::threads;
    typedef f64::Sums Sums;
    template <bool aAlongK, bool bAlongK>
    static __device__ __forceinline__ void products(Sums& acc, double* shared,
                                                    const Operands<double>& o)
    {
        f64::products<aAlongK, bAlongK>(acc, shared, o);
    }
    template <class F> static __device__ __forceinline__ void each(const Sums& acc, F f)
    {
        f64::each(acc, f);
    }
};

// The sums of 32 columns over a piece of a group: 8 rows at a time, then those 8 in order.
template <class T>
__device__ __forceinline__ void sumsOfGroups(T* out, const T* dy, const int* offsets, int rows,
                                             int n, int pieces, int add)
{
    __shared__ T sums[8][32];
    const int across = (n + 31) / 32, lane = threadIdx.x & 31, way = threadIdx.x >> 5;
    const int c = blockIdx.x % across * 32 + lane, rest = blockIdx.x / across;
    int first, count;
    pieceOf(offsets, rest / pieces, rows, rest % pieces, pieces, first, count);
    T sum = 0;
    if (c < n) {
        const T* from = dy + static_cast<size_t>(first) * n + c;
#pragma unroll 4
        for (int r = way; r < count; r += 8)
            sum += from[static_cast<size_t>(r) * n];
    }
    sums[way][lane] = sum;
    __syncthreads();
    if (way > 0 || c >= n) return;
#pragma unroll
    for (int i = 1; i < 8; i++)
        sum += sums[i][lane];
    const size_t at = static_cast<size_t>(rest) * n + c;
    out[at] = add ? out[at] + sum : sum;
}

} // namespace thisfile

// grouped - a layer whose rows lie in groups, each with a weight and a bias of its own.
//
//     u = A[r] op(W[g]) + bias[g], or old + that;   pre = u,   out = f(u)     r in group g
//
// kernels  grouped_f32 grouped_small_f32 grouped_f64
// shapes   A: rows x k, out, pre: rows x n, W: [groups, n, k], with flag 2 [groups, k, n]; bias:
//          [groups, n], or null. pre: or null. offsets: [groups + 1], group g has the rows from
//          offsets[g] to before offsets[g + 1]; rows from the last offset on are in no group, and
//          their results zeros, or, with add, as they were. out, pre are no operands.
// params   flags: 2 or 0. add: old values are added, those of pre where there is one. function: of
//          cpu.Func, with a and b.
// launch   grid (rows / edge + groups + 1) * tiles of columns, rows / edge rounded down: enough for
//          any offsets, the blocks that are too many end at once. grouped_f32: tiles of 128 x 128,
//          block 256, shared 67584. grouped_small_f32: 64 x 64, shared 17408. grouped_f64: 128 x 64,
//          block 128, shared 61440.
// bound    compute: 2 rows n k flops. Goal: of the FMA peak 50 %, of grouped_small_f32 35 %, of
//          grouped_f64 50 % of the double tensor cores' peak, from n = k = 1024 and 1024 rows a group on.
// expect   grouped_f32: regs <= 128, shared <= 67584, occupancy >= 25, block 256, dynamic 67584, has FFMA LDG.E.128, not LDL STL
// expect   grouped_small_f32: regs <= 84, shared <= 17408, occupancy >= 37, block 256, dynamic 17408, has FFMA LDG.E.128, not LDL STL
// expect   grouped_f64: regs <= 255, shared <= 61440, occupancy >= 12, block 128, dynamic 61440, has DMMA LDGSTS, not LDL STL
// repro    yes: every element is one chain over k, whatever the groups.
// twin     ops.GroupedLinear, ops.GroupedMatMul; the error of the product is that of matmul.
// source   own derivation; groups of rows after Gale et al. 2022, arXiv 2211.15841, section 5.
// note     Offsets that do not ascend give wrong results, but nothing is read or written outside.
extern "C" __global__ void __launch_bounds__(256, 2)
    grouped_f32(float* out, float* pre, const float* a, const float* w, const float* bias,
                const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                int function, double fa, double fb)
{
    DYNAMIC_SHARED(float, shared);
    const Finish<float> z = {
        out, pre, bias, 1, static_cast<float>(fa), static_cast<float>(fb), 0, n, add, function};
    rowsOfGroups<TileF32<128>, 128, 128, 128>(shared, z, a, w, offsets, groups, rows, k, flags);
}
EXPORT(grouped_f32)

extern "C" __global__ void __launch_bounds__(256, 3)
    grouped_small_f32(float* out, float* pre, const float* a, const float* w, const float* bias,
                      const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                      int function, double fa, double fb)
{
    DYNAMIC_SHARED(float, shared);
    const Finish<float> z = {
        out, pre, bias, 1, static_cast<float>(fa), static_cast<float>(fb), 0, n, add, function};
    rowsOfGroups<TileF32<64>, 64, 64, 64>(shared, z, a, w, offsets, groups, rows, k, flags);
}
EXPORT(grouped_small_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    grouped_f64(double* out, double* pre, const double* a, const double* w, const double* bias,
                const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                int function, double fa, double fb)
{
    DYNAMIC_SHARED(double, shared);
    const Finish<double> z = {out, pre, bias, 1, fa, fb, 0, n, add, function};
    rowsOfGroups<TileF64, f64::rows, f64::cols, 64>(shared, z, a, w, offsets, groups, rows, k,
                                                    flags);
}
EXPORT(grouped_f64)

// grouped_weights - the gradient by the weights of a layer of groups.
//
//     dW[g] = sum over rows r of group g of dY[r] X[r]^T, or old + that
//
// kernels  grouped_weights_f32 grouped_weights_small_f32 grouped_weights_f64
// shapes   dW: [groups, n, k], dY: rows x n, X: rows x k, offsets as of grouped. dW is no operand.
// params   pieces: the rows of every group are cut into so many pieces of equal depth, a multiple of
//          16; each has its product, alone, in dW: [groups, pieces, n, k], for matmul_sum. Then no add.
// launch   grid groups * pieces * tiles of dW[g]; tiles, block and shared memory as of grouped.
// bound    compute: 2 rows n k flops. Goal: as of grouped.
// expect   grouped_weights_f32: regs <= 128, shared <= 67584, occupancy >= 25, block 256, dynamic 67584, has FFMA LDG.E.128, not LDL STL
// expect   grouped_weights_small_f32: regs <= 84, shared <= 17408, occupancy >= 37, block 256, dynamic 17408, has FFMA LDG.E.128, not LDL STL
// expect   grouped_weights_f64: regs <= 255, shared <= 61440, occupancy >= 12, block 128, dynamic 61440, has DMMA LDGSTS, not LDL STL
// repro    yes: every element is one chain over the rows of a piece.
// twin     ops.GroupedWeights; with r rows in a group the error is at most (r + 2) u sum |dy x|.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 2)
    grouped_weights_f32(float* dw, const float* dy, const float* x, const int* offsets, int rows,
                        int n, int k, int pieces, int add)
{
    DYNAMIC_SHARED(float, shared);
    weightsOfGroups<TileF32<128>, 128, 128, 128>(shared, dw, dy, x, offsets, rows, n, k, pieces,
                                                 add);
}
EXPORT(grouped_weights_f32)

extern "C" __global__ void __launch_bounds__(256, 3)
    grouped_weights_small_f32(float* dw, const float* dy, const float* x, const int* offsets,
                              int rows, int n, int k, int pieces, int add)
{
    DYNAMIC_SHARED(float, shared);
    weightsOfGroups<TileF32<64>, 64, 64, 64>(shared, dw, dy, x, offsets, rows, n, k, pieces, add);
}
EXPORT(grouped_weights_small_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    grouped_weights_f64(double* dw, const double* dy, const double* x, const int* offsets, int rows,
                        int n, int k, int pieces, int add)
{
    DYNAMIC_SHARED(double, shared);
    weightsOfGroups<TileF64, f64::rows, f64::cols, 64>(shared, dw, dy, x, offsets, rows, n, k,
                                                       pieces, add);
}
EXPORT(grouped_weights_f64)

// grouped_sum - the sums of the rows of each group: the gradient by the biases of a layer of groups.
//
//     out[g] = sum over rows r of group g of dY[r], or old + that
//
// kernels  grouped_sum_f32 grouped_sum_f64
// shapes   out: [groups, n], or with pieces [groups, pieces, n]; dY: rows x n, offsets as of grouped.
// params   pieces, add: as of grouped_weights.
// launch   grid groups * pieces * ceil(n / 32), block 256, shared 0.
// bound    memory: rows n values. Goal: 50 % of peak bandwidth from 2^22 values on.
// expect   regs <= 64, shared <= 2048, occupancy >= 50, not LDL STL
// repro    yes: 8 chains over the rows of a piece, added up in order.
// twin     ops.GroupedSum; with r rows in a group the error is at most (r / 8 + 9) u sum |dy|.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    grouped_sum_f32(float* out, const float* dy, const int* offsets, int rows, int n, int pieces,
                    int add)
{
    sumsOfGroups(out, dy, offsets, rows, n, pieces, add);
}
EXPORT(grouped_sum_f32)

extern "C" __global__ void __launch_bounds__(256)
    grouped_sum_f64(double* out, const double* dy, const int* offsets, int rows, int n, int pieces,
                    int add)
{
    sumsOfGroups(out, dy, offsets, rows, n, pieces, add);
}
EXPORT(grouped_sum_f64)
