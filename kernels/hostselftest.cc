//go:build native && cgo && hostdev

// A test of the host device at the driver's own calls, which package cuda never makes wrongly.
// hostdev_test.go runs it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

extern "C" void* fidlab_host_driver(const char* name);

namespace {

char* why;
size_t whySize;
bool failed;

void expect(const char* what, long got, long want)
{
    if (got == want || failed) return;
    failed = true;
    snprintf(why, whySize, "%s: %ld; want %ld", what, got, want);
}
#define EXPECT(call, want) expect(#call, (call), (want))

template <class... A> int call(const char* name, A... a)
{
    void* f = fidlab_host_driver(name);
    if (!f) {
        expect(name, -1, 0);
        return -1;
    }
    return reinterpret_cast<int (*)(A...)>(f)(a...);
}

typedef uintptr_t Address;
void* const none = nullptr;

void memory()
{
    Address p = 0, q = 0;
    size_t before = 0, after = 0, total = 0;
    float host[4] = {1, 2, 3, 4};
    EXPECT(call("cuMemAlloc_v2", &p, size_t(0)), 1);
    EXPECT(call("cuMemGetInfo_v2", &before, &total), 0);
    EXPECT(call("cuMemAlloc_v2", &p, size_t(100)), 0);
    EXPECT(call("cuMemAlloc_v2", &q, size_t(16)), 0);
    EXPECT(call("cuMemGetInfo_v2", &after, &total), 0);
    EXPECT(long(before - after), 116);
    EXPECT(long(p % 256), 0);
    EXPECT(*reinterpret_cast<unsigned*>(p + 96), -1u); // memory starts as NaN
    EXPECT(call("cuMemcpyHtoD_v2", p + 84, (const void*)host, size_t(16)), 0);
    EXPECT(call("cuMemcpyHtoD_v2", p + 85, (const void*)host, size_t(16)), 1); // one byte too far
    EXPECT(call("cuMemcpyHtoD_v2", p - 1, (const void*)host, size_t(16)), 1);
    EXPECT(call("cuMemcpyHtoD_v2", p, (const void*)host, ~size_t(0)), 1);
    EXPECT(call("cuMemcpyHtoD_v2", p + 200, (const void*)host, size_t(0)), 0);
    EXPECT(call("cuMemcpyDtoD_v2", q, p + 84, size_t(16)), 0);
    EXPECT(call("cuMemcpyDtoD_v2", q, p, size_t(17)), 1);
    memset(host, 0, sizeof host);
    EXPECT(call("cuMemcpyDtoH_v2", (void*)host, q, size_t(16)), 0);
    EXPECT(host[0] == 1 && host[3] == 4, 1);
    EXPECT(call("cuMemcpyDtoH_v2", (void*)host, Address(host), size_t(16)), 1); // no device memory
    EXPECT(call("cuMemsetD8Async", q, (unsigned char)7, size_t(16), none), 0);
    EXPECT(reinterpret_cast<unsigned char*>(q)[15], 7);
    EXPECT(call("cuMemsetD8Async", q, (unsigned char)7, size_t(17), none), 1);
    EXPECT(call("cuMemsetD32Async", q, 5u, size_t(4), none), 0);
    EXPECT(reinterpret_cast<unsigned*>(q)[3], 5);
    EXPECT(call("cuMemsetD32Async", q + 2, 5u, size_t(1), none), 1); // not aligned
    EXPECT(call("cuMemFree_v2", p + 4), 1);                          // not a buffer's start
    EXPECT(call("cuMemFreeHost", reinterpret_cast<void*>(p)), 1);    // not pinned
    EXPECT(call("cuMemFree_v2", p), 0);
    EXPECT(call("cuMemFree_v2", p), 1); // freed already
    EXPECT(call("cuMemcpyDtoH_v2", (void*)host, p, size_t(16)), 1);
    EXPECT(call("cuMemFree_v2", q), 0);
    EXPECT(call("cuMemFree_v2", Address(0)), 0);
    void* pinned = nullptr;
    EXPECT(call("cuMemHostAlloc", &pinned, size_t(64), 0u), 0);
    EXPECT(call("cuMemFree_v2", Address(pinned)), 1);
    EXPECT(call("cuMemFreeHost", pinned), 0);
    EXPECT(call("cuMemGetInfo_v2", &after, &total), 0);
    EXPECT(long(after), long(before));
}

int launch(void* f, unsigned grid, unsigned threads, unsigned shared, void** parameters,
           void* stream = nullptr)
{
    return call("cuLaunchKernel", f, grid, 1u, 1u, threads, 1u, 1u, shared, stream, parameters,
                (void**)nullptr);
}

void launches()
{
    unsigned image[16] = {0xba55ed50};
    void *module = nullptr, *f = nullptr, *g = nullptr;
    EXPECT(call("cuModuleLoadData", &module, (const void*)(image + 1)), 200);
    EXPECT(call("cuModuleLoadData", &module, (const void*)image), 0);
    EXPECT(call("cuModuleGetFunction", &f, module, "check_absent"), 500);
    EXPECT(call("cuModuleGetFunction", &f, none, "check_fresh"), 400);
    EXPECT(call("cuModuleGetFunction", &f, module, "check_fresh"), 0);
    EXPECT(call("cuModuleGetFunction", &g, module, "check_fresh"), 0);
    EXPECT(f == g, 1);
    Address out = 0;
    EXPECT(call("cuMemAlloc_v2", &out, size_t(2 * 128 * 4)), 0);
    void* parameters[] = {&out};
    EXPECT(launch(f, 2, 64, 256, parameters), 0);
    EXPECT(launch(nullptr, 2, 64, 256, parameters), 400);
    EXPECT(launch(&module, 2, 64, 256, parameters), 400);
    EXPECT(launch(f, 2, 64, 256, parameters, &module), 400); // no stream
    EXPECT(launch(f, 0, 64, 256, parameters), 1);
    EXPECT(launch(f, 2, 0, 256, parameters), 1);
    EXPECT(launch(f, 2, 1025, 256, parameters), 1);
    EXPECT(launch(f, 2, 64, 256, nullptr), 1);
    EXPECT(launch(f, 2, 64, (48 << 10) + 1, parameters), 1);
    EXPECT(call("cuLaunchKernel", f, 1u, 65536u, 1u, 64u, 1u, 1u, 256u, none, parameters,
                (void**)nullptr),
           1);
    EXPECT(
        call("cuLaunchKernel", f, 1u, 1u, 1u, 8u, 1u, 65u, 256u, none, parameters, (void**)nullptr),
        1);
    struct {
        unsigned grid[3], block[3], shared;
        void *stream, *attributes;
        unsigned count;
    } config = {{2, 1, 1}, {64, 1, 1}, 256, none, none, 0};
    const void* fits = &config;
    EXPECT(call("cuLaunchKernelEx", fits, f, parameters, (void**)nullptr), 0);
    EXPECT(call("cuLaunchKernelEx", (const void*)nullptr, f, parameters, (void**)nullptr), 1);
    EXPECT(call("cuLaunchKernelEx", fits, (void*)&module, parameters, (void**)nullptr), 400);
    config.count = 1; // a cluster, say
    EXPECT(call("cuLaunchKernelEx", fits, f, parameters, (void**)nullptr), 801);
    config.count = 0, config.block[0] = 1025;
    EXPECT(call("cuLaunchKernelEx", fits, f, parameters, (void**)nullptr), 1);
    EXPECT(call("cuFuncSetAttribute", f, 8, (163 << 10) + 1), 1);
    EXPECT(call("cuFuncSetAttribute", f, 8, 100 << 10), 0);
    EXPECT(launch(f, 2, 64, (48 << 10) + 1, parameters), 0);
    EXPECT(launch(f, 2, 64, (100 << 10) + 1, parameters), 1);

    // A capture does nothing until its graph is launched, each time with the arguments of then.
    void *stream = nullptr, *other = nullptr, *event = nullptr, *graph = nullptr, *ready = nullptr;
    Address to = 0;
    unsigned* memory = reinterpret_cast<unsigned*>(out);
    EXPECT(call("cuMemAlloc_v2", &to, size_t(16)), 0);
    EXPECT(call("cuStreamCreate", &stream, 1u), 0);
    EXPECT(call("cuStreamCreate", &other, 1u), 0);
    EXPECT(call("cuEventCreate", &event, 2u), 0);
    EXPECT(call("cuStreamBeginCapture_v2", none, 2), 900);
    EXPECT(call("cuStreamBeginCapture_v2", stream, 2), 0);
    EXPECT(call("cuStreamBeginCapture_v2", stream, 2), 900);
    memory[0] = 0;
    Address old = out;
    EXPECT(launch(f, 2, 64, 256, parameters, stream), 0);
    out = 64; // the captured launch keeps its own copy
    EXPECT(call("cuEventRecord", event, stream), 0);
    EXPECT(call("cuStreamWaitEvent", other, event, 0u), 0);
    EXPECT(call("cuMemcpyDtoDAsync_v2", to, old, size_t(16), other), 0); // now in the capture too
    EXPECT(call("cuStreamEndCapture", other, &graph), 903);
    EXPECT(memory[0], 0);
    EXPECT(call("cuStreamEndCapture", stream, &graph), 0);
    EXPECT(call("cuGraphInstantiateWithFlags", &ready, graph, 0ull), 0);
    EXPECT(call("cuGraphDestroy", graph), 0);
    EXPECT(call("cuGraphDestroy", graph), 1);
    EXPECT(call("cuGraphLaunch", ready, stream), 0);
    EXPECT(memory[0], -1u);
    EXPECT(*reinterpret_cast<unsigned*>(to), -1u);
    memory[0] = 0;
    EXPECT(call("cuGraphLaunch", ready, other), 0);
    EXPECT(memory[0], -1u);
    EXPECT(call("cuGraphExecDestroy", ready), 0);
    EXPECT(call("cuGraphLaunch", ready, stream), 1);
    // A synchronisation ends a capture.
    EXPECT(call("cuStreamBeginCapture_v2", stream, 2), 0);
    EXPECT(call("cuStreamSynchronize", stream), 900);
    EXPECT(call("cuStreamEndCapture", stream, &graph), 901);
    EXPECT(call("cuStreamSynchronize", stream), 0);
    EXPECT(call("cuStreamEndCapture", stream, &graph), 1);

    void* timed[2];
    float ms = -1;
    EXPECT(call("cuEventCreate", &timed[0], 0u), 0);
    EXPECT(call("cuEventCreate", &timed[1], 0u), 0);
    EXPECT(call("cuEventElapsedTime", &ms, timed[0], timed[1]), 400); // not recorded
    EXPECT(call("cuEventRecord", timed[0], stream), 0);
    EXPECT(call("cuEventRecord", timed[1], stream), 0);
    EXPECT(call("cuEventElapsedTime", &ms, timed[0], timed[1]), 0);
    EXPECT(ms >= 0, 1);
    EXPECT(call("cuEventElapsedTime", &ms, timed[0], event), 400); // made without timing
    for (void* e : {event, timed[0], timed[1]})
        EXPECT(call("cuEventDestroy_v2", e), 0);
    EXPECT(call("cuEventDestroy_v2", event), 400);
    for (void* s : {stream, other})
        EXPECT(call("cuStreamDestroy_v2", s), 0);
    EXPECT(call("cuStreamDestroy_v2", stream), 400);
    EXPECT(call("cuMemFree_v2", old), 0);
    EXPECT(call("cuMemFree_v2", to), 0);
    EXPECT(call("cuModuleUnload", module), 0);
    EXPECT(launch(f, 2, 64, 256, parameters), 400); // its module is gone
}

} // namespace

// Returns 0, or 1 with the first expectation that failed in text.
extern "C" int fidlab_host_selftest(char* text, size_t n)
{
    why = text;
    whySize = n;
    failed = false;
    void* context = nullptr;
    int count = 0, device = 0, v = 0;
    size_t total = 0;
    EXPECT(call("cuCtxSetCurrent", none), 0);
    EXPECT(call("cuMemFree_v2", Address(0)), 201); // the thread has no context
    EXPECT(call("cuDeviceGetCount", &count), 0);
    EXPECT(count, 1);
    EXPECT(call("cuDeviceGet", &device, 1), 101);
    EXPECT(call("cuDeviceGetAttribute", &v, 75, 0), 0);
    EXPECT(v, 8);
    EXPECT(call("cuDeviceTotalMem_v2", &total, 0), 0);
    EXPECT(call("cuDevicePrimaryCtxRetain", &context, 0), 0);
    EXPECT(call("cuCtxSetCurrent", context), 0);
    memory();
    launches();
    EXPECT(call("cuDevicePrimaryCtxRelease_v2", 0), 0);
    EXPECT(call("cuCtxSetCurrent", none), 0);
    return failed;
}
