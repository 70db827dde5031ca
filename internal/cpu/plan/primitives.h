//go:build native && cgo

// primitives.h - the part of a plan that talks to oneDNN. See primitives.c.
#ifndef FIDLAB_PLAN_DNNL_H
#define FIDLAB_PLAN_DNNL_H
#include <stddef.h>

// How one image's values lie in memory. BLOCK8 and BLOCK16 are [ceil(C/b)][H][W][b], the lanes
// beyond C are zero.
enum { FL_PLAIN, FL_BLOCK8, FL_BLOCK16, FL_NHWC };

enum { FL_CONV, FL_MAX, FL_AVG, FL_LINEAR, FL_GLOBAL, FL_COPY, FL_SPLIT };

// One image's tensor.
typedef struct {
    int c, h, w, layout, bf16;
} fl_tensor;

// One operation. A copy writes src to the channels of dst from `channel` on; a split writes the
// bf16 terms of src, high, low and high, as three times its channels.
typedef struct {
    fl_tensor src, dst;
    int kind, kh, kw, sh, sw, ph, pw, relu, channel;
} fl_op;

// Where an operand lies: image b is at arena + offset + b * stride, or, where offset is
// FL_INPUT, at input + b * stride.
typedef struct {
    size_t offset, stride;
} fl_place;
#define FL_INPUT ((size_t)-1)

typedef struct fl_program fl_program; // primitives and weights; immutable once built
typedef struct fl_context fl_context; // memory of one run in flight

// fl_open binds the functions of an open library. It returns NULL or why it can't be used.
const char* fl_open(void* lib);
// fl_isa is 0 below AVX2, then 1 AVX2, 2 AVX-512, 3 with bf16, 4 with AMX, as oneDNN uses them.
int fl_isa(void);
size_t fl_bytes(const fl_tensor* t);

fl_program* fl_program_new(int steps);
// fl_program_add appends an operation; weight is [out][in][kh][kw] or [out][in], bias may be
// NULL. impl receives the implementation's name. It returns NULL or an error.
const char* fl_program_add(fl_program* p, const fl_op* op, fl_place src, fl_place dst,
                           const float* weight, const float* bias, char* impl, int implsize);
// fl_program_end sets the arena's size and the number of leading steps that are run image by image.
void fl_program_end(fl_program* p, size_t arena, int prefix);
void fl_program_free(fl_program* p);

fl_context* fl_context_new(fl_program* p);
void fl_context_free(fl_context* x);
// fl_run runs the program on n images [n][C][H][W].
const char* fl_run(fl_context* x, int n, const float* input);
// fl_fetch writes a tensor of the last run as [n][C][H][W] float32.
void fl_fetch(fl_context* x, const fl_tensor* t, fl_place at, int n, float* out);
#endif
