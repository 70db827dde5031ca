// attention_pass.h - the passes over one head, made of the tiles of
// attention_tile.h; see there.

#define LOG2E 1.44269504088896340736
#define LN2 0.69314718055994530942
#define EACH_LANES(b, i, queries)                                                                  \
    for (long b = 0, i = p->i0, queries;                                                           \
         queries = p->i1 - i < attn_lanes ? p->i1 - i : attn_lanes, i < p->i1;                     \
         b++, i += attn_lanes)

// The keys that some query of i.. sees, of those in lo.. to hi.
INLINE void span(const attn_head* p, long i, long queries, long* lo, long* hi)
{
    const long first = i + p->shift, last = i + queries - 1 + p->shift;
    if (p->keys < *hi) *hi = p->keys;
    if (p->causal && last + 1 < *hi) *hi = last + 1;
    if (p->window > 0) {
        if (first - p->window + 1 > *lo) *lo = first - p->window + 1;
        if (last + p->window < *hi) *hi = last + p->window;
    }
}

// Hides, in the scores of keys j.. and queries i.., those that a query does not see.
INLINE void hide(const attn_head* p, float* s, long keys, long j, long queries, long i)
{
    const long first = i + p->shift, last = i + queries - 1 + p->shift, w = p->window;
    const int cut = p->causal && j + keys - 1 > first;
    if (!cut && !(w > 0 && (j <= last - w || j + keys - 1 >= first + w))) return;
    for (long r = 0; r < keys; r++) {
        long lo = 0, hi = queries; // the queries that see key j + r
        if (p->causal && j + r - first > lo) lo = j + r - first;
        if (w > 0 && j + r - first - w + 1 > lo) lo = j + r - first - w + 1;
        if (w > 0 && j + r - first + w < hi) hi = j + r - first + w;
        for (long n = 0; n < lo && n < queries; n++)
            s[r * attn_lanes + n] = -__builtin_inff();
        for (long n = hi > 0 ? hi : 0; n < queries; n++)
            s[r * attn_lanes + n] = -__builtin_inff();
    }
}

// Whether a mask of blocks leaves any of keys j.. and queries i.. .
INLINE int left(const attn_head* p, long keys, long j, long queries, long i)
{
    if (!p->blocks) return 1;
    for (long y = i / p->block; y <= (i + queries - 1) / p->block; y++)
        for (long x = j / p->block; x <= (j + keys - 1) / p->block; x++)
            if (p->blocks[y * p->across + x]) return 1;
    return 0;
}

// Hides what a mask of blocks does not leave.
INLINE void hide_blocks(const attn_head* p, float* s, long keys, long j, long queries, long i)
{
    for (long n = 0, to; n < queries; n = to) {
        const long y = (i + n) / p->block;
        to = (y + 1) * p->block - i < queries ? (y + 1) * p->block - i : queries;
        for (long r = 0; r < keys; r++)
            for (long c = n; c < to && !p->blocks[y * p->across + (j + r) / p->block]; c++)
                s[r * attn_lanes + c] = -__builtin_inff();
    }
}

// The scores of keys j.. and queries i.., in base 2.
INLINE void tile_scores(const attn_head* p, float* s, long keys, long j, long queries, long i,
                        const float* k, long ldk, const float* qt, const float* bias, float* bt)
{
    scores(keys, (queries + 15) / 16, p->d, k, ldk, qt, s);
    if (bias) {
        turn_in(bt, bias + i * p->lk + j, p->lk, 0, queries, keys, (float)LOG2E);
        for (long c = 0; c < keys * attn_lanes; c += W)
            STORE(s + c, ADD(LOAD(s + c), LOAD(bt + c)));
    }
    hide(p, s, keys, j, queries, i);
    if (p->blocks) hide_blocks(p, s, keys, j, queries, i);
}

// Makes the scores of a tile probabilities but for their sum: 2^(s - top), where
// top is the largest score so far; the sums so far follow suit.
INLINE void soften(float* s, long keys, long nv, float* top, float* sum, float* ot, long d)
{
    for (long n = 0; n < nv * 16; n += W) {
        const V before = LOAD(top + n);
        V m = before;
        for (long j = 0; j < keys; j++)
            m = MAX(LOAD(s + j * attn_lanes + n), m);
        STORE(top + n, m);
        const V at = MAX(m, SET1(-__FLT_MAX__)); // -Inf less -Inf is NaN
        V l = SET1(0);
        for (long j = 0; j < keys; j++) {
            const V e = pow2(SUB(LOAD(s + j * attn_lanes + n), at));
            STORE(s + j * attn_lanes + n, e);
            l = ADD(l, e);
        }
        if (EQUAL(before, m)) {
            STORE(sum + n, ADD(LOAD(sum + n), l));
            continue;
        }
        const V less = pow2(SUB(before, at));
        STORE(sum + n, FMA(LOAD(sum + n), less, l));
        for (long c = 0; c < d; c++)
            STORE(ot + c * attn_lanes + n, MUL(LOAD(ot + c * attn_lanes + n), less));
    }
}

static void forward(const attn_head* p, void* out, float* lse, const void* q, const void* k,
                    const void* v, const float* bias, float* scratch)
{
    const long d = p->d, pad = attn_pad(d), panel = d * attn_lanes;
    const long all = (p->i1 - p->i0 + attn_lanes - 1) / attn_lanes * attn_lanes;
    float *qt = scratch, *ot = qt + d * attn_block, *top = ot + d * attn_block;
    float* sum = top + attn_block;
    float *s = sum + attn_block, *bt = s + attn_panel, *kb = bt + attn_panel;
    float *vb = kb + attn_keys * pad, *row = vb + attn_keys * pad;
    EACH_LANES(b, i, queries)
    turn_in(qt + b * panel, element_at(q, i * p->row_q, p->kind), p->row_q, p->kind, queries, d,
            (float)(p->scale * LOG2E));
    for (long c = 0; c < d * all; c++)
        ot[c] = 0;
    for (long c = 0; c < all; c++) {
        top[c] = -__builtin_inff();
        sum[c] = 0;
    }
    long lo = 0, hi = p->lk;
    span(p, p->i0, p->i1 - p->i0, &lo, &hi);
    for (long j = lo; j < hi; j += attn_keys) {
        const long keys = hi - j < attn_keys ? hi - j : attn_keys;
        long ldk, ldv;
        if (!left(p, keys, j, p->i1 - p->i0, p->i0)) continue;
        const float* kr = rows(kb, k, j * p->row_k, p->row_k, p->kind, keys, d, 0, &ldk);
        const float* vr = rows(vb, v, j * p->row_k, p->row_k, p->kind, keys, d, 0, &ldv);
        EACH_LANES(b, i, queries)
        {
            long first = j, last = j + keys;
            span(p, i, queries, &first, &last);
            const long n = last - first, nv = (queries + 15) / 16;
            if (n <= 0 || !left(p, n, first, queries, i)) continue;
            float *o = ot + b * panel, *t = top + b * attn_lanes, *l = sum + b * attn_lanes;
            tile_scores(p, s, n, first, queries, i, kr + (first - j) * ldk, ldk, qt + b * panel,
                        bias, bt);
            soften(s, n, nv, t, l, o, d);
            gather(n, nv, d, vr + (first - j) * ldv, ldv, s, o);
        }
    }
    EACH_LANES(b, i, queries)
    {
        float *l = sum + b * attn_lanes, *o = ot + b * panel;
        for (long c = 0; c < queries; c++) {
            lse[i + c] = (float)(LN2 * (top[b * attn_lanes + c] + log2(l[c])));
            l[c] = l[c] == 0 ? 0 : 1 / l[c];
        }
        for (long c = 0; c < d; c++)
            for (long x = 0; x < attn_lanes; x += W)
                STORE(o + c * attn_lanes + x, MUL(LOAD(o + c * attn_lanes + x), LOAD(l + x)));
        if (p->kind == 0) {
            turn_out((float*)out + i * p->row_q, p->row_q, o, queries, d, 1, 0);
            continue;
        }
        for (long c = 0; c < queries; c++) {
            for (long x = 0; x < d; x++)
                row[x] = o[x * attn_lanes + c];
            narrow((uint16_t*)out + (i + c) * p->row_q, row, d, p->kind);
        }
    }
}

// lse of queries i.. in base 2, +Inf where there is none: 2^(s - lse) is the probability.
INLINE void lse2(float* dst, const float* lse, long i, long queries)
{
    for (long c = 0; c < attn_lanes; c++)
        dst[c] = c < queries && lse[i + c] != -__builtin_inff() ? (float)(LOG2E * lse[i + c])
                                                                : __builtin_inff();
}

INLINE void probabilities(float* s, long keys, long nv, const float* lse)
{
    for (long n = 0; n < nv * 16; n += W) {
        const V l = LOAD(lse + n);
        for (long j = 0; j < keys; j++)
            STORE(s + j * attn_lanes + n, pow2(SUB(LOAD(s + j * attn_lanes + n), l)));
    }
}

// The gradient by the probabilities of keys j.. and queries i.., where it is given.
INLINE void given(const attn_head* p, float* t, long keys, long j, long queries, long i,
                  const float* grad, const int32_t* slot)
{
    const float* row = grad + i * p->row_maps;
    if (!slot) {
        turn_in(t, row + j, p->row_maps, 0, queries, keys, p->share);
        return;
    }
    for (long r = 0; r < keys; r++)
        for (long c = 0; c < attn_lanes; c++)
            t[r * attn_lanes + c] =
                slot[j + r] >= 0 && c < queries ? p->share * row[c * p->row_maps + slot[j + r]] : 0;
}

static void backward(const attn_head* p, float* dq, float* dk, float* dv, float* dbias,
                     const void* q, const void* k, const void* v, const void* dout,
                     const float* lse, const float* delta, const float* bias, const float* grad,
                     const int32_t* slot, float* scratch)
{
    const long d = p->d, pad = attn_pad(d), panel = d * attn_lanes, rq = p->row_q;
    float *qt = scratch, *dot = qt + panel, *dqt = dot + panel, *l = dqt + panel;
    float *dl = l + attn_lanes, *s = dl + attn_lanes, *t = s + attn_panel, *bt = t + attn_panel;
    float *qb = bt + attn_panel, *dob = qb + attn_lanes * pad, *kb = dob + attn_lanes * pad;
    float* vb = kb + attn_chunk * pad;
    for (long i = p->i0; i < p->i1; i++)
        for (long c = 0; c < d; c++)
            dq[i * rq + c] = 0;
    for (long c0 = p->j0; c0 < p->j1; c0 += attn_chunk) {
        const long c1 = p->j1 - c0 < attn_chunk ? p->j1 : c0 + attn_chunk;
        long ldk, ldv = 0, ldq = 0, ldo = 0, at = c0 * p->row_k;
        const float *kr = rows(kb, k, at, p->row_k, p->kind, c1 - c0, d, 0, &ldk), *vr = 0;
        if (!grad) vr = rows(vb, v, at, p->row_k, p->kind, c1 - c0, d, 0, &ldv);
        EACH_LANES(b, i, queries)
        {
            long lo = c0, hi = c1;
            span(p, i, queries, &lo, &hi);
            if (lo >= hi) continue;
            const long nv = (queries + 15) / 16;
            const float *qr = 0, *dor = 0;
            turn_in(qt, element_at(q, i * rq, p->kind), rq, p->kind, queries, d,
                    (float)(p->scale * LOG2E));
            if (!grad) turn_in(dot, element_at(dout, i * rq, p->kind), rq, p->kind, queries, d, 1);
            if (dk) qr = rows(qb, q, i * rq, rq, p->kind, queries, d, 1, &ldq);
            if (dv) dor = rows(dob, dout, i * rq, rq, p->kind, queries, d, 1, &ldo);
            lse2(l, lse, i, queries);
            for (long c = 0; c < attn_lanes; c++)
                dl[c] = c < queries ? delta[i + c] : 0;
            for (long c = 0; c < panel; c++)
                dqt[c] = 0;
            for (long j = lo; j < hi; j += attn_keys) {
                const long keys = hi - j < attn_keys ? hi - j : attn_keys;
                const float* kj = kr + (j - c0) * ldk;
                if (!left(p, keys, j, queries, i)) continue;
                tile_scores(p, s, keys, j, queries, i, kj, ldk, qt, bias, bt);
                probabilities(s, keys, nv, l);
                if (dv) scatter(keys, queries, pad / 16, s, dor, ldo, dv + (j - p->j0) * pad, pad);
                if (grad)
                    given(p, t, keys, j, queries, i, grad, slot);
                else
                    scores(keys, nv, d, vr + (j - c0) * ldv, ldv, dot, t);
                for (long r = 0; r < keys; r++)
                    for (long n = 0; n < nv * 16; n += W) {
                        float* x = t + r * attn_lanes + n;
                        STORE(x, MUL(LOAD(s + r * attn_lanes + n), SUB(LOAD(x), LOAD(dl + n))));
                    }
                if (dbias) turn_out(dbias + i * p->lk + j, p->lk, t, queries, keys, 1, 1);
                if (dk) scatter(keys, queries, pad / 16, t, qr, ldq, dk + (j - p->j0) * pad, pad);
                gather(keys, nv, d, kj, ldk, t, dqt);
            }
            turn_out(dq + i * rq, rq, dqt, queries, d, (float)p->scale, 1);
        }
    }
}

static void maps(const attn_head* p, float* maps, int more, const void* q, const void* k,
                 const float* lse, const float* bias, const int32_t* chosen, int64_t n,
                 float* scratch)
{
    const long d = p->d;
    float *qt = scratch, *l = qt + d * attn_lanes, *s = l + attn_lanes;
    float *bt = s + attn_panel, *kb = bt + attn_panel;
    EACH_LANES(b, i, queries)
    {
        turn_in(qt, element_at(q, i * p->row_q, p->kind), p->row_q, p->kind, queries, d,
                (float)(p->scale * LOG2E));
        lse2(l, lse, i, queries);
        for (long j = 0; j < n; j += attn_keys) {
            const long keys = n - j < attn_keys ? n - j : attn_keys;
            long ldk;
            for (long r = 0; chosen && r < keys; r++) {
                const long key = chosen[j + r];
                const float* row = rows(kb, k, key * p->row_k, p->row_k, p->kind, 1, d, 0, &ldk);
                tile_scores(p, s + r * attn_lanes, 1, key, queries, i, row, ldk, qt, bias, bt);
            }
            if (!chosen) {
                const float* kr = rows(kb, k, j * p->row_k, p->row_k, p->kind, keys, d, 0, &ldk);
                tile_scores(p, s, keys, j, queries, i, kr, ldk, qt, bias, bt);
            }
            for (long r = 0; r < keys; r++)
                for (long c = 0; (chosen ? chosen[j + r] : j + r) >= p->keys && c < queries; c++)
                    s[r * attn_lanes + c] = -__builtin_inff();
            probabilities(s, keys, (queries + 15) / 16, l);
            turn_out(maps + i * p->row_maps + j, p->row_maps, s, queries, keys, p->share, more);
        }
    }
}

static void delta(const attn_head* p, float* delta, const void* q, const void* k, const float* lse,
                  const float* bias, const float* grad, const int32_t* slot, float* scratch)
{
    const long d = p->d;
    float *qt = scratch, *l = qt + d * attn_lanes, *sum = l + attn_lanes, *s = sum + attn_lanes;
    float *t = s + attn_panel, *bt = t + attn_panel, *kb = bt + attn_panel;
    EACH_LANES(b, i, queries)
    {
        const long nv = (queries + 15) / 16;
        turn_in(qt, element_at(q, i * p->row_q, p->kind), p->row_q, p->kind, queries, d,
                (float)(p->scale * LOG2E));
        lse2(l, lse, i, queries);
        for (long c = 0; c < attn_lanes; c++)
            sum[c] = 0;
        long lo = 0, hi = p->lk, ldk;
        span(p, i, queries, &lo, &hi);
        for (long j = lo; j < hi; j += attn_keys) {
            const long keys = hi - j < attn_keys ? hi - j : attn_keys;
            const float* kr = rows(kb, k, j * p->row_k, p->row_k, p->kind, keys, d, 0, &ldk);
            tile_scores(p, s, keys, j, queries, i, kr, ldk, qt, bias, bt);
            probabilities(s, keys, nv, l);
            given(p, t, keys, j, queries, i, grad, slot);
            for (long n = 0; n < nv * 16; n += W) {
                V x = LOAD(sum + n);
                for (long r = 0; r < keys; r++)
                    x = FMA(LOAD(s + r * attn_lanes + n), LOAD(t + r * attn_lanes + n), x);
                STORE(sum + n, x);
            }
        }
        for (long c = 0; c < queries; c++)
            delta[i + c] = sum[c];
    }
}
