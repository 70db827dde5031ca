//go:build native && cgo

// dnnl.c - opens oneDNN, of the major version of the headers.

#define _GNU_SOURCE
#include "native.h"
#include "dnnl_api.h"
#include <dlfcn.h>
#include <stdio.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)

struct dnn_table dnn;
static void *lib, *omp;
static void (*omp_threads)(int);

const char* dnn_open(void)
{
    static const char *const names[] = {"libdnnl.so." STRING(DNNL_VERSION_MAJOR), NULL},
                             *const omps[] = {"libgomp.so.1", NULL};
    static char text[600];
    lib = dl_open(names);
    if (!lib) {
        snprintf(text, sizeof text, "%s", dl_why());
        return text;
    }
#define X(f)                                                                                       \
    if (!(dnn.f = (__typeof__(dnn.f))dlsym(lib, #f))) return "it lacks the function " #f;
    DNN_FUNCTIONS(X)
    DNN_VERSIONED(X)
#undef X
    const dnnl_version_t* v = dnn.dnnl_version();
    if (v->major != DNNL_VERSION_MAJOR) {
        snprintf(text, sizeof text, "it is version %d.%d.%d, the headers were %d.x", v->major,
                 v->minor, v->patch, DNNL_VERSION_MAJOR);
        return text;
    }
    if (v->cpu_runtime == DNNL_RUNTIME_OMP) {
        omp_threads = (__typeof__(omp_threads))dlsym(
            lib, "omp_set_num_threads"); // finds it in what lib needs, be it GNU's or LLVM's
        if (!omp_threads && (omp = dl_open(omps)))
            omp_threads = (__typeof__(omp_threads))dlsym(omp, "omp_set_num_threads");
        if (!omp_threads) return "its OpenMP library lacks omp_set_num_threads";
    } else if (v->cpu_runtime != DNNL_RUNTIME_SEQ) {
        snprintf(text, sizeof text, "its threads are of kind %u, want OpenMP or none",
                 v->cpu_runtime);
        return text;
    }
    if (dnn.dnnl_engine_create(&dnn.engine, dnnl_cpu, 0) != dnnl_success)
        return "it has no CPU engine";
    return NULL;
}

void* dnn_handle(void) { return lib; }
const char* dnn_path(void) { return dl_path(lib); }

void dnn_version(int* major, int* minor, int* patch)
{
    const dnnl_version_t* v = dnn.dnnl_version();
    *major = v->major;
    *minor = v->minor;
    *patch = v->patch;
}

void dnn_single_thread(void)
{
    if (omp_threads) omp_threads(1);
}

static int uses(int isa) { return ((int)dnn.dnnl_get_effective_cpu_isa() & isa) == isa; }

int dnn_avx512(void) { return uses(dnnl_cpu_isa_avx512_core); }

int dnn_bf16(void)
{
    if (uses(dnnl_cpu_isa_avx512_core_amx)) return 2;
    if (!uses(dnnl_cpu_isa_avx512_core_bf16)) return 0;
#if defined(__x86_64__)
    if (__builtin_cpu_is("amd")) return 2;
#endif
    return 1;
}

int dnn_sgemm(int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda,
              const float* b, int ldb, float beta, float* c, int ldc)
{
    return dnn.dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c,
                          ldc) == dnnl_success
               ? 0
               : -1;
}
