// The cyclic Jacobi method for one symmetric matrix in shared memory, by one block.
#pragma once
#include "linalg.h"

inline namespace thisfile {

// Orders of matrices up to this one fit.
constexpr int jacobiOrder = 64;
constexpr int jacobiSweeps = 40; // a sound matrix takes 5 to 12

// A player number from 0 on for each index; an odd order plays one round with a bye.
__device__ __forceinline__ int jacobiPlayers(int d) { return d + (d & 1); }

// Rows are padded so that a column is read without bank conflicts, and the bye has a row.
__device__ __forceinline__ int jacobiStride(int d) { return jacobiPlayers(d) + 1; }

// Shared memory of a block beside its matrices.
template <class T> struct JacobiRotations {
    T s[jacobiOrder / 2], tau[jacobiOrder / 2]; // the sine and the tangent of half the angle
    int p[jacobiOrder / 2], q[jacobiOrder / 2];
};

// Pair k of a round of the circle method: player n-1 stays, the others turn.
__device__ __forceinline__ void jacobiPair(int round, int k, int n, int& p, int& q)
{
    const int m = n - 1;
    int a = round + k, b = round - k;
    if (a >= m) a -= m;
    if (b < 0) b += m;
    if (k == 0) b = m;
    p = min(a, b);
    q = max(a, b);
}

// The rotation that makes a_pq zero; false where it is small enough already. t is the tangent of
// its angle.
template <class T>
__device__ __forceinline__ bool jacobiRotation(T app, T aqq, T apq, T floor, T& s, T& tau, T& t)
{
    constexpr T eps = sizeof(T) == 8 ? T(0x1p-53) : T(0x1p-24);
    s = tau = t = 0;
    const T size = apq < 0 ? -apq : apq;
    // Relative to the two diagonal elements, which keeps the digits of small eigenvalues of a
    // positive definite matrix (Demmel and Veselic 1992); the floor ends the rest.
    if (size <= floor || size <= eps * sqrt(fabs(app)) * sqrt(fabs(aqq))) return false;
    const T cot = (aqq - app) / (2 * apq); // of twice the angle
    const T root = sqrt(1 + cot * cot);
    t = 1 / (cot < 0 ? cot - root : cot + root);
    const T c = 1 / sqrt(1 + t * t);
    s = t * c;
    tau = s / (1 + c);
    return true;
}

// (x, y) = (c x - s y, s x + c y), as corrections, which a small angle makes small: rounding then
// hardly changes lengths (Rutishauser 1966).
template <class T> __device__ __forceinline__ void jacobiTurn(T& x, T& y, T s, T tau)
{
    const T old = x;
    x = fma(-s, fma(tau, x, y), x);
    y = fma(s, fma(-tau, y, old), y);
}

// Makes the symmetric matrix a of order d diagonal: a becomes V A V^T, and the rows of v, if
// `vectors`, become V times what they were. Both have rows of jacobiStride(d); a has the row and
// column of the bye, which are zero, and v its row. All threads of the block call; true when it
// converged. Every order of its warps gives the same bits.
template <class T, bool vectors>
__device__ __forceinline__ bool jacobi(T* a, T* v, int d, JacobiRotations<T>& turn, double* reduce)
{
    constexpr T eps = sizeof(T) == 8 ? T(0x1p-53) : T(0x1p-24);
    const int n = jacobiPlayers(d), ld = jacobiStride(d), half = n / 2;
    const int tid = threadIdx.x, threads = blockDim.x, lane = tid & 31;
    double sum = 0;
    for (int i = tid; i < n * n; i += threads)
        sum += square(static_cast<double>(a[i / n * ld + i % n]));
    const T floor = eps * eps * static_cast<T>(sqrt(blockSum(sum, reduce)));
    const int folds = (half + 1) / 2 * (half + 1); // pairs of pairs i >= j, two rows to a fold
    for (int sweep = 0; sweep < jacobiSweeps; sweep++) {
        bool turned = false;
        for (int round = 0; round < n - 1; round++) {
            if (tid < half) {
                int p, q;
                T s, tau, t;
                jacobiPair(round, tid, n, p, q);
                const T apq = a[q * ld + p];
                if (jacobiRotation(a[p * ld + p], a[q * ld + q], apq, floor, s, tau, t)) {
                    turned = true;
                    a[p * ld + p] -= t * apq;
                    a[q * ld + q] += t * apq;
                    a[p * ld + q] = a[q * ld + p] = 0;
                }
                turn.s[tid] = s;
                turn.tau[tid] = tau;
                turn.p[tid] = p;
                turn.q[tid] = q;
            }
            __syncthreads();
            // Pairs i > j: the 2 x 2 block of rows pi, qi and columns pj, qj is one thread's alone.
            for (int f = tid; f < folds; f += threads) {
                const int r = f / (half + 1), at = f - r * (half + 1);
                const bool second = at >= half - r;
                const int i = second ? r : half - 1 - r, j = second ? at - (half - r) : at;
                if (i <= j || (second && 2 * r == half - 1)) continue;
                const int pi = turn.p[i], qi = turn.q[i], pj = turn.p[j], qj = turn.q[j];
                const T si = turn.s[i], ti = turn.tau[i], sj = turn.s[j], tj = turn.tau[j];
                if (si == 0 && sj == 0) continue;
                T x00 = a[pi * ld + pj], x01 = a[pi * ld + qj];
                T x10 = a[qi * ld + pj], x11 = a[qi * ld + qj];
                jacobiTurn(x00, x10, si, ti);
                jacobiTurn(x01, x11, si, ti);
                jacobiTurn(x00, x01, sj, tj);
                jacobiTurn(x10, x11, sj, tj);
                a[pi * ld + pj] = a[pj * ld + pi] = x00;
                a[pi * ld + qj] = a[qj * ld + pi] = x01;
                a[qi * ld + pj] = a[pj * ld + qi] = x10;
                a[qi * ld + qj] = a[qj * ld + qi] = x11;
            }
            if (vectors) {
                for (int k = tid >> 5; k < half; k += threads >> 5) {
                    const T s = turn.s[k], tau = turn.tau[k];
                    if (s == 0) continue;
                    T* p = v + turn.p[k] * ld;
                    T* q = v + turn.q[k] * ld;
                    for (int i = lane; i < d; i += 32)
                        jacobiTurn(p[i], q[i], s, tau);
                }
            }
            __syncthreads();
        }
        if (!__syncthreads_or(turned)) return true;
    }
    return false;
}

// What is wrong with a matrix; ops/matrices.go has the same numbers.
enum MatrixFault {
    faultNone = 0,
    notFinite = 1,
    notSymmetric = 2,
    notPositive = 3,
    singular = 4,
    notConverged = 5
};

// Loads the d x d matrix `from` into shared memory for jacobi, as (A + A^T) / 2, and says what is
// wrong with it. The bye's row and column are zero.
template <class T, class From>
__device__ int jacobiLoad(T* a, const From* from, int d, double asymmetry, double* reduce)
{
    const int n = jacobiPlayers(d), ld = jacobiStride(d), tid = threadIdx.x, threads = blockDim.x;
    double most = 0;
    for (int i = tid; i < n * n; i += threads) {
        const int r = i / n, c = i - r * n;
        const T x = r < d && c < d ? static_cast<T>(from[static_cast<size_t>(r) * d + c]) : T(0);
        a[r * ld + c] = x;
        const double size = fabs(static_cast<double>(x - x) + static_cast<double>(x));
        most = size > most || size != size ? size : most; // an infinity becomes NaN
    }
    most = blockMax(most, reduce); // also the barrier before the transposed reads
    double apart = 0;
    for (int i = tid; i < n * n; i += threads) {
        const int r = i / n, c = i - r * n;
        if (c >= r) continue;
        const T x = a[r * ld + c], y = a[c * ld + r];
        apart = fmax(apart, fabs(static_cast<double>(x - y)));
        a[r * ld + c] = a[c * ld + r] = x + (y - x) / 2;
    }
    apart = blockMax(apart, reduce);
    if (most != most) return notFinite;
    return apart > asymmetry * most ? notSymmetric : faultNone;
}

} // namespace thisfile
