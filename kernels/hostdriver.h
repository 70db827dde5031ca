// The host device's insides: what the CUDA driver keeps, kept by hostdriver*.cc.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>
#include "host.h"

namespace hostdriver {

// CUresult.
enum Status : int {
    success = 0,
    invalidValue = 1,
    outOfMemory = 2,
    notInitialized = 3,
    invalidDevice = 101,
    invalidImage = 200,
    invalidContext = 201,
    invalidHandle = 400,
    notFound = 500,
    notReady = 600,
    illegalAddress = 700,
    launchFailed = 719,
    notSupported = 801,
    captureUnsupported = 900,
    captureInvalidated = 901,
    captureUnmatched = 903,
    captureWrongThread = 908,
};

struct Context {
    int device;
    int references = 0;
};

// One cuMemAlloc: a heap block of its own between two guards.
struct Buffer {
    unsigned char* block; // guard, size bytes, guard
    size_t size;
    int device; // -1: pinned host memory
};
constexpr size_t guardSize = 256;

struct Function {
    const host::Kernel* kernel;
    int dynamicShared =
        48 << 10; // the most that a launch may ask for, as cuFuncSetAttribute set it
};

struct Module {
    std::map<std::string, Function> functions;
};

// What a stream was asked to do, for a graph.
typedef std::vector<std::function<int()>> Work;

struct Capture {
    Work work;
    bool broken = false;
    struct Stream* origin;
};

struct Stream {
    unsigned flags;
    std::shared_ptr<Capture> capture; // null: work is done at once
};

struct Event {
    unsigned flags;
    bool recorded = false;
    double milliseconds = 0;          // when it was recorded
    std::shared_ptr<Capture> capture; // the capture that it was recorded in
};

struct State {
    std::recursive_mutex lock;
    Context contexts[8];
    std::map<uintptr_t, Buffer> buffers; // by address
    size_t used = 0;                     // device memory, bytes
    int lost = 0; // the status of a kernel that failed; every call returns it
    std::set<Module*> modules;
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<Work*> graphs, executables;
};
extern State state;

extern thread_local Context* currentContext;

int deviceCount();
size_t memorySize();   // bytes a device has
int sharedLimit();     // bytes of shared memory that a block may have
int capabilityMajor(); // 8 or 9

// Counts a call and returns the status that FIDLAB_HOST_FAIL asks for; when it is 0, the calling
// thread has a context (if it needs one).
int enter(const char* name, bool needsContext);

// The stream of a handle (null is the default stream), or null for a handle that is none.
Stream* streamOf(void* handle);
// Does work now, or puts it into the stream's capture.
int perform(void* stream, std::function<int()> work);

// The buffer that n bytes at p lie in, of the current device or pinned; null if there is none.
const Buffer* bufferOf(uintptr_t p, size_t n);
// Whether p may be a kernel's argument: in, or just behind, a buffer of the device.
bool pointerFits(uintptr_t p);
// Ends the process if a kernel wrote outside of a buffer; what names the kernel.
void checkGuards(const char* what);

// The entry points of each file by the driver's names; name is null at the end.
struct Entry {
    const char* name;
    void* function;
};
extern const Entry deviceEntries[], memoryEntries[], streamEntries[], mapEntries[];

} // namespace hostdriver

// CUlaunchConfig. No attribute is modelled: blocks have no clusters here.
struct LaunchConfig {
    unsigned grid[3], block[3], shared;
    void* stream;
    void* attributes;
    unsigned count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32, "cuda.h's");

// Begins every entry point: the lock, the count, the injected fault.
#define ENTER(needsContext)                                                                        \
    std::lock_guard<std::recursive_mutex> lock(state.lock);                                        \
    if (int status = enter(__func__, needsContext)) return status
