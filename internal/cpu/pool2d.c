//go:build native && cgo

// pool2d.c - pooling of one plane of floats. The window's cells are visited in
// rows and columns, one pass over the output row for each, so that the compiler
// vectorises along the row and sums run in the same order everywhere.

#include "native.h"
#include "simd.h"

// columns of the output whose window column k lies inside the input: [*lo, *hi)
INLINE void range(int k, int stride, int pad, int w, int ow, int* lo, int* hi)
{
    *lo = pad > k ? (pad - k + stride - 1) / stride : 0;
    const int last = w - 1 - k + pad;
    *hi = last < 0 ? 0 : last / stride + 1;
    if (*hi > ow) *hi = ow;
}

INLINE void max_row(float* restrict out, const float* restrict in, int lo, int hi, int stride)
{
    for (int x = lo; x < hi; x++) {
        const float v = in[(long)x * stride], m = out[x];
        out[x] = m > v || m != m ? m : v; // NaN wins
    }
}

INLINE void add_row(float* restrict out, const float* restrict in, int lo, int hi, int stride)
{
    for (int x = lo; x < hi; x++)
        out[x] += in[(long)x * stride];
}

CLONES void vec_pool(float* out, int oh, int ow, const float* in, int h, int w, int kh, int kw,
                     int sh, int sw, int ph, int pw, int average, int padded)
{
    for (int y = 0; y < oh; y++, out += ow) {
        const int top = y * sh - ph, r0 = top < 0 ? 0 : top, r1 = top + kh > h ? h : top + kh;
        const float start = average ? 0 : -__builtin_inff();
        for (int x = 0; x < ow; x++)
            out[x] = start;
        for (int r = r0; r < r1; r++)
            for (int k = 0; k < kw; k++) {
                int lo, hi;
                range(k, sw, pw, w, ow, &lo, &hi);
                const float* p = in + (long)r * w + k - pw;
                if (average && sw == 1)
                    add_row(out, p, lo, hi, 1);
                else if (average)
                    add_row(out, p, lo, hi, sw);
                else if (sw == 1)
                    max_row(out, p, lo, hi, 1);
                else if (sw == 2)
                    max_row(out, p, lo, hi, 2);
                else
                    max_row(out, p, lo, hi, sw);
            }
        if (!average) continue;
        for (int x = 0; x < ow; x++) {
            const int left = x * sw - pw, c0 = left < 0 ? 0 : left,
                      c1 = left + kw > w ? w : left + kw;
            out[x] /= (float)(padded ? kh * kw : (r1 - r0) * (c1 - c0));
        }
    }
}
