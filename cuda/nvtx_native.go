//go:build native && cgo

package cuda

// #include <stdlib.h>
// #include "nvtx.h"
import "C"

import (
	"sync"
	"unsafe"
)

var profiled = sync.OnceValue(func() bool { return C.fidlab_nvtx_open() != 0 })

func rangeStart(name string) uint64 {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	return uint64(C.fidlab_nvtx_start(s))
}

func rangeEnd(id uint64) { C.fidlab_nvtx_end(C.ulonglong(id)) }
