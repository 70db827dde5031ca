// The row of a book that is nearest to each of many vectors.
#include "pair_tile.h"

inline namespace thisfile {

// The CPU's bits: products and sums rounded one by one, in the order of the coordinates.
template <class T> __device__ __forceinline__ double dot(const T* a, const T* b, int d)
{
    double s = 0;
#pragma unroll 1
    for (int i = 0; i < d; i++)
        s = __dadd_rn(s, __dmul_rn(static_cast<double>(a[i]), static_cast<double>(b[i])));
    return s;
}

template <class T>
__device__ __forceinline__ double distance(const T* a, const T* b, int d, bool cosine, double size,
                                           double reach)
{
    if (cosine) {
        if (size == 0 || reach == 0) return 1;
        return __dadd_rn(1, -(dot(a, b, d) / __dmul_rn(size, reach)));
    }
    return squared(a, b, d);
}

template <class T>
__device__ __forceinline__ void sizes(double* square, const T* book, int k, int d)
{
    const int i = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    if (i >= k) return;
    const T* row = book + static_cast<long long>(i) * d;
    const double s = dot(row, row, d);
    square[i] = s;
    square[k + i] = sqrt(s);
}

template <class T>
__device__ __forceinline__ void nearest(int* idx, T* dist, const T* z, const T* book,
                                        const double* square, int cosine, long long n, int k, int d)
{
    __shared__ T zs[DEPTH][PITCH], bs[DEPTH][PITCH];
    __shared__ double length[TILE];
    // What each thread has found for its rows: seldom touched, so it need not fill registers.
    __shared__ double far[4][THREADS];
    __shared__ int at[4][THREADS];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const long long first = static_cast<long long>(blockIdx.x) * TILE;
    if (threadIdx.x < TILE) {
        const long long row = first + threadIdx.x;
        length[threadIdx.x] = row < n ? sqrt(dot(z + row * d, z + row * d, d)) : 0;
    }
    __syncthreads();
    const T factor = static_cast<T>(d + 12) * limits<T>::unit * T(1.001);
    const T least = static_cast<T>(d + 12) * limits<T>::tiny;
    T size[4], cap[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        size[i] = static_cast<T>(length[4 * ty + i]);
        cap[i] = limits<T>::huge;
        far[i][threadIdx.x] = INFINITY;
        at[i][threadIdx.x] = 0;
    }
    for (int c0 = 0; c0 < k; c0 += TILE) {
        T sum[4][4];
        products(sum, zs, bs, z, first, n, book, c0, k, d, tx, ty);
        // A score is wrong by no more than a bound of the lengths: of a product and its sum with
        // half a square. The sums become the least that scores can be; cap is the least that a
        // score is at most. Where lengths are too great for T, there is no bound.
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int code = c0 + 4 * tx + j;
            const double sq = code < k ? square[code] : 0, root = code < k ? square[k + code] : 0;
            const T reach = static_cast<T>(root);
            const T p = cosine != 0 ? static_cast<T>(-1 / root) : T(-1);
            const T q = cosine != 0 ? T(0) : static_cast<T>(sq * 0.5);
            const T slope = cosine != 0 ? factor : factor * reach;
            const T rest = cosine != 0 ? -least * p : factor * reach * reach + least;
            const bool bound = reach * reach < limits<T>::huge / 4;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const T score = fma(p, sum[i][j], q);
                T e = slope * size[i] + rest;
                if (!(bound && size[i] * reach < limits<T>::huge / 4)) e = INFINITY;
                sum[i][j] = score - e;
                if (code < k && score + e < cap[i]) cap[i] = score + e; // NaN is no bound
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int m = 8; m > 0; m >>= 1) { // over the 16 threads of a row
                const T other = __shfl_xor_sync(0xffffffffu, cap[i], m);
                if (other < cap[i]) cap[i] = other;
            }
            const long long row = first + 4 * ty + i;
            unsigned open = 0;
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (row < n && c0 + 4 * tx + j < k && !(sum[i][j] > cap[i])) open |= 1u << j;
#pragma unroll 1
            for (int j = 0; j < 4; j++) {
                if ((open >> j & 1) == 0) continue;
                const int code = c0 + 4 * tx + j;
                const double e = distance(z + row * d, book + static_cast<long long>(code) * d, d,
                                          cosine != 0, length[4 * ty + i], square[k + code]);
                if (e < far[i][threadIdx.x]) {
                    far[i][threadIdx.x] = e;
                    at[i][threadIdx.x] = code;
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        double nearby = far[i][threadIdx.x];
        int place = at[i][threadIdx.x];
#pragma unroll
        for (int m = 8; m > 0; m >>= 1) {
            const double e = __shfl_xor_sync(0xffffffffu, nearby, m);
            const int code = __shfl_xor_sync(0xffffffffu, place, m);
            if (e < nearby || (e == nearby && code < place)) {
                nearby = e;
                place = code;
            }
        }
        const long long row = first + 4 * ty + i;
        if (tx != 0 || row >= n) continue;
        idx[row] = place;
        const double l = length[4 * ty + i];
        if (dist != nullptr) dist[row] = static_cast<T>(l == l ? nearby : l);
    }
}

} // namespace thisfile

// nearest_sizes - the squared lengths of a book's rows, and the lengths.
//
//     square[r] = sum over i of book[r, i]^2, in double, in the order of i;  square[k + r] = its root
//
// kernels  nearest_sizes_f32 nearest_sizes_f64
// shapes   square: 2 k doubles. book: [k, d].
// launch   grid ceil(k / 256), block 256, shared 0.
// bound    latency: one thread a row, whose sum is a chain. A book is small beside what it is searched for.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Nearest, which needs the lengths in this order of sums.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    nearest_sizes_f32(double* square, const float* book, int k, int d)
{
    sizes(square, book, k, d);
}
EXPORT(nearest_sizes_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearest_sizes_f64(double* square, const double* book, int k, int d)
{
    sizes(square, book, k, d);
}
EXPORT(nearest_sizes_f64)

// nearest_code - the row of a book that is nearest to each vector, the first of equals.
//
//     idx[r] = argmin over k of |z[r] - book[k]|^2, or of 1 - cos(z[r], book[k])
//
// kernels  nearest_code_f32 nearest_code_f64
// shapes   idx: n ints. dist: n values, or null. z: [n, d]. book: [k, d]. square: that of nearest_sizes.
// params   cosine = 1 for the angle.
// launch   grid ceil(n / 64), block 256, shared 0.
// bound    f32: 2 n k d operations in tiles of 64 x 64, 16 products a thread for 8 values of shared memory. Each
//          code whose product leaves it in question is measured in double: a few a row, as many as a running
//          minimum of k / 64 tiles has records. Goal: 35 % of peak at d >= 64, less where the comparisons outweigh d.
// expect   nearest_code_f32: regs <= 128, shared <= 24576, occupancy >= 25, not LDL STL
// expect   nearest_code_f64: regs <= 255, shared <= 34816, occupancy >= 12, not LDL STL
// repro    yes
// twin     ops.Nearest; the same indices: the double sums that decide are made in the same order.
// source   Own derivation.
extern "C" __global__ void __launch_bounds__(256, 2)
    nearest_code_f32(int* idx, float* dist, const float* z, const float* book, const double* square,
                     int cosine, long long n, int k, int d)
{
    nearest(idx, dist, z, book, square, cosine, n, k, d);
}
EXPORT(nearest_code_f32)

extern "C" __global__ void __launch_bounds__(256)
    nearest_code_f64(int* idx, double* dist, const double* z, const double* book,
                     const double* square, int cosine, long long n, int k, int d)
{
    nearest(idx, dist, z, book, square, cosine, n, k, d);
}
EXPORT(nearest_code_f64)
