#include "attention_delta.h"

using namespace attention;

// attention_delta - the sum of dout times out, of each query and head.
//
//     delta[i] = sum_x dout[i, x] out[i, x]
//
// kernels  attention_delta_f16 attention_delta_bf16 attention_delta_f32
// shapes   dout, out: [rows, heads, d], rows = batch lq. delta: [batch, heads, lq] float, or
//          [heads, rows] where lq = 0 (sequences of their own lengths).
// params   d <= 256. aligned: rows are whole pieces of 16 bytes and lie on 16 bytes.
// launch   grid ceil(rows heads / 32), block 256, shared 0. Eight lanes a row.
// bound    memory: 4 rows heads d bytes (8 for float). Goal: 80 % of peak bandwidth from rows
//          heads d = 2^24 on.
// expect   regs <= 40, shared <= 0, occupancy >= 75, has LDG.E.128, not LDL STL
// repro    yes
// twin     ops.AttentionBackward; |gpu - float64| <= 2^-20 sum_x |dout out|.
// source   Dao 2023, arXiv 2307.08691, Algorithm 2, line 4. Own derivation.

extern "C" __global__ void __launch_bounds__(256)
    attention_delta_f16(float* delta, const half* dout, const half* out, long long rows, int heads,
                        int lq, int d, int aligned)
{
    attention::delta<half>(delta, dout, out, rows, heads, lq, d, aligned);
}
EXPORT(attention_delta_f16)

extern "C" __global__ void __launch_bounds__(256)
    attention_delta_bf16(float* delta, const bf16* dout, const bf16* out, long long rows, int heads,
                         int lq, int d, int aligned)
{
    attention::delta<bf16>(delta, dout, out, rows, heads, lq, d, aligned);
}
EXPORT(attention_delta_bf16)

extern "C" __global__ void __launch_bounds__(256)
    attention_delta_f32(float* delta, const float* dout, const float* out, long long rows,
                        int heads, int lq, int d, int aligned)
{
    attention::delta<float>(delta, dout, out, rows, heads, lq, d, aligned);
}
EXPORT(attention_delta_f32)
