// Adafactor: second moments of matrices kept as means over rows and columns. Sums and moments are
// made in double, as on the CPU.
#include "device.h"

inline namespace thisfile {

constexpr int factorThreads = 256;

// The sum of v over the block, in a fixed order, in every thread.
__device__ __forceinline__ double blockSum(double v)
{
    __shared__ double sums[factorThreads / 32];
    v = warpSum(v);
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = v;
    __syncthreads();
    v = 0;
#pragma unroll
    for (int i = 0; i < factorThreads / 32; i++)
        v += sums[i];
    return v;
}

// m moved by a share of the way to v.
template <class T> __device__ __forceinline__ void move(T& m, double share, double v)
{
    const double old = static_cast<double>(m);
    m = static_cast<T>(old + share * (v - old));
}

template <class T>
__device__ __forceinline__ void rowsOf(T* row, const T* g, double share, int cols)
{
    const T* x = g + static_cast<size_t>(blockIdx.x) * cols;
    double sum = 0;
    for (int c = threadIdx.x; c < cols; c += factorThreads)
        sum += static_cast<double>(x[c]) * static_cast<double>(x[c]);
    sum = blockSum(sum);
    if (threadIdx.x == 0) move(row[blockIdx.x], share, sum / cols);
}

template <class T>
__device__ __forceinline__ void colsOf(T* col, const T* g, double share, int rows, int cols)
{
    __shared__ double sums[8][32];
    const int lane = threadIdx.x & 31, way = threadIdx.x >> 5, c = blockIdx.x * 32 + lane;
    double sum = 0;
    if (c < cols)
        for (int r = way; r < rows; r += 8) {
            const double x = static_cast<double>(g[static_cast<size_t>(r) * cols + c]);
            sum += x * x;
        }
    sums[way][lane] = sum;
    __syncthreads();
    if (way > 0 || c >= cols) return;
#pragma unroll
    for (int i = 1; i < 8; i++)
        sum += sums[i][lane];
    move(col[c], share, sum / rows);
}

// Row r of the gradient over the root of the moments.
template <class T>
__device__ __forceinline__ void scaleOf(T* g, const T* row, const T* col, double least, int rows,
                                        int cols)
{
    double mean = 0;
    for (int r = threadIdx.x; r < rows; r += factorThreads)
        mean += static_cast<double>(row[r]);
    mean = blockSum(mean) / rows;
    const double f = mean > 0 ? static_cast<double>(row[blockIdx.x]) / mean : 0;
    T* x = g + static_cast<size_t>(blockIdx.x) * cols;
    for (int c = threadIdx.x; c < cols; c += factorThreads)
        x[c] = static_cast<T>(static_cast<double>(x[c]) /
                              sqrt(fmax(f * static_cast<double>(col[c]), least)));
}

template <class T>
__device__ __forceinline__ void eachOf(T* g, T* v, double share, double least, long long n)
{
    const long long i = static_cast<long long>(blockIdx.x) * factorThreads + threadIdx.x;
    if (i >= n) return;
    const double x = static_cast<double>(g[i]), old = static_cast<double>(v[i]);
    const double m = old + share * (x * x - old);
    v[i] = static_cast<T>(m);
    g[i] = static_cast<T>(x / sqrt(fmax(m, least)));
}

} // namespace thisfile

// adafactor - a gradient becomes Adafactor's update, before it is clipped.
//
//     row[r] += share (mean over c of g[r,c]^2 - row[r]),   col likewise over r
//     g[r,c] = g[r,c] / sqrt(max(row[r] col[c] / mean(row), least))
//     of a vector: v += share (g^2 - v),   g = g / sqrt(max(v, least))
//
// kernels  adafactor_rows_f32 adafactor_rows_f64 adafactor_cols_f32 adafactor_cols_f64
//          adafactor_scale_f32 adafactor_scale_f64 adafactor_each_f32 adafactor_each_f64
// shapes   g: rows x cols; row: [rows]; col: [cols]; v: n, as g. rows and cols before scale.
// params   share in (0, 1]; least > 0.
// launch   block 256, shared 0; rows and scale: grid rows. cols: grid ceil(cols / 32). each: grid
//          ceil(n / 256).
// bound    memory: of rows and cols one value an element, of scale 2, of each 4. Goal: rows, scale and
//          each 50 % of peak bandwidth from 2^22 elements on.
// expect   regs <= 64, shared <= 2048, occupancy >= 50, not LDL STL
// repro    yes: sums are in a fixed order.
// twin     ops.Adafactor
// source   Shazeer and Stern 2018, arXiv 1804.04235, algorithms 4 and 5. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    adafactor_rows_f32(float* row, const float* g, double share, int cols)
{
    rowsOf(row, g, share, cols);
}
EXPORT(adafactor_rows_f32)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_rows_f64(double* row, const double* g, double share, int cols)
{
    rowsOf(row, g, share, cols);
}
EXPORT(adafactor_rows_f64)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_cols_f32(float* col, const float* g, double share, int rows, int cols)
{
    colsOf(col, g, share, rows, cols);
}
EXPORT(adafactor_cols_f32)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_cols_f64(double* col, const double* g, double share, int rows, int cols)
{
    colsOf(col, g, share, rows, cols);
}
EXPORT(adafactor_cols_f64)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_scale_f32(float* g, const float* row, const float* col, double least, int rows,
                        int cols)
{
    scaleOf(g, row, col, least, rows, cols);
}
EXPORT(adafactor_scale_f32)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_scale_f64(double* g, const double* row, const double* col, double least, int rows,
                        int cols)
{
    scaleOf(g, row, col, least, rows, cols);
}
EXPORT(adafactor_scale_f64)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_each_f32(float* g, float* v, double share, double least, long long n)
{
    eachOf(g, v, share, least, n);
}
EXPORT(adafactor_each_f32)

extern "C" __global__ void __launch_bounds__(256)
    adafactor_each_f64(double* g, double* v, double share, double least, long long n)
{
    eachOf(g, v, share, least, n);
}
EXPORT(adafactor_each_f64)
