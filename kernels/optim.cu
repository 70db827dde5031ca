// One step of an optimiser over a slab of parameters, in one pass.
#include "elements.h"

inline namespace thisfile {

template <class T>
__device__ __forceinline__ void adam(T* p, T* m, T* v, const T* g, double scale, double l2,
                                     double beta1, double beta2, double step, double root,
                                     double eps, double keep, long long n)
{
    constexpr int V = Vec16<T>::n;
    const bool aligned = aligned16(p) && aligned16(m) && aligned16(v) && aligned16(g);
    const Place<T> at = placeOf<T>(n, aligned);
    const T b1 = static_cast<T>(beta1), b2 = static_cast<T>(beta2), r = static_cast<T>(root);
    const T c1 = T(1) - b1, c2 = T(1) - b2, s = static_cast<T>(scale), l = static_cast<T>(l2);
    T w[V], first[V], second[V], d[V];
    take(w, p, at);
    take(first, m, at);
    take(second, v, at);
    take(d, g, at);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const T e = addRn(mulRn(s, d[i]), mulRn(l, w[i]));
        first[i] = addRn(mulRn(b1, first[i]), mulRn(c1, e));
        second[i] = addRn(mulRn(b2, second[i]), mulRn(c2, mulRn(e, e)));
    }
    put(m, first, at);
    put(v, second, at);
#pragma unroll
    for (int i = 0; i < V; i++) { // apart, since roots and quotients of double are calls
        const T under = addRn(mulRn(rootRn(second[i]), r), static_cast<T>(eps));
        w[i] = addRn(mulRn(static_cast<T>(keep), w[i]),
                     -divRn(mulRn(static_cast<T>(step), first[i]), under));
    }
    put(p, w, at);
}

// As many bfloat16 as there are floats in 16 bytes.
__device__ __forceinline__ void take(float* r, const bf16* x, const Place<float>& p)
{
    if (p.whole) {
        const uint2 v = *reinterpret_cast<const uint2*>(x + p.at);
        unpack2<bf16>(v.x, r[0], r[1]);
        unpack2<bf16>(v.y, r[2], r[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        r[i] = e < p.n ? toFloat(x[e]) : 0;
    }
}

__device__ __forceinline__ void put(bf16* x, const float* r, const Place<float>& p)
{
    if (p.whole) {
        *reinterpret_cast<uint2*>(x + p.at) =
            make_uint2(pack2<bf16>(r[0], r[1]), pack2<bf16>(r[2], r[3]));
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const long long e = p.at + static_cast<long long>(i) * p.step;
        if (e < p.n) x[e] = fromFloat<bf16>(r[i]);
    }
}

// M: the momentum's type.
template <class T, class M>
__device__ __forceinline__ void lion(T* p, M* m, const T* g, double scale, double beta1,
                                     double beta2, double lr, double keep, long long n)
{
    constexpr int V = Vec16<T>::n;
    const bool fits = reinterpret_cast<unsigned long long>(m) % (V * sizeof(M)) == 0;
    const Place<T> at = placeOf<T>(n, aligned16(p) && fits && aligned16(g));
    const T b1 = static_cast<T>(beta1), b2 = static_cast<T>(beta2), rate = static_cast<T>(lr);
    T w[V], mean[V], d[V];
    take(w, p, at);
    take(mean, m, at);
    take(d, g, at);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const T e = mulRn(d[i], static_cast<T>(scale));
        const T c = addRn(mulRn(b1, mean[i]), mulRn(T(1) - b1, e));
        const T step = c > 0 ? rate : c < 0 ? -rate : T(0);
        w[i] = addRn(mulRn(static_cast<T>(keep), w[i]), -step);
        mean[i] = addRn(mulRn(b2, mean[i]), mulRn(T(1) - b2, e));
    }
    put(p, w, at);
    put(m, mean, at);
}

template <class T>
__device__ __forceinline__ void sgd(T* p, T* v, const T* g, double decay, double momentum,
                                    int nesterov, double lr, long long n)
{
    constexpr int V = Vec16<T>::n;
    const bool moves = v != nullptr;
    const bool aligned = aligned16(p) && aligned16(g) && (!moves || aligned16(v));
    const Place<T> at = placeOf<T>(n, aligned);
    const T k = static_cast<T>(momentum);
    T w[V], d[V], speed[V];
    take(w, p, at);
    take(d, g, at);
#pragma unroll
    for (int i = 0; i < V; i++)
        d[i] = fused(static_cast<T>(decay), w[i], d[i]);
    if (moves) {
        take(speed, v, at);
#pragma unroll
        for (int i = 0; i < V; i++) {
            speed[i] = fused(k, speed[i], d[i]);
            d[i] = nesterov ? fused(k, speed[i], d[i]) : speed[i];
        }
        put(v, speed, at);
    }
#pragma unroll
    for (int i = 0; i < V; i++)
        w[i] = fused(static_cast<T>(-lr), d[i], w[i]);
    put(p, w, at);
}

} // namespace thisfile

// adam - one step of Adam.
//
//     d = scale g + l2 p,  m = beta1 m + (1 - beta1) d,  v = beta2 v + (1 - beta2) d^2,
//     p = keep p - step m / (sqrt(v) root + eps)
//
// kernels  adam_f32 adam_f64
// shapes   p, m, v, g: n values. g is only read.
// params   scale to keep: rounded to the type.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 7 n values. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Adam; the same bits as its plain Go, its vector code may fuse products and sums.
// source   Kingma and Ba 2015, arXiv 1412.6980; Loshchilov and Hutter 2019, arXiv 1711.05101, for keep.
extern "C" __global__ void __launch_bounds__(256)
    adam_f32(float* p, float* m, float* v, const float* g, double scale, double l2, double beta1,
             double beta2, double step, double root, double eps, double keep, long long n)
{
    adam(p, m, v, g, scale, l2, beta1, beta2, step, root, eps, keep, n);
}
EXPORT(adam_f32)

extern "C" __global__ void __launch_bounds__(256)
    adam_f64(double* p, double* m, double* v, const double* g, double scale, double l2,
             double beta1, double beta2, double step, double root, double eps, double keep,
             long long n)
{
    adam(p, m, v, g, scale, l2, beta1, beta2, step, root, eps, keep, n);
}
EXPORT(adam_f64)

// lion - one step of Lion.
//
//     d = scale g,  p = keep p - lr sign(beta1 m + (1 - beta1) d),  then m = beta2 m + (1 - beta2) d
//
// kernels  lion_f32 lion_f64 lion_m16
// shapes   p, m, g: n values, m of lion_m16 bfloat16, rounded to nearest even. g is only read.
// params   scale to keep: rounded to the type.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 5 n values (4 of lion_m16, of which 20 bytes become 16). Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Lion; the same bits as its plain Go, its vector code may fuse products and sums.
// source   Chen et al. 2023, arXiv 2302.06675.
extern "C" __global__ void __launch_bounds__(256)
    lion_f32(float* p, float* m, const float* g, double scale, double beta1, double beta2,
             double lr, double keep, long long n)
{
    lion(p, m, g, scale, beta1, beta2, lr, keep, n);
}
EXPORT(lion_f32)

extern "C" __global__ void __launch_bounds__(256)
    lion_f64(double* p, double* m, const double* g, double scale, double beta1, double beta2,
             double lr, double keep, long long n)
{
    lion(p, m, g, scale, beta1, beta2, lr, keep, n);
}
EXPORT(lion_f64)

extern "C" __global__ void __launch_bounds__(256)
    lion_m16(float* p, bf16* m, const float* g, double scale, double beta1, double beta2, double lr,
             double keep, long long n)
{
    lion(p, m, g, scale, beta1, beta2, lr, keep, n);
}
EXPORT(lion_m16)

// sgd - one step of stochastic gradient descent.
//
//     d = g + decay p,  v = momentum v + d,  p = p - lr v, or p - lr (d + momentum v)
//
// kernels  sgd_f32 sgd_f64
// shapes   p, g: n values. v: n values, or null without momentum. g is only read.
// params   decay, momentum, lr: rounded to the type; nesterov: 1 for the second form.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 16 bytes of values a thread.
// bound    memory: 3 n values, 5 n with momentum. Goal: 80 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.SGD; products are fused into sums here.
// source   Sutskever et al. 2013 for Nesterov's form, as torch writes it.
extern "C" __global__ void __launch_bounds__(256)
    sgd_f32(float* p, float* v, const float* g, double decay, double momentum, int nesterov,
            double lr, long long n)
{
    sgd(p, v, g, decay, momentum, nesterov, lr, n);
}
EXPORT(sgd_f32)

extern "C" __global__ void __launch_bounds__(256)
    sgd_f64(double* p, double* v, const double* g, double decay, double momentum, int nesterov,
            double lr, long long n)
{
    sgd(p, v, g, decay, momentum, nesterov, lr, n);
}
EXPORT(sgd_f64)
