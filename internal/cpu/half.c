//go:build native && cgo

// half.c - floats rounded to the nearest bfloat16, ties to even; NaN becomes quiet.

#include "native.h"
#include "simd.h"

CLONES void vec_round16(long rows, long n, float* out, long ldo, const float* x, long ldx)
{
    for (long r = 0; r < rows; r++) {
        const uint32_t* u = (const uint32_t*)(x + r * ldx);
        uint32_t* v = (uint32_t*)(out + r * ldo);
        for (long i = 0; i < n; i++) {
            const uint32_t near = (u[i] + 0x7fff + (u[i] >> 16 & 1)) & 0xffff0000;
            v[i] = (u[i] & 0x7fffffff) > 0x7f800000 ? u[i] | 0x400000 : near;
        }
    }
}
