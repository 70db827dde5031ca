//go:build !(native && cgo && hostdev)

package device

const second = "cuda"
