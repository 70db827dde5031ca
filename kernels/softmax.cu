// Softmax, logarithms of sums of exponentials and cross-entropy of rows, and the place of each
// row's greatest value.
#include "rows.h"

inline namespace thisfile {

template <class T>
__device__ __forceinline__ T greatestOf(const T* x, int n, const Team& t, bool wide)
{
    T top = minusInfinity<T>();
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            top = greater(top, v.v[i]);
    });
    return top;
}

template <class T>
__device__ __forceinline__ T expSum(const T* x, int n, const Team& t, bool wide, T top)
{
    T s = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            s += exponential(v.v[i] - top);
    });
    return s;
}

template <class T>
__device__ __forceinline__ void softmax(T* out, const T* x, long long rows, int n, int threads)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    out += t.row * n;
    x += t.row * n;
    const bool wide = multiple16<T>(n) && aligned16(out) && aligned16(x);
    const T top = teamGreatest(greatestOf(x, n, t, wide), t, of);
    const T share = T(1) / teamSum(expSum(x, n, t, wide, top), t, of);
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            v.v[i] = exponential(v.v[i] - top) * share;
        give<w.n>(out + e, v);
    });
}

template <class T>
__device__ __forceinline__ void softmaxBack(T* dx, const T* y, const T* dy, long long rows, int n,
                                            int threads, int add)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    dx += t.row * n;
    y += t.row * n;
    dy += t.row * n;
    const bool wide = multiple16<T>(n) && aligned16(dx) && aligned16(y) && aligned16(dy);
    T s = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto p = take<w.n>(y + e), g = take<w.n>(dy + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            s = fma(p.v[i], g.v[i], s);
    });
    s = teamSum(s, t, of);
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto p = take<w.n>(y + e);
        auto g = take<w.n>(dy + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            g.v[i] = p.v[i] * (g.v[i] - s);
        if (add) {
            const auto old = take<w.n>(dx + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                g.v[i] += old.v[i];
        }
        give<w.n>(dx + e, g);
    });
}

__device__ __forceinline__ bool infinite(double x) { return x == INFINITY || x == -INFINITY; }

template <class T>
__device__ __forceinline__ void logSumExp(T* lse, T* loss, const T* x, const int* labels,
                                          double smooth, long long rows, int n, int threads)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    x += t.row * n;
    const bool wide = multiple16<T>(n) && aligned16(x);
    const T top = teamGreatest(greatestOf(x, n, t, wide), t, of);
    const T s = teamSum(expSum(x, n, t, wide, top), t, of);
    T all = 0; // the sum of the row, for smooth labels
    if (loss != nullptr && smooth > 0) {
        eachOf<T>(n, t, wide, [&](auto w, int e) {
            const auto v = take<w.n>(x + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                all += v.v[i];
        });
        all = teamSum(all, t, of);
    }
    if (t.rank != 0) return;
    // The exponentials of a row of nothing but -inf, or with +inf, are NaN.
    const T result = infinite(top) ? top : static_cast<T>(top + log(static_cast<double>(s)));
    lse[t.row] = result;
    if (loss == nullptr) return;
    const int label = labels[t.row];
    double v = 0;
    if (label >= n || label < -1) {
        v = NAN;
    } else if (label >= 0) {
        v = result - (1 - smooth) * x[label];
        if (smooth > 0) v -= smooth * all / n;
    }
    loss[t.row] = static_cast<T>(v);
}

template <class T>
__device__ __forceinline__ void expBack(T* dx, const T* x, const T* lse, const T* g,
                                        const int* labels, double smooth, long long rows, int n,
                                        int threads, int add)
{
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    dx += t.row * n;
    x += t.row * n;
    const bool wide = multiple16<T>(n) && aligned16(dx) && aligned16(x);
    const int label = labels != nullptr ? labels[t.row] : -1;
    const bool bad = label >= n || label < -1;
    const bool none = labels != nullptr && label == -1;
    const T at = lse[t.row], by = bad ? static_cast<T>(NAN) : g[t.row];
    const T each = labels != nullptr ? static_cast<T>(smooth / n) : T(0);
    const T rest = static_cast<T>(1 - smooth);
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++) {
            const T q = e + i == label ? rest + each : each;
            v.v[i] = none ? T(0) : by * (exponential(v.v[i] - at) - q);
        }
        if (add) {
            const auto old = take<w.n>(dx + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] += old.v[i];
        }
        give<w.n>(dx + e, v);
    });
}

// Of two values the one that a search from the left for the greatest ends with: NaN is greater than
// any number, and of equals the first wins. An index below 0 stands for no value.
template <class T> struct Best {
    T v;
    int at;
};
template <class T> __device__ __forceinline__ Best<T> better(const Best<T>& a, const Best<T>& b)
{
    if (b.at < 0) return a;
    if (a.at < 0) return b;
    const bool nanA = a.v != a.v, nanB = b.v != b.v;
    if (nanA != nanB) return nanA ? a : b;
    if (!nanA && a.v != b.v) return a.v > b.v ? a : b;
    return a.at < b.at ? a : b;
}

template <class T>
__device__ __forceinline__ void argMax(int* at, T* value, const T* x, long long rows, int n,
                                       int threads)
{
    __shared__ Best<T> of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    x += t.row * n;
    Best<T> best = {T(0), -1};
    eachOf<T>(n, t, multiple16<T>(n) && aligned16(x), [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            best = better(best, Best<T>{v.v[i], e + i});
    });
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) {
        Best<T> other;
        other.v = __shfl_xor_sync(0xffffffffu, best.v, m);
        other.at = __shfl_xor_sync(0xffffffffu, best.at, m);
        best = better(best, other);
    }
    if (threads != 32) {
        if ((threadIdx.x & 31) == 0) of[threadIdx.x >> 5] = best;
        __syncthreads();
        best = of[0];
        for (int w = 1; w < ROW_WARPS; w++)
            best = better(best, of[w]);
    }
    if (t.rank != 0) return;
    at[t.row] = best.at;
    if (value != nullptr) value[t.row] = best.v;
}

} // namespace thisfile

// softmax - probabilities by the exponentials of rows.
//
//     out[r, i] = exp(x[r, i] - max x[r]) / sum_j exp(x[r, j] - max x[r])
//
// kernels  softmax_f32 softmax_f64
// shapes   out, x: rows of n > 0 values. out may be x.
// params   threads: 32, a warp a row, or 256, a block a row.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 2 values an element; the row is read two times more from the cache. Goal: 70 % of
//          peak bandwidth from 2^22 values on.
// expect   softmax_f32: regs <= 40, shared <= 32, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// expect   softmax_f64: regs <= 64, shared <= 64, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Softmax; errors of (n / threads + 12) units of the result.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    softmax_f32(float* out, const float* x, long long rows, int n, int threads)
{
    softmax(out, x, rows, n, threads);
}
EXPORT(softmax_f32)

extern "C" __global__ void __launch_bounds__(256, 4)
    softmax_f64(double* out, const double* x, long long rows, int n, int threads)
{
    softmax(out, x, rows, n, threads);
}
EXPORT(softmax_f64)

// softmax_back - the gradient by softmax's operand.
//
//     dx = y (dy - sum_j y[j] dy[j]) by rows, added to dx with add
//
// kernels  softmax_back_f32 softmax_back_f64
// shapes   dx, y, dy: rows of n > 0 values. dx may be dy.
// params   threads as of softmax.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 3 values an element, 4 with add. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   regs <= 48, shared <= 64, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.SoftmaxBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    softmax_back_f32(float* dx, const float* y, const float* dy, long long rows, int n, int threads,
                     int add)
{
    softmaxBack(dx, y, dy, rows, n, threads, add);
}
EXPORT(softmax_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    softmax_back_f64(double* dx, const double* y, const double* dy, long long rows, int n,
                     int threads, int add)
{
    softmaxBack(dx, y, dy, rows, n, threads, add);
}
EXPORT(softmax_back_f64)

// logsumexp - the logarithm of a row's sum of exponentials, and the cross-entropy with its label.
//
//     lse[r] = log sum_i exp(x[r, i])
//     loss[r] = lse[r] - (1 - smooth) x[r, label] - smooth / n sum_i x[r, i],   0 where label = -1
//
// kernels  logsumexp_f32 logsumexp_f64
// shapes   lse, loss: [rows], loss may be null. x: rows of n > 0 values. labels: [rows], read where
//          there is a loss; one outside -1..n-1 makes it NaN.
// params   threads as of softmax. 0 <= smooth < 1.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 1 value an element. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   logsumexp_f32: regs <= 48, shared <= 32, occupancy >= 50, has LDG.E.128, not LDL STL
// expect   logsumexp_f64: regs <= 64, shared <= 64, occupancy >= 50, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.LogSumExp, ops.CrossEntropy
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    logsumexp_f32(float* lse, float* loss, const float* x, const int* labels, double smooth,
                  long long rows, int n, int threads)
{
    logSumExp(lse, loss, x, labels, smooth, rows, n, threads);
}
EXPORT(logsumexp_f32)

extern "C" __global__ void __launch_bounds__(256, 4)
    logsumexp_f64(double* lse, double* loss, const double* x, const int* labels, double smooth,
                  long long rows, int n, int threads)
{
    logSumExp(lse, loss, x, labels, smooth, rows, n, threads);
}
EXPORT(logsumexp_f64)

// logsumexp_back - the gradient of logsumexp by its operand, or that of the cross-entropy.
//
//     dx[r, i] = g[r] (exp(x[r, i] - lse[r]) - q[i]), added to dx with add
//     q = 1 - smooth at the label and smooth / n everywhere besides; all of it 0 where labels is null
//
// kernels  logsumexp_back_f32 logsumexp_back_f64
// shapes   dx, x: rows of n > 0 values. lse, g: [rows]. labels: [rows] or null; a row without a
//          label, -1, has the gradient 0, one with a label outside -1..n-1 NaN.
// params   threads as of softmax. 0 <= smooth < 1.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 2 values an element, 3 with add. Goal: 70 % of peak bandwidth from 2^22 values on.
// expect   logsumexp_back_f32: regs <= 48, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   logsumexp_back_f64: regs <= 64, shared <= 0, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.LogSumExpBackward, ops.CrossEntropyBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    logsumexp_back_f32(float* dx, const float* x, const float* lse, const float* g,
                       const int* labels, double smooth, long long rows, int n, int threads,
                       int add)
{
    expBack(dx, x, lse, g, labels, smooth, rows, n, threads, add);
}
EXPORT(logsumexp_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    logsumexp_back_f64(double* dx, const double* x, const double* lse, const double* g,
                       const int* labels, double smooth, long long rows, int n, int threads,
                       int add)
{
    expBack(dx, x, lse, g, labels, smooth, rows, n, threads, add);
}
EXPORT(logsumexp_back_f64)

// argmax - the place of each row's greatest value, the first of equals; a NaN is the greatest.
//
//     at[r] = min argmax_i x[r, i],   value[r] = x[r, at[r]]
//
// kernels  argmax_f32 argmax_f64
// shapes   at, value: [rows], value may be null. x: rows of n > 0 values.
// params   threads as of softmax.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 1 value an element. Goal: 60 % of peak bandwidth from 2^22 values on.
// expect   regs <= 48, shared <= 128, occupancy >= 50, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.ArgMax; the same places.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    argmax_f32(int* at, float* value, const float* x, long long rows, int n, int threads)
{
    argMax(at, value, x, rows, n, threads);
}
EXPORT(argmax_f32)

extern "C" __global__ void __launch_bounds__(256)
    argmax_f64(int* at, double* value, const double* x, long long rows, int n, int threads)
{
    argMax(at, value, x, rows, n, threads);
}
EXPORT(argmax_f64)
