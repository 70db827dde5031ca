#include "attention_forward.h"

using namespace attention;

#define FORWARD(T)                                                                                 \
    ForwardArgs<T>                                                                                 \
    {                                                                                              \
        out, lse, q, k, v, bias, scale, biasBatch, biasHeads,                                      \
        {                                                                                          \
            keyLens, cuQ, cuK, left, right, batch, heads, kvHeads, lq, lk, d, aligned, blocks,     \
                blockShift, blockBatch, blockHeads                                                 \
        }                                                                                          \
    }

// attention_forward - attention, one pass over the keys, 16-bit tensors on tensor cores.
//
//     s[i, j] = scale q[i] . k[j] + bias[i, j]         over the keys j that query i sees
//     lse[i]  = log sum_j exp(s[i, j]),  out[i] = sum_j exp(s[i, j] - lse[i]) v[j]
//
// Scores, exponentials and sums are float; exponentials are rounded to 16 bits for the second
// product. A query that sees no key gets zeros and -inf. Query i has its place at key i + lk - lq
// and sees the keys from left before to right after its place (less than 0: no limit), below
// keyLens, in blocks that the mask leaves: steps of keys without one are skipped.
//
// kernels  attention_forward32_f16 attention_forward32_bf16 attention_forward64_f16
//          attention_forward64_bf16 attention_forward128_f16 attention_forward128_bf16
//          attention_forward256_f16 attention_forward256_bf16
// shapes   out, q: [batch, lq, heads, d]; k, v: [batch, lk, kvHeads, d]; lse: [batch, heads, lq]
//          or null. With cuQ and cuK [batch + 1], the sequences' first rows: [rows, heads, d] and
//          [heads, rows], lq and lk the greatest lengths. bias: null or [biasBatch, biasHeads,
//          lq, lk], each extent 1 or the full one. keyLens: null or [batch]. blocks: null, or
//          bytes [blockBatch, blockHeads, ceil(lq / side), ceil(lk / side)], side = 2^blockShift,
//          each extent before 1 or the full one; none with cuQ.
// params   d <= the number in the name; heads a multiple of kvHeads; lq, lk <= 2^29; left, right
//          <= lq + lk; blockShift 6 or 7. aligned: d is a multiple of 8 and q, k, v, out lie on 16 bytes.
// launch   grid ceil(lq / rows) heads batch, block 128: four warps of 32 queries (16 where d >
//          128), so rows = 128 (64); steps of 64 keys (32 at 128). Dynamic shared memory: the
//          rows of q, one step of k and one of v. Products over d are unrolled by 2 steps of 16
//          (4 where d > 64).
// bound    tensor cores: 4 batch heads lq lk d flops (half of it when causal), 4 batch heads lq d
//          + 4 batch kvHeads lk d bytes. Goal: 65 % of the peak of an A100 at d = 64 and 128 from
//          lq = lk = 4096 on; 40 % of an H100's, whose mma.sync reaches about 62 %.
// expect   regs <= 255, occupancy >= 12, has HMMA LDSM LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL STL
// expect   attention_forward32_f16 attention_forward32_bf16: regs <= 168, occupancy >= 18,
//          dynamic 16384, HMMA >= 64
// expect   attention_forward64_f16 attention_forward64_bf16: dynamic 32768, HMMA >= 96
// expect   attention_forward128_f16 attention_forward128_bf16: dynamic 49152, HMMA >= 96
// expect   attention_forward256_f16 attention_forward256_bf16: dynamic 98304, HMMA >= 160
// expect   attention_forward256_f16 attention_forward256_bf16 sm_80: occupancy >= 6
// repro    yes
// twin     ops.Attention; error at most twice that of the loop that rounds every step to 16 bits.
// source   Dao 2023, arXiv 2307.08691 (schedule); Milakov and Gimelshein 2018, arXiv 1805.02867
//          (running maximum). Own derivation.

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_forward32_f16(half* out, float* lse, const half* q, const half* k, const half* v,
                            const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                            const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                            int blockShift, int blockBatch, int blockHeads, int left, int right,
                            int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<half, 32, 2, 4, 64>(FORWARD(half));
}
EXPORT(attention_forward32_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_forward32_bf16(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<bf16, 32, 2, 4, 64>(FORWARD(bf16));
}
EXPORT(attention_forward32_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward64_f16(half* out, float* lse, const half* q, const half* k, const half* v,
                            const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                            const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                            int blockShift, int blockBatch, int blockHeads, int left, int right,
                            int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<half, 64, 2, 4, 64>(FORWARD(half));
}
EXPORT(attention_forward64_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward64_bf16(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<bf16, 64, 2, 4, 64>(FORWARD(bf16));
}
EXPORT(attention_forward64_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward128_f16(half* out, float* lse, const half* q, const half* k, const half* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<half, 128, 2, 4, 32>(FORWARD(half));
}
EXPORT(attention_forward128_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward128_bf16(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                              const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                              const unsigned char* blocks, float scale, int biasBatch,
                              int biasHeads, int blockShift, int blockBatch, int blockHeads,
                              int left, int right, int batch, int heads, int kvHeads, int lq,
                              int lk, int d, int aligned)
{
    forward<bf16, 128, 2, 4, 32>(FORWARD(bf16));
}
EXPORT(attention_forward128_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward256_f16(half* out, float* lse, const half* q, const half* k, const half* v,
                             const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                             const unsigned char* blocks, float scale, int biasBatch, int biasHeads,
                             int blockShift, int blockBatch, int blockHeads, int left, int right,
                             int batch, int heads, int kvHeads, int lq, int lk, int d, int aligned)
{
    forward<half, 256, 1, 4, 64>(FORWARD(half));
}
EXPORT(attention_forward256_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_forward256_bf16(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                              const float* bias, const int* keyLens, const int* cuQ, const int* cuK,
                              const unsigned char* blocks, float scale, int biasBatch,
                              int biasHeads, int blockShift, int blockBatch, int blockHeads,
                              int left, int right, int batch, int heads, int kvHeads, int lq,
                              int lk, int d, int aligned)
{
    forward<bf16, 256, 1, 4, 64>(FORWARD(bf16));
}
EXPORT(attention_forward256_bf16)
