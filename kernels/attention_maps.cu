#include "attention_maps.h"

using namespace attention;

#define MAPS                                                                                       \
    {maps,                                                                                         \
     nullptr,                                                                                      \
     nullptr,                                                                                      \
     q,                                                                                            \
     k,                                                                                            \
     lse,                                                                                          \
     bias,                                                                                         \
     scale,                                                                                        \
     biasBatch,                                                                                    \
     biasHeads,                                                                                    \
     {headPick, keyPick, headPlace, keyPlace, picked, mapKeys, mean},                              \
     {keyLens, nullptr, nullptr, left, right, batch, heads, kvHeads, lq, lk, d, 0}}
#define DELTA                                                                                      \
    {const_cast<float*>(dmaps),                                                                    \
     delta,                                                                                        \
     nullptr,                                                                                      \
     q,                                                                                            \
     k,                                                                                            \
     lse,                                                                                          \
     bias,                                                                                         \
     scale,                                                                                        \
     biasBatch,                                                                                    \
     biasHeads,                                                                                    \
     {headPick, keyPick, headPlace, keyPlace, picked, mapKeys, mean},                              \
     {keyLens, nullptr, nullptr, left, right, batch, heads, kvHeads, lq, lk, d, 0}}
#define GRADIENT                                                                                   \
    {const_cast<float*>(dmaps),                                                                    \
     const_cast<float*>(delta),                                                                    \
     gradient,                                                                                     \
     q,                                                                                            \
     k,                                                                                            \
     lse,                                                                                          \
     bias,                                                                                         \
     scale,                                                                                        \
     biasBatch,                                                                                    \
     biasHeads,                                                                                    \
     {headPick, keyPick, headPlace, keyPlace, picked, mapKeys, mean},                              \
     {keyLens, nullptr, nullptr, left, right, batch, heads, kvHeads, lq, lk, d, 0}}

// attention_maps - attention probabilities of chosen heads and keys, and their gradients.
//
//     p[i, j]     = exp(scale q[i] . k[j] + bias[i, j] - lse[i])   where query i sees key j, else 0
//     maps[m, i, n] = p[i, j] of the m-th chosen head and the n-th chosen key j, or its mean over m
//     delta[i]    = sum_j p[i, j] dp[i, j],  dp: dmaps, 0 off the choice (mean: divided by the
//     heads) ds[i, j]    = p[i, j] (dp[i, j] - delta[i]) dq[i] = scale sum_j ds[i, j] k[j],   dk[j]
//     = scale sum_i ds[i, j] q[i]
//
// All arithmetic is float, also of 16-bit tensors: maps are read by people and by losses.
//
// kernels  attention_maps_f16 attention_maps_bf16 attention_maps_f32 attention_maps_delta_f16
//          attention_maps_delta_bf16 attention_maps_delta_f32 attention_maps_dq_f16
//          attention_maps_dq_bf16 attention_maps_dq_f32 attention_maps_dk_f16
//          attention_maps_dk_bf16 attention_maps_dk_f32
// shapes   maps, dmaps: [batch, picked (mean: 1), lq, mapKeys] float; q, dq: [batch, lq, heads,
//          d]; k, dk: [batch, lk, kvHeads, d]; lse, delta: [batch, heads, lq]; bias and keyLens
//          as attention_forward.
// params   headPick [picked], keyPick [mapKeys]: what is chosen; headPlace [heads], keyPlace
//          [lk]: its place, or -1; null for all in order. The rest as attention_forward; d <=
//          256. delta is read and written of chosen heads only.
// launch   block 128: four warps of 16 rows; 64 rows a block. maps: grid ceil(mapKeys / 64)
//          ceil(lq / 64) picked (mean: 1) batch; delta: ceil(lq / 64) picked batch; dq: ceil(d /
//          64) ceil(lq / 64) heads batch; dk: ceil(d / 64) ceil(lk / 64) kvHeads batch. Steps of
//          64 columns of d, in the gradients of 32 rows of the other side.
// bound    float arithmetic: maps and delta 2 batch picked lq mapKeys d flops, dq and dk 4 batch
//          picked lq lk d (6 where 64 < d <= 128, 10 above: each block of 64 columns forms the
//          scores). Goal: 40 % of the peak of FFMA; copies are overlapped between blocks only.
// expect   regs <= 255, occupancy >= 12, dynamic 34816, has FFMA LDS.128 MUFU.EX2, not LDL STL
//          HMMA RED ATOM
// expect   attention_maps_dq_f16 attention_maps_dq_bf16 attention_maps_dq_f32
//          attention_maps_dk_f16 attention_maps_dk_bf16 attention_maps_dk_f32: dynamic 45056
// expect   attention_maps_delta_f16 attention_maps_delta_bf16 attention_maps_delta_f32
//          attention_maps_dk_f16 attention_maps_dk_bf16 attention_maps_dk_f32: regs <= 168,
//          occupancy >= 18
// repro    yes
// twin     ops.AttentionMaps, ops.AttentionMapsBackward; |gpu - float64| <= 2^-18 of the sum of
//          magnitudes, for scores up to 10.
// source   Own derivation.

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_f16(float* maps, const half* q, const half* k, const float* lse,
                       const float* bias, const int* keyLens, const int* headPick,
                       const int* keyPick, const int* headPlace, const int* keyPlace, float scale,
                       int biasBatch, int biasHeads, int left, int right, int picked, int mapKeys,
                       int mean, int batch, int heads, int kvHeads, int lq, int lk, int d)
{
    attention::maps(MapArgs<half> MAPS);
}
EXPORT(attention_maps_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_bf16(float* maps, const bf16* q, const bf16* k, const float* lse,
                        const float* bias, const int* keyLens, const int* headPick,
                        const int* keyPick, const int* headPlace, const int* keyPlace, float scale,
                        int biasBatch, int biasHeads, int left, int right, int picked, int mapKeys,
                        int mean, int batch, int heads, int kvHeads, int lq, int lk, int d)
{
    attention::maps(MapArgs<bf16> MAPS);
}
EXPORT(attention_maps_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_f32(float* maps, const float* q, const float* k, const float* lse,
                       const float* bias, const int* keyLens, const int* headPick,
                       const int* keyPick, const int* headPlace, const int* keyPlace, float scale,
                       int biasBatch, int biasHeads, int left, int right, int picked, int mapKeys,
                       int mean, int batch, int heads, int kvHeads, int lq, int lk, int d)
{
    attention::maps(MapArgs<float> MAPS);
}
EXPORT(attention_maps_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_delta_f16(float* delta, const float* dmaps, const half* q, const half* k,
                             const float* lse, const float* bias, const int* keyLens,
                             const int* headPick, const int* keyPick, const int* headPlace,
                             const int* keyPlace, float scale, int biasBatch, int biasHeads,
                             int left, int right, int picked, int mapKeys, int mean, int batch,
                             int heads, int kvHeads, int lq, int lk, int d)
{
    mapsDelta(MapArgs<half> DELTA);
}
EXPORT(attention_maps_delta_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_delta_bf16(float* delta, const float* dmaps, const bf16* q, const bf16* k,
                              const float* lse, const float* bias, const int* keyLens,
                              const int* headPick, const int* keyPick, const int* headPlace,
                              const int* keyPlace, float scale, int biasBatch, int biasHeads,
                              int left, int right, int picked, int mapKeys, int mean, int batch,
                              int heads, int kvHeads, int lq, int lk, int d)
{
    mapsDelta(MapArgs<bf16> DELTA);
}
EXPORT(attention_maps_delta_bf16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_delta_f32(float* delta, const float* dmaps, const float* q, const float* k,
                             const float* lse, const float* bias, const int* keyLens,
                             const int* headPick, const int* keyPick, const int* headPlace,
                             const int* keyPlace, float scale, int biasBatch, int biasHeads,
                             int left, int right, int picked, int mapKeys, int mean, int batch,
                             int heads, int kvHeads, int lq, int lk, int d)
{
    mapsDelta(MapArgs<float> DELTA);
}
EXPORT(attention_maps_delta_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_dq_f16(half* gradient, const float* dmaps, const float* delta, const half* q,
                          const half* k, const float* lse, const float* bias, const int* keyLens,
                          const int* headPick, const int* keyPick, const int* headPlace,
                          const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                          int right, int picked, int mapKeys, int mean, int batch, int heads,
                          int kvHeads, int lq, int lk, int d)
{
    mapsGradient<half, false>(MapArgs<half> GRADIENT);
}
EXPORT(attention_maps_dq_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_dq_bf16(bf16* gradient, const float* dmaps, const float* delta, const bf16* q,
                           const bf16* k, const float* lse, const float* bias, const int* keyLens,
                           const int* headPick, const int* keyPick, const int* headPlace,
                           const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                           int right, int picked, int mapKeys, int mean, int batch, int heads,
                           int kvHeads, int lq, int lk, int d)
{
    mapsGradient<bf16, false>(MapArgs<bf16> GRADIENT);
}
EXPORT(attention_maps_dq_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_maps_dq_f32(float* gradient, const float* dmaps, const float* delta, const float* q,
                          const float* k, const float* lse, const float* bias, const int* keyLens,
                          const int* headPick, const int* keyPick, const int* headPlace,
                          const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                          int right, int picked, int mapKeys, int mean, int batch, int heads,
                          int kvHeads, int lq, int lk, int d)
{
    mapsGradient<float, false>(MapArgs<float> GRADIENT);
}
EXPORT(attention_maps_dq_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_dk_f16(half* gradient, const float* dmaps, const float* delta, const half* q,
                          const half* k, const float* lse, const float* bias, const int* keyLens,
                          const int* headPick, const int* keyPick, const int* headPlace,
                          const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                          int right, int picked, int mapKeys, int mean, int batch, int heads,
                          int kvHeads, int lq, int lk, int d)
{
    mapsGradient<half, true>(MapArgs<half> GRADIENT);
}
EXPORT(attention_maps_dk_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_dk_bf16(bf16* gradient, const float* dmaps, const float* delta, const bf16* q,
                           const bf16* k, const float* lse, const float* bias, const int* keyLens,
                           const int* headPick, const int* keyPick, const int* headPlace,
                           const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                           int right, int picked, int mapKeys, int mean, int batch, int heads,
                           int kvHeads, int lq, int lk, int d)
{
    mapsGradient<bf16, true>(MapArgs<bf16> GRADIENT);
}
EXPORT(attention_maps_dk_bf16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_maps_dk_f32(float* gradient, const float* dmaps, const float* delta, const float* q,
                          const float* k, const float* lse, const float* bias, const int* keyLens,
                          const int* headPick, const int* keyPick, const int* headPlace,
                          const int* keyPlace, float scale, int biasBatch, int biasHeads, int left,
                          int right, int picked, int mapKeys, int mean, int batch, int heads,
                          int kvHeads, int lq, int lk, int d)
{
    mapsGradient<float, true>(MapArgs<float> GRADIENT);
}
EXPORT(attention_maps_dk_f32)
