// Products of tiles of 16-bit matrices on tensor cores: a block walks along k through a ring of
// stages in shared memory and keeps its tile of op(A) op(B) in registers. For the kernels that
// differ in where operands lie (matrices, pictures) and in what they do with the result.
#pragma once
#include "attention_tile.h" // tiles whose chunks are swizzled

inline namespace thisfile {

using attention::blockAt;
using attention::rowsAt;
using attention::tileAt;

// A tile of ROWS by COLS, of which a warp has TALL by ACROSS. Shared memory, of which a product of 16
// steps reads TALL + ACROSS rows a warp, keeps up with the tensor cores where that is 64 by 64, and L2,
// of which a block reads ROWS + COLS rows, where the tile is 256 by 128.
template <class T, int ROWS, int COLS, int TALL, int ACROSS> struct Mma {
    static constexpr int rows = ROWS, cols = COLS, depth = 32, stages = 4;
    static constexpr int down = ROWS / TALL, threads = 32 * down * (COLS / ACROSS);
    static constexpr int stageA = ROWS * depth, stage = (ROWS + COLS) * depth;
    static constexpr int MT = TALL / 16, NT = ACROSS / 8; // products of a warp
    static_assert(ROWS % TALL == 0 && COLS % ACROSS == 0 && NT % 2 == 0, "warps fit");
    typedef float Sums[MT][NT][4];

    static __device__ __forceinline__ int warpRow()
    {
        return static_cast<int>(threadIdx.x >> 5) % down * TALL;
    }
    static __device__ __forceinline__ int warpCol()
    {
        return static_cast<int>(threadIdx.x >> 5) / down * ACROSS;
    }

    struct Fragments {
        unsigned a[MT][4], b[NT / 2][4];
    };

    // A stage holds A as rows of 32 steps (alongK) or as 32 rows of a step each, and B likewise,
    // with its columns as rows. Rows that lie 16 apart are swizzled alike, and so are the chunks of
    // 16 rows up to the bits of their number, so that addresses differ by constants.
    template <bool aAlongK, bool bAlongK>
    static __device__ __forceinline__ void take(Fragments& f, const T* a, const T* b, int k)
    {
        const int lane = threadIdx.x & 31, row = warpRow(), col = warpCol();
        if constexpr (aAlongK) {
            const T* const from = blockAt<depth>(a, row, 2 * k, lane);
#pragma unroll
            for (int i = 0; i < MT; i++)
                ldmatrix4(f.a[i], from + 16 * i * depth);
        } else {
            const int at = static_cast<int>(rowsAt<ROWS>(a, 0, row / 8, lane) - a);
#pragma unroll
            for (int i = 0; i < MT; i++)
                ldmatrix4Trans(f.a[i], a + 16 * k * ROWS + (at ^ (i << 4)));
        }
        if constexpr (bAlongK) {
            const T* const from = rowsAt<depth>(b, col, 2 * k, lane);
#pragma unroll
            for (int j = 0; j < NT / 2; j++)
                ldmatrix4(f.b[j], from + 16 * j * depth);
        } else {
            const int at = static_cast<int>(blockAt<COLS>(b, 0, col / 8, lane) - b);
#pragma unroll
            for (int j = 0; j < NT / 2; j++)
                ldmatrix4Trans(f.b[j], b + 16 * k * COLS + (at ^ (j << 4)));
        }
    }

    static __device__ __forceinline__ void multiply(Sums& acc, const Fragments& f)
    {
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
                mma16816<T>(acc[i][j], f.a[i], f.b[j / 2] + 2 * (j % 2));
    }

    // acc += the products of `steps` times 32 steps of k. fetchA(to, s) and fetchB(to, s) start the
    // copies of step s, zeros past the end; they are called once for every step, in order.
    template <bool aAlongK, bool bAlongK, class A, class B>
    static __device__ __forceinline__ void run(Sums& acc, T* ring, int steps, A fetchA, B fetchB)
    {
        auto fetch = [&](int s) {
            if (s < steps) {
                T* const to = ring + s % stages * stage;
                fetchA(to, s);
                fetchB(to + stageA, s);
            }
            copyAsyncCommit(); // an empty group too, so that they can be counted
        };
#pragma unroll 1
        for (int s = 0; s < stages - 1; s++)
            fetch(s);
#pragma unroll 1
        for (int s = 0; s < steps; s++) {
            copyAsyncWait<stages - 2>();
            __syncthreads(); // step s is there, and all threads left step s - 1
            const T* const a = ring + s % stages * stage;
            Fragments f[2];
            take<aAlongK, bAlongK>(f[0], a, a + stageA, 0);
            fetch(s + stages - 1);
#pragma unroll
            for (int k = 0; k < depth / 16; k++) {
                if (k + 1 < depth / 16)
                    take<aAlongK, bAlongK>(f[(k + 1) & 1], a, a + stageA, k + 1);
                multiply(acc, f[k & 1]);
            }
        }
    }

    // f(row, column, v, v of the next column) for the thread's sums, by their place in the tile.
    template <class F> static __device__ __forceinline__ void each(const Sums& acc, F f)
    {
        const int lane = threadIdx.x & 31;
        const int r = warpRow() + (lane >> 2), c = warpCol() + 2 * (lane & 3);
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++) {
                f(r + 16 * i, c + 8 * j, acc[i][j][0], acc[i][j][1]);
                f(r + 16 * i + 8, c + 8 * j, acc[i][j][2], acc[i][j][3]);
            }
    }
};

// The tiles that kernels have. The first fills a multiprocessor, of the second there are two at a time.
template <class T> using MmaLarge = Mma<T, 256, 128, 64, 64>;
template <class T> using MmaMiddle = Mma<T, 128, 128, 64, 64>;
template <class T> using MmaNarrow = Mma<T, 128, 64, 64, 32>;
template <class T> using MmaSmall = Mma<T, 64, 64, 32, 32>;

// Starts the copy of R rows and 32 steps of a matrix, from (row0, k0) on, into a tile; beyond nrows
// or k it writes zeros. Rows lie along k, or, without alongK, steps do along the rows; wide says that
// they are multiples of 16 bytes. Others are copied value by value.
template <class T, int R, bool alongK, int THREADS>
__device__ __forceinline__ void fetchMatrix(T* to, const T* from, int ld, bool wide, int row0,
                                            int nrows, int k0, int k)
{
    constexpr int DEPTH = 32, CHUNKS = alongK ? DEPTH / 8 : R / 8;
    constexpr int LINES = alongK ? R : DEPTH, STEP = THREADS / CHUNKS;
    constexpr int WIDTH = alongK ? DEPTH : R;
    if (wide) { // then nrows or k, whichever lies along memory, is a multiple of 8
        const int line = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        const int lines = alongK ? nrows - row0 : k - k0, across = alongK ? k - k0 : nrows - row0;
        const T* p = from +
                     (alongK ? static_cast<size_t>(row0 + line) * ld + k0
                             : static_cast<size_t>(k0 + line) * ld + row0) +
                     8 * chunk;
        const bool inside = 8 * chunk < across;
#pragma unroll
        for (int i = 0; i < LINES; i += STEP) {
            const bool in = inside && line + i < lines;
            copyAsync16(to + tileAt<WIDTH>(line + i, chunk), in ? p : from, in);
            p += static_cast<size_t>(STEP) * ld;
        }
        return;
    }
#pragma unroll 4
    for (int i = threadIdx.x; i < R * DEPTH; i += THREADS) {
        const int r = alongK ? i / DEPTH : i % R, step = alongK ? i % DEPTH : i / R;
        const int line = alongK ? r : step, place = alongK ? step : r;
        const bool in = row0 + r < nrows && k0 + step < k;
        const size_t at = alongK ? static_cast<size_t>(row0 + r) * ld + k0 + step
                                 : static_cast<size_t>(k0 + step) * ld + row0 + r;
        to[tileAt<WIDTH>(line, place / 8) + place % 8] = in ? from[at] : fromFloat<T>(0.f);
    }
}

} // namespace thisfile
