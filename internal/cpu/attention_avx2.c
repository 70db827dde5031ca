//go:build native && cgo

// attention_avx2.c - attention in vectors of AVX2; the code is in attention_tile.h and
// attention_pass.h.

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#include "attention.h"
#include "simd.h"
#include <immintrin.h>
#include <math.h>

#define name name
#define V __m256
#define W 8
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, x) _mm256_storeu_ps(p, x)
#define SET1(x) _mm256_set1_ps(x)
#define ADD(x, y) _mm256_add_ps(x, y)
#define SUB(x, y) _mm256_sub_ps(x, y)
#define MUL(x, y) _mm256_mul_ps(x, y)
#define FMA(x, y, z) _mm256_fmadd_ps(x, y, z)
#define MAX(x, y) _mm256_max_ps(x, y) // y where one is NaN
#define EQUAL(x, y) (_mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_EQ_OQ)) == 0xff)
#define ADD_EXPONENT(x, y)                                                                         \
    _mm256_castsi256_ps(                                                                           \
        _mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_castps_si256(y), 23)))
#define ZERO_BELOW(x, limit, y) _mm256_and_ps(_mm256_cmp_ps(x, SET1(limit), _CMP_NLT_UQ), y)

#include "attention_tile.h"
#include "attention_pass.h"

const attn_table attn_avx2 = {forward, backward, maps, delta};
#endif
