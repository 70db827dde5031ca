//go:build native && cgo

package cpu

// #include "native.h"
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

var dnn struct {
	once  sync.Once
	lib   Library
	ready atomic.Bool // open and tested
}

// haveDNNL opens and tests oneDNN at its first call.
func haveDNNL() bool {
	dnn.once.Do(func() {
		l := &dnn.lib
		*l = Library{Name: dnnlName, Purpose: dnnlPurpose, Install: "apt-get install libdnnl-dev"}
		why := C.dnn_open()
		l.Path = C.GoString(C.dnn_path())
		if why != nil {
			l.Why = C.GoString(why)
			return
		}
		var major, minor, patch C.int
		C.dnn_version(&major, &minor, &patch)
		l.Version = fmt.Sprintf("%d.%d.%d", major, minor, patch)
		if why := testDNNL(); why != "" {
			l.Why = "self-test failed: " + why
			return
		}
		l.Install = ""
		l.Used = true
		dnn.ready.Store(true)
	})
	return dnn.ready.Load()
}

func openDNNL() (handle unsafe.Pointer, version string, err error) {
	if !haveDNNL() {
		return nil, "", errors.New("cpu: oneDNN: " + dnn.lib.Why)
	}
	return C.dnn_handle(), dnn.lib.Version, nil
}

// singleThread tells the calling thread's OpenMP to use that thread alone.
// It reports false as long as there is no library to tell.
func singleThread() bool {
	if !dnn.ready.Load() {
		return false
	}
	C.dnn_single_thread()
	return true
}
