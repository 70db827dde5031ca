// Causal attention without a softmax, whose past is a matrix of fixed size that decays: chunks of
// tokens see each other by products, and what came before by that matrix.
#include "linear_attention.h"

// linear_states - the state of linear attention before every chunk of tokens.
//
//     S = diag(exp(a[t])) S + x[t] y[t]^T   token by token; in reverse  S = diag(exp(a[t])) (S + x[t] y[t]^T)
//
// kernels  linear_states_f32 linear_states_f64
// shapes   states: [B, H, chunks, d, e]; start, end: [B, H, d, e], or null; x: [B, T, H, d], y: [B, T, H,
//          e], null for zeros; decay: a, [B, T, H], with vector [B, T, H, d], null for zeros.
// params   chunk: tokens of a chunk, at most 32; chunks = ceil(T / chunk). reverse: from the last token to
//          the first, states are those after every chunk.
// launch   grid B * H * ceil(d / 32) * ceil(e / 32), block 256, shared 0. A block keeps its tile of S and
//          walks over the chunks.
// bound    memory: T (d + e) values a head and tile, and chunks d e. Goal: 30 % of peak bandwidth
//          from 264 tiles on.
// expect   linear_states_f32: regs <= 64, shared <= 12672, occupancy >= 50, not LDL STL
// expect   linear_states_f64: regs <= 128, shared <= 25344, occupancy >= 25, not LDL STL
// repro    yes
// twin     ops.LinearAttention, ops.LinearAttentionBackward
// source   Yang et al. 2024, arXiv 2312.06635, section 3; own derivation.
extern "C" __global__ void __launch_bounds__(256)
    linear_states_f32(float* states, float* end, const float* start, const float* x, const float* y,
                      const float* decay, int length, int heads, int d, int e, int chunk,
                      int vector, int reverse)
{
    statesOf(states, end, start, x, y, decay, length, heads, d, e, chunk, vector, reverse);
}
EXPORT(linear_states_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    linear_states_f64(double* states, double* end, const double* start, const double* x,
                      const double* y, const double* decay, int length, int heads, int d, int e,
                      int chunk, int vector, int reverse)
{
    statesOf(states, end, start, x, y, decay, length, heads, d, e, chunk, vector, reverse);
}
EXPORT(linear_states_f64)

// linear_out - the results of linear attention from its states.
//
//     out[i] = sum over j <= i of (sum over c of q[i,c] k[j,c] exp(b[i,c] - b[j,c])) v[j] + (exp(b[i]) q[i])^T S
//
// kernels  linear_out_f32 linear_out_f64 linear_out_vector_f32 linear_out_vector_f64
// shapes   out, v: [B, T, H, e], q, k: [B, T, H, d], states S as linear_states has made them, decay as there;
//          b are its sums from the chunk's first token on, i and j tokens of one chunk. vector: [B, T, H, d].
// params   1 <= d, e <= 128; chunk <= 32. With R = chunk rounded up to a multiple of 4, shared memory has
//          R (2 (d + 1) + e + 1 + w + R + 1) values, w = 1, with vector d + 1.
// launch   grid B * H * chunks, block 256, shared as said.
// bound    compute: chunk (d + e) + 2 d e multiplications a token, with vector chunk d / 2 exponentials.
//          Goal: 10 % of the FMA peak from 264 blocks on.
// expect   linear_out_f32: regs <= 80, shared <= 65536, occupancy >= 25, block 256, dynamic 49152, not LDL STL
// expect   linear_out_vector_f32: regs <= 80, shared <= 65536, occupancy >= 25, block 256, dynamic 49152, not LDL STL
// expect   linear_out_f64: regs <= 128, shared <= 98304, occupancy >= 12, block 256, dynamic 98304, not LDL STL
// expect   linear_out_vector_f64: regs <= 128, shared <= 98304, occupancy >= 12, block 256, dynamic 98304, not LDL STL
// repro    yes: a chunk's bits depend on nothing but its tokens and its state.
// twin     ops.LinearAttention; the error is that of chunk + d products, and relatively |b| u of each.
// source   Yang et al. 2024, arXiv 2312.06635, section 4; exponents of differences alone, which are not
//          positive where decays are decays, whatever the chunk.
extern "C" __global__ void __launch_bounds__(256, 2)
    linear_out_f32(float* out, const float* states, const float* q, const float* k, const float* v,
                   const float* decay, int length, int heads, int d, int e, int chunk)
{
    DYNAMIC_SHARED(float, shared);
    outOf<false>(shared, out, states, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_out_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    linear_out_f64(double* out, const double* states, const double* q, const double* k,
                   const double* v, const double* decay, int length, int heads, int d, int e,
                   int chunk)
{
    DYNAMIC_SHARED(double, shared);
    outOf<false>(shared, out, states, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_out_f64)

extern "C" __global__ void __launch_bounds__(256, 2)
    linear_out_vector_f32(float* out, const float* states, const float* q, const float* k,
                          const float* v, const float* decay, int length, int heads, int d, int e,
                          int chunk)
{
    DYNAMIC_SHARED(float, shared);
    outOf<true>(shared, out, states, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_out_vector_f32)

extern "C" __global__ void __launch_bounds__(256, 2)
    linear_out_vector_f64(double* out, const double* states, const double* q, const double* k,
                          const double* v, const double* decay, int length, int heads, int d, int e,
                          int chunk)
{
    DYNAMIC_SHARED(double, shared);
    outOf<true>(shared, out, states, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_out_vector_f64)

// linear_back - the gradients of linear attention from its states and those in reverse.
//
//     dq[i] = sum over j <= i of (dout[i] v[j]) exp(b[i] - b[j]) k[j] + exp(b[i]) S dout[i]
//     dk[j] = sum over i >= j of (dout[i] v[j]) exp(b[i] - b[j]) q[i] + exp(b[n] - b[j]) R v[j]
//     dv[j] = sum over i >= j of score[i,j] dout[i] + R^T (exp(b[n] - b[j]) k[j])
//     slope[t] = q[t] dq[t] - k[t] dk[t], at the last token of all + sum over e of dend end
//
// kernels  linear_back_f32 linear_back_f64 linear_back_vector_f32 linear_back_vector_f64
// shapes   as of linear_out; dout: as out, null for zeros; backs R: as states, linear_states in reverse of q
//          and dout from dend on; end, dend: [B, H, d, e], null where there is no gradient by the last state.
//          dq, dk, slope: [B, T, H, d], dv: as v; any may be null. n is the chunk's last token.
// params   with R as of linear_out, shared memory has R (2 (d + 1) + 2 (e + 1) + w + 2 (R + 1)) + max(33 d, R (d + 1)) values.
// launch   grid B * H * chunks, block 256, shared as said.
// bound    compute: 3 chunk (d + e) / 2 + 4 d e multiplications a token, with vector 3 chunk d / 2
//          exponentials. Goal: 8 % of the FMA peak from 264 blocks on.
// expect   linear_back_f32: regs <= 128, shared <= 65536, occupancy >= 25, block 256, dynamic 65536, not LDL STL
// expect   linear_back_vector_f32: regs <= 128, shared <= 65536, occupancy >= 25, block 256, dynamic 65536, not LDL STL
// expect   linear_back_f64: regs <= 255, shared <= 163840, occupancy >= 12, block 256, dynamic 131072, not LDL STL
// expect   linear_back_vector_f64: regs <= 255, shared <= 163840, occupancy >= 12, block 256, dynamic 131072, not LDL STL
// repro    yes
// twin     ops.LinearAttentionBackward
// source   own derivation. The gradient by the sum of the logarithms of all decays up to a token is slope,
//          since only exp(b[i] - b[j]) has them: Yang et al. 2024, arXiv 2312.06635, appendix C.
extern "C" __global__ void __launch_bounds__(256, 2)
    linear_back_f32(float* dq, float* dk, float* dv, float* slope, const float* dout,
                    const float* states, const float* backs, const float* end, const float* dend,
                    const float* q, const float* k, const float* v, const float* decay, int length,
                    int heads, int d, int e, int chunk)
{
    DYNAMIC_SHARED(float, shared);
    const LinearGrads<float> g = {dq, dk, dv, slope, dout, states, backs, end, dend};
    backOf<false>(shared, g, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_back_f32)

extern "C" __global__ void __launch_bounds__(256)
    linear_back_f64(double* dq, double* dk, double* dv, double* slope, const double* dout,
                    const double* states, const double* backs, const double* end,
                    const double* dend, const double* q, const double* k, const double* v,
                    const double* decay, int length, int heads, int d, int e, int chunk)
{
    DYNAMIC_SHARED(double, shared);
    const LinearGrads<double> g = {dq, dk, dv, slope, dout, states, backs, end, dend};
    backOf<false>(shared, g, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_back_f64)

extern "C" __global__ void __launch_bounds__(256, 2)
    linear_back_vector_f32(float* dq, float* dk, float* dv, float* slope, const float* dout,
                           const float* states, const float* backs, const float* end,
                           const float* dend, const float* q, const float* k, const float* v,
                           const float* decay, int length, int heads, int d, int e, int chunk)
{
    DYNAMIC_SHARED(float, shared);
    const LinearGrads<float> g = {dq, dk, dv, slope, dout, states, backs, end, dend};
    backOf<true>(shared, g, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_back_vector_f32)

extern "C" __global__ void __launch_bounds__(256)
    linear_back_vector_f64(double* dq, double* dk, double* dv, double* slope, const double* dout,
                           const double* states, const double* backs, const double* end,
                           const double* dend, const double* q, const double* k, const double* v,
                           const double* decay, int length, int heads, int d, int e, int chunk)
{
    DYNAMIC_SHARED(double, shared);
    const LinearGrads<double> g = {dq, dk, dv, slope, dout, states, backs, end, dend};
    backOf<true>(shared, g, q, k, v, decay, length, heads, d, e, chunk);
}
EXPORT(linear_back_vector_f64)
