// triad - what the memory gives: y = a + s b over arrays that no cache holds.
//
//     y[i] = a[i] + s * b[i]
//
// kernels  probe_triad_f32
// shapes   y, a, b: n float32, aligned to 16 bytes.
// launch   grid ceil(n / 4096), block 256, shared 0. Each thread does 4 times 4 neighbours.
// bound    memory: 12 n bytes, 2 n flops. Goal: it is the limit that others are held to, 90 % from n = 2^24 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128 STG.E.128, not LDL STL
// repro    yes
// twin     none: it measures the machine. kernels/probe_test.go holds it to the formula.
#include "device.h"

extern "C" __global__ void __launch_bounds__(256)
    probe_triad_f32(float* __restrict__ y, const float* __restrict__ a, const float* __restrict__ b,
                    float s, long long n)
{
    const long long first = blockIdx.x * 4096ll + threadIdx.x * 4;
    if (first - threadIdx.x * 4 + 4096 <= n) {
        // All loads before the first store: eight are under way at a time.
        float4 va[4], vb[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            va[k] = *reinterpret_cast<const float4*>(a + first + 1024 * k);
            vb[k] = *reinterpret_cast<const float4*>(b + first + 1024 * k);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float4 v = make_float4(fmaf(s, vb[k].x, va[k].x), fmaf(s, vb[k].y, va[k].y),
                                         fmaf(s, vb[k].z, va[k].z), fmaf(s, vb[k].w, va[k].w));
            *reinterpret_cast<float4*>(y + first + 1024 * k) = v;
        }
        return;
    }
    for (int k = 0; k < 4; k++)
        for (int j = 0; j < 4; j++) {
            const long long i = first + 1024 * k + j;
            if (i < n) y[i] = fmaf(s, b[i], a[i]);
        }
}
EXPORT(probe_triad_f32)

// fma - what the float32 units give: eight chains of multiply-adds a thread.
//
//     x = fma(x, a, b), rounds times, from x = c, c + 1, ..., c + 7; out[thread] = the sum of the eight
//
// kernels  probe_fma_f32
// shapes   out: grid * 256 float32.
// params   rounds: a multiple of 16.
// launch   grid as wanted, block 256, shared 0.
// bound    f32: 16 rounds flops a thread. Goal: it is the limit that others are held to.
// expect   regs <= 32, shared <= 0, occupancy >= 100, FFMA >= 128, not LDL STL
// repro    yes
// twin     none: it measures the machine. kernels/probe_test.go holds it to the formula.
extern "C" __global__ void __launch_bounds__(256)
    probe_fma_f32(float* out, float a, float b, float c, int rounds)
{
    float x[8];
#pragma unroll
    for (int k = 0; k < 8; k++)
        x[k] = c + k;
    for (int r = 0; r < rounds; r += 16)
#pragma unroll
        for (int u = 0; u < 16; u++)
#pragma unroll
            for (int k = 0; k < 8; k++)
                x[k] = fmaf(x[k], a, b);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += x[k];
    out[blockIdx.x * 256ll + threadIdx.x] = sum;
}
EXPORT(probe_fma_f32)

// mma - what mma.sync gives on the tensor cores: eight chains of 16 x 8 x 16 products a warp.
//
//     d = A B + d, rounds times from d = 0, eight times; all elements of A and B are one; out[thread] = the
//     sum of the thread's part of the eight d, that is 512 rounds
//
// kernels  probe_mma_f16 probe_mma_bf16
// shapes   out: grid * 128 float32.
// params   one: two times the number 1 in the kernel's type, packed; so the compiler knows nothing of it.
// launch   grid as wanted, block 128, shared 0.
// bound    bf16: 32768 rounds flops a warp. Goal: it is the limit of kernels by mma.sync; on Hopper that is below the
//          peak, which only wgmma reaches.
// expect   regs <= 64, shared <= 0, occupancy >= 50, HMMA >= 8, not LDL STL
// repro    yes
// twin     none: it measures the machine. kernels/probe_test.go holds it to the formula, exactly.
inline namespace thisfile {
template <class T> __device__ __forceinline__ void chains(float* out, unsigned one, int rounds)
{
    const unsigned a[4] = {one, one, one, one}, b[2] = {one, one};
    float d[8][4] = {};
    for (int r = 0; r < rounds; r++)
#pragma unroll
        for (int k = 0; k < 8; k++)
            mma16816<T>(d[k], a, b);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += (d[k][0] + d[k][1]) + (d[k][2] + d[k][3]);
    out[blockIdx.x * 128ll + threadIdx.x] = sum;
}
} // namespace thisfile

extern "C" __global__ void __launch_bounds__(128)
    probe_mma_f16(float* out, unsigned one, int rounds)
{
    chains<half>(out, one, rounds);
}
EXPORT(probe_mma_f16)

extern "C" __global__ void __launch_bounds__(128)
    probe_mma_bf16(float* out, unsigned one, int rounds)
{
    chains<bf16>(out, one, rounds);
}
EXPORT(probe_mma_bf16)
