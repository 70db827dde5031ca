// scan - the exclusive sum of counts in a given order, in one pass over memory.
//
//     out[i] = sum of in[order[j]], j < i      out[n] = *total = the sum of all
//
// kernels  scan_exclusive_u32
// shapes   out: n + 1 uint32; total: 1 uint64; in: n uint32; order: n int32, a permutation of 0..n-1, or
//          null for the identity; state: ceil(n / 2048) uint64 and ticket: 1 uint32, both zero.
// params   n >= 1. out is right only where the sum is below 2^32; total always is.
// launch   grid ceil(n / 2048), block 256, shared 0. Each thread sums 8 neighbours. Blocks pass sums on by
//          decoupled look-back; they take their place by ticket, so none waits for one not yet started.
// bound    memory: 8 n bytes (12 n with an order). Goal: 70 % of peak bandwidth from n = 2^22 on.
// expect   regs <= 40, shared <= 256, occupancy >= 75, not LDL STL
// repro    yes
// twin     ops.SplatForward, in its lists; kernels/radixsort_test.go holds it to a loop.
// source   Merrill and Garland 2016, Single-pass Parallel Prefix Scan with Decoupled Look-back. Own derivation.
#include "device.h"

inline namespace thisfile {

constexpr int threads = 256, each = 8;
// The two top bits of a block's word say what the rest is: nothing yet, its own sum, the sum up to its end.
constexpr unsigned long long own = 1ull << 62, whole = 2ull << 62, value = own - 1;

} // namespace thisfile

extern "C" __global__ void __launch_bounds__(256)
    scan_exclusive_u32(unsigned* __restrict__ out, unsigned long long* __restrict__ total,
                       const unsigned* __restrict__ in, const int* __restrict__ order,
                       unsigned long long* state, unsigned* ticket, int n)
{
    __shared__ unsigned place;
    __shared__ unsigned long long before, sums[threads / 32];
    if (threadIdx.x == 0) place = atomicAdd(ticket, 1u);
    __syncthreads();
    const int block = place, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const long long first = (long long)block * threads * each + threadIdx.x * each;
    unsigned v[each];
    unsigned long long mine = 0;
#pragma unroll
    for (int k = 0; k < each; k++) {
        const long long i = first + k;
        v[k] = i < n ? in[order ? order[i] : i] : 0;
        mine += v[k];
    }
    unsigned long long upTo = mine;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const unsigned long long t = __shfl_up_sync(0xffffffffu, upTo, d);
        if (lane >= d) upTo += t;
    }
    if (lane == 31) sums[warp] = upTo;
    __syncthreads();
    unsigned long long start = upTo - mine, all = 0;
#pragma unroll
    for (int w = 0; w < threads / 32; w++) {
        if (w < warp) start += sums[w];
        all += sums[w];
    }
    if (threadIdx.x == 0) {
        unsigned long long sum = 0;
        if (block > 0) {
            storeRelaxed(state + block, own | all);
            for (int b = block - 1;;) {
                const unsigned long long s = loadRelaxed(state + b);
                if (s == 0) { // its ticket is out, so it comes
                    __nanosleep(20);
                    continue;
                }
                sum += s & value;
                if (s & whole) break;
                b--;
            }
        }
        storeRelaxed(state + block, whole | (sum + all));
        before = sum;
    }
    __syncthreads();
    start += before;
#pragma unroll
    for (int k = 0; k < each; k++) {
        const long long i = first + k;
        if (i < n) {
            out[i] = (unsigned)start;
            start += v[k];
            if (i == n - 1) {
                out[n] = (unsigned)start;
                *total = start;
            }
        }
    }
}
EXPORT(scan_exclusive_u32)
