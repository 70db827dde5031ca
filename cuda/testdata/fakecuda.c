//go:build native && cgo

// A pretended libcuda.so.1 for the tests of this package: two devices, memory from
// the heap with a budget, streams that work at once, graphs, and two kernels. The
// environment variable FAKE_CUDA changes what it answers. It refuses what a driver
// refuses: calls without a current context, waits and copies during capture.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long ptr;
enum { MEMORY = 64 << 20, MAX_NODES = 64, MAX_ARGS = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t used;
static int fatal_after;
static _Thread_local void* current;

static int mode(const char* m)
{
    const char* e = getenv("FAKE_CUDA");
    return e != NULL && strcmp(e, m) == 0;
}

int cuInit(unsigned f) { return f != 0 ? 1 : mode("nodevice") ? 100 : mode("broken") ? 999 : 0; }
int cuDriverGetVersion(int* v)
{
    *v = mode("r550") ? 12040 : 13000;
    return 0;
}
int cuDeviceGetCount(int* n)
{
    *n = mode("zero") ? 0 : 2;
    return mode("nocount") ? 3 : 0;
}
int cuDeviceGet(int* d, int i)
{
    *d = 10 + i;
    return i > 1 || (mode("lost") && i == 1) ? 101 : 0;
}
int cuDeviceGetName(char* s, int n, int d)
{
    snprintf(s, n, "Fake %d", d);
    return 0;
}
int cuDeviceGetAttribute(int* v, int a, int d)
{
    *v = a == 75 ? (mode("volta") ? 7 : 9) : a == 76 ? d - 10 : a == 97 ? 232448 : -1;
    return 0;
}
#ifndef OLD
int cuDeviceTotalMem_v2(size_t* b, int d)
{
    *b = (size_t)d << 30;
    return 0;
}
#endif

int cuGetErrorString(int s, const char** t)
{
    *t = s == 304 ? "OS call failed or operation not supported on this OS" : NULL;
    return *t ? 0 : 1;
}

// A context's handle is the address of its cell.
static int contexts[2];
int cuDevicePrimaryCtxRetain(void** c, int d)
{
    *c = &contexts[d - 10];
    return mode("exclusive") ? 46 : 0;
}
int cuCtxSetCurrent(void* c)
{
    current = c;
    return 0;
}

// Every call below wants a context.
#define NEED_CONTEXT                                                                               \
    if (current == NULL) return 201

int cuMemGetInfo_v2(size_t* f, size_t* t)
{
    NEED_CONTEXT;
    *f = MEMORY - used;
    *t = MEMORY;
    return 0;
}
int cuMemAlloc_v2(ptr* p, size_t n)
{
    NEED_CONTEXT;
    pthread_mutex_lock(&lock);
    int rc = 2;
    if (n <= MEMORY - used) {
        size_t* m = aligned_alloc(512, ((n + 511) & ~(size_t)511) + 512);
        *m = n, used += n, rc = 0;
        *p = (ptr)(m + 64);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}
int cuMemFree_v2(ptr p)
{
    NEED_CONTEXT;
    pthread_mutex_lock(&lock);
    size_t* m = (size_t*)p - 64;
    used -= *m;
    free(m);
    pthread_mutex_unlock(&lock);
    return 0;
}
int cuMemHostAlloc(void** p, size_t n, unsigned f)
{
    NEED_CONTEXT;
    *p = malloc(n);
    return f != 0;
}
int cuMemFreeHost(void* p)
{
    free(p);
    return 0;
}

// Work is done at once, or kept in the stream's graph while it captures.
typedef struct {
    int kind;
    ptr dst, src;
    size_t n;
    void* fn;
    unsigned long long args[MAX_ARGS];
} node;
typedef struct {
    int count;
    node nodes[MAX_NODES];
} graph;
typedef struct {
    graph* capture;
} stream;
typedef struct {
    struct timespec t;
    int timing;
} event;

static int scale(unsigned long long* a)
{ // (y, x, factor, n)
    float *y = (float*)a[0], *x = (float*)a[1], f;
    memcpy(&f, &a[2], 4);
    for (int i = 0; i < (int)a[3]; i++) {
        y[i] = f * x[i];
    }
    return 0;
}
static int fault(unsigned long long* a)
{
    (void)a;
    fatal_after = 700;
    return 0;
}

static int run(node* n)
{
    switch (n->kind) {
    case 0: memcpy((void*)n->dst, (void*)n->src, n->n); return 0;
    case 1: memset((void*)n->dst, (int)n->src, n->n); return 0;
    default: return ((int (*)(unsigned long long*))n->fn)(n->args);
    }
}
static int put(stream* s, node n)
{
    NEED_CONTEXT;
    if (fatal_after > 0) return fatal_after;
    if (s->capture == NULL) return run(&n);
    s->capture->nodes[s->capture->count++] = n;
    return 0;
}

int cuStreamCreate(stream** s, unsigned f)
{
    NEED_CONTEXT;
    *s = calloc(1, sizeof **s);
    return f == 1 ? 0 : 1;
}
int cuStreamDestroy_v2(stream* s)
{
    NEED_CONTEXT;
    free(s);
    return 0;
}
int cuStreamSynchronize(stream* s)
{
    NEED_CONTEXT;
    return s->capture ? 900 : fatal_after > 0 ? fatal_after : 0;
}
int cuStreamWaitEvent(stream* s, event* e, unsigned f)
{
    NEED_CONTEXT;
    return s == NULL || e == NULL || f != 0;
}
int cuEventCreate(event** e, unsigned f)
{
    NEED_CONTEXT;
    *e = calloc(1, sizeof **e);
    (*e)->timing = f == 0;
    return 0;
}
int cuEventDestroy_v2(event* e)
{
    NEED_CONTEXT;
    free(e);
    return 0;
}
int cuEventRecord(event* e, stream* s)
{
    NEED_CONTEXT;
    clock_gettime(CLOCK_MONOTONIC, &e->t);
    return s == NULL;
}
int cuEventSynchronize(event* e)
{
    NEED_CONTEXT;
    return e == NULL ? 400 : fatal_after > 0 ? fatal_after : 0;
}
int cuEventElapsedTime_v2(float* ms, event* a, event* b)
{
    if (!a->timing || !b->timing) return 400;
    *ms = (b->t.tv_sec - a->t.tv_sec) * 1e3f + (b->t.tv_nsec - a->t.tv_nsec) * 1e-6f;
    return 0;
}
int cuMemcpyHtoDAsync_v2(ptr d, const void* s, size_t n, stream* st)
{
    return st->capture ? 900 : put(st, (node){0, d, (ptr)s, n, 0, {0}});
}
int cuMemcpyDtoHAsync_v2(void* d, ptr s, size_t n, stream* st)
{
    return st->capture ? 900 : put(st, (node){0, (ptr)d, s, n, 0, {0}});
}
int cuMemcpyDtoDAsync_v2(ptr d, ptr s, size_t n, stream* st)
{
    return put(st, (node){0, d, s, n, 0, {0}});
}
int cuMemcpyPeerAsync(ptr d, void* dc, ptr s, void* sc, size_t n, stream* st)
{
    return dc == sc ? 1 : put(st, (node){0, d, s, n, 0, {0}});
}
int cuMemsetD8Async(ptr d, unsigned char v, size_t n, stream* st)
{
    return put(st, (node){1, d, v, n, 0, {0}});
}

int cuStreamBeginCapture_v2(stream* s, int m)
{
    NEED_CONTEXT;
    s->capture = calloc(1, sizeof(graph));
    return m == 2 ? 0 : 1;
}
int cuStreamEndCapture(stream* s, graph** g)
{
    NEED_CONTEXT;
    *g = s->capture;
    s->capture = NULL;
    return *g ? 0 : 901;
}
int cuGraphInstantiateWithFlags(graph** e, graph* g, unsigned long long f)
{
    NEED_CONTEXT;
    *e = malloc(sizeof *g);
    **e = *g;
    return f != 0;
}
int cuGraphDestroy(graph* g)
{
    free(g);
    return 0;
}
int cuGraphExecDestroy(graph* g)
{
    NEED_CONTEXT;
    free(g);
    return 0;
}
int cuGraphLaunch(graph* g, stream* s)
{
    int rc = 0;
    for (int i = 0; i < g->count && rc == 0; i++) {
        rc = put(s, g->nodes[i]);
    }
    return rc;
}

int cuModuleLoadData(void** m, const void* image)
{
    NEED_CONTEXT;
    *m = (void*)image;
    return mode("noimage")    ? 209
           : mode("badimage") ? 200
           : mode("newptx")   ? 222
           : mode("oscall")   ? 304
                              : 0;
}
typedef struct {
    const char* name;
    int (*run)(unsigned long long*);
    int args, threads, dynamic;
} kernel;
static kernel kernels[] = {
    {"scale", scale, 4, 512, 49152 - 1024},
    {"fault", fault, 0, 1024, 49152 - 1024}}; // dynamic: 48 KiB less what it declares
int cuModuleGetFunction(kernel** f, void* m, const char* name)
{
    NEED_CONTEXT;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (strcmp(kernels[i].name, name) == 0) {
            *f = &kernels[i];
            return m == NULL;
        }
    }
    return 500;
}
int cuFuncGetAttribute(int* v, int a, kernel* f)
{
    *v = a == 0 ? f->threads : a == 1 ? 1024 : f->dynamic;
    return 0;
}
int cuFuncSetAttribute(kernel* f, int a, int v)
{
    NEED_CONTEXT;
    f->dynamic = v;
    return a == 8 && v <= 232448 - 1024 ? 0 : 1;
}
int cuLaunchKernel(kernel* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, stream* s, void** args, void** extra)
{
    if (gx * gy * gz == 0 || bx * by * bz > (unsigned)f->threads || shared > (unsigned)f->dynamic ||
        extra != NULL)
        return 1;
    node n = {2, 0, 0, 0, (void*)f->run, {0}};
    for (int i = 0; i < f->args; i++) {
        n.args[i] = *(unsigned long long*)args[i];
    }
    return put(s, n);
}
