//go:build native && cgo && hostdev

// Kernels that show one primitive of device_hopper.h each, as hostcheck.cc does.
#include "device_hopper.h"

namespace {

// The swizzle by hand: byte of piece c of 16 bytes in row r of 128 bytes, tile at a multiple of 1024.
__device__ int swizzledByte(int r, int c) { return r * 128 + ((c ^ (r & 7)) * 16); }

__device__ unsigned char* tileOf(unsigned char* p) { return p + (0u - sharedAddress(p)) % 1024; }

// d (64 x N) = a (64 x 64) b through four steps of 16: how & 1 with b in rows along n (64 rows of
// N), else rows along k (N rows of 64); how & 2 with a in registers. Twice, so that the second
// product adds to the first one. out holds what each thread has, in order.
template <class T, int N, int TRANS>
__device__ void product(float* out, const T* a, const T* b, bool held)
{
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned char* const sa = tileOf(shared);
    unsigned char* const sb = sa + 64 * 128;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread / 32;
    for (int i = thread; i < 64 * 64; i += blockDim.x)
        *reinterpret_cast<T*>(sa + swizzledByte(i / 64, i % 64 / 8) + i % 8 * 2) = a[i];
    for (int i = thread; i < 64 * N; i += blockDim.x) {
        const int width = TRANS ? N : 64, r = i / width,
                  x = i % width; // of more than 64 columns, two tiles
        *reinterpret_cast<T*>(sb + x / 64 * (64 * 128) + swizzledByte(r, x % 64 / 8) + x % 8 * 2) =
            b[i];
    }
    fenceProxyAsync();
    __syncthreads();
    float d[N / 8][4];
    for (int i = 0; i < N / 2; i++)
        d[i / 4][i % 4] = 1e9f; // the first step does not add
    unsigned ra[4][4];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++) {
            const T* p =
                &a[(16 * warp + lane / 4 + i % 2 * 8) * 64 + 16 * k + 2 * (lane % 4) + i / 2 * 8];
            ra[k][i] = pack2<T>(toFloat(p[0]), toFloat(p[1]));
        }
    const unsigned long long left = swizzled128(sa, 16, 1024);
    const unsigned long long right = swizzled128(sb, TRANS ? 64 * 128 : 16, 1024);
    for (int round = 0; round < 2; round++) {
        settle(d);
        wgmmaFence();
        for (int k = 0; k < 4; k++) {
            const unsigned long long r = advanced(right, TRANS ? 16 * 128 * k : 32 * k);
            if (held)
                wgmma<T, N, TRANS>(d, ra[k], r, round + k > 0);
            else
                wgmma<T, N, TRANS>(d, advanced(left, 32 * k), r, round + k > 0);
        }
        wgmmaCommit();
        wgmmaWait<0>();
        settle(d);
    }
    for (int i = 0; i < N / 2; i++)
        out[thread * (N / 2) + i] = d[i / 4][i % 4];
}

template <class T> __device__ void products(float* out, const T* a, const T* b, int n, int how)
{
    if (n == 64 && !(how & 1)) product<T, 64, 0>(out, a, b, how & 2);
    if (n == 64 && (how & 1)) product<T, 64, 1>(out, a, b, how & 2);
    if (n == 128 && !(how & 1)) product<T, 128, 0>(out, a, b, how & 2);
    if (n == 128 && (how & 1)) product<T, 128, 1>(out, a, b, how & 2);
}

} // namespace

extern "C" __global__ void check_wgmma_f16(float* out, const half* a, const half* b, int n, int how)
{
    products(out, a, b, n, how);
}
EXPORT(check_wgmma_f16)
extern "C" __global__ void check_wgmma_bf16(float* out, const bf16* a, const bf16* b, int n,
                                            int how)
{
    products(out, a, b, n, how);
}
EXPORT(check_wgmma_bf16)

// out: the words that a box of count words leaves in shared memory, from a multiple of 1024 on;
// behind them those that were there before the wait.
extern "C" __global__ void check_box(unsigned* out, const __grid_constant__ TensorMap map, int rank,
                                     int c0, int c1, int c2, int c3, int count)
{
    __shared__ unsigned long long barrier;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned char* const tile = tileOf(shared);
    if (threadIdx.x == 0) {
        barrierInit(&barrier, 1);
        fenceProxyAsync();
        barrierExpect(&barrier, 4 * count);
        if (rank == 2) copyBox(tile, map, &barrier, c0, c1);
        if (rank == 3) copyBox(tile, map, &barrier, c0, c1, c2);
        if (rank == 4) copyBox(tile, map, &barrier, c0, c1, c2, c3);
    }
    const unsigned* words = reinterpret_cast<const unsigned*>(tile);
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        out[count + i] = words[i];
    __syncthreads();
    barrierWait(&barrier, 0);
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        out[i] = words[i];
}
EXPORT(check_box)

// A ring of two places between warps 0 and 1: warp 0 writes numbers, warp 1 reads them. Each place
// has a barrier for full and one for empty, which are waited for with the parity of their round.
extern "C" __global__ void check_ring(int* out, int n)
{
    __shared__ unsigned long long full[2], empty[2];
    __shared__ int place[2][32];
    const int lane = threadIdx.x & 31;
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; i++) {
            barrierInit(&full[i], 32);
            barrierInit(&empty[i], 32);
        }
    __syncthreads();
    for (int i = 0; i < n; i++) {
        const int at = i % 2, round = i / 2;
        if (threadIdx.x < 32) {
            barrierWait(&empty[at], (round & 1) ^ 1); // the first one at once
            place[at][lane] = 100 * i + lane;
            barrierArrive(&full[at]);
        } else {
            barrierWait(&full[at], round & 1);
            out[32 * i + lane] = place[at][31 - lane];
            barrierArrive(&empty[at]);
        }
    }
}
EXPORT(check_ring)

// Two groups of 64 threads take turns by named barriers 1 and 2; out is the order of turns.
extern "C" __global__ void check_turns(int* out, int n)
{
    __shared__ int turns;
    const int group = threadIdx.x / 64;
    if (threadIdx.x == 0) turns = 0;
    __syncthreads();
    registersUp<256>(); // of 128 threads each may have as many
    if (group == 1) namedArrive(1, 128);
    for (int i = 0; i < n; i++) {
        namedSync(1 + group, 128);
        if (threadIdx.x % 64 == 0) out[turns++] = group;
        namedSync(3 + group, 64);
        if (group == 0 || i + 1 < n) namedArrive(2 - group, 128);
    }
}
EXPORT(check_turns)

// Mistakes that the models must not let pass: each ends the process, or (20 and more) leaves no number.
extern "C" __global__ void check_hopper_mistake(float* out, const __grid_constant__ TensorMap map,
                                                int which)
{
    __shared__ unsigned long long barrier;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned char* const tile = tileOf(shared);
    float d[8][4] = {};
    unsigned a[4] = {};
    const bool first = threadIdx.x == 0;
    if (first && which != 0) barrierInit(&barrier, 1);
    if (first && which != 1) fenceProxyAsync();
    __syncthreads();
    const unsigned long long m = swizzled128(tile, 16, 1024);
    if (which == 0 && first) barrierArrive(&barrier);
    if (which <= 3 && first) {
        barrierExpect(&barrier, which == 2 ? 8192 + 128 : 8192);
        copyBox(tile + (which == 3 ? 64 : 0), map, &barrier, 0, 0);
    }
    if (which == 2) barrierWait(&barrier, 0);
    if (which == 4 && first) { // the phase has one arrival, and waits for bytes
        barrierExpect(&barrier, 16);
        barrierArrive(&barrier);
    }
    if (which == 5 && first) copyBox(tile, map, &barrier, 0, 0); // and nobody waits
    if (which >= 6 && which <= 11) {
        fenceProxyAsync();
        if (which != 6) wgmmaFence();
        if (which == 9 && threadIdx.x >= 64)
            wgmma<bf16, 64, 0>(d, advanced(m, 32), m, false);
        else if (which == 8)
            wgmma<bf16, 64, 0>(d, a, m, false);
        else
            wgmma<bf16, 64, 0>(d, m, m, false);
        if (which == 7) d[3][1] = 1;
        if (which == 8) a[2] = 1;
        wgmmaCommit();
        if (which != 10) wgmmaWait<0>();
        if (which == 11) wgmma<bf16, 64, 0>(d, m, m, true);
    }
    if (which == 12) namedSync(1, 256 + 32);
    if (which == 13) namedSync(0, 128);
    if (which == 14 && threadIdx.x < 32) namedArrive(1, 128);
    if (which == 15) threadIdx.x < 128 ? registersUp<240>() : registersUp<168>();
    if (which == 16) threadIdx.x < 32 ? registersUp<176>() : registersUp<168>();
    if (which == 17) barrierWait(&barrier, 0); // and nobody arrives
    if (which == 18 && first) copyBox(tile, map, &barrier, 0, 0, 0);
    if (which == 19 && first) barrierInit(reinterpret_cast<unsigned long long*>(out), 1);
    if (which >= 20) {
        if (which == 20) { // before the stores that it is for
            fenceProxyAsync();
            __syncthreads();
        }
        for (int i = threadIdx.x; i < 8192 / 2; i += blockDim.x)
            reinterpret_cast<bf16*>(tile)[i] = fromFloat<bf16>(1.f);
        if (which > 20) fenceProxyAsync();
        __syncthreads();
        wgmmaFence();
        wgmma<bf16, 64, 0>(d, m, m, false);
        wgmmaCommit();
        if (which == 21 && first) *out = d[0][0]; // before the wait
        wgmmaWait<0>();
        if (which != 21 && first) *out = d[0][0];
    }
}
EXPORT(check_hopper_mistake)
