// What an axis' order is for: running sums, and the reverse of it.
#include "elements.h"

inline namespace thisfile {

// A thread walks along the axis for one place of the others, in double.
template <class T>
__device__ __forceinline__ void cumSum(T* out, const T* x, int reverse, int acc, long long lanes,
                                       int size, long long inner)
{
    const long long lane = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (lane >= lanes) return;
    long long at = lane / inner * size * inner + lane % inner;
    long long step = inner;
    if (reverse) {
        at += (size - 1) * inner;
        step = -inner;
    }
    double s = 0;
#pragma unroll 4
    for (int k = 0; k < size; k++) {
        s += static_cast<double>(x[at]);
        T v = static_cast<T>(s);
        if (acc) v = addRn(v, out[at]);
        out[at] = v;
        at += step;
    }
}

template <class T>
__device__ __forceinline__ void flip(T* out, const T* x, int acc, long long n, int size,
                                     long long inner)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out));
    T r[V], old[V];
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        r[i] = 0;
        if (e < n) {
            const long long row = e / inner;
            const long long k = row % size;
            r[i] = x[e + (size - 1 - 2 * k) * inner];
        }
    }
    if (acc) {
        take(old, out, p);
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = addRn(r[i], old[i]);
    }
    put(out, r, p);
}

} // namespace thisfile

// cumsum - sums along an axis up to each element.
//
//     out[o][k][j] = sum of x[o][i][j] over i <= k, or with reverse over i >= k; or that added to out[o][k][j]
//
// kernels  cumsum_f32 cumsum_f64
// shapes   out, x: [lanes / inner][size][inner]. out may be x without acc.
// params   reverse: 1 for sums from each element on; acc: 1 to add.
// launch   grid ceil(lanes / 256), block 256, shared 0; a thread a lane, which it walks along.
// bound    memory where inner >= 32 and there are 2^17 lanes or more; with few lanes the latency of size loads that
//          wait for nothing, four under way at once. Rows of the last axis (inner 1) are read in the reverse of how
//          memory likes it: caches make up for it up to about 2^9 elements. Goal: 40 % of peak bandwidth at inner >= 32.
// expect   regs <= 48, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.CumSum; the same bits: in the axis' order in double, rounded once an element.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    cumsum_f32(float* out, const float* x, int reverse, int acc, long long lanes, int size,
               long long inner)
{
    cumSum(out, x, reverse, acc, lanes, size, inner);
}
EXPORT(cumsum_f32)

extern "C" __global__ void __launch_bounds__(256)
    cumsum_f64(double* out, const double* x, int reverse, int acc, long long lanes, int size,
               long long inner)
{
    cumSum(out, x, reverse, acc, lanes, size, inner);
}
EXPORT(cumsum_f64)

// flip - an axis in the reverse order.
//
//     out[o][k][j] = x[o][size-1-k][j], or that added to out[o][k][j]
//
// kernels  flip_f32 flip_f64
// shapes   out, x: n values, [n / (size inner)][size][inner]. out is not x.
// params   acc: 1 to add.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values, 3 n with acc; divisions of 64 bits take about as long. Goal: 50 % of peak bandwidth.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has STG.E.128, not LDL STL
// repro    yes
// twin     ops.Flip; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    flip_f32(float* out, const float* x, int acc, long long n, int size, long long inner)
{
    flip(out, x, acc, n, size, inner);
}
EXPORT(flip_f32)

extern "C" __global__ void __launch_bounds__(256)
    flip_f64(double* out, const double* x, int acc, long long n, int size, long long inner)
{
    flip(out, x, acc, n, size, inner);
}
EXPORT(flip_f64)
