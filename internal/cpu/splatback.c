//go:build native && cgo

// splatback.c - gradients of what splat.c draws. Bits as splatback_go.go's.
//
// With h = dL/dg at a pixel, e = exp(-q) and t = e h, a Gaussian needs six sums
// over its pixels: t, t u, t dy, t u^2, t u dy, t dy^2, where u = dx + k dy. Their
// chain to mean, covariance and opacity is its caller's. Per row of a box only
// t, t u and t u^2 are summed; dy enters once a row.

#include "splat.h"

typedef struct {
    f16 t, u, y, uu, uy, yy;
} sums6;

INLINE void end_row(sums6* m, f16 t, f16 u, f16 uu, float dy)
{
    m->t += t;
    m->u += u;
    m->uu += uu;
    const f16 ty = t * dy;
    m->y += ty;
    m->yy += ty * dy;
    m->uy += u * dy;
}

INLINE void store_sums(float* out, const sums6* m)
{
    out[0] = fold16(m->t);
    out[1] = fold16(m->u);
    out[2] = fold16(m->y);
    out[3] = fold16(m->uu);
    out[4] = fold16(m->uy);
    out[5] = fold16(m->yy);
}

// Order-free blending, h = v . f - offset: six sums and df = o sum e v of each
// Gaussian of [lo, hi). v is planes [c][height][stride], offset one plane or
// NULL, work 16 c floats.
INLINE void gather(const int c, const splat* s, long lo, long hi, const float* f, const float* xs,
                   const float* ys, float origin, float inverse, long height, long stride,
                   const float* v, const float* offset, f16* work, float* sums, float* df)
{
    const long plane = height * stride;
    for (long i = lo; i < hi; i++) {
        const splat* p = s + i;
        const float* fi = f + i * c;
        const f16 zero = {0};
        sums6 m = {{0}, {0}, {0}, {0}, {0}, {0}};
        for (int k = 0; k < c; k++)
            work[k] = zero;
        for (int y = p->y0; y < p->y1; y++) {
            const float dy = ys[y] - p->y, ky = p->k * dy, row = p->v * dy * dy;
            int x0, x1;
            row_range(p, dy, row, origin, inverse, &x0, &x1);
            f16 rt = {0}, ru = {0}, ruu = {0};
            for (int x = x0; x < x1; x += 16) {
                f16 u;
                const f16 e = falloff(p, xs, x, x1, ky, row, &u);
                const long at = y * stride + x;
                f16 h = {0};
                if (offset) h -= *(const f16*)(offset + at);
                for (int k = 0; k < c; k++) {
                    const f16 vk = *(const f16*)(v + k * plane + at);
                    h += vk * fi[k];
                    work[k] += e * vk;
                }
                const f16 t = e * h, tu = t * u;
                rt += t;
                ru += tu;
                ruu += tu * u;
            }
            end_row(&m, rt, ru, ruu, dy);
        }
        store_sums(sums + 6 * i, &m);
        for (int k = 0; k < c; k++)
            df[i * c + k] = p->o * fold16(work[k]);
    }
}

CLONES void splat_gather(const splat* s, long lo, long hi, const float* f, int c, const float* xs,
                         const float* ys, float origin, float inverse, long height, long stride,
                         const float* v, const float* offset, float* work, float* sums, float* df)
{
    f16 few[4];
    f16* w = c <= 4 ? few : (f16*)work;
    BY_CHANNELS(gather, c, s, lo, hi, f, xs, ys, origin, inverse, height, stride, v, offset, w,
                sums, df)
}

// Back to front over the Gaussians of one band. t starts as the light left at
// the end and behind as t times (v . background - gradient of the coverage); last is
// as splat_alpha left it. slots gets six sums and df for each of ids.
INLINE void alpha_back(const int c, const splat* s, const int32_t* ids, long n, const float* f,
                       const float* xs, const float* ys, float origin, float inverse, int y0,
                       int y1, long stride, const float* v, float* t, float* behind,
                       const int32_t* last, f16* work, float* slots)
{
    const long plane = (y1 - y0) * stride;
    const f16 zero = {0}, cap = zero + 0.99f, least = zero + 1.0f / 255.0f;
    for (long i = n - 1; i >= 0; i--) {
        const splat* p = s + ids[i];
        const float* fi = f + (long)ids[i] * c;
        const int top = p->y0 > y0 ? p->y0 : y0, bottom = p->y1 < y1 ? p->y1 : y1;
        sums6 m = {{0}, {0}, {0}, {0}, {0}, {0}};
        const i16 place = (i16)zero + (int32_t)i;
        for (int k = 0; k < c; k++)
            work[k] = zero;
        for (int y = top; y < bottom; y++) {
            const float dy = ys[y] - p->y, ky = p->k * dy, row = p->v * dy * dy;
            int lo, hi;
            row_range(p, dy, row, origin, inverse, &lo, &hi);
            f16 rt = {0}, ru = {0}, ruu = {0};
            for (int x = lo; x < hi; x += 16) {
                f16 u;
                const f16 e = falloff(p, xs, x, hi, ky, row, &u), g = e * p->o;
                const f16 a = pick(below(cap, g), cap, g);
                const long at = (y - y0) * stride + x;
                const i16 use = at_most(least, a) & less(place, *(const i16*)(last + at));
                const f16 rest = 1.0f - a, after = *(f16*)(t + at), before = after / rest;
                const f16 w = pick(use, a * before, zero), b = *(f16*)(behind + at);
                f16 vf = {0};
                for (int k = 0; k < c; k++) {
                    const f16 vk = *(const f16*)(v + k * plane + at);
                    vf += vk * fi[k];
                    work[k] += w * vk;
                }
                const f16 h = before * vf - b / rest;
                *(f16*)(t + at) = pick(use, before, after);
                *(f16*)(behind + at) = b + w * vf;
                const f16 th = pick(use & at_most(g, cap), e * h, zero), tu = th * u;
                rt += th;
                ru += tu;
                ruu += tu * u;
            }
            end_row(&m, rt, ru, ruu, dy);
        }
        float* out = slots + i * (6 + c);
        store_sums(out, &m);
        for (int k = 0; k < c; k++)
            out[6 + k] = fold16(work[k]);
    }
}

CLONES void splat_alpha_back(const splat* s, const int32_t* ids, long n, const float* f, int c,
                             const float* xs, const float* ys, float origin, float inverse, int y0,
                             int y1, long stride, const float* v, float* t, float* behind,
                             const int32_t* last, float* work, float* slots)
{
    f16 few[4];
    f16* w = c <= 4 ? few : (f16*)work;
    BY_CHANNELS(alpha_back, c, s, ids, n, f, xs, ys, origin, inverse, y0, y1, stride, v, t, behind,
                last, w, slots)
}
