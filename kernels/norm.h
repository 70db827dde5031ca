// What the normalisations of rows and of groups of channels share.
#pragma once
#include "rows.h"

inline namespace thisfile {

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

template <class T> __device__ __forceinline__ T orElse(const T* p, long long at, T v)
{
    return p != nullptr ? p[at] : v;
}

// The mean of n values of a row, and the mean of the squares of what is left without it.
template <class T>
__device__ __forceinline__ void moments(const T* x, int n, const Team& t, bool wide, bool rms,
                                        T* shared, T& mean, T& var)
{
    mean = 0;
    if (!rms) {
        T s = 0;
        eachOf<T>(n, t, wide, [&](auto w, int e) {
            const auto v = take<w.n>(x + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                s += v.v[i];
        });
        mean = teamSum(s, t, shared) / static_cast<T>(n);
    }
    const T m = mean;
    T s = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            s = fma(v.v[i] - m, v.v[i] - m, s);
    });
    var = teamSum(s, t, shared) / static_cast<T>(n);
}

} // namespace thisfile
