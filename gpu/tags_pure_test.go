//go:build !(native && cgo)

package gpu_test

const native = false // the flavour of this test
