package gpu

import (
	"fmt"
	"runtime"

	"github.com/fidlab/fidlab/cuda"
)

// memory is a piece of a GPU's memory. Tensors that are views of one another
// share it; it goes back to the device at Free, or when no tensor refers to it.
type memory struct {
	ptr     cuda.Ptr // 0: it has no bytes, or there were none to be had
	stream  *cuda.Stream
	cleanup runtime.Cleanup
	freed   bool
}

func (d *Device) alloc(t *Tensor) *memory {
	m := &memory{ptr: d.stream.Alloc(t.bytes()), stream: d.stream}
	if m.ptr != 0 {
		m.cleanup = runtime.AddCleanup(m, func(p cuda.Ptr) { d.stream.Abandon(p) }, m.ptr)
	}
	return m
}

func (m *memory) address() cuda.Ptr {
	if m.freed {
		panic("gpu: a tensor was used after Free")
	}
	return m.ptr
}

func (m *memory) free() {
	if m.freed {
		return
	}
	m.freed = true
	if m.ptr != 0 {
		m.cleanup.Stop()
		m.stream.Free(m.ptr)
	}
}

// Free gives t's memory back; neither t nor a view of it is used after. Freeing
// again does nothing. Tensors that are not freed are given back by the garbage
// collector, some time: free those of a loop, or make them before it.
func (t *Tensor) Free() {
	if t.gpu != nil {
		t.gpu.free()
	}
	t.f32, t.f64, t.u16, t.i32, t.u8 = nil, nil, nil, nil, nil
}

// View is t's memory under another shape of as many elements.
func (t *Tensor) View(shape ...int) *Tensor {
	mustHold(shape, t.n)
	v := *t
	v.shape = append([]int(nil), shape...)
	return &v
}

// Rows is t's memory from element lo to hi of the first axis, without a copy. It
// panics unless 0 <= lo <= hi <= that axis's size.
func (t *Tensor) Rows(lo, hi int) *Tensor {
	if len(t.shape) == 0 || lo < 0 || hi < lo || hi > t.shape[0] {
		panic(fmt.Sprintf("gpu: Rows: %d to %d of shape %v", lo, hi, t.shape))
	}
	size := count(t.shape[1:])
	v := *t
	v.shape = append([]int{hi - lo}, t.shape[1:]...)
	v.n = (hi - lo) * size
	from, to := lo*size, hi*size
	switch {
	case t.gpu != nil:
		v.off += cuda.Ptr(from * t.dt.Size())
	case t.dt == Float32:
		v.f32 = t.f32[from:to:to]
	case t.dt == Float64:
		v.f64 = t.f64[from:to:to]
	case t.dt.Half():
		v.u16 = t.u16[from:to:to]
	case t.dt == Int32:
		v.i32 = t.i32[from:to:to]
	default:
		v.u8 = t.u8[from:to:to]
	}
	return &v
}

// On is t's memory for use on d, a Fork of t's device, without a copy: what d
// does from now on comes after all that was queued on t's device. The caller sees
// to it that the two do not write what the other reads later than that.
func (t *Tensor) On(d *Device) *Tensor {
	if t.dev == d {
		return t
	}
	if !d.CUDA() || !t.dev.CUDA() || d.stream.Dev() != t.dev.stream.Dev() {
		panic("gpu: On: " + d.name + " does not have the memory of " + t.dev.name + "; To copies it")
	}
	d.stream.After(t.dev.stream)
	d.stream.Share(t.Ptr())
	v := *t
	v.dev = d
	return &v
}
