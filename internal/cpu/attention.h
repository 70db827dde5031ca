// attention.h - attention of one head in tiles, for one processor's vectors each.
#pragma once

#include <stddef.h>
#include <stdint.h>

// One head of one sequence, and the part of it that a call does. Rows of Q and
// of everything like it are row_q elements apart, rows of K and V row_k. Query
// i is at place i + shift among the keys and sees keys below keys, with causal
// none after its place, with window > 0 none that far away or farther. With
// blocks it sees keys in blocks of block queries and keys that are not 0 there.
typedef struct {
    int32_t kind; // of the elements: 0 float32, 1 float16, 2 bfloat16
    int32_t causal;
    int64_t d, row_q, row_k, lk, keys, shift, window;
    int64_t i0, i1, j0, j1; // the call's queries; in the backward, its keys
    int64_t row_maps;       // between rows of maps
    double scale;
    float share;           // of the head in a mean of maps
    const uint8_t* blocks; // [.., across] or NULL
    int64_t block, across;
} attn_head;

// The functions of one kind of vectors. Pointers are to row 0 of the head;
// bias is [lq, lk] or NULL; scratch has attn_floats(d) floats.
typedef struct {
    // out and lse of at most attn_block queries.
    void (*forward)(const attn_head* p, void* out, float* lse, const void* q, const void* k,
                    const void* v, const float* bias, float* scratch);
    // dq, float32, is set; dk and dv, rows from j0 on and attn_pad(d) apart, are
    // added to (dk without the factor scale), as is dbias; each of these three may
    // be NULL. grad, where it is not NULL, is the gradient by the probabilities, and
    // slot, where it is not NULL, the column of each key in it or -1.
    void (*backward)(const attn_head* p, float* dq, float* dk, float* dv, float* dbias,
                     const void* q, const void* k, const void* v, const void* dout,
                     const float* lse, const float* delta, const float* bias, const float* grad,
                     const int32_t* slot, float* scratch);
    // maps = share * probability, or added to it with more: all keys, or those of chosen.
    void (*maps)(const attn_head* p, float* maps, int more, const void* q, const void* k,
                 const float* lse, const float* bias, const int32_t* chosen, int64_t n,
                 float* scratch);
    // delta_i = sum_j probability_ij grad_ij
    void (*delta)(const attn_head* p, float* delta, const void* q, const void* k, const float* lse,
                  const float* bias, const float* grad, const int32_t* slot, float* scratch);
} attn_table;

extern const attn_table attn_avx2, attn_avx512;

enum {
    attn_lanes = 48,  // queries side by side: three vectors of AVX-512
    attn_block = 384, // queries of a forward call, at most
    attn_keys = 64,   // keys of a tile
    attn_chunk = 256, // keys whose operands and gradients stay in the second cache
    attn_panel = attn_keys * attn_lanes
};

// attn_pad is n rounded up to whole vectors.
static inline int64_t attn_pad(int64_t n) { return (n + 15) / 16 * 16; }
