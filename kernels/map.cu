// Functions of every element of one tensor, their gradients, and sums of multiples of two tensors.
#include "elements.h"
#include "functions.h"

inline namespace thisfile {

// The function is one for the launch; each has its own code, so that the values of a thread overlap.
template <class T, int f = 0> __device__ __forceinline__ void apply(int which, T* r, T a, T b)
{
    if (which == f) {
#pragma unroll
        for (int i = 0; i < Vec16<T>::n; i++)
            r[i] = valueOf<f>(r[i], a, b);
        return;
    }
    if constexpr (f < ERF) apply<T, f + 1>(which, r, a, b);
}

template <class T, int f = 0>
__device__ __forceinline__ void applySlope(int which, T* r, const T* dy, T a, T b)
{
    if (which == f) {
#pragma unroll
        for (int i = 0; i < Vec16<T>::n; i++)
            r[i] = mulRn(dy[i], slopeOf<f>(r[i], a, b));
        return;
    }
    if constexpr (f < ERF) applySlope<T, f + 1>(which, r, dy, a, b);
}

template <class T>
__device__ __forceinline__ void map(T* out, const T* x, int f, double a, double b, long long n)
{
    const Place<T> p = placeOf<T>(n, aligned16(out) && aligned16(x));
    T r[Vec16<T>::n];
    take(r, x, p);
    apply(f, r, static_cast<T>(a), static_cast<T>(b));
    put(out, r, p);
}

template <class T>
__device__ __forceinline__ void mapBackward(T* dx, const T* x, const T* dy, int f, double a,
                                            double b, int acc, long long n)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(dx) && aligned16(x) && aligned16(dy));
    T r[V], g[V];
    take(r, x, p);
    take(g, dy, p);
    applySlope(f, r, g, static_cast<T>(a), static_cast<T>(b));
    if (acc) {
        take(g, dx, p);
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = addRn(r[i], g[i]);
    }
    put(dx, r, p);
}

template <class T>
__device__ __forceinline__ void affine(T* out, double p, const T* x, double q, const T* y, double r,
                                       int acc, long long n)
{
    constexpr int V = Vec16<T>::n;
    const bool both = y != nullptr;
    const Place<T> at = placeOf<T>(n, aligned16(out) && aligned16(x) && (!both || aligned16(y)));
    T u[V], v[V];
    take(u, x, at);
    const T pt = static_cast<T>(p), qt = static_cast<T>(q), rt = static_cast<T>(r);
#pragma unroll
    for (int i = 0; i < V; i++)
        u[i] = fused(pt, u[i], rt);
    if (both) {
        take(v, y, at);
#pragma unroll
        for (int i = 0; i < V; i++)
            u[i] = fused(qt, v[i], u[i]);
    }
    if (acc) {
        take(v, out, at);
#pragma unroll
        for (int i = 0; i < V; i++)
            u[i] = addRn(u[i], v[i]);
    }
    put(out, u, at);
}

template <class T>
__device__ __forceinline__ void above(T* out, const T* x, double limit, long long n)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out) && aligned16(x));
    T r[V];
    take(r, x, p);
#pragma unroll
    for (int i = 0; i < V; i++)
        r[i] = r[i] > static_cast<T>(limit) ? T(1) : T(0);
    put(out, r, p);
}

// The nearest bfloat16, ties to even; NaN becomes quiet.
__device__ __forceinline__ void roundBF16(float* out, const float* x, long long n)
{
    constexpr int V = Vec16<float>::n;
    const Place<float> p = placeOf<float>(n, aligned16(out) && aligned16(x));
    float r[V];
    take(r, x, p);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const unsigned u = __float_as_uint(r[i]);
        const unsigned near = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
        r[i] = __uint_as_float((u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : near);
    }
    put(out, r, p);
}

template <class T> __device__ __forceinline__ void fill(T* out, double v, long long n)
{
    constexpr int V = Vec16<T>::n;
    T r[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        r[i] = static_cast<T>(v);
    put(out, r, placeOf<T>(n, aligned16(out)));
}

} // namespace thisfile

// map - a function of every element.
//
//     out[i] = f(x[i])
//
// kernels  map_f32 map_f64
// shapes   out, x: n values. out may be x.
// params   f: a function, by its number in cpu.Func; a, b its parameters.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values; sin, cos and erf of float64 the units. Goal: 80 % of peak bandwidth from
//          n = 2^22 on, for float32.
// expect   shared <= 0, not LDL STL, has LDG.E.128 STG.E.128
// expect   map_f32: regs <= 40, occupancy >= 75
// expect   map_f64: regs <= 64, occupancy >= 50
// repro    yes
// twin     ops.Map; each is within a few units in the last place of the function.
// source   CUDA's math library; sin and cos reduce their argument here, see functions.h.
extern "C" __global__ void __launch_bounds__(256)
    map_f32(float* out, const float* x, int f, double a, double b, long long n)
{
    map(out, x, f, a, b, n);
}
EXPORT(map_f32)

extern "C" __global__ void __launch_bounds__(256)
    map_f64(double* out, const double* x, int f, double a, double b, long long n)
{
    map(out, x, f, a, b, n);
}
EXPORT(map_f64)

// map_backward - the gradient of map.
//
//     dx[i] = dy[i] f'(x[i]), or that added to dx[i]
//
// kernels  map_backward_f32 map_backward_f64
// shapes   dx, x, dy: n values. dx may be dy.
// params   f, a, b as of map; acc: 1 to add.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 3 n values, 4 n with acc. Goal: 80 % of peak bandwidth from n = 2^22 on, for float32.
// expect   shared <= 0, not LDL STL, has LDG.E.128 STG.E.128
// expect   map_backward_f32: regs <= 40, occupancy >= 75
// expect   map_backward_f64: regs <= 64, occupancy >= 50
// repro    yes
// twin     ops.MapBackward; each slope is within a few units in the last place.
// source   CUDA's math library; sin and cos reduce their argument here, see functions.h.
extern "C" __global__ void __launch_bounds__(256)
    map_backward_f32(float* dx, const float* x, const float* dy, int f, double a, double b, int acc,
                     long long n)
{
    mapBackward(dx, x, dy, f, a, b, acc, n);
}
EXPORT(map_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    map_backward_f64(double* dx, const double* x, const double* dy, int f, double a, double b,
                     int acc, long long n)
{
    mapBackward(dx, x, dy, f, a, b, acc, n);
}
EXPORT(map_backward_f64)

// affine - a sum of multiples of two tensors and a number.
//
//     out[i] = p x[i] + q y[i] + r, or that added to out[i]
//
// kernels  affine_f32 affine_f64
// shapes   out, x: n values. y: n values, or null for zeros. out may be x or y.
// params   p, q, r: rounded to the type; acc: 1 to add.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values, and n each for y and acc. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Affine; the products are fused into the sum here, in the order x, y.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    affine_f32(float* out, double p, const float* x, double q, const float* y, double r, int acc,
               long long n)
{
    affine(out, p, x, q, y, r, acc, n);
}
EXPORT(affine_f32)

extern "C" __global__ void __launch_bounds__(256)
    affine_f64(double* out, double p, const double* x, double q, const double* y, double r, int acc,
               long long n)
{
    affine(out, p, x, q, y, r, acc, n);
}
EXPORT(affine_f64)

// fill - every element one number.
//
//     out[i] = v
//
// kernels  fill_f32 fill_f64
// shapes   out: n values.
// params   v: rounded to the type.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 24, shared <= 0, occupancy >= 100, has STG.E.128, not LDL STL
// repro    yes
// twin     ops.Fill; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256) fill_f32(float* out, double v, long long n)
{
    fill(out, v, n);
}
EXPORT(fill_f32)

extern "C" __global__ void __launch_bounds__(256) fill_f64(double* out, double v, long long n)
{
    fill(out, v, n);
}
EXPORT(fill_f64)

// above - 1 where a value is greater than a limit, else 0.
//
//     out[i] = 1 if x[i] > limit, else 0
//
// kernels  above_f32 above_f64
// shapes   out, x: n values. out may be x.
// params   limit: rounded to the type.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Above; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    above_f32(float* out, const float* x, double limit, long long n)
{
    above(out, x, limit, n);
}
EXPORT(above_f32)

extern "C" __global__ void __launch_bounds__(256)
    above_f64(double* out, const double* x, double limit, long long n)
{
    above(out, x, limit, n);
}
EXPORT(above_f64)

// round_bf16 - every element as the nearest bfloat16, in float32.
//
//     out[i] = bfloat16(x[i])
//
// kernels  round_bf16_f32
// shapes   out, x: n values. out may be x.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 2 n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.RoundBF16; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    round_bf16_f32(float* out, const float* x, long long n)
{
    roundBF16(out, x, n);
}
EXPORT(round_bf16_f32)
