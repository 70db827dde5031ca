// Gated linear units of the halves of rows, and their gradients.
#include "elements.h"
#include "functions.h"

inline namespace thisfile {

// v times the function of r, into r. The function is one for the launch.
template <class T, int f = 0>
__device__ __forceinline__ void gate(int which, T* r, const T* v, T a, T b)
{
    if (which == f) {
#pragma unroll
        for (int i = 0; i < Vec16<T>::n; i++)
            r[i] = mulRn(valueOf<f>(r[i], a, b), v[i]);
        return;
    }
    if constexpr (f < ERF) gate<T, f + 1>(which, r, v, a, b);
}

// The gradients by gate r and value v, into them.
template <class T, int f = 0>
__device__ __forceinline__ void gateBack(int which, T* r, T* v, const T* dy, T a, T b)
{
    if (which == f) {
#pragma unroll
        for (int i = 0; i < Vec16<T>::n; i++) {
            const T own = mulRn(mulRn(dy[i], v[i]), slopeOf<f>(r[i], a, b));
            v[i] = mulRn(valueOf<f>(r[i], a, b), dy[i]);
            r[i] = own;
        }
        return;
    }
    if constexpr (f < ERF) gateBack<T, f + 1>(which, r, v, dy, a, b);
}

// Where the gate of element e of a result with rows of d is, with the value d before or behind.
__device__ __forceinline__ long long gateAt(long long e, int d, int second)
{
    const unsigned row = static_cast<unsigned>(e) / static_cast<unsigned>(d);
    return e + static_cast<long long>(row + (second ? 1 : 0)) * d;
}

// As take and put of elements.h, at the gate (shift 0) or the value of the thread's elements.
template <class T>
__device__ __forceinline__ void takeHalf(T* r, const T* x, const Place<T>& p, int d, int second,
                                         int shift)
{
    constexpr int V = Vec16<T>::n;
    if (p.whole) {
        const typename Vec16<T>::Raw v = load16(x + gateAt(p.at, d, second) + shift);
#pragma unroll
        for (int i = 0; i < V; i++)
            r[i] = static_cast<T>(lane<T>(v, i));
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        r[i] = e < p.n ? x[gateAt(e, d, second) + shift] : T(0);
    }
}

template <class T>
__device__ __forceinline__ void putHalf(T* x, const T* r, const Place<T>& p, int d, int second,
                                        int shift)
{
    constexpr int V = Vec16<T>::n;
    if (p.whole) {
        double v[V];
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] = r[i];
        store16(x + gateAt(p.at, d, second) + shift, v);
        return;
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        if (e < p.n) x[gateAt(e, d, second) + shift] = r[i];
    }
}

template <class T>
__device__ __forceinline__ void gated(T* out, const T* x, int f, double a, double b, int second,
                                      int d, long long n)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(out) && aligned16(x) && d % V == 0);
    T r[V], v[V];
    takeHalf(r, x, p, d, second, 0);
    takeHalf(v, x, p, d, second, second ? -d : d);
    gate(f, r, v, static_cast<T>(a), static_cast<T>(b));
    put(out, r, p);
}

template <class T>
__device__ __forceinline__ void gatedBackward(T* dx, const T* x, const T* dy, int f, double a,
                                              double b, int second, int d, long long n)
{
    constexpr int V = Vec16<T>::n;
    const Place<T> p = placeOf<T>(n, aligned16(dx) && aligned16(x) && aligned16(dy) && d % V == 0);
    T r[V], v[V], g[V];
    takeHalf(r, x, p, d, second, 0);
    takeHalf(v, x, p, d, second, second ? -d : d);
    take(g, dy, p);
    gateBack(f, r, v, g, static_cast<T>(a), static_cast<T>(b));
    putHalf(dx, r, p, d, second, 0);
    putHalf(dx, v, p, d, second, second ? -d : d);
}

} // namespace thisfile

// gated - gated linear units.
//
//     out[r, i] = f(x[r, i]) x[r, d + i], or with `second` x[r, i] f(x[r, d + i])
//
// kernels  gated_f32 gated_f64
// shapes   out: n values in rows of d. x: rows of 2 d. n < 2^31.
// params   f: a function, by its number in cpu.Func; a, b its parameters.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 3 n values. Goal: 80 % of peak bandwidth from n = 2^22 on, for float32 and d a multiple of V.
// expect   shared <= 0, not LDL STL, has LDG.E.128 STG.E.128
// expect   gated_f32: regs <= 48, occupancy >= 50
// expect   gated_f64: regs <= 64, occupancy >= 50
// repro    yes
// twin     ops.Gated; the function is within a few units in the last place, the product rounded apart.
// source   Shazeer 2020, arXiv 2002.05202.
extern "C" __global__ void __launch_bounds__(256)
    gated_f32(float* out, const float* x, int f, double a, double b, int second, int d, long long n)
{
    gated(out, x, f, a, b, second, d, n);
}
EXPORT(gated_f32)

extern "C" __global__ void __launch_bounds__(256)
    gated_f64(double* out, const double* x, int f, double a, double b, int second, int d,
              long long n)
{
    gated(out, x, f, a, b, second, d, n);
}
EXPORT(gated_f64)

// gated_backward - the gradient of gated.
//
//     of the gate u and the value v of an element: du = dy v f'(u), dv = dy f(u)
//
// kernels  gated_backward_f32 gated_backward_f64
// shapes   dy: n values in rows of d. x, dx: rows of 2 d. n < 2^31.
// params   as of gated.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 5 n values. Goal: 80 % of peak bandwidth from n = 2^22 on, for float32 and d a multiple of V.
// expect   shared <= 0, not LDL STL, has LDG.E.128 STG.E.128
// expect   gated_backward_f32: regs <= 64, occupancy >= 50
// expect   gated_backward_f64: regs <= 80, occupancy >= 37
// repro    yes
// twin     ops.GatedBackward; function and slope are within a few units in the last place.
// source   Shazeer 2020, arXiv 2002.05202.
extern "C" __global__ void __launch_bounds__(256)
    gated_backward_f32(float* dx, const float* x, const float* dy, int f, double a, double b,
                       int second, int d, long long n)
{
    gatedBackward(dx, x, dy, f, a, b, second, d, n);
}
EXPORT(gated_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    gated_backward_f64(double* dx, const double* x, const double* dy, int f, double a, double b,
                       int second, int d, long long n)
{
    gatedBackward(dx, x, dy, f, a, b, second, d, n);
}
EXPORT(gated_backward_f64)
