//go:build native && cgo

// finite.c - is any float NaN or infinite? Exponents only: all ones plus one in
// the last place carries into the sign bit, which the mask leaves clear.

#include "simd.h"
#include <stdint.h>

CLONES int vec_finite32(long n, const float* x)
{
    const uint32_t* w = (const uint32_t*)x;
    uint32_t bad = 0;
    for (long i = 0; i < n; i++)
        bad |= (w[i] & 0x7f800000u) + 0x00800000u;
    return !(bad >> 31);
}

CLONES int vec_finite64(long n, const double* x)
{
    const uint64_t* w = (const uint64_t*)x;
    uint64_t bad = 0;
    for (long i = 0; i < n; i++)
        bad |= (w[i] & 0x7ff0000000000000u) + 0x0010000000000000u;
    return !(bad >> 63);
}
