//go:build native && cgo && hostdev

package gpu_test

const native, hostdev = true, true // the flavour of this test
