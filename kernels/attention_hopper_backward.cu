#include "attention_hopper_backward.h"

using namespace attention;

// attention_hopper_dq - the gradient of queries, on the warp-group products of 9.0.
//
//     p[i, j]  = exp(scale q[i] . k[j] - lse[i])      where query i sees key j, else 0
//     ds[i, j] = p[i, j] (dout[i] . v[j] - delta[i])
//     dq[i] = scale sum_j ds[i, j] k[j]
//
// A query that sees no key gets zeros.
//
// arch     sm_90a
// kernels  attention_hopper_dq_f16_64 attention_hopper_dq_bf16_64 attention_hopper_dq_f16_128
//          attention_hopper_dq_bf16_128
// shapes   dq: [batch, lq, heads, d]; lse, delta: [batch, heads, lq]; q, dout, k, v: maps as in
//          attention_hopper, with boxes of 64 rows (of k and v 128 where d = 64).
// params   as attention_hopper; any scale.
// launch   grid ceil(lq / 128) heads batch, block 384: a group of four warps that copies, with 24
//          registers, and two that compute, with 240. Dynamic shared memory: 128 rows of q and
//          dout, two steps of 128 (d = 64) or 64 keys and values, and 1024 bytes to align them.
// bound    tensor cores: 6 batch heads lq lk d flops (half of it when causal). Goal: 50 % of an
//          H100's peak at d = 128 from lq = lk = 4096 on, 40 % at 64; 10 % less when causal.
// expect   regs <= 168, occupancy >= 18, has HGMMA UTMALDG SYNCS USETMAXREG WARPGROUP MUFU.EX2,
//          not LDL STL HMMA LDGSTS RED ATOM, UTMALDG.4D >= 6
// expect   attention_hopper_dq_f16_64 attention_hopper_dq_bf16_64: dynamic 99328, HGMMA >= 16
// expect   attention_hopper_dq_f16_128 attention_hopper_dq_bf16_128: dynamic 132096, HGMMA >= 20
// repro    yes
// twin     ops.AttentionBackward; error at most twice that of the loop that rounds every step to
//          16 bits.
// source   Shah et al. 2024, arXiv 2407.08608; Dao 2023, arXiv 2307.08691, Algorithm 2, split by
//          what is summed. Own derivation.
// note     No GPU has run it yet: the host device's models of its instructions have.

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dq_f16_64(half* dq, const float* lse, const float* delta,
                               const __grid_constant__ TensorMap q,
                               const __grid_constant__ TensorMap dout,
                               const __grid_constant__ TensorMap k,
                               const __grid_constant__ TensorMap v, float scale, int right,
                               int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperQueries<half, 64, 128>(
        {dq, nullptr, nullptr, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}},
        q, dout, k, v);
}
EXPORT(attention_hopper_dq_f16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dq_bf16_64(bf16* dq, const float* lse, const float* delta,
                                const __grid_constant__ TensorMap q,
                                const __grid_constant__ TensorMap dout,
                                const __grid_constant__ TensorMap k,
                                const __grid_constant__ TensorMap v, float scale, int right,
                                int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperQueries<bf16, 64, 128>(
        {dq, nullptr, nullptr, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}},
        q, dout, k, v);
}
EXPORT(attention_hopper_dq_bf16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dq_f16_128(half* dq, const float* lse, const float* delta,
                                const __grid_constant__ TensorMap q,
                                const __grid_constant__ TensorMap dout,
                                const __grid_constant__ TensorMap k,
                                const __grid_constant__ TensorMap v, float scale, int right,
                                int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperQueries<half, 128, 64>(
        {dq, nullptr, nullptr, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}},
        q, dout, k, v);
}
EXPORT(attention_hopper_dq_f16_128)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dq_bf16_128(bf16* dq, const float* lse, const float* delta,
                                 const __grid_constant__ TensorMap q,
                                 const __grid_constant__ TensorMap dout,
                                 const __grid_constant__ TensorMap k,
                                 const __grid_constant__ TensorMap v, float scale, int right,
                                 int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperQueries<bf16, 128, 64>(
        {dq, nullptr, nullptr, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}},
        q, dout, k, v);
}
EXPORT(attention_hopper_dq_bf16_128)

// attention_hopper_dkv - the gradients of keys and values, on the warp-group products of 9.0.
//
//     dv[j] = sum_i p[i, j] dout[i],   dk[j] = scale sum_i ds[i, j] q[i]
//
// p and ds as in attention_hopper_dq. The sums run over the queries of all heads that share the key
// head, in one fixed order. A key that no query sees gets zeros.
//
// arch     sm_90a
// kernels  attention_hopper_dkv_f16_64 attention_hopper_dkv_bf16_64 attention_hopper_dkv_f16_128
//          attention_hopper_dkv_bf16_128
// shapes   dk, dv: [batch, lk, kvHeads, d], either may be null; the rest as attention_hopper_dq, all
//          boxes of 64 rows.
// params   as attention_hopper; any scale.
// launch   grid ceil(lk / 128) kvHeads batch, block 384: as attention_hopper_dq, where a second warp
//          brings lse and delta. Dynamic shared memory: 128 rows of k and v, two steps of 64
//          queries with dout, and 1024 bytes to align them.
// bound    tensor cores: 8 batch heads lq lk d flops (half of it when causal). Goal: 50 % of an
//          H100's peak at d = 128 from lq = lk = 4096 on, 40 % at 64; 10 % less when causal.
// expect   regs <= 168, occupancy >= 18, has HGMMA UTMALDG SYNCS USETMAXREG WARPGROUP MUFU.EX2,
//          not LDL STL HMMA LDGSTS RED ATOM, UTMALDG.4D >= 6
// expect   attention_hopper_dkv_f16_64 attention_hopper_dkv_bf16_64: dynamic 66560, HGMMA >= 16
// expect   attention_hopper_dkv_f16_128 attention_hopper_dkv_bf16_128: dynamic 132096, HGMMA >= 24
// repro    yes
// twin     ops.AttentionBackward; error at most twice that of the loop that rounds every step to
//          16 bits.
// source   as attention_hopper_dq.
// note     No GPU has run it yet: the host device's models of its instructions have.

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dkv_f16_64(half* dk, half* dv, const float* lse, const float* delta,
                                const __grid_constant__ TensorMap q,
                                const __grid_constant__ TensorMap dout,
                                const __grid_constant__ TensorMap k,
                                const __grid_constant__ TensorMap v, float scale, int right,
                                int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperKeys<half, 64>(
        {nullptr, dk, dv, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}}, q,
        dout, k, v);
}
EXPORT(attention_hopper_dkv_f16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dkv_bf16_64(bf16* dk, bf16* dv, const float* lse, const float* delta,
                                 const __grid_constant__ TensorMap q,
                                 const __grid_constant__ TensorMap dout,
                                 const __grid_constant__ TensorMap k,
                                 const __grid_constant__ TensorMap v, float scale, int right,
                                 int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperKeys<bf16, 64>(
        {nullptr, dk, dv, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}}, q,
        dout, k, v);
}
EXPORT(attention_hopper_dkv_bf16_64)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dkv_f16_128(half* dk, half* dv, const float* lse, const float* delta,
                                 const __grid_constant__ TensorMap q,
                                 const __grid_constant__ TensorMap dout,
                                 const __grid_constant__ TensorMap k,
                                 const __grid_constant__ TensorMap v, float scale, int right,
                                 int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperKeys<half, 128>(
        {nullptr, dk, dv, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}}, q,
        dout, k, v);
}
EXPORT(attention_hopper_dkv_f16_128)

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_hopper_dkv_bf16_128(bf16* dk, bf16* dv, const float* lse, const float* delta,
                                  const __grid_constant__ TensorMap q,
                                  const __grid_constant__ TensorMap dout,
                                  const __grid_constant__ TensorMap k,
                                  const __grid_constant__ TensorMap v, float scale, int right,
                                  int batch, int heads, int kvHeads, int lq, int lk)
{
    hopperKeys<bf16, 128>(
        {nullptr, dk, dv, lse, delta, scale, {nullptr, right, batch, heads, kvHeads, lq, lk}}, q,
        dout, k, v);
}
EXPORT(attention_hopper_dkv_bf16_128)
