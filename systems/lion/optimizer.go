package lion

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Optimizer trains a network by a program, as nn.Optimizer. It works on the CPU, in the
// network's dtype, on the parameters alone: padding between them is not seen, for a
// program may do anything with zeros. Parameters that are frozen when it is made keep out.
type Optimizer struct {
	net   *nn.Params
	steps *gpu.Tensor
	parts []*nn.Param
	f32   *run[float32]
	f64   *run[float64]
}

// run is a machine with the vectors that it works on.
type run[T Float] struct {
	*Machine[T]
	w, g []T
}

func newRun[T Float](g *Graph, n int) *run[T] {
	return &run[T]{NewMachine[T](g, n), make([]T, n), make([]T, n)}
}

// NewOptimizer makes an optimiser of net, which is laid out, with the state at zero.
func NewOptimizer(net *nn.Params, g *Graph) *Optimizer {
	o := &Optimizer{net: net, steps: gpu.CPU().Empty64(1)}
	n := 0
	for _, p := range net.All() {
		if !p.Frozen {
			o.parts = append(o.parts, p)
			n += p.Value.Len()
		}
	}
	if net.Value().DType() == gpu.Float64 {
		o.f64 = newRun[float64](g, n)
	} else {
		o.f32 = newRun[float32](g, n)
	}
	return o
}

// Step is the Optimizer's. lr is what the program sees under that name.
func (o *Optimizer) Step(lr float64) {
	if !(lr >= 0) || math.IsInf(lr, 0) {
		panic(fmt.Sprintf("lion: the learning rate is %g, want a finite number >= 0", lr))
	}
	o.steps.F64()[0]++
	if o.f64 != nil {
		step(o, o.f64, lr, (*gpu.Tensor).F64)
	} else {
		step(o, o.f32, lr, (*gpu.Tensor).F32)
	}
	o.net.ZeroGrad()
}

func step[T Float](o *Optimizer, r *run[T], lr float64, of func(*gpu.Tensor) []T) {
	at := 0
	for _, p := range o.parts {
		copy(r.g[at:], of(p.Grad()))
		at += copy(r.w[at:], of(p.Value))
	}
	r.Machine.Step(r.w, r.g, lr)
	at = 0
	for _, p := range o.parts {
		at += copy(of(p.Value), r.w[at:])
	}
}

// Steps is how many steps were made.
func (o *Optimizer) Steps() int { return int(o.steps.F64()[0]) }

// State is the Optimizer's: the number of steps, the state's tensors and its scalars, by
// the program's names.
func (o *Optimizer) State() []nn.Named {
	out := []nn.Named{{Name: "steps", Tensor: o.steps}}
	if o.f64 != nil {
		return append(out, kept(o.f64, func(v []float64) *gpu.Tensor { return gpu.CPU().From64(v, len(v)) })...)
	}
	return append(out, kept(o.f32, func(v []float32) *gpu.Tensor { return gpu.CPU().From(v, len(v)) })...)
}

// kept is the state of a machine, whose memory the tensors share.
func kept[T Float](r *run[T], of func([]T) *gpu.Tensor) []nn.Named {
	var out []nn.Named
	for i, s := range r.graph.states {
		if at := r.places[i]; s.kind == Tensor {
			out = append(out, nn.Named{Name: s.name, Tensor: of(r.tensors[at])})
		} else {
			out = append(out, nn.Named{Name: s.name, Tensor: gpu.CPU().From64(r.scalars[at:at+1], 1)})
		}
	}
	return out
}
