// Dropout whose mask is made where it is used, of the words of package rng.
#include "elements.h"
#include "philox.h"

inline namespace thisfile {

// V words of the stream from word `first` on, one block of the generator where they lie in one.
template <int V>
__device__ __forceinline__ void wordsFrom(unsigned* w, unsigned long long first,
                                          unsigned long long stream, unsigned long long seed)
{
    if (V > 1 && first % V == 0) {
        const Words b = philox(first >> 2, stream, seed);
#pragma unroll
        for (int i = 0; i < V; i++)
            w[i] = V == 2 && first & 2 ? b.w[(i + 2) % 4] : b.w[i];
        return;
    }
#pragma unroll 1
    for (int i = 0; i < V; i++) {
        const unsigned long long at = first + static_cast<unsigned long long>(i);
        const Words b = philox(at >> 2, stream, seed);
        const unsigned v = at & 2 ? (at & 1 ? b.w[3] : b.w[2]) : (at & 1 ? b.w[1] : b.w[0]);
#pragma unroll
        for (int k = 0; k < V; k++) // w stays in registers
            w[k] = k == i ? v : w[k];
    }
}

template <class T>
__device__ __forceinline__ void dropout(T* out, const T* x, double scale, unsigned long long limit,
                                        unsigned long long seed, unsigned long long stream,
                                        unsigned long long from, int acc, long long n)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out) && aligned16(x));
    T u[V], v[V];
    unsigned w[V] = {};
    take(u, x, p);
    if (p.step == 1) {
        wordsFrom<V>(w, from + static_cast<unsigned long long>(p.at), stream, seed);
    } else {
#pragma unroll
        for (int i = 0; i < V; i++)
            wordsFrom<1>(w + i, from + static_cast<unsigned long long>(p.at + i * p.step), stream,
                         seed);
    }
    const T k = static_cast<T>(scale);
#pragma unroll
    for (int i = 0; i < V; i++) {
        u[i] = mulRn(u[i], k);
        if (w[i] < limit) u[i] = 0;
    }
    if (acc) {
        take(v, out, p);
#pragma unroll
        for (int i = 0; i < V; i++)
            u[i] = addRn(u[i], v[i]);
    }
    put(out, u, p);
}

} // namespace thisfile

// dropout - elements are left out at random, the others scaled.
//
//     out[i] = scale x[i], 0 where word from + i is below limit; or that added to out[i]
//
// kernels  dropout_f32 dropout_f64
// shapes   out, x: n values. out may be x where acc is 0.
// params   scale: 1/(1 - P), rounded to the type. limit: P 2^32. seed, stream: of package rng; words are counted from
//          its first. acc: 1 to add.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values, 3 n with acc, and ten rounds of multiplications for every four words. Goal: 60 % of
//          peak bandwidth from n = 2^22 on, for `from` a multiple of 4.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Dropout; the same bits.
// source   Srivastava et al. 2014; Salmon et al. 2011 for the words.
extern "C" __global__ void __launch_bounds__(256)
    dropout_f32(float* out, const float* x, double scale, unsigned long long limit,
                unsigned long long seed, unsigned long long stream, unsigned long long from,
                int acc, long long n)
{
    dropout(out, x, scale, limit, seed, stream, from, acc, n);
}
EXPORT(dropout_f32)

extern "C" __global__ void __launch_bounds__(256)
    dropout_f64(double* out, const double* x, double scale, unsigned long long limit,
                unsigned long long seed, unsigned long long stream, unsigned long long from,
                int acc, long long n)
{
    dropout(out, x, scale, limit, seed, stream, from, acc, n);
}
EXPORT(dropout_f64)
