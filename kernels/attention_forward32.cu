#include "attention_forward32.h"

using namespace attention;

#define FORWARD                                                                                    \
    ForwardArgs32                                                                                  \
    {                                                                                              \
        out, lse, q, k, v, bias, scale, biasBatch, biasHeads,                                      \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_forward32 - attention, one pass over the keys, float tensors, exact float products.
//
// The formula and the meaning of every parameter are attention_forward's; no product is rounded
// below float (no tf32).
//
// kernels  attention_forward32_f32 attention_forward64_f32 attention_forward128_f32
//          attention_forward256_f32
// shapes   as attention_forward, float.
// params   as attention_forward; aligned: d is a multiple of 4 and q, k, v, out lie on 16 bytes.
// launch   grid ceil(lq / rows) heads batch, block 128: four warps of 32 queries (16 where d >
//          64), so rows = 128 (64); steps of 32 keys. Dynamic shared memory: the rows of q, one
//          step of k and one of v, rows padded by 4, and a step's exponentials, rows of 40.
// bound    float arithmetic: 4 batch heads lq lk d flops (half of it when causal). Goal: 70 % of
//          the peak of FFMA at d = 64 and 128 from lq = lk = 2048 on.
// expect   regs <= 255, occupancy >= 12, has FFMA LDS.128 LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL
//          STL HMMA
// expect   attention_forward32_f32: regs <= 168, occupancy >= 18, dynamic 48128
// expect   attention_forward64_f32: dynamic 72704
// expect   attention_forward128_f32: dynamic 77824
// expect   attention_forward256_f32: dynamic 143360, occupancy >= 6
// repro    yes
// twin     ops.Attention; |gpu - float64| <= 2^-20 sum_j p[i, j] |v[j]| for scores up to 10.
// source   as attention_forward. Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_forward32_f32(float* out, float* lse, const float* q, const float* k, const float* v,
                            const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                            const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                            int blockShift, int blockBatch, int blockHeads, int left, int right,
                            int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward32<32, 8, 32>(FORWARD);
}
EXPORT(attention_forward32_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward64_f32(float* out, float* lse, const float* q, const float* k, const float* v,
                            const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                            const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                            int blockShift, int blockBatch, int blockHeads, int left, int right,
                            int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward32<64, 8, 32>(FORWARD);
}
EXPORT(attention_forward64_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward128_f32(float* out, float* lse, const float* q, const float* k, const float* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward32<128, 4, 32>(FORWARD);
}
EXPORT(attention_forward128_f32)

extern "C" __global__ void __launch_bounds__(128, 1)
    attention_forward256_f32(float* out, float* lse, const float* q, const float* k, const float* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward32<256, 4, 32>(FORWARD);
}
EXPORT(attention_forward256_f32)
