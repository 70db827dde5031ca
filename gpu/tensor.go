// Package gpu has the device and the tensor that every operation works on.
//
// A Tensor lives on one Device and has one dtype (float32 or float64) and a
// contiguous row-major shape. On the CPU its elements are an ordinary slice.
package gpu

import "fmt"

// Device is where tensors live and operations run.
type Device struct{ name string }

// CPU is the host device; it is always there.
func CPU() *Device { return cpuDevice }

var cpuDevice = &Device{name: "cpu"}

func (d *Device) String() string { return d.name }

// CUDA tells whether the device is a GPU.
func (d *Device) CUDA() bool { return false }

// Tensor is a contiguous array of float32 or float64 on a device.
type Tensor struct {
	dev   *Device
	shape []int
	f32   []float32
	f64   []float64
}

// Empty makes a float32 tensor of the given shape, zeroed.
func (d *Device) Empty(shape ...int) *Tensor {
	return &Tensor{dev: d, shape: append([]int(nil), shape...), f32: make([]float32, count(shape))}
}

// Empty64 makes a float64 tensor of the given shape, zeroed.
func (d *Device) Empty64(shape ...int) *Tensor {
	return &Tensor{dev: d, shape: append([]int(nil), shape...), f64: make([]float64, count(shape))}
}

// From wraps v in a tensor of the given shape without copying it.
func (d *Device) From(v []float32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, shape: append([]int(nil), shape...), f32: v}
}

// From64 is From for float64.
func (d *Device) From64(v []float64, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, shape: append([]int(nil), shape...), f64: v}
}

// Like makes a zeroed tensor of t's device, dtype and shape.
func (t *Tensor) Like() *Tensor {
	if t.f64 != nil {
		return t.dev.Empty64(t.shape...)
	}
	return t.dev.Empty(t.shape...)
}

// Device is where t lives.
func (t *Tensor) Device() *Device { return t.dev }

// Shape is t's shape; callers do not change it.
func (t *Tensor) Shape() []int { return t.shape }

// Len is the number of elements.
func (t *Tensor) Len() int { return count(t.shape) }

// Double tells whether t is float64.
func (t *Tensor) Double() bool { return t.f64 != nil }

// F32 is t's storage on the CPU; nil when t is float64.
func (t *Tensor) F32() []float32 { return t.f32 }

// F64 is t's storage on the CPU; nil when t is float32.
func (t *Tensor) F64() []float64 { return t.f64 }

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 0 {
			panic(fmt.Sprintf("gpu: negative size in shape %v", shape))
		}
		n *= d
	}
	return n
}

func mustHold(shape []int, n int) {
	if count(shape) != n {
		panic(fmt.Sprintf("gpu: shape %v does not hold %d elements", shape, n))
	}
}
