// A thread's share of an elementwise kernel in float or double, and rounding without fusing.
#pragma once
#include "vec16.h"

inline namespace thisfile {

constexpr int THREADS = 256;

// Where a thread's values are: 16 bytes of them side by side where every operand is aligned, else
// one in every THREADS. Loads past the end give 0, stores there do nothing.
template <class T> struct Place {
    long long at, n;
    int step;
    bool whole; // 16 bytes at once
};

// Of block `block` of n values.
template <class T>
__device__ __forceinline__ Place<T> placeIn(unsigned block, long long n, bool aligned)
{
    constexpr int V = Vec16<T>::n;
    const long long first = static_cast<long long>(block) * THREADS * V;
    const int mine = static_cast<int>(threadIdx.x);
    Place<T> p;
    p.n = n;
    p.step = aligned ? 1 : THREADS;
    p.at = first + (aligned ? mine * V : mine);
    p.whole = aligned && p.at + V <= n;
    return p;
}

template <class T> __device__ __forceinline__ Place<T> placeOf(long long n, bool aligned)
{
    return placeIn<T>(blockIdx.x, n, aligned);
}

template <class T> __device__ __forceinline__ void take(T* r, const T* x, const Place<T>& p)
{
    constexpr int V = Vec16<T>::n;
    if (p.whole) {
        const typename Vec16<T>::Raw v = load16(x + p.at);
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = static_cast<T>(lane<T>(v, i));
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        r[i] = e < p.n ? x[e] : T(0);
    }
}

template <class T> __device__ __forceinline__ void put(T* x, const T* r, const Place<T>& p)
{
    constexpr int V = Vec16<T>::n;
    if (p.whole) {
        double v[V];
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] = r[i];
        store16(x + p.at, v);
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        if (e < p.n) x[e] = r[i];
    }
}

// Rounded as written, whatever stands beside it.
__device__ __forceinline__ float mulRn(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double mulRn(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float addRn(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double addRn(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ float divRn(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ double divRn(double a, double b) { return a / b; }
__device__ __forceinline__ float rootRn(float x) { return __fsqrt_rn(x); }
__device__ __forceinline__ double rootRn(double x) { return sqrt(x); }

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

} // namespace thisfile
