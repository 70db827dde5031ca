// Normalisation of rows (LayerNorm, RMSNorm), with weights and with scales and shifts of each sample,
// and its gradients.
#include "norm.h"

inline namespace thisfile {

template <class T>
__device__ __forceinline__ void
norm(T* y, T* mean, T* inv, const T* x, const T* weight, const T* bias, const T* scale,
     const T* shift, double eps, long long rows, int n, long long rowsOfPart, int rms, int threads)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    y += t.row * n;
    x += t.row * n;
    const long long part = t.row / rowsOfPart * n;
    if (scale != nullptr) scale += part;
    if (shift != nullptr) shift += part;
    const bool wide = multiple16<T>(n) && aligned16(y) && aligned16(x) && aligned16(weight) &&
                      aligned16(bias) && aligned16(scale) && aligned16(shift);
    T m, var;
    moments(x, n, t, wide, rms != 0, of, m, var);
    const T k = T(1) / root(var + static_cast<T>(eps));
    if (t.rank == 0) {
        mean[t.row] = m;
        inv[t.row] = k;
    }
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        auto v = take<w.n>(x + e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            v.v[i] = (v.v[i] - m) * k;
        if (weight != nullptr) {
            const auto u = take<w.n>(weight + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] *= u.v[i];
        }
        if (bias != nullptr) {
            const auto u = take<w.n>(bias + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] += u.v[i];
        }
        if (scale != nullptr) {
            const auto u = take<w.n>(scale + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] *= 1 + u.v[i];
        }
        if (shift != nullptr) {
            const auto u = take<w.n>(shift + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                v.v[i] += u.v[i];
        }
        give<w.n>(y + e, v);
    });
}

// The gradient by the normalised elements from e on, from that by the result.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> inner(const T* dy, const T* weight, const T* scale, int e)
{
    auto g = take<N>(dy + e);
    if (scale != nullptr) {
        const auto u = take<N>(scale + e);
#pragma unroll
        for (int i = 0; i < N; i++)
            g.v[i] *= 1 + u.v[i];
    }
    if (weight != nullptr) {
        const auto u = take<N>(weight + e);
#pragma unroll
        for (int i = 0; i < N; i++)
            g.v[i] *= u.v[i];
    }
    return g;
}

template <class T>
__device__ __forceinline__ void
normBack(T* dx, const T* x, const T* dy, const T* mean, const T* inv, const T* weight,
         const T* scale, long long rows, int n, long long rowsOfPart, int rms, int threads, int add)
{
    __shared__ T of[ROW_WARPS];
    const Team t = rowTeam(threads);
    if (t.row >= rows) return;
    dx += t.row * n;
    x += t.row * n;
    dy += t.row * n;
    if (scale != nullptr) scale += t.row / rowsOfPart * n;
    const bool wide = multiple16<T>(n) && aligned16(dx) && aligned16(x) && aligned16(dy) &&
                      aligned16(weight) && aligned16(scale);
    const T m = mean[t.row], k = inv[t.row];
    T sum = 0, along = 0;
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
        const auto g = inner<w.n>(dy, weight, scale, e);
#pragma unroll
        for (int i = 0; i < w.n; i++) {
            sum += g.v[i];
            along = fma(g.v[i], (v.v[i] - m) * k, along);
        }
    });
    const T c1 = rms ? T(0) : teamSum(sum, t, of) / static_cast<T>(n);
    const T c2 = teamSum(along, t, of) / static_cast<T>(n);
    eachOf<T>(n, t, wide, [&](auto w, int e) {
        const auto v = take<w.n>(x + e);
        auto g = inner<w.n>(dy, weight, scale, e);
#pragma unroll
        for (int i = 0; i < w.n; i++)
            g.v[i] = k * (g.v[i] - c1 - (v.v[i] - m) * k * c2);
        if (add) {
            const auto old = take<w.n>(dx + e);
#pragma unroll
            for (int i = 0; i < w.n; i++)
                g.v[i] += old.v[i];
        }
        give<w.n>(dx + e, g);
    });
}

// Sums over a piece of the rows of a part, for 32 columns: a warp has every eighth row.
template <class T>
__device__ __forceinline__ void normSums(T* part, const T* x, const T* dy, const T* mean,
                                         const T* inv, int n, long long rowsOfPart, int depth,
                                         int pieces, int across)
{
    __shared__ T of[ROW_WARPS][2][32];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int c = static_cast<int>(blockIdx.x % across) * 32 + lane;
    const long long item = blockIdx.x / across, p = item / pieces;
    const long long first = item % pieces * depth;
    const long long end = min(first + depth, rowsOfPart);
    T sum = 0, along = 0;
    if (c < n) {
#pragma unroll 4
        for (long long r = first + warp; r < end; r += ROW_WARPS) {
            const long long row = p * rowsOfPart + r, at = row * n + c;
            const T g = dy[at];
            sum += g;
            along = fma(g, (x[at] - mean[row]) * inv[row], along);
        }
    }
    of[warp][0][lane] = sum;
    of[warp][1][lane] = along;
    __syncthreads();
    if (warp >= 2 || c >= n) return;
    T s = of[0][warp][lane];
#pragma unroll
    for (int w = 1; w < ROW_WARPS; w++)
        s += of[w][warp][lane];
    part[(2 * item + warp) * n + c] = s;
}

constexpr int GRAD_WARPS = 16;

// From the sums to the gradients of the parameters, for 32 columns: a warp has every sixteenth part of
// the rows, or, where there is one part alone, of its pieces.
template <class T>
__device__ __forceinline__ void normGrads(T* dweight, T* dbias, T* dscale, T* dshift, const T* part,
                                          const T* weight, const T* bias, const T* scale, int n,
                                          int parts, int pieces)
{
    __shared__ T of[GRAD_WARPS][2][32];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int c = static_cast<int>(blockIdx.x) * 32 + lane;
    const bool in = c < n;
    const T w = in ? orElse(weight, c, T(1)) : T(0), b = in ? orElse(bias, c, T(0)) : T(0);
    // The gradients of one part's modulation; its sums then count with the scale.
    auto modulation = [&](long long p, T& sum, T& along) {
        const long long at = p * n + c;
        if (dshift != nullptr) dshift[at] += sum;
        if (dscale != nullptr) dscale[at] += along * w + sum * b;
        const T f = 1 + orElse(scale, at, T(0));
        sum *= f;
        along *= f;
    };
    T sum = 0, along = 0;
    if (in && parts == 1) {
        for (int i = warp; i < pieces; i += GRAD_WARPS) {
            sum += part[2LL * i * n + c];
            along += part[(2LL * i + 1) * n + c];
        }
    } else if (in) {
        for (int p = warp; p < parts; p += GRAD_WARPS) {
            T s = 0, a = 0;
#pragma unroll 4
            for (long long i = static_cast<long long>(p) * pieces; i < (p + 1LL) * pieces; i++) {
                s += part[2 * i * n + c];
                a += part[(2 * i + 1) * n + c];
            }
            modulation(p, s, a);
            sum += s;
            along += a;
        }
    }
    of[warp][0][lane] = sum;
    of[warp][1][lane] = along;
    __syncthreads();
    if (warp > 0 || !in) return;
    for (int i = 1; i < GRAD_WARPS; i++) {
        sum += of[i][0][lane];
        along += of[i][1][lane];
    }
    if (parts == 1) modulation(0, sum, along);
    if (dweight != nullptr) dweight[c] += along;
    if (dbias != nullptr) dbias[c] += sum;
}

} // namespace thisfile

// norm - normalisation of rows, with weights and with a modulation of each sample.
//
//     u = (x - mean) / sqrt(var + eps) weight + bias,   y = u (1 + scale) + shift
//
// kernels  norm_f32 norm_f64
// shapes   y, x: rows of n > 0 values; y may be x. mean, inv: [rows], inv = 1 / sqrt(var + eps). weight,
//          bias: [n] or null. scale, shift: rows of n, one for rowsOfPart rows of x, or null.
// params   rms: the mean is 0, var the mean of squares. threads: 32, a warp a row, or 256, a block a row.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 2 values an element; the row is read two times more from the cache. Goal: 70 % of
//          peak bandwidth from 2^22 values on.
// expect   norm_f32: regs <= 64, shared <= 32, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   norm_f64: regs <= 64, shared <= 64, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.Norm
// source   Ba et al. 2016, arXiv 1607.06450; Zhang and Sennrich 2019, arXiv 1910.07467. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    norm_f32(float* y, float* mean, float* inv, const float* x, const float* weight,
             const float* bias, const float* scale, const float* shift, double eps, long long rows,
             int n, long long rowsOfPart, int rms, int threads)
{
    norm(y, mean, inv, x, weight, bias, scale, shift, eps, rows, n, rowsOfPart, rms, threads);
}
EXPORT(norm_f32)

extern "C" __global__ void __launch_bounds__(256)
    norm_f64(double* y, double* mean, double* inv, const double* x, const double* weight,
             const double* bias, const double* scale, const double* shift, double eps,
             long long rows, int n, long long rowsOfPart, int rms, int threads)
{
    norm(y, mean, inv, x, weight, bias, scale, shift, eps, rows, n, rowsOfPart, rms, threads);
}
EXPORT(norm_f64)

// norm_back - the gradient of norm by its operand.
//
//     g = dy (1 + scale) weight,   h = (x - mean) inv,   dx = inv (g - avg g - h avg (g h))
//
// kernels  norm_back_f32 norm_back_f64
// shapes   as of norm; dx may be dy. With add the gradient is added to dx.
// params   as of norm; with rms avg g is left out.
// launch   grid ceil(rows / 8) or rows, block 256, shared 0.
// bound    memory: 3 values an element, 4 with add; x and dy are read once more from the cache. Goal:
//          65 % of peak bandwidth from 2^22 values on.
// expect   norm_back_f32: regs <= 64, shared <= 32, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// expect   norm_back_f64: regs <= 64, shared <= 64, occupancy >= 50, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     ops.NormBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    norm_back_f32(float* dx, const float* x, const float* dy, const float* mean, const float* inv,
                  const float* weight, const float* scale, long long rows, int n,
                  long long rowsOfPart, int rms, int threads, int add)
{
    normBack(dx, x, dy, mean, inv, weight, scale, rows, n, rowsOfPart, rms, threads, add);
}
EXPORT(norm_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    norm_back_f64(double* dx, const double* x, const double* dy, const double* mean,
                  const double* inv, const double* weight, const double* scale, long long rows,
                  int n, long long rowsOfPart, int rms, int threads, int add)
{
    normBack(dx, x, dy, mean, inv, weight, scale, rows, n, rowsOfPart, rms, threads, add);
}
EXPORT(norm_back_f64)

// norm_sums - sums over rows for the gradients of norm's parameters.
//
//     part[p, i] = sums of dy and dy (x - mean) inv over the depth rows of piece i of part p
//
// kernels  norm_sums_f32 norm_sums_f64
// shapes   part: [parts, pieces, 2, n]. x, dy: [parts, rowsOfPart, n]. mean, inv: [parts, rowsOfPart].
// params   pieces = ceil(rowsOfPart / depth), across = ceil(n / 32).
// launch   grid across * parts * pieces, block 256, shared 0.
// bound    memory: 2 values an element. Goal: 60 % of peak bandwidth from 2^22 values on.
// expect   norm_sums_f32: regs <= 64, shared <= 2048, occupancy >= 50, not LDL STL
// expect   norm_sums_f64: regs <= 64, shared <= 4096, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.NormBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    norm_sums_f32(float* part, const float* x, const float* dy, const float* mean, const float* inv,
                  int n, long long rowsOfPart, int depth, int pieces, int across)
{
    normSums(part, x, dy, mean, inv, n, rowsOfPart, depth, pieces, across);
}
EXPORT(norm_sums_f32)

extern "C" __global__ void __launch_bounds__(256)
    norm_sums_f64(double* part, const double* x, const double* dy, const double* mean,
                  const double* inv, int n, long long rowsOfPart, int depth, int pieces, int across)
{
    normSums(part, x, dy, mean, inv, n, rowsOfPart, depth, pieces, across);
}
EXPORT(norm_sums_f64)

// norm_grads - the gradients of the parameters of norm and group_norm, from sums over rows.
//
//     s = sum dy, a = sum dy h of a part:   dshift += s,   dscale += a weight + s bias,
//     dweight += sum over parts of (1 + scale) a,   dbias += sum over parts of (1 + scale) s
//
// kernels  norm_grads_f32 norm_grads_f64
// shapes   dweight, dbias, weight, bias: [n], dscale, dshift, scale: [parts, n], each may be null.
//          part: [parts, pieces, 2, n].
// launch   grid ceil(n / 32), block 512, shared 0.
// bound    memory: 2 values a column and piece; latency where n is small.
// expect   norm_grads_f32: regs <= 64, shared <= 4096, occupancy >= 50, not LDL STL
// expect   norm_grads_f64: regs <= 64, shared <= 8192, occupancy >= 50, not LDL STL
// repro    yes: parts are added in a fixed order.
// twin     ops.NormBackward, ops.GroupNormBackward
// source   own derivation.
extern "C" __global__ void __launch_bounds__(512)
    norm_grads_f32(float* dweight, float* dbias, float* dscale, float* dshift, const float* part,
                   const float* weight, const float* bias, const float* scale, int n, int parts,
                   int pieces)
{
    normGrads(dweight, dbias, dscale, dshift, part, weight, bias, scale, n, parts, pieces);
}
EXPORT(norm_grads_f32)

extern "C" __global__ void __launch_bounds__(512)
    norm_grads_f64(double* dweight, double* dbias, double* dscale, double* dshift,
                   const double* part, const double* weight, const double* bias,
                   const double* scale, int n, int parts, int pieces)
{
    normGrads(dweight, dbias, dscale, dshift, part, weight, bias, scale, n, parts, pieces);
}
EXPORT(norm_grads_f64)
