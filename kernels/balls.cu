// In how many balls around the vectors of one set each vector of another lies.
#include "pair_tile.h"

inline namespace thisfile {

constexpr int RULES = 4;
static_assert(RULES * TILE == THREADS, "a thread for each count");

template <class T>
__device__ __forceinline__ void
counts(int* balls, unsigned* held, const T* x, const T* y, const double* radius, const T* centre,
       const T* xs, const T* ys, int n, int m, int d, int rules, int strict, int pieces, T slack)
{
    __shared__ T a[DEPTH][PITCH], b[DEPTH][PITCH];
    __shared__ int inside[RULES][TILE]; // of the rows of y
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int piece = blockIdx.x % pieces, first = static_cast<int>(blockIdx.x) / pieces * TILE;
    const T least = static_cast<T>(2 * d + 16) * limits<T>::tiny;
    inside[threadIdx.x / TILE][threadIdx.x % TILE] = 0;
    __syncthreads();
#pragma unroll 1
    for (int c0 = piece * TILE; c0 < n; c0 += pieces * TILE) {
        T sum[4][4];
        products(sum, a, b, y, first, m, x, c0, n, d, tx, ty, centre);
#pragma unroll 1
        for (int rule = 0; rule < rules; rule++) {
            unsigned in = 0,
                     ask = 0; // pairs 4 i + j that are in a ball, and whose product leaves it open
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int col = c0 + 4 * tx + j;
                if (col >= n) continue;
                const double reach = radius[static_cast<long long>(rule) * n + col];
                const T xx = xs[col], length = xs[n + col];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int row = first + 4 * ty + i;
                    if (row >= m) continue;
                    T low, high;
                    between(low, high, sum[i][j], xx, ys[row], length, ys[m + row], slack, least);
                    if (static_cast<double>(high) < reach) {
                        in |= 1u << (4 * i + j);
                    } else if (!(static_cast<double>(low) > reach)) {
                        ask |= 1u << (4 * i + j);
                    }
                }
            }
#pragma unroll 1
            for (unsigned left = in | ask; left != 0; left &= left - 1) {
                const int e = __ffs(left) - 1, row = first + 4 * ty + e / 4,
                          col = c0 + 4 * tx + e % 4;
                const long long ball = static_cast<long long>(rule) * n + col;
                if ((ask >> e & 1) != 0) {
                    const double far = squared(y + static_cast<long long>(row) * d,
                                               x + static_cast<long long>(col) * d, d);
                    if (!(far < radius[ball] || ((strict >> rule & 1) == 0 && far == radius[ball])))
                        continue;
                }
                atomicAdd(&inside[rule][4 * ty + e / 4], 1);
                if (loadRelaxed(held + ball) == 0) storeRelaxed(held + ball, 1u);
            }
        }
    }
    __syncthreads();
    const int rule = threadIdx.x / TILE, row = first + static_cast<int>(threadIdx.x) % TILE;
    const int more = inside[rule][threadIdx.x % TILE];
    if (rule < rules && row < m && more != 0)
        atomicAdd(balls + static_cast<long long>(rule) * m + row, more);
}

} // namespace thisfile

// ball_counts - in how many balls around the vectors of one set each vector of another lies, and which balls hold any.
//
//     balls[q, j] += the number of rows i with |x[i] - y[j]|^2 < radius[q, i], or = radius[q, i] too unless q is strict;
//     held[q, i] = 1 where ball i of rule q holds a row of y
//
// kernels  ball_counts_f32 ball_counts_f64
// shapes   balls: [rules, m] ints, zero before. held: [rules, n] uint32, zero before. x: [n, d]. y: [m, d].
//          radius: [rules, n] doubles, squared. centre: d, xs: 2 n, ys: 2 m values, of nearestk_centre and nearestk_sizes.
// params   rules: 1 to 4. strict: a bit for each. pieces: of the columns, those of 64 x p, p + pieces, ... make one.
//          slack: that of ops.pairSlack.
// launch   grid ceil(m / 64) * pieces, block 256, shared 0.
// bound    f32: 2 n m d operations in tiles of 64 x 64, 16 products a thread for 8 values of shared memory; for each rule
//          2 comparisons of a pair in double. What a product leaves open is measured by one thread. Goal: 35 % of
//          peak at d >= 512.
// expect   ball_counts_f32: regs <= 128, shared <= 10240, occupancy >= 25, not LDL STL
// expect   ball_counts_f64: regs <= 128, shared <= 18432, occupancy >= 25, not LDL STL
// repro    yes
// twin     ops.BallCounts, the same numbers: what decides is the distance in double.
// source   Own derivation; the balls are those of Kynkaanniemi et al. 2019 and Naeem et al. 2020.
extern "C" __global__ void __launch_bounds__(256, 2)
    ball_counts_f32(int* balls, unsigned* held, const float* x, const float* y,
                    const double* radius, const float* centre, const float* xs, const float* ys,
                    int n, int m, int d, int rules, int strict, int pieces, float slack)
{
    counts(balls, held, x, y, radius, centre, xs, ys, n, m, d, rules, strict, pieces, slack);
}
EXPORT(ball_counts_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    ball_counts_f64(int* balls, unsigned* held, const double* x, const double* y,
                    const double* radius, const double* centre, const double* xs, const double* ys,
                    int n, int m, int d, int rules, int strict, int pieces, double slack)
{
    counts(balls, held, x, y, radius, centre, xs, ys, n, m, d, rules, strict, pieces, slack);
}
EXPORT(ball_counts_f64)
