//go:build native && cgo && hostdev

// The host device's tensor maps: cuTensorMapEncodeTiled with the refusals that its documentation
// has, for the plain layout (no interleave, no steps between elements).
#include "hostdriver.h"
#include "host_map.h"

namespace hostdriver {

namespace {

// Elements' sizes and letters by CUtensorMapDataType; the packed ones are not known here.
struct Type {
    int bytes;
    char letter;
};
const Type types[] = {{1, 'i'}, {2, 'i'}, {4, 'i'}, {4, 'i'}, {8, 'i'}, {8, 'i'}, {2, 'h'},
                      {4, 'f'}, {8, 'd'}, {2, 'b'}, {4, 'f'}, {4, 'f'}, {4, 'f'}};

int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* base, const uint64_t* dims,
                           const uint64_t* strides, const uint32_t* box, const uint32_t* steps,
                           int interleave, int swizzle, int promotion, int fill)
{
    ENTER(false);
    if (!map || reinterpret_cast<uintptr_t>(map) % 64) return invalidValue;
    if (type < 0 || type >= static_cast<int>(sizeof types / sizeof *types)) return invalidValue;
    if (rank < 1 || rank > 5 || reinterpret_cast<uintptr_t>(base) % 16) return invalidValue;
    if (interleave || promotion < 0 || promotion > 3 || fill) return invalidValue;
    host::Map m = {};
    m.magic = host::mapMagic;
    m.base = reinterpret_cast<uint64_t>(base);
    m.rank = static_cast<uint8_t>(rank);
    m.element = static_cast<uint8_t>(types[type].bytes);
    m.type = types[type].letter;
    for (unsigned i = 0; i < rank; i++) {
        if (dims[i] < 1 || dims[i] > uint64_t(1) << 32) return invalidValue;
        if (box[i] < 1 || box[i] > 256 || steps[i] != 1) return invalidValue;
        m.dims[i] = dims[i];
        m.box[i] = static_cast<uint16_t>(box[i]);
        if (i == 0) continue;
        if (strides[i - 1] % 16 || strides[i - 1] >= uint64_t(1) << 40) return invalidValue;
        if (strides[i - 1] < (i == 1 ? dims[0] * m.element : strides[i - 2])) return invalidValue;
        m.strides[i - 1] = strides[i - 1];
    }
    const unsigned inner = box[0] * m.element;
    if (inner % 16 || swizzle < 0 || swizzle > 3) return invalidValue;
    if (swizzle && inner > 16u << swizzle) return invalidValue;
    m.swizzle = static_cast<uint8_t>(swizzle);
    *static_cast<TensorMap*>(map) = host::encoded(m);
    return success;
}

} // namespace

const Entry mapEntries[] = {
    {"cuTensorMapEncodeTiled", reinterpret_cast<void*>(cuTensorMapEncodeTiled)},
    {nullptr, nullptr},
};

} // namespace hostdriver
