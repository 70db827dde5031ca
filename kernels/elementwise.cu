// Passes over one tensor: clamp, and the search for the first value that is not finite.
#include "vec16.h"

inline namespace thisfile {

constexpr int THREADS = 256;

// Every type but double computes in float.
template <class T> struct Compute {
    typedef float type;
};
template <> struct Compute<double> {
    typedef double type;
};

template <class T>
__device__ __forceinline__ typename Compute<T>::type limit(double x, double lo, double hi)
{
    typedef typename Compute<T>::type C;
    const C v = static_cast<C>(x), l = static_cast<C>(lo), h = static_cast<C>(hi);
    return v < l ? l : v > h ? h : v; // NaN is neither
}

template <class T>
__device__ __forceinline__ void clamp(T* out, const T* x, double lo, double hi, long long n)
{
    constexpr int V = Vec16<T>::n;
    const long long first = static_cast<long long>(blockIdx.x) * THREADS * V;
    const bool vectors = aligned16(out) && aligned16(x);
    const long long at = first + static_cast<long long>(threadIdx.x) * V;
    if (vectors && at + V <= n) {
        const typename Vec16<T>::Raw v = load16(x + at);
        double r[V];
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = limit<T>(lane<T>(v, i), lo, hi);
        store16(out + at, r);
        return;
    }
    const long long step = vectors ? 1 : THREADS, from = vectors ? at : first + threadIdx.x;
#pragma unroll 1
    for (int i = 0; i < V; i++) {
        const long long e = from + i * step;
        if (e < n) out[e] = narrow<T>(limit<T>(widen(x[e]), lo, hi));
    }
}

// The mask's share of a and the rest of b; whole where the mask is 1 or 0, whatever the other is.
__device__ __forceinline__ double mixed(double m, double a, double b)
{
    const double sum = __dadd_rn(__dmul_rn(m, a), __dmul_rn(1.0 - m, b));
    return m == 1 ? a : m == 0 ? b : sum;
}

template <class T>
__device__ __forceinline__ void blend(T* out, const T* mask, const T* a, const T* b, long long n)
{
    constexpr int V = Vec16<T>::n;
    const long long first = static_cast<long long>(blockIdx.x) * THREADS * V;
    const bool vectors = aligned16(out) && aligned16(mask) && aligned16(a) && aligned16(b);
    const long long at = first + static_cast<long long>(threadIdx.x) * V;
    if (vectors && at + V <= n) {
        const typename Vec16<T>::Raw m = load16(mask + at), u = load16(a + at), v = load16(b + at);
        double r[V];
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = mixed(lane<T>(m, i), lane<T>(u, i), lane<T>(v, i));
        store16(out + at, r);
        return;
    }
    const long long step = vectors ? 1 : THREADS, from = vectors ? at : first + threadIdx.x;
#pragma unroll 1
    for (int i = 0; i < V; i++) {
        const long long e = from + i * step;
        if (e < n) out[e] = narrow<T>(mixed(widen(mask[e]), widen(a[e]), widen(b[e])));
    }
}

// NaN where v is not finite, else 0.
template <class T> __device__ __forceinline__ typename Compute<T>::type probe(double v)
{
    return static_cast<typename Compute<T>::type>(v) * 0;
}

// A thread looks at PER vectors, so that enough loads are under way.
constexpr int PER = 4;

template <class T>
__device__ __forceinline__ void finite(unsigned long long* bad, const T* x, long long n)
{
    constexpr int V = Vec16<T>::n;
    const long long first = static_cast<long long>(blockIdx.x) * THREADS * V * PER;
    const long long end = first + static_cast<long long>(THREADS) * V * PER;
    if (aligned16(x) && end <= n) {
        typename Vec16<T>::Raw v[PER];
#pragma unroll
        for (int j = 0; j < PER; j++)
            v[j] = load16(x + first + (static_cast<long long>(j) * THREADS + threadIdx.x) * V);
        typename Compute<T>::type p = 0;
#pragma unroll
        for (int j = 0; j < PER; j++)
#pragma unroll
            for (int i = 0; i < V; i++)
                p += probe<T>(lane<T>(v[j], i));
        if (p == 0) return; // as always, hopefully
    }
    // The block's end of the tensor, or something is wrong in this thread's vectors: one by one.
#pragma unroll 1
    for (int j = 0; j < PER * V; j++) {
        const long long e =
            first + (static_cast<long long>(j / V) * THREADS + threadIdx.x) * V + j % V;
        if (e < n && probe<T>(widen(x[e])) != 0) {
            atomicMin(bad, static_cast<unsigned long long>(e));
            return;
        }
    }
}

} // namespace thisfile

// clamp - every value limited to [lo, hi]; NaN stays NaN.
//
//     out[i] = min(max(x[i], lo), hi)
//
// kernels  clamp_f32 clamp_f64 clamp_f16 clamp_bf16
// shapes   out, x: n values. out may be x.
// params   lo <= hi, values of the type.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Clamp; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    clamp_f32(float* out, const float* x, double lo, double hi, long long n)
{
    clamp(out, x, lo, hi, n);
}
EXPORT(clamp_f32)

extern "C" __global__ void __launch_bounds__(256)
    clamp_f64(double* out, const double* x, double lo, double hi, long long n)
{
    clamp(out, x, lo, hi, n);
}
EXPORT(clamp_f64)

extern "C" __global__ void __launch_bounds__(256)
    clamp_f16(half* out, const half* x, double lo, double hi, long long n)
{
    clamp(out, x, lo, hi, n);
}
EXPORT(clamp_f16)

extern "C" __global__ void __launch_bounds__(256)
    clamp_bf16(bf16* out, const bf16* x, double lo, double hi, long long n)
{
    clamp(out, x, lo, hi, n);
}
EXPORT(clamp_bf16)

// blend - one tensor where a mask says so, another elsewhere.
//
//     out[i] = mask[i] a[i] + (1 - mask[i]) b[i],   a[i] at 1, b[i] at 0
//
// kernels  blend_f32 blend_f64 blend_f16 blend_bf16
// shapes   out, mask, a, b: n values. out may be any of the others.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 4 n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Blend; the same bits: float64, not fused, rounded once.
// source   Lugmayr et al. 2022 (RePaint), eq. 8.
extern "C" __global__ void __launch_bounds__(256)
    blend_f32(float* out, const float* mask, const float* a, const float* b, long long n)
{
    blend(out, mask, a, b, n);
}
EXPORT(blend_f32)

extern "C" __global__ void __launch_bounds__(256)
    blend_f64(double* out, const double* mask, const double* a, const double* b, long long n)
{
    blend(out, mask, a, b, n);
}
EXPORT(blend_f64)

extern "C" __global__ void __launch_bounds__(256)
    blend_f16(half* out, const half* mask, const half* a, const half* b, long long n)
{
    blend(out, mask, a, b, n);
}
EXPORT(blend_f16)

extern "C" __global__ void __launch_bounds__(256)
    blend_bf16(bf16* out, const bf16* mask, const bf16* a, const bf16* b, long long n)
{
    blend(out, mask, a, b, n);
}
EXPORT(blend_bf16)

// finite - the first value that is NaN or infinite.
//
//     bad = min(bad, i) over the i where x[i] is not finite
//
// kernels  finite_f32 finite_f64 finite_f16 finite_bf16
// shapes   bad: one number, all ones before. x: n values.
// launch   grid ceil(n / (1024 V)), block 256, shared 0; V = 16 bytes of values.
// bound    memory: n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.Finite; the same index.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    finite_f32(unsigned long long* bad, const float* x, long long n)
{
    finite(bad, x, n);
}
EXPORT(finite_f32)

extern "C" __global__ void __launch_bounds__(256)
    finite_f64(unsigned long long* bad, const double* x, long long n)
{
    finite(bad, x, n);
}
EXPORT(finite_f64)

extern "C" __global__ void __launch_bounds__(256)
    finite_f16(unsigned long long* bad, const half* x, long long n)
{
    finite(bad, x, n);
}
EXPORT(finite_f16)

extern "C" __global__ void __launch_bounds__(256)
    finite_bf16(unsigned long long* bad, const bf16* x, long long n)
{
    finite(bad, x, n);
}
EXPORT(finite_bf16)
