// Attention of a few queries of each sequence over keys and values in pages: blocks work on pieces
// of the keys, a second kernel puts the pieces together.
#pragma once
#include "attention_forward.h"

namespace attention {

// How many rows a block works on: the queries of the heads that share a key head, query by query.
constexpr int DECODE_ROWS = 16;

// Keys and values in pages: [pages, 1 << shift, kvHeads, d]; key j of sequence b lies in page
// table[b, j >> shift], of which each sequence has count.
struct Paged {
    const int *table, *lens;
    int count, shift;
};

template <class T> struct DecodeArgs {
    float* part; // [batch, lq, heads, pieces, d]: sums of exp2(s - most) v
    float*
        stats; // [batch, lq, heads, pieces, 2]: most, the greatest s in units of log 2; sum exp2(s - most)
    const T *q, *k, *v;
    Paged pages;
    float scale;
    int left, right, heads, kvHeads, lq, d, pieces, aligned;
};

// Where a block works: rows first .. first + rows - 1 of the group * lq of a sequence and key head.
struct DecodePlace {
    int b, head, piece, group, first, rows;
    int keys, lo, hi; // query i sees keys max(0, i + lo) <= j < min(keys, i + hi)

    __device__ __forceinline__ int query(int row) const { return (first + row) / group; }
    // Place of a row among [batch, lq, heads].
    __device__ __forceinline__ size_t at(int row, int lq, int heads) const
    {
        const int r = first + row;
        return ((size_t)b * lq + r / group) * heads + head * group + r % group;
    }
    __device__ __forceinline__ int begin(int row) const { return max(0, query(row) + lo); }
    __device__ __forceinline__ int end(int row) const { return min(keys, query(row) + hi); }
};

// Key heads lie side by side in a page, so blocks of one piece of the keys are neighbours.
template <class T>
__device__ __forceinline__ DecodePlace decodePlace(const DecodeArgs<T>& a, unsigned block)
{
    DecodePlace s;
    s.head = block % (unsigned)a.kvHeads;
    block /= (unsigned)a.kvHeads;
    s.piece = block % (unsigned)a.pieces;
    block /= (unsigned)a.pieces;
    s.group = a.heads / a.kvHeads;
    const int all = s.group * a.lq;
    const unsigned tiles = (unsigned)(all + DECODE_ROWS - 1) / DECODE_ROWS;
    s.first = block % tiles * DECODE_ROWS;
    s.rows = min(DECODE_ROWS, all - s.first);
    s.b = block / tiles;
    s.keys = max(0, min(a.pages.lens[s.b], a.pages.count << a.pages.shift));
    s.lo = a.left < 0 ? -a.lq : s.keys - a.lq - a.left;
    s.hi = a.right < 0 ? s.keys : s.keys - a.lq + a.right + 1;
    return s;
}

// Element of 16 bytes number chunk of a row: 16-bit tiles are those of attention_tile.h, float rows
// have four words between them, so that equal columns of eight rows lie in all banks.
template <class T, int WIDTH> __device__ __forceinline__ int decodeAt(int row, int chunk)
{
    if constexpr (sizeof(T) == 2)
        return tileAt<WIDTH>(row, chunk);
    else
        return row * (WIDTH + 4) + 4 * chunk;
}

// Copies the rows that rowOf gives, null for zeros, into a tile, and zero-fills columns from d on.
template <class T, int ROWS, int WIDTH, int THREADS, class F>
__device__ __forceinline__ void loadRows(T* tile, int d, bool aligned, F rowOf)
{
    constexpr int EACH = 16 / sizeof(T), CHUNKS = WIDTH / EACH;
    constexpr int STEP = THREADS >= CHUNKS ? THREADS / CHUNKS : 1;
    static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "one chunk a thread");
    const int thread = opaque(threadIdx.x), row = thread / CHUNKS, chunk = thread % CHUNKS;
    const bool inside = chunk * EACH < d;
#pragma unroll
    for (int r = 0; r < ROWS; r += STEP) {
        const T* const from = inside ? rowOf(row + r) : nullptr;
        T* const to = tile + decodeAt<T, WIDTH>(row + r, chunk);
        if (aligned) {
            copyAsync16(to, from ? from + chunk * EACH : rowOf(-1), from != nullptr);
            continue;
        }
#pragma unroll 1
        for (int e = 0; e < EACH; e++)
            to[e] = from && chunk * EACH + e < d ? from[chunk * EACH + e] : fromFloat<T>(0.f);
    }
}

// Copies the rows' queries.
template <class T, int WIDTH, int THREADS>
__device__ __forceinline__ void loadQueries(T* tile, const DecodeArgs<T>& a,
                                            const DecodePlace& here)
{
    loadRows<T, DECODE_ROWS, WIDTH, THREADS>(tile, a.d, a.aligned, [&](int row) -> const T* {
        if (row < 0) return a.q;
        return row < here.rows ? a.q + here.at(row, a.lq, a.heads) * a.d : nullptr;
    });
}

// Copies keys or values j0 .. end - 1 of one head.
template <class T, int KEYS, int WIDTH, int THREADS>
__device__ __forceinline__ void loadPages(T* tile, const T* src, const DecodeArgs<T>& a,
                                          const DecodePlace& here, int j0, int end)
{
    const int* const table = a.pages.table + (size_t)here.b * a.pages.count;
    const size_t stride = (size_t)a.kvHeads * a.d;
    const T* const head = src + (size_t)here.head * a.d;
    loadRows<T, KEYS, WIDTH, THREADS>(tile, a.d, a.aligned, [&](int row) -> const T* {
        if (row < 0) return src;
        const int j = j0 + row, shift = a.pages.shift;
        if (j >= end) return nullptr;
        const size_t slot = ((size_t)table[j >> shift] << shift) + (j & ((1 << shift) - 1));
        return head + slot * stride;
    });
}

// First key of the first of a piece's tiles: piece p has the tiles p, p + pieces, ..., so that all
// pieces of a short sequence have work.
template <int KEYS> __device__ __forceinline__ int firstKey(const DecodePlace& here, int pieces)
{
    const int tile = here.begin(0) / KEYS;
    return (tile + (here.piece - tile % pieces + pieces) % pieces) * KEYS;
}

// 16-bit tensors, on tensor cores: 16 rows, of which few may be in use, by 64 keys a step, 16 for
// each warp. The next step's keys are copied under this step's softmax and second product.
template <class T, int WIDTH> __device__ __forceinline__ void decode(const DecodeArgs<T>& a)
{
    constexpr int WARPS = 4, KEYS = 16 * WARPS, THREADS = 32 * WARPS, N = WIDTH / 8;
    DYNAMIC_SHARED(T, shared);
    T* const sq = shared;
    T* const sk = sq + DECODE_ROWS * WIDTH;
    T* const sv = sk + KEYS * WIDTH;

    const DecodePlace here = decodePlace(a, blockIdx.x);
    const int lane = threadIdx.x & 31, warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    const int end = here.end(here.rows - 1), step = a.pieces * KEYS;
    int from[2], to[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int row = (lane >> 2) + 8 * r;
        from[r] = row < here.rows ? here.begin(row) : 0;
        to[r] = row < here.rows ? here.end(row) : 0;
    }

    float out[1][N][4] = {};
    Softmax<1> soft;
    int j0 = firstKey<KEYS>(here, a.pieces);
    loadQueries<T, WIDTH, THREADS>(sq, a, here);
    if (j0 < end) loadPages<T, KEYS, WIDTH, THREADS>(sk, a.k, a, here, j0, end);
    copyAsyncCommit();
    for (; j0 < end; j0 += step) {
        copyAsyncWait<0>();
        __syncthreads(); // keys are here, and every warp is done with the last step's values
        loadPages<T, KEYS, WIDTH, THREADS>(sv, a.v, a, here, j0, end);
        copyAsyncCommit();
        float s[1][2][4] = {};
        multiplyRows<T, WIDTH, 1, 2>(s, sq, 0, sk, 16 * warp);

        copyAsyncWait<0>();
        __syncthreads(); // values are here, and every warp is done with the keys
        if (j0 + step < end) loadPages<T, KEYS, WIDTH, THREADS>(sk, a.k, a, here, j0 + step, end);
        copyAsyncCommit();
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int j = j0 + 16 * warp + 8 * n + 2 * (lane & 3) + (e & 1);
                s[0][n][e] =
                    j < from[e >> 1] || j >= to[e >> 1] ? -INFINITY : s[0][n][e] * a.scale * LOG2E;
            }
        soft.template update<2, N>(s, out, 1.f);
        multiplyHeld<T, WIDTH, 1, 2, N>(out, s, sv + 16 * warp * WIDTH, 0);
    }
    copyAsyncWait<0>();
    __syncthreads(); // tiles are free for the warps' results
    soft.finish();

    // Each warp's greatest score and sum of each row, then its sums of values.
    float* const ends = (float*)sq; // [WARPS, 16, 2]
    float* const sums = (float*)sk; // [WARPS, 16, WIDTH]
#pragma unroll
    for (int r = 0; r < 2; r++)
        if ((lane & 3) == 0) {
            float* const e = ends + (warp * DECODE_ROWS + (lane >> 2) + 8 * r) * 2;
            e[0] = soft.most[0][r];
            e[1] = soft.sum[0][r];
        }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            sums[(warp * DECODE_ROWS + (lane >> 2) + 8 * (e >> 1)) * WIDTH + 8 * n +
                 2 * (lane & 3) + (e & 1)] = out[0][n][e];
    __syncthreads();
#pragma unroll 1
    for (int row = warp; row < here.rows; row += WARPS) {
        float most[WARPS], top = -INFINITY, total = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            most[w] = ends[(w * DECODE_ROWS + row) * 2];
            top = fmaxf(top, most[w]);
        }
        const float base = top == -INFINITY ? 0.f : top;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            most[w] = exp2Approx(most[w] - base);
            total = fmaf(most[w], ends[(w * DECODE_ROWS + row) * 2 + 1], total);
        }
        const size_t at = here.at(row, a.lq, a.heads) * a.pieces + here.piece;
        if (lane == 0) {
            a.stats[2 * at] = top;
            a.stats[2 * at + 1] = total;
        }
        for (int x = lane; x < a.d; x += 32) {
            float sum = 0.f;
#pragma unroll
            for (int w = 0; w < WARPS; w++)
                sum = fmaf(most[w], sums[(w * DECODE_ROWS + row) * WIDTH + x], sum);
            a.part[at * a.d + x] = sum;
        }
    }
}

// Float tensors, exact float products: eight threads a row, 32 keys a step.
template <int WIDTH> __device__ __forceinline__ void decode32(const DecodeArgs<float>& a)
{
    constexpr int KEYS = 32, THREADS = 8 * DECODE_ROWS, ROW = WIDTH + 4, HELD = KEYS + 8;
    constexpr int G = WIDTH / 32; // groups of 4 columns of a thread, 32 apart
    DYNAMIC_SHARED(float, shared);
    float* const sq = shared;
    float* const sk = sq + DECODE_ROWS * ROW;
    float* const sv = sk + KEYS * ROW;
    const int row = threadIdx.x / 8, c = threadIdx.x % 8;
    float* const held = sv + KEYS * ROW + row * HELD;

    const DecodePlace here = decodePlace(a, blockIdx.x);
    const int end = here.end(here.rows - 1), step = a.pieces * KEYS;
    const int from = row < here.rows ? here.begin(row) : 0;
    const int to = row < here.rows ? here.end(row) : 0;
    float4 out[G] = {};
    float most = -INFINITY, sum = 0.f; // sum over this thread's keys only, until the end
    int j0 = firstKey<KEYS>(here, a.pieces);
    loadQueries<float, WIDTH, THREADS>(sq, a, here);
    if (j0 < end) loadPages<float, KEYS, WIDTH, THREADS>(sk, a.k, a, here, j0, end);
    copyAsyncCommit();
    for (; j0 < end; j0 += step) {
        copyAsyncWait<0>();
        __syncthreads(); // keys are here, and every warp is done with the last step's values
        loadPages<float, KEYS, WIDTH, THREADS>(sv, a.v, a, here, j0, end);
        copyAsyncCommit();
        float s[4] = {};
#pragma unroll 4
        for (int x = 0; x < WIDTH; x += 4) {
            const float4 q = *(const float4*)(sq + row * ROW + x);
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const float4 k = *(const float4*)(sk + (c + 8 * n) * ROW + x);
                s[n] = fmaf(q.x, k.x, fmaf(q.y, k.y, fmaf(q.z, k.z, fmaf(q.w, k.w, s[n]))));
            }
        }
        copyAsyncWait<0>();
        __syncthreads(); // values are here, and every warp is done with the keys
        if (j0 + step < end)
            loadPages<float, KEYS, WIDTH, THREADS>(sk, a.k, a, here, j0 + step, end);
        copyAsyncCommit();

        float top = most;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const int j = j0 + c + 8 * n;
            s[n] = j < from || j >= to ? -INFINITY : s[n] * a.scale;
            top = fmaxf(top, s[n]);
        }
#pragma unroll
        for (int x = 1; x < 8; x <<= 1)
            top = fmaxf(top, __shfl_xor_sync(~0u, top, x));
        // A row that has seen no key yet keeps exp2(-inf - 0) = 0.
        const float base = top == -INFINITY ? 0.f : top;
        const float shrink = exp2Approx((most - base) * LOG2E);
        most = top;
        sum *= shrink;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const float p = exp2Approx((s[n] - base) * LOG2E);
            sum += p;
            held[c + 8 * n] = p;
        }
#pragma unroll
        for (int g = 0; g < G; g++)
            out[g].x *= shrink, out[g].y *= shrink, out[g].z *= shrink, out[g].w *= shrink;
        __syncwarp(); // the row's exponentials are here
#pragma unroll 4
        for (int j = 0; j < KEYS; j++) {
            const float p = held[j];
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float4 v = *(const float4*)(sv + j * ROW + 4 * c + 32 * g);
                out[g].x = fmaf(p, v.x, out[g].x);
                out[g].y = fmaf(p, v.y, out[g].y);
                out[g].z = fmaf(p, v.z, out[g].z);
                out[g].w = fmaf(p, v.w, out[g].w);
            }
        }
        __syncwarp(); // before the next step's are written
    }
    copyAsyncWait<0>();
#pragma unroll
    for (int x = 1; x < 8; x <<= 1)
        sum += __shfl_xor_sync(~0u, sum, x);
    if (row >= here.rows) return;
    const size_t at = here.at(row, a.lq, a.heads) * a.pieces + here.piece;
    if (c == 0) {
        a.stats[2 * at] = most * LOG2E;
        a.stats[2 * at + 1] = sum;
    }
    float* const dst = a.part + at * a.d;
#pragma unroll
    for (int g = 0; g < G; g++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int x = 4 * c + 32 * g + e;
            if (x < a.d)
                dst[x] = e == 0 ? out[g].x : e == 1 ? out[g].y : e == 2 ? out[g].z : out[g].w;
        }
}

// Puts a row's pieces together, one warp a row: pieces <= 64, d <= 256.
template <class T>
__device__ __forceinline__ void decodeMerge(T* out, float* lse, const float* part,
                                            const float* stats, int rows, int heads, int lq, int d,
                                            int pieces)
{
    const int lane = threadIdx.x & 31;
    const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const float* const own = stats + row * pieces * 2;
    float most[2], sum[2], top = -INFINITY;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int p = lane + 32 * k;
        most[k] = p < pieces ? own[2 * p] : -INFINITY;
        sum[k] = p < pieces ? own[2 * p + 1] : 0.f;
        top = fmaxf(top, most[k]);
    }
    top = warpMax(top);
    const float base = top == -INFINITY ? 0.f : top;
    float total = 0.f;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        most[k] = exp2Approx(most[k] - base);
        total = fmaf(most[k], sum[k], total);
    }
    total = warpSum(total);
    float acc[8] = {};
#pragma unroll 2
    for (int p = 0; p < pieces; p++) {
        const float share = __shfl_sync(~0u, p < 32 ? most[0] : most[1], p & 31);
        const float* const from = part + (row * pieces + p) * d;
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (lane + 32 * k < d) acc[k] = fmaf(share, from[lane + 32 * k], acc[k]);
    }
    const float scale = total == 0.f ? 0.f : 1.f / total; // a NaN stays one
#pragma unroll
    for (int k = 0; k < 8; k++)
        if (lane + 32 * k < d) out[row * d + lane + 32 * k] = fromFloat<T>(acc[k] * scale);
    if (lane == 0) {
        const long long h = row % heads, i = row / heads % lq, b = row / heads / lq;
        lse[(b * heads + h) * lq + i] = total == 0.f ? -INFINITY : top * LN2 + logf(total);
    }
}

// Writes rows of keys and values [batch, length, width] to the places lens - length and on of their
// sequences; a thread copies one U. Rows before a sequence's start or past its pages, and pages that
// there are not, are left out.
template <class U>
__device__ __forceinline__ void appendPages(U* kPages, U* vPages, const U* k, const U* v, Paged to,
                                            int batch, int length, int width, int pages)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long row = at / width;
    if (row >= (long long)batch * length) return;
    const int b = static_cast<int>(row / length), x = static_cast<int>(at % width);
    const long long j = (long long)to.lens[b] - length + row % length;
    if (j < 0 || j >= (long long)to.count << to.shift) return;
    const int page = to.table[(long long)b * to.count + (j >> to.shift)];
    if (page < 0 || page >= pages) return;
    const long long slot = ((long long)page << to.shift) + (j & ((1 << to.shift) - 1));
    kPages[slot * width + x] = k[at];
    vPages[slot * width + x] = v[at];
}

} // namespace attention
