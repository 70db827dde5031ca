// delta = dout . out of every query and head, which the backward passes take.
#pragma once
#include "attention.h"

namespace attention {

// What 16 bytes of each operand add.
__device__ __forceinline__ float dot16(const float* a, const float* b)
{
    const float4 x = *(const float4*)a, y = *(const float4*)b;
    return fmaf(x.x, y.x, fmaf(x.y, y.y, fmaf(x.z, y.z, x.w * y.w)));
}
template <class T> __device__ __forceinline__ float dot16(const T* a, const T* b)
{
    const uint4 x = *(const uint4*)a, y = *(const uint4*)b;
    const unsigned u[4] = {x.x, x.y, x.z, x.w}, v[4] = {y.x, y.y, y.z, y.w};
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float a0, a1, b0, b1;
        unpack2<T>(u[i], a0, a1);
        unpack2<T>(v[i], b0, b1);
        sum = fmaf(a0, b0, fmaf(a1, b1, sum));
    }
    return sum;
}

// Eight lanes a row of d, 32 rows a block. Row (i, h) of [rows, heads] goes to
// [batch, heads, lq], or to [heads, rows] where lq is 0.
template <class T>
__device__ __forceinline__ void delta(float* to, const T* dout, const T* out, long long rows,
                                      int heads, int lq, int d, int aligned)
{
    constexpr int CHUNK = 16 / sizeof(T);
    const long long line = (long long)blockIdx.x * 32 + threadIdx.x / 8;
    float sum = 0.f;
    if (line < rows * heads) {
        const T* const a = dout + line * d;
        const T* const b = out + line * d;
        if (aligned)
            for (int x = threadIdx.x % 8 * CHUNK; x < d; x += 8 * CHUNK)
                sum += dot16(a + x, b + x);
        else
            for (int x = threadIdx.x % 8; x < d; x += 8)
                sum = fmaf(toFloat(a[x]), toFloat(b[x]), sum);
    }
#pragma unroll
    for (int m = 4; m > 0; m >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, m);
    if (threadIdx.x % 8 != 0 || line >= rows * heads) return;
    const long long i = line / heads, h = line % heads;
    to[lq ? (i / lq * heads + h) * lq + i % lq : h * rows + i] = sum;
}

} // namespace attention
