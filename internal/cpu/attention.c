//go:build native && cgo

// attention.c - chooses the vectors that attention runs in.

#include "attention.h"
#include "native.h"

#if defined(__x86_64__)
// 0 none that we have code for, 1 AVX2, 2 AVX-512
int attn_vectors(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static const attn_table* table(int vectors) { return vectors == 2 ? &attn_avx512 : &attn_avx2; }
#else
int attn_vectors(void) { return 0; }

static const attn_table* table(int vectors)
{
    (void)vectors;
    return NULL;
}
#endif

int64_t attn_floats(int64_t d)
{
    const int64_t forward = 2 * d * attn_block + 2 * attn_block + 2 * attn_panel +
                            2 * attn_keys * attn_pad(d) + attn_pad(d);
    const int64_t backward = 3 * d * attn_lanes + 2 * attn_lanes + 3 * attn_panel +
                             2 * (attn_lanes + attn_chunk) * attn_pad(d);
    return forward > backward ? forward : backward;
}

void attn_forward(int vectors, const attn_head* p, void* out, float* lse, const void* q,
                  const void* k, const void* v, const float* bias, const uint8_t* blocks,
                  float* scratch)
{
    attn_head head = *p;
    head.blocks = blocks;
    table(vectors)->forward(&head, out, lse, q, k, v, bias, scratch);
}

void attn_backward(int vectors, const attn_head* p, float* dq, float* dk, float* dv, float* dbias,
                   const void* q, const void* k, const void* v, const void* dout, const float* lse,
                   const float* delta, const float* bias, const uint8_t* blocks, const float* grad,
                   const int32_t* slot, float* scratch)
{
    attn_head head = *p;
    head.blocks = blocks;
    table(vectors)->backward(&head, dq, dk, dv, dbias, q, k, v, dout, lse, delta, bias, grad, slot,
                             scratch);
}

void attn_maps(int vectors, const attn_head* p, float* maps, int more, const void* q, const void* k,
               const float* lse, const float* bias, const int32_t* chosen, int64_t n,
               float* scratch)
{
    table(vectors)->maps(p, maps, more, q, k, lse, bias, chosen, n, scratch);
}

void attn_delta(int vectors, const attn_head* p, float* delta, const void* q, const void* k,
                const float* lse, const float* bias, const float* grad, const int32_t* slot,
                float* scratch)
{
    table(vectors)->delta(p, delta, q, k, lse, bias, grad, slot, scratch);
}
