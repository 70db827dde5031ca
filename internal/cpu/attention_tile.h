// attention_tile.h - the tiles of attention.c's functions in vectors of one
// kind. The file that includes it defines, for vectors V of W floats:
// LOAD STORE SET1 ADD SUB MUL FMA MAX, EQUAL (all lanes), ADD_EXPONENT
// (x times 2^n for the integer n in the low bits of y) and ZERO_BELOW.
//
// Queries lie in the lanes: scores are kept transposed, [keys][48 queries], so
// that maxima and sums over the keys are lane by lane, in the order of the
// keys, and so that K and V are used as they lie in memory, one element times
// a vector. What a query gets depends neither on its lane nor on W.

// A rows x vecs tile of C (+)= A B over k: C[i][n] = sum_l a[i ra + l ca] b[l][n].
INLINE void tile(int rows, int vecs, int more, long k, const float* a, long ra, long ca,
                 const float* b, long ldb, float* c, long ldc)
{
    V s[8][4];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int n = 0; n < vecs; n++)
            s[i][n] = more ? LOAD(c + i * ldc + n * W) : SET1(0);
    for (long l = 0; l < k; l++) {
        V y[4];
#pragma GCC unroll 4
        for (int n = 0; n < vecs; n++)
            y[n] = LOAD(b + l * ldb + n * W);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const V x = SET1(a[i * ra + l * ca]);
#pragma GCC unroll 4
            for (int n = 0; n < vecs; n++)
                s[i][n] = FMA(x, y[n], s[i][n]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int n = 0; n < vecs; n++)
            STORE(c + i * ldc + n * W, s[i][n]);
}

// All rows of a strip of vecs vectors, step rows at a time while there are that many.
INLINE void strip(int step, int vecs, int more, long m, long k, const float* a, long ra, long ca,
                  const float* b, long ldb, float* c, long ldc)
{
    long i = 0;
    for (; i + step <= m; i += step)
        tile(step, vecs, more, k, a + i * ra, ra, ca, b, ldb, c + i * ldc, ldc);
    if (step > 4 && i + 4 <= m) {
        tile(4, vecs, more, k, a + i * ra, ra, ca, b, ldb, c + i * ldc, ldc);
        i += 4;
    }
    if (step > 2 && i + 2 <= m) {
        tile(2, vecs, more, k, a + i * ra, ra, ca, b, ldb, c + i * ldc, ldc);
        i += 2;
    }
    if (i < m) tile(1, vecs, more, k, a + i * ra, ra, ca, b, ldb, c + i * ldc, ldc);
}

// C (+)= A B with m rows, nv vectors of 16 floats and a sum over k.
INLINE void product(int more, long m, long nv, long k, const float* a, long ra, long ca,
                    const float* b, long ldb, float* c, long ldc)
{
    for (long n = nv * 16 / W; n > 0;) {
        long step;
#if W == 16
        if (n % 4 == 0 || n == 7) {
            strip(6, step = 4, more, m, k, a, ra, ca, b, ldb, c, ldc);
        } else if (n >= 3) {
            strip(8, step = 3, more, m, k, a, ra, ca, b, ldb, c, ldc);
        } else
#else
        if (n % 3 == 0) {
            strip(4, step = 3, more, m, k, a, ra, ca, b, ldb, c, ldc);
        } else
#endif
            if (n >= 2) {
            strip(6, step = 2, more, m, k, a, ra, ca, b, ldb, c, ldc);
        } else {
            strip(8, step = 1, more, m, k, a, ra, ca, b, ldb, c, ldc);
        }
        n -= step;
        b += step * W;
        c += step * W;
    }
}

// The kinds of product, each compiled once: over the elements of a head, over
// the keys of a tile, over its queries.
static __attribute__((noinline)) void scores(long keys, long nv, long d, const float* k, long ldk,
                                             const float* qt, float* s)
{
    product(0, keys, nv, d, k, ldk, 1, qt, attn_lanes, s, attn_lanes);
}

static __attribute__((noinline)) void gather(long keys, long nv, long d, const float* v, long ldv,
                                             const float* p, float* ot)
{
    product(1, d, nv, keys, v, 1, ldv, p, attn_lanes, ot, attn_lanes);
}

static __attribute__((noinline)) void scatter(long keys, long queries, long dv, const float* p,
                                              const float* rows, long ld, float* grad, long ldg)
{
    product(1, keys, dv, queries, p, attn_lanes, 1, rows, ld, grad, ldg);
}

// 2^x within 1 ulp, 0 below 2^-126, NaN for NaN: x = n + r with |r| <= 1/2, a
// minimax polynomial of degree 6 for 2^r, n added to its exponent. x < 127.
INLINE V pow2(V x)
{
    const V y = MAX(SET1(-126.0f), x), shifted = ADD(y, SET1(12582912.0f)); // 1.5 * 2^23
    const V r = SUB(y, SUB(shifted, SET1(12582912.0f)));
    V p = FMA(r, SET1(1.534581243e-4f), SET1(1.339993090e-3f));
    p = FMA(p, r, SET1(9.618489072e-3f));
    p = FMA(p, r, SET1(5.550328642e-2f));
    p = FMA(p, r, SET1(2.402264625e-1f));
    p = FMA(p, r, SET1(6.931471825e-1f));
    p = FMA(p, r, SET1(1.0f));
    return ZERO_BELOW(x, -126.0f, ADD_EXPONENT(p, shifted));
}

INLINE const void* element_at(const void* x, long at, int kind)
{
    return (const char*)x + at * (kind ? 2 : 4);
}

INLINE float element(const void* x, long at, int kind)
{
    if (kind == 0) return ((const float*)x)[at];
    if (kind == 2) {
        const uint32_t u = (uint32_t)((const uint16_t*)x)[at] << 16;
        float f;
        __builtin_memcpy(&f, &u, sizeof f);
        return f;
    }
    return _cvtsh_ss(((const uint16_t*)x)[at]);
}

INLINE __m256 load8(const void* x, long at, int kind)
{
    if (kind == 0) return _mm256_loadu_ps((const float*)x + at);
    const __m128i u = _mm_loadu_si128((const __m128i*)((const uint16_t*)x + at));
    if (kind == 1) return _mm256_cvtph_ps(u);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(u), 16));
}

INLINE void turn8(__m256 r[8])
{
    const __m256 t0 = _mm256_unpacklo_ps(r[0], r[1]), t1 = _mm256_unpackhi_ps(r[0], r[1]),
                 t2 = _mm256_unpacklo_ps(r[2], r[3]), t3 = _mm256_unpackhi_ps(r[2], r[3]),
                 t4 = _mm256_unpacklo_ps(r[4], r[5]), t5 = _mm256_unpackhi_ps(r[4], r[5]),
                 t6 = _mm256_unpacklo_ps(r[6], r[7]), t7 = _mm256_unpackhi_ps(r[6], r[7]);
    const __m256 u0 = _mm256_shuffle_ps(t0, t2, 0x44), u1 = _mm256_shuffle_ps(t0, t2, 0xee),
                 u2 = _mm256_shuffle_ps(t1, t3, 0x44), u3 = _mm256_shuffle_ps(t1, t3, 0xee),
                 u4 = _mm256_shuffle_ps(t4, t6, 0x44), u5 = _mm256_shuffle_ps(t4, t6, 0xee),
                 u6 = _mm256_shuffle_ps(t5, t7, 0x44), u7 = _mm256_shuffle_ps(t5, t7, 0xee);
    r[0] = _mm256_permute2f128_ps(u0, u4, 0x20);
    r[1] = _mm256_permute2f128_ps(u1, u5, 0x20);
    r[2] = _mm256_permute2f128_ps(u2, u6, 0x20);
    r[3] = _mm256_permute2f128_ps(u3, u7, 0x20);
    r[4] = _mm256_permute2f128_ps(u0, u4, 0x31);
    r[5] = _mm256_permute2f128_ps(u1, u5, 0x31);
    r[6] = _mm256_permute2f128_ps(u2, u6, 0x31);
    r[7] = _mm256_permute2f128_ps(u3, u7, 0x31);
}

// dst[c][r] = scale src[r][c] for r < 48: rows from n on are zeros. Rows of src
// are ld elements apart.
INLINE void turn_in(float* dst, const void* src, long ld, int kind, long n, long cols, float scale)
{
    const __m256 f = _mm256_set1_ps(scale);
    for (long r = 0; r < attn_lanes; r += 8) {
        long c = 0;
        for (; r + 8 <= n && c + 8 <= cols; c += 8) {
            __m256 x[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                x[i] = _mm256_mul_ps(f, load8(src, (r + i) * ld + c, kind));
            turn8(x);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                _mm256_storeu_ps(dst + (c + i) * attn_lanes + r, x[i]);
        }
        for (; c < cols; c++)
            for (long i = r; i < r + 8; i++)
                dst[c * attn_lanes + i] = i < n ? scale * element(src, i * ld + c, kind) : 0;
    }
}

// dst[r][c] = scale src[c][r], added to what is there when more is set; dst has
// n rows, ld elements apart.
INLINE void turn_out(float* dst, long ld, const float* src, long n, long cols, float scale,
                     int more)
{
    const __m256 f = _mm256_set1_ps(scale);
    for (long r = 0; r < n; r += 8) {
        long c = 0;
        for (; r + 8 <= n && c + 8 <= cols; c += 8) {
            __m256 x[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                x[i] = _mm256_mul_ps(f, _mm256_loadu_ps(src + (c + i) * attn_lanes + r));
            turn8(x);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                float* to = dst + (r + i) * ld + c;
                _mm256_storeu_ps(to, more ? _mm256_add_ps(_mm256_loadu_ps(to), x[i]) : x[i]);
            }
        }
        for (; c < cols; c++)
            for (long i = r; i < r + 8 && i < n; i++) {
                const float x = scale * src[c * attn_lanes + i];
                dst[i * ld + c] = more ? dst[i * ld + c] + x : x;
            }
    }
}

// n rows of d elements as float32: the storage itself, or a copy in buf whose
// rows are attn_pad(d) apart and end with zeros. whole: the caller reads whole vectors.
INLINE const float* rows(float* buf, const void* src, long at, long ld, int kind, long n, long d,
                         int whole, long* out_ld)
{
    if (kind == 0 && !(whole && d % 16)) {
        *out_ld = ld;
        return (const float*)src + at;
    }
    const long pad = attn_pad(d);
    for (long r = 0; r < n; r++) {
        long c = 0;
        for (; c + 8 <= d; c += 8)
            _mm256_storeu_ps(buf + r * pad + c, load8(src, at + r * ld + c, kind));
        for (; c < pad; c++)
            buf[r * pad + c] = c < d ? element(src, at + r * ld + c, kind) : 0;
    }
    *out_ld = pad;
    return buf;
}

// n floats rounded to float16 or bfloat16, ties to even.
INLINE void narrow(uint16_t* dst, const float* src, long n, int kind)
{
    long c = 0;
    if (kind == 1) {
        for (; c + 8 <= n; c += 8)
            _mm_storeu_si128((__m128i*)(dst + c), _mm256_cvtps_ph(_mm256_loadu_ps(src + c), 0));
        for (; c < n; c++)
            dst[c] = _cvtss_sh(src[c], 0);
        return;
    }
    for (; c < n; c++) {
        uint32_t u;
        __builtin_memcpy(&u, src + c, sizeof u);
        dst[c] = (uint16_t)(src[c] != src[c] ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
}
