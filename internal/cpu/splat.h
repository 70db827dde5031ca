// splat.h - two-dimensional Gaussians on the CPU: what splat.c and splatback.c share.
#pragma once

#include "vec16.h"
#include <math.h>

// A Gaussian made ready to draw; Splat of splat.go. At a pixel dx, dy from its
// mean q = p (dx + k dy)^2 + v dy^2 and its value is o exp(-q), where q <= qmax
// and the pixel lies in [x0, x1) x [y0, y1).
typedef struct {
    float x, y, k, p, v, o, qmax;
    int32_t x0, x1, y0, y1;
} splat;

// The pixels of a row that can lie within qmax, one more at either side.
INLINE void row_range(const splat* s, float dy, float row, float origin, float inverse, int* lo,
                      int* hi)
{
    *lo = s->x0;
    *hi = s->x1;
    if (s->qmax == INFINITY) return;
    const float left = s->qmax - row;
    if (!(left >= 0)) {
        *hi = *lo;
        return;
    }
    const float half = sqrtf(left / s->p), mid = s->x - s->k * dy;
    const float a = (mid - half - origin) * inverse - 1.0f;
    const float b = (mid + half - origin) * inverse + 2.0f;
    if (a >= (float)*hi || b <= (float)*lo) {
        *hi = *lo;
        return;
    }
    if (a > (float)*lo) *lo = (int)a;
    if (b < (float)*hi) *hi = (int)b;
}

// Masks from the sign of a difference: gcc compares 512-bit vectors one float at a time. Right for all
// but NaN; an infinite limit is fine.
INLINE i16 below(f16 a, f16 b) { return (i16)(a - b) >> 31; }
INLINE i16 at_most(f16 a, f16 b) { return ~below(b, a); }
INLINE i16 less(i16 a, i16 b) { return (a - b) >> 31; }

// exp16 of x <= 0: the same bits without its comparisons.
INLINE f16 exp_negative(f16 x)
{
    const f16 zero = {0}, least = zero - 104.0f;
    return exp_within(pick(below(x, least), least, x));
}

// exp(-q) of sixteen pixels from x on, 0 where the Gaussian does not reach; u is dx + k dy.
INLINE f16 falloff(const splat* s, const float* xs, int x, int hi, float ky, float row, f16* u)
{
    const i16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const f16 zero = {0};
    *u = (*(const f16*)(xs + x) - s->x) + ky;
    const f16 q = *u * s->p * *u + row;
    const i16 end = lanes * 0 + (hi - x);
    return (f16)((i16)exp_negative(-q) & less(lanes, end) & at_most(q, zero + s->qmax));
}

INLINE float fold16(f16 v)
{
    for (int w = 8; w; w /= 2)
        for (int j = 0; j < w; j++)
            v[j] += v[j + w];
    return v[0];
}

// The usual channel counts are compiled as constants, so that their loops unroll.
#define BY_CHANNELS(f, c, ...)                                                                     \
    switch (c) {                                                                                   \
    case 1: f(1, __VA_ARGS__); break;                                                              \
    case 3: f(3, __VA_ARGS__); break;                                                              \
    case 4: f(4, __VA_ARGS__); break;                                                              \
    default: f(c, __VA_ARGS__); break;                                                             \
    }

// splat.c
void splat_add(const splat* s, const int32_t* ids, long n, const float* f, int c, const float* xs,
               const float* ys, float origin, float inverse, int y0, int y1, long stride,
               float* acc, float* z);
void splat_alpha(const splat* s, const int32_t* ids, long n, const float* f, int c, const float* xs,
                 const float* ys, float origin, float inverse, int y0, int y1, long stride,
                 float* acc, float* t, int32_t* last, int32_t* live);
void splat_interleave(float* out, const float* planes, int c, long width, long rows, long stride,
                      long plane);
void splat_planes(float* planes, const float* in, int c, long width, long rows, long stride,
                  long plane);

// splatback.c
void splat_gather(const splat* s, long lo, long hi, const float* f, int c, const float* xs,
                  const float* ys, float origin, float inverse, long height, long stride,
                  const float* v, const float* offset, float* work, float* sums, float* df);
void splat_alpha_back(const splat* s, const int32_t* ids, long n, const float* f, int c,
                      const float* xs, const float* ys, float origin, float inverse, int y0, int y1,
                      long stride, const float* v, float* t, float* behind, const int32_t* last,
                      float* work, float* slots);
