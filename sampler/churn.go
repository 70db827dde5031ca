package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// churned is the exact step of the stochastic equations of churn η for a
// constant denoised x, from (A, B) to (A', B') with r = sigma'/sigma:
//
//	x' = r^η·(B'/B)·x + (A' - A·r^η·B'/B)·D + B'·√(1-r^(2η))·z
//
// which keeps A·x0 + B·n in law for every η (Gonzalez et al. 2023, arXiv
// 2305.14267; Xue et al. 2023, arXiv 2309.05019, with τ² = η). Pure noise (r =
// 0) and zero noise (B' = 0) need no cases, but that nothing of x stays at η > 0.
func churned(from, to diffusion.Point, eta float64) (keep, noise float64) {
	if eta == 0 {
		return to.B / from.B, 0
	}
	r := to.Sigma() / from.Sigma()
	return math.Pow(r, eta) * to.B / from.B, to.B * math.Sqrt(-math.Expm1(2*eta*math.Log(r)))
}

// ancestral splits a step to (A', B') into a noiseless one and fresh noise, as
// k-diffusion does: with r = sigma'/sigma, the noiseless step ends at
//
//	sigma_down = sigma'·√(1 - η²·(1-r²)),   and B'·η·√(1-r²) is the noise's size.
func ancestral(from, to diffusion.Point, eta float64) (down diffusion.Point, noise float64) {
	r := to.Sigma() / from.Sigma()
	up := eta * eta * (1 - r*r)
	return diffusion.Point{A: to.A, B: to.B * math.Sqrt(1-up)}, to.B * math.Sqrt(up)
}

// Churn is the noise that the samplers of Karras et al. 2022 (algorithm 2) add
// before a step: of N steps, one from sigma in [Min, Max] first raises it to
//
//	sigma^ = sigma·(1+γ),   γ = min(Amount/N, √2-1),
//
// by x + √(sigma^²-sigma²)·Noise·z on x/A. N counts all steps of the grid, the
// last one to zero with them.
type Churn struct{ Amount, Min, Max, Noise float64 }

// check refuses values out of range.
func (c Churn) check(who string) error {
	switch {
	case !(c.Amount >= 0) || math.IsInf(c.Amount, 1):
		return fmt.Errorf("sampler: %s: churn %g; wanted a finite number, 0 (none) or above", who, c.Amount)
	case !(c.Min >= 0 && c.Min < c.Max):
		return fmt.Errorf("sampler: %s: churn between sigma %g and %g; wanted 0 <= min < max", who, c.Min, c.Max)
	case !(c.Noise > 0) || math.IsInf(c.Noise, 1):
		return fmt.Errorf("sampler: %s: s-noise %g; wanted a finite number above 0", who, c.Noise)
	}
	return nil
}

// raised is where a step of n from p starts, in the scaling of space.
func (c Churn) raised(p diffusion.Point, space diffusion.Space, n int) diffusion.Point {
	sigma := p.Sigma()
	if sigma < c.Min || sigma > c.Max || p.A == 0 || c.Amount == 0 {
		return p
	}
	a, b := space.Scale(sigma * (1 + min(c.Amount/float64(n), math.Sqrt2-1)))
	return diffusion.Point{A: a, B: b}
}

// add noises x, a state at the start of a step, up to where raised says, and
// returns that point. z is memory.
func (c Churn) add(e *Eval, x, z *gpu.Tensor, g *diffusion.Grid, i int) (diffusion.Point, error) {
	from, to := g.Steps[i].From, g.Steps[i].To
	up := c.raised(from, g.Space, len(g.Steps))
	if up == from {
		return from, nil
	}
	if err := e.Increment(z, from, to, 1); err != nil {
		return from, err
	}
	s, su := from.Sigma(), up.Sigma()
	k := [2]float64{up.A / from.A, up.A * math.Sqrt(su*su-s*s) * c.Noise}
	ops.LinComb(x, k[:], x, z) // what is not finite shows in the step
	return up, nil
}
