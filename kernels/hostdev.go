//go:build native && cgo && hostdev

package kernels

// #cgo CXXFLAGS: -std=c++17 -O3 -march=x86-64-v3 -Wall -Wno-unknown-pragmas
// #cgo LDFLAGS: -lstdc++ -lm
// #include <stddef.h>
// int fidlab_host_selftest(char *text, size_t n);
import "C"

import (
	"embed"
	"errors"
	"runtime"
)

// Go's build does not see the files that a C++ file includes, but it does see
// embedded ones: a changed kernel or header rebuilds the package.
//
//go:embed *.cu *.h
var _ embed.FS

// hostSelfTest tests the host device at the driver's own calls.
func hostSelfTest() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var why [512]C.char
	if C.fidlab_host_selftest(&why[0], C.size_t(len(why))) != 0 {
		return errors.New(C.GoString(&why[0]))
	}
	return nil
}
