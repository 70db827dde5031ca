// native.h - the C side of internal/cpu: what each file offers to its Go file.
//
// No library is linked. Each one is compiled against its header, opened with
// dlopen at first use and called through a table of pointers. The *_open
// functions return NULL when the table is complete, else why it is not (the
// text stays valid until the next call), and may be called once only.
#ifndef FIDLAB_CPU_NATIVE_H
#define FIDLAB_CPU_NATIVE_H

#include <stddef.h>
#include <stdint.h>

// dl.c
void* dl_open(const char* const* names); // the first that opens, or NULL
const char* dl_why(void);                // why the last dl_open failed
const char* dl_path(void* lib);          // the file behind a handle, or ""

// openblas.c
const char* blas_core(const char* core, int avx2, int avx512);
const char* blas_open(void);
const char* blas_config(void);
const char* blas_path(void);
int blas_parallel(void); // 0 serial build, 1 own threads, 2 OpenMP
void blas_threads(int n);
void blas_sgemm(int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda,
                const float* b, int ldb, float beta, float* c, int ldc);
void blas_dgemm(int ta, int tb, int m, int n, int k, double alpha, const double* a, int lda,
                const double* b, int ldb, double beta, double* c, int ldc);
void blas_dsyrk(int n, int k, double alpha, const double* a, int lda, double beta, double* c,
                int ldc);
void blas_dtrmm(int left, int trans, int m, int n, double alpha, const double* l, int ldl,
                double* b, int ldb);
// The LAPACK functions see a row-major matrix as its transpose; they return info.
int blas_dpotrf(int n, double* a, int lda);
int blas_dsyevd(int vectors, int n, double* a, int lda, double* w);
int blas_dsygst(int n, double* a, int lda, const double* l, int ldl);
int blas_dgesdd(int m, int n, double* a, int lda, double* s);

// dnnl.c
const char* dnn_open(void);
void* dnn_handle(void);
const char* dnn_path(void);
void dnn_version(int* major, int* minor, int* patch);
void dnn_single_thread(void); // this OS thread's OpenMP teams have one member from now on
int dnn_avx512(void);
int dnn_bf16(void); // 0 no bf16 instructions, 1 slow ones, 2 faster than float32's
// dnn_sgemm is cblas_sgemm of row-major matrices; 0 when it was done.
int dnn_sgemm(int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda,
              const float* b, int ldb, float beta, float* c, int ldc);

// dnnl_ops.c
typedef struct dnn_op dnn_op;
// A convolution of NCHW by OIHW, and a product of op(A) m x k and op(B) k x n, low: rounded to bf16
// and summed in float32, else of matrices without gaps; NULL when oneDNN can't.
dnn_op* dnn_conv(int n, int c, int h, int w, int out, int kh, int kw, int sh, int sw, int ph,
                 int pw, int bias, int relu);
// The same with any padding; kind is 0 for the product, 1 for the gradient by the source, 2 by the
// weights; low: operands are rounded to bf16. dnn_run takes what is a result as it takes the others.
dnn_op* dnn_conv_train(int kind, int n, int c, int h, int w, int out, int kh, int kw, int step,
                       int top, int bottom, int left, int right, int dilation, int last, int biased,
                       int low);
dnn_op* dnn_matmul(int low, int ta, int tb, int m, int n, int k, int lda, int ldb, int ldc);
int dnn_run(dnn_op* op, const float* src, const float* weights, const float* bias,
            float* dst); // 0 or -1
void dnn_op_free(dnn_op* op);

// turbojpeg.c
const char* jpeg_open(void);
const char* jpeg_path(void);
void* jpeg_decoder(void); // NULL when out of memory
void jpeg_free(void* decoder);
const char* jpeg_error(void* decoder);
int jpeg_header(void* decoder, const unsigned char* data, size_t size, int* width, int* height,
                int* channels); // 0 or -1
int jpeg_pixels(void* decoder, const unsigned char* data, size_t size, int width, int height,
                int channels, unsigned char* out); // 0, 1 (a warning) or -1

// deflate.c
const char* deflate_open(void);
const char* deflate_path(void);
void* deflate_decoder(void);
int deflate_zlib(void* decoder, const void* in, size_t in_size, void* out, size_t out_size,
                 size_t* written);

// vec.c; the linear combinations return whether every result is finite
int vec_vectors(void);
int vec_lincomb32(int vectors, long n, int k, float* out, const double* c, const float* x0,
                  const float* x1, const float* x2, const float* x3, const float* x4,
                  const float* x5, const float* x6, const float* x7);
int vec_lincomb64(long n, int k, double* out, const double* c, const double* x0, const double* x1,
                  const double* x2, const double* x3, const double* x4, const double* x5,
                  const double* x6, const double* x7);
void vec_triad(long n, float* out, const float* a, const float* b, float s);
void vec_relu(long n, float* out, const float* x);
void vec_exp(long n, float* out, const float* x);
void vec_softmax(long rows, long n, float* out, long ldo, const float* x, long ldx);

// func.c
void vec_func(int f, float a, float b, long n, float* out, const float* x);
void vec_func_back(int f, float a, float b, long n, float* dx, const float* x, const float* dy,
                   int acc);
// Rows of n: out = f(x) v, and its gradients; x, v, dx and dv have the row stride ldx.
void vec_gated(int f, float a, float b, long rows, long n, float* out, long ldo, const float* x,
               const float* v, long ldx);
void vec_gated_back(int f, float a, float b, long rows, long n, float* dx, float* dv,
                    const float* x, const float* v, long ldx, const float* dy, long ldy);

// half.c
void vec_round16(long rows, long n, float* out, long ldo, const float* x, long ldx);
// The upper halves, in rows without gaps.
void vec_narrow16(long rows, long n, uint16_t* out, const float* x, long ldx);

// rows.c
void vec_pair(int op, int acc, long rows, long n, float* out, long ldo, const float* a, long lda,
              int ia, const float* b, long ldb, int ib);
void vec_colsum(long rows, long n, float* out, const float* a, long lda, const float* b, long ldb);
void vec_rowsum(long rows, long n, float* out, const float* a, long lda, const float* b, long ldb);
void vec_norm(int rms, double eps, long rows, long n, float* y, float* mean, float* inv,
              const float* x, const float* w, const float* b, const float* scale,
              const float* shift);
void vec_norm_back(int rms, long rows, long n, float* dx, int acc, const float* x, const float* dy,
                   const float* mean, const float* inv, const float* w, const float* b,
                   const float* scale, float* dw, float* db, float* dscale, float* dshift);
void vec_softmax_back(long rows, long n, float* dx, int acc, const float* y, const float* dy);
void vec_chan_squares(long rows, long n, float* out, const float* x, const float* mean);
void vec_chan_affine(int silu, long rows, long n, float* y, const float* x, const float* a,
                     const float* b);
void vec_chan_back_sums(int silu, long rows, long n, float* sum, float* along, const float* x,
                        const float* dy, const float* a, const float* b, const float* mean);
void vec_chan_back(int silu, int acc, long rows, long n, float* dx, const float* x, const float* dy,
                   const float* a, const float* b, const float* p, const float* q, const float* r);
void vec_blend(long n, float* out, int acc, float p, const float* x, float q, const float* y,
               float r);
void vec_expsum(long rows, long n, float* max, float* sum, const float* x);
void vec_exp_back(long rows, long n, float* dx, int acc, const float* x, const float* lse,
                  const float* g);

// optim.c
void vec_adam(long n, float* p, float* m, float* v, const float* g, float scale, float beta1,
              float beta2, float step, float root, float eps, float keep, float l2);
void vec_lion(long n, float* p, float* m, const float* g, float scale, float beta1, float beta2,
              float lr, float keep);
void vec_lion16(long n, float* p, uint16_t* m, const float* g, float scale, float beta1,
                float beta2, float lr, float keep);
double vec_sumsq(long n, const float* x);

// attention.c
#include "attention.h"
int attn_vectors(void); // 0 there is no code for this processor, 1 AVX2, 2 AVX-512
int64_t attn_floats(int64_t d);
void attn_forward(int vectors, const attn_head* p, void* out, float* lse, const void* q,
                  const void* k, const void* v, const float* bias, const uint8_t* blocks,
                  float* scratch);
void attn_backward(int vectors, const attn_head* p, float* dq, float* dk, float* dv, float* dbias,
                   const void* q, const void* k, const void* v, const void* dout, const float* lse,
                   const float* delta, const float* bias, const uint8_t* blocks, const float* grad,
                   const int32_t* slot, float* scratch);
void attn_maps(int vectors, const attn_head* p, float* maps, int more, const void* q, const void* k,
               const float* lse, const float* bias, const int32_t* chosen, int64_t n,
               float* scratch);
void attn_delta(int vectors, const attn_head* p, float* delta, const void* q, const void* k,
                const float* lse, const float* bias, const float* grad, const int32_t* slot,
                float* scratch);

// pool2d.c
void vec_pool(float* out, int oh, int ow, const float* in, int h, int w, int kh, int kw, int sh,
              int sw, int ph, int pw, int average, int padded);

// resample.c
void resample_rgb(const uint8_t* pix, long in_w, long out_w, long out_h, int htaps,
                  const int32_t* hstart, const double* hweight, int vtaps, const int32_t* vstart,
                  const double* vweight, double* line, double* ring, float* dst, float scale,
                  float offset, int clip);

#endif
