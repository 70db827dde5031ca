#include "attention_decode.h"

using namespace attention;

#define DECODE                                                                                     \
    {part,    stats, q, k,      v,      {table, lens, count, shift}, scale, left, right, heads,    \
     kvHeads, lq,    d, pieces, aligned}

// attention_decode - attention of a few queries over keys and values in pages, by pieces of the keys.
//
//     s[i, j]  = scale q[i] . k[j]   over the keys j of piece p that query i sees
//     most[i, p] = max_j s[i, j],  stats = most log2(e), sum_j exp(s[i, j] - most[i, p]),  part[i, p] = sum_j exp(s[i, j] - most[i, p]) v[j]
//
// Key j of sequence b is row j % size of page table[b, j / size], size = 2^shift; there are lens[b] of
// them, at most those of count pages. Query i has its place at key i + lens[b] - lq and sees the keys
// from left before to right after it (less than 0: no limit). The heads that share a key head are worked
// on together. Piece p has the tiles of 64 keys (float: 32) p, p + pieces, ....
//
// kernels  attention_decode64_f16 attention_decode64_bf16 attention_decode128_f16
//          attention_decode128_bf16 attention_decode256_f16 attention_decode256_bf16
//          attention_decode64_f32 attention_decode128_f32 attention_decode256_f32
// shapes   part: [batch, lq, heads, pieces, d], stats: [batch, lq, heads, pieces, 2], float; q: [batch, lq,
//          heads, d]; k, v: [pages, size, kvHeads, d]; table: [batch, count]; lens: [batch].
// params   d <= the number in the name; heads a multiple of kvHeads. aligned: rows are whole pieces of
//          16 bytes and q, k, v lie on 16 bytes. Entries of table for keys below lens must be pages.
// launch   grid kvHeads pieces ceil(lq heads / kvHeads / 16) batch, block 128: 16-bit, four warps of 16
//          keys and the same 16 rows; float, 16 rows of eight threads. Dynamic shared memory: 16 rows of
//          q, a step of k and one of v; float rows have 4 words more, and 16 rows of 40 floats follow.
// bound    memory: 2 d kvHeads values a key, once for 16 rows. Goal: 70 % of peak bandwidth from
//          512 blocks of 512 keys on.
// expect   regs <= 168, occupancy >= 18, has LDGSTS.E.BYPASS.128 MUFU.EX2, not LDL STL RED ATOM
// expect   attention_decode64_f16 attention_decode64_bf16: regs <= 128, occupancy >= 25,
//          dynamic 18432, has HMMA LDSM
// expect   attention_decode128_f16 attention_decode128_bf16: dynamic 36864, has HMMA LDSM
// expect   attention_decode256_f16 attention_decode256_bf16: regs <= 255, occupancy >= 12,
//          dynamic 73728, has HMMA LDSM
// expect   attention_decode64_f32: regs <= 128, occupancy >= 25, dynamic 24320
// expect   attention_decode128_f32: dynamic 44800
// expect   attention_decode256_f32: regs <= 255, occupancy >= 6, dynamic 85760
// repro    yes: pieces follow from the sizes alone, and each is summed in the order of its tiles.
// twin     ops.AttentionDecode; 16-bit error at most twice that of the loop that rounds every step,
//          float |gpu - float64| <= 2^-18 of the sum of magnitudes, for scores up to 10.
// source   Dao et al. 2023, Flash-Decoding; Kwon et al. 2023, arXiv 2309.06180 (pages). Own derivation.

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_decode64_f16(float* part, float* stats, const half* q, const half* k, const half* v,
                           const int* table, const int* lens, float scale, int left, int right,
                           int heads, int kvHeads, int lq, int d, int pieces, int count, int shift,
                           int aligned)
{
    decode<half, 64>(DecodeArgs<half> DECODE);
}
EXPORT(attention_decode64_f16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_decode64_bf16(float* part, float* stats, const bf16* q, const bf16* k, const bf16* v,
                            const int* table, const int* lens, float scale, int left, int right,
                            int heads, int kvHeads, int lq, int d, int pieces, int count, int shift,
                            int aligned)
{
    decode<bf16, 64>(DecodeArgs<bf16> DECODE);
}
EXPORT(attention_decode64_bf16)

extern "C" __global__ void __launch_bounds__(128, 4)
    attention_decode64_f32(float* part, float* stats, const float* q, const float* k,
                           const float* v, const int* table, const int* lens, float scale, int left,
                           int right, int heads, int kvHeads, int lq, int d, int pieces, int count,
                           int shift, int aligned)
{
    decode32<64>(DecodeArgs<float> DECODE);
}
EXPORT(attention_decode64_f32)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_decode128_f16(float* part, float* stats, const half* q, const half* k, const half* v,
                            const int* table, const int* lens, float scale, int left, int right,
                            int heads, int kvHeads, int lq, int d, int pieces, int count, int shift,
                            int aligned)
{
    decode<half, 128>(DecodeArgs<half> DECODE);
}
EXPORT(attention_decode128_f16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_decode128_bf16(float* part, float* stats, const bf16* q, const bf16* k, const bf16* v,
                             const int* table, const int* lens, float scale, int left, int right,
                             int heads, int kvHeads, int lq, int d, int pieces, int count,
                             int shift, int aligned)
{
    decode<bf16, 128>(DecodeArgs<bf16> DECODE);
}
EXPORT(attention_decode128_bf16)

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_decode128_f32(float* part, float* stats, const float* q, const float* k,
                            const float* v, const int* table, const int* lens, float scale,
                            int left, int right, int heads, int kvHeads, int lq, int d, int pieces,
                            int count, int shift, int aligned)
{
    decode32<128>(DecodeArgs<float> DECODE);
}
EXPORT(attention_decode128_f32)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_decode256_f16(float* part, float* stats, const half* q, const half* k, const half* v,
                            const int* table, const int* lens, float scale, int left, int right,
                            int heads, int kvHeads, int lq, int d, int pieces, int count, int shift,
                            int aligned)
{
    decode<half, 256>(DecodeArgs<half> DECODE);
}
EXPORT(attention_decode256_f16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_decode256_bf16(float* part, float* stats, const bf16* q, const bf16* k, const bf16* v,
                             const int* table, const int* lens, float scale, int left, int right,
                             int heads, int kvHeads, int lq, int d, int pieces, int count,
                             int shift, int aligned)
{
    decode<bf16, 256>(DecodeArgs<bf16> DECODE);
}
EXPORT(attention_decode256_bf16)

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_decode256_f32(float* part, float* stats, const float* q, const float* k,
                            const float* v, const int* table, const int* lens, float scale,
                            int left, int right, int heads, int kvHeads, int lq, int d, int pieces,
                            int count, int shift, int aligned)
{
    decode32<256>(DecodeArgs<float> DECODE);
}
EXPORT(attention_decode256_f32)

// attention_decode_merge - the pieces of attention_decode put together.
//
//     lse[i] = log sum_p sum[i, p] exp(most[i, p]),  out[i] = sum_p exp(most[i, p] - lse[i]) part[i, p]
//
// kernels  attention_decode_merge_f16 attention_decode_merge_bf16 attention_decode_merge_f32
// shapes   out: [batch, lq, heads, d]; lse: [batch, heads, lq]; part, stats: as attention_decode.
// params   rows = batch lq heads; pieces <= 64; d <= 256. A query that sees no key gets zeros and -inf.
// launch   grid ceil(rows / 4), block 128, shared 0: one warp a row.
// bound    memory: 4 pieces d + 2 d bytes a row, which L2 has where attention_decode has just written it.
//          No goal: it is short.
// expect   regs <= 64, shared <= 0, occupancy >= 50, not LDL STL
// repro    yes
// twin     ops.AttentionDecode
// source   Dao et al. 2023, Flash-Decoding. Own derivation.

extern "C" __global__ void __launch_bounds__(128)
    attention_decode_merge_f16(half* out, float* lse, const float* part, const float* stats,
                               int rows, int heads, int lq, int d, int pieces)
{
    decodeMerge(out, lse, part, stats, rows, heads, lq, d, pieces);
}
EXPORT(attention_decode_merge_f16)

extern "C" __global__ void __launch_bounds__(128)
    attention_decode_merge_bf16(bf16* out, float* lse, const float* part, const float* stats,
                                int rows, int heads, int lq, int d, int pieces)
{
    decodeMerge(out, lse, part, stats, rows, heads, lq, d, pieces);
}
EXPORT(attention_decode_merge_bf16)

extern "C" __global__ void __launch_bounds__(128)
    attention_decode_merge_f32(float* out, float* lse, const float* part, const float* stats,
                               int rows, int heads, int lq, int d, int pieces)
{
    decodeMerge(out, lse, part, stats, rows, heads, lq, d, pieces);
}
EXPORT(attention_decode_merge_f32)

// attention_append - new keys and values of each sequence written into its pages.
//
//     kPages[table[b, j / size], j % size] = k[b, t],  j = lens[b] - length + t;  vPages likewise of v
//
// kernels  attention_append_u16 attention_append_u32 attention_append_v16
// shapes   kPages, vPages: [pages, 2^shift, width]; k, v: [batch, length, width]; table: [batch, count];
//          lens: [batch], with the new rows.
// params   u16, u32: width in values of that many bits; v16: in pieces of 16 bytes, on which all tensors
//          lie. Rows with j < 0 or past count pages, and rows of pages outside [0, pages), are left out.
//          No two sequences write into one page.
// launch   grid ceil(batch length width / 256), block 256, shared 0.
// bound    memory: each row read and written once. No goal: it is short.
// expect   regs <= 40, shared <= 0, occupancy >= 75, not LDL STL
// expect   attention_append_v16: has LDG.E.128 STG.E.128
// repro    yes
// twin     ops.AppendPages, bit for bit
// source   Kwon et al. 2023, arXiv 2309.06180. Own derivation.

extern "C" __global__ void __launch_bounds__(256)
    attention_append_u16(unsigned short* kPages, unsigned short* vPages, const unsigned short* k,
                         const unsigned short* v, const int* table, const int* lens, int count,
                         int shift, int batch, int length, int width, int pages)
{
    appendPages(kPages, vPages, k, v, Paged{table, lens, count, shift}, batch, length, width,
                pages);
}
EXPORT(attention_append_u16)

extern "C" __global__ void __launch_bounds__(256)
    attention_append_u32(unsigned* kPages, unsigned* vPages, const unsigned* k, const unsigned* v,
                         const int* table, const int* lens, int count, int shift, int batch,
                         int length, int width, int pages)
{
    appendPages(kPages, vPages, k, v, Paged{table, lens, count, shift}, batch, length, width,
                pages);
}
EXPORT(attention_append_u32)

extern "C" __global__ void __launch_bounds__(256)
    attention_append_v16(uint4* kPages, uint4* vPages, const uint4* k, const uint4* v,
                         const int* table, const int* lens, int count, int shift, int batch,
                         int length, int width, int pages)
{
    appendPages(kPages, vPages, k, v, Paged{table, lens, count, shift}, batch, length, width,
                pages);
}
EXPORT(attention_append_v16)
