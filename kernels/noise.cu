// Normals of package rng, made where they are used: a x0 + s n in one pass, without noise in memory.
#include "philox.h"
#include "vec16.h"

inline namespace thisfile {

constexpr int THREADS = 256;

// The upper 53 bits of two words.
__device__ __forceinline__ unsigned long long bits53(unsigned lo, unsigned hi)
{
    return (static_cast<unsigned long long>(hi) << 32 | lo) >> 11;
}

// sqrt(-2 ln(1 - u / 2^53)) in float, to 2 units in the last place: with 1 - u / 2^53 = 2^-e (1 + d),
// d in [-0.3, 0.42) is the difference of two integers, so nothing cancels.
__device__ __forceinline__ float radius(unsigned long long u)
{
    const unsigned long long m = (1ull << 53) - u;
    int top = 63 - __clzll(static_cast<long long>(m));
    if (static_cast<unsigned>((m << (63 - top)) >> 32) > 0xB504F333u) top++; // above sqrt 2
    const long long diff = static_cast<long long>(m) - (1ll << top);
    const float d =
        static_cast<float>(diff) * __uint_as_float(static_cast<unsigned>(127 - top) << 23);
    // ln(1 + d) = d - d^2/2 + d^3 P(d), the polynomial of Cephes' logf.
    float p = 7.0376836292e-2f;
    p = fmaf(p, d, -1.1514610310e-1f);
    p = fmaf(p, d, 1.1676998740e-1f);
    p = fmaf(p, d, -1.2420140846e-1f);
    p = fmaf(p, d, 1.4249322787e-1f);
    p = fmaf(p, d, -1.6668057665e-1f);
    p = fmaf(p, d, 2.0000714765e-1f);
    p = fmaf(p, d, -2.4999993993e-1f);
    p = fmaf(p, d, 3.3333331174e-1f);
    const float ln = fmaf(d * d, fmaf(p, d, -0.5f), d);
    const float e = static_cast<float>(53 - top);
    return sqrtf(2.0f * fmaf(e, 0.693359375f, fmaf(e, -2.12194440e-4f, -ln)));
}

// cos and sin of 2 pi a / 2^53 in float, to 2 units in the last place also where they vanish: the
// quarter turns are taken off the integer.
__device__ __forceinline__ void turn(unsigned long long a, float& cosine, float& sine)
{
    const unsigned long long q = (a + (1ull << 50)) >> 51;
    const long long rest = static_cast<long long>(a) - static_cast<long long>(q << 51);
    const float x = static_cast<float>(rest) * 0x1p-52f; // half turns, at most a quarter
    const float z = x * x;
    float s = fmaf(z, 0.0821458866f, -0.599264529f); // Taylor's series of sin pi x and cos pi x
    s = fmaf(z, s, 2.55016404f);
    s = fmaf(z, s, -5.16771278f);
    s = fmaf(x, 3.14159274f, x * fmaf(z, s, -8.74227766e-8f)); // pi in two parts
    float c = fmaf(z, -0.0258068913f, 0.235330630f);
    c = fmaf(z, c, -1.33526277f);
    c = fmaf(z, c, 4.05871213f);
    c = fmaf(z, c, -4.93480220f);
    c = fmaf(z, c, 1.0f);
    const unsigned quarter = static_cast<unsigned>(q) & 3;
    cosine = quarter & 1 ? s : c;
    sine = quarter & 1 ? c : s;
    if (quarter == 1 || quarter == 2) cosine = -cosine;
    if (quarter & 2) sine = -sine;
}

// The two normals of one block, by Box and Muller. Compute is float where results are at most that.
template <class Compute>
__device__ __forceinline__ void normals(const Words& b, double& z0, double& z1);
template <> __device__ __forceinline__ void normals<float>(const Words& b, double& z0, double& z1)
{
    float c, s;
    turn(bits53(b.w[2], b.w[3]), c, s);
    const float r = radius(bits53(b.w[0], b.w[1]));
    z0 = r * c;
    z1 = r * s;
}
template <> __device__ __forceinline__ void normals<double>(const Words& b, double& z0, double& z1)
{
    const double v = 1.0 - static_cast<double>(bits53(b.w[0], b.w[1])) * 0x1p-53;
    const double r = sqrt(-2.0 * log(v));
    const double turns2 = static_cast<double>(bits53(b.w[2], b.w[3])) * 0x1p-52;
    const double s = sinpi(turns2), c = cospi(turns2); // exact argument: no reduction of 2 pi
    z0 = r * c;
    z1 = r * s;
}

template <class T> struct Compute {
    typedef float type;
};
template <> struct Compute<double> {
    typedef double type;
};

struct Source {
    unsigned long long seed, stream, from;
};

template <class T> __device__ __forceinline__ double normalAt(const Source& z, long long i)
{
    const unsigned long long g = z.from + static_cast<unsigned long long>(i);
    double a, b;
    normals<typename Compute<T>::type>(philox(g >> 1, z.stream, z.seed), a, b);
    return g & 1 ? b : a;
}

// A thread makes 16 bytes of values, a block of words for every two.
template <class T>
__device__ __forceinline__ void noise(T* out, const T* x, const double* c, double a, double s,
                                      unsigned long long seed, unsigned long long stream,
                                      unsigned long long from, long long size, int blocks)
{
    constexpr int V = Vec16<T>::n;
    const unsigned b = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - b * static_cast<unsigned>(blocks);
    const long long row = static_cast<long long>(b) * size;
    const long long first = static_cast<long long>(part) * THREADS * V;
    const Source z = {seed, stream + b, from};
    if (c != nullptr) {
        a = c[2 * static_cast<long long>(b)];
        s = c[2 * static_cast<long long>(b) + 1];
    }
    const long long at = first + static_cast<long long>(threadIdx.x) * V;
    const bool vectors =
        aligned16(out + row) && (x == nullptr || aligned16(x + row)) && (from & 1) == 0;
    if (vectors && at + V <= size) {
        double r[V];
#pragma unroll
        for (int i = 0; i < V; i += 2) {
            const unsigned long long g = (from + static_cast<unsigned long long>(at + i)) >> 1;
            normals<typename Compute<T>::type>(philox(g, z.stream, seed), r[i], r[i + 1]);
        }
        if (x != nullptr) {
            const typename Vec16<T>::Raw v = load16(x + row + at);
#pragma unroll
            for (int i = 0; i < V; i++)
                r[i] = __dadd_rn(__dmul_rn(a, lane<T>(v, i)), __dmul_rn(s, r[i]));
        } else {
#pragma unroll
            for (int i = 0; i < V; i++)
                r[i] = __dmul_rn(s, r[i]);
        }
        store16(out + row + at, r);
        return;
    }
    const long long step = vectors ? 1 : THREADS, begin = vectors ? at : first + threadIdx.x;
#pragma unroll 1
    for (int i = 0; i < V; i++) {
        const long long e = begin + i * step;
        if (e >= size) break;
        double r = __dmul_rn(s, normalAt<T>(z, e));
        if (x != nullptr) r = __dadd_rn(__dmul_rn(a, widen(x[row + e])), r);
        out[row + e] = narrow<T>(r);
    }
}

} // namespace thisfile

// noise - clean values plus normals of each row's own stream.
//
//     out[b, i] = a_b x[b, i] + s_b n_b(from + i)
//
// n_b(j) is normal j of stream `stream` + b under `seed`, as package rng numbers them: half j % 2 of
// the pair that Box and Muller make of Philox block j / 2.
//
// kernels  noise_f32 noise_f64 noise_f16 noise_bf16
// shapes   out, x: rows of size values. x may be out, or null for noise alone. c: two doubles
//          a_b, s_b a row, or null: then a and s hold for all.
// params   blocks = ceil(size / (256 V)), what one row takes; V = 16 bytes of values a thread.
// launch   grid rows * blocks, block 256, shared 0.
// bound    f32: about 90 integer and float instructions a value; 8 bytes. Goal: 60 % of peak
//          bandwidth from 2^22 values on. An odd `from` doubles the instructions.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// expect   noise_f64: regs <= 96, occupancy >= 25
// repro    yes
// twin     ops.AddNoise; the same integers, normals within 6 units of 2^-24 relative (float64:
//          1e-14), then products and sum in double, rounded once.
// source   Salmon, Moraes, Dror, Shaw 2011; Box and Muller 1958; Cephes' logf. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    noise_f32(float* out, const float* x, const double* c, double a, double s,
              unsigned long long seed, unsigned long long stream, unsigned long long from,
              long long size, int blocks)
{
    noise(out, x, c, a, s, seed, stream, from, size, blocks);
}
EXPORT(noise_f32)

extern "C" __global__ void __launch_bounds__(256)
    noise_f64(double* out, const double* x, const double* c, double a, double s,
              unsigned long long seed, unsigned long long stream, unsigned long long from,
              long long size, int blocks)
{
    noise(out, x, c, a, s, seed, stream, from, size, blocks);
}
EXPORT(noise_f64)

extern "C" __global__ void __launch_bounds__(256)
    noise_f16(half* out, const half* x, const double* c, double a, double s,
              unsigned long long seed, unsigned long long stream, unsigned long long from,
              long long size, int blocks)
{
    noise(out, x, c, a, s, seed, stream, from, size, blocks);
}
EXPORT(noise_f16)

extern "C" __global__ void __launch_bounds__(256)
    noise_bf16(bf16* out, const bf16* x, const double* c, double a, double s,
               unsigned long long seed, unsigned long long stream, unsigned long long from,
               long long size, int blocks)
{
    noise(out, x, c, a, s, seed, stream, from, size, blocks);
}
EXPORT(noise_bf16)
