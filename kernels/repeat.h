// Places of two operands that repeat along axes of a result, as numpy's do.
#pragma once
#include "elements.h"

inline namespace thisfile {

// The axes before the last, at the end of the arrays: sizes, and steps of the operands, 0 where
// they repeat.
struct Axes {
    int count, last; // how many, and the size of the last axis
    int size[7], a[7], b[7];
};

// Where element e of the result is found in the operands, whose steps along the last axis are
// stepA and stepB. Unused axes are skipped by branches that are alike in all threads.
__device__ __forceinline__ void placesOf(const Axes& x, long long e, int stepA, int stepB,
                                         long long& at, long long& bt)
{
    if (x.count == 0) {
        at = e * stepA;
        bt = e * stepB;
        return;
    }
    unsigned r = static_cast<unsigned>(e) / static_cast<unsigned>(x.last);
    const int col = static_cast<int>(static_cast<unsigned>(e) - r * x.last);
    int i = col * stepA, j = col * stepB;
#pragma unroll
    for (int k = 6; k >= 0; k--) {
        if (k < 7 - x.count) break;
        const unsigned rest = r / static_cast<unsigned>(x.size[k]);
        const int c = static_cast<int>(r - rest * x.size[k]);
        i += c * x.a[k];
        j += c * x.b[k];
        r = rest;
    }
    at = i;
    bt = j;
}

// Whether 16 bytes of the result are 16 bytes of an operand, or one element: rows must be whole.
template <class T>
__device__ __forceinline__ bool vectorsFit(const Axes& x, const T* a, int stepA, const T* b,
                                           int stepB)
{
    return (stepA == 0 || aligned16(a)) && (stepB == 0 || aligned16(b)) &&
           (x.count == 0 || x.last % Vec16<T>::n == 0);
}

// A thread's values of the operands.
template <class T>
__device__ __forceinline__ void takeBoth(T* u, const T* a, int stepA, T* v, const T* b, int stepB,
                                         const Axes& x, const Place<T>& p)
{
    constexpr int V = Vec16<T>::n;
    long long at, bt;
    if (p.whole) {
        placesOf(x, p.at, stepA, stepB, at, bt);
        if (stepA) {
            const typename Vec16<T>::Raw w = load16(a + at);
#pragma unroll
            for (int i = 0; i < V; i++)
                u[i] = static_cast<T>(lane<T>(w, i));
        } else {
            const T w = a[at];
#pragma unroll
            for (int i = 0; i < V; i++)
                u[i] = w;
        }
        if (stepB) {
            const typename Vec16<T>::Raw w = load16(b + bt);
#pragma unroll
            for (int i = 0; i < V; i++)
                v[i] = static_cast<T>(lane<T>(w, i));
        } else {
            const T w = b[bt];
#pragma unroll
            for (int i = 0; i < V; i++)
                v[i] = w;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        u[i] = 0;
        v[i] = 0;
        if (e < p.n) {
            placesOf(x, e, stepA, stepB, at, bt);
            u[i] = a[at];
            v[i] = b[bt];
        }
    }
}

} // namespace thisfile
