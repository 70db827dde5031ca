// The words of package rng, made where they are used.
#pragma once
#include "device.h"

inline namespace thisfile {

struct Words {
    unsigned w[4];
};

// Block number `block` of a stream: ten rounds of Philox4x32 (Salmon et al. 2011).
__device__ __forceinline__ Words philox(unsigned long long block, unsigned long long stream,
                                        unsigned long long seed)
{
    unsigned c0 = static_cast<unsigned>(block), c1 = static_cast<unsigned>(block >> 32);
    unsigned c2 = static_cast<unsigned>(stream), c3 = static_cast<unsigned>(stream >> 32);
    unsigned k0 = static_cast<unsigned>(seed), k1 = static_cast<unsigned>(seed >> 32);
#pragma unroll
    for (int i = 0; i < 10; i++) {
        const unsigned h0 = __umulhi(c0, 0xD2511F53u), l0 = c0 * 0xD2511F53u;
        const unsigned h1 = __umulhi(c2, 0xCD9E8D57u), l1 = c2 * 0xCD9E8D57u;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

} // namespace thisfile
