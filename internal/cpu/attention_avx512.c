//go:build native && cgo

// attention_avx512.c - attention in vectors of AVX-512; the code is in attention_tile.h and
// attention_pass.h.

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512vl,avx2,fma,f16c")
#include "attention.h"
#include "simd.h"
#include <immintrin.h>
#include <math.h>

#define name name
#define V __m512
#define W 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, x) _mm512_storeu_ps(p, x)
#define SET1(x) _mm512_set1_ps(x)
#define ADD(x, y) _mm512_add_ps(x, y)
#define SUB(x, y) _mm512_sub_ps(x, y)
#define MUL(x, y) _mm512_mul_ps(x, y)
#define FMA(x, y, z) _mm512_fmadd_ps(x, y, z)
#define MAX(x, y) _mm512_max_ps(x, y) // y where one is NaN
#define EQUAL(x, y) (_mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ) == 0xffff)
#define ADD_EXPONENT(x, y)                                                                         \
    _mm512_castsi512_ps(                                                                           \
        _mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_castps_si512(y), 23)))
#define ZERO_BELOW(x, limit, y)                                                                    \
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, SET1(limit), _CMP_NLT_UQ), y)

#include "attention_tile.h"
#include "attention_pass.h"

const attn_table attn_avx512 = {forward, backward, maps, delta};
#endif
