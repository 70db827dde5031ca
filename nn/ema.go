package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// EMA is an exponential moving average of a network's parameters: after step n, average =
// d·average + (1-d)·parameters with d = min(Decay, (1+n)/(10+n)), so that early values
// are soon forgotten; with NoWarmup, d = Decay.
type EMA struct {
	Decay    float64
	NoWarmup bool

	net   *Params
	value *gpu.Tensor
	swap  *gpu.Tensor
	steps *gpu.Tensor // float64 [1]
}

// NewEMA starts an average of net at its parameters as they are.
func NewEMA(net *Params, decay float64) *EMA {
	if !(decay >= 0 && decay < 1) {
		panic(fmt.Sprintf("nn: NewEMA: decay %g, want 0 <= decay < 1", decay))
	}
	e := &EMA{Decay: decay, net: net, value: net.dev.New(net.dt, net.Value().Len()), steps: gpu.CPU().Empty64(1)}
	e.value.Copy(net.value)
	return e
}

// Update takes the parameters in, after an optimiser's step.
func (e *EMA) Update() {
	e.steps.F64()[0]++
	n, d := e.steps.F64()[0], e.Decay
	if !e.NoWarmup {
		d = min(d, (1+n)/(10+n))
	}
	ops.Affine(e.value, d, e.value, 1-d, e.net.value, 0, false)
}

// Swap exchanges the network's parameters with the average: once to evaluate, once more
// to go on training.
func (e *EMA) Swap() {
	if e.swap == nil {
		e.swap = e.net.dev.New(e.net.dt, e.value.Len())
	}
	e.swap.Copy(e.value)
	e.value.Copy(e.net.value)
	e.net.value.Copy(e.swap)
}

// State is the average under the parameters' names, and the number of steps.
func (e *EMA) State() []Named {
	out := []Named{{"steps", e.steps}}
	for _, p := range e.net.list {
		out = append(out, Named{p.Name, e.value.Rows(p.lo, p.hi).View(p.shape...)})
	}
	return out
}
