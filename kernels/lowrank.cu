// Maps that are diagonal in a few orthonormal directions and a multiple of the identity in the
// rest, such as the exact flow of a Gaussian: two thin products, and never a D x D matrix.
#include "device.h"

inline namespace thisfile {

constexpr int THREADS = 256;

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

// project: a tile of 64 samples and 64 directions, summed over a slice of the dimensions, which come
// in steps of 16 through shared memory. A thread has 4 x 4 of the tile's sums: eight values from
// shared memory for sixteen products.
constexpr int TILE = 64, STEP = 16, MINE = 4, ACROSS = TILE / MINE;
// Values lie by dimension, so that a thread's four are one vector; the pitch keeps vectors aligned and
// moves neighbouring dimensions to other banks.
constexpr int PITCH = TILE + 4;

template <class T>
__device__ __forceinline__ void project(T* part, const T* x, const T* mean, const T* basis,
                                        double scale, int rows, int rank, int dims, int slice)
{
    __shared__ __align__(16) T xs[STEP][PITCH];
    __shared__ __align__(16) T us[STEP][PITCH];
    const int b0 = blockIdx.y * TILE, r0 = blockIdx.x * TILE;
    const int k0 = blockIdx.z * slice, k1 = min(k0 + slice, dims);
    const int tx = threadIdx.x % ACROSS, ty = threadIdx.x / ACROSS;
    const int col = threadIdx.x % STEP, first = threadIdx.x / STEP; // neighbours load along a row
    const T a = static_cast<T>(scale);
    T s[MINE][MINE] = {};
    for (int k = k0; k < k1; k += STEP) {
        const int at = k + col;
        const T m = at < k1 ? a * mean[at] : static_cast<T>(0);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i += THREADS / STEP) {
            const int b = b0 + first + i, r = r0 + first + i;
            T v = 0, u = 0;
            if (at < k1 && b < rows) v = x[static_cast<long long>(b) * dims + at] - m;
            if (at < k1 && r < rank) u = basis[static_cast<long long>(r) * dims + at];
            xs[col][first + i] = v;
            us[col][first + i] = u;
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < STEP; c++) {
            T v[MINE], u[MINE];
#pragma unroll
            for (int i = 0; i < MINE; i++) {
                v[i] = xs[c][ty * MINE + i];
                u[i] = us[c][tx * MINE + i];
            }
#pragma unroll
            for (int i = 0; i < MINE; i++)
#pragma unroll
                for (int j = 0; j < MINE; j++)
                    s[i][j] = fused(v[i], u[j], s[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < MINE; i++)
#pragma unroll
        for (int j = 0; j < MINE; j++) {
            const int b = b0 + ty * MINE + i, r = r0 + tx * MINE + j;
            if (b < rows && r < rank)
                part[(static_cast<long long>(blockIdx.z) * rows + b) * rank + r] = s[i][j];
        }
}

template <class T>
__device__ __forceinline__ void weigh(T* coef, const T* part, const double* gain, double rest,
                                      long long n, int rank, int parts)
{
    const long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n) return;
    double s = 0;
#pragma unroll 4
    for (int p = 0; p < parts; p++)
        s += part[p * n + i];
    coef[i] = static_cast<T>((gain[i % rank] - rest) * s);
}

// expand: 8 samples of 256 dimensions a block; a thread has one dimension, and the directions'
// coefficients of the samples come through shared memory, where all threads read the same.
constexpr int SAMPLES = 8, DIRECTIONS = 64;

template <class T>
__device__ __forceinline__ void expand(T* out, const T* x, const T* mean, const T* basis,
                                       const T* coef, double from, double to, double rest, int rows,
                                       int rank, int dims)
{
    __shared__ T c[DIRECTIONS][SAMPLES];
    const int d = blockIdx.x * THREADS + threadIdx.x, b0 = blockIdx.y * SAMPLES;
    T s[SAMPLES] = {};
    for (int r0 = 0; r0 < rank; r0 += DIRECTIONS) {
        const int n = min(DIRECTIONS, rank - r0);
        __syncthreads();
        for (int i = threadIdx.x; i < DIRECTIONS * SAMPLES; i += THREADS) {
            const int b = i / DIRECTIONS, r = i % DIRECTIONS;
            c[r][b] = b0 + b < rows && r < n ? coef[static_cast<long long>(b0 + b) * rank + r0 + r]
                                             : static_cast<T>(0);
        }
        __syncthreads();
        if (d >= dims) continue;
#pragma unroll 4
        for (int r = 0; r < n; r++) {
            const T u = basis[static_cast<long long>(r0 + r) * dims + d];
#pragma unroll
            for (int b = 0; b < SAMPLES; b++)
                s[b] = fused(c[r][b], u, s[b]);
        }
    }
    if (d >= dims) return;
    const double m = mean[d];
#pragma unroll
    for (int b = 0; b < SAMPLES; b++) {
        if (b0 + b >= rows) break;
        const long long at = static_cast<long long>(b0 + b) * dims + d;
        const double centred = static_cast<double>(x[at]) - from * m;
        out[at] = static_cast<T>(to * m + rest * centred + static_cast<double>(s[b]));
    }
}

} // namespace thisfile

// lowrank_project - the coordinates of centred samples in the directions, in slices.
//
//     part[z, b, r] = sum over the dimensions d of slice z of (x[b, d] - scale mean[d]) basis[r, d]
//
// kernels  lowrank_project_f32 lowrank_project_f64
// shapes   part: slices * rows * rank values. x: rows * dims. mean: dims. basis: rank * dims.
// params   slice dimensions each, a multiple of 16.
// launch   grid (ceil(rank / 64), ceil(rows / 64), slices), block 256, shared 0.
// bound    compute: 2 rows rank dims flops in FMA, and two vectors from shared memory for every
//          sixteen. Goal: 35 % of peak from 64 x 256 x 3072 on, where a slice is short.
// expect   regs <= 64, shared <= 8704, occupancy >= 50, has LDS.128, not LDL STL
// expect   lowrank_project_f64: regs <= 80, shared <= 17408, occupancy >= 37
// repro    yes
// twin     ops.Gaussian; sums of `slice` products in the type: within (slice + 1) eps of the sum of
//          absolute products.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256, 4)
    lowrank_project_f32(float* part, const float* x, const float* mean, const float* basis,
                        double scale, int rows, int rank, int dims, int slice)
{
    project(part, x, mean, basis, scale, rows, rank, dims, slice);
}
EXPORT(lowrank_project_f32)

extern "C" __global__ void __launch_bounds__(256)
    lowrank_project_f64(double* part, const double* x, const double* mean, const double* basis,
                        double scale, int rows, int rank, int dims, int slice)
{
    project(part, x, mean, basis, scale, rows, rank, dims, slice);
}
EXPORT(lowrank_project_f64)

// lowrank_weigh - what each direction adds: its coordinate times its gain beyond the rest's.
//
//     coef[b, r] = (gain[r] - rest) sum over z of part[z, b, r]
//
// kernels  lowrank_weigh_f32 lowrank_weigh_f64
// shapes   coef: rows * rank = n values. part: parts * n. gain: rank doubles.
// launch   grid ceil(n / 256), block 256, shared 0.
// bound    latency: (parts + 1) n values.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Gaussian
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    lowrank_weigh_f32(float* coef, const float* part, const double* gain, double rest, long long n,
                      int rank, int parts)
{
    weigh(coef, part, gain, rest, n, rank, parts);
}
EXPORT(lowrank_weigh_f32)

extern "C" __global__ void __launch_bounds__(256)
    lowrank_weigh_f64(double* coef, const double* part, const double* gain, double rest,
                      long long n, int rank, int parts)
{
    weigh(coef, part, gain, rest, n, rank, parts);
}
EXPORT(lowrank_weigh_f64)

// lowrank_expand - the map itself, from what each direction adds.
//
//     out[b] = to mean + rest (x[b] - from mean) + sum over r of coef[b, r] basis[r]
//
// kernels  lowrank_expand_f32 lowrank_expand_f64
// shapes   out, x: rows * dims values; out may be x. mean: dims. basis: rank * dims. coef: rows * rank.
// launch   grid (ceil(dims / 256), ceil(rows / 8)), block 256, shared 0.
// bound    compute: 2 rows rank dims flops in FMA, with one broadcast from shared memory for each;
//          the basis is read from L2 once for 8 samples. Goal: 35 % of peak from 64 x 256 x 3072 on.
// expect   regs <= 48, shared <= 2048, occupancy >= 62, not LDL STL
// expect   lowrank_expand_f64: regs <= 64, shared <= 4096, occupancy >= 50
// repro    yes
// twin     ops.Gaussian; the sum over r in the type, in order: within (rank + 1) eps of the sum of
//          absolute products; the rest in double, rounded once.
// source   Wang and Vastola 2024, "The unreasonable effectiveness of Gaussian score approximation",
//          the flow of a Gaussian. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    lowrank_expand_f32(float* out, const float* x, const float* mean, const float* basis,
                       const float* coef, double from, double to, double rest, int rows, int rank,
                       int dims)
{
    expand(out, x, mean, basis, coef, from, to, rest, rows, rank, dims);
}
EXPORT(lowrank_expand_f32)

extern "C" __global__ void __launch_bounds__(256)
    lowrank_expand_f64(double* out, const double* x, const double* mean, const double* basis,
                       const double* coef, double from, double to, double rest, int rows, int rank,
                       int dims)
{
    expand(out, x, mean, basis, coef, from, to, rest, rows, rank, dims);
}
EXPORT(lowrank_expand_f64)
