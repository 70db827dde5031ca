// Sixteen bytes at a time: loads, stores, and single values of them as double. For the elementwise
// kernels, which compute in double and round once.
#pragma once
#include "device.h"

inline namespace thisfile {

template <class T> struct Vec16 {
    static constexpr int n = 16 / sizeof(T); // values
    typedef uint4 Raw;                       // how they are loaded
};
template <> struct Vec16<float> {
    static constexpr int n = 4;
    typedef float4 Raw;
};
template <> struct Vec16<double> {
    static constexpr int n = 2;
    typedef double2 Raw;
};

// Every float, half and bf16 is a double.
__device__ __forceinline__ double widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ double widen(half x) { return toFloat(x); }
__device__ __forceinline__ double widen(bf16 x) { return toFloat(x); }

// Rounds to nearest even; 16-bit types by way of float, as the CPU does.
template <class T> __device__ __forceinline__ T narrow(double x)
{
    return fromFloat<T>(static_cast<float>(x));
}
template <> __device__ __forceinline__ double narrow<double>(double x) { return x; }

template <class T> __device__ __forceinline__ typename Vec16<T>::Raw load16(const T* p)
{
    return *reinterpret_cast<const typename Vec16<T>::Raw*>(p);
}

// Value i of a vector; i is a constant once loops are unrolled. The vector stays as it was loaded
// until then, which takes a fourth of the registers that doubles of halves do.
template <class T> __device__ __forceinline__ double lane(const uint4& v, int i)
{
    float lo, hi;
    unpack2<T>(i < 2 ? v.x : i < 4 ? v.y : i < 6 ? v.z : v.w, lo, hi);
    return i % 2 ? hi : lo;
}
template <class T> __device__ __forceinline__ double lane(const float4& v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
template <class T> __device__ __forceinline__ double lane(const double2& v, int i)
{
    return i == 0 ? v.x : v.y;
}

// Written through to L2 (stores are never read from L1), by an intrinsic, since the compiler splits
// plain vector stores here and there.
__device__ __forceinline__ void store16(float* p, const double v[4])
{
    __stcg(reinterpret_cast<float4*>(p),
           make_float4(static_cast<float>(v[0]), static_cast<float>(v[1]), static_cast<float>(v[2]),
                       static_cast<float>(v[3])));
}
__device__ __forceinline__ void store16(double* p, const double v[2])
{
    __stcg(reinterpret_cast<double2*>(p), make_double2(v[0], v[1]));
}
template <class T> __device__ __forceinline__ void store16(T* p, const double v[8])
{
    unsigned w[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        w[i] = pack2<T>(static_cast<float>(v[2 * i]), static_cast<float>(v[2 * i + 1]));
    __stcg(reinterpret_cast<uint4*>(p), make_uint4(w[0], w[1], w[2], w[3]));
}

__device__ __forceinline__ bool aligned16(const void* p)
{
    return (reinterpret_cast<size_t>(p) & 15) == 0;
}

} // namespace thisfile
