#include "linalg.h"

inline namespace thisfile {

__device__ __forceinline__ double toDouble(double x) { return x; }
template <class T> __device__ __forceinline__ double toDouble(T x)
{
    return static_cast<double>(toFloat(x));
}

constexpr int sumRows = 512; // rows that one block of moments_sum adds up

template <class T>
__device__ __forceinline__ void columnSums(double* partial, double* mean, const T* x, int n, int d,
                                           int chunks, int across)
{
    __shared__ double sums[8][33];
    const int lane = threadIdx.x & 31, way = threadIdx.x >> 5;
    int block = blockIdx.x;
    const int col = block % across * 32 + lane;
    block /= across;
    const int chunk = block % chunks, set = block / chunks;
    x += static_cast<size_t>(set) * n * d + col;
    double sum = 0;
    if (col < d) {
        const double origin = toDouble(x[0]);
        if (chunk == 0 && way == 0) mean[static_cast<size_t>(set) * d + col] = origin;
        const int end = min(n, (chunk + 1) * sumRows);
#pragma unroll 8
        for (int r = chunk * sumRows + way; r < end; r += 8)
            sum += toDouble(x[static_cast<size_t>(r) * d]) - origin;
    }
    sums[way][lane] = sum;
    __syncthreads();
    if (way == 0 && col < d) {
#pragma unroll
        for (int w = 1; w < 8; w++)
            sum += sums[w][lane];
        partial[(static_cast<size_t>(set) * chunks + chunk) * d + col] = sum;
    }
}

constexpr int edge = 64, depth = 16;
using Centred = Tile<edge, depth, false>;

// This thread's 8 values of a tile of 16 rows and 64 features: column threadIdx.x % 64, every other row.
template <class T> struct Column {
    const T* x; // row 0 of the set, this column
    double mean;
    bool in;
    T raw[8];

    __device__ __forceinline__ Column(const T* set, const double* means, int col, int d)
        : x(set + col), mean(0), in(col < d)
    {
        if (in) mean = means[col];
    }
    __device__ __forceinline__ void take(int row0, int end, int d)
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int r = row0 + 2 * i + static_cast<int>(threadIdx.x >> 6);
            if (in && r < end) raw[i] = x[static_cast<size_t>(r) * d];
        }
    }
    // Rows beyond the end become zeros, not minus the mean.
    __device__ __forceinline__ void put(double* tile, int row0, int end) const
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int k = 2 * i + static_cast<int>(threadIdx.x >> 6);
            const bool valid = in && row0 + k < end;
            tile[Centred::at(threadIdx.x & 63, k)] = valid ? toDouble(raw[i]) - mean : 0;
        }
    }
};

// One 64 x 64 tile of the scatter of rows [first, end) of one set.
template <class T>
__device__ __forceinline__ void scatterTile(double* out, const T* x, const double* mean, int n,
                                            int d, int tiles, int splits, int chunk)
{
    __shared__ __align__(16) double as[2][Centred::size], bs[2][Centred::size];
    int block = blockIdx.x, ti, tj;
    lowerTile(block % tiles, 1, ti, tj);
    block /= tiles;
    const int split = block % splits, set = block / splits;
    const int first = split * chunk, end = min(n, first + chunk);
    const int half = threadIdx.x & 63;
    Column<T> left(x + static_cast<size_t>(set) * n * d, mean + static_cast<size_t>(set) * d,
                   ti * edge + half, d);
    Column<T> right(x + static_cast<size_t>(set) * n * d, mean + static_cast<size_t>(set) * d,
                    tj * edge + half, d);
    const bool diagonal = ti == tj; // then one tile is both operands
    const int warp = threadIdx.x >> 5, row = (warp & 1) * 32, col = (warp >> 1) * 32;
    double acc[2][4][4] = {};
    left.take(first, end, d);
    if (!diagonal) right.take(first, end, d);
    int stage = 0;
    for (int r = first; r < end; r += depth) {
        left.put(as[stage], r, end);
        if (!diagonal) right.put(bs[stage], r, end);
        __syncthreads(); // the other stage is free again: all have passed its products
        if (r + depth < end) {
            left.take(r + depth, end, d);
            if (!diagonal) right.take(r + depth, end, d);
        }
        warpProduct<Centred, Centred, 2, 4, depth>(acc, as[stage], diagonal ? as[stage] : bs[stage],
                                                   row, col);
        stage ^= 1;
    }
    out += (static_cast<size_t>(set) * splits + split) * d * d;
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int r = ti * edge + row + 16 * i + 8 * (e >> 1) + g;
                const int c = tj * edge + col + 8 * j + 2 * t + (e & 1);
                if (r >= d || c > r) continue;
                out[static_cast<size_t>(r) * d + c] = acc[i][j][e];
                if (splits == 1 && c < r) out[static_cast<size_t>(c) * d + r] = acc[i][j][e];
            }
}

} // namespace thisfile

// moments_sum - sums of batches of vectors in double, each feature relative to its first value.
//
//     partial[b, c, j] = sum over rows i of chunk c of (x[b, i, j] - x[b, 0, j]),  mean[b, j] = x[b, 0, j]
//
// kernels  moments_sum_f32 moments_sum_f64 moments_sum_f16 moments_sum_bf16
// shapes   x: [B, N, D]; partial: [B, chunks, D] double, chunks = ceil(N / 512); mean: [B, D] double.
// params   across = ceil(D / 32).
// launch   grid B chunks across, block 256, shared 0: a warp reads 32 columns of every eighth row.
// bound    memory: B N D elements once. Goal: 75 % of peak bandwidth from B N D = 2^24 floats on.
// expect   regs <= 40, shared <= 2112, occupancy >= 75, has DADD, not LDL STL
// repro    yes
// twin     ops.Moments; with moments_mean |mean - exact| <= u (|mean| + (N + 4) avg |x - x0|), u = 2^-53.
extern "C" __global__ void __launch_bounds__(256)
    moments_sum_f32(double* partial, double* mean, const float* x, int n, int d, int chunks,
                    int across)
{
    columnSums(partial, mean, x, n, d, chunks, across);
}
EXPORT(moments_sum_f32)

extern "C" __global__ void __launch_bounds__(256)
    moments_sum_f64(double* partial, double* mean, const double* x, int n, int d, int chunks,
                    int across)
{
    columnSums(partial, mean, x, n, d, chunks, across);
}
EXPORT(moments_sum_f64)

extern "C" __global__ void __launch_bounds__(256)
    moments_sum_f16(double* partial, double* mean, const half* x, int n, int d, int chunks,
                    int across)
{
    columnSums(partial, mean, x, n, d, chunks, across);
}
EXPORT(moments_sum_f16)

extern "C" __global__ void __launch_bounds__(256)
    moments_sum_bf16(double* partial, double* mean, const bf16* x, int n, int d, int chunks,
                     int across)
{
    columnSums(partial, mean, x, n, d, chunks, across);
}
EXPORT(moments_sum_bf16)

// moments_mean - the means from their first values and partial sums.
//
//     mean[b, j] += (sum over c of partial[b, c, j]) / N
//
// kernels  moments_mean_f64
// shapes   mean: [B, D]; partial: [B, chunks, D].
// params   total = B D < 2^31.
// launch   grid ceil(total / 256), block 256, shared 0.
// bound    memory: 8 B D chunks bytes, N / 512 of what moments_sum reads.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has DADD, not LDL STL
// repro    yes
// twin     ops.Moments.
extern "C" __global__ void __launch_bounds__(256)
    moments_mean_f64(double* mean, const double* partial, int n, int d, int chunks, int total)
{
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= total) return;
    const int set = i / d, col = i - set * d;
    double sum = 0;
#pragma unroll 4
    for (int c = 0; c < chunks; c++)
        sum += partial[(static_cast<size_t>(set) * chunks + c) * d + col];
    mean[i] += sum / n;
}
EXPORT(moments_mean_f64)

// moments_scatter - scatter matrices of batches of vectors, products and sums in double on tensor cores.
//
//     out[b, s, j, k] = sum over rows i of part s of (x[b, i, j] - mean[b, j]) (x[b, i, k] - mean[b, k])
//
// kernels  moments_scatter_f32 moments_scatter_f64 moments_scatter_f16 moments_scatter_bf16
// shapes   x: [B, N, D]; mean: [B, D]; out: [B, splits, D, D] double, of which only j >= k is written
//          when splits > 1; with splits = 1 it is mirrored.
// params   part s is rows [s chunk, min(N, (s + 1) chunk)); chunk a multiple of 16. tiles = T (T + 1) / 2
//          with T = ceil(D / 64).
// launch   grid B splits tiles, block 128, shared 0. A block makes a tile of 64 x 64; each warp 32 x 32.
// bound    f64: N D (D + 1) flops a set. Goal: 60 % of the double tensor cores' peak from D = 768,
//          N = 8192 on. Each x is widened and centred once per tile that reads it.
// expect   regs <= 168, shared <= 34816, occupancy >= 18, has DMMA DADD, not LDL STL
// expect   moments_scatter_f32: regs <= 128, occupancy >= 25, shared <= 34816, has DMMA DADD, not LDL STL
// repro    yes: parts and the order of sums depend on N and D alone.
// twin     ops.Moments; |out - exact| <= (N + 4) u sqrt(s_jj s_kk) + N e_j e_k, e the error of the mean.
// source   two passes: Chan, Golub and LeVeque 1979. Own derivation.
extern "C" __global__ void __launch_bounds__(128, 4)
    moments_scatter_f32(double* out, const float* x, const double* mean, int n, int d, int tiles,
                        int splits, int chunk)
{
    scatterTile(out, x, mean, n, d, tiles, splits, chunk);
}
EXPORT(moments_scatter_f32)

extern "C" __global__ void __launch_bounds__(128)
    moments_scatter_f64(double* out, const double* x, const double* mean, int n, int d, int tiles,
                        int splits, int chunk)
{
    scatterTile(out, x, mean, n, d, tiles, splits, chunk);
}
EXPORT(moments_scatter_f64)

extern "C" __global__ void __launch_bounds__(128, 3)
    moments_scatter_f16(double* out, const half* x, const double* mean, int n, int d, int tiles,
                        int splits, int chunk)
{
    scatterTile(out, x, mean, n, d, tiles, splits, chunk);
}
EXPORT(moments_scatter_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    moments_scatter_bf16(double* out, const bf16* x, const double* mean, int n, int d, int tiles,
                         int splits, int chunk)
{
    scatterTile(out, x, mean, n, d, tiles, splits, chunk);
}
EXPORT(moments_scatter_bf16)

// moments_reduce - the scatter from its parts, mirrored.
//
//     scatter[b, j, k] = sum over s of part[b, s, max(j, k), min(j, k)]
//
// kernels  moments_reduce_f64
// shapes   scatter: [B, D, D]; part: [B, splits, D, D], j >= k.
// launch   grid (ceil(D / 32), ceil(D / 32), B <= 65535), block 32 x 8, shared 0. Tiles above the diagonal end at once.
// bound    memory: 4 B splits D (D + 1) bytes read.
// expect   regs <= 40, shared <= 8448, occupancy >= 75, block 256, has DADD, not LDL STL
// repro    yes
// twin     ops.Moments.
extern "C" __global__ void __launch_bounds__(256)
    moments_reduce_f64(double* scatter, const double* part, int d, int splits)
{
    __shared__ double tile[32][33];
    if (blockIdx.x > blockIdx.y) return;
    const size_t set = blockIdx.z, size = static_cast<size_t>(d) * d;
    const int col = blockIdx.x * 32 + threadIdx.x;
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int r = blockIdx.y * 32 + i;
        if (r >= d || col > r) continue;
        const size_t at = static_cast<size_t>(r) * d + col;
        double sum = 0;
        for (int s = 0; s < splits; s++)
            sum += part[(set * splits + s) * size + at];
        scatter[set * size + at] = sum;
        tile[i][threadIdx.x] = sum;
    }
    __syncthreads();
    const int up = blockIdx.y * 32 + threadIdx.x; // the mirrored tile, rows along threadIdx.y
    for (int i = threadIdx.y; i < 32; i += 8) {
        const int r = blockIdx.x * 32 + i;
        if (up < d && r < up)
            scatter[set * size + static_cast<size_t>(r) * d + up] = tile[threadIdx.x][i];
    }
}
EXPORT(moments_reduce_f64)

// moments_merge - the moments of two groups of vectors together.
//
//     scatter += other + weight (om - mean) (om - mean)^T, then mean += step (om - mean)
//
// kernels  moments_merge_f64 moments_shift_f64
// shapes   scatter, other: [B, D, D]; mean, om: [B, D]; moments_merge does the scatter, then moments_shift
//          the mean.
// params   weight = n m / (n + m), step = m / (n + m). With keep = 0 the old scatter and mean are not
//          looked at: they become the other's.
// launch   moments_merge: grid ceil(total / 256) over total = B D D (shift: B D), block 256, shared 0.
// bound    memory: 24 B D D bytes.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has DFMA, not LDL STL
// expect   moments_shift_f64: regs <= 40, occupancy >= 75, shared <= 0, not LDL STL
// repro    yes
// twin     ops.MergeMoments; each rounds three times or four.
extern "C" __global__ void __launch_bounds__(256)
    moments_merge_f64(double* scatter, const double* other, const double* mean, const double* om,
                      int d, long long total, double weight, int keep)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= total) return;
    if (!keep) {
        scatter[i] = other[i];
        return;
    }
    const long long row = i / d, set = row / d;
    const int col = static_cast<int>(i - row * d);
    const double dj = om[row] - mean[row], dk = om[set * d + col] - mean[set * d + col];
    scatter[i] = fma(weight, __dmul_rn(dj, dk), scatter[i] + other[i]); // symmetric to the last bit
}
EXPORT(moments_merge_f64)

extern "C" __global__ void __launch_bounds__(256)
    moments_shift_f64(double* mean, const double* om, long long total, double step, int keep)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= total) return;
    mean[i] = keep ? fma(step, om[i] - mean[i], mean[i]) : om[i];
}
EXPORT(moments_shift_f64)

// moments_scale - a covariance from a scatter.
//
//     cov[i] = scatter[i] / by
//
// kernels  moments_scale_f64
// shapes   cov, scatter: n double; cov may be scatter.
// launch   grid ceil(n / 256), block 256, shared 0.
// bound    memory: 16 n bytes.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.CovarianceOf; the same bits.
extern "C" __global__ void __launch_bounds__(256)
    moments_scale_f64(double* cov, const double* scatter, long long n, double by)
{
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < n) cov[i] = scatter[i] / by;
}
EXPORT(moments_scale_f64)
