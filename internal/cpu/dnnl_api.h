// dnnl_api.h - oneDNN's functions as a table of pointers, filled by dnn_open.
#ifndef FIDLAB_CPU_DNNL_API_H
#define FIDLAB_CPU_DNNL_API_H

#include <dnnl.h>

#define DNN_FUNCTIONS(X)                                                                           \
    X(dnnl_version)                                                                                \
    X(dnnl_engine_create)                                                                          \
    X(dnnl_get_effective_cpu_isa)                                                                  \
    X(dnnl_stream_create)                                                                          \
    X(dnnl_stream_wait)                                                                            \
    X(dnnl_memory_create)                                                                          \
    X(dnnl_memory_destroy)                                                                         \
    X(dnnl_memory_set_data_handle)                                                                 \
    X(dnnl_memory_desc_equal)                                                                      \
    X(dnnl_memory_desc_get_size)                                                                   \
    X(dnnl_primitive_attr_create)                                                                  \
    X(dnnl_primitive_attr_destroy)                                                                 \
    X(dnnl_primitive_attr_set_post_ops)                                                            \
    X(dnnl_primitive_attr_set_scratchpad_mode)                                                     \
    X(dnnl_post_ops_create)                                                                        \
    X(dnnl_post_ops_destroy)                                                                       \
    X(dnnl_post_ops_append_eltwise)                                                                \
    X(dnnl_primitive_desc_query_md)                                                                \
    X(dnnl_primitive_desc_destroy)                                                                 \
    X(dnnl_primitive_create)                                                                       \
    X(dnnl_primitive_destroy)                                                                      \
    X(dnnl_primitive_execute)                                                                      \
    X(dnnl_reorder_primitive_desc_create)                                                          \
    X(dnnl_sgemm)

// The major versions differ in how descriptors are made: a struct that the
// caller owns in 2.x, an object behind a pointer in 3.x.
#if DNNL_VERSION_MAJOR >= 3
#define DNN_VERSIONED(X)                                                                           \
    X(dnnl_memory_desc_create_with_tag)                                                            \
    X(dnnl_memory_desc_create_with_strides)                                                        \
    X(dnnl_memory_desc_destroy)                                                                    \
    X(dnnl_convolution_forward_primitive_desc_create)                                              \
    X(dnnl_convolution_backward_data_primitive_desc_create)                                        \
    X(dnnl_convolution_backward_weights_primitive_desc_create)                                     \
    X(dnnl_matmul_primitive_desc_create)
typedef const_dnnl_memory_desc_t dnn_mdp;
#define DNN_MDP(d) (d)
#else
#define DNN_VERSIONED(X)                                                                           \
    X(dnnl_memory_desc_init_by_tag)                                                                \
    X(dnnl_memory_desc_init_by_strides)                                                            \
    X(dnnl_primitive_desc_create)                                                                  \
    X(dnnl_convolution_forward_desc_init)                                                          \
    X(dnnl_dilated_convolution_forward_desc_init)                                                  \
    X(dnnl_dilated_convolution_backward_data_desc_init)                                            \
    X(dnnl_dilated_convolution_backward_weights_desc_init)                                         \
    X(dnnl_matmul_desc_init)
typedef const dnnl_memory_desc_t* dnn_mdp;
#define DNN_MDP(d) (&(d))
#endif

extern struct dnn_table {
#define X(f) __typeof__(&f) f;
    DNN_FUNCTIONS(X)
    DNN_VERSIONED(X)
#undef X
    dnnl_engine_t engine;
} dnn __attribute__((visibility("hidden")));

#endif
