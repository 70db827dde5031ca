//go:build native && cgo

#include <stddef.h>

// fidlab_driver_open fills the slots of driver.c once: from libcuda.so.1, or from
// the host device when host is not 0. It returns 0, or 1 with the reason in why.
int fidlab_driver_open(int host, char* why, size_t n);

// A tensor map as an argument of a launch: where it stands among the arguments, and its bytes.
struct fidlab_map {
    unsigned long long opaque[16];
    long long place;
};

// fidlab_launch makes ctx current in the calling thread and queues kernel fn with
// count arguments of 8 bytes each, but those at the places of maps, whose argument
// is the map by value. With maps it takes cuLaunchKernelEx. It returns the driver's status.
int fidlab_launch(void* ctx, void* fn, void* stream, unsigned gx, unsigned gy, unsigned gz,
                  unsigned bx, unsigned by, unsigned bz, unsigned shared, unsigned long long* args,
                  int count, struct fidlab_map* maps, int mapped);

// fidlab_encode_tiles makes the tensor map of a tensor of rank dimensions, the fastest first.
// dims has rank extents, strides the rank - 1 distances in bytes of the later ones, box the
// extents of what one copy takes. It returns the driver's status.
int fidlab_encode_tiles(unsigned long long out[16], int type, int rank, unsigned long long base,
                        const unsigned long long* dims, const unsigned long long* strides,
                        const unsigned* box, int swizzle);

// What gorgonia.org/cu lacks, with the driver's own parameters.
int cuFuncSetAttribute(void* fn, int attribute, int value);
int cuGetErrorString(int status, const char** text);
int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long flags);
int cuGraphExecDestroy(void* exec);
int cuGraphDestroy(void* graph);
int cuGraphLaunch(void* exec, void* stream);
int cuMemHostAlloc(void** p, size_t n, unsigned flags);
int cuStreamBeginCapture_v2(void* stream, int mode);
int cuStreamEndCapture(void* stream, void** graph);
