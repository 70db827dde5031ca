// Barriers, warp primitives, tensor cores and asynchronous copies for the host build. Each takes
// the caller's place in the source, so that the scheduler can name it.
#pragma once

namespace host {

enum class Primitive : unsigned char {
    none,
    syncthreads,
    syncthreadsCount,
    syncwarp,
    shuffle,
    ballot,
    matchAny,
    matchAll,
    reduceAdd,
    reduceMin,
    reduceMax,
    reduceMinUnsigned,
    reduceMaxUnsigned,
    reduceAnd,
    reduceOr,
    reduceXor,
    mmaHalf,
    mmaBf16,
    mmaTf32,
    mmaDouble,
    ldmatrix2,
    ldmatrix4,
    ldmatrix2Trans,
    ldmatrix4Trans,
    barrier,
    named,
    wgmmaWait,
    registers,
};

enum class Shuffle { index, up, down, exclusiveOr };

// The block's barrier; returns for how many threads p is true.
int syncBlock(Primitive which, bool p, Site at);
void syncWarp(unsigned mask, Site at);
uint64_t shuffle(Shuffle how, unsigned mask, uint64_t bits, int by, int width, Site at);
unsigned ballot(unsigned mask, bool p, Site at);
unsigned match(Primitive which, unsigned mask, uint64_t bits, Site at);
unsigned reduce(Primitive which, unsigned mask, unsigned v, Site at);
void mma(Primitive which, float d[4], const unsigned a[4], const unsigned b[2], Site at);
void mmaDouble(double d[4], const double a[4], const double b[2], Site at);
void ldmatrix(Primitive which, unsigned* r, const void* row, Site at);
void copyAsync(void* shared, const void* global, int bytes, bool valid, Site at);
void copyAsyncCommit();
void copyAsyncWait(int pending);
void yield(); // lets the other threads of the block run
[[noreturn]] void trap(Site at);

template <class T>
inline T shuffleValue(Shuffle how, unsigned mask, T v, int by, int width, Site at)
{
    static_assert(sizeof v <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &v, sizeof v);
    bits = shuffle(how, mask, bits, by, width, at);
    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}
template <class T> inline uint64_t bitsOf(T v)
{
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &v, sizeof v);
    return bits;
}

} // namespace host

// The two last parameters of the functions below are the caller's place.
#define HOST_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define HOST_HERE                                                                                  \
    host::Site { file, line }

inline void __syncthreads(HOST_AT)
{
    host::syncBlock(host::Primitive::syncthreads, false, HOST_HERE);
}
inline int __syncthreads_count(int p, HOST_AT)
{
    return host::syncBlock(host::Primitive::syncthreadsCount, p != 0, HOST_HERE);
}
inline int __syncthreads_or(int p, HOST_AT)
{
    return host::syncBlock(host::Primitive::syncthreadsCount, p != 0, HOST_HERE) != 0;
}
inline int __syncthreads_and(int p, HOST_AT)
{
    return host::syncBlock(host::Primitive::syncthreadsCount, p == 0, HOST_HERE) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, HOST_AT) { host::syncWarp(mask, HOST_HERE); }

template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32, HOST_AT)
{
    return host::shuffleValue(host::Shuffle::index, mask, v, lane, width, HOST_HERE);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, HOST_AT)
{
    return host::shuffleValue(host::Shuffle::up, mask, v, static_cast<int>(by), width, HOST_HERE);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, HOST_AT)
{
    return host::shuffleValue(host::Shuffle::down, mask, v, static_cast<int>(by), width, HOST_HERE);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32, HOST_AT)
{
    return host::shuffleValue(host::Shuffle::exclusiveOr, mask, v, by, width, HOST_HERE);
}

inline unsigned __ballot_sync(unsigned mask, int p, HOST_AT)
{
    return host::ballot(mask, p != 0, HOST_HERE);
}
inline int __any_sync(unsigned mask, int p, HOST_AT)
{
    return host::ballot(mask, p != 0, HOST_HERE) != 0;
}
inline int __all_sync(unsigned mask, int p, HOST_AT)
{
    return host::ballot(mask, p == 0, HOST_HERE) == 0;
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T v, HOST_AT)
{
    return host::match(host::Primitive::matchAny, mask, host::bitsOf(v), HOST_HERE);
}
template <class T> inline unsigned __match_all_sync(unsigned mask, T v, int* all, HOST_AT)
{
    const unsigned m = host::match(host::Primitive::matchAll, mask, host::bitsOf(v), HOST_HERE);
    *all = m != 0;
    return m;
}

#define HOST_REDUCE(T, name, which)                                                                \
    inline T name(unsigned mask, T v, HOST_AT)                                                     \
    {                                                                                              \
        return static_cast<T>(                                                                     \
            host::reduce(host::Primitive::which, mask, static_cast<unsigned>(v), HOST_HERE));      \
    }
HOST_REDUCE(int, __reduce_add_sync, reduceAdd)
HOST_REDUCE(unsigned, __reduce_add_sync, reduceAdd)
HOST_REDUCE(int, __reduce_min_sync, reduceMin)
HOST_REDUCE(unsigned, __reduce_min_sync, reduceMinUnsigned)
HOST_REDUCE(int, __reduce_max_sync, reduceMax)
HOST_REDUCE(unsigned, __reduce_max_sync, reduceMaxUnsigned)
HOST_REDUCE(unsigned, __reduce_and_sync, reduceAnd)
HOST_REDUCE(unsigned, __reduce_or_sync, reduceOr)
HOST_REDUCE(unsigned, __reduce_xor_sync, reduceXor)
#undef HOST_REDUCE

template <class T>
inline void mma16816(float d[4], const unsigned a[4], const unsigned b[2], HOST_AT)
{
    static_assert(std::is_same_v<T, half> || std::is_same_v<T, bf16>,
                  "mma16816 takes half or bf16");
    host::mma(std::is_same_v<T, half> ? host::Primitive::mmaHalf : host::Primitive::mmaBf16, d, a,
              b, HOST_HERE);
}
inline unsigned toTf32(float x)
{
    const unsigned u = host::bitCast<unsigned>(x);
    return (u & 0x7fffffffu) > 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu; // a NaN stays one
}
inline void mma1688tf32(float d[4], const unsigned a[4], const unsigned b[2], HOST_AT)
{
    host::mma(host::Primitive::mmaTf32, d, a, b, HOST_HERE);
}
inline void mma1688f64(double d[4], const double a[4], const double b[2], HOST_AT)
{
    host::mmaDouble(d, a, b, HOST_HERE);
}
inline void ldmatrix2(unsigned r[2], const void* row, HOST_AT)
{
    host::ldmatrix(host::Primitive::ldmatrix2, r, row, HOST_HERE);
}
inline void ldmatrix4(unsigned r[4], const void* row, HOST_AT)
{
    host::ldmatrix(host::Primitive::ldmatrix4, r, row, HOST_HERE);
}
inline void ldmatrix2Trans(unsigned r[2], const void* row, HOST_AT)
{
    host::ldmatrix(host::Primitive::ldmatrix2Trans, r, row, HOST_HERE);
}
inline void ldmatrix4Trans(unsigned r[4], const void* row, HOST_AT)
{
    host::ldmatrix(host::Primitive::ldmatrix4Trans, r, row, HOST_HERE);
}

inline void copyAsync16(void* shared, const void* global, bool valid = true, HOST_AT)
{
    host::copyAsync(shared, global, 16, valid, HOST_HERE);
}
inline void copyAsync8(void* shared, const void* global, bool valid = true, HOST_AT)
{
    host::copyAsync(shared, global, 8, valid, HOST_HERE);
}
inline void copyAsync4(void* shared, const void* global, bool valid = true, HOST_AT)
{
    host::copyAsync(shared, global, 4, valid, HOST_HERE);
}
inline void copyAsyncCommit() { host::copyAsyncCommit(); }
template <int N> inline void copyAsyncWait() { host::copyAsyncWait(N); }

inline void __nanosleep(unsigned) { host::yield(); }
inline void __trap(HOST_AT) { host::trap(HOST_HERE); }
#undef HOST_AT
#undef HOST_HERE
