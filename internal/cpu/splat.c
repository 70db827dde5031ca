//go:build native && cgo

// splat.c - drawing two-dimensional Gaussians into rows of an image, and the
// change between channel-last pixels and planes. Bits as splat_go.go's.
//
// A Gaussian walks the rows of its box, sixteen pixels a vector, so that one
// exp serves all channels. Planes have sixteen floats beyond the last pixel of a
// row: a vector may hang over the end, where it adds zeros.

#include "splat.h"

// acc[c] += g f[c]; z += g where z is not NULL.
INLINE void add(const int c, const splat* s, const int32_t* ids, long n, const float* f,
                const float* xs, const float* ys, float origin, float inverse, int y0, int y1,
                long stride, float* acc, float* z)
{
    const long plane = (y1 - y0) * stride;
    for (long i = 0; i < n; i++) {
        const splat* p = s + ids[i];
        const float* fi = f + (long)ids[i] * c;
        const int top = p->y0 > y0 ? p->y0 : y0, bottom = p->y1 < y1 ? p->y1 : y1;
        for (int y = top; y < bottom; y++) {
            const float dy = ys[y] - p->y, ky = p->k * dy, row = p->v * dy * dy;
            int lo, hi;
            row_range(p, dy, row, origin, inverse, &lo, &hi);
            float* a = acc + (y - y0) * stride;
            for (int x = lo; x < hi; x += 16) {
                f16 u;
                const f16 g = falloff(p, xs, x, hi, ky, row, &u) * p->o;
                if (z) *(f16*)(z + (y - y0) * stride + x) += g;
                for (int k = 0; k < c; k++)
                    *(f16*)(a + k * plane + x) += g * fi[k];
            }
        }
    }
}

CLONES void splat_add(const splat* s, const int32_t* ids, long n, const float* f, int c,
                      const float* xs, const float* ys, float origin, float inverse, int y0, int y1,
                      long stride, float* acc, float* z){
    BY_CHANNELS(add, c, s, ids, n, f, xs, ys, origin, inverse, y0, y1, stride, acc, z)}

// Front to back: acc[c] += alpha T f[c], T *= 1 - alpha, until T would fall to
// 1e-4. t starts at 1, live at -1; last is 1 + the place in ids of the last
// Gaussian that was drawn.
INLINE void alpha(const int c, const splat* s, const int32_t* ids, long n, const float* f,
                  const float* xs, const float* ys, float origin, float inverse, int y0, int y1,
                  long stride, float* acc, float* t, int32_t* last, int32_t* live)
{
    const long plane = (y1 - y0) * stride;
    const f16 zero = {0}, cap = zero + 0.99f, least = zero + 1.0f / 255.0f, end = zero + 1e-4f;
    for (long i = 0; i < n; i++) {
        const splat* p = s + ids[i];
        const float* fi = f + (long)ids[i] * c;
        const int top = p->y0 > y0 ? p->y0 : y0, bottom = p->y1 < y1 ? p->y1 : y1;
        for (int y = top; y < bottom; y++) {
            const float dy = ys[y] - p->y, ky = p->k * dy, row = p->v * dy * dy;
            int lo, hi;
            row_range(p, dy, row, origin, inverse, &lo, &hi);
            for (int x = lo; x < hi; x += 16) {
                f16 u;
                const f16 g = falloff(p, xs, x, hi, ky, row, &u) * p->o;
                const f16 a = pick(below(cap, g), cap, g);
                const long at = (y - y0) * stride + x;
                const f16 now = *(f16*)(t + at), then = now * (1.0f - a);
                const i16 open = *(i16*)(live + at) & at_most(least, a),
                          stop = open & at_most(then, end);
                const i16 use = open & ~stop;
                *(i16*)(live + at) &= ~stop;
                *(f16*)(t + at) = pick(use, then, now);
                const i16 count = use * 0 + (int32_t)(i + 1), before = *(i16*)(last + at);
                *(i16*)(last + at) = (count & use) | (before & ~use);
                const f16 w = pick(use, a * now, zero);
                for (int k = 0; k < c; k++)
                    *(f16*)(acc + k * plane + at) += w * fi[k];
            }
        }
    }
}

CLONES void splat_alpha(const splat* s, const int32_t* ids, long n, const float* f, int c,
                        const float* xs, const float* ys, float origin, float inverse, int y0,
                        int y1, long stride, float* acc, float* t, int32_t* last,
                        int32_t* live){BY_CHANNELS(alpha, c, s, ids, n, f, xs, ys, origin, inverse,
                                                   y0, y1, stride, acc, t, last, live)}

// out[y][x][k] = planes[k][y][x], planes `plane` floats apart
INLINE void interleave(const int c, float* out, const float* planes, long width, long rows,
                       long stride, long plane)
{
    for (long y = 0; y < rows; y++)
        for (long x = 0; x < width; x++)
            for (int k = 0; k < c; k++)
                out[(y * width + x) * c + k] = planes[k * plane + y * stride + x];
}

CLONES void splat_interleave(float* out, const float* planes, int c, long width, long rows,
                             long stride, long plane){
    BY_CHANNELS(interleave, c, out, planes, width, rows, stride, plane)}

// planes[k][y][x] = in[y][x][k]
INLINE void separate(const int c, float* planes, const float* in, long width, long rows,
                     long stride, long plane)
{
    for (long y = 0; y < rows; y++)
        for (int k = 0; k < c; k++)
            for (long x = 0; x < width; x++)
                planes[k * plane + y * stride + x] = in[(y * width + x) * c + k];
}

CLONES void splat_planes(float* planes, const float* in, int c, long width, long rows, long stride,
                         long plane)
{
    BY_CHANNELS(separate, c, planes, in, width, rows, stride, plane)
}
