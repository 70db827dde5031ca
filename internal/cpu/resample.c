//go:build native && cgo

// resample.c - separable resampling of 8-bit RGB, for networks' inputs.
//
// The bits are those of resample.go: sums in double in the order of the taps,
// products not fused (-std=c11), float between the passes and at the end.
// A pixel is a vector of four doubles, the last one unused: red, green and blue
// of one output share the weights, so no data have to be rearranged until the
// end, when four pixels become four values in each of three planes.

#include "native.h"
#include "simd.h"

typedef uint8_t u4 __attribute__((vector_size(4), aligned(1)));
typedef float f4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t i4 __attribute__((vector_size(16), aligned(4)));
typedef float f8 __attribute__((vector_size(32), aligned(4)));
typedef double d4 __attribute__((vector_size(32), aligned(8)));
typedef double d8 __attribute__((vector_size(64), aligned(8)));

// One row of the picture, three bytes a pixel, as vectors.
INLINE void widen(long n, const uint8_t* pix, double* line)
{
    for (long x = 0; x + 1 < n; x++) {
        const i4 v = __builtin_convertvector(*(const u4*)(pix + 3 * x), i4);
        *(d4*)(line + 4 * x) = __builtin_convertvector(v, d4);
    }
    const uint8_t* last = pix + 3 * (n - 1); // a vector of four bytes would reach beyond
    *(d4*)(line + 4 * (n - 1)) = (d4){last[0], last[1], last[2], 0};
}

INLINE void along(long n, int taps, const int32_t* start, const double* weight, const double* line,
                  double* row)
{
    for (long x = 0; x < n; x++, weight += taps) {
        const double* p = line + 4 * (long)start[x];
        d4 s = weight[0] * *(const d4*)p;
        for (int k = 1; k < taps; k++)
            s += weight[k] * *(const d4*)(p + 4 * k);
        *(d4*)(row + 4 * x) = __builtin_convertvector(__builtin_convertvector(s, f4), d4);
    }
}

// Two pixels of the second pass.
INLINE f8 mix(int taps, const double* const* rows, const double* weight, long x)
{
    d8 s = weight[0] * *(const d8*)(rows[0] + 4 * x);
    for (int k = 1; k < taps; k++)
        s += weight[k] * *(const d8*)(rows[k] + 4 * x);
    return __builtin_convertvector(s, f8);
}

INLINE f4 finish(f4 v, float scale, float offset, int clip)
{
    if (clip) {
        v = (f4)((i4)v & (v > 0));
        const i4 over = v > 255;
        v = (f4)(((i4)v & ~over) | ((i4)((f4){255, 255, 255, 255}) & over));
    }
    return v * scale + offset;
}

INLINE void down(long n, int taps, const double* const* rows, const double* weight, float* r,
                 float* g, float* b, float scale, float offset, int clip)
{
    long x = 0;
    for (; x + 4 <= n; x += 4) {
        const f8 p = mix(taps, rows, weight, x),
                 q = mix(taps, rows, weight, x + 2); // rgb-rgb- rgb-rgb-
        const f4 p0 = {p[0], p[1], p[2], p[3]}, p1 = {p[4], p[5], p[6], p[7]};
        const f4 p2 = {q[0], q[1], q[2], q[3]}, p3 = {q[4], q[5], q[6], q[7]};
        const f4 a = __builtin_shuffle(p0, p1, (i4){0, 4, 1, 5}),
                 c = __builtin_shuffle(p2, p3, (i4){0, 4, 1, 5});
        const f4 d = __builtin_shuffle(p0, p1, (i4){2, 6, 3, 7}),
                 e = __builtin_shuffle(p2, p3, (i4){2, 6, 3, 7});
        *(f4*)(r + x) = finish(__builtin_shuffle(a, c, (i4){0, 1, 4, 5}), scale, offset, clip);
        *(f4*)(g + x) = finish(__builtin_shuffle(a, c, (i4){2, 3, 6, 7}), scale, offset, clip);
        *(f4*)(b + x) = finish(__builtin_shuffle(d, e, (i4){0, 1, 4, 5}), scale, offset, clip);
    }
    for (; x < n; x++) {
        d4 s = weight[0] * *(const d4*)(rows[0] + 4 * x);
        for (int k = 1; k < taps; k++)
            s += weight[k] * *(const d4*)(rows[k] + 4 * x);
        const f4 p = finish(__builtin_convertvector(s, f4), scale, offset, clip);
        r[x] = p[0];
        g[x] = p[1];
        b[x] = p[2];
    }
}

// line: 4 in_w doubles; ring: vtaps rows of 4 out_w doubles that hold floats.
CLONES void resample_rgb(const uint8_t* pix, long in_w, long out_w, long out_h, int htaps,
                         const int32_t* hstart, const double* hweight, int vtaps,
                         const int32_t* vstart, const double* vweight, double* line, double* ring,
                         float* dst, float scale, float offset, int clip)
{
    const double* rows[vtaps];
    long ready = 0;
    for (long y = 0; y < out_h; y++) {
        const long first = vstart[y];
        if (ready < first) ready = first;
        for (; ready < first + vtaps; ready++) {
            double* row = ring + ready % vtaps * 4 * out_w;
            widen(in_w, pix + ready * 3 * in_w, line);
            switch (htaps) {
            case 2: along(out_w, 2, hstart, hweight, line, row); break;
            case 4: along(out_w, 4, hstart, hweight, line, row); break;
            default: along(out_w, htaps, hstart, hweight, line, row);
            }
        }
        for (int k = 0; k < vtaps; k++)
            rows[k] = ring + (first + k) % vtaps * 4 * out_w;
        const double* w = vweight + y * vtaps;
        float *r = dst + y * out_w, *g = r + out_w * out_h, *b = g + out_w * out_h;
        switch (vtaps) {
        case 2: down(out_w, 2, rows, w, r, g, b, scale, offset, clip); break;
        case 4: down(out_w, 4, rows, w, r, g, b, scale, offset, clip); break;
        default: down(out_w, vtaps, rows, w, r, g, b, scale, offset, clip);
        }
    }
}
