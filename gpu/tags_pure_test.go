//go:build !(native && cgo)

package gpu_test

// tags are those that this test was built with.
const tags = ""
