//go:build native && cgo && !hostdev

package gpu_test

// tags are those that this test was built with.
const tags = "native"
