// Rows of a matrix, each worked on by one warp or by a whole block of 256 threads: who has which
// elements, sixteen bytes at a time where rows are aligned to that, and reductions whose order
// depends on the length of a row alone.
#pragma once
#include "vec16.h"

inline namespace thisfile {

constexpr int ROW_THREADS = 256, ROW_WARPS = ROW_THREADS / 32;

// The threads that share a row, and this one's place among them.
struct Team {
    long long row;
    int rank, threads; // threads is 32 or ROW_THREADS
};

// With a warp a row the last block has warps without one; these return before any barrier.
__device__ __forceinline__ Team rowTeam(int threads)
{
    Team t;
    t.threads = threads;
    t.rank = threads == 32 ? threadIdx.x & 31 : threadIdx.x;
    t.row = threads == 32 ? static_cast<long long>(blockIdx.x) * ROW_WARPS + (threadIdx.x >> 5)
                          : blockIdx.x;
    return t;
}

// N values of T that lie beside one another, N = 1 or 16 bytes of them.
template <class T, int N> struct Pack {
    T v[N];
};
template <int N, class T> __device__ __forceinline__ Pack<T, N> take(const T* p)
{
    Pack<T, N> o;
    if constexpr (N == 1) {
        o.v[0] = *p;
    } else {
        const typename Vec16<T>::Raw r = load16(p);
#pragma unroll
        for (int i = 0; i < N; i++)
            o.v[i] = static_cast<T>(lane<T>(r, i));
    }
    return o;
}
template <int N, class T> __device__ __forceinline__ void give(T* p, const Pack<T, N>& o)
{
    if constexpr (N == 1) {
        *p = o.v[0];
    } else {
        double d[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            d[i] = o.v[i];
        store16(p, d);
    }
}

// at = at / size, and what is left. Most tensors are short enough for divisions of 32 bits.
__device__ __forceinline__ int digitOf(long long& at, int size)
{
    const long long n = at;
    at = (n >> 32) == 0
             ? static_cast<long long>(static_cast<unsigned>(n) / static_cast<unsigned>(size))
             : n / size;
    return static_cast<int>(n - at * size);
}

// Two digits and a third that change fastest first: where a sum is.
struct Digits {
    int a, b, c; // c counts fastest, then b
    int nb, nc;
    __device__ __forceinline__ Digits(int at, int sizeB, int sizeC) : nb(sizeB), nc(sizeC)
    {
        const unsigned u = static_cast<unsigned>(at), q = u / static_cast<unsigned>(nc);
        c = static_cast<int>(u - q * nc);
        a = static_cast<int>(q / static_cast<unsigned>(nb));
        b = static_cast<int>(q - static_cast<unsigned>(a) * nb);
    }
    __device__ __forceinline__ void next()
    {
        if (++c < nc) return;
        c = 0;
        if (++b < nb) return;
        b = 0;
        a++;
    }
};

// The width of an access as a type, for the functions that eachOf calls.
template <int N> struct Width {
    static constexpr int n = N;
};

// f(width, e) for this thread's share of n elements: it has those from e on, width.n of them. wide
// says that n is a multiple of the vectors' length and that all rows are aligned.
template <class T, class F>
__device__ __forceinline__ void eachOf(int n, const Team& t, bool wide, F f)
{
    constexpr int V = Vec16<T>::n;
    [[maybe_unused]] constexpr int AHEAD = sizeof(T) == 8 ? 1 : 2; // two exp of doubles spill
    if (wide) {
#pragma unroll AHEAD
        for (int e = t.rank * V; e < n; e += t.threads * V)
            f(Width<V>(), e);
    } else {
#pragma unroll AHEAD
        for (int e = t.rank; e < n; e += t.threads)
            f(Width<1>(), e);
    }
}
template <class T> __device__ __forceinline__ bool multiple16(int n)
{
    return n % Vec16<T>::n == 0;
}

// The larger of two values; NaN when one is.
template <class T> __device__ __forceinline__ T greater(T a, T b)
{
    return b > a || b != b ? b : a;
}
// The largest v of the warp, in every lane.
template <class T> __device__ __forceinline__ T warpGreatest(T v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1)
        v = greater(v, __shfl_xor_sync(0xffffffffu, v, m));
    return v;
}

// The sum over the team, in each of its threads. shared has ROW_WARPS values, and may be that of
// another call before.
template <class T> __device__ __forceinline__ T teamSum(T v, const Team& t, T* shared)
{
    v = warpSum(v);
    if (t.threads == 32) return v;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int w = 1; w < ROW_WARPS; w++)
        v += shared[w];
    return v;
}
// The largest of the team.
template <class T> __device__ __forceinline__ T teamGreatest(T v, const Team& t, T* shared)
{
    v = warpGreatest(v);
    if (t.threads == 32) return v;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int w = 1; w < ROW_WARPS; w++)
        v = greater(v, shared[w]);
    return v;
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
template <class T> __device__ __forceinline__ T minusInfinity()
{
    return -static_cast<T>(INFINITY);
}

} // namespace thisfile
