//go:build native && cgo && hostdev

// The host device's memory. Each buffer is a heap block of its own, aligned to 256 bytes and filled
// with NaN (0xff), between two guards that are looked at after every launch and when it is freed.
#include "hostdriver.h"
#include <cstdio>
#include <cstdlib>

namespace hostdriver {

namespace {

// A guard's bytes: a huge negative float, a NaN as half, and no index that a program would use.
constexpr unsigned char guardByte = 0xfe;

int allocate(uintptr_t* p, size_t n, int device)
{
    if (n == 0) return invalidValue;
    if (device >= 0 && (n > memorySize() || state.used > memorySize() - n)) return outOfMemory;
    void* block = nullptr;
    if (n > SIZE_MAX - 2 * guardSize || posix_memalign(&block, 256, n + 2 * guardSize))
        return outOfMemory;
    unsigned char* b = static_cast<unsigned char*>(block);
    memset(b, guardByte, guardSize);
    memset(b + guardSize, 0xff, n);
    memset(b + guardSize + n, guardByte, guardSize);
    *p = reinterpret_cast<uintptr_t>(b + guardSize);
    state.buffers[*p] = {b, n, device};
    if (device >= 0) state.used += n;
    return success;
}

void checkGuard(const Buffer& b, const char* what)
{
    for (int side = 0; side < 2; side++) {
        const unsigned char* g = b.block + (side ? guardSize + b.size : 0);
        for (size_t i = 0; i < guardSize; i++)
            if (g[i] != guardByte) {
                const long at = side ? static_cast<long>(b.size + i)
                                     : static_cast<long>(i) - static_cast<long>(guardSize);
                fprintf(stderr, "host device: %s wrote outside of a buffer: byte %ld of %zu\n",
                        what, at, b.size);
                abort();
            }
    }
}

int release(uintptr_t p, bool pinned)
{
    auto i = state.buffers.find(p);
    if (i == state.buffers.end() || (i->second.device < 0) != pinned) return invalidValue;
    checkGuard(i->second, "a kernel");
    if (!pinned) state.used -= i->second.size;
    memset(i->second.block + guardSize, 0xff, i->second.size); // what still reads it gets NaN
    free(i->second.block);
    state.buffers.erase(i);
    return success;
}

const Buffer* find(uintptr_t p, size_t n)
{
    auto i = state.buffers.upper_bound(p);
    if (i == state.buffers.begin()) return nullptr;
    --i;
    const size_t offset = p - i->first;
    return offset <= i->second.size && n <= i->second.size - offset ? &i->second : nullptr;
}

bool onDevice(uintptr_t p, size_t n)
{
    const Buffer* b = bufferOf(p, n);
    return b && b->device >= 0;
}

void* at(uintptr_t p) { return reinterpret_cast<void*>(p); }

int copy(void* stream, void* to, const void* from, size_t n)
{
    return perform(stream, [=] {
        memmove(to, from, n);
        return int(success);
    });
}

int cuMemGetInfo(size_t* free, size_t* total)
{
    ENTER(true);
    *total = memorySize();
    *free = *total > state.used ? *total - state.used : 0;
    return success;
}
int cuMemAlloc(uintptr_t* p, size_t n)
{
    ENTER(true);
    return allocate(p, n, currentContext->device);
}
int cuMemFree(uintptr_t p)
{
    ENTER(true);
    return p ? release(p, false) : success;
}
int cuMemAllocAsync(uintptr_t* p, size_t n, void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (streamOf(stream)->capture) return captureUnsupported;
    return allocate(p, n, currentContext->device);
}
int cuMemFreeAsync(uintptr_t p, void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (streamOf(stream)->capture) return captureUnsupported;
    return release(p, false);
}
int cuMemHostAlloc(void** p, size_t n, unsigned)
{
    ENTER(true);
    uintptr_t at = 0;
    const int status = allocate(&at, n, -1);
    if (status == success) *p = reinterpret_cast<void*>(at);
    return status;
}
int cuMemFreeHost(void* p)
{
    ENTER(true);
    return release(reinterpret_cast<uintptr_t>(p), true);
}
int cuMemGetAddressRange(uintptr_t* base, size_t* size, uintptr_t p)
{
    ENTER(true);
    const Buffer* b = find(p, 1);
    if (!b || b->device < 0) return notFound;
    if (base) *base = reinterpret_cast<uintptr_t>(b->block + guardSize);
    if (size) *size = b->size;
    return success;
}

int cuMemcpyHtoDAsync(uintptr_t to, const void* from, size_t n, void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (n == 0) return success;
    return from && onDevice(to, n) ? copy(stream, at(to), from, n) : invalidValue;
}
int cuMemcpyDtoHAsync(void* to, uintptr_t from, size_t n, void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (n == 0) return success;
    return to && onDevice(from, n) ? copy(stream, to, at(from), n) : invalidValue;
}
int cuMemcpyDtoDAsync(uintptr_t to, uintptr_t from, size_t n, void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (n == 0) return success;
    return onDevice(to, n) && onDevice(from, n) ? copy(stream, at(to), at(from), n) : invalidValue;
}
int cuMemcpyHtoD(uintptr_t to, const void* from, size_t n)
{
    ENTER(true);
    if (n == 0) return success;
    return from && onDevice(to, n) ? copy(nullptr, at(to), from, n) : invalidValue;
}
int cuMemcpyDtoH(void* to, uintptr_t from, size_t n)
{
    ENTER(true);
    if (n == 0) return success;
    return to && onDevice(from, n) ? copy(nullptr, to, at(from), n) : invalidValue;
}
int cuMemcpyDtoD(uintptr_t to, uintptr_t from, size_t n)
{
    ENTER(true);
    if (n == 0) return success;
    return onDevice(to, n) && onDevice(from, n) ? copy(nullptr, at(to), at(from), n) : invalidValue;
}
int cuMemcpyPeerAsync(uintptr_t to, void* toContext, uintptr_t from, void* fromContext, size_t n,
                      void* stream)
{
    ENTER(true);
    if (!streamOf(stream)) return invalidHandle;
    if (n == 0) return success;
    const Buffer *a = find(to, n), *b = find(from, n);
    if (!toContext || !fromContext) return invalidContext;
    if (!a || a->device != static_cast<Context*>(toContext)->device) return invalidValue;
    if (!b || b->device != static_cast<Context*>(fromContext)->device) return invalidValue;
    return copy(stream, at(to), at(from), n);
}

template <class T> int setValues(uintptr_t p, T v, size_t n, void* stream)
{
    if (!streamOf(stream)) return invalidHandle;
    if (n == 0) return success;
    if (p % sizeof v || n > SIZE_MAX / sizeof v || !onDevice(p, n * sizeof v)) return invalidValue;
    return perform(stream, [=] {
        T* to = static_cast<T*>(at(p));
        for (size_t i = 0; i < n; i++)
            to[i] = v;
        return int(success);
    });
}
int cuMemsetD8Async(uintptr_t p, unsigned char v, size_t n, void* stream)
{
    ENTER(true);
    return setValues(p, v, n, stream);
}
int cuMemsetD16Async(uintptr_t p, unsigned short v, size_t n, void* stream)
{
    ENTER(true);
    return setValues(p, v, n, stream);
}
int cuMemsetD32Async(uintptr_t p, unsigned v, size_t n, void* stream)
{
    ENTER(true);
    return setValues(p, v, n, stream);
}
int cuMemsetD8(uintptr_t p, unsigned char v, size_t n)
{
    ENTER(true);
    return setValues(p, v, n, nullptr);
}
int cuMemsetD32(uintptr_t p, unsigned v, size_t n)
{
    ENTER(true);
    return setValues(p, v, n, nullptr);
}

} // namespace

const Buffer* bufferOf(uintptr_t p, size_t n)
{
    const Buffer* b = find(p, n);
    return b && (b->device < 0 || b->device == currentContext->device) ? b : nullptr;
}

bool pointerFits(uintptr_t p) { return bufferOf(p, 0) != nullptr; }

void checkGuards(const char* what)
{
    for (auto& b : state.buffers)
        if (b.second.device >= 0) checkGuard(b.second, what);
}

#define E(f) {#f, reinterpret_cast<void*>(f)}
#define E2(f) {#f "_v2", reinterpret_cast<void*>(f)}
const Entry memoryEntries[] = {
    E2(cuMemGetInfo),      E2(cuMemAlloc),        E2(cuMemFree),         E(cuMemAllocAsync),
    E(cuMemFreeAsync),     E(cuMemHostAlloc),     E(cuMemFreeHost),      E2(cuMemGetAddressRange),
    E2(cuMemcpyHtoDAsync), E2(cuMemcpyDtoHAsync), E2(cuMemcpyDtoDAsync), E2(cuMemcpyHtoD),
    E2(cuMemcpyDtoH),      E2(cuMemcpyDtoD),      E(cuMemcpyPeerAsync),  E(cuMemsetD8Async),
    E(cuMemsetD16Async),   E(cuMemsetD32Async),   E2(cuMemsetD8),        E2(cuMemsetD32),
    {nullptr, nullptr},
};

} // namespace hostdriver
