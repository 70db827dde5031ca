#include "attention_backward32.h"

using namespace attention;

#define BACKWARD                                                                                   \
    BackwardArgs32                                                                                 \
    {                                                                                              \
        dk, dv, nullptr, dout, q, k, v, lse, delta, bias, scale, biasBatch, biasHeads,             \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_dkv32 - the gradients of keys and values, float tensors, exact float products.
//
// The formula and the parameters are attention_dkv's; no product is rounded below float (no tf32).
//
// kernels  attention_dkv32_f32 attention_dkv64_f32 attention_dkv128_f32 attention_dkv256_f32
// shapes   as attention_dkv, float.
// params   as attention_forward. aligned: d is a multiple of 4 and all tensors of rows lie on 16
//          bytes.
// launch   grid ceil(lk / rows) kvHeads batch, block 128: four warps of 16 keys, so rows = 64
//          (where d > 128 two warps share 16 keys, rows = 32); steps of 32 queries.
// bound    float arithmetic: 8 batch heads lq lk d flops (half of it when causal). Goal: 60 % of
//          the peak of FFMA at d = 64 and 128 from lq = lk = 2048 on.
// expect   regs <= 255, occupancy >= 12, has FFMA LDS.128 LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL
//          STL HMMA RED ATOM
// expect   attention_dkv32_f32: regs <= 168, occupancy >= 18, dynamic 38144
// expect   attention_dkv64_f32: dynamic 62720
// expect   attention_dkv128_f32: dynamic 111872
// expect   attention_dkv128_f32 sm_80: occupancy >= 6
// expect   attention_dkv256_f32: dynamic 143616, occupancy >= 6
// repro    yes
// twin     ops.AttentionBackward; |gpu - float64| <= 2^-18 of the sum of magnitudes, for scores
//          up to 10.
// source   as attention_dkv. Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dkv32_f32(float* dk, float* dv, const float* dout, const float* q, const float* k,
                        const float* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys32<32, 4, 1>(BACKWARD);
}
EXPORT(attention_dkv32_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv64_f32(float* dk, float* dv, const float* dout, const float* q, const float* k,
                        const float* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys32<64, 4, 1>(BACKWARD);
}
EXPORT(attention_dkv64_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv128_f32(float* dk, float* dv, const float* dout, const float* q, const float* k,
                         const float* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys32<128, 4, 1>(BACKWARD);
}
EXPORT(attention_dkv128_f32)

extern "C" __global__ void __launch_bounds__(128, 1)
    attention_dkv256_f32(float* dk, float* dv, const float* dout, const float* q, const float* k,
                         const float* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys32<256, 4, 2>(BACKWARD);
}
EXPORT(attention_dkv256_f32)
