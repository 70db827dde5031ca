// CUDA's arithmetic for the host build: libm in place of the fast intrinsics.
#pragma once

using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

// CUDA's max(-0, +0) is +0, and a NaN loses against a number. Inline, since libm's is a call.
namespace host {
template <class T> inline T larger(T a, T b)
{
    if (a == b) return std::signbit(a) ? b : a;
    return a > b || b != b ? a : b;
}
template <class T> inline T smaller(T a, T b)
{
    if (a == b) return std::signbit(a) ? a : b;
    return a < b || b != b ? a : b;
}
template <class T> inline T least(T a, T b) { return a < b ? a : b; }
template <class T> inline T most(T a, T b) { return a > b ? a : b; }
// Rounds a double to an integer type as cvt.sat does: out of range to the nearest end, NaN to 0.
template <class I> inline I saturate(double x)
{
    constexpr I lo = std::is_signed_v<I> ? static_cast<I>(I(1) << (8 * sizeof(I) - 1)) : I(0);
    constexpr I hi = static_cast<I>(~lo);
    if (x != x) return 0;
    if (x <= static_cast<double>(lo)) return lo;
    if (x >= static_cast<double>(hi)) return hi;
    return static_cast<I>(x);
}
} // namespace host
#define fmaxf(a, b) host::larger<float>(a, b)
#define fminf(a, b) host::smaller<float>(a, b)

// glibc declares some of these names itself, so they are macros.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __powf(x, y) powf(x, y)
#define __sincosf(x, s, c) sincosf(x, s, c)

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// sin and cos of pi x, exact at multiples of a half.
inline double sinpi(double x)
{
    const double r = remainder(x, 2.0); // in [-1, 1], exact
    if (fabs(r) == 1.0 || r == 0.0) return copysign(0.0, x);
    if (r > 0.5) return sin(M_PI * (1.0 - r));
    if (r < -0.5) return -sin(M_PI * (1.0 + r));
    return sin(M_PI * r);
}
inline double cospi(double x)
{
    const double r = fabs(remainder(x, 2.0));
    if (r == 0.5) return 0.0;
    return r < 0.25 ? cos(M_PI * r) : sin(M_PI * (0.5 - r));
}
inline float sinpif(float x) { return static_cast<float>(sinpi(x)); }
inline float cospif(float x) { return static_cast<float>(cospi(x)); }
inline void sincospif(float x, float* s, float* c)
{
    *s = sinpif(x);
    *c = cospif(x);
}

inline unsigned __float_as_uint(float x) { return host::bitCast<unsigned>(x); }
inline int __float_as_int(float x) { return host::bitCast<int>(x); }
inline float __uint_as_float(unsigned x) { return host::bitCast<float>(x); }
inline float __int_as_float(int x) { return host::bitCast<float>(x); }
inline long long __double_as_longlong(double x) { return host::bitCast<long long>(x); }
inline double __longlong_as_double(long long x) { return host::bitCast<double>(x); }

inline int __float2int_rn(float x) { return host::saturate<int>(nearbyint(x)); }
inline int __float2int_rz(float x) { return host::saturate<int>(trunc(x)); }
inline int __float2int_rd(float x) { return host::saturate<int>(floor(x)); }
inline int __float2int_ru(float x) { return host::saturate<int>(ceil(x)); }
inline unsigned __float2uint_rn(float x) { return host::saturate<unsigned>(nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return host::saturate<unsigned>(trunc(x)); }
inline unsigned __float2uint_rd(float x) { return host::saturate<unsigned>(floor(x)); }
inline unsigned __float2uint_ru(float x) { return host::saturate<unsigned>(ceil(x)); }
inline int __double2int_rn(double x) { return host::saturate<int>(nearbyint(x)); }
inline int __double2int_rz(double x) { return host::saturate<int>(trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x)
{
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline unsigned __brev(unsigned x)
{
    x = (x & 0x55555555u) << 1 | (x >> 1 & 0x55555555u);
    x = (x & 0x33333333u) << 2 | (x >> 2 & 0x33333333u);
    x = (x & 0x0f0f0f0fu) << 4 | (x >> 4 & 0x0f0f0f0fu);
    return __builtin_bswap32(x);
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift)
{
    shift &= 31;
    return shift ? hi << shift | lo >> (32 - shift) : hi;
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift)
{
    shift &= 31;
    return shift ? lo >> shift | hi << (32 - shift) : lo;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned pick = selector >> (4 * i) & 15;
        unsigned byte = bytes >> (8 * (pick & 7)) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0; // the sign, replicated
        r |= byte << (8 * i);
    }
    return r;
}

#define HOST_MIN_MAX(R, A, B)                                                                      \
    inline R min(A a, B b) { return host::least<R>(a, b); }                                        \
    inline R max(A a, B b) { return host::most<R>(a, b); }
HOST_MIN_MAX(int, int, int)
HOST_MIN_MAX(unsigned, unsigned, unsigned)
HOST_MIN_MAX(unsigned, int, unsigned)
HOST_MIN_MAX(unsigned, unsigned, int)
HOST_MIN_MAX(long, long, long)
HOST_MIN_MAX(unsigned long, unsigned long, unsigned long)
HOST_MIN_MAX(long long, long long, long long)
HOST_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
#undef HOST_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return host::smaller(a, b); }
inline double max(double a, double b) { return host::larger(a, b); }

// Loads and stores with a cache hint.
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldca(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline void __stcg(T* p, T v) { *p = v; }
template <class T> inline void __stcs(T* p, T v) { *p = v; }

inline float exp2Approx(float x) { return x < -126.f ? 0.f : exp2f(x); }
inline int opaque(int i) { return i; }
