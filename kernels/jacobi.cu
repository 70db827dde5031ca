#include "linalg_jacobi.h"

inline namespace thisfile {

template <class T>
__device__ __forceinline__ void eigh(T* values, T* vectors, int* faults, const T* a, int d,
                                     double asymmetry)
{
    DYNAMIC_SHARED(T, shared);
    __shared__ JacobiRotations<T> turn;
    __shared__ double reduce[8];
    const int n = jacobiPlayers(d), ld = jacobiStride(d), tid = threadIdx.x, threads = blockDim.x;
    T* m = shared;
    T* v = shared + n * ld;
    const size_t size = static_cast<size_t>(d) * d;
    a += blockIdx.x * size;
    values += static_cast<size_t>(blockIdx.x) * d;
    if (vectors) vectors += blockIdx.x * size;
    int fault = jacobiLoad(m, a, d, asymmetry, reduce);
    if (vectors)
        for (int i = tid; i < n * d; i += threads)
            v[i / d * ld + i % d] = i / d == i % d ? 1 : 0;
    __syncthreads();
    if (fault == faultNone) { // the same in all threads
        const bool done = vectors ? jacobi<T, true>(m, v, d, turn, reduce)
                                  : jacobi<T, false>(m, v, d, turn, reduce);
        if (!done) fault = notConverged;
    }
    if (tid == 0) faults[blockIdx.x] = fault;
    if (fault != faultNone) {
        const T nan = static_cast<T>(NAN);
        for (int i = tid; i < d; i += threads)
            values[i] = nan;
        if (vectors)
            for (int i = tid; i < d * d; i += threads)
                vectors[i] = nan;
        return;
    }
    // Each value's place is the number of those before it; a warp copies its row.
    for (int k = tid >> 5; k < d; k += threads >> 5) {
        const T x = m[k * ld + k];
        int place = 0;
        for (int j0 = 0; j0 < d; j0 += 32) {
            const int j = j0 + (tid & 31);
            const T y = j < d ? m[j * ld + j] : T(0);
            place += __popc(__ballot_sync(0xffffffffu, j < d && (y < x || (y == x && j < k))));
        }
        if ((tid & 31) == 0) values[place] = x;
        if (vectors)
            for (int i = tid & 31; i < d; i += 32)
                vectors[static_cast<size_t>(place) * d + i] = v[k * ld + i];
    }
}

} // namespace thisfile

// jacobi_eigh - eigenvalues and eigenvectors of batches of small symmetric matrices.
//
//     A = sum over i of values[i] vectors[i]^T vectors[i], values ascending
//
// kernels  jacobi_eigh_f32 jacobi_eigh_f64
// shapes   a: [B, D, D]; values: [B, D]; vectors: [B, D, D], rows, or null; faults: [B].
// params   1 <= d <= 64; asymmetry: largest |a_ij - a_ji| allowed, relative to the largest |a_ij|.
// launch   grid B, block 256 (64 for D <= 16, 128 for D <= 32), shared (D' + 1) D' elements, D' = D
//          rounded up to even, twice that with vectors: at most 66560 bytes. One block a matrix, whole in
//          shared memory; a round turns D / 2 pairs of rows and columns at once, D - 1 rounds a sweep.
// bound    latency: 2 barriers a round and 5 to 12 sweeps; about 6 D^3 flops a sweep with vectors.
//          Goal: a batch of 528 of order 64 in 4 ms.
// expect   regs <= 64, shared <= 67712, occupancy >= 37, block 256, dynamic 66560, has BAR, not LDL STL
// expect   jacobi_eigh_f64 sm_80: occupancy >= 25
// expect   jacobi_eigh_f32: regs <= 64, shared <= 34304, occupancy >= 50, block 256, dynamic 33280, has BAR FFMA, not LDL STL
// repro    yes
// twin     ops.Eigh; |A - V^T L V| and |V V^T - I| |A| <= 8 (D + 1) u |A|, u = 2^-24, 2^-53.
// note     faults: 0 done, 1 not finite, 2 not symmetric, 5 not converged; then NaN is written.
// source   cyclic Jacobi in the circle order (Brent and Luk 1985), stopping relative to the diagonal
//          (Demmel and Veselic 1992). Own derivation.
extern "C" __global__ void __launch_bounds__(256)
    jacobi_eigh_f32(float* values, float* vectors, int* faults, const float* a, int d,
                    double asymmetry)
{
    eigh(values, vectors, faults, a, d, asymmetry);
}
EXPORT(jacobi_eigh_f32)

extern "C" __global__ void __launch_bounds__(256)
    jacobi_eigh_f64(double* values, double* vectors, int* faults, const double* a, int d,
                    double asymmetry)
{
    eigh(values, vectors, faults, a, d, asymmetry);
}
EXPORT(jacobi_eigh_f64)
