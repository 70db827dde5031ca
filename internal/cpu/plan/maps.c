//go:build native && cgo

// maps.c - what a plan does to maps beside oneDNN's primitives: copies between layouts, the terms
// of bf16x3, averages over a whole map.
#include "maps.h"
#include <stdint.h>
#include <string.h>

static int block_of(int layout) { return layout == FL_BLOCK16 ? 16 : layout == FL_BLOCK8 ? 8 : 1; }

size_t fl_bytes(const fl_tensor* t)
{
    const size_t b = block_of(t->layout);
    return (t->c + b - 1) / b * b * t->h * t->w * (t->bf16 ? 2 : 4);
}

// index of channel c at pixel p
static inline size_t at(const fl_tensor* t, int c, size_t p)
{
    const size_t hw = (size_t)t->h * t->w, b = block_of(t->layout);
    if (t->layout == FL_NHWC) return p * t->c + c;
    return (c / b * hw + p) * b + c % b;
}

static inline float widen(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// narrow rounds to nearest even, as oneDNN does; a NaN stays one.
static inline uint16_t narrow(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return (u >> 16) | 0x40;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static inline float load(const fl_tensor* t, const void* p, size_t i)
{
    return t->bf16 ? widen(((const uint16_t*)p)[i]) : ((const float*)p)[i];
}

static inline void store(const fl_tensor* t, void* p, size_t i, float v)
{
    if (t->bf16)
        ((uint16_t*)p)[i] = narrow(v);
    else
        ((float*)p)[i] = v;
}

// fl_copy_channels writes src to the channels of dst from `channel` on, and zeros to the lanes
// after dst's last channel when it reaches them.
void fl_copy_channels(const fl_tensor* s, const char* src, const fl_tensor* d, char* dst,
                      int channel)
{
    const size_t hw = (size_t)s->h * s->w, size = d->bf16 ? 2 : 4;
    const int b = block_of(d->layout);
    if (s->bf16 == d->bf16 && s->layout == d->layout && d->layout == FL_NHWC) {
        for (size_t p = 0; p < hw; p++)
            memcpy(dst + at(d, channel, p) * size, src + at(s, 0, p) * size, s->c * size);
        return;
    }
    if (s->bf16 == d->bf16 && s->layout == d->layout && channel % b == 0 && s->c % b == 0) {
        memcpy(dst + at(d, channel, 0) * size, src, fl_bytes(s));
        return;
    }
    for (int c = 0; c < s->c; c++)
        for (size_t p = 0; p < hw; p++)
            store(d, dst, at(d, channel + c, p), load(s, src, at(s, c, p)));
    if (channel + s->c == d->c)
        for (int c = d->c; c % b; c++)
            for (size_t p = 0; p < hw; p++)
                store(d, dst, at(d, c, p), 0);
}

// split writes v = high + low, both bf16, to within 2^-17 of v.
#ifdef __x86_64__
__attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#endif
static void split(size_t n, const float* v, uint16_t* high, uint16_t* low, uint16_t* again)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t h = narrow(v[i]);
        high[i] = again[i] = h;
        low[i] = narrow(v[i] - widen(h));
    }
}

void fl_split_channels(const fl_tensor* s, const char* src, const fl_tensor* d, char* dst)
{
    const size_t hw = (size_t)s->h * s->w;
    const int b = block_of(d->layout);
    const float* v = (const float*)src;
    uint16_t* o = (uint16_t*)dst;
    if (s->layout == d->layout && b > 1 && s->c % b == 0) {
        const size_t n = hw * s->c;
        split(n, v, o, o + n, o + 2 * n);
        return;
    }
    if (s->layout == d->layout && d->layout == FL_NHWC) {
        const size_t n = s->c;
        for (size_t p = 0; p < hw; p++, v += n, o += 3 * n)
            split(n, v, o, o + n, o + 2 * n);
        return;
    }
    for (int c = 0; c < s->c; c++)
        for (size_t p = 0; p < hw; p++) {
            const float x = v[at(s, c, p)];
            const uint16_t h = narrow(x);
            o[at(d, c, p)] = o[at(d, 2 * s->c + c, p)] = h;
            o[at(d, s->c + c, p)] = narrow(x - widen(h));
        }
    for (int c = d->c; c % b; c++)
        for (size_t p = 0; p < hw; p++)
            o[at(d, c, p)] = 0;
}

// fl_global_average sums in double, pixel after pixel.
void fl_global_average(const fl_tensor* s, const char* src, float* dst)
{
    const size_t hw = (size_t)s->h * s->w;
    const int b = s->layout == FL_NHWC ? 1 : block_of(s->layout);
    for (int c0 = 0; c0 < s->c; c0 += b) {
        double sum[16] = {0};
        for (size_t p = 0; p < hw; p++) {
            const size_t i = at(s, c0, p);
            if (b == 16 && !s->bf16) {
                const float* v = (const float*)src + i;
                for (int l = 0; l < 16; l++)
                    sum[l] += v[l];
            } else
                for (int l = 0; l < b; l++)
                    sum[l] += load(s, src, i + l);
        }
        for (int l = 0; l < b && c0 + l < s->c; l++)
            dst[c0 + l] = (float)(sum[l] / hw);
    }
}

// fl_plain writes src as [C][H][W] float32.
void fl_plain(const fl_tensor* s, const char* src, float* out)
{
    const size_t hw = (size_t)s->h * s->w;
    for (int c = 0; c < s->c; c++)
        for (size_t p = 0; p < hw; p++)
            *out++ = load(s, src, at(s, c, p));
}
