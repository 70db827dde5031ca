//go:build native && cgo

// channels.c - rows of n channels, one after another: normalisation of pictures
// whose channels are the last axis, with SiLU after it in the same pass.
//
// Sums over rows take the rows in order, for every channel by itself.

#include "native.h"
#include "vec16.h"

INLINE f16 slope(f16 z)
{
    const f16 s = sigmoid16(z);
    return s * (one + z * (one - s));
}

CLONES void vec_chan_squares(long rows, long n, float* out, const float* x, const float* mean)
{
    for (long i = 0; i < n; i += 16) {
        const long k = n - i;
        const f16 m = load(mean + i, k);
        f16 s = load(out + i, k);
        for (long r = 0; r < rows; r++) {
            const f16 d = load(x + r * n + i, k) - m;
            s += d * d;
        }
        store(out + i, s, k);
    }
}

INLINE void affine(int silu, long rows, long n, float* y, const float* x, const float* a,
                   const float* b)
{
    for (long r = 0; r < rows; r++, x += n, y += n)
        for (long i = 0; i < n; i += 16) {
            const long k = n - i;
            f16 z = load(a + i, k) * load(x + i, k) + load(b + i, k);
            if (silu) z *= sigmoid16(z);
            store(y + i, z, k);
        }
}

CLONES void vec_chan_affine(int silu, long rows, long n, float* y, const float* x, const float* a,
                            const float* b)
{
    if (silu)
        affine(1, rows, n, y, x, a, b);
    else
        affine(0, rows, n, y, x, a, b);
}

INLINE void back_sums(int silu, long rows, long n, float* sum, float* along, const float* x,
                      const float* dy, const float* a, const float* b, const float* mean)
{
    for (long i = 0; i < n; i += 16) {
        const long k = n - i;
        const f16 ai = load(a + i, k), bi = load(b + i, k), m = load(mean + i, k);
        f16 s = load(sum + i, k), t = load(along + i, k);
        for (long r = 0; r < rows; r++) {
            const f16 v = load(x + r * n + i, k);
            f16 d = load(dy + r * n + i, k);
            if (silu) d *= slope(ai * v + bi);
            s += d;
            t += d * (v - m);
        }
        store(sum + i, s, k);
        store(along + i, t, k);
    }
}

CLONES void vec_chan_back_sums(int silu, long rows, long n, float* sum, float* along,
                               const float* x, const float* dy, const float* a, const float* b,
                               const float* mean)
{
    if (silu)
        back_sums(1, rows, n, sum, along, x, dy, a, b, mean);
    else
        back_sums(0, rows, n, sum, along, x, dy, a, b, mean);
}

INLINE void back(int silu, int acc, long rows, long n, float* dx, const float* x, const float* dy,
                 const float* a, const float* b, const float* p, const float* q, const float* r)
{
    for (long row = 0; row < rows; row++, x += n, dy += n, dx += n)
        for (long i = 0; i < n; i += 16) {
            const long k = n - i;
            const f16 v = load(x + i, k);
            f16 d = load(dy + i, k);
            if (silu) d *= slope(load(a + i, k) * v + load(b + i, k));
            d = load(p + i, k) * d + load(q + i, k) * v + load(r + i, k);
            if (acc) d += load(dx + i, k);
            store(dx + i, d, k);
        }
}

CLONES void vec_chan_back(int silu, int acc, long rows, long n, float* dx, const float* x,
                          const float* dy, const float* a, const float* b, const float* p,
                          const float* q, const float* r)
{
    if (silu)
        back(1, acc, rows, n, dx, x, dy, a, b, p, q, r);
    else
        back(0, acc, rows, n, dx, x, dy, a, b, p, q, r);
}
