//go:build native && cgo && hostdev

package cli

const hostdev = true // whether this test has a GPU whose kernels run on the CPU
