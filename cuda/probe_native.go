//go:build native && cgo

package cuda

// #include <stdlib.h>
// #include "probe.h"
import "C"

import (
	"fmt"
	"sync"
)

// Devices lists the GPUs; without any the error is an ErrNoDevice with the reason.
func Devices() ([]Device, error) { return probe() }

var probe = sync.OnceValues(func() ([]Device, error) {
	var why [256]C.char
	n := int(C.fidlab_cuda_count(&why[0], C.size_t(len(why))))
	if n <= 0 {
		return nil, fmt.Errorf("cuda: %w: %s", ErrNoDevice, C.GoString(&why[0]))
	}
	list := make([]Device, 0, n)
	for i := range n {
		var d C.fidlab_cuda_device
		if rc := C.fidlab_cuda_get(C.int(i), &d); rc != 0 {
			return nil, fmt.Errorf("cuda: %w: device %d of %d: driver error %d; see nvidia-smi", ErrNoDevice, i, n, int(rc))
		}
		list = append(list, Device{
			Name: C.GoString(&d.name[0]), Major: int(d.major), Minor: int(d.minor),
			Memory: uint64(d.memory), Ordinal: i,
		})
	}
	return list, nil
})
