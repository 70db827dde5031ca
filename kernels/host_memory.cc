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
    const uintptr_t first = reinterpret_cast<uintptr_t>(p) & ~uintptr_t(7);
    const size_t size = (reinterpret_cast<uintptr_t>(p) + n - first + 7) & ~size_t(7);
    __tsan_java_alloc(first, size);
    __tsan_java_free(first, size);
}
#endif

} // namespace host
