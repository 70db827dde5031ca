// Sums of a kernel's values between two sets of vectors: what maximum mean discrepancies are made of.
#include "pair_tile.h"

inline namespace thisfile {

// The kernels, by params kind.
constexpr int CUBIC = 0;  // (scale x.y + shift)^3
constexpr int NORMAL = 1; // exp(-scale |x - y|^2)

// The kernel's value of a product and the squared lengths.
__device__ __forceinline__ double value(double dot, double xx, double yy, int kind, double scale,
                                        double shift)
{
    if (kind == CUBIC) {
        const double v = fma(scale, dot, shift);
        return v * v * v;
    }
    const double far = xx + yy - 2 * dot;
    return exp(-scale * (far < 0 ? 0 : far)); // not fmax, which loses a NaN
}

template <class T>
__device__ __forceinline__ void sums(double* out, const T* x, const T* y, const double* xx,
                                     const double* yy, int n, int m, int d, int pieces, int apart,
                                     int kind, double scale, double shift)
{
    __shared__ T xs[DEPTH][PITCH], ys[DEPTH][PITCH];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int piece = blockIdx.x % pieces, first = static_cast<int>(blockIdx.x) / pieces * TILE;
    double total[4] = {};
#pragma unroll 1
    for (int c0 = piece * TILE; c0 < m; c0 += pieces * TILE) {
        double dot[4][4] = {};
#pragma unroll 1
        for (int at = 0; at < d; at += DEPTH) {
            stage(xs, x, first, n, at, d);
            stage(ys, y, c0, m, at, d);
            __syncthreads();
            // A float's chain is DEPTH long, the sum of the chains is double: the error does not
            // grow with the width.
            T part[4][4] = {};
            multiply(part, xs, ys, tx, ty);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    dot[i][j] += static_cast<double>(part[i][j]);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = first + 4 * ty + i;
            const double length = kind == NORMAL && row < n ? xx[row] : 0;
            double s = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int col = c0 + 4 * tx + j;
                if (row >= n || col >= m || (apart != 0 && row == col)) continue;
                s += value(dot[i][j], length, kind == NORMAL ? yy[col] : 0, kind, scale, shift);
            }
#pragma unroll
            for (int lane = 8; lane > 0; lane >>= 1) // over the 16 threads of a row
                s += __shfl_xor_sync(0xffffffffu, s, lane);
            total[i] += s;
        }
    }
    if (tx != 0) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = first + 4 * ty + i;
        if (row < n) out[static_cast<long long>(piece) * n + row] = total[i];
    }
}

} // namespace thisfile

// pair_sums - sums over a set of a kernel's values with each vector of another, without their matrix.
//
//     out[p, i] = sum over the columns j of piece p of k(x[i], y[j]);  piece p has the tiles of 64 columns
//     p, p + pieces, ...;  k = (scale x.y + shift)^3, or exp(-scale |x - y|^2)
//
// kernels  pair_sums_f32 pair_sums_f64
// shapes   out: [pieces, n] doubles. x: [n, d]. y: [m, d]. xx: n, yy: m doubles, the squared lengths, which
//          nearest_sizes gives; not read where kind = 0, and may be null.
// params   apart = 1 leaves out j = i. kind: 0 the cubic, 1 the normal density, which has no shift.
// launch   grid ceil(n / 64) * pieces, block 256, shared 0.
// bound    f32: 2 n m d operations in tiles of 64 x 64, 16 products a thread for 8 values of shared memory, a
//          sum in double every 16 steps; n m values of the kernel in double. Goal: 35 % of peak at d >= 512.
// expect   pair_sums_f32: regs <= 128, shared <= 8704, occupancy >= 25, not LDL STL
// expect   pair_sums_f64: regs <= 128, shared <= 17408, occupancy >= 25, not LDL STL
// repro    yes: a row's sum is made in the order of the tiles, and within one by a tree of its columns.
// twin     ops.PairSums; products are wrong by at most 18 u sum |x y|, u = 2^-24, 2^-53.
// source   Own derivation; the kernels are those of Binkowski et al. 2018 and Jayasumana et al. 2024.
extern "C" __global__ void __launch_bounds__(256, 2)
    pair_sums_f32(double* out, const float* x, const float* y, const double* xx, const double* yy,
                  int n, int m, int d, int pieces, int apart, int kind, double scale, double shift)
{
    sums(out, x, y, xx, yy, n, m, d, pieces, apart, kind, scale, shift);
}
EXPORT(pair_sums_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    pair_sums_f64(double* out, const double* x, const double* y, const double* xx, const double* yy,
                  int n, int m, int d, int pieces, int apart, int kind, double scale, double shift)
{
    sums(out, x, y, xx, yy, n, m, d, pieces, apart, kind, scale, shift);
}
EXPORT(pair_sums_f64)
