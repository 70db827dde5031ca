// CUDA's atomics and fences for the host build. Relaxed, as on the device: only a fence orders.
#pragma once

namespace host {
template <class T, class F> inline T atomicUpdate(T* p, F next)
{
    T old, now;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do
        now = next(old);
    while (!__atomic_compare_exchange(p, &old, &now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
void fence();
} // namespace host

#define HOST_ATOMICS_ARITHMETIC(T)                                                                 \
    inline T atomicAdd(T* p, T v)                                                                  \
    {                                                                                              \
        return host::atomicUpdate(p, [v](T x) { return static_cast<T>(x + v); });                  \
    }                                                                                              \
    inline T atomicExch(T* p, T v)                                                                 \
    {                                                                                              \
        return host::atomicUpdate(p, [v](T) { return v; });                                        \
    }
#define HOST_ATOMICS_INTEGER(T)                                                                    \
    inline T atomicMax(T* p, T v)                                                                  \
    {                                                                                              \
        return host::atomicUpdate(p, [v](T x) { return x > v ? x : v; });                          \
    }                                                                                              \
    inline T atomicMin(T* p, T v)                                                                  \
    {                                                                                              \
        return host::atomicUpdate(p, [v](T x) { return x < v ? x : v; });                          \
    }                                                                                              \
    inline T atomicAnd(T* p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }           \
    inline T atomicOr(T* p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }             \
    inline T atomicXor(T* p, T v) { return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED); }           \
    inline T atomicCAS(T* p, T compare, T v)                                                       \
    {                                                                                              \
        __atomic_compare_exchange_n(p, &compare, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);    \
        return compare;                                                                            \
    }
HOST_ATOMICS_ARITHMETIC(int)
HOST_ATOMICS_ARITHMETIC(unsigned)
HOST_ATOMICS_ARITHMETIC(unsigned long long)
HOST_ATOMICS_ARITHMETIC(float)
HOST_ATOMICS_INTEGER(int)
HOST_ATOMICS_INTEGER(unsigned)
HOST_ATOMICS_INTEGER(unsigned long long)
#undef HOST_ATOMICS_ARITHMETIC
#undef HOST_ATOMICS_INTEGER
inline double atomicAdd(double* p, double v)
{
    return host::atomicUpdate(p, [v](double x) { return x + v; });
}
inline int atomicSub(int* p, int v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }
inline unsigned atomicSub(unsigned* p, unsigned v)
{
    return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED);
}
// old >= v ? 0 : old + 1
inline unsigned atomicInc(unsigned* p, unsigned v)
{
    return host::atomicUpdate(p, [v](unsigned x) { return x >= v ? 0u : x + 1; });
}

inline void __threadfence() { host::fence(); }
inline void __threadfence_block() { host::fence(); }
inline void __threadfence_system() { host::fence(); }

template <class T> inline T loadRelaxed(const T* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
template <class T> inline void storeRelaxed(T* p, T v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
