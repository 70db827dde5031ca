// What becomes of a tile of mma_tile.h: old values, a bias, a function and a residual in float, and
// one rounding to the type that is stored.
#pragma once
#include "gemm_finish.h" // functions by their number
#include "mma_tile.h"

inline namespace thisfile {

// Rows of a result. O is float or a 16-bit type.
template <class O> struct Finish16 {
    O *out, *pre;      // pre: what the function is of, or null
    const O* residual; // added after the function, or null
    const float* bias; // of each column, or null
    float alpha, a, b;
    int m, n, pitch, add, function; // pitch: from one row to the next
};

template <class O> struct Four;
template <> struct Four<float> {
    static __device__ __forceinline__ float4 load(const float* p)
    {
        return *reinterpret_cast<const float4*>(p);
    }
    static __device__ __forceinline__ void store(float* p, const float4& v)
    {
        *reinterpret_cast<float4*>(p) = v;
    }
};
template <class O> struct Four {
    static __device__ __forceinline__ float4 load(const O* p)
    {
        const uint2 u = *reinterpret_cast<const uint2*>(p);
        float4 v;
        unpack2<O>(u.x, v.x, v.y);
        unpack2<O>(u.y, v.z, v.w);
        return v;
    }
    static __device__ __forceinline__ void store(O* p, const float4& v)
    {
        *reinterpret_cast<uint2*>(p) = make_uint2(pack2<O>(v.x, v.y), pack2<O>(v.z, v.w));
    }
};

__device__ __forceinline__ float4 plus(const float4& a, const float4& b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Whether four values of columns 4 i can be read and written at once.
template <class O> __device__ __forceinline__ bool wideFinish(const Finish16<O>& z)
{
    const size_t lie = reinterpret_cast<size_t>(z.out) | reinterpret_cast<size_t>(z.pre) |
                       reinterpret_cast<size_t>(z.residual);
    return z.n % 4 == 0 && z.pitch % 4 == 0 && lie % (4 * sizeof(O)) == 0 &&
           reinterpret_cast<size_t>(z.bias) % 16 == 0;
}

// `count` results of a row from element `at` and column c on, whose sums are v[0] to v[count - 1] in
// shared memory of this thread. count is 4 where wide. Functions but the two that are an instruction
// are compiled once, and not for each of the four.
template <class O>
__device__ __forceinline__ void finish16(const Finish16<O>& z, size_t at, int c, float* v,
                                         int count, bool wide)
{
    const bool simple = z.function == IDENTITY || z.function == RELU;
    const O* const old = z.pre != nullptr ? z.pre : z.out;
    float4 u;
    if (wide) {
        u = *reinterpret_cast<const float4*>(v);
        u = make_float4(z.alpha * u.x, z.alpha * u.y, z.alpha * u.z, z.alpha * u.w);
        if (z.add) u = plus(u, Four<O>::load(old + at));
        if (z.bias != nullptr) u = plus(u, Four<float>::load(z.bias + c));
        if (z.pre != nullptr) Four<O>::store(z.pre + at, u);
        if (!simple) *reinterpret_cast<float4*>(v) = u;
    } else {
#pragma unroll 1
        for (int e = 0; e < count; e++) {
            float t = z.alpha * v[e];
            if (z.add) t += toFloat(old[at + e]);
            if (z.bias != nullptr) t += z.bias[c + e];
            if (z.pre != nullptr) z.pre[at + e] = fromFloat<O>(t);
            v[e] = t;
        }
    }
    if (!simple) {
#pragma unroll 1
        for (int e = 0; e < count; e++)
            v[e] = functionOf(z.function, v[e], z.a, z.b);
    }
    if (wide) {
        if (!simple) u = *reinterpret_cast<const float4*>(v);
        if (z.function == RELU)
            u = make_float4(valueOf<RELU>(u.x, 0.f, 0.f), valueOf<RELU>(u.y, 0.f, 0.f),
                            valueOf<RELU>(u.z, 0.f, 0.f), valueOf<RELU>(u.w, 0.f, 0.f));
        if (z.residual != nullptr) u = plus(u, Four<O>::load(z.residual + at));
        Four<O>::store(z.out + at, u);
        return;
    }
#pragma unroll 1
    for (int e = 0; e < count; e++) {
        float t = z.function == RELU ? valueOf<RELU>(v[e], 0.f, 0.f) : v[e];
        if (z.residual != nullptr) t += toFloat(z.residual[at + e]);
        z.out[at + e] = fromFloat<O>(t);
    }
}

// The block's tile of sums goes through shared memory, 64 rows at a time, four columns a thread.
template <class M, class O>
__device__ __forceinline__ void store16(const typename M::Sums& acc, float* shared,
                                        const Finish16<O>& z, int row0, int col0)
{
    constexpr int band = 64, quads = M::cols / 4;
    constexpr int stride = M::cols + 8; // 8 rows by 4 pairs of columns meet all banks
    const bool wide = wideFinish(z);
#pragma unroll 1
    for (int first = 0; first < M::rows; first += band) {
        __syncthreads(); // the band before, or the tiles of the products, were read
        M::each(acc, [&](int r, int c, float v, float next) {
            if (r >= first && r < first + band)
                *reinterpret_cast<float2*>(&shared[(r - first) * stride + c]) =
                    make_float2(v, next);
        });
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < band * quads; i += M::threads) {
            const int r = row0 + first + i / quads, c = col0 + i % quads * 4;
            if (r < z.m && c < z.n)
                finish16(z, static_cast<size_t>(r) * z.pitch + c, c,
                         &shared[i / quads * stride + i % quads * 4], min(4, z.n - c), wide);
        }
    }
}

} // namespace thisfile
