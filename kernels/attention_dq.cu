#include "attention_backward.h"

using namespace attention;

#define BACKWARD(T)                                                                                \
    BackwardArgs<T>                                                                                \
    {                                                                                              \
        nullptr, nullptr, dq, dout, q, k, v, lse, delta, bias, scale, biasBatch, biasHeads,        \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_dq - the gradient of queries, 16-bit tensors on tensor cores.
//
//     dq[i] = scale sum_j ds[i, j] k[j],   ds as in attention_dkv
//
// A query that sees no key gets zeros.
//
// kernels  attention_dq32_f16 attention_dq32_bf16 attention_dq64_f16 attention_dq64_bf16
//          attention_dq128_f16 attention_dq128_bf16 attention_dq256_f16 attention_dq256_bf16
// shapes   dq, dout, q: [batch, lq, heads, d]; the rest as attention_dkv.
// params   as attention_forward. aligned: d is a multiple of 8 and all 16-bit tensors lie on 16
//          bytes.
// launch   grid ceil(lq / rows) heads batch, block 128: four warps of 32 queries (16 where d >
//          128), so rows = 128 (64); steps of 32 keys (64 where 32 < d <= 64), two of them in
//          shared memory.
// bound    tensor cores: 6 batch heads lq lk d flops (half of it when causal). Goal: 60 % of the
//          peak of an A100 at d = 64 and 128 from lq = lk = 4096 on; 35 % of an H100's.
// expect   regs <= 255, occupancy >= 12, has HMMA LDSM LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL STL
//          RED ATOM
// expect   attention_dq32_f16 attention_dq32_bf16: regs <= 168, occupancy >= 18, dynamic 25600,
//          HMMA >= 48
// expect   attention_dq64_f16 attention_dq64_bf16: dynamic 66560, HMMA >= 128
// expect   attention_dq128_f16 attention_dq128_bf16: dynamic 99328, HMMA >= 128
// expect   attention_dq128_f16 attention_dq128_bf16 sm_80: occupancy >= 6
// expect   attention_dq256_f16 attention_dq256_bf16: dynamic 131584, HMMA >= 96, occupancy >= 6
// repro    yes
// twin     ops.AttentionBackward; error at most twice that of the loop that rounds every step to
//          16 bits.
// source   Dao 2023, arXiv 2307.08691, Algorithm 2, split by what is summed. Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dq32_f16(half* dq, const half* dout, const half* q, const half* k, const half* v,
                       const float* lse, const float* delta, const float* bias, const int* keyLens,
                       const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                       int biasBatch, int biasHeads, int blockShift, int blockBatch, int blockHeads,
                       int left, int right, int batch, int heads, int kvHeads, int lq, int lk,
                       int d, int aligned)
{
    backwardQueries<half, 32, 2, 4, 32>(BACKWARD(half));
}
EXPORT(attention_dq32_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dq32_bf16(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                        const float* lse, const float* delta, const float* bias, const int* keyLens,
                        const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                        int biasBatch, int biasHeads, int blockShift, int blockBatch,
                        int blockHeads, int left, int right, int batch, int heads, int kvHeads,
                        int lq, int lk, int d, int aligned)
{
    backwardQueries<bf16, 32, 2, 4, 32>(BACKWARD(bf16));
}
EXPORT(attention_dq32_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dq64_f16(half* dq, const half* dout, const half* q, const half* k, const half* v,
                       const float* lse, const float* delta, const float* bias, const int* keyLens,
                       const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                       int biasBatch, int biasHeads, int blockShift, int blockBatch, int blockHeads,
                       int left, int right, int batch, int heads, int kvHeads, int lq, int lk,
                       int d, int aligned)
{
    backwardQueries<half, 64, 2, 4, 64>(BACKWARD(half));
}
EXPORT(attention_dq64_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dq64_bf16(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                        const float* lse, const float* delta, const float* bias, const int* keyLens,
                        const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                        int biasBatch, int biasHeads, int blockShift, int blockBatch,
                        int blockHeads, int left, int right, int batch, int heads, int kvHeads,
                        int lq, int lk, int d, int aligned)
{
    backwardQueries<bf16, 64, 2, 4, 64>(BACKWARD(bf16));
}
EXPORT(attention_dq64_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dq128_f16(half* dq, const half* dout, const half* q, const half* k, const half* v,
                        const float* lse, const float* delta, const float* bias, const int* keyLens,
                        const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                        int biasBatch, int biasHeads, int blockShift, int blockBatch,
                        int blockHeads, int left, int right, int batch, int heads, int kvHeads,
                        int lq, int lk, int d, int aligned)
{
    backwardQueries<half, 128, 2, 4, 32>(BACKWARD(half));
}
EXPORT(attention_dq128_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dq128_bf16(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                         const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardQueries<bf16, 128, 2, 4, 32>(BACKWARD(bf16));
}
EXPORT(attention_dq128_bf16)

extern "C" __global__ void __launch_bounds__(128, 1)
    attention_dq256_f16(half* dq, const half* dout, const half* q, const half* k, const half* v,
                        const float* lse, const float* delta, const float* bias, const int* keyLens,
                        const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                        int biasBatch, int biasHeads, int blockShift, int blockBatch,
                        int blockHeads, int left, int right, int batch, int heads, int kvHeads,
                        int lq, int lk, int d, int aligned)
{
    backwardQueries<half, 256, 1, 4, 32>(BACKWARD(half));
}
EXPORT(attention_dq256_f16)

extern "C" __global__ void __launch_bounds__(128, 1)
    attention_dq256_bf16(bf16* dq, const bf16* dout, const bf16* q, const bf16* k, const bf16* v,
                         const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardQueries<bf16, 256, 1, 4, 32>(BACKWARD(bf16));
}
EXPORT(attention_dq256_bf16)
