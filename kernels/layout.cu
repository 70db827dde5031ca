// Elements that move: other orders of axes, pieces of an axis, rows of tables, single elements, and
// pairs that turn.
#include "functions.h"
#include "rows.h"

inline namespace thisfile {

constexpr int EDGE = 32,
              LINES = 8; // a tile that is turned, and the rows of it that a block has at once

// at = at / size, and what is left. Most tensors are short enough for divisions of 32 bits.
__device__ __forceinline__ long long split(long long& at, long long size)
{
    const long long n = at;
    at = (n >> 32) == 0 && (size >> 32) == 0
             ? static_cast<long long>(static_cast<unsigned>(n) / static_cast<unsigned>(size))
             : n / size;
    return n - at * size;
}

// Adds to what lies at p where add says so.
template <int N, class T> __device__ __forceinline__ void put(T* p, Pack<T, N> v, int add)
{
    if (add) {
        const auto old = take<N>(p);
#pragma unroll
        for (int i = 0; i < N; i++)
            v.v[i] += old.v[i];
    }
    give<N>(p, v);
}

template <int N, class T>
__device__ __forceinline__ void permuteRows(T* out, const T* x, long long n, int add,
                                            const long long (&size)[8], const long long (&step)[8])
{
    long long at = (static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x) * N;
    if (at >= n) return;
    out += at;
    long long from = 0;
#pragma unroll
    for (int i = 7; i >= 0; i--)
        if (size[i] > 1) from += split(at, size[i]) * step[i];
    put(out, take<N>(x + from), add);
}

template <class T>
__device__ __forceinline__ void
permuteTile(T* out, const T* x, int add, int rows, int cols, long long outStep, long long xStep,
            const long long (&size)[6], const long long (&outSteps)[6],
            const long long (&xSteps)[6])
{
    __shared__ T tile[EDGE][EDGE + 1];
    const int tx = threadIdx.x & 31, ty = threadIdx.x >> 5;
    const int across = (cols + EDGE - 1) / EDGE;
    long long at = blockIdx.x;
    const int c0 = static_cast<int>(split(at, across)) * EDGE;
    const int r0 = static_cast<int>(split(at, (rows + EDGE - 1) / EDGE)) * EDGE;
#pragma unroll
    for (int i = 5; i >= 0; i--) {
        if (size[i] <= 1) continue;
        const long long k = split(at, size[i]);
        out += k * outSteps[i];
        x += k * xSteps[i];
    }
#pragma unroll
    for (int l = ty; l < EDGE; l += LINES) // x runs along rows of the result
        if (r0 + tx < rows && c0 + l < cols) tile[l][tx] = x[(c0 + l) * xStep + r0 + tx];
    __syncthreads();
#pragma unroll
    for (int l = ty; l < EDGE; l += LINES)
        if (r0 + l < rows && c0 + tx < cols) {
            T* const to = out + (r0 + l) * outStep + c0 + tx;
            *to = add ? *to + tile[tx][l] : tile[tx][l];
        }
}

template <int N, class T>
__device__ __forceinline__ void copyRuns(T* to, const T* from, long long n, long long run,
                                         long long toStep, long long fromStep, int add)
{
    long long at = (static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x) * N;
    if (at >= n) return;
    const long long c = split(at, run);
    put(to + at * toStep + c, take<N>(from + at * fromStep + c), add);
}

template <class T>
__device__ __forceinline__ void gatherRows(T* out, const T* table, const int* ids, long long rows,
                                           int n, int most, int threads)
{
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    out += t.row * n;
    const int id = ids[t.row];
    const bool in = id >= 0 && id < most;
    table += in ? static_cast<long long>(id) * n : 0;
    eachOf<T>(n, t, multiple16<T>(n) && aligned16(out) && aligned16(table), [&](auto w, int e) {
        auto v = take<w.n>(table + e);
        if (!in) {
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] = static_cast<T>(NAN);
        }
        give<w.n>(out + e, v);
    });
}

constexpr int COLUMNS = 4; // of a lane

// The vectors of table's row id, from column c0 on, in the order of ids. It returns how many.
template <class Sum, class T>
__device__ __forceinline__ int gathered(Sum* row, const T* dy, const int* ids, int rows, int n,
                                        int id, int c0)
{
    const int lane = threadIdx.x & 31;
    Sum sum[COLUMNS];
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        sum[j] = c0 + 32 * j < n ? row[c0 + 32 * j] : Sum(0);
    int count = 0;
#pragma unroll 4
    for (int first = 0; first < rows; first += 32) {
        const int mine = first + lane < rows ? ids[first + lane] : -1;
        unsigned mask = __ballot_sync(0xffffffffu, mine == id);
        count += __popc(mask);
        while (mask != 0) {
            const T* const g = dy + static_cast<long long>(first + __ffs(mask) - 1) * n;
            mask &= mask - 1;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
                if (c0 + 32 * j < n) sum[j] += static_cast<Sum>(g[c0 + 32 * j]);
        }
    }
    if (count == 0) return 0;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        if (c0 + 32 * j < n) row[c0 + 32 * j] = sum[j];
    return count;
}

// Adds to table, and to the numbers of vectors where count is not null.
template <class Sum, class T>
__device__ __forceinline__ void scatterAdd(double* count, Sum* table, const T* dy, const int* ids,
                                           int rows, int n, int most, int across)
{
    const int lane = threadIdx.x & 31;
    const int id = static_cast<int>(blockIdx.x / across) * ROW_WARPS + (threadIdx.x >> 5);
    const int part = static_cast<int>(blockIdx.x % across);
    if (id >= most) return; // the whole warp
    const int found = gathered(table + static_cast<long long>(id) * n, dy, ids, rows, n, id,
                               part * 32 * COLUMNS + lane);
    if (count != nullptr && found > 0 && part == 0 && lane == 0) count[id] += found;
}

template <class T>
__device__ __forceinline__ void pickAdd(T* dx, const T* g, const int* at, long long rows, int n)
{
    const long long r = static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x;
    if (r >= rows) return;
    const int i = at[r];
    if (i >= 0 && i < n) dx[r * n + i] += g[r];
}

template <class T>
__device__ __forceinline__ void turn(T* out, const T* x, const T* angles, long long rows,
                                     int places, int heads, int half, int halves, int back, int add)
{
    long long r = static_cast<long long>(blockIdx.x) * ROW_THREADS + threadIdx.x;
    const int j = static_cast<int>(split(r, half));
    if (r >= rows) return;
    const double angle = angles[static_cast<long long>(r % places) * half + j];
    const T c = static_cast<T>(sineOf(angle, 1));
    const T s = static_cast<T>(back ? -sineOf(angle, 0) : sineOf(angle, 0));
    const int u = halves ? j : 2 * j, v = halves ? half : 1;
    const long long first = r * heads * 2 * half + u;
#pragma unroll 2
    for (int h = 0; h < heads; h++) {
        const long long e = first + static_cast<long long>(h) * 2 * half;
        const T a = x[e], b = x[e + v];
        T p = a * c - b * s, q = a * s + b * c;
        if (add) {
            p += out[e];
            q += out[e + v];
        }
        out[e] = p;
        out[e + v] = q;
    }
}

} // namespace thisfile

// permute_rows - a tensor with its axes in another order, element by element.
//
//     out[i0, ..., i7] = x[s0 i0 + ... + s7 i7], added to out with add
//
// kernels  permute_rows_f32 permute_rows_f64
// shapes   out: n = n0 ... n7 values, axes that are not there have size 1. x: as the steps say.
// params   wide: 16 bytes at a time; then s7 = 1, n7 and the other steps are multiples of that, and both
//          operands aligned.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 1, or 16 bytes of values with wide.
// bound    memory: 2 values an element, 3 with add. Goal: 60 % of peak bandwidth from 2^22 values on,
//          with wide.
// expect   regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Permute; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    permute_rows_f32(float* out, const float* x, long long n, int add, int wide, long long n0,
                     long long n1, long long n2, long long n3, long long n4, long long n5,
                     long long n6, long long n7, long long s0, long long s1, long long s2,
                     long long s3, long long s4, long long s5, long long s6, long long s7)
{
    const long long size[8] = {n0, n1, n2, n3, n4, n5, n6, n7},
                    step[8] = {s0, s1, s2, s3, s4, s5, s6, s7};
    if (wide)
        permuteRows<Vec16<float>::n>(out, x, n, add, size, step);
    else
        permuteRows<1>(out, x, n, add, size, step);
}
EXPORT(permute_rows_f32)

extern "C" __global__ void __launch_bounds__(256)
    permute_rows_f64(double* out, const double* x, long long n, int add, int wide, long long n0,
                     long long n1, long long n2, long long n3, long long n4, long long n5,
                     long long n6, long long n7, long long s0, long long s1, long long s2,
                     long long s3, long long s4, long long s5, long long s6, long long s7)
{
    const long long size[8] = {n0, n1, n2, n3, n4, n5, n6, n7},
                    step[8] = {s0, s1, s2, s3, s4, s5, s6, s7};
    if (wide)
        permuteRows<Vec16<double>::n>(out, x, n, add, size, step);
    else
        permuteRows<1>(out, x, n, add, size, step);
}
EXPORT(permute_rows_f64)

// permute_tile - a tensor with its axes in another order, of which x's last is not the result's.
//
//     out[o . i + outStep r + c] = x[s . i + r + xStep c], added to out with add
//
// kernels  permute_tile_f32 permute_tile_f64
// shapes   r below rows, c below cols, i below n0 ... n5; axes that are not there have size 1.
// launch   grid ceil(cols / 32) * ceil(rows / 32) * n0 ... n5, block 256, shared 0.
// bound    memory: 2 values an element, 3 with add. Goal: 60 % of peak bandwidth from 2^22 values on.
// expect   permute_tile_f32: regs <= 64, shared <= 4224, occupancy >= 50, not LDL STL
// expect   permute_tile_f64: regs <= 64, shared <= 8448, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Permute; the same bits.
// source   own derivation.
// note     Tiles of 32 by 32 turn in shared memory, whose rows are one value longer, so that both
//          sides are read and written along memory.
extern "C" __global__ void __launch_bounds__(256)
    permute_tile_f32(float* out, const float* x, int add, int rows, int cols, long long outStep,
                     long long xStep, long long n0, long long n1, long long n2, long long n3,
                     long long n4, long long n5, long long o0, long long o1, long long o2,
                     long long o3, long long o4, long long o5, long long s0, long long s1,
                     long long s2, long long s3, long long s4, long long s5)
{
    const long long size[6] = {n0, n1, n2, n3, n4, n5}, to[6] = {o0, o1, o2, o3, o4, o5},
                    from[6] = {s0, s1, s2, s3, s4, s5};
    permuteTile(out, x, add, rows, cols, outStep, xStep, size, to, from);
}
EXPORT(permute_tile_f32)

extern "C" __global__ void __launch_bounds__(256)
    permute_tile_f64(double* out, const double* x, int add, int rows, int cols, long long outStep,
                     long long xStep, long long n0, long long n1, long long n2, long long n3,
                     long long n4, long long n5, long long o0, long long o1, long long o2,
                     long long o3, long long o4, long long o5, long long s0, long long s1,
                     long long s2, long long s3, long long s4, long long s5)
{
    const long long size[6] = {n0, n1, n2, n3, n4, n5}, to[6] = {o0, o1, o2, o3, o4, o5},
                    from[6] = {s0, s1, s2, s3, s4, s5};
    permuteTile(out, x, add, rows, cols, outStep, xStep, size, to, from);
}
EXPORT(permute_tile_f64)

// copy_runs - runs of elements from one place to another: pieces of an axis.
//
//     to[r toStep + c] = from[r fromStep + c], added to it with add,   r run + c < n
//
// kernels  copy_runs_f32 copy_runs_f64
// shapes   n values in runs of run.
// params   wide: 16 bytes at a time; run and steps are multiples of that, and both operands aligned.
// launch   grid ceil(n / (256 V)), block 256, shared 0; V = 1, or 16 bytes of values with wide.
// bound    memory: 2 values an element, 3 with add. Goal: 70 % of peak bandwidth from 2^22 values on,
//          with wide.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Slice, ops.PutSlice; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    copy_runs_f32(float* to, const float* from, long long n, long long run, long long toStep,
                  long long fromStep, int add, int wide)
{
    if (wide)
        copyRuns<Vec16<float>::n>(to, from, n, run, toStep, fromStep, add);
    else
        copyRuns<1>(to, from, n, run, toStep, fromStep, add);
}
EXPORT(copy_runs_f32)

extern "C" __global__ void __launch_bounds__(256)
    copy_runs_f64(double* to, const double* from, long long n, long long run, long long toStep,
                  long long fromStep, int add, int wide)
{
    if (wide)
        copyRuns<Vec16<double>::n>(to, from, n, run, toStep, fromStep, add);
    else
        copyRuns<1>(to, from, n, run, toStep, fromStep, add);
}
EXPORT(copy_runs_f64)

// gather_rows - rows of a table by their numbers.
//
//     out[r] = table[ids[r]]
//
// kernels  gather_rows_f32 gather_rows_f64
// shapes   out: rows of n > 0 values. table: [most, n]. ids: [rows]; one outside 0..most-1 gives NaN.
// params   threads: 32, a warp a row, or 256, a block a row.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 2 values an element. Goal: 60 % of peak bandwidth from 2^22 values on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Gather; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    gather_rows_f32(float* out, const float* table, const int* ids, long long rows, int n, int most,
                    int threads)
{
    gatherRows(out, table, ids, rows, n, most, threads);
}
EXPORT(gather_rows_f32)

extern "C" __global__ void __launch_bounds__(256)
    gather_rows_f64(double* out, const double* table, const int* ids, long long rows, int n,
                    int most, int threads)
{
    gatherRows(out, table, ids, rows, n, most, threads);
}
EXPORT(gather_rows_f64)

// scatter_add - rows added to rows of a table: the gradient of gather_rows.
//
//     table[k] += dy[r] for the r with ids[r] = k, in the order of r
//
// kernels  scatter_add_f32 scatter_add_f64
// shapes   table: [most, n]. dy: rows of n values. ids: [rows]; those outside 0..most-1 are passed over.
// params   across = ceil(n / 128).
// launch   grid ceil(most / 8) * across, block 256, shared 0: a warp has 128 columns of a table's row
//          and looks at all ids.
// bound    memory: rows + 2 most values of a column, and ids for every warp, from the cache: they are
//          the larger share where most is above 16 n. Long where many rows have one id.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes: no atomics.
// twin     ops.ScatterAdd; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    scatter_add_f32(float* table, const float* dy, const int* ids, int rows, int n, int most,
                    int across)
{
    scatterAdd(nullptr, table, dy, ids, rows, n, most, across);
}
EXPORT(scatter_add_f32)

extern "C" __global__ void __launch_bounds__(256)
    scatter_add_f64(double* table, const double* dy, const int* ids, int rows, int n, int most,
                    int across)
{
    scatterAdd(nullptr, table, dy, ids, rows, n, most, across);
}
EXPORT(scatter_add_f64)

// code_sums - how many vectors each code of a book stands for, and their sum.
//
//     count[k] += |{r : ids[r] = k}|,   sum[k] += z[r] for those r, in their order
//
// kernels  code_sums_f32 code_sums_f64
// shapes   count: [most] doubles. sum: [most, n] doubles. z: rows of n values. ids: [rows]; those outside
//          0..most-1 are passed over.
// params   across = ceil(n / 128).
// launch   grid ceil(most / 8) * across, block 256, shared 0: as scatter_add.
// bound    memory: rows values and 4 most doubles of a column, and ids for every warp, from the cache: they
//          are the larger share where most is above 16 n. Long where many rows have one id.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes: no atomics.
// twin     ops.CodeSums; the same bits.
// source   van den Oord et al. 2017, arXiv 1711.00937, appendix A.1.
extern "C" __global__ void __launch_bounds__(256)
    code_sums_f32(double* count, double* sum, const float* z, const int* ids, int rows, int n,
                  int most, int across)
{
    scatterAdd(count, sum, z, ids, rows, n, most, across);
}
EXPORT(code_sums_f32)

extern "C" __global__ void __launch_bounds__(256)
    code_sums_f64(double* count, double* sum, const double* z, const int* ids, int rows, int n,
                  int most, int across)
{
    scatterAdd(count, sum, z, ids, rows, n, most, across);
}
EXPORT(code_sums_f64)

// pick_add - one element of each row is added to.
//
//     dx[r, at[r]] += g[r]
//
// kernels  pick_add_f32 pick_add_f64
// shapes   dx: rows of n values. g, at: [rows]; a place outside 0..n-1 is passed over.
// launch   grid ceil(rows / 256), block 256, shared 0.
// bound    latency: two values a row, each in a sector of its own.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.PickAdd; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    pick_add_f32(float* dx, const float* g, const int* at, long long rows, int n)
{
    pickAdd(dx, g, at, rows, n);
}
EXPORT(pick_add_f32)

extern "C" __global__ void __launch_bounds__(256)
    pick_add_f64(double* dx, const double* g, const int* at, long long rows, int n)
{
    pickAdd(dx, g, at, rows, n);
}
EXPORT(pick_add_f64)

// turn - pairs of elements turned by angles: rotary embeddings of places.
//
//     out[u] = x[u] cos a - x[v] sin a,   out[v] = x[u] sin a + x[v] cos a, added to out with add
//
// kernels  turn_f32 turn_f64
// shapes   out, x: rows of heads of 2 half values; out may be x. angles: [places, half]; row r is at place
//          r mod places.
// params   halves: pair j is elements j and j + half, else 2 j and 2 j + 1. back: by minus the angle.
// launch   grid ceil(rows * half / 256), block 256, shared 0: a thread has a pair of all heads.
// bound    memory: 2 values an element, 3 with add; sines and cosines in double, once for all heads.
//          Goal: 50 % of peak bandwidth from 2^22 values and 8 heads on.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Turn
// source   Su et al. 2021, arXiv 2104.09864. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    turn_f32(float* out, const float* x, const float* angles, long long rows, int places, int heads,
             int half, int halves, int back, int add)
{
    turn(out, x, angles, rows, places, heads, half, halves, back, add);
}
EXPORT(turn_f32)

extern "C" __global__ void __launch_bounds__(256)
    turn_f64(double* out, const double* x, const double* angles, long long rows, int places,
             int heads, int half, int halves, int back, int add)
{
    turn(out, x, angles, rows, places, heads, half, halves, back, add);
}
EXPORT(turn_f64)
