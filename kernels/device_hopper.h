// What compute capability 9.0 has beside the rest: copies of boxes of a tensor by the copy engine
// (TMA), barriers in shared memory that count arrivals and bytes, matrix products of four warps
// whose operands lie in shared memory (wgmma), named barriers, registers that warps hand over. Only
// files whose contracts say "arch sm_90a" include it. Source: PTX ISA 9.0, the sections of the
// instructions that stand below.
//
//   barrierInit, barrierArrive, barrierExpect, barrierWait     mbarrier
//   copyBox(shared, map, barrier, c0, c1, ...)                 cp.async.bulk.tensor, 2 to 4 dimensions
//   swizzled128(p, leading, stride)                            a matrix in shared memory, for wgmma
//   wgmma<T, N, TRANS>(d, a, b, add)                           d (64 x N) = a (64 x 16) b (16 x N) [+ d]
//   wgmmaFence, wgmmaCommit, wgmmaWait<N>, settle(d)           its order
//   fenceProxyAsync()       what was stored, or initialised, is seen by copyBox and wgmma
//   namedSync, namedArrive  bar.sync and bar.arrive of barriers 1 to 15
//   registersUp<N>, registersDown<N>                           setmaxnreg
//
// A box lies in shared memory in rows of its first dimension. Under the 128-byte swizzle a row has
// 128 bytes and bits 4 to 6 of every address are xored with bits 7 to 9, which both copyBox and
// wgmma do: piece c of 16 bytes of row r lies at piece c ^ (r & 7) where the tile begins at a
// multiple of 1024.
#pragma once
#include "device.h"

#ifdef __CUDACC__ // otherwise host_hopper.h has the same names

// 128 bytes that the driver made (cuda.TensorMap).
struct __align__(128) TensorMap {
    unsigned long long opaque[16];
};

// The barrier's first phase has parity 0. A phase ends when count arrivals and all expected bytes
// have come.
__device__ __forceinline__ void barrierInit(unsigned long long* barrier, unsigned count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(count)
                 : "memory");
}
__device__ __forceinline__ void barrierArrive(unsigned long long* barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier))
                 : "memory");
}
// An arrival that makes the phase wait for so many bytes more.
__device__ __forceinline__ void barrierExpect(unsigned long long* barrier, unsigned bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)),
        "r"(bytes)
        : "memory");
}
// Waits for the end of the latest phase of that parity: returns at once when the current phase has
// the other one.
__device__ __forceinline__ void barrierWait(unsigned long long* barrier, unsigned parity)
{
    const unsigned at = sharedAddress(barrier);
    unsigned done;
    do {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(done)
                     : "r"(at), "r"(parity)
                     : "memory");
    } while (!done);
}

// One thread copies the map's box at (c0, c1, ...), the fastest coordinate first; what lies outside
// of the tensor becomes zeros. The barrier gets the box's bytes, all of them, when they are there.
__device__ __forceinline__ void copyBox(void* shared, const TensorMap& map,
                                        unsigned long long* barrier, int c0, int c1)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(sharedAddress(shared)),
                 "l"(&map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1)
                 : "memory");
}
__device__ __forceinline__ void copyBox(void* shared, const TensorMap& map,
                                        unsigned long long* barrier, int c0, int c1, int c2)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(sharedAddress(shared)),
                 "l"(&map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}
__device__ __forceinline__ void copyBox(void* shared, const TensorMap& map,
                                        unsigned long long* barrier, int c0, int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(sharedAddress(shared)),
                 "l"(&map), "r"(sharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}

__device__ __forceinline__ void fenceProxyAsync()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The barrier's own threads, a multiple of 32, counting those that only arrive.
__device__ __forceinline__ void namedSync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void namedArrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Registers of a thread from here on, a multiple of 8; all four warps of a group call it.
template <int N> __device__ __forceinline__ void registersUp()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void registersDown()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// Before the first wgmma after registers that it takes, d or a, were written otherwise.
__device__ __forceinline__ void wgmmaFence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmmaCommit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most N groups are under way. Registers of the finished ones may be read after
// settle, which keeps the compiler from reading them earlier.
template <int N> __device__ __forceinline__ void wgmmaWait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
template <int K> __device__ __forceinline__ void settle(float (&d)[K][4])
{
#pragma unroll
    for (int i = 0; i < K; i++)
        asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
}
template <int K> __device__ __forceinline__ void settle(unsigned (&a)[K][4])
{
#pragma unroll
    for (int i = 0; i < K; i++)
        asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}

#define WGMMA_D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define WGMMA_D32(i)                                                                               \
    WGMMA_D4(i), WGMMA_D4(i + 1), WGMMA_D4(i + 2), WGMMA_D4(i + 3), WGMMA_D4(i + 4),               \
        WGMMA_D4(i + 5), WGMMA_D4(i + 6), WGMMA_D4(i + 7)
#define WGMMA_TEXT32                                                                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "   \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_TEXT64                                                                               \
    WGMMA_TEXT32                                                                                   \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
    "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

template <class T, int N, int TRANS> struct Wgmma;

// first: the number of the first operand after d, and those that follow it.
#define WGMMA_SHAPE(T, name, N, registers, text, o0, o1, o2, o3, o4, o5, o6)                       \
    template <int TRANS> struct Wgmma<T, N, TRANS> {                                               \
        static __device__ __forceinline__ void shared(float (&d)[N / 8][4], unsigned long long a,  \
                                                      unsigned long long b, int add)               \
        {                                                                                          \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" o2 ", 0;\n"                          \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." name "." name " "       \
                         "{" text "}, %" o0 ", %" o1 ", p, 1, 1, 0, %" o3 ";\n}"                   \
                         : registers                                                               \
                         : "l"(a), "l"(b), "r"(add), "n"(TRANS));                                  \
        }                                                                                          \
        static __device__ __forceinline__ void held(float (&d)[N / 8][4], const unsigned (&a)[4],  \
                                                    unsigned long long b, int add)                 \
        {                                                                                          \
            asm volatile(                                                                          \
                "{\n.reg .pred p;\nsetp.ne.b32 p, %" o5 ", 0;\n"                                   \
                "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." name "." name " "                \
                "{" text "}, {%" o0 ", %" o1 ", %" o2 ", %" o3 "}, %" o4 ", p, 1, 1, %" o6 ";\n}"  \
                : registers                                                                        \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TRANS));       \
        }                                                                                          \
    };
#define WGMMA_BOTH WGMMA_D32(0), WGMMA_D32(8)
WGMMA_SHAPE(half, "f16", 64, WGMMA_D32(0), WGMMA_TEXT32, "32", "33", "34", "35", "36", "37", "38")
WGMMA_SHAPE(bf16, "bf16", 64, WGMMA_D32(0), WGMMA_TEXT32, "32", "33", "34", "35", "36", "37", "38")
WGMMA_SHAPE(half, "f16", 128, WGMMA_BOTH, WGMMA_TEXT64, "64", "65", "66", "67", "68", "69", "70")
WGMMA_SHAPE(bf16, "bf16", 128, WGMMA_BOTH, WGMMA_TEXT64, "64", "65", "66", "67", "68", "69", "70")
#undef WGMMA_BOTH
#undef WGMMA_SHAPE
#undef WGMMA_TEXT64
#undef WGMMA_TEXT32
#undef WGMMA_D32
#undef WGMMA_D4

template <class T, int N, int TRANS>
__device__ __forceinline__ void wgmma(float (&d)[N / 8][4], unsigned long long a,
                                      unsigned long long b, bool add)
{
    Wgmma<T, N, TRANS>::shared(d, a, b, add);
}
template <class T, int N, int TRANS>
__device__ __forceinline__ void wgmma(float (&d)[N / 8][4], const unsigned (&a)[4],
                                      unsigned long long b, bool add)
{
    Wgmma<T, N, TRANS>::held(d, a, b, add);
}
#endif // __CUDACC__

// A matrix of 16-bit values in rows of 128 bytes, swizzled, whose first element for this product
// lies at p. Of rows along k (a, and b with TRANS = 0) stride is the distance in bytes from 8 rows to
// the next 8, and leading is not used. Of rows along n (b with TRANS = 1), one for each k, stride is
// that distance too and leading the one from 64 columns to the next 64.
__device__ __forceinline__ unsigned long long swizzled128(const void* p, unsigned leading,
                                                          unsigned stride)
{
    const unsigned long long at = (sharedAddress(p) & 0x3ffff) >> 4;
    return at | (unsigned long long)(leading >> 4) << 16 | (unsigned long long)(stride >> 4) << 32 |
           1ull << 62;
}
// The same matrix bytes further on: 32 for 16 values of k along a row.
__device__ __forceinline__ unsigned long long advanced(unsigned long long matrix, int bytes)
{
    return matrix + (bytes >> 4);
}

// Lane l of warp w of the four, with g = l / 4 and t = l % 4, holds of a product
//   d[j][0, 1] = D[16 w + g][8 j + 2 t, + 1]   d[j][2, 3] = D[16 w + g + 8][8 j + 2 t, + 1]
// and of a in registers what mma16816 has for rows 16 w to 16 w + 15.
