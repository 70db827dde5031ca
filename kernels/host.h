// The CUDA device language for a plain C++ compiler: the names that device.h promises, with each
// CUDA thread a fiber of host.cc. Included by device.h alone.
//
//   host_types.h    vectors, half and bf16, the keywords
//   host_math.h     CUDA's arithmetic intrinsics
//   host_warp.h     barriers, warp primitives, tensor cores, cp.async
//   host_atomic.h   atomics and fences
//   host_hopper.h   what device_hopper.h has
//
// What it models exactly: barriers, warp primitives, atomics, registers' layouts, rounding of the
// 16-bit types. What it does not: the rounding inside a tensor core (here: a chain of fused
// multiply-adds in float, in order of k), the fast intrinsics' errors (here: libm), bank conflicts.
// Shared memory starts as NaN (0xff bytes) in every block; cp.async lands when it is waited for.
#pragma once
// One result in every build: contraction would depend on the optimiser. A pragma, because cgo
// admits no -ffp-contract.
#pragma GCC optimize("fp-contract=off", "no-math-errno")
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <cfloat>
#include "host_types.h"

namespace host {

// The CUDA thread that runs now, and its place.
struct Thread {
    uint3 index; // threadIdx
    int lane, warp;
};
extern Thread* self;
extern uint3 blockIndex;
extern dim3 blockSize, gridSize;
extern unsigned char* dynamicShared;

// A call's place in the source, for messages.
struct Site {
    const char* file;
    int line;
};

// What is wrong with the kernel; prints it with the block, thread and place, then aborts.
[[noreturn]] void die(const char* format, ...) __attribute__((format(printf, 1, 2)));

// An entry point as the host device knows it.
struct Parameter {
    unsigned char size; // bytes
    bool pointer;
    char type; // of the number, or of what the pointer points to: see typeLetter
};
// f float, d double, h half, b bf16, i any integer, m a tensor map, x anything else.
template <class T> constexpr char typeLetter()
{
    if (std::is_same_v<T, float>) return 'f';
    if (std::is_same_v<T, double>) return 'd';
    if (std::is_same_v<T, half>) return 'h';
    if (std::is_same_v<T, bf16>) return 'b';
    if (std::is_same_v<T, TensorMap>) return 'm';
    return std::is_integral_v<T> ? 'i' : 'x';
}
typedef void (*Call)(void** parameters);
struct Kernel {
    const char* name;
    Call call;
    const Parameter* parameters;
    int count;
    unsigned char *shared, *sharedEnd; // the static shared arrays of the kernel's file
};
void add(const Kernel& k);
const Kernel* find(const char* name); // nullptr if there is none
// Runs every block of the grid on the calling thread. One launch runs at a time.
void launch(const Kernel* k, dim3 grid, dim3 block, size_t shared, void** parameters);

template <auto f> struct Bind;
template <class... A, void (*f)(A...)> struct Bind<f> {
    template <class T> static constexpr bool map = std::is_same_v<std::remove_cv_t<T>, TensorMap>;
    static_assert(((sizeof(A) <= 8 || map<A>) && ...), "a kernel parameter has at most 8 bytes");
    static_assert(((std::is_pointer_v<A> || std::is_arithmetic_v<A> || map<A>) && ...),
                  "a kernel parameter is a pointer, a number or a tensor map");
    template <size_t... i> static void spread(void** p, std::index_sequence<i...>)
    {
        f(*static_cast<std::remove_cv_t<A>*>(p[i])...);
    }
    static void call(void** p) { spread(p, std::index_sequence_for<A...>{}); }
    static int add(const char* name, unsigned char* shared, unsigned char* sharedEnd)
    {
        static const Parameter parameters[] = {
            {sizeof(A), std::is_pointer_v<A>,
             typeLetter<std::remove_cv_t<std::remove_pointer_t<A>>>()}...,
            {0, false, 'x'}};
        host::add({name, call, parameters, sizeof...(A), shared, sharedEnd});
        return 0;
    }
};

} // namespace host

// The static shared arrays of a kernel file are its .bss section, from the section's start to a label
// in a later subsection of it; every file that includes this has its own pair. (An attribute that
// names another section would be the plain way, but g++ drops it inside templates.)
__asm__(R"(
.pushsection .data.rel.local.host_shared, "aw"
.balign 8
host_shared_range:
    .quad .bss
    .quad .Lhost_shared_end
.popsection
.pushsection .bss, 8000
.Lhost_shared_end:
.popsection
)");
extern "C" __attribute__((visibility("hidden"))) unsigned char* host_shared_range[2];

#define EXPORT(f)                                                                                  \
    static const int f##_exported __attribute__((unused)) =                                        \
        host::Bind<f>::add(#f, host_shared_range[0], host_shared_range[1]);
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(host::dynamicShared)

#define threadIdx (host::self->index)
#define blockIdx (host::blockIndex)
#define blockDim (host::blockSize)
#define gridDim (host::gridSize)
#define warpSize 32

#include "host_math.h"
#include "host_warp.h"
#include "host_atomic.h"
#include "host_hopper.h"
