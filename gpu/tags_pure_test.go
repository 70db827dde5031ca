//go:build !(native && cgo)

package gpu_test

// tags are none: this test is of the plain flavour.
const tags = ""
