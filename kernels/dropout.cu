// Dropout whose mask is made where it is used, and Gumbel noise, of the words of package rng.
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

// A thread makes the two draws of a block of words: draw k has words 2 k and 2 k + 1.
template <class T>
__device__ __forceinline__ void gumbel(T* out, int logistic, unsigned long long seed,
                                       unsigned long long stream, unsigned long long from,
                                       long long size, int blocks)
{
    const unsigned b = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - b * static_cast<unsigned>(blocks);
    const long long pair = static_cast<long long>(part) * THREADS + threadIdx.x;
    out += static_cast<long long>(b) * size;
    const unsigned long long block = (from >> 1) + static_cast<unsigned long long>(pair);
    const Words words = philox(block, stream + b, seed);
    const long long first = 2 * pair - static_cast<long long>(from & 1);
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const unsigned long long word =
            static_cast<unsigned long long>(words.w[2 * k + 1]) << 32 | words.w[2 * k];
        const double u = (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
        const double v = logistic ? log(u / (1 - u)) : -log(-log(u));
        const long long i = first + k;
        if (i >= 0 && i < size) out[i] = static_cast<T>(v);
    }
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

// gumbel - Gumbel noise, or the difference of two of it.
//
//     out[b, i] = -log(-log u), or with `logistic` log(u / (1 - u)),   u of words 2 (from + i) and the next
//     of stream + b
//
// kernels  gumbel_f32 gumbel_f64
// shapes   out: rows of size values.
// params   seed, stream: of package rng; from: the first draw. blocks = ceil((size + 1) / 512).
// launch   grid rows * blocks, block 256, shared 0.
// bound    f64: two logarithms of double a value, and ten rounds for every two values.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Gumbels; u has the same bits, logarithms are within 2 units in the last place of float64.
// source   Jang et al. 2017, arXiv 1611.01144, for its use.
extern "C" __global__ void __launch_bounds__(256)
    gumbel_f32(float* out, int logistic, unsigned long long seed, unsigned long long stream,
               unsigned long long from, long long size, int blocks)
{
    gumbel(out, logistic, seed, stream, from, size, blocks);
}
EXPORT(gumbel_f32)

extern "C" __global__ void __launch_bounds__(256)
    gumbel_f64(double* out, int logistic, unsigned long long seed, unsigned long long stream,
               unsigned long long from, long long size, int blocks)
{
    gumbel(out, logistic, seed, stream, from, size, blocks);
}
EXPORT(gumbel_f64)
