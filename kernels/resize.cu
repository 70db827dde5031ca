// Separable resampling of batches of 8-bit RGB pictures, with the bits of package imageio.
#include "device.h"

inline namespace thisfile {

// A block makes a tile of 32 x 32 pixels. Along the first axis it resamples CHUNK positions of the
// second axis at a time into shared memory; every thread adds what its four pixels need of them, in
// the order of the taps. So the picture between the two passes never goes to memory, and each of its
// values is made once a tile.
constexpr int THREADS = 256, TILE = 32, CHUNK = 16, CHANNELS = 3, MINE = TILE * TILE / THREADS;
constexpr int PITCH = TILE * CHANNELS + 1; // odd: positions of one column lie in different banks

// One axis: output o is the sum over k of weight[o * taps + k] times input start[o] + k.
template <class W> struct Axis {
    const int* start;
    const W* weight;
    int taps, out;
};

// Sums and what a pass leaves: doubles rounded to float, or 22 fractional bits rounded to 0..255.
struct Floats {
    typedef double Weight;
    typedef float Value;
    static __device__ __forceinline__ double zero() { return 0; }
    static __device__ __forceinline__ double add(double s, double w, double v)
    {
        return __dadd_rn(s, __dmul_rn(w, v)); // never fused: the CPU's bits
    }
    static __device__ __forceinline__ float round(double s) { return static_cast<float>(s); }
};
struct Fixed {
    typedef int Weight;
    typedef int Value;
    static __device__ __forceinline__ int zero() { return 1 << 21; }
    static __device__ __forceinline__ int add(int s, int w, int v) { return s + w * v; }
    static __device__ __forceinline__ int round(int s)
    {
        s >>= 22;
        return s < 0 ? 0 : s > 255 ? 255 : s;
    }
};

// DOWN: the vertical axis first. put(x, y, channel, value) stores a result.
template <class A, bool DOWN, class Put>
__device__ __forceinline__ void
resample(const unsigned char* pix, int width, const Axis<typename A::Weight>& h,
         const Axis<typename A::Weight>& v, typename A::Value (*mid)[PITCH], Put put)
{
    typedef typename A::Weight Weight;
    typedef typename A::Value Value;
    const Axis<Weight>&first = DOWN ? v : h, &second = DOWN ? h : v;
    const int f0 = TILE * (DOWN ? blockIdx.y : blockIdx.x);
    const int s0 = TILE * (DOWN ? blockIdx.x : blockIdx.y);
    // Lanes run along x, where results lie side by side.
    const int lane = threadIdx.x % TILE, group = threadIdx.x / TILE;
    Weight sum[MINE][CHANNELS];
    int from[MINE];
#pragma unroll
    for (int j = 0; j < MINE; j++) {
        const int s = s0 + (DOWN ? lane : group + j * (THREADS / TILE));
        from[j] = s < second.out ? second.start[s] : 0x7fffffff - CHUNK - second.taps;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++)
            sum[j][c] = A::zero();
    }
    const int last = second.start[min(s0 + TILE, second.out) - 1] + second.taps;
    for (int base = second.start[s0]; base < last; base += CHUNK) {
        __syncthreads();
        for (int i = threadIdx.x; i < CHUNK * TILE; i += THREADS) {
            // Neighbouring threads take neighbouring columns of the picture.
            const int p = DOWN ? i % CHUNK : i / TILE, t = DOWN ? i / CHUNK : i % TILE;
            const int f = f0 + t, at = base + p;
            if (f >= first.out || at >= last) continue;
            const long long step = CHANNELS * (DOWN ? static_cast<long long>(width) : 1);
            const unsigned char* in =
                pix + CHANNELS * (DOWN ? static_cast<long long>(first.start[f]) * width + at
                                       : static_cast<long long>(at) * width + first.start[f]);
            const Weight* w = first.weight + static_cast<long long>(f) * first.taps;
            Weight a[CHANNELS] = {A::zero(), A::zero(), A::zero()};
            for (int k = 0; k < first.taps; k++, in += step) {
                const Weight wk = w[k];
#pragma unroll
                for (int c = 0; c < CHANNELS; c++)
                    a[c] = A::add(a[c], wk, static_cast<Weight>(in[c]));
            }
#pragma unroll
            for (int c = 0; c < CHANNELS; c++)
                mid[p][t * CHANNELS + c] = A::round(a[c]);
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < MINE; j++) {
            const int s = s0 + (DOWN ? lane : group + j * (THREADS / TILE));
            const int t = DOWN ? group + j * (THREADS / TILE) : lane;
            const Weight* w = second.weight + static_cast<long long>(s) * second.taps;
            const int k0 = max(base - from[j], 0), k1 = min(base + CHUNK - from[j], second.taps);
            for (int k = k0; k < k1; k++) {
                const Value* m = &mid[from[j] + k - base][t * CHANNELS];
                const Weight wk = w[k];
#pragma unroll
                for (int c = 0; c < CHANNELS; c++)
                    sum[j][c] = A::add(sum[j][c], wk, static_cast<Weight>(m[c]));
            }
        }
    }
#pragma unroll
    for (int j = 0; j < MINE; j++) {
        const int s = s0 + (DOWN ? lane : group + j * (THREADS / TILE));
        const int f = f0 + (DOWN ? group + j * (THREADS / TILE) : lane);
        if (s >= second.out || f >= first.out) continue;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++)
            put(DOWN ? s : f, DOWN ? f : s, c, A::round(sum[j][c]));
    }
}

template <class A, class Put>
__device__ __forceinline__ void either(const unsigned char* pix, int width,
                                       const Axis<typename A::Weight>& h,
                                       const Axis<typename A::Weight>& v, int down, Put put)
{
    __shared__ typename A::Value mid[CHUNK][PITCH];
    if (down)
        resample<A, true>(pix, width, h, v, mid, put);
    else
        resample<A, false>(pix, width, h, v, mid, put);
}

// Planes of value * scale + offset.
struct Planes {
    float* out;
    long long plane;
    int width, clip;
    float scale, offset;
    __device__ __forceinline__ void operator()(int x, int y, int c, float v) const
    {
        if (clip) v = fminf(fmaxf(v, 0.0f), 255.0f);
        out[c * plane + static_cast<long long>(y) * width + x] =
            __fadd_rn(__fmul_rn(v, scale), offset);
    }
};

struct Bytes {
    unsigned char* out;
    int width;
    __device__ __forceinline__ void operator()(int x, int y, int c, int v) const
    {
        out[CHANNELS * (static_cast<long long>(y) * width + x) + c] = static_cast<unsigned char>(v);
    }
};

} // namespace thisfile

// resize - a batch of pictures resampled with any table of weights, in floats.
//
//     mid  = float(sum over k of weight_1[k] * pixel)          along the first axis
//     v    = float(sum over k of weight_2[k] * mid)            along the second
//     out  = clip(v) scale + offset
//
// kernels  resize_f32
// shapes   out: pictures of 3 planes of vout * hout. pix: pictures of height * width pixels of 3
//          bytes. hstart: hout, hweight: hout * htaps; vstart: vout, vweight: vout * vtaps.
// params   down: the vertical axis first. clip: limit v to 0..255. The windows lie in the picture,
//          and starts never fall.
// launch   grid (ceil(hout / 32), ceil(vout / 32), pictures), block 256, shared 0.
// bound    latency and double rate: 3 (htaps + vtaps) products and sums a pixel, of 12 bytes out and
//          3 in. Goal: 256 pictures of 256 x 256 to 299 x 299 in 0.8 ms on an H100.
// expect   regs <= 80, shared <= 6400, occupancy >= 37, not LDL STL
// repro    yes
// twin     ops.Resizer.Float; the same bits.
// source   the tables are package imageio's. Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    resize_f32(float* out, const unsigned char* pix, const int* hstart, const double* hweight,
               const int* vstart, const double* vweight, float scale, float offset, int clip,
               int down, int htaps, int hout, int vtaps, int vout, int width, int height)
{
    const long long plane = static_cast<long long>(hout) * vout;
    const Planes put = {out + blockIdx.z * CHANNELS * plane, plane, hout, clip, scale, offset};
    either<Floats>(pix + blockIdx.z * (CHANNELS * static_cast<long long>(width) * height), width,
                   {hstart, hweight, htaps, hout}, {vstart, vweight, vtaps, vout}, down, put);
}
EXPORT(resize_f32)

// resize_fixed - the same in integers, as Pillow resizes 8-bit pictures.
//
//     mid = clip8((2^21 + sum over k of weight_1[k] * pixel) >> 22), and so along the second axis
//
// kernels  resize_fixed_f32 resize_fixed_u8
// shapes   out: pictures of 3 planes of vout * hout, value * scale + offset; of resize_fixed_u8
//          pictures of vout * hout pixels of 3 bytes. Weights are in units of 2^-22. The rest as for
//          resize.
// params   as for resize.
// launch   grid (ceil(hout / 32), ceil(vout / 32), pictures), block 256, shared 0.
// bound    latency and integer rate: 3 (htaps + vtaps) products and sums a pixel.
// expect   regs <= 64, shared <= 6400, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.Resizer.Float and U8; the same bits.
// source   own derivation.
extern "C" __global__ void __launch_bounds__(256)
    resize_fixed_f32(float* out, const unsigned char* pix, const int* hstart, const int* hweight,
                     const int* vstart, const int* vweight, float scale, float offset, int down,
                     int htaps, int hout, int vtaps, int vout, int width, int height)
{
    const long long plane = static_cast<long long>(hout) * vout;
    const Planes put = {out + blockIdx.z * CHANNELS * plane, plane, hout, 0, scale, offset};
    either<Fixed>(pix + blockIdx.z * (CHANNELS * static_cast<long long>(width) * height), width,
                  {hstart, hweight, htaps, hout}, {vstart, vweight, vtaps, vout}, down, put);
}
EXPORT(resize_fixed_f32)

extern "C" __global__ void __launch_bounds__(256)
    resize_fixed_u8(unsigned char* out, const unsigned char* pix, const int* hstart,
                    const int* hweight, const int* vstart, const int* vweight, int down, int htaps,
                    int hout, int vtaps, int vout, int width, int height)
{
    const Bytes put = {out + blockIdx.z * (CHANNELS * static_cast<long long>(hout) * vout), hout};
    either<Fixed>(pix + blockIdx.z * (CHANNELS * static_cast<long long>(width) * height), width,
                  {hstart, hweight, htaps, hout}, {vstart, vweight, vtaps, vout}, down, put);
}
EXPORT(resize_fixed_u8)
