// Linear combinations of up to eight tensors: the update of every solver in one pass.
#include "vec16.h"

inline namespace thisfile {

constexpr int THREADS = 256, TERMS = 8;

// The terms of one launch; indexed by constants only, so all of it lives in registers.
template <class T> struct Terms {
    const T* x[TERMS];
    double c[TERMS];
};

// Elements [at, at + V) of the sum, V values in one vector.
template <class T, int K>
__device__ __forceinline__ void sumVector(const Terms<T>& t, long long at, double s[])
{
    constexpr int V = Vec16<T>::n;
    typename Vec16<T>::Raw v[K];
#pragma unroll
    for (int j = 0; j < K; j++) // all loads before the first use
        v[j] = load16(t.x[j] + at);
#pragma unroll
    for (int i = 0; i < V; i++) {
        s[i] = __dmul_rn(t.c[0], lane<T>(v[0], i)); // never fused: the CPU's bits
#pragma unroll
        for (int j = 1; j < K; j++)
            s[i] = __dadd_rn(s[i], __dmul_rn(t.c[j], lane<T>(v[j], i)));
    }
}

// One value of the sum; the terms beyond k are not read.
template <class T> __device__ __forceinline__ T sumOne(const Terms<T>& t, int k, long long at)
{
    double s = __dmul_rn(t.c[0], widen(t.x[0][at]));
#pragma unroll
    for (int j = 1; j < TERMS; j++)
        if (j < k) s = __dadd_rn(s, __dmul_rn(t.c[j], widen(t.x[j][at])));
    return narrow<T>(s);
}

// NaN where x is not finite, else 0.
__device__ __forceinline__ float probe(double x) { return static_cast<float>(x * 0.0); }
__device__ __forceinline__ float probe(float x) { return x * 0.0f; }
__device__ __forceinline__ float probe(half x) { return toFloat(x) * 0.0f; }
__device__ __forceinline__ float probe(bf16 x) { return toFloat(x) * 0.0f; }

template <class T>
__device__ __forceinline__ void report(const T* out, unsigned long long* bad, long long from,
                                       long long to)
{
#pragma unroll 1
    for (long long e = from; e < to; e++)
        if (probe(out[e]) != 0.0f) {
            atomicMin(bad, static_cast<unsigned long long>(e));
            return;
        }
}

// One block's part of a row of n elements: from first on, THREADS vectors. A row starts at offset
// row of the tensors.
template <class T>
__device__ __forceinline__ void combine(T* out, unsigned long long* bad, const Terms<T>& t, int k,
                                        long long row, long long first, long long n)
{
    constexpr int V = Vec16<T>::n;
    const long long at = first + static_cast<long long>(threadIdx.x) * V;
    bool vectors = aligned16(out + row);
#pragma unroll
    for (int j = 0; j < TERMS; j++) // those beyond k repeat the last
        vectors = vectors && aligned16(t.x[j] + row);
    if (vectors && at + V <= n) {
        double s[V];
        switch (k) { // a constant number of terms: their loads are under way together
        case 1: sumVector<T, 1>(t, row + at, s); break;
        case 2: sumVector<T, 2>(t, row + at, s); break;
        case 3: sumVector<T, 3>(t, row + at, s); break;
        case 4: sumVector<T, 4>(t, row + at, s); break;
        case 5: sumVector<T, 5>(t, row + at, s); break;
        case 6: sumVector<T, 6>(t, row + at, s); break;
        case 7: sumVector<T, 7>(t, row + at, s); break;
        default: sumVector<T, 8>(t, row + at, s); break;
        }
        store16(out + row + at, s);
        if (bad == nullptr) return;
        float p = 0;
#pragma unroll
        for (int i = 0; i < V; i++)
            p += probe(narrow<T>(s[i]));
        if (p != 0.0f) report(out, bad, row + at, row + at + V);
        return;
    }
    // Unaligned, or the end of the row: neighbours stay coalesced where no thread has a vector.
    const long long step = vectors ? 1 : THREADS, from = vectors ? at : first + threadIdx.x;
#pragma unroll 1
    for (int i = 0; i < V; i++) {
        const long long e = from + i * step;
        if (e >= n) break;
        const T r = sumOne<T>(t, k, row + e);
        out[row + e] = r;
        if (bad != nullptr && probe(r) != 0.0f)
            atomicMin(bad, static_cast<unsigned long long>(row + e));
    }
}

template <class T>
__device__ __forceinline__ void whole(T* out, unsigned long long* bad, const Terms<T>& t, int k,
                                      long long n)
{
    const long long part = static_cast<long long>(THREADS) * Vec16<T>::n;
    combine(out, bad, t, k, 0, blockIdx.x * part, n);
}

// c[b * k + j] is the coefficient of x_j in row b; a row takes `blocks` blocks.
template <class T>
__device__ __forceinline__ void rows(T* out, unsigned long long* bad, Terms<T>& t,
                                     const double* __restrict__ c, int k, long long size,
                                     int blocks)
{
    const unsigned b = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - b * static_cast<unsigned>(blocks);
#pragma unroll
    for (int j = 0; j < TERMS; j++)
        if (j < k) t.c[j] = c[static_cast<long long>(b) * k + j];
    combine(out, bad, t, k, static_cast<long long>(b) * size,
            static_cast<long long>(part) * THREADS * Vec16<T>::n, size);
}

} // namespace thisfile

// lincomb - a linear combination of up to eight tensors, fused.
//
//     out[i] = c0 x0[i] + c1 x1[i] + ... + c(k-1) x(k-1)[i]
//
// kernels  lincomb_f32 lincomb_f64 lincomb_f16 lincomb_bf16
// shapes   out, x0 ... x7: n values; the x beyond k repeat one of the first k. Any may be out. bad: one number, or null.
// params   1 <= k <= 8 terms.
//          Where bad is given it becomes at most the index of the first result that is NaN or
//          infinite; set it to all ones before.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: (k + 1) n values; k double multiplications, k - 1 additions, k + 1 conversions
//          each. Goal: 80 % of peak bandwidth from n = 2^22 on. On GPUs whose double rate is 1/64
//          the conversions bound it, at about half of that.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   lincomb_f32 lincomb_f64: regs <= 48, occupancy >= 62
// repro    yes
// twin     ops.LinComb; the same bits: products and sums in double in the order of the terms, not
//          fused, rounded once (16-bit types: to float, then to the type).
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 5)
    lincomb_f32(float* out, unsigned long long* bad, const float* x0, const float* x1,
                const float* x2, const float* x3, const float* x4, const float* x5, const float* x6,
                const float* x7, double c0, double c1, double c2, double c3, double c4, double c5,
                double c6, double c7, int k, long long n)
{
    const Terms<float> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {c0, c1, c2, c3, c4, c5, c6, c7}};
    whole(out, bad, t, k, n);
}
EXPORT(lincomb_f32)

extern "C" __global__ void __launch_bounds__(256, 5)
    lincomb_f64(double* out, unsigned long long* bad, const double* x0, const double* x1,
                const double* x2, const double* x3, const double* x4, const double* x5,
                const double* x6, const double* x7, double c0, double c1, double c2, double c3,
                double c4, double c5, double c6, double c7, int k, long long n)
{
    const Terms<double> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {c0, c1, c2, c3, c4, c5, c6, c7}};
    whole(out, bad, t, k, n);
}
EXPORT(lincomb_f64)

extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_f16(half* out, unsigned long long* bad, const half* x0, const half* x1, const half* x2,
                const half* x3, const half* x4, const half* x5, const half* x6, const half* x7,
                double c0, double c1, double c2, double c3, double c4, double c5, double c6,
                double c7, int k, long long n)
{
    const Terms<half> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {c0, c1, c2, c3, c4, c5, c6, c7}};
    whole(out, bad, t, k, n);
}
EXPORT(lincomb_f16)

extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_bf16(bf16* out, unsigned long long* bad, const bf16* x0, const bf16* x1, const bf16* x2,
                 const bf16* x3, const bf16* x4, const bf16* x5, const bf16* x6, const bf16* x7,
                 double c0, double c1, double c2, double c3, double c4, double c5, double c6,
                 double c7, int k, long long n)
{
    const Terms<bf16> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {c0, c1, c2, c3, c4, c5, c6, c7}};
    whole(out, bad, t, k, n);
}
EXPORT(lincomb_bf16)

// lincomb_rows - the same with coefficients of each row.
//
//     out[b, i] = c[b, 0] x0[b, i] + ... + c[b, k-1] x(k-1)[b, i]
//
// kernels  lincomb_rows_f32 lincomb_rows_f64 lincomb_rows_f16 lincomb_rows_bf16
// shapes   out, x0 ... x7: rows of size values. c: k doubles a row. bad: one number, or null.
// params   as for lincomb. blocks = ceil(size / (256 V)), what one row takes.
// launch   grid rows * blocks, block 256, shared 0.
// bound    memory: (k + 1) values an element. Goal: 80 % of peak bandwidth from 2^22 values on,
//          where size is a multiple of V or large.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.LinCombRows; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_rows_f32(float* out, unsigned long long* bad, const float* x0, const float* x1,
                     const float* x2, const float* x3, const float* x4, const float* x5,
                     const float* x6, const float* x7, const double* __restrict__ c, int k,
                     long long size, int blocks)
{
    Terms<float> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {}};
    rows(out, bad, t, c, k, size, blocks);
}
EXPORT(lincomb_rows_f32)

extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_rows_f64(double* out, unsigned long long* bad, const double* x0, const double* x1,
                     const double* x2, const double* x3, const double* x4, const double* x5,
                     const double* x6, const double* x7, const double* __restrict__ c, int k,
                     long long size, int blocks)
{
    Terms<double> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {}};
    rows(out, bad, t, c, k, size, blocks);
}
EXPORT(lincomb_rows_f64)

extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_rows_f16(half* out, unsigned long long* bad, const half* x0, const half* x1,
                     const half* x2, const half* x3, const half* x4, const half* x5, const half* x6,
                     const half* x7, const double* __restrict__ c, int k, long long size,
                     int blocks)
{
    Terms<half> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {}};
    rows(out, bad, t, c, k, size, blocks);
}
EXPORT(lincomb_rows_f16)

extern "C" __global__ void __launch_bounds__(256, 4)
    lincomb_rows_bf16(bf16* out, unsigned long long* bad, const bf16* x0, const bf16* x1,
                      const bf16* x2, const bf16* x3, const bf16* x4, const bf16* x5,
                      const bf16* x6, const bf16* x7, const double* __restrict__ c, int k,
                      long long size, int blocks)
{
    Terms<bf16> t = {{x0, x1, x2, x3, x4, x5, x6, x7}, {}};
    rows(out, bad, t, c, k, size, blocks);
}
EXPORT(lincomb_rows_bf16)
