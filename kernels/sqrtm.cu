#include "linalg.h"

inline namespace thisfile {

// Rows of the state [rows, B] of an iteration; ops/newtonschulz.go has the same numbers.
enum State {
    stProduct, // 1: the next product M is wanted, 0: not
    stAlpha,   // coefficients of the next update
    stBeta,
    stScale,    // what the matrix was divided by
    stResidual, // |I - M| in the Frobenius norm
    stSteps,
    stFault,   // MatrixFault
    stGrowth,  // by how much the small eigenvalues of M have grown
    stMode,    // 0 done, 1 running, 2 the last update is under way
    stNorm,    // |A|
    stLargest, // lower bound of the largest eigenvalue over the scale
    stInverse, // -1 / scale
    stNormV,   // of the last power step
    stRows
};

enum Fault { notFinite = 1, notSymmetric = 2, notPositive = 3, singular = 4, notConverged = 5 };

template <class T>
__device__ __forceinline__ void symmetric(T* y, double* stats, const T* a, int d, int tiles)
{
    __shared__ T low[32][33], up[32][33];
    __shared__ double reduce[8];
    const int batch = blockIdx.x / tiles;
    int ti, tj;
    lowerTile(blockIdx.x % tiles, 1, ti, tj);
    const size_t size = static_cast<size_t>(d) * d;
    a += batch * size;
    y += batch * size;
    const int x = threadIdx.x & 31, way = threadIdx.x >> 5;
    double most = 0, apart = 0;
    for (int i = way; i < 32; i += 8) {
        const int r = ti * 32 + i, c = tj * 32 + x, r2 = tj * 32 + i, c2 = ti * 32 + x;
        low[i][x] = r < d && c < d ? a[static_cast<size_t>(r) * d + c] : T(0);
        up[i][x] = r2 < d && c2 < d ? a[static_cast<size_t>(r2) * d + c2] : T(0);
    }
    __syncthreads();
    for (int i = way; i < 32; i += 8) {
        const T p = low[i][x], q = up[x][i];
        // x - x is NaN for an infinity as well
        const double size1 = fabs(static_cast<double>(p - p) + static_cast<double>(p));
        const double size2 = fabs(static_cast<double>(q - q) + static_cast<double>(q));
        most = size1 > most || size1 != size1 ? size1 : most;
        most = size2 > most || size2 != size2 ? size2 : most;
        apart = fmax(apart, fabs(static_cast<double>(p - q)));
        const int r = ti * 32 + i, c = tj * 32 + x;
        if (r < d && c < d) y[static_cast<size_t>(r) * d + c] = p + (q - p) / 2;
    }
    if (ti != tj)
        for (int i = way; i < 32; i += 8) {
            const T p = low[x][i], q = up[i][x];
            const int r = tj * 32 + i, c = ti * 32 + x;
            if (r < d && c < d) y[static_cast<size_t>(r) * d + c] = p + (q - p) / 2;
        }
    most = blockMax(most, reduce);
    apart = blockMax(apart, reduce);
    if (threadIdx.x == 0) {
        stats[2 * static_cast<size_t>(blockIdx.x)] = most;
        stats[2 * static_cast<size_t>(blockIdx.x) + 1] = apart;
    }
}

template <class T>
__device__ __forceinline__ void rows(double* out, const T* m, const double* v, const double* wanted,
                                     double shift, int d, int total)
{
    const int row = blockIdx.x * 8 + static_cast<int>(threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= total) return;
    const int batch = row / d, r = row - batch * d;
    if (wanted && wanted[batch] == 0) return;
    m += static_cast<size_t>(row) * d;
    v += static_cast<size_t>(batch) * d;
    double squares = 0, sizes = 0, dot = 0;
#pragma unroll 4
    for (int c = lane; c < d; c += 32) {
        const double x = static_cast<double>(m[c]), e = (c == r ? shift : 0) - x;
        squares = fma(e, e, squares);
        sizes += fabs(x);
        dot = fma(e, v[c], dot);
    }
    squares = warpSum(squares);
    sizes = warpSum(sizes);
    dot = warpSum(dot);
    if (lane == 0) {
        out[row] = squares;
        out[total + static_cast<size_t>(row)] = sizes;
        out[2 * static_cast<size_t>(total) + row] = dot;
    }
}

// A start of every power iteration: signs that look random, the same on every machine.
__device__ __forceinline__ double startVector(int i, int d)
{
    unsigned h = static_cast<unsigned>(i) * 2654435761u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return ((h >> 7 & 1) ? 1.0 : -1.0) / sqrt(static_cast<double>(d));
}

template <class T>
__device__ __forceinline__ void scaleOne(T* y, T* z, const double* scale, int d, long long total)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= total) return;
    const long long row = i / d;
    const int c = static_cast<int>(i - row * d), r = static_cast<int>(row % d);
    y[i] = static_cast<T>(static_cast<double>(y[i]) / scale[row / d]);
    if (z) z[i] = c == r ? 1 : 0;
}

template <class T>
__device__ __forceinline__ void resultOne(T* out, const T* from, const double* scale,
                                          const double* faults, int inverse, int d, long long total)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= total) return;
    const long long batch = i / d / d;
    const double root = sqrt(scale[batch]);
    const bool fault = faults[batch] != 0;
    const double x = static_cast<double>(from[i]);
    out[i] = fault ? static_cast<T>(NAN) : static_cast<T>(inverse ? x / root : x * root);
}

} // namespace thisfile

// sqrtm_symmetric - (A + A^T) / 2, and how large and how asymmetric A is.
//
//     y = (a + a^T) / 2,  stats[b, tile] = max |a|, max |a - a^T| over the tile and its mirror image
//
// kernels  sqrtm_symmetric_f32 sqrtm_symmetric_f64
// shapes   y, a: [B, D, D], y may be a; stats: [B, tiles, 2] double; the first is NaN when a is not finite.
// params   tiles = T (T + 1) / 2 with T = ceil(D / 32).
// launch   grid B tiles, block 256, shared 0.
// bound    memory: 2 B D D elements.
// expect   regs <= 64, shared <= 17024, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_symmetric_f32(float* y, double* stats, const float* a, int d, int tiles)
{
    symmetric(y, stats, a, d, tiles);
}
EXPORT(sqrtm_symmetric_f32)

extern "C" __global__ void __launch_bounds__(256)
    sqrtm_symmetric_f64(double* y, double* stats, const double* a, int d, int tiles)
{
    symmetric(y, stats, a, d, tiles);
}
EXPORT(sqrtm_symmetric_f64)

// sqrtm_rows - row sums of I shift - M: the first stage of norms and of a power step.
//
//     out[0, b, i] = sum_j e_ij^2,  out[1, b, i] = sum_j |m_ij|,  out[2, b, i] = sum_j e_ij v[b, j]
//     with e = shift I - M
//
// kernels  sqrtm_rows_f32 sqrtm_rows_f64
// shapes   m: [B, D, D]; v: [B, D] double; out: [3, B, D] double; wanted: [B] or null, 0 leaves a matrix out.
// params   total = B D < 2^31.
// launch   grid ceil(B D / 8), block 256, shared 0. A warp a row, sums in double.
// bound    memory: B D D elements.
// expect   regs <= 48, shared <= 0, occupancy >= 62, has SHFL DFMA, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_rows_f32(double* out, const float* m, const double* v, const double* wanted, double shift,
                   int d, int total)
{
    rows(out, m, v, wanted, shift, d, total);
}
EXPORT(sqrtm_rows_f32)

extern "C" __global__ void __launch_bounds__(256)
    sqrtm_rows_f64(double* out, const double* m, const double* v, const double* wanted,
                   double shift, int d, int total)
{
    rows(out, m, v, wanted, shift, d, total);
}
EXPORT(sqrtm_rows_f64)

// sqrtm_start - checks, scale and first vector of an iteration.
//
//     scale = min(|A|_F, |A|_inf) >= largest eigenvalue; for a polar iteration, where rows are of P P^T, its root
//
// kernels  sqrtm_start_f64
// shapes   state: [13, B] (ops/newtonschulz.go); v: [B, D]; rows: [3, B, D] of sqrtm_rows with shift 0;
//          stats: [B, tiles, 2] or null; y: [B, D, D] double or, when y32 is given, float; both null for polar.
// params   asymmetry: largest |a - a^T| / max |a| allowed.
// launch   grid B, block 256, shared 0. One block a matrix.
// bound    latency.
// expect   regs <= 64, shared <= 64, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_start_f64(double* state, double* v, const double* rows, const double* stats,
                    const double* y, const float* y32, double asymmetry, int d, int batches,
                    int tiles)
{
    __shared__ double reduce[8];
    const int batch = blockIdx.x, tid = threadIdx.x;
    const size_t first = static_cast<size_t>(batch) * d, total = static_cast<size_t>(batches) * d;
    double most = 0, apart = 0, squares = 0, sizes = 0, trace = 0;
    if (stats)
        for (int i = tid; i < tiles; i += 256) {
            const double* s = stats + 2 * (static_cast<size_t>(batch) * tiles + i);
            most = s[0] > most || s[0] != s[0] ? s[0] : most;
            apart = fmax(apart, s[1]);
        }
    for (int i = tid; i < d; i += 256) {
        squares += rows[first + i];
        sizes = fmax(sizes, rows[total + first + i]);
        v[first + i] = startVector(i, d);
        const size_t at = (first + i) * d + i;
        if (y) trace += y[at];
        if (y32) trace += static_cast<double>(y32[at]);
    }
    most = blockMax(most, reduce);
    apart = blockMax(apart, reduce);
    squares = blockSum(squares, reduce);
    sizes = blockMax(sizes, reduce);
    trace = blockSum(trace, reduce);
    if (tid != 0) return;
    const double norm = sqrt(squares);
    double scale = fmin(norm, sizes), fault = 0;
    const bool polar = !stats;
    if (polar) scale = sqrt(scale);
    if (most != most)
        fault = notFinite;
    else if (apart > asymmetry * most)
        fault = notSymmetric;
    else if (!(scale > 0)) { // nothing there
        fault = polar ? 0 : singular;
        scale = 1;
    }
    auto set = [&](State row, double x) { state[static_cast<size_t>(row) * batches + batch] = x; };
    set(stScale, scale);
    set(stInverse, -1 / scale);
    set(stNorm, norm);
    set(stFault, fault);
    set(stMode, fault != 0 ? 0 : 1);
    set(stProduct, fault != 0 ? 0 : 1);
    set(stAlpha, 0);
    set(stBeta, 1);
    set(stResidual, INFINITY);
    set(stSteps, 0);
    set(stGrowth, 1);
    set(stLargest, trace > 0 ? fmin(squares / trace, norm) / scale
                             : norm / sqrt(static_cast<double>(d)) / scale);
    set(stNormV, 0);
}
EXPORT(sqrtm_start_f64)

// sqrtm_scale - the first iterates: Y = A / scale, Z = I.
//
//     y[b] /= scale[b], z[b] = I
//
// kernels  sqrtm_scale_f32 sqrtm_scale_f64
// shapes   y, z: [B, D, D], z may be null; scale: [B] double.
// params   total = B D D.
// launch   grid ceil(total / 256), block 256, shared 0.
// bound    memory: 3 B D D elements.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_scale_f32(float* y, float* z, const double* scale, int d, long long total)
{
    scaleOne(y, z, scale, d, total);
}
EXPORT(sqrtm_scale_f32)

extern "C" __global__ void __launch_bounds__(256)
    sqrtm_scale_f64(double* y, double* z, const double* scale, int d, long long total)
{
    scaleOne(y, z, scale, d, total);
}
EXPORT(sqrtm_scale_f64)

// sqrtm_step - judges a Newton-Schulz iterate and chooses the next coefficients.
//
//     next: X (beta + alpha M), beta = 3 rho / 2, alpha = -rho^3 / 2, rho = min(sqrt(3 / (1 + l + l^2)), 1.6977)
//     l^2 = 1 - |(I - M) v|, the least eigenvalue of M as a power iteration on I - M sees it
//
// kernels  sqrtm_step_f64
// shapes   state: [13, B]; v: [B, D]; rows: [3, B, D] of sqrtm_rows with shift 1.
// params   limit: condition number from which A is singular, 0 for a polar iteration, which takes any;
//          near: residual from which one more step ends it, half the root of the dtype's epsilon.
// launch   grid B, block 256, shared 0. One block a matrix.
// bound    latency.
// expect   regs <= 48, shared <= 64, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
// note     while it is below 0.01 the least eigenvalue of M is that of A / scale times the growth.
//          ends: the residual is `near` (one update more), or below 0.1 and no longer falls to a quarter.
//          refuses: |I - M| above 1.05, which only a negative eigenvalue does; a least eigenvalue whose
//          ratio to the largest is beyond the limit; 80 steps. rho is 1 from a residual of 0.1 on.
// source   scaling: Chen and Chow 2014. Own derivation of the estimates.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_step_f64(double* state, double* v, const double* rows, double limit, double near, int d,
                   int batches)
{
    __shared__ double reduce[8];
    const int batch = blockIdx.x, tid = threadIdx.x;
    const size_t first = static_cast<size_t>(batch) * d, total = static_cast<size_t>(batches) * d;
    auto at = [&](State row) -> double& {
        return state[static_cast<size_t>(row) * batches + batch];
    };
    const double mode = at(stMode);
    if (mode != 1) {
        if (tid == 0) { // what was done stays as it is
            at(stMode) = 0;
            at(stProduct) = 0;
            at(stAlpha) = 0;
            at(stBeta) = 1;
        }
        return;
    }
    double squares = 0, power = 0;
    for (int i = tid; i < d; i += 256) {
        squares += rows[first + i];
        power += square(rows[2 * total + first + i]);
    }
    squares = blockSum(squares, reduce);
    power = sqrt(blockSum(power, reduce));
    if (power > 0 && squares >= 0.01) // nearer to the end v is a matter of rounding
        for (int i = tid; i < d; i += 256)
            v[first + i] = rows[2 * total + first + i] / power;
    if (tid != 0) return;
    const double r = sqrt(squares), before = at(stResidual), growth = at(stGrowth);
    const double least = 1 - power; // of M; at least the true one, or negative
    const double largest = at(stLargest);
    double fault = 0, rho = 1, next = 1;
    if (!(r < 1e30)) {
        fault = notConverged;
    } else if (limit > 0 && least < -0.05) {
        fault = -least / growth * limit > largest ? notPositive : singular;
    } else if (limit > 0 && least < 0.01 && fmax(least, 0.0) / growth * limit < largest) {
        fault = singular;
    } else if (at(stSteps) >= 80) {
        fault = limit > 0 ? notConverged : 0;
        next = 0;
    } else if (r < near) {
        next = 2;
    } else if ((r < 0.1 && r > before / 4) || (limit == 0 && growth > 1e36)) {
        next = 0;
    } else if (r > 0.1) {
        const double l = sqrt(fmin(fmax(least, 0.0), 1.0));
        rho = fmin(sqrt(3 / (1 + l + l * l)), 1.69770248526);
    }
    if (fault != 0) next = 0;
    at(stFault) = fault;
    at(stMode) = next;
    at(stProduct) = next == 1 ? 1 : 0;
    at(stAlpha) = next == 0 ? 0 : -0.5 * rho * rho * rho;
    at(stBeta) = next == 0 ? 1 : 1.5 * rho;
    at(stResidual) = r;
    if (next != 0) {
        at(stSteps) += 1;
        at(stGrowth) = growth * square(1.5 * rho);
    }
}
EXPORT(sqrtm_step_f64)

// sqrtm_power - one step of a power iteration, or the norm of a residual.
//
//     norm[b] = |w|, v[b] = w / |w| with w = rows[2, b];  squares[b] = sum_i rows[0, b, i]
//
// kernels  sqrtm_power_f64
// shapes   v, w: [B, D]; norm, squares: [B]; rows: [3, B, D].
// params   restart != 0: v becomes the start vector instead, and nothing is read of rows.
// launch   grid B, block 256, shared 0.
// bound    latency.
// expect   regs <= 40, shared <= 64, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_power_f64(double* v, double* norm, double* squares, const double* rows, int restart,
                    int d, int batches)
{
    __shared__ double reduce[8];
    const int tid = threadIdx.x;
    const size_t first = static_cast<size_t>(blockIdx.x) * d,
                 total = static_cast<size_t>(batches) * d;
    if (restart) {
        for (int i = tid; i < d; i += 256)
            v[first + i] = startVector(i, d);
        return;
    }
    double power = 0, sum = 0;
    for (int i = tid; i < d; i += 256) {
        power += square(rows[2 * total + first + i]);
        sum += rows[first + i];
    }
    power = sqrt(blockSum(power, reduce));
    sum = blockSum(sum, reduce);
    for (int i = tid; i < d; i += 256)
        v[first + i] = rows[2 * total + first + i] / power;
    if (tid == 0) {
        norm[blockIdx.x] = power;
        squares[blockIdx.x] = sum;
    }
}
EXPORT(sqrtm_power_f64)

// sqrtm_result - the roots from the last iterates, NaN for a refused matrix.
//
//     out = Y sqrt(scale), or Z / sqrt(scale) for the inverse
//
// kernels  sqrtm_result_f32 sqrtm_result_f64
// shapes   out, from: [B, D, D]; scale, faults: [B] double. out may be from.
// params   total = B D D.
// launch   grid ceil(total / 256), block 256, shared 0.
// bound    memory: 2 B D D elements.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Sqrtm.
extern "C" __global__ void __launch_bounds__(256)
    sqrtm_result_f32(float* out, const float* from, const double* scale, const double* faults,
                     int inverse, int d, long long total)
{
    resultOne(out, from, scale, faults, inverse, d, total);
}
EXPORT(sqrtm_result_f32)

extern "C" __global__ void __launch_bounds__(256)
    sqrtm_result_f64(double* out, const double* from, const double* scale, const double* faults,
                     int inverse, int d, long long total)
{
    resultOne(out, from, scale, faults, inverse, d, total);
}
EXPORT(sqrtm_result_f64)
