// CUDA's keywords, vector types and 16-bit floats for the host build.
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ const
#define __align__(n) __attribute__((aligned(n)))
// Shared arrays are the only variables of static storage in a kernel file (host.h): no __device__
// variables. The zhost files put a kernel file into an anonymous namespace as a whole, because the
// statics of a template with external linkage would lie elsewhere.
#define __shared__ static
#define __builtin_assume(x) ((void)0)

struct dim3;
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define HOST_VECTOR1(T, name)                                                                      \
    struct name##1 { T x; };                                                                       \
    inline name##1 make_##name##1(T x) { return {x}; }
#define HOST_VECTOR2(T, name)                                                                      \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                             \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }
#define HOST_VECTOR3(T, name)                                                                      \
    struct name##3 { T x, y, z; };                                                                 \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }
#define HOST_VECTOR4(T, name)                                                                      \
    struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };             \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define HOST_VECTORS(T, name)                                                                      \
    HOST_VECTOR1(T, name) HOST_VECTOR2(T, name) HOST_VECTOR3(T, name) HOST_VECTOR4(T, name)

HOST_VECTORS(signed char, char)
HOST_VECTORS(unsigned char, uchar)
HOST_VECTORS(short, short)
HOST_VECTORS(unsigned short, ushort)
HOST_VECTORS(int, int)
HOST_VECTOR1(unsigned, uint)
HOST_VECTOR2(unsigned, uint)
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
HOST_VECTOR4(unsigned, uint)
HOST_VECTORS(long long, longlong)
HOST_VECTORS(unsigned long long, ulonglong)
HOST_VECTORS(float, float)
HOST_VECTORS(double, double)
#undef HOST_VECTORS
#undef HOST_VECTOR1
#undef HOST_VECTOR2
#undef HOST_VECTOR3
#undef HOST_VECTOR4

// The 16-bit floats hold bits only: arithmetic on them does not compile, as a kernel that needs it
// converts to float.
struct half {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

// A tensor as the copy engine sees it, a kernel's parameter by value. The host device writes its own
// form into it (host_map.h).
struct TensorMap {
    unsigned long long opaque[16];
};

namespace host {
template <class To, class From> inline To bitCast(From x)
{
    static_assert(sizeof(To) == sizeof(From), "bitCast keeps the size");
    To r;
    __builtin_memcpy(&r, &x, sizeof r);
    return r;
}
} // namespace host

inline float toFloat(float x) { return x; }
inline float toFloat(half x) { return static_cast<float>(host::bitCast<_Float16>(x.bits)); }
inline float toFloat(bf16 x) { return host::bitCast<float>(static_cast<uint32_t>(x.bits) << 16); }

template <class T> inline T fromFloat(float x);
template <> inline float fromFloat<float>(float x) { return x; }
template <> inline half fromFloat<half>(float x)
{
    if (x != x) return {0x7fff}; // cvt.rn.f16.f32's one NaN
    return {host::bitCast<uint16_t>(static_cast<_Float16>(x))};
}
template <> inline bf16 fromFloat<bf16>(float x)
{
    if (x != x) return {0x7fff};
    const uint32_t u = host::bitCast<uint32_t>(x);
    return {static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}

template <class T> inline unsigned pack2(float lo, float hi)
{
    return fromFloat<T>(lo).bits | static_cast<unsigned>(fromFloat<T>(hi).bits) << 16;
}
template <class T> inline void unpack2(unsigned x, float& lo, float& hi)
{
    lo = toFloat(T{static_cast<uint16_t>(x)});
    hi = toFloat(T{static_cast<uint16_t>(x >> 16)});
}
