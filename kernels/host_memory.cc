//go:build native && cgo && hostdev

// Memory operations of the host build that the sanitizers do not see, and one for them.
#include "host_fiber.h"
#include <cstdlib>
#include <sys/mman.h>

namespace host {

void fillBytes(void* p, size_t n, int byte)
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(byte) : "memory");
}

void copyBytes(void* to, const void* from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

// Dynamic shared memory for a block: heap memory of the exact size, so that AddressSanitizer sees
// its ends. For ThreadSanitizer always the same memory, as it takes a free for an access.
unsigned char* takeShared(size_t n)
{
    void* p = nullptr;
#if defined(HOST_TSAN)
    static void* const kept =
        mmap(nullptr, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p = n ? kept : nullptr;
    if (p == MAP_FAILED || n > 256 << 10) die("no %zu bytes of shared memory", n);
#else
    if (n && posix_memalign(&p, 128, n)) die("out of memory");
#endif
    return static_cast<unsigned char*>(p);
}

void giveShared(unsigned char* p)
{
#if !defined(HOST_TSAN)
    free(p);
#else
    (void)p;
#endif
}

#if defined(HOST_TSAN)
// Makes ThreadSanitizer take memory as new, whoever used it before. Of its interface only the part
// for Java's heaps does that.
void forgetAccesses(void* p, size_t n)
{
    static const bool once = (__tsan_java_init(8, size_t(1) << 47), true);
    (void)once;
    uintptr_t at = reinterpret_cast<uintptr_t>(p) & ~uintptr_t(7);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(p) + n + 7) & ~uintptr_t(7);
    // In pieces: from 16 KiB on it would map the shadow anew, which takes far longer. Allocated they
    // stay, since a report looks for the piece's start from each address downwards.
    for (size_t size; at < end; at += size) {
        size = end - at < 8192 ? end - at : 8192;
        __tsan_java_free(at, size);
        __tsan_java_alloc(at, size);
    }
}
#endif

} // namespace host
