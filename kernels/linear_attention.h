// What the kernels of linear attention do for a chunk of tokens of a head.
#pragma once
#include "functions.h"

inline namespace thisfile {

constexpr int linearThreads = 256;
constexpr int mostTokens = 32; // of a chunk

// One chunk of one head, in shared memory: rows of queries, keys, values, and the sums of the
// logarithms of the decays from the chunk's first token on. Rows beyond the chunk are zeros.
template <bool VECTOR, class T> struct Chunk {
    T *q, *k, *v, *sums;
    int rows, strideK, strideV, strideS; // rows: of tokens, a multiple of 4
    int tokens, head, first;             // of this chunk; matrix of its states
    size_t row, step;                    // of the first token in memory, and to the next

    // Takes memory from shared on and returns what is behind it.
    __device__ __forceinline__ T* init(T* shared, int length, int heads, int d, int e, int chunk)
    {
        const int chunks = (length + chunk - 1) / chunk, c = blockIdx.x % chunks;
        const int bh = blockIdx.x / chunks;
        rows = (chunk + 3) / 4 * 4;
        strideK = d + 1;
        strideV = e + 1;
        strideS = VECTOR ? d + 1 : 1;
        tokens = min(chunk, length - c * chunk);
        head = bh;
        first = c * chunk;
        row = (static_cast<size_t>(bh / heads) * length + first) * heads + bh % heads;
        step = heads;
        q = shared;
        k = q + rows * strideK;
        v = k + rows * strideK;
        sums = v + rows * strideV;
        return sums + rows * strideS;
    }

    // Reads n columns; null stands for zeros.
    __device__ __forceinline__ void take(T* to, const T* from, int stride, int n) const
    {
        const int lane = threadIdx.x & 31;
#pragma unroll 1
        for (int i = threadIdx.x >> 5; i < rows; i += linearThreads / 32)
#pragma unroll 1
            for (int c = lane; c < n; c += 32)
                to[i * stride + c] =
                    i < tokens && from != nullptr ? from[(row + i * step) * n + c] : T(0);
    }

    // sums, of what take has put there: after a barrier, and before another.
    __device__ __forceinline__ void accumulate(int d) const
    {
#pragma unroll 1
        for (int c = threadIdx.x; c < (VECTOR ? d : 1); c += linearThreads)
#pragma unroll 1
            for (int i = 1; i < rows; i++)
                sums[i * strideS + c] += sums[(i - 1) * strideS + c];
    }

    // What is left at token i, in column c, of what token j put in.
    __device__ __forceinline__ T left(int i, int j, int c) const
    {
        const int at = VECTOR ? c : 0;
        return expOf(sums[i * strideS + at] - sums[j * strideS + at]);
    }

    // The same of what was there before the chunk.
    __device__ __forceinline__ T leftOfPast(int i, int c) const
    {
        return expOf(sums[i * strideS + (VECTOR ? c : 0)]);
    }

    // What query i has of key j.
    __device__ __forceinline__ T score(int i, int j, int d) const
    {
        T sum = 0;
#pragma unroll 1
        for (int c = 0; c < d; c++) {
            const T p = q[i * strideK + c] * k[j * strideK + c];
            sum += VECTOR ? p * left(i, j, c) : p;
        }
        return VECTOR ? sum : sum * left(i, j, 0);
    }
};

// States before, or in reverse after, every chunk: a tile of 32 x 32 of one head's.
template <class T>
__device__ __forceinline__ void statesOf(T* states, T* end, const T* start, const T* x, const T* y,
                                         const T* decay, int length, int heads, int d, int e,
                                         int chunk, int vector, int reverse)
{
    __shared__ T xs[mostTokens][33], ys[mostTokens][33], sums[mostTokens][33];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int across = (e + 31) / 32, down = (d + 31) / 32, tile = blockIdx.x % (across * down);
    const int head = blockIdx.x / (across * down), chunks = (length + chunk - 1) / chunk;
    const int r0 = tile / across * 32, r = r0 + warp * 4, c = tile % across * 32 + lane;
    const size_t size = static_cast<size_t>(d) * e, at = static_cast<size_t>(r) * e + c;
    T s[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        s[i] = start != nullptr && r + i < d && c < e ? start[head * size + at + i * e] : T(0);
    auto put = [&](T* to) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (r + i < d && c < e) to[at + static_cast<size_t>(i) * e] = s[i];
    };
#pragma unroll 1
    for (int n = 0; n < chunks; n++) {
        const int which = reverse ? chunks - 1 - n : n, tokens = min(chunk, length - which * chunk);
        put(states + (static_cast<size_t>(head) * chunks + which) * size);
        const size_t first =
            (static_cast<size_t>(head / heads) * length + which * chunk) * heads + head % heads;
#pragma unroll 1
        for (int i = warp; i < tokens; i += 8) {
            const size_t row = first + static_cast<size_t>(i) * heads;
            const bool in = r0 + lane < d;
            xs[i][lane] = in && x != nullptr ? x[row * d + r0 + lane] : T(0);
            ys[i][lane] = c < e && y != nullptr ? y[row * e + c] : T(0);
            sums[i][lane] =
                in && decay != nullptr ? decay[vector ? row * d + r0 + lane : row] : T(0);
        }
        __syncthreads();
        if (warp == 0) {
#pragma unroll 1
            for (int i = 1; i < tokens; i++)
                sums[i][lane] += sums[i - 1][lane];
        }
        __syncthreads(); // sums are whole
#pragma unroll 1
        for (int i = warp; i < tokens; i += 8)
            xs[i][lane] *= expOf(reverse ? sums[i][lane] : sums[tokens - 1][lane] - sums[i][lane]);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[i] *= expOf(sums[tokens - 1][warp * 4 + i]);
#pragma unroll 2
        for (int t = 0; t < tokens; t++) {
            const T v = ys[t][lane];
#pragma unroll
            for (int i = 0; i < 4; i++)
                s[i] += xs[t][warp * 4 + i] * v;
        }
        __syncthreads(); // before the next chunk is read
    }
    if (end != nullptr) put(end + head * size);
}

// Four rows at a time of sums over j of a[j * stepA + row * stepRow] b[j * ldb + column], over n j.
template <class T>
__device__ __forceinline__ void addRows(T (&acc)[4], const T* a, int stepA, int stepRow, const T* b,
                                        size_t ldb, int n)
{
#pragma unroll 2
    for (int j = 0; j < n; j++) {
        const T x = b[j * ldb];
#pragma unroll
        for (int i = 0; i < 4; i++)
            acc[i] += a[j * stepA + i * stepRow] * x;
    }
}

// Writes column c of four rows from row i on.
template <class C, class T>
__device__ __forceinline__ void putRows(const C& h, T* to, const T (&acc)[4], int i, int c, int n)
{
#pragma unroll
    for (int x = 0; x < 4; x++)
        if (i + x < h.tokens) to[(h.row + (i + x) * h.step) * n + c] = acc[x];
}

// The results of one chunk.
template <bool VECTOR, class T>
__device__ __forceinline__ void outOf(T* shared, T* out, const T* states, const T* q, const T* k,
                                      const T* v, const T* decay, int length, int heads, int d,
                                      int e, int chunk)
{
    Chunk<VECTOR, T> h;
    T* const scores = h.init(shared, length, heads, d, e, chunk);
    const int stride = h.rows + 1;
    h.take(h.q, q, h.strideK, d);
    h.take(h.k, k, h.strideK, d);
    h.take(h.v, v, h.strideV, e);
    h.take(h.sums, decay, h.strideS, VECTOR ? d : 1);
    __syncthreads();
    h.accumulate(d);
    __syncthreads(); // sums are whole
#pragma unroll 1
    for (int p = threadIdx.x; p < h.rows * h.rows; p += linearThreads) {
        const int i = p / h.rows, j = p % h.rows;
        scores[i * stride + j] = j <= i && i < h.tokens ? h.score(i, j, d) : T(0);
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x >> 5; i < h.tokens; i += linearThreads / 32)
#pragma unroll 1
        for (int c = threadIdx.x & 31; c < d; c += 32)
            h.q[i * h.strideK + c] *= h.leftOfPast(i, c);
    __syncthreads();
    states += static_cast<size_t>(blockIdx.x) * d * e;
#pragma unroll 1
    for (int p = threadIdx.x; p < h.rows / 4 * e; p += linearThreads) {
        const int i = p / e * 4, c = p % e;
        T acc[4] = {};
        addRows(acc, scores + i * stride, 1, stride, h.v + c, h.strideV, min(i + 4, h.tokens));
        addRows(acc, h.q + i * h.strideK, 1, h.strideK, states + c, e, d);
        putRows(h, out, acc, i, c, e);
    }
}

// Sets slab[i * strideTo + column], for this thread's column of a matrix [d, e] and its rows i of x, to
// the sums over e of x and the matrix, which goes through the slab, 32 of its columns at a time.
template <class T>
__device__ __forceinline__ void addMatrix(T* slab, const T* matrix, const T* x, int stride, int d,
                                          int e, int strideTo, int column, int row, int step,
                                          int tokens)
{
    T acc[16] = {};
#pragma unroll 1
    for (int from = 0; from < e; from += 32) {
        __syncthreads(); // what the slab had was read
        const int lane = threadIdx.x & 31;
#pragma unroll 1
        for (int r = threadIdx.x >> 5; r < d; r += linearThreads / 32)
            slab[r * 33 + lane] =
                from + lane < e ? matrix[static_cast<size_t>(r) * e + from + lane] : T(0);
        __syncthreads();
        if (column >= d) continue;
#pragma unroll 1
        for (int c = 0; c < min(32, e - from); c++) {
            const T m = slab[column * 33 + c];
#pragma unroll
            for (int n = 0; n < 16; n++) {
                const int i = row + n * step;
                if (i < tokens) acc[n] += x[i * stride + from + c] * m;
            }
        }
    }
    __syncthreads();
    if (column >= d) return;
#pragma unroll
    for (int n = 0; n < 16; n++) {
        const int i = row + n * step;
        if (i < tokens) slab[i * strideTo + column] = acc[n];
    }
}

// What the gradients of one chunk are made of; null for what is not there or not wanted.
template <class T> struct LinearGrads {
    T *dq, *dk, *dv, *slope;
    const T *dout, *states, *backs, *end, *dend;
};

template <bool VECTOR, class T>
__device__ __forceinline__ void backOf(T* shared, const LinearGrads<T>& g, const T* q, const T* k,
                                       const T* v, const T* decay, int length, int heads, int d,
                                       int e, int chunk)
{
    Chunk<VECTOR, T> h;
    T* const douts = h.init(shared, length, heads, d, e, chunk);
    const int stride = h.rows + 1, last = h.tokens - 1;
    T* const scores = douts + h.rows * h.strideV;
    T* const slopes = scores + h.rows * stride; // the gradient by what scores are without the decay
    T* const slab = slopes + h.rows * stride;
    h.take(h.q, q, h.strideK, d);
    h.take(h.k, k, h.strideK, d);
    h.take(h.v, v, h.strideV, e);
    h.take(douts, g.dout, h.strideV, e);
    h.take(h.sums, decay, h.strideS, VECTOR ? d : 1);
    __syncthreads();
    h.accumulate(d);
    __syncthreads(); // sums are whole
#pragma unroll 1
    for (int p = threadIdx.x; p < h.rows * h.rows; p += linearThreads) {
        const int i = p / h.rows, j = p % h.rows;
        T score = 0, slope = 0;
        if (j <= i && i < h.tokens) {
            score = h.score(i, j, d);
#pragma unroll 1
            for (int c = 0; c < e; c++)
                slope += douts[i * h.strideV + c] * h.v[j * h.strideV + c];
            if (!VECTOR) slope *= h.left(i, j, 0);
        }
        scores[i * stride + j] = score;
        slopes[i * stride + j] = slope;
    }
    __syncthreads();

    const size_t size = static_cast<size_t>(d) * e;
    const T* const after = g.backs + blockIdx.x * size;
    int width = 32; // threads of a row of d columns
    while (width < d)
        width *= 2;
    const int c = threadIdx.x % width, row = threadIdx.x / width, step = linearThreads / width;
    // What comes of the state before, over the slab, and then of the chunk's own tokens.
    addMatrix(slab, g.states + blockIdx.x * size, douts, h.strideV, d, e, h.strideK, c, row, step,
              h.tokens);
    if (c < d) {
#pragma unroll 1
        for (int i = row; i < h.tokens; i += step) {
            T sum = slab[i * h.strideK + c] * h.leftOfPast(i, c);
#pragma unroll 1
            for (int j = 0; j <= i; j++) {
                const T x = slopes[i * stride + j] * h.k[j * h.strideK + c];
                sum += VECTOR ? x * h.left(i, j, c) : x;
            }
            const size_t at = (h.row + i * h.step) * d + c;
            if (g.dq != nullptr) g.dq[at] = sum;
            if (g.slope != nullptr) g.slope[at] = sum * h.q[i * h.strideK + c];
        }
    }
    addMatrix(slab, after, h.v, h.strideV, d, e, h.strideK, c, row, step, h.tokens);
    if (c < d) {
#pragma unroll 1
        for (int j = row; j < h.tokens; j += step) {
            T sum = slab[j * h.strideK + c] * h.left(last, j, c);
#pragma unroll 1
            for (int i = j; i < h.tokens; i++) {
                const T x = slopes[i * stride + j] * h.q[i * h.strideK + c];
                sum += VECTOR ? x * h.left(i, j, c) : x;
            }
            const size_t at = (h.row + j * h.step) * d + c;
            if (g.dk != nullptr) g.dk[at] = sum;
            if (g.slope == nullptr) continue;
            T s = g.slope[at] - sum * h.k[j * h.strideK + c];
            if (g.dend != nullptr && h.first + j == length - 1) {
                const size_t from = h.head * size + static_cast<size_t>(c) * e;
#pragma unroll 1
                for (int x = 0; x < e; x++)
                    s += g.dend[from + x] * g.end[from + x];
            }
            g.slope[at] = s;
        }
    }
    if (g.dv == nullptr) return;
    __syncthreads(); // keys were read
#pragma unroll 1
    for (int i = threadIdx.x >> 5; i < h.tokens; i += linearThreads / 32)
#pragma unroll 1
        for (int x = threadIdx.x & 31; x < d; x += 32)
            h.k[i * h.strideK + x] *= h.left(last, i, x);
    __syncthreads();
#pragma unroll 1
    for (int p = threadIdx.x; p < h.rows / 4 * e; p += linearThreads) {
        const int j = p / e * 4, x = p % e;
        T sum[4] = {};
        addRows(sum, scores + j * stride + j, stride, 1, douts + j * h.strideV + x, h.strideV,
                h.tokens - j);
        addRows(sum, h.k + j * h.strideK, 1, h.strideK, after + x, e, d);
        putRows(h, g.dv, sum, j, x, e);
    }
}

} // namespace thisfile
