#include "attention_mapped.h"

using namespace attention;

// attention_mapped - products with maps that a caller owns, and their gradients.
//
//     out[i] = sum_j maps[i, j] v[j],   dmaps[i, j] = dout[i] . v[j],   dv[j] = sum_i maps[i, j]
//     dout[i]
//
// Maps need not be probabilities. All arithmetic is float; dv sums the heads that share a key head.
//
// kernels  attention_mapped_f16 attention_mapped_bf16 attention_mapped_f32
//          attention_mapped_dmaps_f16 attention_mapped_dmaps_bf16 attention_mapped_dmaps_f32
//          attention_mapped_dv_f16 attention_mapped_dv_bf16 attention_mapped_dv_f32
// shapes   out, dout: [batch, lq, heads, d]; maps, dmaps: [batch, heads, lq, lk] float; v, dv:
//          [batch, lk, kvHeads, d].
// params   heads a multiple of kvHeads; d <= 256.
// launch   block 128: four warps of 16 rows; 64 rows a block. out: grid ceil(d / 64) ceil(lq /
//          64) heads batch; dmaps: ceil(lk / 64) ceil(lq / 64) heads batch; dv: ceil(d / 64)
//          ceil(lk / 64) kvHeads batch; steps of 32 rows of the other side or 64 columns of d.
// bound    float arithmetic: 2 batch heads lq lk d flops each; memory where d <= 32: 4 batch
//          heads lq lk bytes of maps. Goal: 40 % of the peak of FFMA, 60 % of peak bandwidth.
// expect   regs <= 128, occupancy >= 25, dynamic 18944, has FFMA LDS.128, not LDL STL HMMA RED
//          ATOM
// expect   attention_mapped_dmaps_f16 attention_mapped_dmaps_bf16 attention_mapped_dmaps_f32:
//          dynamic 34816
// repro    yes
// twin     ops.AttentionFromMaps, ops.AttentionFromMapsBackward; |gpu - float64| <= 2^-20 of the
//          sum of magnitudes, rounded to the type.
// source   Own derivation.

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_f16(half* out, const float* maps, const half* v, int heads, int kvHeads,
                         int lq, int lk, int d)
{
    mapped<half, false>(out, maps, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_bf16(bf16* out, const float* maps, const bf16* v, int heads, int kvHeads,
                          int lq, int lk, int d)
{
    mapped<bf16, false>(out, maps, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_f32(float* out, const float* maps, const float* v, int heads, int kvHeads,
                         int lq, int lk, int d)
{
    mapped<float, false>(out, maps, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_f32)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dmaps_f16(float* dmaps, const half* dout, const half* v, int heads,
                               int kvHeads, int lq, int lk, int d)
{
    mappedMaps(dmaps, dout, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dmaps_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dmaps_bf16(float* dmaps, const bf16* dout, const bf16* v, int heads,
                                int kvHeads, int lq, int lk, int d)
{
    mappedMaps(dmaps, dout, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dmaps_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dmaps_f32(float* dmaps, const float* dout, const float* v, int heads,
                               int kvHeads, int lq, int lk, int d)
{
    mappedMaps(dmaps, dout, v, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dmaps_f32)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dv_f16(half* dv, const float* maps, const half* dout, int heads, int kvHeads,
                            int lq, int lk, int d)
{
    mapped<half, true>(dv, maps, dout, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dv_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dv_bf16(bf16* dv, const float* maps, const bf16* dout, int heads, int kvHeads,
                             int lq, int lk, int d)
{
    mapped<bf16, true>(dv, maps, dout, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dv_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_mapped_dv_f32(float* dv, const float* maps, const float* dout, int heads, int kvHeads,
                            int lq, int lk, int d)
{
    mapped<float, true>(dv, maps, dout, heads, kvHeads, lq, lk, d);
}
EXPORT(attention_mapped_dv_f32)
