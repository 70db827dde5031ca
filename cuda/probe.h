//go:build native && cgo

#include <stddef.h>

typedef struct {
	char name[256];
	int major, minor;
	size_t memory;
} fidlab_cuda_device;

// fidlab_cuda_count opens the driver and returns the number of devices. When
// there is none it writes the reason to why and returns 0.
int fidlab_cuda_count(char *why, size_t n);

// fidlab_cuda_get describes device i; it returns 0 or the driver's error code.
// fidlab_cuda_count has returned more than i before.
int fidlab_cuda_get(int i, fidlab_cuda_device *d);
