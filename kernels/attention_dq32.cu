#include "attention_backward32.h"

using namespace attention;

#define BACKWARD                                                                                   \
    BackwardArgs32                                                                                 \
    {                                                                                              \
        nullptr, nullptr, dq, dout, q, k, v, lse, delta, bias, scale, biasBatch, biasHeads,        \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_dq32 - the gradient of queries, float tensors, exact float products.
//
// The formula and the parameters are attention_dq's; no product is rounded below float (no tf32).
//
// kernels  attention_dq32_f32 attention_dq64_f32 attention_dq128_f32 attention_dq256_f32
// shapes   as attention_dq, float.
// params   as attention_forward. aligned: d is a multiple of 4 and all tensors of rows lie on 16
//          bytes.
// launch   grid ceil(lq / rows) heads batch, block 128: four warps of 16 queries (8 where d >
//          128), so rows = 64 (32); steps of 32 keys.
// bound    float arithmetic: 6 batch heads lq lk d flops (half of it when causal). Goal: 60 % of
//          the peak of FFMA at d = 64 and 128 from lq = lk = 2048 on.
// expect   regs <= 255, occupancy >= 12, has FFMA LDS.128 LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL
//          STL HMMA RED ATOM
// expect   attention_dq32_f32: regs <= 168, occupancy >= 18, dynamic 38400
// expect   attention_dq64_f32: regs <= 168, occupancy >= 18, dynamic 62976
// expect   attention_dq64_f32 sm_80: occupancy >= 12
// expect   attention_dq128_f32: dynamic 112128
// expect   attention_dq128_f32 sm_80: occupancy >= 6
// expect   attention_dq256_f32: dynamic 138496, occupancy >= 6
// repro    yes
// twin     ops.AttentionBackward; |gpu - float64| <= 2^-18 of the sum of magnitudes, for scores
//          up to 10.
// source   as attention_dq. Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dq32_f32(float* dq, const float* dout, const float* q, const float* k, const float* v,
                       const float* lse, const float* delta, const float* bias, const int* keyLens,
                       const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                       int biasBatch, int biasHeads, int blockShift, int blockBatch, int blockHeads,
                       int left, int right, int batch, int heads, int kvHeads, int lq, int lk,
                       int d, int aligned)
{
    backwardQueries32<32, 4>(BACKWARD);
}
EXPORT(attention_dq32_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dq64_f32(float* dq, const float* dout, const float* q, const float* k, const float* v,
                       const float* lse, const float* delta, const float* bias, const int* keyLens,
                       const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                       int biasBatch, int biasHeads, int blockShift, int blockBatch, int blockHeads,
                       int left, int right, int batch, int heads, int kvHeads, int lq, int lk,
                       int d, int aligned)
{
    backwardQueries32<64, 4>(BACKWARD);
}
EXPORT(attention_dq64_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dq128_f32(float* dq, const float* dout, const float* q, const float* k,
                        const float* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardQueries32<128, 4>(BACKWARD);
}
EXPORT(attention_dq128_f32)

extern "C" __global__ void __launch_bounds__(128, 1)
    attention_dq256_f32(float* dq, const float* dout, const float* q, const float* k,
                        const float* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardQueries32<256, 2>(BACKWARD);
}
EXPORT(attention_dq256_f32)
