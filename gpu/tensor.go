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

	ptr cuda.Ptr // GPU storage
}

// Empty makes a float32 tensor. Its contents are zero on the CPU and
// unspecified on a GPU: use Zeros where they matter.
func (d *Device) Empty(shape ...int) *Tensor { return d.New(Float32, shape...) }

// Empty64 is Empty for float64.
func (d *Device) Empty64(shape ...int) *Tensor { return d.New(Float64, shape...) }

// New is Empty for any dtype. When the GPU's memory is exhausted the tensor has
// none and the device's stream keeps the error.
func (d *Device) New(dt DType, shape ...int) *Tensor {
	t := &Tensor{dev: d, dt: dt, shape: append([]int(nil), shape...), n: count(shape)}
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
	default:
		panic(fmt.Sprintf("gpu: New: unknown dtype %v", dt))
	}
	return t
}

// Zeros makes a tensor of zeros.
func (d *Device) Zeros(dt DType, shape ...int) *Tensor { return d.New(dt, shape...) }

// From makes a float32 tensor of v: on the CPU it wraps v without copying it,
// on a GPU it copies v there.
func (d *Device) From(v []float32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, dt: Float32, shape: append([]int(nil), shape...), n: len(v), f32: v}
}

// From64 is From for float64.
func (d *Device) From64(v []float64, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, dt: Float64, shape: append([]int(nil), shape...), n: len(v), f64: v}
}

// FromInt32 is From for int32.
func (d *Device) FromInt32(v []int32, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, dt: Int32, shape: append([]int(nil), shape...), n: len(v), i32: v}
}

// FromUint8 is From for uint8.
func (d *Device) FromUint8(v []uint8, shape ...int) *Tensor {
	mustHold(shape, len(v))
	return &Tensor{dev: d, dt: Uint8, shape: append([]int(nil), shape...), n: len(v), u8: v}
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

// To is t on device d: t itself if it is there already, else a copy.
func (t *Tensor) To(d *Device) *Tensor {
	if t.dev == d {
		return t
	}
	panic("gpu: To: no second device")
}

// Free gives t's memory back; t must not be used after it. Tensors that are
// not freed are given back by the garbage collector, some time.
func (t *Tensor) Free() {}

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
// tensor without elements.
func (t *Tensor) Ptr() cuda.Ptr { return t.ptr }

// Floats is a copy of t's elements as float32. On a GPU it waits for all work
// queued so far and reports the stream's error.
func (t *Tensor) Floats() ([]float32, error) {
	out := make([]float32, t.n)
	return out, t.Read(out)
}

// Read copies t's elements, converted to float32, to dst, as Floats does. It
// panics unless dst has t's length.
func (t *Tensor) Read(dst []float32) error {
	if len(dst) != t.n {
		panic(fmt.Sprintf("gpu: Read: %d elements into a slice of %d", t.n, len(dst)))
	}
	switch t.dt {
	case Float32:
		copy(dst, t.f32)
	case Float64:
		for i, v := range t.f64 {
			dst[i] = float32(v)
		}
	case Float16:
		for i, v := range t.u16 {
			dst[i] = F16ToFloat(v)
		}
	case BFloat16:
		for i, v := range t.u16 {
			dst[i] = BF16ToFloat(v)
		}
	case Int32:
		for i, v := range t.i32 {
			dst[i] = float32(v)
		}
	case Uint8:
		for i, v := range t.u8 {
			dst[i] = float32(v)
		}
	}
	return nil
}

// Read64 is Read into float64.
func (t *Tensor) Read64(dst []float64) error {
	if len(dst) != t.n {
		panic(fmt.Sprintf("gpu: Read64: %d elements into a slice of %d", t.n, len(dst)))
	}
	if t.dt == Float64 {
		copy(dst, t.f64)
		return nil
	}
	v := make([]float32, t.n)
	err := t.Read(v)
	for i, x := range v {
		dst[i] = float64(x)
	}
	if t.dt == Int32 { // beyond 2^24 a float32 is not exact
		for i, x := range t.i32 {
			dst[i] = float64(x)
		}
	}
	return err
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
