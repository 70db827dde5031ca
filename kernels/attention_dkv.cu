#include "attention_backward.h"

using namespace attention;

#define BACKWARD(T)                                                                                \
    BackwardArgs<T>                                                                                \
    {                                                                                              \
        dk, dv, nullptr, dout, q, k, v, lse, delta, bias, scale, biasBatch, biasHeads,             \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_dkv - the gradients of keys and values, 16-bit tensors on tensor cores.
//
//     p[i, j]  = exp(scale q[i] . k[j] + bias[i, j] - lse[i])      where query i sees key j, else 0
//     ds[i, j] = p[i, j] (dout[i] . v[j] - delta[i])
//     dv[j] = sum_i p[i, j] dout[i],   dk[j] = scale sum_i ds[i, j] q[i]
//
// The sums run over the queries of all heads that share the key head, in one fixed order: there are
// no atomics. Scores are formed transposed, so that p and ds are left operands without leaving the
// registers. Sums are float; p and ds are rounded to 16 bits for them. A key that no query sees
// gets zeros.
//
// kernels  attention_dkv32_f16 attention_dkv32_bf16 attention_dkv64_f16 attention_dkv64_bf16
//          attention_dkv128_f16 attention_dkv128_bf16 attention_dkv256_f16 attention_dkv256_bf16
// shapes   dk, dv, k, v: [batch, lk, kvHeads, d], dk or dv may be null; dout, q: [batch, lq,
//          heads, d]; lse, delta: [batch, heads, lq]; the rest as attention_forward.
// params   as attention_forward. aligned: d is a multiple of 8 and all 16-bit tensors lie on 16
//          bytes.
// launch   grid ceil(lk / rows) kvHeads batch; rows = 128 keys (64 where d > 128), 4 warps of 32
//          keys for d <= 64, 8 of 16 above, where two warps share 16 keys for d > 128; steps of
//          32 queries, two of them in shared memory.
// bound    tensor cores: 8 batch heads lq lk d flops (half of it when causal). Goal: 60 % of the
//          peak of an A100 at d = 64 and 128 from lq = lk = 4096 on; 35 % of an H100's.
// expect   regs <= 255, occupancy >= 12, has HMMA LDSM LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL STL
//          RED ATOM
// expect   attention_dkv32_f16 attention_dkv32_bf16: block 128, dynamic 25088, HMMA >= 64
// expect   attention_dkv64_f16 attention_dkv64_bf16: block 128, dynamic 49664, HMMA >= 96
// expect   attention_dkv128_f16 attention_dkv128_bf16: block 256, dynamic 98816, HMMA >= 96
// expect   attention_dkv256_f16 attention_dkv256_bf16: block 256, dynamic 131584, HMMA >= 96
// repro    yes
// twin     ops.AttentionBackward; error at most twice that of the loop that rounds every step to
//          16 bits.
// source   Dao 2023, arXiv 2307.08691, Algorithm 2, split by what is summed. Own derivation.

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv32_f16(half* dk, half* dv, const half* dout, const half* q, const half* k,
                        const half* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<half, 32, 2, 4, 1, 32>(BACKWARD(half));
}
EXPORT(attention_dkv32_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv32_bf16(bf16* dk, bf16* dv, const bf16* dout, const bf16* q, const bf16* k,
                         const bf16* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<bf16, 32, 2, 4, 1, 32>(BACKWARD(bf16));
}
EXPORT(attention_dkv32_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv64_f16(half* dk, half* dv, const half* dout, const half* q, const half* k,
                        const half* v, const float* lse, const float* delta, const float* bias,
                        const int* keyLens, const int* cuQ, const int* cuK,
                        const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                        int blockShift, int blockBatch, int blockHeads, int left, int right,
                        int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<half, 64, 2, 4, 1, 32>(BACKWARD(half));
}
EXPORT(attention_dkv64_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_dkv64_bf16(bf16* dk, bf16* dv, const bf16* dout, const bf16* q, const bf16* k,
                         const bf16* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<bf16, 64, 2, 4, 1, 32>(BACKWARD(bf16));
}
EXPORT(attention_dkv64_bf16)

extern "C" __global__ void __launch_bounds__(256, 1)
    attention_dkv128_f16(half* dk, half* dv, const half* dout, const half* q, const half* k,
                         const half* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<half, 128, 1, 8, 1, 32>(BACKWARD(half));
}
EXPORT(attention_dkv128_f16)

extern "C" __global__ void __launch_bounds__(256, 1)
    attention_dkv128_bf16(bf16* dk, bf16* dv, const bf16* dout, const bf16* q, const bf16* k,
                          const bf16* v, const float* lse, const float* delta, const float* bias,
                          const int* keyLens, const int* cuQ, const int* cuK,
                          const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                          int blockShift, int blockBatch, int blockHeads, int left, int right,
                          int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<bf16, 128, 1, 8, 1, 32>(BACKWARD(bf16));
}
EXPORT(attention_dkv128_bf16)

extern "C" __global__ void __launch_bounds__(256, 1)
    attention_dkv256_f16(half* dk, half* dv, const half* dout, const half* q, const half* k,
                         const half* v, const float* lse, const float* delta, const float* bias,
                         const int* keyLens, const int* cuQ, const int* cuK,
                         const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                         int blockShift, int blockBatch, int blockHeads, int left, int right,
                         int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<half, 256, 1, 8, 2, 32>(BACKWARD(half));
}
EXPORT(attention_dkv256_f16)

extern "C" __global__ void __launch_bounds__(256, 1)
    attention_dkv256_bf16(bf16* dk, bf16* dv, const bf16* dout, const bf16* q, const bf16* k,
                          const bf16* v, const float* lse, const float* delta, const float* bias,
                          const int* keyLens, const int* cuQ, const int* cuK,
                          const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                          int blockShift, int blockBatch, int blockHeads, int left, int right,
                          int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    backwardKeys<bf16, 256, 1, 8, 2, 32>(BACKWARD(bf16));
}
EXPORT(attention_dkv256_bf16)
