//go:build native && cgo

// This file is libcuda for the linker. Each entry point jumps through a slot, and
// the slots are filled at first use from the libcuda.so.1 of the machine. So one
// binary starts anywhere and uses the GPU where there is one.

#include <dlfcn.h>
#include <stdio.h>

#include "driver.h"

enum { NO_DEVICE = 100, NOT_SUPPORTED = 801, MAX_ARGS = 48 };

static int unavailable(void) { return NO_DEVICE; }
static int unsupported(void) { return NOT_SUPPORTED; }

#define X(f) __attribute__((visibility("hidden"))) void* slot_##f = (void*)unavailable;
#include "driver_list.h"
#undef X

// A trampoline keeps every register, so it needs no prototype.
#if defined(__x86_64__)
#define JUMP(f) "jmp *slot_" #f "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(f) "adrp x16, slot_" #f "\nldr x16, [x16, :lo12:slot_" #f "]\nbr x16\n"
#else
#error "the driver's trampolines are written for x86-64 and aarch64; build without the tag native"
#endif
#define X(f)                                                                                       \
    __asm__(".text\n.globl " #f "\n.type " #f ",%function\n.balign 16\n" #f                        \
            ":\n" JUMP(f) ".size " #f ",.-" #f "\n");
#include "driver_list.h"
#undef X

static const struct {
    const char* name;
    void** slot;
} table[] = {
#define X(f) {#f, &slot_##f},
#include "driver_list.h"
#undef X
};

enum { ENTRIES = sizeof table / sizeof *table };

// The host device of the tests, which package kernels defines under the tag
// hostdev: the address of the named entry point, or NULL for one it lacks.
__attribute__((weak)) void* fidlab_host_driver(const char* name);

// gorgonia.org/cu calls cuInit when its package is initialised and ends the
// process unless it succeeds; whether there is a device is Open's to say.
int cuInit(unsigned flags)
{
    (void)flags;
    return 0;
}

static int open_host(char* why, size_t n)
{
    if (fidlab_host_driver == NULL) {
        snprintf(why, n,
                 "FIDLAB_HOST_DEVICE is set, but this binary has no host device: build it with the "
                 "tag hostdev");
        return 1;
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        void* f = fidlab_host_driver(table[i].name);
        *table[i].slot = f != NULL ? f : (void*)unsupported;
    }
    return 0;
}

int fidlab_driver_open(int host, char* why, size_t n)
{
    if (host) {
        return open_host(why, n);
    }
    void* lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        snprintf(why, n, "libcuda.so.1 not found (no NVIDIA driver is installed here)");
        return 1;
    }
    // Without these there is not even a list of devices.
    static const char* const basic[] = {
        "cuInit",          "cuDriverGetVersion",   "cuDeviceGetCount",   "cuDeviceGet",
        "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2"};
    for (size_t i = 0; i < sizeof basic / sizeof *basic; i++) {
        if (dlsym(lib, basic[i]) == NULL) {
            snprintf(
                why, n,
                "libcuda.so.1 lacks a function that every driver has; reinstall the NVIDIA driver");
            return 1;
        }
    }
    int rc = ((int (*)(unsigned))dlsym(lib, "cuInit"))(0);
    if (rc == NO_DEVICE) {
        snprintf(why, n, "the NVIDIA driver is installed but sees no GPU");
        return 1;
    }
    if (rc != 0) {
        snprintf(why, n, "cuInit returned error %d; see nvidia-smi", rc);
        return 1;
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        void* f = dlsym(lib, table[i].name);
        *table[i].slot = f != NULL ? f : (void*)unsupported;
    }
    return 0;
}

// CUlaunchConfig, without attributes.
struct launch_config {
    unsigned grid[3], block[3], shared;
    void* stream;
    void* attributes;
    unsigned count;
};

// The calls of a launch, with their types.
extern int cuCtxSetCurrent(void* ctx);
extern int cuLaunchKernel(void* fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, void* stream, void** args, void** extra);
extern int cuLaunchKernelEx(const struct launch_config* config, void* fn, void** args,
                            void** extra);

int fidlab_launch(void* ctx, void* fn, void* stream, unsigned gx, unsigned gy, unsigned gz,
                  unsigned bx, unsigned by, unsigned bz, unsigned shared, unsigned long long* args,
                  int count, struct fidlab_map* maps, int mapped)
{
    void* p[MAX_ARGS];
    for (int i = 0; i < count && i < MAX_ARGS; i++) {
        p[i] = &args[i];
    }
    for (int i = 0; i < mapped; i++) {
        p[maps[i].place] =
            maps[i].opaque; // the driver copies 128 bytes, as the kernel declares them
    }
    int rc = cuCtxSetCurrent(ctx);
    if (rc != 0) {
        return rc;
    }
    if (mapped > 0) { // kernels of compute capability 9.0
        const struct launch_config config = {{gx, gy, gz}, {bx, by, bz}, shared, stream, NULL, 0};
        return cuLaunchKernelEx(&config, fn, p, NULL);
    }
    return cuLaunchKernel(fn, gx, gy, gz, bx, by, bz, shared, stream, p, NULL);
}

extern int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* base,
                                  const unsigned long long* dims, const unsigned long long* strides,
                                  const unsigned* box, const unsigned* steps, int interleave,
                                  int swizzle, int promotion, int fill);

int fidlab_encode_tiles(unsigned long long out[16], int type, int rank, unsigned long long base,
                        const unsigned long long* dims, const unsigned long long* strides,
                        const unsigned* box, int swizzle)
{
    // CU_TENSOR_MAP_INTERLEAVE_NONE, ..._L2_PROMOTION_L2_256B, ..._FLOAT_OOB_FILL_NONE: zeros.
    enum { NOT_INTERLEAVED = 0, PROMOTE_256 = 3, FILL_ZEROS = 0 };
    _Alignas(128) unsigned long long map[16] = {0}; // the driver wants 64
    const unsigned steps[5] = {1, 1, 1, 1, 1};
    int rc = cuTensorMapEncodeTiled(map, type, (unsigned)rank, (void*)(size_t)base, dims, strides,
                                    box, steps, NOT_INTERLEAVED, swizzle, PROMOTE_256, FILL_ZEROS);
    for (int i = 0; i < 16; i++) {
        out[i] = map[i];
    }
    return rc;
}
