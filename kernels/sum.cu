// Sums over one axis of a tensor, of two tensors' products or squared differences.
#include "elements.h"

inline namespace thisfile {

// What is summed.
enum Term { PLAIN, PRODUCT, SQUARED_DIFFERENCE };

template <class T>
__device__ __forceinline__ double term(int mode, const T* a, const T* b, long long i)
{
    const double x = a[i];
    if (mode == PLAIN) return x;
    const double y = b[i];
    if (mode == PRODUCT) return x * y;
    return (x - y) * (x - y);
}

// out = scale s, or that added to out, rounded once.
template <class Out>
__device__ __forceinline__ void finish(Out* out, long long i, double s, double scale, int acc)
{
    s *= scale;
    if (acc) s += static_cast<double>(out[i]);
    out[i] = static_cast<Out>(s);
}

// A block sums a piece of the summed axis, for `width` of the columns behind it.
template <class In, class Out>
__device__ __forceinline__ void sum(Out* out, const In* a, const In* b, int mode, double scale,
                                    int acc, long long count, long long inner, int width,
                                    long long piece, int pieces, int chunks)
{
    __shared__ double of[THREADS];
    const unsigned chunk = blockIdx.x % static_cast<unsigned>(chunks);
    const unsigned rest = blockIdx.x / static_cast<unsigned>(chunks);
    const unsigned p = rest % static_cast<unsigned>(pieces);
    const long long o = rest / static_cast<unsigned>(pieces);
    const int tid = static_cast<int>(threadIdx.x);
    const int lanes = THREADS / width; // that share a column
    const long long column = static_cast<long long>(chunk) * width + tid % width;
    const long long first = p * piece;
    const long long end = first + piece < count ? first + piece : count;
    double s = 0;
    if (column < inner) {
        const long long base = o * count * inner + column;
#pragma unroll 4
        for (long long r = first + tid / width; r < end; r += lanes)
            s += term(mode, a, b, base + r * inner);
    }
    // Within the warp, then the warps or rows of lanes in order.
    for (int m = 16; m >= width; m >>= 1)
        s += __shfl_xor_sync(0xffffffffu, s, m);
    of[tid] = s;
    __syncthreads();
    if (tid < width && column < inner) {
        const int stride = width < 32 ? 32 : width;
        double all = 0;
        for (int k = tid; k < THREADS; k += stride)
            all += of[k];
        finish(out, (o * pieces + p) * inner + column, all, scale, acc);
    }
}

// Rows of `count` values, each summed by `width` neighbouring lanes.
template <class In, class Out>
__device__ __forceinline__ void sumRows(Out* out, const In* a, const In* b, int mode, double scale,
                                        int acc, long long rows, int count, int width)
{
    const int tid = static_cast<int>(threadIdx.x), lane = tid % width;
    const long long row = static_cast<long long>(blockIdx.x) * (THREADS / width) + tid / width;
    double s = 0;
    if (row < rows) {
#pragma unroll 4
        for (int i = lane; i < count; i += width)
            s += term(mode, a, b, row * count + i);
    }
    for (int m = width / 2; m > 0; m >>= 1)
        s += __shfl_xor_sync(0xffffffffu, s, m);
    if (row < rows && lane == 0) finish(out, row, s, scale, acc);
}

template <class T>
__device__ __forceinline__ void errorBackward(T* dx, const T* x, const T* y, const T* g,
                                              double factor, int acc, long long size, int blocks)
{
    constexpr int V = Vec16<T>::n;
    const unsigned row = blockIdx.x / static_cast<unsigned>(blocks);
    const unsigned part = blockIdx.x - row * static_cast<unsigned>(blocks);
    const long long at = row * size;
    dx += at;
    x += at;
    y += at;
    const bool aligned = aligned16(dx) && aligned16(x) && aligned16(y);
    const Place<T> p = placeIn<T>(part, size, aligned);
    const T k = static_cast<T>(factor * static_cast<double>(g[row]));
    T u[V], v[V];
    take(u, x, p);
    take(v, y, p);
#pragma unroll
    for (int i = 0; i < V; i++)
        u[i] = mulRn(k, addRn(u[i], -v[i]));
    if (acc) {
        take(v, dx, p);
#pragma unroll
        for (int i = 0; i < V; i++)
            u[i] = addRn(u[i], v[i]);
    }
    put(dx, u, p);
}

} // namespace thisfile

// sum - sums over the middle axis of three.
//
//     out[o, p, i] = scale sum of t over piece p of the middle axis,   t = a, a b or (a - b)^2 at [o, r, i],
//     or that added to out
//
// kernels  sum_f32 sum_part_f32 sum_last_f32 sum_f64
// shapes   out: [outer, pieces, inner], of double in sum_part_f32. a, b: [outer, count, inner], of double in
//          sum_last_f32, which adds up what sum_part_f32 made. b is null for sums of a.
// params   mode: 0, 1, 2 for the three; acc: 1 to add. width: a power of two up to 256, columns of a block. piece:
//          rows of a block; pieces = ceil(count / piece), chunks = ceil(inner / width).
// launch   grid outer * pieces * chunks, block 256, shared 0.
// bound    memory: the values of a and b. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   regs <= 64, shared <= 2048, occupancy >= 50, not LDL STL
// repro    yes: pieces depend on sizes alone, and lanes are added in one order, in double.
// twin     ops.SumTo, ops.SquaredError, ops.SumSquares; sums of double, rounded once.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    sum_f32(float* out, const float* a, const float* b, int mode, double scale, int acc,
            long long count, long long inner, int width, long long piece, int pieces, int chunks)
{
    sum(out, a, b, mode, scale, acc, count, inner, width, piece, pieces, chunks);
}
EXPORT(sum_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_part_f32(double* out, const float* a, const float* b, int mode, double scale, int acc,
                 long long count, long long inner, int width, long long piece, int pieces,
                 int chunks)
{
    sum(out, a, b, mode, scale, acc, count, inner, width, piece, pieces, chunks);
}
EXPORT(sum_part_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_last_f32(float* out, const double* a, const double* b, int mode, double scale, int acc,
                 long long count, long long inner, int width, long long piece, int pieces,
                 int chunks)
{
    sum(out, a, b, mode, scale, acc, count, inner, width, piece, pieces, chunks);
}
EXPORT(sum_last_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_f64(double* out, const double* a, const double* b, int mode, double scale, int acc,
            long long count, long long inner, int width, long long piece, int pieces, int chunks)
{
    sum(out, a, b, mode, scale, acc, count, inner, width, piece, pieces, chunks);
}
EXPORT(sum_f64)

// sum_rows - sums of short rows.
//
//     out[r] = scale sum over i of t,   t = a, a b or (a - b)^2 at [r, i], or that added to out
//
// kernels  sum_rows_f32 sum_rows_part_f32 sum_rows_last_f32 sum_rows_f64
// shapes   out: rows values, of double in sum_rows_part_f32. a, b: [rows, count], of double in sum_rows_last_f32; b
//          is null for sums of a.
// params   mode, acc: as of sum. width: lanes of a row, a power of two up to 32.
// launch   grid ceil(rows width / 256), block 256, shared 0.
// bound    memory: the values of a and b. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   regs <= 48, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.SumTo, ops.SquaredError; sums of double, rounded once.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    sum_rows_f32(float* out, const float* a, const float* b, int mode, double scale, int acc,
                 long long rows, int count, int width)
{
    sumRows(out, a, b, mode, scale, acc, rows, count, width);
}
EXPORT(sum_rows_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_rows_part_f32(double* out, const float* a, const float* b, int mode, double scale, int acc,
                      long long rows, int count, int width)
{
    sumRows(out, a, b, mode, scale, acc, rows, count, width);
}
EXPORT(sum_rows_part_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_rows_last_f32(float* out, const double* a, const double* b, int mode, double scale, int acc,
                      long long rows, int count, int width)
{
    sumRows(out, a, b, mode, scale, acc, rows, count, width);
}
EXPORT(sum_rows_last_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_rows_f64(double* out, const double* a, const double* b, int mode, double scale, int acc,
                 long long rows, int count, int width)
{
    sumRows(out, a, b, mode, scale, acc, rows, count, width);
}
EXPORT(sum_rows_f64)

// error_backward - the gradient of the mean squared error of rows.
//
//     dx[r, i] = factor g[r] (x[r, i] - y[r, i]), or that added to dx
//
// kernels  error_backward_f32 error_backward_f64
// shapes   dx, x, y: [rows, size]. g: rows values.
// params   factor: 2/size, negative for the gradient by y; acc: 1 to add. blocks = ceil(size / (256 V)), V = 16
//          bytes of values a thread.
// launch   grid rows * blocks, block 256, shared 0.
// bound    memory: 3 values an element, 4 with acc. Goal: 80 % of peak bandwidth from 2^22 values on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.SquaredErrorBackward; the difference is taken before it is scaled.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    error_backward_f32(float* dx, const float* x, const float* y, const float* g, double factor,
                       int acc, long long size, int blocks)
{
    errorBackward(dx, x, y, g, factor, acc, size, blocks);
}
EXPORT(error_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    error_backward_f64(double* dx, const double* x, const double* y, const double* g, double factor,
                       int acc, long long size, int blocks)
{
    errorBackward(dx, x, y, g, factor, acc, size, blocks);
}
EXPORT(error_backward_f64)
