//go:build native && cgo

// openblas.c - OpenBLAS and the LAPACK inside it, through a table of pointers.

#define _GNU_SOURCE
#include "native.h"
#include <cblas.h>
#include <dlfcn.h>
#include <lapack.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct {
    void* lib;
    __typeof__(&cblas_sgemm) sgemm;
    __typeof__(&cblas_dgemm) dgemm;
    __typeof__(&cblas_dsyrk) dsyrk;
    __typeof__(&cblas_dtrmm) dtrmm;
    __typeof__(&LAPACK_dpotrf_base) dpotrf;
    __typeof__(&LAPACK_dsygst_base) dsygst;
    __typeof__(&LAPACK_dsyevd_base) dsyevd;
    __typeof__(&LAPACK_dgesdd_base) dgesdd;
    __typeof__(&openblas_set_num_threads) set_num_threads;
    __typeof__(&openblas_get_config) get_config;
    __typeof__(&openblas_get_parallel) get_parallel;
} blas;

static const char* complain(const char* what, const char* name)
{
    static char text[600];
    snprintf(text, sizeof text, "%s%s", what, name);
    return text;
}

// blas_core names the kernels to take in place of those of core, or is NULL. OpenBLAS knows
// processors by their model numbers; one that is newer than the library, or that a virtual machine
// shows without all its features, can get kernels of SSE3, ten times slower than what it can run.
const char* blas_core(const char* core, int avx2, int avx512)
{
    static const char* const narrow[] = {"Katmai",     "Coppermine",  "Northwood",    "Prescott",
                                         "Banias",     "Atom",        "Core2",        "Penryn",
                                         "Dunnington", "Nehalem",     "Athlon",       "Opteron",
                                         "Barcelona",  "Bobcat",      "Opteron_SSE3", "Bulldozer",
                                         "Piledriver", "Steamroller", "Nano",         "Sandybridge",
                                         NULL};
    if (!avx2) return NULL;
    for (int i = 0; narrow[i]; i++)
        if (!strcasecmp(core, narrow[i])) return avx512 ? "SkylakeX" : "Haswell";
    return NULL;
}

// blas_widen lets OpenBLAS choose once more where its own choice wastes the processor. What
// OPENBLAS_CORETYPE says stands.
static void blas_widen(void)
{
#if defined(__x86_64__)
    const char* (*corename)(void) = (__typeof__(corename))dlsym(blas.lib, "openblas_get_corename");
    void (*quit)(void) = (__typeof__(quit))dlsym(blas.lib, "gotoblas_dynamic_quit");
    void (*init)(void) = (__typeof__(init))dlsym(blas.lib, "gotoblas_dynamic_init");
    if (!corename || !quit || !init || getenv("OPENBLAS_CORETYPE")) return;
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512cd");
    const char* core = blas_core(corename(), avx2, avx512);
    if (!core) return;
    setenv("OPENBLAS_CORETYPE", core, 1);
    quit();
    init();
    unsetenv("OPENBLAS_CORETYPE");
#endif
}

const char* blas_open(void)
{
    static const char* const names[] = {"libopenblas.so.0", "libopenblasp.so.0", NULL};
    blas.lib = dl_open(names);
    if (!blas.lib) return complain("", dl_why());
#define FIND(field, name)                                                                          \
    if (!(blas.field = (__typeof__(blas.field))dlsym(blas.lib, name)))                             \
    return complain("it lacks the function ", name)
    FIND(sgemm, "cblas_sgemm");
    FIND(dgemm, "cblas_dgemm");
    FIND(dsyrk, "cblas_dsyrk");
    FIND(dtrmm, "cblas_dtrmm");
    FIND(dpotrf, "dpotrf_");
    FIND(dsygst, "dsygst_");
    FIND(dsyevd, "dsyevd_");
    FIND(dgesdd, "dgesdd_");
    FIND(set_num_threads, "openblas_set_num_threads");
    FIND(get_config, "openblas_get_config");
    FIND(get_parallel, "openblas_get_parallel");
#undef FIND
    if (strstr(blas.get_config(), "USE64BITINT"))
        return "its integers have 64 bits, want the 32-bit build";
    blas_widen();
    blas.set_num_threads(1);
    return NULL;
}

const char* blas_config(void) { return blas.get_config(); }
const char* blas_path(void) { return dl_path(blas.lib); }
int blas_parallel(void) { return blas.get_parallel(); }
void blas_threads(int n) { blas.set_num_threads(n); }

static CBLAS_TRANSPOSE op(int trans) { return trans ? CblasTrans : CblasNoTrans; }

void blas_sgemm(int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda,
                const float* b, int ldb, float beta, float* c, int ldc)
{
    blas.sgemm(CblasRowMajor, op(ta), op(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void blas_dgemm(int ta, int tb, int m, int n, int k, double alpha, const double* a, int lda,
                const double* b, int ldb, double beta, double* c, int ldc)
{
    blas.dgemm(CblasRowMajor, op(ta), op(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void blas_dsyrk(int n, int k, double alpha, const double* a, int lda, double beta, double* c,
                int ldc)
{
    blas.dsyrk(CblasRowMajor, CblasLower, CblasTrans, n, k, alpha, a, lda, beta, c, ldc);
}

void blas_dtrmm(int left, int trans, int m, int n, double alpha, const double* l, int ldl,
                double* b, int ldb)
{
    blas.dtrmm(CblasRowMajor, left ? CblasLeft : CblasRight, CblasLower, op(trans), CblasNonUnit, m,
               n, alpha, l, ldl, b, ldb);
}

// gfortran passes the lengths of character arguments behind the others; older
// headers do not declare them.
#ifdef LAPACK_FORTRAN_STRLEN_END
#define LEN1 , 1
#define LEN2 , 1, 1
#else
#define LEN1
#define LEN2
#endif

int blas_dpotrf(int n, double* a, int lda)
{
    lapack_int nn = n, ld = lda, info = 0;
    blas.dpotrf("U", &nn, a, &ld, &info LEN1);
    return info;
}

int blas_dsygst(int n, double* a, int lda, const double* l, int ldl)
{
    lapack_int kind = 2, nn = n, ld = lda, ld2 = ldl, info = 0;
    blas.dsygst(&kind, "U", &nn, a, &ld, l, &ld2,
                &info LEN1); // row-major L is column-major U = L^T
    return info;
}

int blas_dsyevd(int vectors, int n, double* a, int lda, double* w)
{
    const char* job = vectors ? "V" : "N";
    lapack_int nn = n, ld = lda, lwork = -1, liwork = -1, info = 0, isize = 0;
    double size = 0;
    blas.dsyevd(job, "U", &nn, a, &ld, w, &size, &lwork, &isize, &liwork, &info LEN2);
    if (info) return info;
    if (size > INT_MAX) return INT_MAX;
    lwork = (lapack_int)size;
    liwork = isize;
    double* work = malloc(sizeof(double) * (size_t)lwork);
    lapack_int* iwork = malloc(sizeof(lapack_int) * (size_t)liwork);
    if (work && iwork)
        blas.dsyevd(job, "U", &nn, a, &ld, w, work, &lwork, iwork, &liwork, &info LEN2);
    else
        info = INT_MAX;
    free(work);
    free(iwork);
    return info;
}

int blas_dgesdd(int m, int n, double* a, int lda, double* s)
{
    lapack_int rows = n, cols = m, ld = lda, one = 1, lwork = -1, info = 0;
    lapack_int* iwork = malloc(sizeof(lapack_int) * 8 * (size_t)(m < n ? m : n));
    if (!iwork) return INT_MAX;
    double size = 0, *work = NULL;
    blas.dgesdd("N", &rows, &cols, a, &ld, s, NULL, &one, NULL, &one, &size, &lwork, iwork,
                &info LEN1);
    if (!info && size <= INT_MAX) {
        lwork = (lapack_int)size;
        work = malloc(sizeof(double) * (size_t)lwork);
    }
    if (work)
        blas.dgesdd("N", &rows, &cols, a, &ld, s, NULL, &one, NULL, &one, work, &lwork, iwork,
                    &info LEN1);
    else if (!info)
        info = INT_MAX;
    free(work);
    free(iwork);
    return info;
}
