// Package cuda tells whether this machine has a GPU that can be used, and its name.
//
// Nothing of CUDA is linked: libcuda.so.1 is opened at run time, under the tag
// "native" only. Built without it, or where there is no driver or no device,
// Available says why and everything runs on the CPU.
package cuda

import "errors"

// ErrNoDevice is what Available's errors wrap: there is no GPU to use.
var ErrNoDevice = errors.New("no usable device")

// Device is one GPU.
type Device struct {
	Name    string
	Major   int    // compute capability, e.g. 9.0
	Minor   int    //
	Memory  uint64 // bytes
	Ordinal int    // the N of --device cuda:N
}

// Available returns nil when there is a GPU, else an ErrNoDevice with the reason.
func Available() error {
	_, err := Devices()
	return err
}
