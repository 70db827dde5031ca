#include "attention_hopper.h"

using namespace attention;

// attention_hopper - attention, one pass over the keys, on the warp-group products of 9.0.
//
//     s[i, j] = scale q[i] . k[j]                      over the keys j that query i sees
//     lse[i]  = log sum_j exp(s[i, j]),  out[i] = sum_j exp(s[i, j] - lse[i]) v[j]
//
// As attention_forward, for what most calls are: no bias, no window, one length, d = 64 or 128. A
// warp has the copy engine fill a ring of tiles of 128 keys and values; two groups of four warps
// have 64 queries each. Scores of a step are multiplied while its predecessor's values are, and
// while the other group takes exponentials.
//
// arch     sm_90a
// kernels  attention_hopper_f16_64 attention_hopper_bf16_64 attention_hopper_f16_128
//          attention_hopper_bf16_128
// shapes   out: [batch, lq, heads, d]; q a map of the queries, k and v of the keys and values, as
//          [d, heads or kvHeads, rows, batch], fastest first, with boxes of 64, 1, 64 (q) or 128 (k,
//          v), 1 under the 128-byte swizzle; lse: [batch, heads, lq] or null; keyLens: null or
//          [batch].
// params   d is the number in the name; heads a multiple of kvHeads; lq, lk <= 2^29, lk > 0; scale >
//          0. right: 0 is causal, less than 0 no limit.
// launch   grid ceil(lq / 128) heads batch, block 384: a group of four warps that copies, with 24
//          registers, and two that compute, with 240. Dynamic shared memory: 128 rows of q, four
//          (d = 64) or two (128) steps of 128 keys and values, and 1024 bytes to align them.
// bound    tensor cores: 4 batch heads lq lk d flops (half of it when causal), 4 batch heads lq d
//          + 4 batch kvHeads lk d bytes. Goal: 65 % of an H100's peak at d = 128
//          from lq = lk = 4096 on, 45 % at 64, where exponentials take as long as products; 10 %
//          less when causal.
// expect   regs <= 168, occupancy >= 18, has HGMMA UTMALDG SYNCS USETMAXREG WARPGROUP MUFU.EX2,
//          not LDL STL HMMA LDGSTS
// expect   attention_hopper_f16_64 attention_hopper_bf16_64: dynamic 148480, HGMMA >= 24,
//          UTMALDG.4D >= 4
// expect   attention_hopper_f16_128 attention_hopper_bf16_128: dynamic 164864, HGMMA >= 32,
//          UTMALDG.4D >= 8
// repro    yes
// twin     ops.Attention; error at most twice that of the loop that rounds every step to 16 bits.
// source   Shah et al. 2024, arXiv 2407.08608 (groups that copy and compute, turns, products under
//          exponentials); Dao 2023, arXiv 2307.08691. Own derivation.
// note     No GPU has run it yet: the host device's models of its instructions have.

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_f16_64(half* out, float* lse, const __grid_constant__ TensorMap q,
                            const __grid_constant__ TensorMap k,
                            const __grid_constant__ TensorMap v, const int* keyLens, float scale,
                            int right, int batch, int heads, int kvHeads, int lq, int lk)
{
    attendHopper<half, 64, 4>(out, lse, q, k, v, scale,
                              {keyLens, right, batch, heads, kvHeads, lq, lk});
}
EXPORT(attention_hopper_f16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_bf16_64(bf16* out, float* lse, const __grid_constant__ TensorMap q,
                             const __grid_constant__ TensorMap k,
                             const __grid_constant__ TensorMap v, const int* keyLens, float scale,
                             int right, int batch, int heads, int kvHeads, int lq, int lk)
{
    attendHopper<bf16, 64, 4>(out, lse, q, k, v, scale,
                              {keyLens, right, batch, heads, kvHeads, lq, lk});
}
EXPORT(attention_hopper_bf16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_f16_128(half* out, float* lse, const __grid_constant__ TensorMap q,
                             const __grid_constant__ TensorMap k,
                             const __grid_constant__ TensorMap v, const int* keyLens, float scale,
                             int right, int batch, int heads, int kvHeads, int lq, int lk)
{
    attendHopper<half, 128, 2>(out, lse, q, k, v, scale,
                               {keyLens, right, batch, heads, kvHeads, lq, lk});
}
EXPORT(attention_hopper_f16_128)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_bf16_128(bf16* out, float* lse, const __grid_constant__ TensorMap q,
                              const __grid_constant__ TensorMap k,
                              const __grid_constant__ TensorMap v, const int* keyLens, float scale,
                              int right, int batch, int heads, int kvHeads, int lq, int lk)
{
    attendHopper<bf16, 128, 2>(out, lse, q, k, v, scale,
                               {keyLens, right, batch, heads, kvHeads, lq, lk});
}
EXPORT(attention_hopper_bf16_128)
