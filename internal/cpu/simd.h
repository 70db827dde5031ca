// simd.h - functions compiled for several instruction sets and chosen at run time.
#pragma once

#if defined(__x86_64__)
#define CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))
