//go:build !(native && cgo)

package gpu_test

const native, hostdev = false, false // the flavour of this test
