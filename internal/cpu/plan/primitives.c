//go:build native && cgo

// primitives.c - chains of oneDNN primitives over one arena. Everything is made once: primitives
// with a batch of one image, weights reordered into the layout that each primitive asked for, one
// set of memory objects per run in flight. A batch of one makes a slice of channels of a blocked
// map contiguous, so that branches write straight into their concatenation, and makes the result
// for an image independent of its batch. The 2.x and 3.x interfaces differ; the library that is
// opened has the major version of the headers.
#define _GNU_SOURCE
#include "maps.h"
#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FUNCTIONS(X)                                                                               \
    X(dnnl_engine_create)                                                                          \
    X(dnnl_get_effective_cpu_isa)                                                                  \
    X(dnnl_stream_create)                                                                          \
    X(dnnl_stream_destroy)                                                                         \
    X(dnnl_stream_wait)                                                                            \
    X(dnnl_memory_create)                                                                          \
    X(dnnl_memory_destroy)                                                                         \
    X(dnnl_memory_set_data_handle)                                                                 \
    X(dnnl_memory_desc_get_size)                                                                   \
    X(dnnl_primitive_attr_create)                                                                  \
    X(dnnl_primitive_attr_destroy)                                                                 \
    X(dnnl_primitive_attr_set_post_ops)                                                            \
    X(dnnl_primitive_attr_set_scratchpad_mode)                                                     \
    X(dnnl_post_ops_create)                                                                        \
    X(dnnl_post_ops_destroy)                                                                       \
    X(dnnl_post_ops_append_eltwise)                                                                \
    X(dnnl_primitive_desc_query)                                                                   \
    X(dnnl_primitive_desc_query_md)                                                                \
    X(dnnl_primitive_desc_destroy)                                                                 \
    X(dnnl_primitive_create)                                                                       \
    X(dnnl_primitive_destroy)                                                                      \
    X(dnnl_primitive_execute)                                                                      \
    X(dnnl_reorder_primitive_desc_create)
#if DNNL_VERSION_MAJOR >= 3
#define VERSIONED(X)                                                                               \
    X(dnnl_memory_desc_create_with_tag)                                                            \
    X(dnnl_memory_desc_destroy)                                                                    \
    X(dnnl_convolution_forward_primitive_desc_create)                                              \
    X(dnnl_pooling_forward_primitive_desc_create)                                                  \
    X(dnnl_inner_product_forward_primitive_desc_create)
typedef dnnl_memory_desc_t desc;        // owned; a pointer
typedef const_dnnl_memory_desc_t descp; // borrowed
#define AS(d) (d)
#else
#define VERSIONED(X)                                                                               \
    X(dnnl_memory_desc_init_by_tag)                                                                \
    X(dnnl_primitive_desc_create)                                                                  \
    X(dnnl_convolution_forward_desc_init)                                                          \
    X(dnnl_pooling_forward_desc_init)                                                              \
    X(dnnl_inner_product_forward_desc_init)
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t* descp;
#define AS(d) (&(d))
#endif

static struct {
#define X(f) __typeof__(f)* f;
    FUNCTIONS(X) VERSIONED(X)
#undef X
} lib;
static dnnl_engine_t engine;

const char* fl_open(void* handle)
{
#define X(f)                                                                                       \
    if (!(lib.f = (__typeof__(lib.f))dlsym(handle, #f))) return "no function " #f;
    FUNCTIONS(X)
    VERSIONED(X)
#undef X
    if (lib.dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return "no CPU engine";
    return NULL;
}

int fl_isa(void)
{
    static const int levels[] = {dnnl_cpu_isa_avx2, dnnl_cpu_isa_avx512_core,
                                 dnnl_cpu_isa_avx512_core_bf16, dnnl_cpu_isa_avx512_core_amx};
    const int isa = lib.dnnl_get_effective_cpu_isa();
    int n = 0;
    while (n < 4 && (isa & levels[n]) == levels[n])
        n++;
    return n;
}

static const char* status_text(dnnl_status_t s)
{
    switch (s) {
    case dnnl_success: return NULL;
    case dnnl_out_of_memory: return "oneDNN: out of memory";
    case dnnl_invalid_arguments: return "oneDNN: invalid arguments";
    case dnnl_unimplemented: return "oneDNN: not implemented";
    default: return "oneDNN: runtime error";
    }
}

// ---- programs ----

typedef struct {
    fl_op op;
    fl_place src, dst;
    dnnl_primitive_desc_t pd; // kept for its memory descriptions
    dnnl_primitive_t prim;    // NULL: one of the functions above
    void *weight, *bias;
} step;

struct fl_program {
    int steps, room, prefix;
    size_t arena, scratchpad;
    step* step;
};

static void* aligned(size_t n)
{
    void* p = NULL;
    const size_t huge = (size_t)2 << 20;
    if (posix_memalign(&p, n >= huge ? huge : 64, n ? n : 64)) return NULL;
    if (n >= huge) madvise(p, n, MADV_HUGEPAGE);
    return p;
}

static dnnl_status_t describe(desc* d, int n, const dnnl_dims_t dims, dnnl_data_type_t t,
                              dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
    return lib.dnnl_memory_desc_create_with_tag(d, n, dims, t, tag);
#else
    return lib.dnnl_memory_desc_init_by_tag(d, n, dims, t, tag);
#endif
}

static void drop(desc* d)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*d) lib.dnnl_memory_desc_destroy(*d);
    *d = NULL;
#else
    (void)d;
#endif
}

static dnnl_status_t describe_tensor(desc* d, const fl_tensor* t)
{
    static const dnnl_format_tag_t tags[] = {dnnl_nchw, dnnl_nChw8c, dnnl_nChw16c, dnnl_nhwc};
    const dnnl_dims_t dims = {1, t->c, t->h, t->w};
    return describe(d, 4, dims, t->bf16 ? dnnl_bf16 : dnnl_f32, tags[t->layout]);
}

// prepare makes the parameters' copy in the layout of description `want`.
static dnnl_status_t prepare(void** out, const desc* plain, const float* v, descp want)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t prim = NULL;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t s = dnnl_out_of_memory;
    const size_t n = lib.dnnl_memory_desc_get_size(want);
    if (!(*out = aligned(n))) return s;
    memset(*out, 0, n);
    if ((s = lib.dnnl_memory_create(&from, AS(*plain), engine, (void*)v)) == dnnl_success &&
        (s = lib.dnnl_memory_create(&to, want, engine, *out)) == dnnl_success &&
        (s = lib.dnnl_reorder_primitive_desc_create(&pd, AS(*plain), engine, want, engine, NULL)) ==
            dnnl_success &&
        (s = lib.dnnl_primitive_create(&prim, pd)) == dnnl_success &&
        (s = lib.dnnl_stream_create(&stream, engine, dnnl_stream_default_flags)) == dnnl_success) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        s = lib.dnnl_primitive_execute(prim, stream, 2, args);
        if (s == dnnl_success) s = lib.dnnl_stream_wait(stream);
    }
    if (stream) lib.dnnl_stream_destroy(stream);
    if (prim) lib.dnnl_primitive_destroy(prim);
    if (pd) lib.dnnl_primitive_desc_destroy(pd);
    if (from) lib.dnnl_memory_destroy(from);
    if (to) lib.dnnl_memory_destroy(to);
    return s;
}

static dnnl_status_t attributes(dnnl_primitive_attr_t* attr, int relu)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = lib.dnnl_primitive_attr_create(attr);
    if (s == dnnl_success)
        s = lib.dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && relu) {
        if ((s = lib.dnnl_post_ops_create(&ops)) == dnnl_success)
#if DNNL_VERSION_MAJOR >= 3
            s = lib.dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0, 0);
#else
            s = lib.dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0);
#endif
        if (s == dnnl_success) s = lib.dnnl_primitive_attr_set_post_ops(*attr, ops);
        if (ops) lib.dnnl_post_ops_destroy(ops);
    }
    return s;
}

typedef struct {
    desc src, dst, weight, bias, plain; // plain: the weights as they are given
} descs;

static dnnl_status_t describe_all(descs* d, const fl_op* o)
{
    const int linear = o->kind == FL_LINEAR;
    const dnnl_data_type_t type = o->src.bf16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t in = {1, (dnnl_dim_t)o->src.c * o->src.h * o->src.w}, out = {1, o->dst.c};
    const dnnl_dims_t w = {o->dst.c, linear ? in[1] : o->src.c, o->kh, o->kw}, b = {o->dst.c};
    const int n = linear ? 2 : 4;
    dnnl_status_t s =
        linear ? describe(&d->src, 2, in, dnnl_f32, dnnl_ab) : describe_tensor(&d->src, &o->src);
    if (s == dnnl_success)
        s = linear ? describe(&d->dst, 2, out, dnnl_f32, dnnl_ab)
                   : describe_tensor(&d->dst, &o->dst);
    if (s != dnnl_success || (o->kind != FL_CONV && !linear)) return s;
    if ((s = describe(&d->weight, n, w, type, dnnl_format_tag_any)) == dnnl_success &&
        (s = describe(&d->plain, n, w, dnnl_f32, linear ? dnnl_ab : dnnl_abcd)) == dnnl_success)
        s = describe(&d->bias, 1, b, dnnl_f32, dnnl_a);
    return s;
}

static dnnl_status_t primitive_desc(dnnl_primitive_desc_t* pd, const fl_op* o, const descs* d,
                                    dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t stride = {o->sh, o->sw}, kernel = {o->kh, o->kw}, left = {o->ph, o->pw};
    // a pool may stop short of the far edge: the far padding is what the output's size needs
    const dnnl_dims_t right = {(dnnl_dim_t)(o->dst.h - 1) * o->sh + o->kh - o->src.h - o->ph,
                               (dnnl_dim_t)(o->dst.w - 1) * o->sw + o->kw - o->src.w - o->pw};
    const dnnl_alg_kind_t alg = o->kind == FL_CONV  ? dnnl_convolution_direct
                                : o->kind == FL_MAX ? dnnl_pooling_max
                                                    : dnnl_pooling_avg_exclude_padding;
    const dnnl_prop_kind_t prop = dnnl_forward_inference;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl_dims_t none = {0, 0};
    if (o->kind == FL_CONV)
        return lib.dnnl_convolution_forward_primitive_desc_create(pd, engine, prop, alg, d->src,
                                                                  d->weight, d->bias, d->dst,
                                                                  stride, none, left, right, attr);
    if (o->kind == FL_LINEAR)
        return lib.dnnl_inner_product_forward_primitive_desc_create(
            pd, engine, prop, d->src, d->weight, d->bias, d->dst, attr);
    return lib.dnnl_pooling_forward_primitive_desc_create(pd, engine, prop, alg, d->src, d->dst,
                                                          stride, kernel, none, left, right, attr);
#else
    union {
        dnnl_convolution_desc_t conv;
        dnnl_inner_product_desc_t linear;
        dnnl_pooling_desc_t pool;
    } u;
    dnnl_status_t s;
    if (o->kind == FL_CONV)
        s = lib.dnnl_convolution_forward_desc_init(&u.conv, prop, alg, &d->src, &d->weight,
                                                   &d->bias, &d->dst, stride, left, right);
    else if (o->kind == FL_LINEAR)
        s = lib.dnnl_inner_product_forward_desc_init(&u.linear, prop, &d->src, &d->weight, &d->bias,
                                                     &d->dst);
    else
        s = lib.dnnl_pooling_forward_desc_init(&u.pool, prop, alg, &d->src, &d->dst, stride, kernel,
                                               left, right);
    return s == dnnl_success ? lib.dnnl_primitive_desc_create(pd, &u, attr, engine, NULL) : s;
#endif
}

fl_program* fl_program_new(int steps)
{
    fl_program* p = calloc(1, sizeof *p);
    if (p) p->step = calloc(steps, sizeof *p->step), p->room = steps;
    return p && p->step ? p : (free(p), NULL);
}

const char* fl_program_add(fl_program* p, const fl_op* op, fl_place src, fl_place dst,
                           const float* weight, const float* bias, char* impl, int implsize)
{
    if (p->steps == p->room) return "more steps than announced";
    step* t = &p->step[p->steps];
    t->op = *op, t->src = src, t->dst = dst;
    p->steps++;
    if (op->kind >= FL_GLOBAL) {
        strncpy(impl,
                op->kind == FL_COPY    ? "copy"
                : op->kind == FL_SPLIT ? "split"
                                       : "average",
                implsize - 1);
        return NULL;
    }
    descs d;
    memset(&d, 0, sizeof d);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = attributes(&attr, op->relu);
    if (s == dnnl_success) s = describe_all(&d, op);
    if (s == dnnl_success) s = primitive_desc(&t->pd, op, &d, attr);
    if (s == dnnl_success) s = lib.dnnl_primitive_create(&t->prim, t->pd);
    if (s == dnnl_success && weight) {
        const size_t n = op->dst.c * sizeof(float);
        s = prepare(&t->weight, &d.plain, weight,
                    lib.dnnl_primitive_desc_query_md(t->pd, dnnl_query_weights_md, 0));
        if ((t->bias = aligned(n)) == NULL)
            s = dnnl_out_of_memory;
        else if (bias)
            memcpy(t->bias, bias, n);
        else
            memset(t->bias, 0, n);
    }
    if (s == dnnl_success) {
        const char* name = "";
        lib.dnnl_primitive_desc_query(t->pd, dnnl_query_impl_info_str, 0, (void*)&name);
        strncpy(impl, name, implsize - 1);
        const size_t n = lib.dnnl_memory_desc_get_size(
            lib.dnnl_primitive_desc_query_md(t->pd, dnnl_query_scratchpad_md, 0));
        if (n > p->scratchpad) p->scratchpad = n;
    }
    drop(&d.src), drop(&d.dst), drop(&d.weight), drop(&d.bias), drop(&d.plain);
    if (attr) lib.dnnl_primitive_attr_destroy(attr);
    return status_text(s);
}

void fl_program_end(fl_program* p, size_t arena, int prefix)
{
    p->arena = arena;
    p->prefix = prefix;
}

void fl_program_free(fl_program* p)
{
    for (int i = 0; i < p->steps; i++) {
        step* t = &p->step[i];
        if (t->prim) lib.dnnl_primitive_destroy(t->prim);
        if (t->pd) lib.dnnl_primitive_desc_destroy(t->pd);
        free(t->weight), free(t->bias);
    }
    free(p->step);
    free(p);
}

// ---- contexts ----

enum { SRC, DST, SCRATCH, WEIGHT, BIAS, ARGS };

struct fl_context {
    fl_program* p;
    char *arena, *scratchpad;
    dnnl_stream_t stream;
    dnnl_exec_arg_t (*args)[ARGS]; // per step; their memory objects are owned
    int* argc;
};

fl_context* fl_context_new(fl_program* p)
{
    fl_context* x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->p = p;
    x->arena = aligned(p->arena);
    x->scratchpad = aligned(p->scratchpad);
    x->args = calloc(p->steps, sizeof *x->args);
    x->argc = calloc(p->steps, sizeof *x->argc);
    if (!x->arena || !x->scratchpad || !x->args || !x->argc ||
        lib.dnnl_stream_create(&x->stream, engine, dnnl_stream_default_flags) != dnnl_success)
        return fl_context_free(x), NULL;
    for (int i = 0; i < p->steps; i++) {
        const step* t = &p->step[i];
        if (!t->prim) continue;
        const struct {
            int arg;
            dnnl_query_t what;
            void* at;
        } want[ARGS] = {{DNNL_ARG_SRC, dnnl_query_src_md, NULL},
                        {DNNL_ARG_DST, dnnl_query_dst_md, NULL},
                        {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, x->scratchpad},
                        {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, t->weight},
                        {DNNL_ARG_BIAS, dnnl_query_weights_md, t->bias}};
        const int n = t->weight ? ARGS : WEIGHT;
        for (int k = 0; k < n; k++) {
            descp md = lib.dnnl_primitive_desc_query_md(t->pd, want[k].what, k == BIAS);
            x->args[i][k].arg = want[k].arg;
            if (lib.dnnl_memory_create(&x->args[i][k].memory, md, engine,
                                       want[k].at ? want[k].at : x->arena) != dnnl_success)
                return fl_context_free(x), NULL;
            x->argc[i] = k + 1;
        }
    }
    return x;
}

void fl_context_free(fl_context* x)
{
    for (int i = 0; x->args && x->argc && i < x->p->steps; i++)
        for (int k = 0; k < x->argc[i]; k++)
            lib.dnnl_memory_destroy(x->args[i][k].memory);
    if (x->stream) lib.dnnl_stream_destroy(x->stream);
    free(x->args), free(x->argc), free(x->arena), free(x->scratchpad);
    free(x);
}

static char* place(fl_context* x, fl_place at, int b, const float* input)
{
    return (at.offset == FL_INPUT ? (char*)input : x->arena + at.offset) + b * at.stride;
}

static dnnl_status_t run_step(fl_context* x, int i, int b, const float* input)
{
    const step* t = &x->p->step[i];
    char *src = place(x, t->src, b, input), *dst = place(x, t->dst, b, input);
    if (t->op.kind == FL_GLOBAL) {
        fl_global_average(&t->op.src, src, (float*)dst);
        return dnnl_success;
    }
    if (t->op.kind == FL_COPY) {
        fl_copy_channels(&t->op.src, src, &t->op.dst, dst, t->op.channel);
        return dnnl_success;
    }
    if (t->op.kind == FL_SPLIT) {
        fl_split_channels(&t->op.src, src, &t->op.dst, dst);
        return dnnl_success;
    }
    dnnl_exec_arg_t* a = x->args[i];
    dnnl_status_t s = lib.dnnl_memory_set_data_handle(a[SRC].memory, src);
    if (s == dnnl_success) s = lib.dnnl_memory_set_data_handle(a[DST].memory, dst);
    if (s == dnnl_success) s = lib.dnnl_primitive_execute(t->prim, x->stream, x->argc[i], a);
    return s;
}

const char* fl_run(fl_context* x, int n, const float* input)
{
    const fl_program* p = x->p;
    dnnl_status_t s = dnnl_success;
    for (int b = 0; b < n && s == dnnl_success; b++)
        for (int i = 0; i < p->prefix && s == dnnl_success; i++)
            s = run_step(x, i, b, input);
    for (int i = p->prefix; i < p->steps && s == dnnl_success; i++)
        for (int b = 0; b < n && s == dnnl_success; b++)
            s = run_step(x, i, b, input);
    if (s == dnnl_success) s = lib.dnnl_stream_wait(x->stream);
    return status_text(s);
}

void fl_fetch(fl_context* x, const fl_tensor* t, fl_place from, int n, float* out)
{
    for (int b = 0; b < n; b++)
        fl_plain(t, place(x, from, b, NULL), out + (size_t)b * t->c * t->h * t->w);
}
