//go:build native && cgo

// rows.c - passes over the rows of matrices: two operands of which one may
// repeat, sums along rows and columns, normalisation, gradients of softmax.
//
// Sums run in sixteen partial sums per row, folded in halves; sums over rows
// take the rows in order.

#include "native.h"
#include "rows.h"
#include "vec16.h"
#include <math.h>
#include <string.h>

#define REST(k) (sizeof(float) * (size_t)(k))

typedef float f8 __attribute__((vector_size(32)));
typedef float f4 __attribute__((vector_size(16)));

// The sum of the elements, by halves.
INLINE float fold(f16 s)
{
    const f8 a = __builtin_shufflevector(s, s, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(s, s, 8, 9, 10, 11, 12, 13, 14, 15);
    const f4 b =
        __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}

INLINE f16 splat(float x) { return x - (f16){0}; }

INLINE f16 combine(int op, f16 x, f16 y)
{
    switch (op) {
    case PAIR_ADD: return x + y;
    case PAIR_SUB: return x - y;
    case PAIR_MUL: return x * y;
    case PAIR_DIV: return x / y;
    case PAIR_MIN: return pick((x < y) | (x != x), x, y);
    default: return pick((x > y) | (x != x), x, y);
    }
}

// ia and ib are 1, or 0 for one value that the row repeats.
INLINE void pair(int op, int acc, long rows, long n, float* out, long ldo, const float* a, long lda,
                 int ia, const float* b, long ldb, int ib)
{
    for (long r = 0; r < rows; r++, out += ldo, a += lda, b += ldb) {
        const f16 a0 = splat(*a), b0 = splat(*b);
        for (long i = 0; i < n; i += 16) {
            const long k = n - i;
            f16 v = combine(op, ia ? load(a + i, k) : a0, ib ? load(b + i, k) : b0);
            if (acc) v += load(out + i, k);
            store(out + i, v, k);
        }
    }
}

#define PAIR(OP)                                                                                   \
    case OP:                                                                                       \
        if (ia && ib)                                                                              \
            pair(OP, acc, rows, n, out, ldo, a, lda, 1, b, ldb, 1);                                \
        else                                                                                       \
            pair(OP, acc, rows, n, out, ldo, a, lda, ia, b, ldb, ib);                              \
        break;

CLONES void vec_pair(int op, int acc, long rows, long n, float* out, long ldo, const float* a,
                     long lda, int ia, const float* b, long ldb, int ib)
{
    switch (op) {
        PAIR(PAIR_ADD)
        PAIR(PAIR_SUB)
        PAIR(PAIR_MUL)
        PAIR(PAIR_DIV)
        PAIR(PAIR_MIN)
        PAIR(PAIR_MAX)
    }
}

// out[i] += sum over rows of a[r][i] b[r][i]; b may be NULL for ones.
CLONES void vec_colsum(long rows, long n, float* out, const float* a, long lda, const float* b,
                       long ldb)
{
    for (long i = 0; i < n; i += 64) { // four vectors stay in registers
        const long k = n - i;
        f16 s[4];
        for (int j = 0; j < 4; j++)
            s[j] = 16 * j < k ? load(out + i + 16 * j, k - 16 * j) : splat(0);
        if (k >= 64) {
            for (long r = 0; r < rows; r++)
                for (int j = 0; j < 4; j++) {
                    f16 v = *(const f16*)(a + r * lda + i + 16 * j);
                    if (b) v *= *(const f16*)(b + r * ldb + i + 16 * j);
                    s[j] += v;
                }
        } else {
            for (long r = 0; r < rows; r++)
                for (int j = 0; 16 * j < k; j++) {
                    f16 v = load(a + r * lda + i + 16 * j, k - 16 * j);
                    if (b) v *= load(b + r * ldb + i + 16 * j, k - 16 * j);
                    s[j] += v;
                }
        }
        for (int j = 0; 16 * j < k && j < 4; j++)
            store(out + i + 16 * j, s[j], k - 16 * j);
    }
}

// out[r] = sum of a[r][i] b[r][i]; b may be NULL for ones.
CLONES void vec_rowsum(long rows, long n, float* out, const float* a, long lda, const float* b,
                       long ldb)
{
    for (long r = 0; r < rows; r++, a += lda, b = b ? b + ldb : b) {
        f16 s = {0};
        for (long i = 0; i < n; i += 16) {
            f16 v = load(a + i, n - i);
            if (b) v *= load(b + i, n - i);
            s += v;
        }
        out[r] = fold(s);
    }
}

INLINE f16 apart(const float* x, float m, int squares)
{
    const f16 d = *(const f16*)x - m;
    return squares ? d * d : d;
}

// The sum of x - m, or of its squares, in four vectors of sums that do not wait for each other.
INLINE float row_sum(long n, const float* x, float m, int squares)
{
    f16 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    long i = 0;
    for (; i + 64 <= n; i += 64) {
        s0 += apart(x + i, m, squares);
        s1 += apart(x + i + 16, m, squares);
        s2 += apart(x + i + 32, m, squares);
        s3 += apart(x + i + 48, m, squares);
    }
    for (; i + 16 <= n; i += 16)
        s0 += apart(x + i, m, squares);
    if (i < n) {
        f16 rest = splat(m); // which is no distance
        memcpy(&rest, x + i, REST(n - i));
        s1 += apart((const float*)&rest, m, squares);
    }
    return fold((s0 + s1) + (s2 + s3));
}

// y = (x - mean) / sqrt(var + eps), then w and b of each column, then (1 + scale) and shift.
CLONES void vec_norm(int rms, double eps, long rows, long n, float* y, float* mean, float* inv,
                     const float* x, const float* w, const float* b, const float* scale,
                     const float* shift)
{
    for (long r = 0; r < rows; r++, x += n, y += n) {
        const float m = rms ? 0 : (float)((double)row_sum(n, x, 0, 0) / (double)n);
        const float k = (float)(1 / sqrt((double)row_sum(n, x, m, 1) / (double)n + eps));
        mean[r] = m;
        inv[r] = k;
        for (long i = 0; i < n; i += 16) {
            const long left = n - i;
            __builtin_prefetch(x + n + i); // the next row, while this one is written
            f16 v = (load(x + i, left) - m) * k;
            if (w) v *= load(w + i, left);
            if (b) v += load(b + i, left);
            if (scale) v *= 1.0f + load(scale + i, left);
            if (shift) v += load(shift + i, left);
            store(y + i, v, left);
        }
    }
}

// The gradients of vec_norm. dw, db, dscale and dshift, where given, are added to.
CLONES void vec_norm_back(int rms, long rows, long n, float* dx, int acc, const float* x,
                          const float* dy, const float* mean, const float* inv, const float* w,
                          const float* b, const float* scale, float* dw, float* db, float* dscale,
                          float* dshift)
{
    for (long r = 0; r < rows; r++, x += n, dy += n, dx += n) {
        const float m = mean[r], k = inv[r];
        f16 s1[2] = {{0}}, s2[2] = {{0}}; // in turns, so that sums wait less for each other
        for (long i = 0; i < n; i += 16) {
            const long left = n - i, turn = i / 16 & 1;
            f16 g = load(dy + i, left);
            const f16 v = (load(x + i, left) - m) * k; // beyond the row's end g is 0
            if (dshift) store(dshift + i, load(dshift + i, left) + g, left);
            if (dscale) {
                f16 u = v;
                if (w) u *= load(w + i, left);
                if (b) u += load(b + i, left);
                store(dscale + i, load(dscale + i, left) + g * u, left);
            }
            if (scale) g *= 1.0f + load(scale + i, left);
            if (db) store(db + i, load(db + i, left) + g, left);
            if (dw) store(dw + i, load(dw + i, left) + g * v, left);
            if (w) g *= load(w + i, left);
            s1[turn] += g;
            s2[turn] += g * v;
        }
        const float c1 = rms ? 0 : (float)((double)fold(s1[0] + s1[1]) / (double)n);
        const float c2 = (float)((double)fold(s2[0] + s2[1]) / (double)n);
        for (long i = 0; i < n; i += 16) {
            const long left = n - i;
            __builtin_prefetch(x + n + i), __builtin_prefetch(dy + n + i); // the next row
            f16 g = load(dy + i, left);
            const f16 v = (load(x + i, left) - m) * k;
            if (scale) g *= 1.0f + load(scale + i, left);
            if (w) g *= load(w + i, left);
            f16 d = k * (g - c1 - v * c2);
            if (acc) d += load(dx + i, left);
            store(dx + i, d, left);
        }
    }
}

// dx = y (dy - sum of y dy), the gradient of softmax with the result y
CLONES void vec_softmax_back(long rows, long n, float* dx, int acc, const float* y, const float* dy)
{
    for (long r = 0; r < rows; r++, dx += n, y += n, dy += n) {
        f16 s = {0};
        for (long i = 0; i < n; i += 16)
            s += load(y + i, n - i) * load(dy + i, n - i);
        const float t = fold(s);
        for (long i = 0; i < n; i += 16) {
            f16 d = load(y + i, n - i) * (load(dy + i, n - i) - t);
            if (acc) d += load(dx + i, n - i);
            store(dx + i, d, n - i);
        }
    }
}

// out = p x + q y + r; y may be NULL for q = 0
CLONES void vec_blend(long n, float* out, int acc, float p, const float* x, float q, const float* y,
                      float r)
{
    for (long i = 0; i < n; i += 16) {
        f16 d = p * load(x + i, n - i) + r;
        if (y) d += q * load(y + i, n - i);
        if (acc) d += load(out + i, n - i);
        store(out + i, d, n - i);
    }
}

// max[r] and sum[r] = sum of exp(x - max[r])
CLONES void vec_expsum(long rows, long n, float* max, float* sum, const float* x)
{
    for (long r = 0; r < rows; r++, x += n) {
        const f16 lowest = splat(-__builtin_inff());
        f16 top = lowest;
        for (long i = 0; i < n; i += 16) {
            f16 v = lowest;
            if (n - i >= 16)
                v = *(const f16*)(x + i);
            else
                memcpy(&v, x + i, REST(n - i));
            top = pick((v > top) | (v != v), v, top);
        }
        float m = top[0];
        for (int j = 1; j < 16; j++)
            m = top[j] > m || top[j] != top[j] ? top[j] : m;
        f16 s = {0};
        for (long i = 0; i < n; i += 16) {
            f16 v = lowest;
            if (n - i >= 16)
                v = *(const f16*)(x + i);
            else
                memcpy(&v, x + i, REST(n - i));
            const f16 e = exp16(v - m);
            s += n - i >= 16 ? e : load((const float*)&e, n - i);
        }
        max[r] = m;
        sum[r] = fold(s);
    }
}

// dx = g[r] exp(x - lse[r])
CLONES void vec_exp_back(long rows, long n, float* dx, int acc, const float* x, const float* lse,
                         const float* g)
{
    for (long r = 0; r < rows; r++, dx += n, x += n)
        for (long i = 0; i < n; i += 16) {
            f16 d = g[r] * exp16(load(x + i, n - i) - lse[r]);
            if (acc) d += load(dx + i, n - i);
            store(dx + i, d, n - i);
        }
}
