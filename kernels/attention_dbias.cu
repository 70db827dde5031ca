#include "attention_dbias.h"

using namespace attention;

#define BACKWARD                                                                                   \
    {                                                                                              \
        nullptr, nullptr, nullptr, dout, q, k, v, lse, delta, bias, scale, biasBatch, biasHeads,   \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_dbias - the gradient of the additive bias.
//
//     dbias[b, h, i, j] = sum of ds[b', h', i, j] over the b', h' that share the plane (b, h)
//
// ds as in attention_dkv; the sum has one fixed order. Pairs that are not seen get zeros.
//
// kernels  attention_dbias_f16 attention_dbias_bf16 attention_dbias_f32
// shapes   dbias, bias: [biasBatch, biasHeads, lq, lk] float; the rest as attention_dkv. No
//          sequences of their own lengths: cuQ and cuK are null.
// params   as attention_forward; d <= 256. aligned: rows of q, k, v and dout are whole pieces of
//          16 bytes and lie on 16 bytes.
// launch   grid ceil(lk / 64) ceil(lq / 64) biasBatch biasHeads, block 128: four warps of 16
//          queries by 64 keys; steps of 64 (float: 32) columns of d.
// bound    tensor cores, float arithmetic for float: 4 batch heads lq lk d flops. Goal: 30 % of
//          the peak of an A100 (float: 50 % of FFMA): copies are not overlapped within a block,
//          only between blocks.
// expect   regs <= 168, occupancy >= 18, has LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL STL RED ATOM
// expect   attention_dbias_f16 attention_dbias_bf16: dynamic 32768, HMMA >= 32, LDSM >= 10
// expect   attention_dbias_f32: regs <= 255, occupancy >= 12, dynamic 36864, FFMA >= 256, not
//          HMMA
// repro    yes
// twin     ops.AttentionBackward; error as attention_dkv.
// source   Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dbias_f16(float* dbias, const half* dout, const half* q, const half* k, const half* v,
                        const float* lse, const float* delta, const float* bias, const int* keyLens,
                        const int* cuQ, const int* cuK, const unsigned char* blocks, float scale,
                        int biasBatch, int biasHeads, int blockShift, int blockBatch,
                        int blockHeads, int left, int right, int batch, int heads, int kvHeads,
                        int lq, int lk, int d, int aligned)
{
    biasGradient<half>(dbias, BackwardArgs<half> BACKWARD);
}
EXPORT(attention_dbias_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_dbias_bf16(float* dbias, const bf16* dout, const bf16* q, const bf16* k,
                         const bf16* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    biasGradient<bf16>(dbias, BackwardArgs<bf16> BACKWARD);
}
EXPORT(attention_dbias_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dbias_f32(float* dbias, const float* dout, const float* q, const float* k,
                        const float* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    biasGradient32(dbias, BackwardArgs32 BACKWARD);
}
EXPORT(attention_dbias_f32)
