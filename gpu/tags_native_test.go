//go:build native && cgo

package gpu_test

const native = true // the flavour of this test
