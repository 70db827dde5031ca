//go:build native && cgo && hostdev

// Kernels that show one primitive each, for the tests of the host build. They use nothing but
// device.h, so that the same file also compiles with nvcc.
#include "device_tf32.h"

namespace {

// d = a b through each way of loading the operands: 0 and 1 with ldmatrix from b stored by columns
// and by rows, 2 by hand from the table in device.h, 3 with a stored by columns.
template <class T> __device__ void multiply(float* d, const T* a, const T* b, int how)
{
    __shared__ __align__(16) T sa[16][16], sat[16][16], sb[8][16], sbt[16][8];
    const int l = threadIdx.x, g = l >> 2, t = l & 3;
    for (int i = l; i < 256; i += 32) {
        sa[i / 16][i % 16] = a[i];
        sat[i % 16][i / 16] = a[i];
    }
    for (int i = l; i < 128; i += 32) {
        sb[i % 8][i / 8] = b[i];
        sbt[i / 8][i % 8] = b[i];
    }
    __syncwarp();
    unsigned ra[4], rb[2];
    if (how == 3)
        ldmatrix4Trans(ra, &sat[(l & 7) + l / 16 * 8][l / 8 % 2 * 8]);
    else
        ldmatrix4(ra, &sa[l & 15][l / 16 * 8]);
    if (how == 1)
        ldmatrix2Trans(rb, &sbt[l & 15][0]);
    else
        ldmatrix2(rb, &sb[l & 7][l / 8 % 2 * 8]);
    if (how == 2) {
        for (int i = 0; i < 4; i++) {
            const T* p = &a[(g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8];
            ra[i] = pack2<T>(toFloat(p[0]), toFloat(p[1]));
        }
        for (int i = 0; i < 2; i++) {
            const T* p = &b[(2 * t + 8 * i) * 8 + g];
            rb[i] = pack2<T>(toFloat(p[0]), toFloat(p[8]));
        }
    }
    float r[4] = {0, 0, 0, 0};
    mma16816<T>(r, ra, rb);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = r[i];
}

// out[lane * 4 ...]: what each ldmatrix delivers of the 32 rows of 8 values.
template <class F>
__device__ void loadRows(unsigned* out, const unsigned short* in, int count, F load)
{
    __shared__ __align__(16) unsigned short rows[32][8];
    const int l = threadIdx.x;
    for (int i = 0; i < 8; i++)
        rows[l][i] = in[8 * l + i];
    __syncwarp();
    unsigned r[4] = {0, 0, 0, 0};
    load(r, &rows[l][0]);
    for (int i = 0; i < count; i++)
        out[4 * l + i] = r[i];
}

template <class T>
__device__ void shuffled(T* out, const T* in, int how, int by, int width, unsigned mask)
{
    const int l = threadIdx.x;
    if (!(mask >> l & 1)) return;
    T v = in[l];
    if (how == 0) v = __shfl_sync(mask, v, by, width);
    if (how == 1) v = __shfl_up_sync(mask, v, by, width);
    if (how == 2) v = __shfl_down_sync(mask, v, by, width);
    if (how == 3) v = __shfl_xor_sync(mask, v, by, width);
    out[l] = v;
}

} // namespace

extern "C" __global__ void check_mma_f16(float* d, const half* a, const half* b, int how)
{
    multiply(d, a, b, how);
}
EXPORT(check_mma_f16)
extern "C" __global__ void check_mma_bf16(float* d, const bf16* a, const bf16* b, int how)
{
    multiply(d, a, b, how);
}
EXPORT(check_mma_bf16)

// d = a b of tf32: floats as they are with how 0, rounded with how 1.
extern "C" __global__ void check_mma_tf32(float* d, const float* a, const float* b, int how)
{
    const int l = threadIdx.x, g = l >> 2, t = l & 3;
    const auto operand = [&](float x) { return how ? toTf32(x) : __float_as_uint(x); };
    const unsigned ra[4] = {operand(a[g * 8 + t]), operand(a[(g + 8) * 8 + t]),
                            operand(a[g * 8 + t + 4]), operand(a[(g + 8) * 8 + t + 4])};
    const unsigned rb[2] = {operand(b[t * 8 + g]), operand(b[(t + 4) * 8 + g])};
    float r[4] = {0, 0, 0, 0};
    mma1688tf32(r, ra, rb);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = r[i];
}
EXPORT(check_mma_tf32)

extern "C" __global__ void check_ldmatrix(unsigned* out, const unsigned short* in, int how)
{
    if (how == 0) loadRows(out, in, 2, [](unsigned* r, void* p) { ldmatrix2(r, p); });
    if (how == 1) loadRows(out, in, 4, [](unsigned* r, void* p) { ldmatrix4(r, p); });
    if (how == 2) loadRows(out, in, 2, [](unsigned* r, void* p) { ldmatrix2Trans(r, p); });
    if (how == 3) loadRows(out, in, 4, [](unsigned* r, void* p) { ldmatrix4Trans(r, p); });
}
EXPORT(check_ldmatrix)

extern "C" __global__ void check_shuffle(float* out, const float* in, int how, int by, int width,
                                         unsigned mask)
{
    shuffled(out, in, how, by, width, mask);
}
EXPORT(check_shuffle)
extern "C" __global__ void check_shuffle_f64(double* out, const double* in, int how, int by,
                                             int width, unsigned mask)
{
    shuffled(out, in, how, by, width, mask);
}
EXPORT(check_shuffle_f64)

// out[k][lane] for the k-th vote or reduction of in over mask.
extern "C" __global__ void check_vote(unsigned* out, const unsigned* in, unsigned mask)
{
    const int l = threadIdx.x;
    if (!(mask >> l & 1)) return;
    const unsigned v = in[l];
    const int s = (int)v;
    int all = 0;
    unsigned r[14];
    r[0] = __ballot_sync(mask, v & 1);
    r[1] = __any_sync(mask, v & 1);
    r[2] = __all_sync(mask, v & 1);
    r[3] = __match_any_sync(mask, v);
    r[4] = __match_all_sync(mask, v, &all);
    r[5] = all;
    r[6] = __reduce_add_sync(mask, v);
    r[7] = __reduce_min_sync(mask, v);
    r[8] = __reduce_max_sync(mask, v);
    r[9] = __reduce_min_sync(mask, s);
    r[10] = __reduce_max_sync(mask, s);
    r[11] = __reduce_and_sync(mask, v);
    r[12] = __reduce_or_sync(mask, v);
    r[13] = __reduce_xor_sync(mask, v);
    for (int k = 0; k < 14; k++)
        out[32 * k + l] = r[k];
}
EXPORT(check_vote)

// Two groups of copies and what is seen of them: out[0..n) after the wait for the first, out[n..2n)
// after the wait for both. Odd threads copy with valid = false in the second group.
extern "C" __global__ void check_copy(float* out, const float* in, int n)
{
    DYNAMIC_SHARED(float, tile);
    const int i = threadIdx.x;
    copyAsync16(&tile[4 * i], &in[4 * i]);
    copyAsyncCommit();
    copyAsync16(&tile[n + 4 * i], i % 2 ? nullptr : &in[4 * i], i % 2 == 0);
    copyAsyncCommit();
    copyAsyncWait<1>();
    for (int k = 0; k < 4; k++) {
        out[4 * i + k] = tile[4 * i + k];
        out[n + 4 * i + k] = tile[n + 4 * i + k];
    }
    copyAsyncWait<0>();
    for (int k = 0; k < 4; k++)
        out[2 * n + 4 * i + k] = tile[n + 4 * i + k];
    copyAsync4(&tile[4 * i], &in[4 * i + 1]);
    copyAsync8(&tile[4 * i + 2], &in[4 * i], i % 2 == 0);
    copyAsyncCommit();
    copyAsyncWait<0>();
    for (int k = 0; k < 4; k++)
        out[3 * n + 4 * i + k] = tile[4 * i + k];
}
EXPORT(check_copy)

// Every block and thread adds to the same few cells.
extern "C" __global__ void check_atomic(int* i, unsigned* u, unsigned long long* l, float* f,
                                        double* d)
{
    const int id = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&i[0], 1);
    atomicMax(&i[1], id);
    atomicMin(&i[2], -id);
    atomicSub(&i[3], 2);
    atomicAdd(&u[0], 3u);
    atomicMax(&u[1], (unsigned)id);
    atomicMin(&u[2], 5u + id);
    atomicOr(&u[3], 1u << (id & 31));
    atomicAnd(&u[4], ~(1u << (id & 31)));
    atomicXor(&u[5], 1u << (id & 7));
    atomicInc(&u[6], 6u);
    atomicAdd(&l[0], 1ull << 33);
    for (unsigned long long old = l[1], seen; (seen = atomicCAS(&l[1], old, old + 1)) != old;)
        old = seen;
    atomicAdd(&f[0], 0.5f);
    if (atomicExch(&f[1], 1.0f) == 0.0f) atomicAdd(&i[4], 1);
    atomicAdd(&d[0], 0.25);
}
EXPORT(check_atomic)

extern "C" __global__ void check_widen(float* fromHalf, float* fromBf16, const unsigned short* bits,
                                       int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    fromHalf[i] = toFloat(reinterpret_cast<const half*>(bits)[i]);
    fromBf16[i] = toFloat(reinterpret_cast<const bf16*>(bits)[i]);
}
EXPORT(check_widen)
extern "C" __global__ void check_narrow(half* toHalf, bf16* toBf16, float* pairs, const float* x,
                                        int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    toHalf[i] = fromFloat<half>(x[i]);
    toBf16[i] = fromFloat<bf16>(x[i]);
    unpack2<half>(pack2<half>(x[i], -x[i]), pairs[4 * i], pairs[4 * i + 1]);
    unpack2<bf16>(pack2<bf16>(x[i], -x[i]), pairs[4 * i + 2], pairs[4 * i + 3]);
}
EXPORT(check_narrow)

// What shared memory holds at a block's start; then every cell is written.
extern "C" __global__ void check_fresh(float* out)
{
    __shared__ float fixed[64];
    DYNAMIC_SHARED(float, tile);
    const int i = threadIdx.x;
    out[128 * blockIdx.x + i] = fixed[i];
    out[128 * blockIdx.x + 64 + i] = tile[i];
    fixed[i] = tile[i] = 1;
}
EXPORT(check_fresh)

// Integer and rounding intrinsics of x and y, 16 numbers a pair.
extern "C" __global__ void check_integer(unsigned* out, const unsigned* x, const unsigned* y,
                                         const float* f)
{
    const int i = threadIdx.x;
    unsigned* r = out + 16 * i;
    r[0] = __umulhi(x[i], y[i]);
    r[1] = __popc(x[i]);
    r[2] = __ffs((int)x[i]);
    r[3] = __clz((int)x[i]);
    r[4] = __brev(x[i]);
    r[5] = __funnelshift_l(x[i], y[i], y[i] & 31);
    r[6] = __funnelshift_r(x[i], y[i], y[i] & 31);
    r[7] = __byte_perm(x[i], y[i], 0x7410 ^ (y[i] & 0x3333));
    r[8] = (unsigned)__float2int_rn(f[i]);
    r[9] = (unsigned)__float2int_rd(f[i]);
    r[10] = (unsigned)__float2int_ru(f[i]);
    r[11] = (unsigned)__float2int_rz(f[i]);
    r[12] = __float2uint_rn(f[i]);
    r[13] = (unsigned)(__umul64hi(((unsigned long long)x[i] << 32) | y[i], ~0ull) >> 32);
    r[14] = __float_as_uint(fmaxf(f[i], -1.0f));
    r[15] = __float_as_uint(fminf(f[i], 1.0f));
}
EXPORT(check_integer)

// One mistake each.
extern "C" __global__ void check_mistake(float* out, int which)
{
    __shared__ __align__(16) float tile[64];
    const int i = threadIdx.x;
    tile[i] = 1;
    if (which == 0 && i < 32) __syncthreads(); // the others end
    if (which == 1) {                          // two different barriers
        if (i < 32)
            __syncthreads();
        else
            __syncthreads();
    }
    if (which == 2) { // a barrier against a shuffle
        if (i == 5)
            __syncthreads();
        else
            tile[i] += __shfl_sync(0xffffffffu, tile[i], 0);
    }
    if (which == 3) __syncwarp(0xfu << 8); // the mask lacks the caller
    if (which == 4) {                      // two primitives in one warp
        if (i % 2)
            tile[i] += __shfl_sync(0xffffffffu, tile[i], 0);
        else
            __syncwarp();
    }
    if (which == 5) copyAsync16(&tile[i % 16 * 4 + 1], out); // not aligned
    if (which == 6) copyAsync16(out, out);                   // the destination is not shared
    if (which == 7) out[64] = 1;                             // one past the end
    if (which == 8) __trap();
    out[i] = tile[i];
}
EXPORT(check_mistake)

// Who writes last wins.
extern "C" __global__ void check_race(int* out) { *out = threadIdx.x; }
EXPORT(check_race)

// The block that arrives last sees what the others wrote before their fence.
extern "C" __global__ void check_last(int* sum, int* parts, unsigned* arrived)
{
    __shared__ bool last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) {
        int s = 0;
        for (unsigned i = 0; i < gridDim.x; i++)
            s += parts[i];
        *sum = s;
    }
}
EXPORT(check_last)
