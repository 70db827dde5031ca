//go:build native && cgo

package gpu_test

// tags are those of the native flavour, which this test was built with.
const tags = "native"
