package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Adafactor is Adafactor (Shazeer and Stern 2018, arXiv 1804.04235): Adam without
// momentum, whose second moment of a matrix is kept as means over rows and columns alone,
// and whose steps are relative to a parameter's size. A parameter [out, ...] of two axes or
// more is a matrix of out rows. Step t has β2 = 1 - t^-Power, and moves p by lr·max(Eps,
// RMS(p)) times the update, whose root mean square is Clip at most.
type Adafactor struct {
	optim
	o    AdafactorOptions
	list []factors
	part func(lo, hi int, lr, decay float64)
}

// AdafactorOptions are Adafactor's; zeros stand for the defaults.
type AdafactorOptions struct {
	Power    float64 // 0.8
	Floor    float64 // least second moment: 1e-30
	Clip     float64 // 1
	Eps      float64 // least size that steps are relative to: 1e-3
	Absolute bool    // steps are lr times the update
	Beta1    float64 // of a momentum of updates; 0 keeps none
	Decay    float64 // decoupled: p is multiplied by 1 - lr·Decay
	Groups   []Group
}

// factors are the moments of a parameter.
type factors struct {
	p        *Param
	row, col *gpu.Tensor // row is nil where there is no matrix
	m        *gpu.Tensor // nil without momentum
}

// NewAdafactor makes an optimiser of net, which is laid out.
func NewAdafactor(net *Params, o AdafactorOptions) *Adafactor {
	o.Power, o.Floor, o.Clip, o.Eps = or(o.Power, 0.8), or(o.Floor, 1e-30), or(o.Clip, 1), or(o.Eps, 1e-3)
	if !(o.Power > 0 && o.Floor > 0 && o.Clip > 0 && o.Eps > 0 && o.Beta1 >= 0 && o.Beta1 < 1 && o.Decay >= 0) {
		panic(fmt.Sprintf("nn: NewAdafactor: power %g, floor %g, clip %g, eps %g, beta1 %g, decay %g, want the first four > 0, beta1 in [0, 1), decay >= 0", o.Power, o.Floor, o.Clip, o.Eps, o.Beta1, o.Decay))
	}
	a := &Adafactor{optim: newOptim(net, o.Groups), o: o}
	for _, p := range net.list {
		f := factors{p: p}
		if s := p.Shape(); len(s) > 1 {
			f.row, f.col = net.dev.Zeros(net.dt, s[0]), net.dev.Zeros(net.dt, p.Value.Len()/s[0])
		} else {
			f.col = net.dev.Zeros(net.dt, p.Value.Len())
		}
		if o.Beta1 > 0 {
			f.m = net.dev.Zeros(net.dt, p.Shape()...)
		}
		a.list = append(a.list, f)
	}
	a.part = a.run
	return a
}

// Step is the Optimizer's.
func (a *Adafactor) Step(lr float64) { a.step("Adafactor", lr, a.part) }

func (a *Adafactor) run(lo, hi int, lr, decay float64) {
	cfg := ops.AdafactorConfig{New: math.Pow(a.steps.F64()[0], -a.o.Power), Floor: a.o.Floor, Clip: a.o.Clip}
	for i := range a.list {
		f := &a.list[i]
		if f.p.lo < lo || f.p.hi > hi {
			continue
		}
		by := lr
		if !a.o.Absolute {
			by *= max(a.o.Eps, math.Sqrt(ops.SumSquares(f.p.Value)/float64(f.p.Value.Len())))
		}
		update := f.p.Grad()
		ops.Adafactor(update, f.row, f.col, cfg)
		if f.m != nil {
			ops.Affine(f.m, a.o.Beta1, f.m, 1-a.o.Beta1, update, 0, false)
			update = f.m
		}
		ops.Affine(f.p.Value, 1-lr*a.o.Decay*decay, f.p.Value, -by, update, 0, false)
	}
}

// State is the Optimizer's: the moments under the parameters' names.
func (a *Adafactor) State() []Named {
	out := []Named{{"steps", a.steps}}
	for _, f := range a.list {
		if f.row != nil {
			out = append(out, Named{f.p.Name + ".row", f.row})
		}
		out = append(out, Named{f.p.Name + ".col", f.col})
		if f.m != nil {
			out = append(out, Named{f.p.Name + ".m", f.m})
		}
	}
	return out
}
