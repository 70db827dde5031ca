// The one header that a kernel includes. It is where kernels meet the machine: under nvcc thin
// device functions around CUDA's headers and inline PTX, under a plain C++ compiler the same names
// from host.h, which runs each CUDA thread as a fiber. A kernel itself holds no asm.
//
//   half, bf16                       16-bit floats; arithmetic is done in float
//   toFloat(x), fromFloat<T>(f)      conversions, round to nearest even; also for T = float
//   pack2<T>(lo, hi), unpack2<T>     two values in one register, lo in the lower half
//   mma16816<T>                      d += a b on tensor cores, 16 x 8 x 16, float accumulators
//   mma1688f64                       the same in double, 16 x 8 x 8
//   ldmatrix{2,4}[Trans]             8 x 8 tiles of 16-bit values from shared memory to mma registers
//   copyAsync{4,8,16}, ...Commit, ...Wait<N>   global to shared memory, cp.async
//   DYNAMIC_SHARED(T, name)          the launch's dynamic shared memory, aligned to 128 bytes
//   EXPORT(f)                        makes an entry point known to the host device
//   loadRelaxed, storeRelaxed        words that blocks exchange while they run
//   warpSum, warpMax                 over all 32 lanes; every lane gets the result
//   exp2Approx(x)                    2^x in one instruction, 2 ulp; 0 below 2^-126
//   opaque(i)                        i, of which the compiler knows nothing more
//   copyAsyncWait must be followed by __syncthreads or __syncwarp before other threads read.
#pragma once

#ifndef __CUDACC__
#include "host.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <float.h>
#include <math.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

#define EXPORT(f)
#define DYNAMIC_SHARED(T, name)                                                                    \
    extern __shared__ __align__(128) unsigned char name##_bytes[];                                 \
    T* name = reinterpret_cast<T*>(name##_bytes)

__device__ __forceinline__ float toFloat(float x) { return x; }
__device__ __forceinline__ float toFloat(half x) { return __half2float(x); }
__device__ __forceinline__ float toFloat(bf16 x) { return __bfloat162float(x); }

template <class T> __device__ __forceinline__ T fromFloat(float x);
template <> __device__ __forceinline__ float fromFloat<float>(float x) { return x; }
template <> __device__ __forceinline__ half fromFloat<half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ bf16 fromFloat<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

template <class T> __device__ __forceinline__ unsigned pack2(float lo, float hi);
template <> __device__ __forceinline__ unsigned pack2<half>(float lo, float hi)
{
    const __half2 v = __floats2half2_rn(lo, hi);
    return *reinterpret_cast<const unsigned*>(&v);
}
template <> __device__ __forceinline__ unsigned pack2<bf16>(float lo, float hi)
{
    const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<const unsigned*>(&v);
}

template <class T> __device__ __forceinline__ void unpack2(unsigned x, float& lo, float& hi);
template <> __device__ __forceinline__ void unpack2<half>(unsigned x, float& lo, float& hi)
{
    const float2 v = __half22float2(*reinterpret_cast<const __half2*>(&x));
    lo = v.x;
    hi = v.y;
}
template <> __device__ __forceinline__ void unpack2<bf16>(unsigned x, float& lo, float& hi)
{
    lo = __uint_as_float(x << 16);
    hi = __uint_as_float(x & 0xffff0000u);
}

// d (16 x 8) += a (16 x 16, rows) * b (16 x 8, columns). Lane l, with g = l / 4 and t = l % 4, holds
//   a[0] = A[g][2t, 2t+1]  a[1] = A[g+8][2t, 2t+1]  a[2] = A[g][2t+8, 2t+9]  a[3] = A[g+8][2t+8, 2t+9]
//   b[0] = B[2t, 2t+1][g]  b[1] = B[2t+8, 2t+9][g]
//   d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
template <class T>
__device__ __forceinline__ void mma16816(float d[4], const unsigned a[4], const unsigned b[2]);
template <>
__device__ __forceinline__ void mma16816<half>(float d[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma16816<bf16>(float d[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16 x 8) += a (16 x 8, rows) * b (8 x 8, columns) in double, each step of k rounded as a fused
// multiply-add. With g and t as above
//   a[0] = A[g][t]  a[1] = A[g+8][t]  a[2] = A[g][t+4]  a[3] = A[g+8][t+4]
//   b[0] = B[t][g]  b[1] = B[t+4][g]   d as above
// One instruction from compute capability 9.0 on, four of half the rows and depth before.
__device__ __forceinline__ void mma1688f64(double d[4], const double a[4], const double b[2])
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
                 : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 "
                         "{%0, %1}, {%2}, {%3}, {%0, %1};"
                         : "+d"(d[2 * i]), "+d"(d[2 * i + 1])
                         : "d"(a[2 * k + i]), "d"(b[k]));
#endif
}

// The address of shared memory as the 32-bit number that PTX wants.
__device__ __forceinline__ unsigned sharedAddress(const void* p)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// ldmatrix: lane 8 m + i gives the address of row i of matrix m (8 values of 16 bits, aligned to 16
// bytes); lane l receives in r[m] the values 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix m.
// The Trans form delivers the transposed matrices. ldmatrix2 uses the addresses of lanes 0 to 15.
__device__ __forceinline__ void ldmatrix4(unsigned r[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(sharedAddress(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix4Trans(unsigned r[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(sharedAddress(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix2(unsigned r[2], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(sharedAddress(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix2Trans(unsigned r[2], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(sharedAddress(row))
                 : "memory");
}

// cp.async: the copy lands when its group is waited for. Both addresses are aligned to the size.
// With valid = false the destination is zeroed and the source is not read.
__device__ __forceinline__ void copyAsync16(void* shared, const void* global)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(sharedAddress(shared)),
                 "l"(__cvta_generic_to_global(global))
                 : "memory");
}
__device__ __forceinline__ void copyAsync16(void* shared, const void* global, bool valid)
{
    asm volatile(
        "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)),
        "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
        : "memory");
}
__device__ __forceinline__ void copyAsync8(void* shared, const void* global, bool valid = true)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(sharedAddress(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(valid ? 8 : 0)
                 : "memory");
}
__device__ __forceinline__ void copyAsync4(void* shared, const void* global, bool valid = true)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(sharedAddress(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(valid ? 4 : 0)
                 : "memory");
}
// Closes this thread's open copies into a group.
__device__ __forceinline__ void copyAsyncCommit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most N of this thread's groups are under way.
template <int N> __device__ __forceinline__ void copyAsyncWait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// 2^x by the special function unit: relative error at most 2^-22, results below 2^-126 are 0.
__device__ __forceinline__ float exp2Approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The value of i as something that the compiler can't know: what is computed from it inside a loop
// is computed there, where otherwise it would be moved out and held in registers.
__device__ __forceinline__ int opaque(int i)
{
    asm volatile("" : "+r"(i));
    return i;
}
// A word that other blocks write while this one runs: no order with any other word.
__device__ __forceinline__ unsigned loadRelaxed(const unsigned* p)
{
    unsigned v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ unsigned long long loadRelaxed(const unsigned long long* p)
{
    unsigned long long v;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ void storeRelaxed(unsigned* p, unsigned v)
{
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ void storeRelaxed(unsigned long long* p, unsigned long long v)
{
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
#endif // __CUDACC__

// The sum of v over the warp, the same bits in every lane. All 32 lanes take part.
__device__ __forceinline__ float warpSum(float v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}

__device__ __forceinline__ double warpSum(double v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}

// The largest v of the warp, in every lane. All 32 lanes take part.
__device__ __forceinline__ float warpMax(float v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, m));
    return v;
}
