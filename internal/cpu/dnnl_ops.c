//go:build native && cgo

// dnnl_ops.c - one oneDNN primitive with its memory: a convolution or a
// product of fixed sizes. oneDNN chooses the inner layouts; operands are
// reordered into them, or rounded, and the result back at each run. An op belongs to one
// thread; scratch memory is its own.

#define _GNU_SOURCE
#include "native.h"
#include "dnnl_api.h"
#include <stdlib.h>
#include <string.h>

enum { SRC, WEIGHTS, BIAS, DST, SCRATCH, OPERANDS };
// By kind: forward, gradient by the source, gradient by the weights.
static const int args[3][OPERANDS] = {
    {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD},
    {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD},
    {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD}};
static const int result[3] = {DST, SRC, WEIGHTS};

typedef struct {
    long rows, n, ld;
} rows_of;

struct dnn_op {
    int kind; // of args and result
    dnnl_stream_t stream;
    dnnl_primitive_t run, reorder[OPERANDS];    // reorder: NULL where the caller's layout serves
    dnnl_memory_t user[OPERANDS], in[OPERANDS]; // in is user where nothing is reordered
    void* buffer[OPERANDS];
    rows_of
        narrow[OPERANDS]; // of operands that vec_narrow16 writes into buffer; oneDNN takes longer
};

#define TRY(e)                                                                                     \
    if ((e) != dnnl_success) goto fail

void dnn_op_free(dnn_op* op)
{
    if (!op) return;
    for (int i = 0; i < OPERANDS; i++) {
        if (op->in[i] && op->in[i] != op->user[i]) dnn.dnnl_memory_destroy(op->in[i]);
        if (op->user[i]) dnn.dnnl_memory_destroy(op->user[i]);
        if (op->reorder[i]) dnn.dnnl_primitive_destroy(op->reorder[i]);
        free(op->buffer[i]);
    }
    if (op->run) dnn.dnnl_primitive_destroy(op->run);
    free(op);
}

static dnnl_stream_t stream(void)
{
    static __thread dnnl_stream_t s; // one per worker, for the life of the program
    if (!s && dnn.dnnl_stream_create(&s, dnn.engine, dnnl_stream_default_flags) != dnnl_success)
        s = NULL;
    return s;
}

static int memory(dnn_op* op, int i, dnn_mdp md)
{
    const size_t size = dnn.dnnl_memory_desc_get_size(md);
    op->buffer[i] = aligned_alloc(64, (size + 64) / 64 * 64);
    return op->buffer[i] &&
           dnn.dnnl_memory_create(&op->in[i], md, dnn.engine, op->buffer[i]) == dnnl_success;
}

// bind makes the operand's memory: the caller's, and the primitive's own with
// the reorder between them where their layouts differ.
static int bind(dnn_op* op, int i, dnn_mdp user, dnn_mdp inner)
{
    if (dnn.dnnl_memory_create(&op->user[i], user, dnn.engine, DNNL_MEMORY_NONE) != dnnl_success)
        return 0;
    if (dnn.dnnl_memory_desc_equal(user, inner)) {
        op->in[i] = op->user[i];
        return 1;
    }
    dnnl_primitive_desc_t pd = NULL;
    if (!memory(op, i, inner)) return 0;
    const int out = i == result[op->kind];
    const dnn_mdp from = out ? inner : user, to = out ? user : inner;
    if (dnn.dnnl_reorder_primitive_desc_create(&pd, from, dnn.engine, to, dnn.engine, NULL) !=
        dnnl_success)
        return 0;
    const dnnl_status_t s = dnn.dnnl_primitive_create(&op->reorder[i], pd);
    dnn.dnnl_primitive_desc_destroy(pd);
    return s == dnnl_success;
}

static int attributes(dnnl_primitive_attr_t* attr, int relu)
{
    if (dnn.dnnl_primitive_attr_create(attr) != dnnl_success) return 0;
    if (dnn.dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user) !=
        dnnl_success)
        return 0;
    if (!relu) return 1;
    dnnl_post_ops_t post = NULL;
    if (dnn.dnnl_post_ops_create(&post) != dnnl_success) return 0;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_status_t s = dnn.dnnl_post_ops_append_eltwise(post, dnnl_eltwise_relu, 0, 0);
#else
    dnnl_status_t s = dnn.dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, 0, 0);
#endif
    if (s == dnnl_success) s = dnn.dnnl_primitive_attr_set_post_ops(*attr, post);
    dnn.dnnl_post_ops_destroy(post);
    return s == dnnl_success;
}

#if DNNL_VERSION_MAJOR >= 3
#define DESC_FREE(d) (void)((d) && dnn.dnnl_memory_desc_destroy(d))
#define BY_TAG dnn.dnnl_memory_desc_create_with_tag
#define BY_STRIDES dnn.dnnl_memory_desc_create_with_strides
#else
#define DESC_FREE(d) (void)(d)
#define BY_TAG dnn.dnnl_memory_desc_init_by_tag
#define BY_STRIDES dnn.dnnl_memory_desc_init_by_strides
#endif

// finish makes the primitive of pd and its memory; user describes the caller's operands.
static int finish(dnn_op* op, dnnl_primitive_desc_t pd, const dnn_mdp* user)
{
    static const dnnl_query_t query[3][OPERANDS] = {
        {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_weights_md, dnnl_query_dst_md,
         dnnl_query_scratchpad_md},
        {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_weights_md,
         dnnl_query_diff_dst_md, dnnl_query_scratchpad_md},
        {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_weights_md,
         dnnl_query_diff_dst_md, dnnl_query_scratchpad_md}};
    if (!(op->stream = stream())) return 0;
    for (int i = 0; i < SCRATCH; i++) {
        if (!user[i]) continue;
        const dnn_mdp inner =
            i == BIAS ? user[i] : dnn.dnnl_primitive_desc_query_md(pd, query[op->kind][i], 0);
        if (!(op->narrow[i].rows ? memory(op, i, inner) : bind(op, i, user[i], inner))) return 0;
    }
    if (!memory(op, SCRATCH, dnn.dnnl_primitive_desc_query_md(pd, query[op->kind][SCRATCH], 0)))
        return 0;
    return dnn.dnnl_primitive_create(&op->run, pd) == dnnl_success;
}

dnn_op* dnn_conv(int n, int c, int h, int w, int out, int kh, int kw, int sh, int sw, int ph,
                 int pw, int bias, int relu)
{
    const int oh = (h + 2 * ph - kh) / sh + 1, ow = (w + 2 * pw - kw) / sw + 1;
    const dnnl_dims_t ds = {n, c, h, w}, dw = {out, c, kh, kw}, db = {out}, dd = {n, out, oh, ow},
                      stride = {sh, sw}, pad = {ph, pw}, none = {0, 0};
    (void)none;
    dnn_op* op = calloc(1, sizeof *op);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_memory_desc_t us, uw, ub, ud, as, aw, ad;
    memset(&us, 0, sizeof us), memset(&uw, 0, sizeof uw), memset(&ub, 0, sizeof ub),
        memset(&ud, 0, sizeof ud);
    memset(&as, 0, sizeof as), memset(&aw, 0, sizeof aw), memset(&ad, 0, sizeof ad);
    int ok = 0;
    if (!op || !attributes(&attr, relu)) goto fail;
    TRY(BY_TAG(&us, 4, ds, dnnl_f32, dnnl_nchw));
    TRY(BY_TAG(&uw, 4, dw, dnnl_f32, dnnl_oihw));
    TRY(BY_TAG(&ub, 1, db, dnnl_f32, dnnl_x));
    TRY(BY_TAG(&ud, 4, dd, dnnl_f32, dnnl_nchw));
    TRY(BY_TAG(&as, 4, ds, dnnl_f32, dnnl_format_tag_any));
    TRY(BY_TAG(&aw, 4, dw, dnnl_f32, dnnl_format_tag_any));
    TRY(BY_TAG(&ad, 4, dd, dnnl_f32, dnnl_format_tag_any));
#if DNNL_VERSION_MAJOR >= 3
    TRY(dnn.dnnl_convolution_forward_primitive_desc_create(
        &pd, dnn.engine, dnnl_forward_inference, dnnl_convolution_direct, as, aw, bias ? ub : NULL,
        ad, stride, none, pad, pad, attr));
#else
    dnnl_convolution_desc_t cd;
    TRY(dnn.dnnl_convolution_forward_desc_init(&cd, dnnl_forward_inference, dnnl_convolution_direct,
                                               &as, &aw, bias ? &ub : NULL, &ad, stride, pad, pad));
    TRY(dnn.dnnl_primitive_desc_create(&pd, &cd, attr, dnn.engine, NULL));
#endif
    const dnn_mdp user[SCRATCH] = {DNN_MDP(us), DNN_MDP(uw), bias ? DNN_MDP(ub) : NULL,
                                   DNN_MDP(ud)};
    ok = finish(op, pd, user);
fail:
    if (pd) dnn.dnnl_primitive_desc_destroy(pd);
    if (attr) dnn.dnnl_primitive_attr_destroy(attr);
    DESC_FREE(us), DESC_FREE(uw), DESC_FREE(ub), DESC_FREE(ud), DESC_FREE(as), DESC_FREE(aw),
        DESC_FREE(ad);
    if (ok) return op;
    dnn_op_free(op);
    return NULL;
}

dnn_op* dnn_conv_train(int kind, int n, int c, int h, int w, int out, int kh, int kw, int step,
                       int top, int bottom, int left, int right, int dilation, int last, int biased,
                       int low)
{
    const int oh = (h + top + bottom - dilation * (kh - 1) - 1) / step + 1,
              ow = (w + left + right - dilation * (kw - 1) - 1) / step + 1;
    const dnnl_dims_t ds = {n, c, h, w}, dw = {out, c, kh, kw}, db = {out}, dd = {n, out, oh, ow},
                      stride = {step, step}, before = {top, left}, after = {bottom, right},
                      apart = {dilation - 1, dilation - 1}; // oneDNN counts from 0
    dnn_op* op = calloc(1, sizeof *op);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL, pd = NULL;
    dnnl_memory_desc_t us, uw, ub, ud, as, aw, ad, hs, hw, hd; // user's, used, of the hint
    memset(&us, 0, sizeof us), memset(&uw, 0, sizeof uw), memset(&ub, 0, sizeof ub),
        memset(&ud, 0, sizeof ud);
    memset(&as, 0, sizeof as), memset(&aw, 0, sizeof aw), memset(&ad, 0, sizeof ad);
    memset(&hs, 0, sizeof hs), memset(&hw, 0, sizeof hw), memset(&hd, 0, sizeof hd);
    const dnnl_data_type_t type = low ? dnnl_bf16 : dnnl_f32; // of operands; results are float32
    int ok = 0;
    if (!op || !attributes(&attr, 0)) goto fail;
    op->kind = kind;
    TRY(BY_TAG(&us, 4, ds, dnnl_f32, last ? dnnl_nhwc : dnnl_nchw));
    TRY(BY_TAG(&uw, 4, dw, dnnl_f32, dnnl_oihw));
    TRY(BY_TAG(&ub, 1, db, dnnl_f32, dnnl_a));
    TRY(BY_TAG(&ud, 4, dd, dnnl_f32, last ? dnnl_nhwc : dnnl_nchw));
    // Channels last are oneDNN's own layout too: float32 is not reordered, only rounded.
    const dnnl_format_tag_t order = last ? dnnl_nhwc : dnnl_format_tag_any;
    TRY(BY_TAG(&as, 4, ds, kind == 1 ? dnnl_f32 : type, order));
    TRY(BY_TAG(&aw, 4, dw, kind == 2 ? dnnl_f32 : type, dnnl_format_tag_any));
    TRY(BY_TAG(&ad, 4, dd, kind == 0 ? dnnl_f32 : type, order));
    if (low && last && kind != 1) op->narrow[SRC] = (rows_of){n, (long)c * h * w, (long)c * h * w};
    if (low && last && kind != 0)
        op->narrow[DST] = (rows_of){n, (long)out * oh * ow, (long)out * oh * ow};
    TRY(BY_TAG(&hs, 4, ds, type, order));
    TRY(BY_TAG(&hw, 4, dw, type, dnnl_format_tag_any));
    TRY(BY_TAG(&hd, 4, dd, kind == 0 ? dnnl_f32 : type, order));
#if DNNL_VERSION_MAJOR >= 3
    TRY(dnn.dnnl_convolution_forward_primitive_desc_create(
        &hint, dnn.engine, dnnl_forward_training, dnnl_convolution_direct, hs, hw,
        biased ? ub : NULL, hd, stride, apart, before, after, attr));
    if (kind == 1)
        TRY(dnn.dnnl_convolution_backward_data_primitive_desc_create(
            &pd, dnn.engine, dnnl_convolution_direct, as, aw, ad, stride, apart, before, after,
            hint, attr));
    if (kind == 2)
        TRY(dnn.dnnl_convolution_backward_weights_primitive_desc_create(
            &pd, dnn.engine, dnnl_convolution_direct, as, aw, NULL, ad, stride, apart, before,
            after, hint, attr));
#else
    dnnl_convolution_desc_t cd;
    TRY(dnn.dnnl_dilated_convolution_forward_desc_init(
        &cd, dnnl_forward_training, dnnl_convolution_direct, &hs, &hw, biased ? &ub : NULL, &hd,
        stride, apart, before, after));
    TRY(dnn.dnnl_primitive_desc_create(&hint, &cd, attr, dnn.engine, NULL));
    if (kind == 1)
        TRY(dnn.dnnl_dilated_convolution_backward_data_desc_init(
            &cd, dnnl_convolution_direct, &as, &aw, &ad, stride, apart, before, after));
    if (kind == 2)
        TRY(dnn.dnnl_dilated_convolution_backward_weights_desc_init(
            &cd, dnnl_convolution_direct, &as, &aw, NULL, &ad, stride, apart, before, after));
    if (kind) TRY(dnn.dnnl_primitive_desc_create(&pd, &cd, attr, dnn.engine, hint));
#endif
    const dnn_mdp user[SCRATCH] = {DNN_MDP(us), DNN_MDP(uw), biased ? DNN_MDP(ub) : NULL,
                                   DNN_MDP(ud)};
    ok = finish(op, kind ? pd : hint, user);
fail:
    if (pd) dnn.dnnl_primitive_desc_destroy(pd);
    if (hint) dnn.dnnl_primitive_desc_destroy(hint);
    if (attr) dnn.dnnl_primitive_attr_destroy(attr);
    DESC_FREE(us), DESC_FREE(uw), DESC_FREE(ub), DESC_FREE(ud), DESC_FREE(as), DESC_FREE(aw),
        DESC_FREE(ad), DESC_FREE(hs), DESC_FREE(hw), DESC_FREE(hd);
    if (ok) return op;
    dnn_op_free(op);
    return NULL;
}

dnn_op* dnn_matmul(int low, int ta, int tb, int m, int n, int k, int lda, int ldb, int ldc)
{
    const dnnl_dims_t da = {m, k}, db = {k, n}, dc = {m, n}, rows_c = {ldc, 1};
    dnn_op* op = calloc(1, sizeof *op);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_memory_desc_t uc, aa, ab;
    memset(&uc, 0, sizeof uc), memset(&aa, 0, sizeof aa), memset(&ab, 0, sizeof ab);
    int ok = 0;
    if (!op || !attributes(&attr, 0)) goto fail;
    const dnnl_data_type_t type = low ? dnnl_bf16 : dnnl_f32;
    if (low) {
        op->narrow[SRC] = ta ? (rows_of){k, m, lda} : (rows_of){m, k, lda};
        op->narrow[WEIGHTS] = tb ? (rows_of){n, k, ldb} : (rows_of){k, n, ldb};
    } else if (lda != (ta ? m : k) || ldb != (tb ? k : n)) {
        goto fail; // the descriptions below have no gaps
    }
    TRY(BY_STRIDES(&uc, 2, dc, dnnl_f32, rows_c));
    TRY(BY_TAG(&aa, 2, da, type, ta ? dnnl_ba : dnnl_ab));
    TRY(BY_TAG(&ab, 2, db, type, tb ? dnnl_ba : dnnl_ab));
#if DNNL_VERSION_MAJOR >= 3
    TRY(dnn.dnnl_matmul_primitive_desc_create(&pd, dnn.engine, aa, ab, NULL, uc, attr));
#else
    dnnl_matmul_desc_t md;
    TRY(dnn.dnnl_matmul_desc_init(&md, &aa, &ab, NULL, &uc));
    TRY(dnn.dnnl_primitive_desc_create(&pd, &md, attr, dnn.engine, NULL));
#endif
    const dnn_mdp user[SCRATCH] = {DNN_MDP(aa), DNN_MDP(ab), NULL, DNN_MDP(uc)};
    ok = finish(op, pd, user);
fail:
    if (pd) dnn.dnnl_primitive_desc_destroy(pd);
    if (attr) dnn.dnnl_primitive_attr_destroy(attr);
    DESC_FREE(uc), DESC_FREE(aa), DESC_FREE(ab);
    if (ok) return op;
    dnn_op_free(op);
    return NULL;
}

static int reorder(dnn_op* op, int i)
{
    const int out = i == result[op->kind];
    const dnnl_exec_arg_t a[2] = {{DNNL_ARG_FROM, out ? op->in[i] : op->user[i]},
                                  {DNNL_ARG_TO, out ? op->user[i] : op->in[i]}};
    return !op->reorder[i] ||
           dnn.dnnl_primitive_execute(op->reorder[i], op->stream, 2, a) == dnnl_success;
}

int dnn_run(dnn_op* op, const float* src, const float* weights, const float* bias, float* dst)
{
    void* const data[SCRATCH] = {(void*)src, (void*)weights, (void*)bias,
                                 dst}; // oneDNN's memory has no const
    dnnl_exec_arg_t a[OPERANDS];
    int n = 0;
    for (int i = 0; i < OPERANDS; i++) {
        if (op->user[i] && dnn.dnnl_memory_set_data_handle(op->user[i], data[i]) != dnnl_success)
            return -1;
        if (op->in[i]) a[n++] = (dnnl_exec_arg_t){args[op->kind][i], op->in[i]};
    }
    const int out = result[op->kind];
    for (int i = 0; i < SCRATCH; i++) {
        const rows_of o = op->narrow[i];
        if (o.rows) vec_narrow16(o.rows, o.n, op->buffer[i], data[i], o.ld);
    }
    for (int i = 0; i < SCRATCH; i++)
        if (i != out && !reorder(op, i)) return -1;
    if (dnn.dnnl_primitive_execute(op->run, op->stream, n, a) != dnnl_success) return -1;
    if (!reorder(op, out)) return -1;
    return dnn.dnnl_stream_wait(op->stream) == dnnl_success ? 0 : -1;
}
