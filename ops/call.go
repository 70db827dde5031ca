package ops

import (
	"slices"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// call is an operation of networks on its way to the workers, pooled with its
// closure, so that a step allocates nothing. fn does item i of n; it is a
// function, not a closure, and finds its operands here.
type call struct {
	fn     func(c *call, w *cpu.Worker, i int)
	t      [10]*gpu.Tensor
	n      [16]int
	f      [4]float64
	acc    bool
	silu   bool
	fun    cpu.Func
	two    cpu.Pair
	ax     axes
	p      product
	group  grouped
	linear linear
	grads  LinearAttentionGrads

	adam cpu.Adam
	lion cpu.Lion
	sgd  SGDConfig
	conv conv
	mask Mask
	run  func(w *cpu.Worker, i int)

	f32 scratch[float32]
	f64 scratch[float64]
}

// scratch is memory of a call that the pool keeps with it.
type scratch[T cpu.Float] struct{ v []T }

func (s *scratch[T]) take(n int) []T {
	if cap(s.v) < n {
		s.v = make([]T, n)
	}
	s.v = s.v[:n]
	return s.v
}

// scratchOf is c's scratch memory of type T.
func scratchOf[T cpu.Float](c *call) *scratch[T] {
	if s, ok := any(&c.f32).(*scratch[T]); ok {
		return s
	}
	return any(&c.f64).(*scratch[T])
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.run = func(w *cpu.Worker, i int) { c.fn(c, w, i) }
	return c
}}

func newCall(fn func(c *call, w *cpu.Worker, i int), ts ...*gpu.Tensor) *call {
	c := calls.Get().(*call)
	c.fn = fn
	copy(c.t[:], ts)
	return c
}

// each runs the items, on all workers where there are several, and gives c back.
func (c *call) each(n int) {
	cpu.Join(n, c.run)
	c.drop()
}

// onWorkers is each for items that need a worker.
func (c *call) onWorkers(n int) {
	cpu.Each(n, c.run)
	c.drop()
}

func (c *call) drop() {
	clear(c.t[:])
	c.fn, c.acc, c.silu, c.grads = nil, false, false, LinearAttentionGrads{}
	calls.Put(c)
}

func (c *call) double() bool { return c.t[0].Double() }

// data is the storage of t on the CPU; of nil, nil.
func data[T cpu.Float](t *gpu.Tensor) []T {
	if t == nil {
		return nil
	}
	if v, ok := any(t.F32()).([]T); ok {
		return v
	}
	return any(t.F64()).([]T)
}

// streamOf is where an operation on these tensors is launched, nil on the CPU. It panics unless all
// that are not nil are float32, or all float64, and on one device.
func streamOf(op string, ts ...*gpu.Tensor) *cuda.Stream {
	oneFloat(op, ts)
	return sameDevice(op, ts...).Stream()
}

func oneFloat(op string, ts []*gpu.Tensor) {
	first := ts[0]
	for i, t := range ts {
		if t != nil && (t.DType() != first.DType() || t.DType() != gpu.Float32 && t.DType() != gpu.Float64) {
			fail(op, "operand %d is %v, the first %v, want float32 or float64 for all", i, t.DType(), first.DType())
		}
	}
}

// sameShape panics unless all tensors that are not nil have t's shape.
func sameShape(op string, t *gpu.Tensor, ts ...*gpu.Tensor) {
	for i, u := range ts {
		if u != nil && !slices.Equal(u.Shape(), t.Shape()) {
			fail(op, "shapes %v and %v (operand %d) differ", t.Shape(), u.Shape(), i+1)
		}
	}
}

// lastAxis is rows and columns of t as a matrix of its last axis.
func lastAxis(op string, t *gpu.Tensor) (rows, cols int) {
	s := t.Shape()
	if len(s) == 0 {
		fail(op, "the operand has no axis, want shape [..., n]")
	}
	cols = s[len(s)-1]
	if cols == 0 {
		return 0, 0
	}
	return t.Len() / cols, cols
}
