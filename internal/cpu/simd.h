// simd.h - functions compiled for several instruction sets and chosen at run time.
#pragma once

#if defined(__x86_64__)
#define CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

// The upper half is the nearest bfloat16, ties to even; NaN becomes quiet.
INLINE unsigned bf16_of(unsigned u)
{
    return (u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1);
}
