//go:build native && cgo

// half.c - floats rounded to the nearest bfloat16, ties to even; NaN becomes quiet.

#include "native.h"
#include "simd.h"

CLONES void vec_round16(long rows, long n, float* out, long ldo, const float* x, long ldx)
{
    for (long r = 0; r < rows; r++) {
        const uint32_t* u = (const uint32_t*)(x + r * ldx);
        uint32_t* v = (uint32_t*)(out + r * ldo);
        for (long i = 0; i < n; i++)
            v[i] = bf16_of(u[i]) & 0xffff0000;
    }
}

CLONES void vec_narrow16(long rows, long n, uint16_t* out, const float* x, long ldx)
{
    if (n == ldx) n *= rows, rows = 1;
    for (long r = 0; r < rows; r++, out += n) {
        const uint32_t* u = (const uint32_t*)(x + r * ldx);
        for (long i = 0; i < n; i++)
            out[i] = bf16_of(u[i]) >> 16;
    }
}
