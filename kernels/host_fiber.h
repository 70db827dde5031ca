// The scheduler's insides, for host.cc and host_warp.cc.
#pragma once
#include "host.h"
#include <vector>

#if defined(HOST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(HOST_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void*, unsigned long);
extern "C" void __tsan_write_range(void*, unsigned long);
extern "C" void __tsan_java_init(unsigned long begin, unsigned long size);
extern "C" void __tsan_java_alloc(unsigned long p, unsigned long size);
extern "C" void __tsan_java_free(unsigned long p, unsigned long size);
#endif

namespace host {

void fillBytes(void* p, size_t n, int byte); // the sanitizers do not see these two
void copyBytes(void* to, const void* from, size_t n);

// A cp.async that has not landed yet.
struct Copy {
    void* to;
    const void* from;
    int bytes;
    bool valid;
};

// A list of at most N, in place: ThreadSanitizer sees what std::vector does to memory, in whichever
// fiber it happens.
template <class T, int N> struct List {
    int n = 0;
    T v[N];

    void add(const T& x, const char* what)
    {
        if (n == N) die("more than %d %s", N, what);
        copyBytes(&v[n++], &x, sizeof x);
    }
    void drop(int from, int count) // the order of the others stays
    {
        for (int i = from; i + count < n; i++)
            copyBytes(&v[i], &v[i + count], sizeof(T));
        n -= count;
    }
    T* begin() { return v; }
    T* end() { return v + n; }
};

// Accumulators that a wgmma has: their values, while the thread's own are NaN.
struct Accumulators {
    float* d;
    int count, open; // products under way
    float value[128];
};

// A thread's products: groups as for cp.async below.
struct Wgmma {
    bool used = false;
    bool fenced = false; // wgmmaFence came after the last wait
    uint64_t trail = 0;  // of all products, the same in the four warps of a group
    List<int, 32> groups;
    List<Product, 64> products;
    List<Accumulators, 4> accumulators;

    void begin()
    {
        if (!used) return;
        used = fenced = false;
        trail = 0;
        groups.n = products.n = accumulators.n = 0;
    }
};

struct Fiber : Thread {
    Fiber* next = nullptr; // in the run queue
    void* stackPointer = nullptr;
    unsigned char* stack = nullptr;
    bool done = false;

    // What it waits for, and what it brings to and takes from a warp primitive. out is written by
    // the lane that arrives last, while this one waits.
    Primitive waits = Primitive::none;
    unsigned mask = 0;
    bool ordering = false;
    void (*combine)(Fiber* lanes, unsigned group) = nullptr;
    Site at = {nullptr, 0};
    uint64_t in[6], out[4];
    int source; // the lane whose value a shuffle delivers

    // cp.async: groups hold the ends of the committed groups in copies; landed of them are done.
    std::vector<Copy> copies;
    std::vector<size_t> groups;
    size_t landed = 0, landedCopies = 0;

    Wgmma* wgmma;        // its products; apart, so that fibers stay near one another
    const void* awaited; // the barrier that barrierWait or namedSync waits for
    unsigned awaitedParity;

    unsigned barriers = 0; // of the block, that it has come to
    void* tsan = nullptr;
    void* fakeStack = nullptr;   // AddressSanitizer's
    char arrives = 0, wakes = 0; // ThreadSanitizer orders by these addresses
};

struct Warp {
    unsigned arrived = 0, live = 0;
    Fiber* first = nullptr;
};

Fiber* current();
// Waits until every live lane of mask calls the same primitive with the same mask. The last to
// arrive calls combine (if not null) for the group; ordering says whether memory is ordered.
void meet(Primitive which, unsigned mask, Site at, bool ordering,
          void (*combine)(Fiber* lanes, unsigned group));
// Waits until resume; the caller sees to it that somebody calls that.
void park(Primitive which, Site at);
void resume(Fiber** v, int n);
int orderOfThreads(); // FIDLAB_HOST_ORDER
uint32_t randomNumber();
size_t sharedSize();   // of the dynamic shared memory
Fiber* fiberOf(int i); // of the block
void beginAsync();     // at the start and the end of every block
void endAsync();
void endProducts(Fiber* f); // at a thread's end
bool landBox();             // lets a box land that is under way; false if there is none
void noteOfWait(const Fiber& f, char* text, size_t n); // what is known of awaited
void wholeWarp(Primitive which, Site at); // ends the process unless the warp has 32 threads
// What wgmma sees of n bytes at p in shared memory.
const unsigned char* asyncView(const void* p, size_t n, const char* what, Site at);
const char* primitiveName(Primitive p);
bool inShared(const void* p, size_t n);
unsigned char* takeShared(size_t n); // a block's dynamic shared memory
void giveShared(unsigned char* p);
void forgetAccesses(void* p, size_t n); // with HOST_TSAN only

} // namespace host
