// Functions of two operands that repeat as numpy's do, the gradient of minimum and maximum, and masks.
#include "repeat.h"

inline namespace thisfile {

// In the order of cpu.Pair.
enum Pair { ADD, SUB, MUL, DIV, MIN, MAX };

template <class T> __device__ __forceinline__ T pairOf(int f, T x, T y)
{
    switch (f) {
    case ADD: return addRn(x, y);
    case SUB: return addRn(x, -y);
    case MUL: return mulRn(x, y);
    case DIV: return divRn(x, y);
    }
    if (x != x || y != y) return x + y; // NaN wins
    return f == MIN ? min(x, y) : max(x, y);
}

template <class T>
__device__ __forceinline__ void pair(T* out, const T* a, const T* b, int f, int acc, int stepA,
                                     int stepB, long long n, const Axes& x)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out) && vectorsFit(x, a, stepA, b, stepB));
    T u[V], v[V];
    takeBoth(u, a, stepA, v, b, stepB, x, p);
#pragma unroll
    for (int i = 0; i < V; i++)
        u[i] = pairOf(f, u[i], v[i]);
    if (acc) {
        take(v, out, p);
#pragma unroll
        for (int i = 0; i < V; i++)
            u[i] = addRn(v[i], u[i]);
    }
    put(out, u, p);
}

template <class T>
__device__ __forceinline__ void whereEqual(T* out, const T* g, const T* b, const T* a,
                                           const T* first, int but, int stepA, int stepFirst,
                                           long long n, const Axes& x)
{
    constexpr int V = Vec16<T>::n;
    const bool aligned =
        aligned16(out) && aligned16(g) && aligned16(b) && vectorsFit(x, a, stepA, first, stepFirst);
    const Place<T> p = placeOf<T>(n, aligned);
    T u[V], v[V], w[V], r[V];
    takeBoth(u, a, stepA, v, first, stepFirst, x, p);
    take(w, b, p);
    take(r, g, p);
#pragma unroll
    for (int i = 0; i < V; i++)
        if (u[i] != w[i] || (but && v[i] == w[i])) r[i] = 0;
    put(out, r, p);
}

template <class T>
__device__ __forceinline__ void maskedFill(T* out, const T* x, const unsigned char* mask, double v,
                                           int acc, int step, long long n, const Axes& axes)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out) && aligned16(x));
    T r[V], old[V];
    take(r, x, p);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        long long at, none;
        if (e < n) {
            placesOf(axes, e, step, 0, at, none);
            if (mask[at]) r[i] = static_cast<T>(v);
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

// pair - a function of two operands that repeat.
//
//     out[i] = a[place] + - * / min max b[place], or that added to out[i]
//
// kernels  pair_f32 pair_f64
// shapes   out: n values in rows of `last`. a, b: steps 1 or 0 along the last axis; along the `axes` axes before
//          it a0 to a6 and b0 to b6, of sizes s0 to s6, those in use at the end. out may be an operand of its shape.
// params   f: the function, by its number in cpu.Pair; acc: 1 to add. With axes > 0, n < 2^31.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: n values for out, those of a and b, n more for acc. Goal: 80 % of peak bandwidth from n = 2^22
//          on where the last axis has a multiple of V values.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Add, Sub, Mul, Div, Minimum, Maximum; the same bits, but for the vector code of the CPU, which may
//          fuse what it adds.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    pair_f32(float* out, const float* a, const float* b, int f, int acc, int stepA, int stepB,
             long long n, int axes, int last, int s0, int s1, int s2, int s3, int s4, int s5,
             int s6, int a0, int a1, int a2, int a3, int a4, int a5, int a6, int b0, int b1, int b2,
             int b3, int b4, int b5, int b6)
{
    const Axes x = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {b0, b1, b2, b3, b4, b5, b6}};
    pair(out, a, b, f, acc, stepA, stepB, n, x);
}
EXPORT(pair_f32)

extern "C" __global__ void __launch_bounds__(256)
    pair_f64(double* out, const double* a, const double* b, int f, int acc, int stepA, int stepB,
             long long n, int axes, int last, int s0, int s1, int s2, int s3, int s4, int s5,
             int s6, int a0, int a1, int a2, int a3, int a4, int a5, int a6, int b0, int b1, int b2,
             int b3, int b4, int b5, int b6)
{
    const Axes x = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {b0, b1, b2, b3, b4, b5, b6}};
    pair(out, a, b, f, acc, stepA, stepB, n, x);
}
EXPORT(pair_f64)

// where_equal - a gradient where an operand is the result.
//
//     out[i] = g[i] where a[place] = b[i], and, with `but`, first[place] is not; else 0
//
// kernels  where_equal_f32 where_equal_f64
// shapes   out, g, b: n values. a, first: as a and b of pair. out may be g or b.
// params   but: 1 or 0; the others as of pair.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 3 n values, those of a and first. Goal: 80 % of peak bandwidth from n = 2^22 on where the last
//          axis has a multiple of V values.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.WhereEqual; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    where_equal_f32(float* out, const float* g, const float* b, const float* a, const float* first,
                    int but, int stepA, int stepFirst, long long n, int axes, int last, int s0,
                    int s1, int s2, int s3, int s4, int s5, int s6, int a0, int a1, int a2, int a3,
                    int a4, int a5, int a6, int b0, int b1, int b2, int b3, int b4, int b5, int b6)
{
    const Axes x = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {b0, b1, b2, b3, b4, b5, b6}};
    whereEqual(out, g, b, a, first, but, stepA, stepFirst, n, x);
}
EXPORT(where_equal_f32)

extern "C" __global__ void __launch_bounds__(256)
    where_equal_f64(double* out, const double* g, const double* b, const double* a,
                    const double* first, int but, int stepA, int stepFirst, long long n, int axes,
                    int last, int s0, int s1, int s2, int s3, int s4, int s5, int s6, int a0,
                    int a1, int a2, int a3, int a4, int a5, int a6, int b0, int b1, int b2, int b3,
                    int b4, int b5, int b6)
{
    const Axes x = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {b0, b1, b2, b3, b4, b5, b6}};
    whereEqual(out, g, b, a, first, but, stepA, stepFirst, n, x);
}
EXPORT(where_equal_f64)

// masked_fill - a number where a mask says so.
//
//     out[i] = v where mask[place] is not 0, else x[i]; or that added to out[i]
//
// kernels  masked_fill_f32 masked_fill_f64
// shapes   out, x: n values. mask: bytes that repeat as operand a of pair. out may be x.
// params   v: rounded to the type; acc: 1 to add; the others as of pair.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values, 3 n with acc, and the mask's bytes. Goal: 70 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.MaskedFill; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    masked_fill_f32(float* out, const float* x, const unsigned char* mask, double v, int acc,
                    int step, long long n, int axes, int last, int s0, int s1, int s2, int s3,
                    int s4, int s5, int s6, int a0, int a1, int a2, int a3, int a4, int a5, int a6)
{
    const Axes w = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {0, 0, 0, 0, 0, 0, 0}};
    maskedFill(out, x, mask, v, acc, step, n, w);
}
EXPORT(masked_fill_f32)

extern "C" __global__ void __launch_bounds__(256)
    masked_fill_f64(double* out, const double* x, const unsigned char* mask, double v, int acc,
                    int step, long long n, int axes, int last, int s0, int s1, int s2, int s3,
                    int s4, int s5, int s6, int a0, int a1, int a2, int a3, int a4, int a5, int a6)
{
    const Axes w = {axes,
                    last,
                    {s0, s1, s2, s3, s4, s5, s6},
                    {a0, a1, a2, a3, a4, a5, a6},
                    {0, 0, 0, 0, 0, 0, 0}};
    maskedFill(out, x, mask, v, acc, step, n, w);
}
EXPORT(masked_fill_f64)
