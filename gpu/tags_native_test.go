//go:build native && cgo && !hostdev

package gpu_test

const native, hostdev = true, false // the flavour of this test
