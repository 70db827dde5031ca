// Products in tf32, a float of 10 bits of fraction, on tensor cores. Beside device.h, so that only who asks for them is
// compiled anew where they change.
//
//   toTf32(x)     x rounded to tf32, to nearest, ties away from 0, as the register that mma1688tf32 takes
//   mma1688tf32   d += a b, 16 x 8 x 8, float accumulators; the lower 13 bits of a and b are not looked at
#pragma once

#include "device.h"

#ifdef __CUDACC__
__device__ __forceinline__ unsigned toTf32(float x)
{
    unsigned r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

// d (16 x 8) += a (16 x 8, rows) * b (8 x 8, columns). Lane l, with g = l / 4 and t = l % 4, holds
//   a[0] = A[g][t]  a[1] = A[g+8][t]  a[2] = A[g][t+4]  a[3] = A[g+8][t+4]
//   b[0] = B[t][g]  b[1] = B[t+4][g]
//   d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
__device__ __forceinline__ void mma1688tf32(float d[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
