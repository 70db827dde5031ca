//go:build native && cgo && hostdev

// The host device: the CUDA driver's calls, answered by the processor. Package cuda fills its slots
// from fidlab_host_driver when FIDLAB_HOST_DEVICE=1 asks for it. For tests only: it is strict where
// a GPU would be silent.
//
//	FIDLAB_HOST_DEVICES=N         so many devices, 1 to 8; 1 without it
//	FIDLAB_HOST_CAPABILITY=9.0    compute capability 9.0 with an H100's limits; else 8.0, an A100's
//	FIDLAB_HOST_MEMORY=BYTES      memory of a device; 8 GiB without it
//	FIDLAB_HOST_FAIL=CALL:N:S     the Nth call of CALL (a driver function without its _v2) and all
//	                              later ones return status S; CALL:N-M:S: those up to the Mth. With
//	                              a fatal S (700 to 720), every call of any function returns it
//	                              from then on, as a lost device's do.
//
// The variables but the first two are read at every call, so that a test can set them.
#include "hostdriver.h"
#include "hostrecord.h"
#include "host_map.h"
#include <cstdio>
#include <cstdlib>

namespace hostdriver {

State state;
thread_local Context* currentContext;

namespace {

size_t number(const char* variable, size_t otherwise)
{
    const char* v = getenv(variable);
    return v && *v ? strtoull(v, nullptr, 10) : otherwise;
}

// FIDLAB_HOST_FAIL as it was last read, and what it counts.
struct Fault {
    std::string text, call;
    size_t from = 0, to = 0, seen = 0;
    int status = 0;
    bool lost = false;

    void read(const char* value)
    {
        if (text == (value ? value : "")) return;
        *this = Fault();
        if (!value || !*value) return;
        text = value;
        char name[64];
        unsigned long long a = 0, b = 0;
        int s = 0;
        if (sscanf(value, "%63[A-Za-z0-9]:%llu-%llu:%d", name, &a, &b, &s) != 4) {
            b = ~0ull;
            if (sscanf(value, "%63[A-Za-z0-9]:%llu:%d", name, &a, &s) != 3) {
                fprintf(stderr, "host device: FIDLAB_HOST_FAIL=%s: want CALL:N:STATUS\n", value);
                abort();
            }
        }
        call = name;
        from = a;
        to = b;
        status = s;
    }
} fault;

} // namespace

int deviceCount()
{
    static const int n = static_cast<int>(number("FIDLAB_HOST_DEVICES", 1));
    return n < 1 ? 1 : n > 8 ? 8 : n;
}
size_t memorySize() { return number("FIDLAB_HOST_MEMORY", size_t(8) << 30); }
int capabilityMajor()
{
    const char* v = getenv("FIDLAB_HOST_CAPABILITY");
    return v && *v == '9' ? 9 : 8;
}
int sharedLimit() { return (capabilityMajor() == 9 ? 227 : 163) << 10; }

int enter(const char* name, bool needsContext)
{
    if (state.lost) return state.lost;
    fault.read(getenv("FIDLAB_HOST_FAIL"));
    if (fault.lost) return fault.status;
    if (fault.call == name) {
        fault.seen++;
        if (fault.seen >= fault.from && fault.seen <= fault.to) {
            fault.lost = fault.status >= 700 && fault.status <= 720;
            return fault.status;
        }
    }
    return needsContext && !currentContext ? invalidContext : success;
}

namespace {

int cuDriverGetVersion(int* v)
{
    ENTER(false);
    *v = 13000;
    return success;
}
int cuDeviceGetCount(int* n)
{
    ENTER(false);
    *n = deviceCount();
    return success;
}
int cuDeviceGet(int* device, int ordinal)
{
    ENTER(false);
    if (ordinal < 0 || ordinal >= deviceCount()) return invalidDevice;
    *device = ordinal;
    return success;
}
int cuDeviceGetName(char* name, int n, int device)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    snprintf(name, static_cast<size_t>(n), "host device %d", device);
    return success;
}
int cuDeviceTotalMem(size_t* n, int device)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    *n = memorySize();
    return success;
}
int cuDeviceGetAttribute(int* v, int attribute, int device)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    const bool hopper = capabilityMajor() == 9;
    switch (attribute) {
    case 1: *v = 1024; break; // threads of a block
    case 2:
    case 3: *v = 1024; break;       // its x, y
    case 4: *v = 64; break;         // its z
    case 5: *v = 2147483647; break; // grid x
    case 6:
    case 7: *v = 65535; break;    // grid y, z
    case 8: *v = 48 << 10; break; // shared memory of a block
    case 10: *v = 32; break;      // lanes of a warp
    case 12:
    case 82: *v = 65536; break;              // registers of a block, of a multiprocessor
    case 13: *v = 1410000; break;            // clock, kHz
    case 16: *v = hopper ? 132 : 108; break; // multiprocessors
    case 36: *v = 1215000; break;            // memory clock, kHz
    case 37: *v = 5120; break;               // bus, bits
    case 38: *v = 40 << 20; break;           // level-2 cache
    case 39: *v = 2048; break;               // threads of a multiprocessor
    case 75: *v = hopper ? 9 : 8; break;     // capability
    case 76: *v = 0; break;
    case 81: *v = hopper ? 228 << 10 : 164 << 10; break; // shared memory of a multiprocessor
    case 97: *v = sharedLimit(); break;                  // of a block that asks for it
    case 106: *v = 32; break;                            // blocks of a multiprocessor
    case 111: *v = 1024; break; // shared memory that the system takes of a block
    default: *v = 0;
    }
    return success;
}
int cuDeviceCanAccessPeer(int* can, int, int)
{
    ENTER(false);
    *can = 0;
    return success;
}

int cuDevicePrimaryCtxRetain(void** context, int device)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    Context& c = state.contexts[device];
    c.device = device;
    c.references++;
    *context = &c;
    return success;
}
int cuDevicePrimaryCtxRelease(int device)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    if (state.contexts[device].references == 0) return invalidContext;
    state.contexts[device].references--;
    return success;
}
int cuDevicePrimaryCtxSetFlags(int, unsigned)
{
    ENTER(false);
    return success;
}
int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active)
{
    ENTER(false);
    if (device < 0 || device >= deviceCount()) return invalidDevice;
    *flags = 0;
    *active = state.contexts[device].references > 0;
    return success;
}
bool isContext(void* c)
{
    for (Context& k : state.contexts)
        if (&k == c) return k.references > 0;
    return false;
}
thread_local std::vector<Context*> pushed;
int cuCtxSetCurrent(void* c)
{
    ENTER(false);
    if (c && !isContext(c)) return invalidContext;
    currentContext = static_cast<Context*>(c);
    return success;
}
int cuCtxGetCurrent(void** c)
{
    ENTER(false);
    *c = currentContext;
    return success;
}
int cuCtxPushCurrent(void* c)
{
    ENTER(false);
    if (!isContext(c)) return invalidContext;
    pushed.push_back(currentContext);
    currentContext = static_cast<Context*>(c);
    return success;
}
int cuCtxPopCurrent(void** c)
{
    ENTER(true);
    if (c) *c = currentContext;
    currentContext = pushed.empty() ? nullptr : pushed.back();
    if (!pushed.empty()) pushed.pop_back();
    return success;
}
int cuCtxGetDevice(int* device)
{
    ENTER(true);
    *device = currentContext->device;
    return success;
}
int cuCtxSynchronize()
{
    ENTER(true);
    return success;
}

int cuModuleLoadData(void** module, const void* image)
{
    ENTER(true);
    uint32_t magic;
    __builtin_memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50) return invalidImage;
    Module* m = new Module;
    state.modules.insert(m);
    *module = m;
    return success;
}
int cuModuleLoadDataEx(void** module, const void* image, unsigned, void*, void*)
{
    return cuModuleLoadData(module, image);
}
int cuModuleLoadFatBinary(void** module, const void* image)
{
    return cuModuleLoadData(module, image);
}
int cuModuleUnload(void* module)
{
    ENTER(true);
    if (!state.modules.erase(static_cast<Module*>(module))) return invalidHandle;
    delete static_cast<Module*>(module);
    return success;
}
int cuModuleGetFunction(void** function, void* module, const char* name)
{
    ENTER(true);
    if (!state.modules.count(static_cast<Module*>(module))) return invalidHandle;
    const host::Kernel* k = host::find(name);
    if (!k) return notFound;
    Function& f = static_cast<Module*>(module)->functions[name];
    f.kernel = k;
    *function = &f;
    return success;
}

Function* functionOf(void* handle)
{
    for (Module* m : state.modules)
        for (auto& f : m->functions)
            if (&f.second == handle) return &f.second;
    return nullptr;
}
int cuFuncGetAttribute(int* v, int attribute, void* function)
{
    ENTER(true);
    Function* f = functionOf(function);
    if (!f) return invalidHandle;
    switch (attribute) {
    case 0: *v = 1024; break;             // threads of a block
    case 4: *v = 32; break;               // registers of a thread
    case 8: *v = f->dynamicShared; break; // dynamic shared memory
    default: *v = 0;                      // among them the static shared memory, which is not known
    }
    return success;
}
int cuFuncSetAttribute(void* function, int attribute, int v)
{
    ENTER(true);
    Function* f = functionOf(function);
    if (!f) return invalidHandle;
    if (attribute != 8) return success;
    if (v < 0 || v > sharedLimit()) return invalidValue;
    f->dynamicShared = v;
    return success;
}
int cuFuncSetCacheConfig(void* function, int)
{
    ENTER(true);
    return functionOf(function) ? success : invalidHandle;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, void* function, int threads, size_t shared)
{
    ENTER(true);
    if (!functionOf(function)) return invalidHandle;
    if (threads < 1 || threads > 1024) return invalidValue;
    const int byThreads = 2048 / threads;
    const int byShared = shared ? static_cast<int>((sharedLimit() + 1024) / (shared + 1024)) : 32;
    *n = byThreads < byShared ? byThreads : byShared;
    return success;
}

struct Launch {
    const host::Kernel* kernel;
    dim3 grid, block;
    unsigned shared;
    std::vector<uint64_t> arguments; // 8 bytes each, of a tensor map its place in maps
    std::vector<TensorMap> maps;
};

// Whether the tensor of a map lies in the device's memory as a whole.
bool mapFits(const host::Map& m)
{
    if (m.magic != host::mapMagic || !pointerFits(m.base)) return false;
    return bufferOf(m.base, m.extent()) != nullptr;
}

int run(Launch& l)
{
    const host::Kernel& k = *l.kernel;
    std::vector<void*> parameters;
    for (int i = 0; i < k.count; i++) {
        if (k.parameters[i].type == 'm' && !k.parameters[i].pointer) {
            TensorMap& t = l.maps[l.arguments[i]];
            const host::Map m = host::mapOf(t);
            if (!mapFits(m)) {
                fprintf(stderr,
                        "host device: %s: parameter %d is no tensor map, or one of %#llx with %llu "
                        "bytes, which no buffer of device %d holds\n",
                        k.name, i, static_cast<unsigned long long>(m.base),
                        static_cast<unsigned long long>(m.extent()), currentContext->device);
                return state.lost = illegalAddress;
            }
            parameters.push_back(&t);
            continue;
        }
        if (k.parameters[i].pointer && l.arguments[i] && !pointerFits(l.arguments[i])) {
            fprintf(stderr,
                    "host device: %s: parameter %d is %#llx, which is in no buffer of device %d\n",
                    k.name, i, static_cast<unsigned long long>(l.arguments[i]),
                    currentContext->device);
            return state.lost = illegalAddress;
        }
        parameters.push_back(&l.arguments[i]);
    }
    Record record(k, l.grid, l.block, l.shared, l.arguments, l.maps);
    host::launch(&k, l.grid, l.block, l.shared, parameters.data());
    record.finish();
    checkGuards(k.name);
    return success;
}

int queue(void* function, const unsigned* grid, const unsigned* block, unsigned shared,
          void* stream, void** parameters, void** extra)
{
    const unsigned gx = grid[0], gy = grid[1], gz = grid[2];
    const unsigned bx = block[0], by = block[1], bz = block[2];
    Function* f = functionOf(function);
    if (!f || !streamOf(stream)) return invalidHandle;
    if (extra || (f->kernel->count && !parameters)) return invalidValue;
    if (!gx || !gy || !gz || gx > 2147483647u || gy > 65535 || gz > 65535) return invalidValue;
    if (!bx || !by || !bz || bx > 1024 || by > 1024 || bz > 64) return invalidValue;
    if (uint64_t(bx) * by * bz > 1024) return invalidValue;
    if (shared > static_cast<unsigned>(f->dynamicShared)) return invalidValue;
    Launch l = {f->kernel, {gx, gy, gz}, {bx, by, bz}, shared, {}, {}};
    for (int i = 0; i < f->kernel->count; i++) {
        uint64_t slot = 0;
        if (f->kernel->parameters[i].size == sizeof(TensorMap)) {
            slot = l.maps.size();
            l.maps.emplace_back();
            __builtin_memcpy(&l.maps.back(), parameters[i], sizeof(TensorMap));
        } else {
            __builtin_memcpy(&slot, parameters[i], f->kernel->parameters[i].size);
        }
        l.arguments.push_back(slot);
    }
    return perform(stream, [l]() mutable { return run(l); });
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** parameters, void** extra)
{
    ENTER(true);
    const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
    return queue(function, grid, block, shared, stream, parameters, extra);
}

int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** parameters, void** extra)
{
    ENTER(true);
    if (!config) return invalidValue;
    if (config->count) return notSupported;
    return queue(function, config->grid, config->block, config->shared, config->stream, parameters,
                 extra);
}

int cuGetErrorString(int status, const char** text)
{
    static const std::map<int, const char*> texts = {
        {success, "no error"},
        {invalidValue, "invalid argument"},
        {outOfMemory, "out of memory"},
        {notInitialized, "initialization error"},
        {invalidDevice, "invalid device ordinal"},
        {invalidImage, "device kernel image is invalid"},
        {invalidContext, "invalid device context"},
        {invalidHandle, "invalid resource handle"},
        {notFound, "named symbol not found"},
        {notReady, "device not ready"},
        {illegalAddress, "an illegal memory access was encountered"},
        {launchFailed, "unspecified launch failure"},
        {notSupported, "operation not supported"},
        {captureUnsupported, "operation not permitted when stream is capturing"},
        {captureInvalidated, "operation failed due to a previous error during capture"},
    };
    auto i = texts.find(status);
    *text = i == texts.end() ? nullptr : i->second;
    return i == texts.end() ? invalidValue : success;
}

} // namespace

#define E(f) {#f, reinterpret_cast<void*>(f)}
#define E2(f) {#f "_v2", reinterpret_cast<void*>(f)}
const Entry deviceEntries[] = {
    E(cuDriverGetVersion),
    E(cuDeviceGetCount),
    E(cuDeviceGet),
    E(cuDeviceGetName),
    E2(cuDeviceTotalMem),
    E(cuDeviceGetAttribute),
    E(cuDeviceCanAccessPeer),
    E(cuDevicePrimaryCtxRetain),
    E2(cuDevicePrimaryCtxRelease),
    E2(cuDevicePrimaryCtxSetFlags),
    E(cuDevicePrimaryCtxGetState),
    E(cuCtxSetCurrent),
    E(cuCtxGetCurrent),
    E2(cuCtxPushCurrent),
    E2(cuCtxPopCurrent),
    E(cuCtxGetDevice),
    E(cuCtxSynchronize),
    E(cuModuleLoadData),
    E(cuModuleLoadDataEx),
    E(cuModuleLoadFatBinary),
    E(cuModuleUnload),
    E(cuModuleGetFunction),
    E(cuFuncGetAttribute),
    E(cuFuncSetAttribute),
    E(cuFuncSetCacheConfig),
    E(cuOccupancyMaxActiveBlocksPerMultiprocessor),
    E(cuLaunchKernel),
    E(cuLaunchKernelEx),
    E(cuGetErrorString),
    {nullptr, nullptr},
};

} // namespace hostdriver

extern "C" void* fidlab_host_driver(const char* name)
{
    using namespace hostdriver;
    for (const Entry* list : {deviceEntries, memoryEntries, streamEntries, mapEntries})
        for (const Entry* e = list; e->name; e++)
            if (!strcmp(e->name, name)) return e->function;
    return nullptr;
}
