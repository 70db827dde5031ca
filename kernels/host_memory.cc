//go:build native && cgo && hostdev

// Memory operations of the host build that the sanitizers do not see, and one for them.
#include "host_fiber.h"

namespace host {

void fillBytes(void* p, size_t n, int byte)
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(byte) : "memory");
}

void copyBytes(void* to, const void* from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
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
    // In pieces: from 16 KiB on it would map the shadow anew, which takes far longer.
    for (size_t size; at < end; at += size) {
        size = end - at < 8192 ? end - at : 8192;
        __tsan_java_alloc(at, size);
        __tsan_java_free(at, size);
    }
}
#endif

} // namespace host
