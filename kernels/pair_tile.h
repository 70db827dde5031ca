// Products of the rows of two matrices in tiles of 64 x 64, 16 of a thread, for kernels that look at all pairs of vectors,
// and squared distances: as float64 has them, and between which numbers they are by a product.
#pragma once
#include "device.h"

inline namespace thisfile {

constexpr int THREADS = 256, TILE = 64, DEPTH = 16, PITCH = TILE + 4;

// limits are the rounding of a product, the least normal and the greatest number.
template <class T> struct limits;
template <> struct limits<float> {
    static constexpr float unit = 5.9604645e-8f, tiny = 1.1754944e-38f, huge = FLT_MAX;
};
template <> struct limits<double> {
    static constexpr double unit = 1.1102230246251565e-16, tiny = 2.2250738585072014e-308,
                            huge = DBL_MAX;
};

// stage puts DEPTH coordinates of TILE rows from row first on into shared memory, the rows next to
// each other, less the centre where there is one; what is beyond the matrix is 0.
template <class T>
__device__ __forceinline__ void stage(T (*to)[PITCH], const T* x, long long first, long long rows,
                                      int at, int d, const T* centre = nullptr)
{
#pragma unroll
    for (int j = 0; j < TILE * DEPTH / THREADS; j++) {
        const int i = static_cast<int>(threadIdx.x) + j * THREADS, row = i / DEPTH, c = i % DEPTH;
        const bool in = first + row < rows && at + c < d;
        T v = in ? x[(first + row) * d + at + c] : T(0);
        if (centre != nullptr && in) v -= centre[at + c];
        to[c][row] = v;
    }
}

// multiply adds the products of what is staged: rows 4 ty on of a with rows 4 tx on of b.
template <class T>
__device__ __forceinline__ void multiply(T (&sum)[4][4], const T (*a)[PITCH], const T (*b)[PITCH],
                                         int tx, int ty)
{
#pragma unroll 2
    for (int c = 0; c < DEPTH; c++) {
        T u[4], v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u[i] = a[c][4 * ty + i];
            v[i] = b[c][4 * tx + i];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum[i][j] = fma(u[i], v[j], sum[i][j]);
    }
}

// products is the thread's sums over all d coordinates of rows first on of x with rows c0 on of y, which
// go through a and b.
template <class T>
__device__ __forceinline__ void products(T (&sum)[4][4], T (*a)[PITCH], T (*b)[PITCH], const T* x,
                                         long long first, long long n, const T* y, long long c0,
                                         long long m, int d, int tx, int ty,
                                         const T* centre = nullptr)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum[i][j] = 0;
#pragma unroll 1
    for (int c = 0; c < d; c += DEPTH) {
        stage(a, x, first, n, c, d, centre);
        stage(b, y, c0, m, c, d, centre);
        __syncthreads();
        multiply(sum, a, b, tx, ty);
        __syncthreads();
    }
}

// The CPU's bits of a squared distance: differences, squares and sums rounded one by one, in the
// order of the coordinates.
template <class T> __device__ __forceinline__ double squared(const T* a, const T* b, int d)
{
    double s = 0;
#pragma unroll 1
    for (int i = 0; i < d; i++) {
        const double e = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        s = __dadd_rn(s, __dmul_rn(e, e));
    }
    return s;
}

// between sets low and high to what squared is between, of two vectors around a centre with this
// product, these squared lengths xx, yy and these lengths. Products, the coordinates around the
// centre, the lengths and squared itself are wrong by no more than slack (|x| + |y|)^2, see
// ops.pairSlack; what is less than normal is wrong by d tiny at most. Where lengths are too great for
// T, and of NaN, nothing is known: no comparison of low holds then.
template <class T>
__device__ __forceinline__ void between(T& low, T& high, T dot, T xx, T yy, T x, T y, T slack,
                                        T least)
{
    const T both = (x + y) * (x + y), score = fma(T(-2), dot, xx + yy);
    const T e = both < limits<T>::huge / 4 ? fma(slack, both, least) : T(NAN);
    low = score - e;
    high = score + e;
}

} // namespace thisfile
