//go:build native && cgo && hostdev

// The warp primitives, tensor cores and asynchronous copies of the host build. A lane brings its
// operands and waits; the lane that arrives last computes every lane's result. Compiled without
// sanitizers, as host.cc is.
#include "host_fiber.h"
#include <immintrin.h>

namespace host {

const char* primitiveName(Primitive p)
{
    static const char* const names[] = {
        "none",
        "__syncthreads",
        "__syncthreads_{count,and,or}",
        "__syncwarp",
        "__shfl_sync",
        "__ballot_sync",
        "__match_any_sync",
        "__match_all_sync",
        "__reduce_add_sync",
        "__reduce_min_sync",
        "__reduce_max_sync",
        "__reduce_min_sync",
        "__reduce_max_sync",
        "__reduce_and_sync",
        "__reduce_or_sync",
        "__reduce_xor_sync",
        "mma16816<half>",
        "mma16816<bf16>",
        "mma1688tf32",
        "mma1688f64",
        "ldmatrix2",
        "ldmatrix4",
        "ldmatrix2Trans",
        "ldmatrix4Trans",
        "barrierWait",
        "namedSync",
        "wgmmaWait",
        "registers{Up,Down}",
    };
    return names[static_cast<int>(p)];
}

namespace {

template <class F> void eachLane(unsigned group, F f)
{
    for (; group; group &= group - 1)
        f(__builtin_ctz(group));
}

void combineShuffle(Fiber* lanes, unsigned group)
{
    eachLane(group, [=](int l) {
        const int from = lanes[l].source;
        // The value of a lane that takes no part is undefined: NaN.
        lanes[l].out[0] = group >> from & 1 ? lanes[from].in[0] : ~uint64_t(0);
    });
}

void combineBallot(Fiber* lanes, unsigned group)
{
    unsigned votes = 0;
    eachLane(group, [&](int l) { votes |= static_cast<unsigned>(lanes[l].in[0]) << l; });
    eachLane(group, [=](int l) { lanes[l].out[0] = votes; });
}

void combineMatch(Fiber* lanes, unsigned group)
{
    eachLane(group, [=](int l) {
        unsigned same = 0;
        eachLane(group, [&](int o) { same |= unsigned(lanes[o].in[0] == lanes[l].in[0]) << o; });
        lanes[l].out[0] = same;
    });
}

template <class T, class F> void combineReduce(Fiber* lanes, unsigned group, F f)
{
    T r = static_cast<T>(lanes[__builtin_ctz(group)].in[0]);
    eachLane(group & (group - 1), [&](int l) { r = f(r, static_cast<T>(lanes[l].in[0])); });
    eachLane(group, [=](int l) { lanes[l].out[0] = static_cast<unsigned>(r); });
}

// The 16-bit value at half hi of a register.
template <class T> float element(uint64_t reg, int hi)
{
    return toFloat(T{static_cast<uint16_t>(reg >> (16 * hi))});
}

// Lane l = 4 g + t holds rows g and g + 8 of a, column g of b and rows g and g + 8 of the result;
// device.h has the table. A product of two 16-bit floats is exact in float, and the sum runs over k
// in order, so that a fused multiply-add rounds just as a multiplication and an addition would.
template <class T> void combineMma(Fiber* lanes, unsigned)
{
    alignas(32) float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        const int g = l >> 2, t = l & 3;
        const uint64_t a01 = lanes[l].in[0], a23 = lanes[l].in[1], b01 = lanes[l].in[2];
        for (int hi = 0; hi < 2; hi++) {
            const int k = 2 * t + hi;
            a[g][k] = element<T>(a01, hi);
            a[g + 8][k] = element<T>(a01, 2 + hi);
            a[g][k + 8] = element<T>(a23, hi);
            a[g + 8][k + 8] = element<T>(a23, 2 + hi);
            b[k][g] = element<T>(b01, hi);
            b[k + 8][g] = element<T>(b01, 2 + hi);
        }
    }
    for (int row = 0; row < 16; row++) {
        __m256 sum = _mm256_setzero_ps();
        for (int k = 0; k < 16; k++)
            sum = _mm256_fmadd_ps(_mm256_set1_ps(a[row][k]), _mm256_load_ps(b[k]), sum);
        alignas(32) float r[8];
        _mm256_store_ps(r, sum);
        for (int t = 0; t < 4; t++)
            copyBytes(&lanes[(row & 7) * 4 + t].out[row >> 3], &r[2 * t], 8);
    }
}

// The same for tf32, 8 deep: the lower 13 bits of an operand count for nothing, and a product of the rest, 11 bits by
// 11, is exact in float.
void combineMmaTf32(Fiber* lanes, unsigned)
{
    const auto value = [](uint64_t reg, int hi) {
        const uint32_t u = static_cast<uint32_t>(reg >> (32 * hi)) & ~0x1fffu;
        return bitCast<float>(u);
    };
    float a[16][8], b[8][8];
    for (int l = 0; l < 32; l++) {
        const int g = l >> 2, t = l & 3;
        for (int i = 0; i < 4; i++)
            a[g + 8 * (i & 1)][t + 4 * (i >> 1)] = value(lanes[l].in[i >> 1], i & 1);
        for (int i = 0; i < 2; i++)
            b[t + 4 * i][g] = value(lanes[l].in[2], i);
    }
    for (int row = 0; row < 16; row++)
        for (int t = 0; t < 4; t++) {
            float r[2] = {0, 0};
            for (int k = 0; k < 8; k++)
                for (int i = 0; i < 2; i++)
                    r[i] = fmaf(a[row][k], b[k][2 * t + i], r[i]);
            copyBytes(&lanes[(row & 7) * 4 + t].out[row >> 3], r, 8);
        }
}

void combineMmaDouble(Fiber* lanes, unsigned)
{
    double a[16][8], b[8][8];
    for (int l = 0; l < 32; l++) {
        const int g = l >> 2, t = l & 3;
        for (int i = 0; i < 4; i++)
            __builtin_memcpy(&a[g + 8 * (i & 1)][t + 4 * (i >> 1)], &lanes[l].in[i], 8);
        for (int i = 0; i < 2; i++)
            __builtin_memcpy(&b[t + 4 * i][g], &lanes[l].in[4 + i], 8);
    }
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            uint64_t& out = lanes[(row & 7) * 4 + col / 2].out[2 * (row >> 3) + (col & 1)];
            double sum; // begins as the accumulator
            __builtin_memcpy(&sum, &out, 8);
            for (int k = 0; k < 8; k++)
                sum = __builtin_fma(a[row][k], b[k][col], sum);
            __builtin_memcpy(&out, &sum, 8);
        }
}

template <int count, bool trans> void combineLdmatrix(Fiber* lanes, unsigned)
{
    for (int m = 0; m < count; m++) {
        uint16_t tile[8][8];
        for (int i = 0; i < 8; i++)
            __builtin_memcpy(tile[i], reinterpret_cast<const void*>(lanes[8 * m + i].in[0]), 16);
        for (int l = 0; l < 32; l++) {
            const int row = l >> 2, column = 2 * (l & 3);
            const unsigned lo = trans ? tile[column][row] : tile[row][column];
            const unsigned hi = trans ? tile[column + 1][row] : tile[row][column + 1];
            reinterpret_cast<unsigned*>(lanes[l].out)[m] = lo | hi << 16;
        }
    }
}

} // namespace

void syncWarp(unsigned mask, Site at) { meet(Primitive::syncwarp, mask, at, true, nullptr); }

uint64_t shuffle(Shuffle how, unsigned mask, uint64_t bits, int by, int width, Site at)
{
    Fiber* f = current();
    if (width < 1 || width > 32 || (width & (width - 1)))
        die("__shfl_sync, %s:%d: width %d is not a power of two up to 32", at.file, at.line, width);
    const int l = f->lane, first = l & ~(width - 1), last = first + width - 1;
    int from = l;
    switch (how) {
    case Shuffle::index: from = first | (by & (width - 1)); break;
    case Shuffle::up: from = l - by < first ? l : l - by; break;
    case Shuffle::down: from = l + by > last ? l : l + by; break;
    case Shuffle::exclusiveOr: from = (l ^ by) > last ? l : l ^ by; break;
    }
    f->in[0] = bits;
    f->source = from;
    meet(Primitive::shuffle, mask, at, false, combineShuffle);
    return f->out[0];
}

unsigned ballot(unsigned mask, bool p, Site at)
{
    Fiber* f = current();
    f->in[0] = p;
    meet(Primitive::ballot, mask, at, false, combineBallot);
    return static_cast<unsigned>(f->out[0]);
}

unsigned match(Primitive which, unsigned mask, uint64_t bits, Site at)
{
    Fiber* f = current();
    f->in[0] = bits;
    meet(which, mask, at, false, combineMatch);
    const unsigned same = static_cast<unsigned>(f->out[0]);
    return which == Primitive::matchAny || same == mask ? same : 0;
}

unsigned reduce(Primitive which, unsigned mask, unsigned v, Site at)
{
    Fiber* f = current();
    f->in[0] = v;
    void (*combine)(Fiber*, unsigned) = nullptr;
    switch (which) {
    case Primitive::reduceAdd:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a + b; });
        };
        break;
    case Primitive::reduceMin:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<int>(l, g, [](int a, int b) { return a < b ? a : b; });
        };
        break;
    case Primitive::reduceMax:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<int>(l, g, [](int a, int b) { return a > b ? a : b; });
        };
        break;
    case Primitive::reduceMinUnsigned:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a < b ? a : b; });
        };
        break;
    case Primitive::reduceMaxUnsigned:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a > b ? a : b; });
        };
        break;
    case Primitive::reduceAnd:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a & b; });
        };
        break;
    case Primitive::reduceOr:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a | b; });
        };
        break;
    case Primitive::reduceXor:
        combine = [](Fiber* l, unsigned g) {
            combineReduce<unsigned>(l, g, [](unsigned a, unsigned b) { return a ^ b; });
        };
        break;
    default: die("%s is no reduction", primitiveName(which));
    }
    meet(which, mask, at, false, combine);
    return static_cast<unsigned>(f->out[0]);
}

// The tensor-core instructions are warp-wide: every lane, none ended.
void wholeWarp(Primitive which, Site at)
{
    const unsigned n = blockSize.x * blockSize.y * blockSize.z;
    if (static_cast<unsigned>(current()->warp) * 32 + 32 > n)
        die("%s, %s:%d: the last warp has fewer than 32 threads", primitiveName(which), at.file,
            at.line);
}

void mma(Primitive which, float d[4], const unsigned a[4], const unsigned b[2], Site at)
{
    Fiber* f = current();
    wholeWarp(which, at);
    f->in[0] = a[0] | static_cast<uint64_t>(a[1]) << 32;
    f->in[1] = a[2] | static_cast<uint64_t>(a[3]) << 32;
    f->in[2] = b[0] | static_cast<uint64_t>(b[1]) << 32;
    meet(which, ~0u, at, false,
         which == Primitive::mmaHalf   ? combineMma<half>
         : which == Primitive::mmaBf16 ? combineMma<bf16>
                                       : combineMmaTf32);
    float sum[4];
    __builtin_memcpy(sum, f->out, sizeof sum);
    for (int i = 0; i < 4; i++)
        d[i] += sum[i];
}

void mmaDouble(double d[4], const double a[4], const double b[2], Site at)
{
    Fiber* f = current();
    wholeWarp(Primitive::mmaDouble, at);
    __builtin_memcpy(f->in, a, 32);
    __builtin_memcpy(f->in + 4, b, 16);
    __builtin_memcpy(f->out, d, 32);
    meet(Primitive::mmaDouble, ~0u, at, false, combineMmaDouble);
    __builtin_memcpy(d, f->out, 32);
}

void ldmatrix(Primitive which, unsigned* r, const void* row, Site at)
{
    Fiber* f = current();
    wholeWarp(which, at);
    const bool four = which == Primitive::ldmatrix4 || which == Primitive::ldmatrix4Trans;
    const bool trans = which == Primitive::ldmatrix2Trans || which == Primitive::ldmatrix4Trans;
    if (four || f->lane < 16) { // the others' addresses are not used
        if (reinterpret_cast<uintptr_t>(row) & 15)
            die("%s, %s:%d: the row is not aligned to 16 bytes", primitiveName(which), at.file,
                at.line);
        if (!inShared(row, 16))
            die("%s, %s:%d: the row does not lie in shared memory", primitiveName(which), at.file,
                at.line);
#if defined(HOST_ASAN)
        if (void* bad = __asan_region_is_poisoned(const_cast<void*>(row), 16))
            __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0),
                                __builtin_frame_address(0), bad, 0, 16);
#endif
#if defined(HOST_TSAN)
        __tsan_read_range(const_cast<void*>(row), 16);
#endif
    }
    f->in[0] = reinterpret_cast<uint64_t>(row);
    meet(which, ~0u, at, false,
         four ? (trans ? combineLdmatrix<4, true> : combineLdmatrix<4, false>)
              : (trans ? combineLdmatrix<2, true> : combineLdmatrix<2, false>));
    __builtin_memcpy(r, f->out, four ? 16 : 8);
}

void copyAsync(void* shared, const void* global, int bytes, bool valid, Site at)
{
    const uintptr_t s = reinterpret_cast<uintptr_t>(shared),
                    g = reinterpret_cast<uintptr_t>(global);
    if ((s | (valid ? g : 0)) & (bytes - 1))
        die("copyAsync%d, %s:%d: an address is not aligned to %d bytes", bytes, at.file, at.line,
            bytes);
    if (!inShared(shared, bytes))
        die("copyAsync%d, %s:%d: the destination does not lie in shared memory", bytes, at.file,
            at.line);
#if defined(HOST_ASAN)
    if (void* bad = valid ? __asan_region_is_poisoned(const_cast<void*>(global), bytes) : nullptr)
        __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0),
                            __builtin_frame_address(0), bad, 0, bytes);
    if (void* bad = __asan_region_is_poisoned(shared, bytes))
        __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0),
                            __builtin_frame_address(0), bad, 1, bytes);
#endif
    current()->copies.push_back({shared, global, bytes, valid});
}

void copyAsyncCommit()
{
    Fiber* f = current();
    f->groups.push_back(f->copies.size());
}

void copyAsyncWait(int pending)
{
    Fiber* f = current();
    for (; f->groups.size() - f->landed > static_cast<size_t>(pending); f->landed++)
        for (; f->landedCopies < f->groups[f->landed]; f->landedCopies++) {
            const Copy& c = f->copies[f->landedCopies];
#if defined(HOST_TSAN)
            if (c.valid) __tsan_read_range(const_cast<void*>(c.from), c.bytes);
            __tsan_write_range(c.to, c.bytes);
#endif
            if (c.valid)
                copyBytes(c.to, c.from, c.bytes);
            else
                fillBytes(c.to, c.bytes, 0);
        }
    if (f->landed == f->groups.size() && f->landedCopies == f->copies.size()) {
        f->copies.clear();
        f->groups.clear();
        f->landed = f->landedCopies = 0;
    }
}

} // namespace host
