// The rows of a set that are nearest to each of many vectors.
#include "pair_tile.h"

inline namespace thisfile {

// ROOM is how many rows are kept in question for a vector and a piece of the set; MOST is how many
// nearest there may be.
constexpr int ROOM = 96, MOST = 32, HALF = 16, WARPS = THREADS / 32;
static_assert(MOST == 2 * HALF && ROOM % HALF == 0 && ROOM > 2 * MOST, "two of a lane, and room");

template <class T> __device__ __forceinline__ void centre(T* out, const T* y, int m, int d)
{
    const int c = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    if (c >= d) return;
    const int step = (m + TILE - 1) / TILE;
    double s = 0;
    int n = 0;
    for (int row = 0; row < m; row += step) {
        const double v = static_cast<double>(y[static_cast<long long>(row) * d + c]);
        if (!(fabs(v) < static_cast<double>(limits<T>::huge / 4))) continue;
        s += v * (1. / TILE); // so that no sum is too great
        n++;
    }
    out[c] = n > 0 ? static_cast<T>(s / n * TILE) : T(0);
}

template <class T>
__device__ __forceinline__ void around(T* sizes, const T* x, const T* centre, int n, int d)
{
    const int row = static_cast<int>(blockIdx.x) * WARPS + static_cast<int>(threadIdx.x) / 32;
    if (row >= n) return;
    double s = 0;
    for (int c = threadIdx.x % 32; c < d; c += 32) {
        const double v = static_cast<double>(x[static_cast<long long>(row) * d + c] - centre[c]);
        s += v * v;
    }
    s = warpSum(s);
    if (threadIdx.x % 32 != 0) return;
    sizes[row] = static_cast<T>(s);
    sizes[static_cast<long long>(n) + row] = static_cast<T>(sqrt(s));
}

template <class T>
__device__ __forceinline__ void find(int* at, T* low, int* count, T* cap, const T* x, const T* y,
                                     const T* centre, const T* xs, const T* ys, int n, int m, int d,
                                     int k, int apart, int pieces, T slack)
{
    __shared__ T a[DEPTH][PITCH], b[DEPTH][PITCH];
    // Of each row the least of what its distances are at most, rising, the k-th of them, and how
    // many rows are in question. A row's 16 threads alone touch them, and seldom.
    __shared__ T near[TILE][MOST], most[TILE];
    __shared__ int have[TILE];
    const int tx = threadIdx.x % HALF, ty = threadIdx.x / HALF;
    const int shift = threadIdx.x & HALF; // of my row's lanes in a ballot
    const int piece = blockIdx.x % pieces, first = static_cast<int>(blockIdx.x) / pieces * TILE;
    const T least = static_cast<T>(2 * d + 16) * limits<T>::tiny;
    for (int i = threadIdx.x; i < TILE * MOST; i += THREADS)
        near[i / MOST][i % MOST] = INFINITY;
    if (threadIdx.x < TILE) {
        most[threadIdx.x] = INFINITY;
        have[threadIdx.x] = 0;
    }
    __syncthreads();
    const unsigned before = (1u << tx) - 1;
    const int last = k - 1;
#pragma unroll 1
    for (int c0 = piece * TILE; c0 < m; c0 += pieces * TILE) {
        T sum[4][4];
        products(sum, a, b, x, first, n, y, c0, m, d, tx, ty, centre);
        unsigned open = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = first + 4 * ty + i;
            const T xx = row < n ? xs[row] : T(0), length = row < n ? xs[n + row] : T(0);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int col = c0 + 4 * tx + j;
                if (row >= n || col >= m || (apart != 0 && row == col)) continue;
                T lo, hi;
                between(lo, hi, sum[i][j], xx, ys[col], length, ys[m + col], slack, least);
                if (!(lo > most[4 * ty + i])) open |= 1u << (4 * i + j);
            }
        }
        if (__ballot_sync(0xffffffffu, open != 0) == 0) continue;
#pragma unroll 1
        for (int e = 0; e < 16; e++) {
            const int r = 4 * ty + e / 4, row = first + r, col = c0 + 4 * tx + e % 4;
            bool in = (open >> e & 1) != 0 && have[r] <= ROOM;
            T lo = 0, hi = 0;
            if (in) {
                T dot = 0;
#pragma unroll
                for (int i = 0; i < 16; i++)
                    if (e == i) dot = sum[i / 4][i % 4];
                between(lo, hi, dot, xs[row], ys[col], xs[n + row], ys[m + col], slack, least);
                in = !(lo > most[r]); // which came down since
            }
            const unsigned both = __ballot_sync(0xffffffffu, in);
            if (both == 0) continue;
            const unsigned mine = both >> shift & 0xffffu;
            const int more = __popc(mine);
            const long long list = (static_cast<long long>(piece) * n + row) * ROOM;
            int filled = have[r];
            const bool full = more > 0 && filled + more > ROOM;
            if (__ballot_sync(0xffffffffu, full) != 0) {
                int kept = 0;
#pragma unroll 1
                for (int i = 0; i < ROOM; i += HALF) {
                    const bool there = full && i + tx < filled;
                    const T l = there ? low[list + i + tx] : T(0);
                    const int p = there ? at[list + i + tx] : 0;
                    const bool stays = there && !(l > most[r]);
                    const unsigned s = __ballot_sync(0xffffffffu, stays) >> shift & 0xffffu;
                    if (stays) {
                        const long long to = list + kept + __popc(s & before);
                        low[to] = l;
                        at[to] = p;
                    }
                    kept += __popc(s);
                    __syncwarp();
                }
                if (full) filled = kept;
            }
            if (filled + more > ROOM) {
                filled = ROOM + 1; // as many are as near: all of the piece is measured
            } else {
                if (in) {
                    const long long to = list + filled + __popc(mine & before);
                    low[to] = lo;
                    at[to] = col;
                }
                filled += more;
            }
            unsigned left = mine;
            const int low16 = __popc(both & 0xffffu), turns = max(low16, __popc(both >> HALF));
#pragma unroll 1
            for (int t = 0; t < turns; t++) {
                T v = __shfl_sync(0xffffffffu, hi, left == 0 ? 0 : __ffs(left) - 1, HALF);
                if (left == 0 || !(v < T(INFINITY))) v = INFINITY; // NaN is no bound
                left &= left - 1;
#pragma unroll
                for (int s = 0; s < 2; s++) {
                    const T own = near[r][HALF * s + tx];
                    const T end = __shfl_sync(0xffffffffu, own, HALF - 1, HALF);
                    const T under = __shfl_up_sync(0xffffffffu, own, 1, HALF);
                    if (!(own <= v)) near[r][HALF * s + tx] = tx == 0 || under <= v ? v : under;
                    if (v < end) v = end; // which falls out
                }
            }
            __syncwarp();
            if (tx == last % HALF) {
                most[r] = near[r][last];
                have[r] = filled;
            }
            __syncwarp();
        }
    }
    __syncthreads();
    const int row = first + static_cast<int>(threadIdx.x);
    if (threadIdx.x < TILE && row < n) {
        count[static_cast<long long>(piece) * n + row] = have[threadIdx.x];
        cap[static_cast<long long>(piece) * n + row] = most[threadIdx.x];
    }
}

// ahead tells whether one neighbour comes before another: by distance, NaN last, then by row.
__device__ __forceinline__ bool ahead(double d, int i, double e, int j)
{
    const bool no = !(d == d), none = !(e == e);
    if (no != none) return none;
    if (!no && d != e) return d < e;
    return i < j;
}

template <class T>
__device__ __forceinline__ void measure(double* dist, int* idx, const int* at, const T* low,
                                        const int* count, const T* cap, const T* x, const T* y,
                                        int n, int m, int d, int k, int apart, int pieces)
{
    __shared__ int queue[WARPS][2 * 32];
    const int lane = threadIdx.x % 32;
    int* waiting = queue[threadIdx.x / 32];
    const int row = static_cast<int>(blockIdx.x) * WARPS + static_cast<int>(threadIdx.x) / 32;
    if (row >= n) return;
    const T* own = x + static_cast<long long>(row) * d;
    T limit = INFINITY;
    for (int p = lane; p < pieces; p += 32) {
        const T v = cap[static_cast<long long>(p) * n + row];
        if (v < limit) limit = v;
    }
#pragma unroll
    for (int s = 16; s > 0; s >>= 1) {
        const T v = __shfl_xor_sync(0xffffffffu, limit, s);
        if (v < limit) limit = v;
    }
    // Lane l has the l-th nearest so far; the last of all stands for none.
    double far = NAN;
    int place = 0x7fffffff, queued = 0;
    const int tiles = (m + TILE - 1) / TILE;
    int piece = 0, from = 0;
    while (piece < pieces || queued > 0) {
        bool in = false;
        int col = 0;
        if (piece < pieces) {
            const long long list = static_cast<long long>(piece) * n + row;
            const int noted = count[list], e = from + lane;
            int total = noted;
            if (noted <= ROOM) {
                if (e < noted) {
                    col = at[list * ROOM + e];
                    in = !(low[list * ROOM + e] > limit);
                }
            } else {
                total = (tiles - piece + pieces - 1) / pieces * TILE;
                col = (piece + e / TILE * pieces) * TILE + e % TILE;
                in = col < m && !(apart != 0 && col == row);
            }
            from += 32;
            if (from >= total) {
                from = 0;
                piece++;
            }
        }
        const unsigned b = __ballot_sync(0xffffffffu, in);
        if (in) waiting[queued + __popc(b & ((1u << lane) - 1))] = col;
        queued += __popc(b);
        __syncwarp();
        if (queued < 32 && piece < pieces) continue;
        const int now = min(queued, 32);
        if (now == 0) continue;
        // Lanes without a row measure the first again, which nobody asks for.
        const int next = waiting[lane < now ? lane : 0];
        const double v = squared(own, y + static_cast<long long>(next) * d, d);
        __syncwarp();
        // Few come before the k-th so far.
        const double kth = __shfl_sync(0xffffffffu, far, k - 1);
        const int its = __shfl_sync(0xffffffffu, place, k - 1);
        unsigned worth = __ballot_sync(0xffffffffu, lane < now && ahead(v, next, kth, its));
#pragma unroll 1
        for (; worth != 0; worth &= worth - 1) {
            const int t = __ffs(worth) - 1;
            const double w = __shfl_sync(0xffffffffu, v, t);
            const int j = __shfl_sync(0xffffffffu, next, t);
            const int to = __popc(__ballot_sync(0xffffffffu, ahead(far, place, w, j)));
            const double under = __shfl_up_sync(0xffffffffu, far, 1);
            const int beneath = __shfl_up_sync(0xffffffffu, place, 1);
            if (lane >= to) {
                far = lane == to ? w : under;
                place = lane == to ? j : beneath;
            }
        }
        queued -= now;
        waiting[lane] = waiting[32 + lane]; // what is beyond queued is not looked at
        __syncwarp();
    }
    if (lane >= k) return;
    dist[static_cast<long long>(row) * k + lane] = far;
    idx[static_cast<long long>(row) * k + lane] = place;
}

} // namespace thisfile

// nearestk_centre - a point near a set, around which distances keep their digits.
//
//     centre[c] = the mean of y[r, c] over every ceil(m / 64)-th row r, without what is not finite
//
// kernels  nearestk_centre_f32 nearestk_centre_f64
// shapes   centre: d values. y: [m, d].
// launch   grid ceil(d / 256), block 256, shared 0.
// bound    latency: 64 loads of a thread, the sets are read once more whole by nearestk_sizes.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     none: any point will do. ops.NearestK holds the distances to float64's.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    nearestk_centre_f32(float* centre, const float* y, int m, int d)
{
    thisfile::centre(centre, y, m, d);
}
EXPORT(nearestk_centre_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearestk_centre_f64(double* centre, const double* y, int m, int d)
{
    thisfile::centre(centre, y, m, d);
}
EXPORT(nearestk_centre_f64)

// nearestk_sizes - squared lengths of vectors around a centre, and the lengths.
//
//     sizes[r] = sum over c of (x[r, c] - centre[c])^2, differences as the type has them, the sum in double;
//     sizes[n + r] = its root
//
// kernels  nearestk_sizes_f32 nearestk_sizes_f64
// shapes   sizes: 2 n values. x: [n, d]. centre: d values.
// launch   grid ceil(n / 8), block 256, shared 0; a warp a row.
// bound    memory: n d values. Goal: 70 % of peak bandwidth.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.NearestK, as part of its scores.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    nearestk_sizes_f32(float* sizes, const float* x, const float* centre, int n, int d)
{
    around(sizes, x, centre, n, d);
}
EXPORT(nearestk_sizes_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearestk_sizes_f64(double* sizes, const double* x, const double* centre, int n, int d)
{
    around(sizes, x, centre, n, d);
}
EXPORT(nearestk_sizes_f64)

// nearestk_find - the rows of a set that rounding leaves in question as the k nearest of each vector.
//
//     at[p, r] = rows j of piece p with low(r, j) <= cap[p, r], low[p, r] their low;  |x[r] - y[j]|^2 is between
//     low(r, j) and high(r, j);  cap[p, r] = the k-th least high;  piece p has the tiles of 64 rows p, p + pieces, ...
//
// kernels  nearestk_find_f32 nearestk_find_f64
// shapes   at: [pieces, n, 96] ints. low: as many values. count: [pieces, n] ints, above 96 where there are more than
//          the list holds, which then says nothing. cap: [pieces, n]. x: [n, d]. y: [m, d]. centre: d, xs: 2 n, ys: 2 m
//          values, of nearestk_centre and nearestk_sizes.
// params   k: 1 to 32. apart = 1 leaves out j = r. slack: that of ops.pairSlack.
// launch   grid ceil(n / 64) * pieces, block 256, shared 0.
// bound    f32: 2 n m d operations in tiles of 64 x 64, 16 products a thread for 8 values of shared memory. About
//          k (1 + log(m / k)) rows are noted for a vector, which a list drops when it is full. Goal: 35 % of peak at d >= 512.
// expect   nearestk_find_f32: regs <= 128, shared <= 18432, occupancy >= 25, not LDL STL
// expect   nearestk_find_f64: regs <= 255, shared <= 36864, occupancy >= 12, not LDL STL
// repro    yes
// twin     ops.NearestK; whatever is in question is measured by nearestk_measure.
// source   Own derivation; as nearest_code.
extern "C" __global__ void __launch_bounds__(256, 2)
    nearestk_find_f32(int* at, float* low, int* count, float* cap, const float* x, const float* y,
                      const float* centre, const float* xs, const float* ys, int n, int m, int d,
                      int k, int apart, int pieces, float slack)
{
    find(at, low, count, cap, x, y, centre, xs, ys, n, m, d, k, apart, pieces, slack);
}
EXPORT(nearestk_find_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearestk_find_f64(int* at, double* low, int* count, double* cap, const double* x,
                      const double* y, const double* centre, const double* xs, const double* ys,
                      int n, int m, int d, int k, int apart, int pieces, double slack)
{
    find(at, low, count, cap, x, y, centre, xs, ys, n, m, d, k, apart, pieces, slack);
}
EXPORT(nearestk_find_f64)

// nearestk_measure - the k nearest of the rows in question.
//
//     dist[r, i], idx[r, i] = the i-th of (|x[r] - y[j]|^2, j), rising, NaN last, over the rows j in question
//
// kernels  nearestk_measure_f32 nearestk_measure_f64
// shapes   dist: [n, k] doubles. idx: [n, k] ints. at, low, count, cap: those of nearestk_find, of which no piece need
//          have k. x: [n, d]. y: [m, d].
// params   k: 1 to 32, with as many rows to find. apart = 1 leaves out j = r. pieces: as nearestk_find.
// launch   grid ceil(n / 8), block 256, shared 0; a warp a row, a lane a distance.
// bound    latency: 3 d operations of a lane in double that wait for one another, for 32 rows in question at once. A
//          vector has about k of them, and all of a piece where a list was too short, as of sets with many equal distances.
// expect   regs <= 80, shared <= 2048, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.NearestK, the same bits.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    nearestk_measure_f32(double* dist, int* idx, const int* at, const float* low, const int* count,
                         const float* cap, const float* x, const float* y, int n, int m, int d,
                         int k, int apart, int pieces)
{
    measure(dist, idx, at, low, count, cap, x, y, n, m, d, k, apart, pieces);
}
EXPORT(nearestk_measure_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearestk_measure_f64(double* dist, int* idx, const int* at, const double* low, const int* count,
                         const double* cap, const double* x, const double* y, int n, int m, int d,
                         int k, int apart, int pieces)
{
    measure(dist, idx, at, low, count, cap, x, y, n, m, d, k, apart, pieces);
}
EXPORT(nearestk_measure_f64)
