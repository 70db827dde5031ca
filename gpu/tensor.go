package gpu

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/cuda"
)

// Tensor is a contiguous row-major array on a device.
type Tensor struct {
	dev   *Device
	dt    DType
	shape []int
	n     int

	// CPU storage: the one of dt is set.
	f32 []float32
	f64 []float64
	u16 []uint16
	i32 []int32
	u8  []uint8

	gpu *memory  // GPU storage
	off cuda.Ptr // of the first element in it, in bytes

	slot *slot // of the Arena that it came from, if any
}

// Empty makes a float32 tensor. Its contents are zero on the CPU and
// unspecified on a GPU, NaN on the host device of the tests: use Zeros where
// they matter.
func (d *Device) Empty(shape ...int) *Tensor { return d.New(Float32, shape...) }

// Empty64 is Empty for float64.
func (d *Device) Empty64(shape ...int) *Tensor { return d.New(Float64, shape...) }

// New is Empty for any dtype. When the GPU's memory is exhausted the tensor has
// none and the device's stream keeps the error.
func (d *Device) New(dt DType, shape ...int) *Tensor {
	t := &Tensor{dev: d, dt: dt, shape: append([]int(nil), shape...), n: count(shape)}
	if int(dt) >= len(dtypes) {
		panic(fmt.Sprintf("gpu: New: unknown dtype %v", dt))
	}
	if d.CUDA() {
		t.gpu = d.alloc(t)
		return t
	}
	switch dt {
	case Float32:
		t.f32 = make([]float32, t.n)
	case Float64:
		t.f64 = make([]float64, t.n)
	case Float16, BFloat16:
		t.u16 = make([]uint16, t.n)
	case Int32:
		t.i32 = make([]int32, t.n)
	case Uint8:
		t.u8 = make([]uint8, t.n)
	}
	return t
}

// Zeros makes a tensor of zeros.
func (d *Device) Zeros(dt DType, shape ...int) *Tensor {
	t := d.New(dt, shape...)
	if d.CUDA() {
		d.stream.Memset(t.Ptr(), 0, t.bytes())
	}
	return t
}

// From makes a float32 tensor of v: on the CPU it wraps v without copying it,
// on a GPU it copies v there.
func (d *Device) From(v []float32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return wrap(&Tensor{dt: Float32, f32: v}, len(v), shape).To(d)
}

// From64 is From for float64.
func (d *Device) From64(v []float64, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return wrap(&Tensor{dt: Float64, f64: v}, len(v), shape).To(d)
}

// FromInt32 is From for int32.
func (d *Device) FromInt32(v []int32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return wrap(&Tensor{dt: Int32, i32: v}, len(v), shape).To(d)
}

// FromUint8 is From for uint8.
func (d *Device) FromUint8(v []uint8, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return wrap(&Tensor{dt: Uint8, u8: v}, len(v), shape).To(d)
}

// wrap completes a tensor of n elements on the CPU.
func wrap(t *Tensor, n int, shape []int) *Tensor {
	t.dev, t.n, t.shape = cpuDevice, n, append([]int(nil), shape...)
	return t
}

// FromAs makes a tensor of a float dtype from v, each element rounded to
// nearest, ties to even. It never wraps v.
func (d *Device) FromAs(dt DType, v []float32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	t := CPU().New(dt, shape...)
	switch dt {
	case Float32:
		copy(t.f32, v)
	case Float64:
		for i, x := range v {
			t.f64[i] = float64(x)
		}
	case Float16:
		for i, x := range v {
			t.u16[i] = FloatToF16(x)
		}
	case BFloat16:
		for i, x := range v {
			t.u16[i] = FloatToBF16(x)
		}
	default:
		panic(fmt.Sprintf("gpu: FromAs: %v is not a float dtype", dt))
	}
	return t.To(d)
}

// Like makes a tensor of t's device, dtype and shape, as New does.
func (t *Tensor) Like() *Tensor { return t.dev.New(t.dt, t.shape...) }

// Device is where t lives.
func (t *Tensor) Device() *Device { return t.dev }

// DType is the type of t's elements.
func (t *Tensor) DType() DType { return t.dt }

// Shape is t's shape; callers do not change it.
func (t *Tensor) Shape() []int { return t.shape }

// Len is the number of elements.
func (t *Tensor) Len() int { return t.n }

// Double tells whether t is float64.
func (t *Tensor) Double() bool { return t.dt == Float64 }

// F32 is the storage of a float32 tensor on the CPU, else nil.
func (t *Tensor) F32() []float32 { return t.f32 }

// F64 is the storage of a float64 tensor on the CPU, else nil.
func (t *Tensor) F64() []float64 { return t.f64 }

// U16 is the storage of a float16 or bfloat16 tensor on the CPU, else nil.
func (t *Tensor) U16() []uint16 { return t.u16 }

// I32 is the storage of an int32 tensor on the CPU, else nil.
func (t *Tensor) I32() []int32 { return t.i32 }

// U8 is the storage of a uint8 tensor on the CPU, else nil.
func (t *Tensor) U8() []uint8 { return t.u8 }

// Ptr is the address of t's first element on a GPU; 0 on the CPU and for a
// tensor without elements. It panics when t was freed.
func (t *Tensor) Ptr() cuda.Ptr {
	if t.gpu == nil {
		return 0
	}
	p := t.gpu.address()
	if p == 0 || t.n == 0 {
		return 0
	}
	return p + t.off
}

// count is the number of elements of a shape; it panics on a negative size and
// on more elements than an int holds.
func count(shape []int) int {
	n := 1
	for _, d := range shape {
		if d < 0 {
			panic(fmt.Sprintf("gpu: negative size in shape %v", shape))
		}
		if d > 0 && n > math.MaxInt/16/d {
			panic(fmt.Sprintf("gpu: shape %v has too many elements", shape))
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
