//go:build native && cgo

#include <dlfcn.h>
#include <stdio.h>

#include "probe.h"

// The driver's own types, as far as they are needed here (cuda.h): a CUresult
// and a CUdevice are ints, and the attributes are 75 and 76.
enum { CC_MAJOR = 75, CC_MINOR = 76, ERROR_NO_DEVICE = 100 };

static int (*device_get)(int *, int);
static int (*device_name)(char *, int, int);
static int (*device_attribute)(int *, int, int);
static int (*device_memory)(size_t *, int);

int fidlab_cuda_count(char *why, size_t n) {
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL) {
		snprintf(why, n, "libcuda.so.1 not found (no NVIDIA driver is installed here)");
		return 0;
	}
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
	int (*count)(int *) = (int (*)(int *))dlsym(lib, "cuDeviceGetCount");
	device_get = (int (*)(int *, int))dlsym(lib, "cuDeviceGet");
	device_name = (int (*)(char *, int, int))dlsym(lib, "cuDeviceGetName");
	device_attribute = (int (*)(int *, int, int))dlsym(lib, "cuDeviceGetAttribute");
	device_memory = (int (*)(size_t *, int))dlsym(lib, "cuDeviceTotalMem_v2");
	if (!init || !count || !device_get || !device_name || !device_attribute || !device_memory) {
		snprintf(why, n, "libcuda.so.1 lacks a function that every driver has; reinstall the NVIDIA driver");
		return 0;
	}
	int rc = init(0);
	if (rc == ERROR_NO_DEVICE) {
		snprintf(why, n, "the NVIDIA driver is installed but sees no GPU");
		return 0;
	}
	if (rc != 0) {
		snprintf(why, n, "cuInit returned error %d; see nvidia-smi", rc);
		return 0;
	}
	int devices = 0;
	rc = count(&devices);
	if (rc != 0) {
		snprintf(why, n, "cuDeviceGetCount returned error %d; see nvidia-smi", rc);
		return 0;
	}
	if (devices == 0) {
		snprintf(why, n, "the NVIDIA driver is installed but sees no GPU");
	}
	return devices;
}

int fidlab_cuda_get(int i, fidlab_cuda_device *d) {
	int dev = 0;
	int rc = device_get(&dev, i);
	if (rc == 0) {
		rc = device_name(d->name, (int)sizeof d->name, dev);
	}
	if (rc == 0) {
		rc = device_attribute(&d->major, CC_MAJOR, dev);
	}
	if (rc == 0) {
		rc = device_attribute(&d->minor, CC_MINOR, dev);
	}
	if (rc == 0) {
		rc = device_memory(&d->memory, dev);
	}
	return rc;
}
