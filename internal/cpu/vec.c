//go:build native && cgo

// vec.c - elementwise passes, softmax and the bandwidth probe.
//
// Each function is compiled for SSE2, AVX2 and AVX-512 and chosen at run time.
// Vectors of sixteen floats are the unit in all three, and multiplications are
// not fused with additions (-std=c11), so the bits depend neither on the
// processor nor on alignment or chunking, and equal those of vec_go.go.

#include "native.h"
#include "simd.h"
#include "vec16.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float f4 __attribute__((vector_size(16), aligned(4)));
typedef float f8 __attribute__((vector_size(32), aligned(4)));
typedef double d4 __attribute__((vector_size(32), aligned(8)));
typedef double d8 __attribute__((vector_size(64), aligned(8)));

// Asks for the cache line a kilobyte beyond p: the processor's own prefetcher starts anew at every
// page, and a linear combination reads several arrays at once. Beyond the array's end it does nothing.
INLINE void line_ahead(const float* p, int write)
{
    const void* at = (const void*)((uintptr_t)p + 1024);
    if (write)
        __builtin_prefetch(at, 1);
    else
        __builtin_prefetch(at, 0);
}

// out[i] = c[0] x[0][i] + c[1] x[1][i] + ..., in double, rounded once. out may be one of the x.
// Four vectors of `lanes` elements at a time.
// Returns whether all results are finite: then the sum of 0 out[i] is 0, else it is NaN.
#define LINCOMB32(name, attribute, lanes, wide, narrow, WIDE, NARROW, PROBE)                       \
    attribute static inline int name(long n, int k, float* out, const double* c,                   \
                                     const float* const* x)                                        \
    {                                                                                              \
        narrow p0 = {0}, p1 = p0, p2 = p0, p3 = p0;                                                \
        float probe = 0;                                                                           \
        long i = 0;                                                                                \
        for (; i + 4 * lanes <= n; i += 4 * lanes) {                                               \
            wide s0 = c[0] * WIDE(x[0] + i), s1 = c[0] * WIDE(x[0] + i + lanes);                   \
            wide s2 = c[0] * WIDE(x[0] + i + 2 * lanes), s3 = c[0] * WIDE(x[0] + i + 3 * lanes);   \
            for (int j = 1; j < k; j++) {                                                          \
                s0 += c[j] * WIDE(x[j] + i);                                                       \
                s1 += c[j] * WIDE(x[j] + i + lanes);                                               \
                s2 += c[j] * WIDE(x[j] + i + 2 * lanes);                                           \
                s3 += c[j] * WIDE(x[j] + i + 3 * lanes);                                           \
            }                                                                                      \
            const narrow r0 = NARROW(s0), r1 = NARROW(s1), r2 = NARROW(s2), r3 = NARROW(s3);       \
            *(narrow*)(out + i) = r0;                                                              \
            *(narrow*)(out + i + lanes) = r1;                                                      \
            *(narrow*)(out + i + 2 * lanes) = r2;                                                  \
            *(narrow*)(out + i + 3 * lanes) = r3;                                                  \
            p0 = PROBE(r0, p0);                                                                    \
            p1 = PROBE(r1, p1);                                                                    \
            p2 = PROBE(r2, p2);                                                                    \
            p3 = PROBE(r3, p3);                                                                    \
            for (int line = 0; line < 4 * lanes; line += 16) {                                     \
                for (int j = 0; j < k; j++)                                                        \
                    line_ahead(x[j] + i + line, 0);                                                \
                line_ahead(out + i + line, 1);                                                     \
            }                                                                                      \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            double s = c[0] * x[0][i];                                                             \
            for (int j = 1; j < k; j++)                                                            \
                s += c[j] * x[j][i];                                                               \
            out[i] = (float)s;                                                                     \
            probe += 0 * out[i];                                                                   \
        }                                                                                          \
        p0 += p1 + p2 + p3;                                                                        \
        for (int j = 0; j < lanes; j++)                                                            \
            probe += p0[j];                                                                        \
        return probe == 0;                                                                         \
    }

#define WIDE_ANY(p) __builtin_convertvector(*(const f4*)(p), d4)
#define NARROW_ANY(v) __builtin_convertvector(v, f4)
#define PROBE_ANY(r, p) ((p) + 0 * (r))
LINCOMB32(lincomb32, __attribute__((always_inline)), 4, d4, f4, WIDE_ANY, NARROW_ANY, PROBE_ANY)

#if defined(__x86_64__) // gcc 12 widens in two halves; the instruction does a whole vector.
                        // Conversions share their units with multiplications, so the probe is fused
                        // into its product.
#define AVX2 __attribute__((target("avx2,fma")))
#define WIDE_AVX2(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define NARROW_AVX2(v) ((f4)_mm256_cvtpd_ps(v))
#define PROBE_AVX2(r, p) ((f4)_mm_fmadd_ps(r, _mm_setzero_ps(), p))
LINCOMB32(lincomb32_avx2, AVX2 __attribute__((always_inline)), 4, __m256d, f4, WIDE_AVX2,
          NARROW_AVX2, PROBE_AVX2)

#define AVX512 __attribute__((target("avx512f,avx2,fma")))
#define WIDE_AVX512(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define NARROW_AVX512(v) ((f8)_mm512_cvtpd_ps(v))
#define PROBE_AVX512(r, p) ((f8)_mm256_fmadd_ps(r, _mm256_setzero_ps(), p))
LINCOMB32(lincomb32_avx512, AVX512 __attribute__((always_inline)), 8, __m512d, f8, WIDE_AVX512,
          NARROW_AVX512, PROBE_AVX512)
#endif

INLINE int lincomb64(long n, int k, double* out, const double* c, const double* const* x)
{
    d8 probe = {0};
    double last = 0;
    long i = 0;
    for (; i + 16 <= n; i += 16) {
        d8 lo = c[0] * *(const d8*)(x[0] + i), hi = c[0] * *(const d8*)(x[0] + i + 8);
        for (int j = 1; j < k; j++) {
            lo += c[j] * *(const d8*)(x[j] + i);
            hi += c[j] * *(const d8*)(x[j] + i + 8);
        }
        *(d8*)(out + i) = lo;
        *(d8*)(out + i + 8) = hi;
        probe += 0 * lo + 0 * hi;
    }
    for (; i < n; i++) {
        double s = c[0] * x[0][i];
        for (int j = 1; j < k; j++)
            s += c[j] * x[j][i];
        out[i] = s;
        last += 0 * s;
    }
    for (int j = 0; j < 8; j++)
        last += probe[j];
    return last == 0;
}

// A constant number of operands unrolls the inner loop.
#define BY_COUNT(f)                                                                                \
    switch (k) {                                                                                   \
    case 1: return f(n, 1, out, c, x);                                                             \
    case 2: return f(n, 2, out, c, x);                                                             \
    case 3: return f(n, 3, out, c, x);                                                             \
    case 4: return f(n, 4, out, c, x);                                                             \
    case 5: return f(n, 5, out, c, x);                                                             \
    default: return f(n, k, out, c, x);                                                            \
    }

#if defined(__x86_64__)
AVX2 static int pass32_avx2(long n, int k, float* out, const double* c, const float* const* x)
{
    BY_COUNT(lincomb32_avx2)
}
AVX512 static int pass32_avx512(long n, int k, float* out, const double* c, const float* const* x)
{
    BY_COUNT(lincomb32_avx512)
}
#endif
static int pass32(long n, int k, float* out, const double* c, const float* const* x)
{
    BY_COUNT(lincomb32)
}

// 0 those of every processor, 1 AVX2, 2 AVX-512
int vec_vectors(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma"))
        return __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx2") != 0;
#endif
    return 0;
}

int vec_lincomb32(int vectors, long n, int k, float* out, const double* c, const float* x0,
                  const float* x1, const float* x2, const float* x3, const float* x4,
                  const float* x5, const float* x6, const float* x7)
{
    const float* const x[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
#if defined(__x86_64__)
    if (vectors == 2) return pass32_avx512(n, k, out, c, x);
    if (vectors == 1) return pass32_avx2(n, k, out, c, x);
#else
    (void)vectors;
#endif
    return pass32(n, k, out, c, x);
}

CLONES int vec_lincomb64(long n, int k, double* out, const double* c, const double* x0,
                         const double* x1, const double* x2, const double* x3, const double* x4,
                         const double* x5, const double* x6, const double* x7)
{
    const double* const x[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    BY_COUNT(lincomb64)
}

CLONES void vec_triad(long n, float* out, const float* a, const float* b, float s)
{
    long i = 0;
    for (; i + 16 <= n; i += 16)
        *(f16*)(out + i) = *(const f16*)(a + i) + s * *(const f16*)(b + i);
    for (; i < n; i++)
        out[i] = a[i] + s * b[i];
}

CLONES void vec_relu(long n, float* out, const float* x)
{
    const f16 zero = {0};
    long i = 0;
    for (; i + 16 <= n; i += 16) {
        const f16 v = *(const f16*)(x + i);
        *(f16*)(out + i) = pick(v < zero, zero, v);
    }
    for (; i < n; i++)
        out[i] = x[i] < 0 ? 0 : x[i];
}

CLONES void vec_exp(long n, float* out, const float* x)
{
    long i = 0;
    for (; i + 16 <= n; i += 16)
        *(f16*)(out + i) = exp16(*(const f16*)(x + i));
    if (i < n) {
        f16 v = {0};
        memcpy(&v, x + i, sizeof(float) * (size_t)(n - i));
        v = exp16(v);
        memcpy(out + i, &v, sizeof(float) * (size_t)(n - i));
    }
}

// out[i] = exp(x[i] - max x) / sum; sixteen partial sums, folded in halves.
CLONES void vec_softmax(long rows, long n, float* out, long ldo, const float* x, long ldx)
{
    for (long r = 0; r < rows; r++, out += ldo, x += ldx) {
        const f16 one = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                  lowest = -__builtin_inff() * one;
        f16 top = lowest, sum = {0}, last = lowest;
        const long whole = n & ~15L;
        const size_t rest = sizeof(float) * (size_t)(n - whole);
        for (long i = 0; i < whole; i += 16) {
            const f16 v = *(const f16*)(x + i);
            top = pick(v > top, v, top);
        }
        memcpy(&last, x + whole, rest);
        top = pick(last > top, last, top);
        float max = top[0];
        for (int j = 1; j < 16; j++)
            max = top[j] > max ? top[j] : max;
        for (long i = 0; i < whole; i += 16) {
            const f16 e = exp16(*(const f16*)(x + i) - max);
            *(f16*)(out + i) = e;
            sum += e;
        }
        f16 tail = {0};
        if (rest) {
            const f16 e = exp16(last - max);
            memcpy(&tail, &e, rest);
            sum += tail;
        }
        for (int w = 8; w; w /= 2)
            for (int j = 0; j < w; j++)
                sum[j] += sum[j + w];
        const f16 s = sum[0] * one;
        for (long i = 0; i < whole; i += 16)
            *(f16*)(out + i) /= s;
        tail /= s;
        memcpy(out + whole, &tail, rest);
    }
}
