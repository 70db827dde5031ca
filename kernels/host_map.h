// The host device's form of a tensor map, in the 128 bytes that are the driver's own on a GPU.
#pragma once
#include "host.h"

namespace host {

constexpr uint64_t mapMagic = 0x70616d2d74736f68; // "host-map"

struct Map {
    uint64_t magic;
    uint64_t base;       // of the tensor, a global address
    uint64_t dims[5];    // extents in elements, the fastest dimension first
    uint64_t strides[4]; // bytes, of the dimensions after the first
    uint16_t box[5];     // what one copy takes
    uint8_t rank;
    uint8_t element; // bytes
    uint8_t swizzle; // CUtensorMapSwizzle: 0 none, 1 to 3 over 32, 64, 128 bytes
    char type;       // as typeLetter has it

    // Bytes from the tensor's first to behind its last.
    uint64_t extent() const
    {
        uint64_t n = dims[0] * element;
        for (int i = 1; i < rank; i++)
            n += (dims[i] - 1) * strides[i - 1];
        return n;
    }
    size_t boxBytes() const
    {
        size_t n = element;
        for (int i = 0; i < rank; i++)
            n *= box[i];
        return n;
    }
};
static_assert(sizeof(Map) <= sizeof(TensorMap), "a map takes 128 bytes");

inline Map mapOf(const TensorMap& m)
{
    Map r;
    __builtin_memcpy(&r, &m, sizeof r);
    return r;
}
inline TensorMap encoded(const Map& m)
{
    TensorMap r = {};
    __builtin_memcpy(&r, &m, sizeof m);
    return r;
}

} // namespace host
