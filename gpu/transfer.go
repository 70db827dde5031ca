package gpu

import (
	"fmt"

	"github.com/fidlab/fidlab/cuda"
)

// To is t on device d: t itself if it is there already, else a copy. From a GPU
// to the CPU it waits, and an error leaves zeros and sticks to the GPU's stream.
func (t *Tensor) To(d *Device) *Tensor {
	if t.dev == d {
		return t
	}
	out := d.New(t.dt, t.shape...)
	out.copyFrom(t)
	return out
}

// Copy copies the elements of src, of t's dtype and number of elements and on any
// device, to t.
func (t *Tensor) Copy(src *Tensor) {
	if t.dt != src.dt || t.n != src.n {
		panic(fmt.Sprintf("gpu: Copy: %v %v to %v %v", src.dt, src.shape, t.dt, t.shape))
	}
	t.copyFrom(src)
}

func (t *Tensor) copyFrom(src *Tensor) {
	switch here, there := t.dev.CUDA(), src.dev.CUDA(); {
	case here && there:
		t.dev.stream.CopyFrom(t.Ptr(), src.Ptr(), src.dev.stream, t.bytes())
	case here:
		t.dev.stream.CopyIn(t.Ptr(), src.storage())
	case there:
		_ = src.dev.stream.CopyOut(t.storage(), src.Ptr()) // the error sticks to the stream
	default:
		copy(t.storage(), src.storage())
	}
}

// Set copies v, of t's length, into t, rounded to t's float dtype as FromAs does.
func (t *Tensor) Set(v []float32) {
	if len(v) != t.n {
		panic(fmt.Sprintf("gpu: Set: %d elements into a tensor of %d", len(v), t.n))
	}
	if t.dt == Float32 {
		t.copyFrom(wrap(&Tensor{dt: Float32, f32: v}, len(v), nil))
		return
	}
	t.copyFrom(CPU().FromAs(t.dt, v, len(v)))
}

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
	t, err := t.local(dst)
	if err != nil {
		return err
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

// local is t on the CPU; into is used as storage where it serves.
func (t *Tensor) local(into []float32) (*Tensor, error) {
	if !t.dev.CUDA() {
		return t, nil
	}
	var host *Tensor
	if t.dt == Float32 && len(into) == t.n {
		host = wrap(&Tensor{dt: Float32, f32: into}, t.n, t.shape)
	} else {
		host = CPU().New(t.dt, t.shape...)
	}
	if t.n == 0 {
		return host, t.dev.Sync()
	}
	return host, t.dev.stream.CopyOut(host.storage(), t.Ptr())
}

// Read64 is Read into float64.
func (t *Tensor) Read64(dst []float64) error {
	if len(dst) != t.n {
		panic(fmt.Sprintf("gpu: Read64: %d elements into a slice of %d", t.n, len(dst)))
	}
	t, err := t.local(nil)
	if err != nil {
		return err
	}
	switch t.dt {
	case Float64:
		copy(dst, t.f64)
		return nil
	case Int32: // beyond 2^24 a float32 is not exact
		for i, x := range t.i32 {
			dst[i] = float64(x)
		}
		return nil
	}
	v := make([]float32, t.n)
	err = t.Read(v)
	for i, x := range v {
		dst[i] = float64(x)
	}
	return err
}

// bytes is the size of t's storage.
func (t *Tensor) bytes() int { return t.n * t.dt.Size() }

// storage is the memory of a tensor on the CPU.
func (t *Tensor) storage() []byte {
	switch t.dt {
	case Float32:
		return cuda.Bytes(t.f32)
	case Float64:
		return cuda.Bytes(t.f64)
	case Int32:
		return cuda.Bytes(t.i32)
	case Uint8:
		return t.u8
	}
	return cuda.Bytes(t.u16)
}
