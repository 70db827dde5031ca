// The models of device_hopper.h for the host build; host_async.cc and host_wgmma.cc have them.
//
// Each does what the PTX manual lets a machine do at worst. A box lands when no thread of the block
// can go on and one waits for it (FIDLAB_HOST_ORDER 0), at once (1), or at any time between, boxes
// in any order (others). Products are computed when they are waited for: until then their accumulators are
// NaN and the operands in shared memory may change under them. What copyBox and wgmma see of shared
// memory is a copy of its own: boxes go into both, stores reach it at fenceProxyAsync.
#pragma once

namespace host {

void barrierInit(unsigned long long* barrier, unsigned count, Site at);
void barrierArrive(unsigned long long* barrier, unsigned bytes, Site at);
void barrierWait(unsigned long long* barrier, unsigned parity, Site at);
void copyBox(void* shared, const TensorMap& map, unsigned long long* barrier, const int* c,
             int rank, Site at);
void fenceProxyAsync();
void namedBarrier(int id, int threads, bool wait, Site at);
void setRegisters(int n, bool up, Site at);

// A product as one lane brings it.
struct Product {
    float* d; // count accumulators
    int count;
    bool isHalf, trans, add, held; // held: a in registers
    const unsigned* registers;     // where they are, and what they held
    unsigned a[4];
    uint64_t left, right; // matrices in shared memory
    Site at;
};
void wgmma(const Product& p);
void wgmmaFence();
void wgmmaCommit();
void wgmmaWait(int pending, Site at);

} // namespace host

#define HOST_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define HOST_HERE                                                                                  \
    host::Site { file, line }

inline unsigned sharedAddress(const void* p)
{
    return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p));
}
inline void barrierInit(unsigned long long* barrier, unsigned count, HOST_AT)
{
    host::barrierInit(barrier, count, HOST_HERE);
}
inline void barrierArrive(unsigned long long* barrier, HOST_AT)
{
    host::barrierArrive(barrier, 0, HOST_HERE);
}
inline void barrierExpect(unsigned long long* barrier, unsigned bytes, HOST_AT)
{
    host::barrierArrive(barrier, bytes, HOST_HERE);
}
inline void barrierWait(unsigned long long* barrier, unsigned parity, HOST_AT)
{
    host::barrierWait(barrier, parity, HOST_HERE);
}
inline void copyBox(void* shared, const TensorMap& map, unsigned long long* barrier, int c0, int c1,
                    HOST_AT)
{
    const int c[] = {c0, c1};
    host::copyBox(shared, map, barrier, c, 2, HOST_HERE);
}
inline void copyBox(void* shared, const TensorMap& map, unsigned long long* barrier, int c0, int c1,
                    int c2, HOST_AT)
{
    const int c[] = {c0, c1, c2};
    host::copyBox(shared, map, barrier, c, 3, HOST_HERE);
}
inline void copyBox(void* shared, const TensorMap& map, unsigned long long* barrier, int c0, int c1,
                    int c2, int c3, HOST_AT)
{
    const int c[] = {c0, c1, c2, c3};
    host::copyBox(shared, map, barrier, c, 4, HOST_HERE);
}
inline void fenceProxyAsync() { host::fenceProxyAsync(); }
inline void namedSync(int id, int threads, HOST_AT)
{
    host::namedBarrier(id, threads, true, HOST_HERE);
}
inline void namedArrive(int id, int threads, HOST_AT)
{
    host::namedBarrier(id, threads, false, HOST_HERE);
}
template <int N> inline void registersUp(HOST_AT) { host::setRegisters(N, true, HOST_HERE); }
template <int N> inline void registersDown(HOST_AT) { host::setRegisters(N, false, HOST_HERE); }

inline void wgmmaFence() { host::wgmmaFence(); }
inline void wgmmaCommit() { host::wgmmaCommit(); }
template <int N> inline void wgmmaWait(HOST_AT) { host::wgmmaWait(N, HOST_HERE); }
template <class T> inline void settle(T&) {}

template <class T, int N, int TRANS>
inline void wgmma(float (&d)[N / 8][4], unsigned long long a, unsigned long long b, bool add,
                  HOST_AT)
{
    static_assert(N == 64 || N == 128, "device_hopper.h has these");
    host::wgmma({&d[0][0],
                 N / 2,
                 std::is_same_v<T, half>,
                 TRANS != 0,
                 add,
                 false,
                 nullptr,
                 {},
                 a,
                 b,
                 HOST_HERE});
}
template <class T, int N, int TRANS>
inline void wgmma(float (&d)[N / 8][4], const unsigned (&a)[4], unsigned long long b, bool add,
                  HOST_AT)
{
    static_assert(N == 64 || N == 128, "device_hopper.h has these");
    host::wgmma({&d[0][0],
                 N / 2,
                 std::is_same_v<T, half>,
                 TRANS != 0,
                 add,
                 true,
                 a,
                 {a[0], a[1], a[2], a[3]},
                 0,
                 b,
                 HOST_HERE});
}
#undef HOST_AT
#undef HOST_HERE
