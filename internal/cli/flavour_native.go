//go:build native && cgo

package cli

const flavour = "native"
