// Layers of mixtures of experts with 16-bit operands, on tensor cores: products of rows that lie in
// groups, each with a matrix of its own.
#include "grouped.h"
#include "mma_finish.h"

inline namespace thisfile {

// A layer, as the kernels' parameters say it.
struct Experts16 {
    void *out, *pre;
    const float* bias;
    const int* offsets;
    int groups, rows, n, k, flags, add, floats, function;
    float a, b;
};

// Rows that no group has: zeros, or what was there.
template <class O>
__device__ __forceinline__ void storeRest16(const Experts16& e, const Part& p, int edge, int cols,
                                            int col0)
{
    if (e.add) return;
    O* const out = static_cast<O*>(e.out);
    O* const pre = static_cast<O*>(e.pre);
    const int last = min(p.count, p.row0 + edge), across = min(cols, e.n - col0);
    for (int i = threadIdx.x; i < (last - p.row0) * across; i += blockDim.x) {
        const size_t at =
            static_cast<size_t>(p.first + p.row0 + i / across) * e.n + col0 + i % across;
        out[at] = fromFloat<O>(0.f);
        if (pre != nullptr) pre[at] = fromFloat<O>(0.f);
    }
}

template <class M, class T, bool bAlongK>
__device__ __forceinline__ void products16(typename M::Sums& acc, T* ring, const T* a, const T* w,
                                           const Experts16& e, const Part& p, int col0)
{
    a += static_cast<size_t>(p.first) * e.k;
    w += static_cast<size_t>(p.group) * e.n * e.k;
    const int ldw = bAlongK ? e.k : e.n;
    const bool wideA = wideRows(a, e.k), wideW = wideRows(w, ldw);
    M::template run<true, bAlongK>(
        acc, ring, (e.k + M::depth - 1) / M::depth,
        [&](T* tile, int s) {
            fetchMatrix<T, M::rows, true, M::threads>(tile, a, e.k, wideA, p.row0, p.count,
                                                      s * M::depth, e.k);
        },
        [&](T* tile, int s) {
            fetchMatrix<T, M::cols, bAlongK, M::threads>(tile, w, ldw, wideW, col0, e.n,
                                                         s * M::depth, e.k);
        });
}

template <class M, class O>
__device__ __forceinline__ void storeRows16(const typename M::Sums& acc, float* shared,
                                            const Experts16& e, const Part& p, int col0)
{
    const size_t first = static_cast<size_t>(p.first) * e.n;
    const Finish16<O> z = {static_cast<O*>(e.out) + first,
                           e.pre != nullptr ? static_cast<O*>(e.pre) + first : nullptr,
                           nullptr,
                           e.bias != nullptr ? e.bias + static_cast<size_t>(p.group) * e.n
                                             : nullptr,
                           1,
                           e.a,
                           e.b,
                           p.count,
                           e.n,
                           e.n,
                           e.add,
                           e.function};
    store16<M>(acc, shared, z, p.row0, col0);
}

// The block's tile.
template <class M, class T>
__device__ __forceinline__ void experts16(T* ring, const T* a, const T* w, const Experts16& e)
{
    const int across = (e.n + M::cols - 1) / M::cols;
    typename M::Sums acc = {};
    {
        const int col0 = blockIdx.x % across * M::cols;
        const Part p = findPart(e.offsets, e.groups, e.rows, M::rows, blockIdx.x / across);
        if (p.group < 0) return;
        if (p.group == e.groups) {
            if (e.floats)
                storeRest16<float>(e, p, M::rows, M::cols, col0);
            else
                storeRest16<T>(e, p, M::rows, M::cols, col0);
            return;
        }
        if (e.flags & transB)
            products16<M, T, false>(acc, ring, a, w, e, p, col0);
        else
            products16<M, T, true>(acc, ring, a, w, e, p, col0);
    }
    // Found anew, so that the products have the registers.
    const int block = opaque(blockIdx.x), col0 = block % across * M::cols;
    const Part p = findPart(e.offsets, e.groups, e.rows, M::rows, block / across);
    float* const shared = reinterpret_cast<float*>(ring);
    if (e.floats)
        storeRows16<M, float>(acc, shared, e, p, col0);
    else
        storeRows16<M, T>(acc, shared, e, p, col0);
}

} // namespace thisfile

// grouped16 - a layer on tensor cores whose rows lie in groups, each with a weight and a bias of its own.
//
//     u = A[r] op(W[g]) + bias[g], or old + that;   pre = u,   out = f(u)     r in group g
//
// Products are exact, sums and what follows float; what is stored is rounded once, to nearest even.
//
// kernels  grouped16_bf16 grouped16_f16 grouped16_small_bf16 grouped16_small_f16
// shapes   as of grouped, with A and W of 16 bits, bias float, and out and pre of A's type, or, with floats, float.
// params   as of grouped.
// launch   grid (rows / edge + groups + 1) * tiles of columns, rows / edge rounded down: enough for any offsets,
//          the blocks that are too many end at once. grouped16_bf16, grouped16_f16: tiles of 128 x 128, block 128,
//          shared 65536. grouped16_small: of 64 x 64, shared 32768.
// bound    compute: 2 rows n k flops on tensor cores. Goal: 40 % of an H100's peak from n = k = 1024 and 1024 rows
//          a group on, of grouped16_small 20 %.
// expect   grouped16_bf16 grouped16_f16: regs <= 255, occupancy >= 12, block 128, dynamic 65536
// expect   grouped16_small_bf16 grouped16_small_f16: regs <= 128, occupancy >= 25, block 128, dynamic 32768
// expect   has HMMA LDSM.16.M88.4 LDGSTS.E.BYPASS.LTC128B.128, not LDL STL
// repro    yes: every element is one chain over k, 16 steps at a time, whatever the groups.
// twin     ops.GroupedLinear, ops.GroupedMatMul; the error of the product is that of matmul16.
// source   own derivation; groups of rows after Gale et al. 2022, arXiv 2211.15841, section 5.
// note     Offsets that do not ascend give wrong results, but nothing is read or written outside.
extern "C" __global__ void __launch_bounds__(128, 2)
    grouped16_bf16(void* out, void* pre, const bf16* a, const bf16* w, const float* bias,
                   const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                   int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    experts16<MmaMiddle<bf16>>(ring, a, w,
                               {out, pre, bias, offsets, groups, rows, n, k, flags, add, floats,
                                function, static_cast<float>(fa), static_cast<float>(fb)});
}
EXPORT(grouped16_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    grouped16_f16(void* out, void* pre, const half* a, const half* w, const float* bias,
                  const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                  int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(half, ring);
    experts16<MmaMiddle<half>>(ring, a, w,
                               {out, pre, bias, offsets, groups, rows, n, k, flags, add, floats,
                                function, static_cast<float>(fa), static_cast<float>(fb)});
}
EXPORT(grouped16_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    grouped16_small_bf16(void* out, void* pre, const bf16* a, const bf16* w, const float* bias,
                         const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                         int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(bf16, ring);
    experts16<MmaSmall<bf16>>(ring, a, w,
                              {out, pre, bias, offsets, groups, rows, n, k, flags, add, floats,
                               function, static_cast<float>(fa), static_cast<float>(fb)});
}
EXPORT(grouped16_small_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    grouped16_small_f16(void* out, void* pre, const half* a, const half* w, const float* bias,
                        const int* offsets, int groups, int rows, int n, int k, int flags, int add,
                        int floats, int function, double fa, double fb)
{
    DYNAMIC_SHARED(half, ring);
    experts16<MmaSmall<half>>(ring, a, w,
                              {out, pre, bias, offsets, groups, rows, n, k, flags, add, floats,
                               function, static_cast<float>(fa), static_cast<float>(fb)});
}
EXPORT(grouped16_small_f16)
