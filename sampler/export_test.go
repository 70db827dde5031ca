package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// SetLevels gives e the Options.Levels of a run.
func SetLevels(e *Eval, levels func(step int, x *gpu.Tensor, from, to []diffusion.Point) error) {
	e.own = levels
}

// Tableau shows what a Runge-Kutta method is made of.
func (s RungeKutta) Tableau() (c []float64, a [][]float64, b []float64) { return s.t.c, s.t.a, s.t.b }

// ThePair is Dormand and Prince's method with its error weights.
func ThePair() (s RungeKutta, e []float64) { return RungeKutta{&dormandPrince}, dormandPrince.e }
