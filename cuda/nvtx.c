//go:build native && cgo

// The part of NVTX, version 3, that names ranges of time to a profiler. NVTX is a
// protocol and not a library: a profiler names its own library in an environment
// variable, and the program, when it first uses NVTX, opens it and gives it the
// addresses of pointers to functions, which the library sets to its own.
// Source: NVIDIA's documentation of NVTX and the types of nvtxDetail/nvtxTypes.h.

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

#include "nvtx.h"

typedef void (*function)(void);

// The modules of callbacks and how many each has, number 0 counted.
enum { CORE = 1, MODULES = 7, MOST = 16 };
static const unsigned sizes[MODULES] = {0, 16, 9, 15, 7, 16, 7};

// Of CORE, these two are called here.
enum { RANGE_START = 5, RANGE_END = 7 };

static function functions[MODULES][MOST];
static function* tables[MODULES][MOST + 1]; // [m][i] is &functions[m][i]; first and last are NULL

static int module_table(int module, function*** table, unsigned* size)
{
    if (module < CORE || module >= MODULES) {
        return 0;
    }
    *table = tables[module];
    if (size != NULL) {
        *size = sizes[module];
    }
    return 1;
}

static void injected_version(uint32_t version) { (void)version; }

static const struct {
    size_t size;
    int (*module_table)(int module, function*** table, unsigned* size);
} callbacks = {sizeof callbacks, module_table};

static const struct {
    size_t size;
    uint32_t version, reserved;
    void (*injected_version)(uint32_t);
} version_info = {sizeof version_info, 3, 0, injected_version};

static const void* export_table(uint32_t id)
{
    switch (id) {
    case 1: return &callbacks;
    case 3: return &version_info;
    }
    return NULL;
}

int fidlab_nvtx_open(void)
{
    const char* path = getenv("NVTX_INJECTION64_PATH");
    if (path == NULL || *path == '\0') {
        return 0;
    }
    void* lib = dlopen(path, RTLD_LAZY);
    if (lib == NULL) {
        return 0;
    }
    for (int m = CORE; m < MODULES; m++) {
        for (unsigned i = 1; i < sizes[m]; i++) {
            tables[m][i] = &functions[m][i];
        }
    }
    int (*init)(const void* (*)(uint32_t)) =
        (int (*)(const void* (*)(uint32_t)))dlsym(lib, "InitializeInjectionNvtx2");
    if (init == NULL || !init(export_table)) {
        dlclose(lib);
        return 0;
    }
    return functions[CORE][RANGE_START] != NULL && functions[CORE][RANGE_END] != NULL;
}

unsigned long long fidlab_nvtx_start(const char* name)
{
    return ((uint64_t (*)(const char*))functions[CORE][RANGE_START])(name);
}

void fidlab_nvtx_end(unsigned long long id)
{
    ((void (*)(uint64_t))functions[CORE][RANGE_END])(id);
}
