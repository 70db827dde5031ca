//go:build !native || !cgo

package cpu

func nativeFinite32([]float32) (finite, ok bool) { return false, false }

func nativeFinite64([]float64) (finite, ok bool) { return false, false }
