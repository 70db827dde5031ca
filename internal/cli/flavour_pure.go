//go:build !(native && cgo)

package cli

const flavour = "pure-go"
