// vec16.h - sixteen floats as one vector, whatever the processor has: the unit of
// our own C, so that the bits depend neither on the processor nor on alignment.
#pragma once

#include "simd.h"
#include <stdint.h>
#include <string.h>

typedef float f16 __attribute__((vector_size(64), aligned(4)));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4)));

static const f16 one = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// The k elements at p, as many as there is room for; the rest is zero.
INLINE f16 load(const float* p, long k)
{
    if (k >= 16) return *(const f16*)p;
    f16 v = {0};
    memcpy(&v, p, sizeof(float) * (size_t)k);
    return v;
}

INLINE void store(float* p, f16 v, long k)
{
    if (k >= 16)
        *(f16*)p = v;
    else
        memcpy(p, &v, sizeof(float) * (size_t)k);
}

INLINE f16 pick(i16 mask, f16 yes, f16 no) { return (f16)(((i16)yes & mask) | ((i16)no & ~mask)); }

// exp of sixteen floats of [-104, 89]: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by the polynomial of
// Cephes' expf, 2^n in two factors so that neither overflows.
INLINE f16 exp_within(f16 x)
{
    const f16 shifted =
        x * 1.44269504f + 12582912.0f; // 1.5 * 2^23: the low bits are the nearest integer
    const f16 n = shifted - 12582912.0f;
    const i16 e = (i16)shifted - 0x4b400000, half = e >> 1;
    const f16 r = x - n * 0.693359375f - n * -2.12194440e-4f;
    f16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * (f16)((half + 127) << 23) * (f16)((e - half + 127) << 23);
}

INLINE f16 exp16(f16 x)
{
    x = pick(x < -104.0f * one, -104.0f * one, x);
    x = pick(x > 89.0f * one, 89.0f * one, x);
    return exp_within(x);
}

INLINE f16 sigmoid16(f16 x) { return one / (one + exp16(-x)); }
