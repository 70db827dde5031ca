#include "linalg_jacobi.h"

inline namespace thisfile {

// A sum that carries what rounding takes from it (Neumaier 1974).
struct Careful {
    double sum = 0, low = 0;
    __device__ __forceinline__ void add(double x)
    {
        const double t = __dadd_rn(sum, x);
        low += fabs(sum) >= fabs(x) ? __dadd_rn(__dsub_rn(sum, t), x)
                                    : __dadd_rn(__dsub_rn(x, t), sum);
        sum = t;
    }
    __device__ __forceinline__ double value() const { return sum + low; }
};

// Whether the diagonal of a, eigenvalues of what should be a covariance, goes too far below zero.
__device__ __forceinline__ bool tooNegative(const double* a, int d, int ld)
{
    double least = INFINITY, most = -INFINITY;
    for (int i = 0; i < d; i++) {
        least = fmin(least, a[i * ld + i]);
        most = fmax(most, a[i * ld + i]);
    }
    return least < -1e-5 * most || most < 0;
}

constexpr int panel = 64;

} // namespace thisfile

// frechet_small - Frechet distances of pairs of normal distributions in few dimensions, a block a pair.
//
//     |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (R S2 R^T)^(1/2),  R^T R = S1
//
// kernels  frechet_small_f64
// shapes   dist: [B]; mean1, mean2: [B, D]; cov1, cov2: [B, D, D]; faults: [B, 2], of cov1 and cov2.
// params   1 <= d <= 64; shared1 != 0: the first side is one for all pairs; asymmetry as in jacobi_eigh.
// launch   grid B, block 256 (64 for D <= 16, 128 for D <= 32), shared 3 (D' + 1) D' doubles, D' = D
//          rounded up to even: at most 99840 bytes.
// bound    latency: three eigenproblems by Jacobi, two products in shared memory.
// expect   regs <= 104, shared <= 101504, occupancy >= 25, block 256, dynamic 99840, has DFMA BAR, not LDL STL
// expect   frechet_small_f64 sm_80: occupancy >= 12
// repro    yes
// twin     ops.Frechet; |dist - exact| a small multiple of D u (tr S1 + tr S2), of its root for singular ones.
// note     faults as in jacobi_eigh, and 3 for eigenvalues below -1e-5 of the largest; dist is then NaN.
// source   R from the eigenvectors of S1, negative eigenvalues as 0. Own derivation.
extern "C" __global__ void __launch_bounds__(256, 2)
    frechet_small_f64(double* dist, int* faults, const double* mean1, const double* cov1,
                      const double* mean2, const double* cov2, int d, int shared1, double asymmetry)
{
    DYNAMIC_SHARED(double, shared);
    __shared__ JacobiRotations<double> turn;
    __shared__ double reduce[8], roots[jacobiOrder];
    __shared__ int bad[2];
    const int n = jacobiPlayers(d), ld = jacobiStride(d), tid = threadIdx.x, threads = blockDim.x;
    double *a = shared, *v = a + n * ld, *b = v + n * ld;
    const size_t size = static_cast<size_t>(d) * d, pair = blockIdx.x, side1 = shared1 ? 0 : pair;
    cov1 += side1 * size;
    cov2 += pair * size;
    // The second covariance's eigenvalues, only to know that they are not negative.
    int fault2 = jacobiLoad(b, cov2, d, asymmetry, reduce);
    __syncthreads();
    if (fault2 == faultNone && !jacobi<double, false>(b, nullptr, d, turn, reduce))
        fault2 = notConverged;
    int fault1 = jacobiLoad(a, cov1, d, asymmetry, reduce);
    for (int i = tid; i < n * d; i += threads)
        v[i / d * ld + i % d] = i / d == i % d ? 1 : 0;
    __syncthreads();
    if (fault1 == faultNone && !jacobi<double, true>(a, v, d, turn, reduce)) fault1 = notConverged;
    if (tid == 0) {
        if (fault1 == faultNone && tooNegative(a, d, ld)) fault1 = notPositive;
        if (fault2 == faultNone && tooNegative(b, d, ld)) fault2 = notPositive;
        bad[0] = faults[2 * pair] = fault1;
        bad[1] = faults[2 * pair + 1] = fault2;
    }
    __syncthreads();
    if (bad[0] != faultNone || bad[1] != faultNone) {
        if (tid == 0) dist[pair] = NAN;
        return;
    }
    for (int i = tid; i < d; i += threads)
        roots[i] = sqrt(fmax(a[i * ld + i], 0.0));
    jacobiLoad(b, cov2, d, asymmetry, reduce);
    __syncthreads();
    for (int i = tid; i < d * d; i += threads) // R
        v[i / d * ld + i % d] *= roots[i / d];
    __syncthreads();
    for (int i = tid; i < n * n; i += threads) { // R S2, and zeros for the bye
        const int r = i / n, c = i - r * n;
        double x = 0;
        if (r < d && c < d)
            for (int k = 0; k < d; k++)
                x = fma(v[r * ld + k], b[k * ld + c], x);
        a[r * ld + c] = x;
    }
    __syncthreads();
    for (int i = tid; i < n * n; i += threads) { // R S2 R^T
        const int r = i / n, c = i - r * n;
        if (c > r) continue;
        double x = 0;
        if (r < d && c < d)
            for (int k = 0; k < d; k++)
                x = fma(a[r * ld + k], v[c * ld + k], x);
        b[r * ld + c] = b[c * ld + r] = x;
    }
    __syncthreads();
    const bool done = jacobi<double, false>(b, nullptr, d, turn, reduce);
    if (tid != 0) return;
    Careful sum;
    double between = 0;
    for (int i = 0; i < d; i++) {
        sum.add(cov1[static_cast<size_t>(i) * d + i]);
        sum.add(cov2[static_cast<size_t>(i) * d + i]);
        sum.add(-2 * sqrt(fmax(b[i * ld + i], 0.0)));
        between += square(mean1[side1 * d + i] - mean2[pair * d + i]);
    }
    if (!done) faults[2 * pair + 1] = notConverged;
    const double value = sum.value();
    dist[pair] = done ? between + (value < 0 ? 0 : value) : NAN;
}
EXPORT(frechet_small_f64)

// cholesky_check - starts a batch of Cholesky factorisations: what is wrong with the matrices, and how
//                  large they are.
//
//     most[b] = max |a|, faults[b] from the tiles' stats
//
// kernels  cholesky_check_f64
// shapes   most: [B] double; faults: [B]; stats: [B, tiles, 2] of sqrtm_symmetric.
// launch   grid B, block 256, shared 0.
// bound    latency.
// expect   regs <= 40, shared <= 128, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(256)
    cholesky_check_f64(double* most, int* faults, const double* stats, double asymmetry, int tiles)
{
    __shared__ double reduce[8];
    double size = 0, apart = 0;
    for (int i = threadIdx.x; i < tiles; i += 256) {
        const double* s = stats + 2 * (static_cast<size_t>(blockIdx.x) * tiles + i);
        size = s[0] > size || s[0] != s[0] ? s[0] : size;
        apart = fmax(apart, s[1]);
    }
    size = blockMax(size, reduce);
    apart = blockMax(apart, reduce);
    if (threadIdx.x != 0) return;
    most[blockIdx.x] = size;
    faults[blockIdx.x] = size != size               ? notFinite
                         : apart > asymmetry * size ? notSymmetric
                                                    : faultNone;
}
EXPORT(cholesky_check_f64)

// cholesky_diagonal - Cholesky's factor of a 64 x 64 block on the diagonal.
//
//     L L^T = A[j0.., j0..], in place, zeros above
//
// kernels  cholesky_diagonal_f64
// shapes   a: [B, D, D], its blocks left of j0 and above are done; most, faults: [B].
// params   j0 a multiple of 64. A pivot of at most D 2^-52 most[b] makes the fault 4 (singular or worse),
//          and the matrix is left as it is.
// launch   grid B, block 256, shared 0.
// bound    latency: 2 barriers a column.
// expect   regs <= 64, shared <= 34304, occupancy >= 37, has DFMA BAR, not LDL STL
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(256)
    cholesky_diagonal_f64(double* a, int* faults, const double* most, int d, int j0)
{
    __shared__ double l[panel][panel + 1];
    const int batch = blockIdx.x, tid = threadIdx.x, n = min(panel, d - j0);
    if (faults[batch] != faultNone) return;
    a += static_cast<size_t>(batch) * d * d + static_cast<size_t>(j0) * d + j0;
    for (int i = tid; i < n * n; i += 256)
        l[i / n][i % n] = a[static_cast<size_t>(i / n) * d + i % n];
    const double least = d * 0x1p-52 * most[batch];
    for (int j = 0; j < n; j++) {
        __syncthreads();
        const double pivot = l[j][j]; // all threads read it before one overwrites it below
        if (!(pivot > least)) {
            if (tid == 0) faults[batch] = singular;
            return;
        }
        const double root = sqrt(pivot);
        __syncthreads();
        for (int i = j + tid; i < n; i += 256)
            l[i][j] = i == j ? root : l[i][j] / root;
        __syncthreads();
        const int rest = n - j - 1;
        for (int i = tid; i < rest * rest; i += 256) {
            const int r = j + 1 + i / rest, c = j + 1 + i % rest;
            if (c <= r) l[r][c] = fma(-l[r][j], l[c][j], l[r][c]);
        }
    }
    __syncthreads();
    for (int i = tid; i < n * n; i += 256)
        a[static_cast<size_t>(i / n) * d + i % n] = i % n <= i / n ? l[i / n][i % n] : 0;
}
EXPORT(cholesky_diagonal_f64)

// cholesky_panel - the rows below a factored diagonal block: X L^T = A.
//
//     A[i.., j0..j0+64] = A[i.., j0..j0+64] L^-T for the rows i below
//
// kernels  cholesky_panel_f64
// shapes   a: [B, D, D]; faults: [B], a matrix with one is left out.
// params   j0 a multiple of 64, j0 + 64 < D; strips = ceil((D - j0 - 64) / 64).
// launch   grid B strips, block 64, shared 66560. A block solves for 64 rows, a thread for one.
// bound    latency: 2016 dependent multiply-adds, read from shared memory without conflicts.
// expect   regs <= 64, shared <= 67584, occupancy >= 9, has DFMA, not LDL STL
// expect   cholesky_panel_f64 sm_80: occupancy >= 6
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(64)
    cholesky_panel_f64(double* a, const int* faults, int d, int j0, int strips)
{
    DYNAMIC_SHARED(double, shared);
    double (*l)[panel + 1] = reinterpret_cast<double (*)[panel + 1]>(shared);
    double (*x)[panel + 1] = l + panel;
    const int batch = blockIdx.x / strips, strip = blockIdx.x % strips, tid = threadIdx.x;
    if (faults[batch] != faultNone) return;
    a += static_cast<size_t>(batch) * d * d + j0;
    const int row0 = j0 + panel + strip * panel, rows = min(panel, d - row0);
    for (int i = 0; i < panel; i++) {
        l[i][tid] = a[static_cast<size_t>(j0 + i) * d + tid];
        if (i < rows) x[i][tid] = a[static_cast<size_t>(row0 + i) * d + tid];
    }
    __syncthreads();
    if (tid < rows)
        for (int j = 0; j < panel; j++) {
            double s0 = x[tid][j], s1 = 0, s2 = 0, s3 = 0; // four chains
            int k = 0;
            for (; k + 4 <= j; k += 4) {
                s0 = fma(-x[tid][k], l[j][k], s0);
                s1 = fma(-x[tid][k + 1], l[j][k + 1], s1);
                s2 = fma(-x[tid][k + 2], l[j][k + 2], s2);
                s3 = fma(-x[tid][k + 3], l[j][k + 3], s3);
            }
            for (; k < j; k++)
                s0 = fma(-x[tid][k], l[j][k], s0);
            x[tid][j] = ((s0 + s1) + (s2 + s3)) / l[j][j];
        }
    __syncthreads();
    for (int i = 0; i < rows; i++)
        a[static_cast<size_t>(row0 + i) * d + tid] = x[i][tid];
}
EXPORT(cholesky_panel_f64)

// cholesky_upper - zeros above the diagonal.
//
//     a[b, i, j] = 0 for j > i
//
// kernels  cholesky_upper_f64
// shapes   a: [B, D, D].
// params   total = B D D.
// launch   grid ceil(total / 256), block 256, shared 0.
// bound    memory: 4 B D D bytes.
// expect   regs <= 32, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(256)
    cholesky_upper_f64(double* a, int d, long long total)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= total) return;
    const long long row = i / d;
    if (i - row * d > row % d) a[i] = 0;
}
EXPORT(cholesky_upper_f64)

// frechet_dot - row sums of U o P: the first stage of the nuclear norm <U, P>.
//
//     out[b, i] = sum_j u[b, i, j] p[b, i, j]
//
// kernels  frechet_dot_f64
// shapes   u, p: [B, D, D]; out: [B, D].
// params   total = B D < 2^31.
// launch   grid ceil(B D / 8), block 256, shared 0. A warp a row.
// bound    memory: 16 B D D bytes.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has SHFL DFMA, not LDL STL
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(256)
    frechet_dot_f64(double* out, const double* u, const double* p, int d, int total)
{
    const int row = blockIdx.x * 8 + static_cast<int>(threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= total) return;
    const size_t at = static_cast<size_t>(row) * d;
    double sum = 0;
#pragma unroll 4
    for (int c = lane; c < d; c += 32)
        sum = fma(u[at + c], p[at + c], sum);
    sum = warpSum(sum);
    if (lane == 0) out[row] = sum;
}
EXPORT(frechet_dot_f64)

// frechet_sum - Frechet distances from traces and nuclear norms.
//
//     dist = |m1 - m2|^2 + max(0, tr S1 + tr S2 - 2 sum_i dots[b, i])
//
// kernels  frechet_sum_f64
// shapes   dist: [B]; mean1, mean2: [B, D]; cov1, cov2: [B, D, D]; dots: [B, D]; faults1, faults2: [B].
// params   shared1 != 0: the first side is one for all pairs. A pair with a fault gets NaN.
// launch   grid B, block 256, shared 0.
// bound    latency.
// expect   regs <= 64, shared <= 128, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Frechet.
extern "C" __global__ void __launch_bounds__(256)
    frechet_sum_f64(double* dist, const double* mean1, const double* cov1, const double* mean2,
                    const double* cov2, const double* dots, const int* faults1, const int* faults2,
                    int d, int shared1)
{
    __shared__ double reduce[8];
    const size_t pair = blockIdx.x, side1 = shared1 ? 0 : pair, size = static_cast<size_t>(d) * d;
    double terms = 0, between = 0;
    for (int i = threadIdx.x; i < d; i += 256) {
        const size_t at = static_cast<size_t>(i) * d + i;
        terms += cov1[side1 * size + at] + cov2[pair * size + at] - 2 * dots[pair * d + i];
        between += square(mean1[side1 * d + i] - mean2[pair * d + i]);
    }
    terms = blockSum(terms, reduce);
    between = blockSum(between, reduce);
    if (threadIdx.x != 0) return;
    const bool fault = faults1[side1] != faultNone || faults2[pair] != faultNone;
    dist[pair] = fault ? NAN : between + (terms < 0 ? 0 : terms);
}
EXPORT(frechet_sum_f64)
