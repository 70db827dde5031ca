//go:build native && cgo

#include <stddef.h>

// fidlab_driver_open fills the slots of driver.c once: from libcuda.so.1, or from
// the host device when host is not 0. It returns 0, or 1 with the reason in why.
int fidlab_driver_open(int host, char* why, size_t n);

// fidlab_launch makes ctx current in the calling thread and queues kernel fn with
// count arguments of 8 bytes each. It returns the driver's status.
int fidlab_launch(void* ctx, void* fn, void* stream, unsigned gx, unsigned gy, unsigned gz,
                  unsigned bx, unsigned by, unsigned bz, unsigned shared, unsigned long long* args,
                  int count);

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
