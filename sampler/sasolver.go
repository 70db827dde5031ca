package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// SASolver is the stochastic Adams method of Xue et al. 2023 (arXiv 2309.05019,
// data prediction, eq. 14 to 18 and algorithm 1): the stochastic equation of
// churn τ², with D interpolated in λ. With q = 1+τ², h = λ'-λ and L_j the
// Lagrange polynomials of the levels λ_j where D was evaluated,
//
//	x' = e^-τ²h·(B'/B)·x + A'·Σ_j D_j·∫_λ^λ' q·e^-q(λ'-l)·L_j(l) dl + B'·√(1-e^-2τ²h)·z
//
// The predictor takes the last Predictor evaluations; when the next one is
// known, the corrector does the step anew with it among the last Corrector ones
// and with the same z, at no further evaluation. τ is Tau for steps that start
// at sigma in [Min, Max] and 0 elsewhere: the paper adds noise between sigma
// 0.05 and 1 on the paths of Karras et al.
//
// The first steps are of lower order; nothing is extrapolated from or corrected
// against pure noise, and a step to zero noise is x' = D.
type SASolver struct {
	Predictor, Corrector int // orders: 1 to 3, and 0 (no corrector) to 3
	Tau, Min, Max        float64
}

// DefaultSASolver has orders 3 and 3 and noise at every level up to sigma 1e6.
func DefaultSASolver() SASolver { return SASolver{3, 3, 1, 0, 1e6} }

// Name is "sa-solver" with its options.
func (s SASolver) Name() string {
	return name("sa-solver", "predictor=3", s.Predictor, "corrector=3", s.Corrector, "tau=1", s.Tau, "tau-min=0", s.Min, "tau-max=1e+06", s.Max)
}

// Check refuses orders and noise out of range, and fewer steps than the orders.
func (s SASolver) Check(g *diffusion.Grid) error {
	if s.Predictor < 1 || s.Predictor > 3 || s.Corrector < 0 || s.Corrector > 3 {
		return fmt.Errorf("sampler: %s: orders %d and %d; wanted a predictor of 1 to 3 and a corrector of 0 to 3", s.Name(), s.Predictor, s.Corrector)
	}
	if !(s.Min >= 0 && s.Min < s.Max) {
		return fmt.Errorf("sampler: %s: tau between sigma %g and %g; wanted 0 <= min < max", s.Name(), s.Min, s.Max)
	}
	if err := checkChurn(s, "tau²", s.Tau*s.Tau); err != nil {
		return err
	}
	return needSteps(s, g, max(s.Predictor, s.Corrector))
}

// NFE is one per step.
func (SASolver) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s SASolver) Start(like *gpu.Tensor) Stepper {
	if s.Corrector == 0 {
		return StartTable(saPredictor{s}, like)
	}
	return StartTable(s, like)
}

// saPredictor hides Correct.
type saPredictor struct{ Table }

func (s saPredictor) churn(p diffusion.Point) float64 { return s.Table.(SASolver).churn(p) }

// Keep is the larger order; a corrector needs to know where the step started.
func (s SASolver) Keep() int { return max(s.Predictor, s.Corrector, min(s.Corrector, 1)+1) }

// Noisy is true unless τ is 0.
func (s SASolver) Noisy() bool { return s.Tau != 0 }

// churn is τ².
func (s SASolver) churn(p diffusion.Point) float64 {
	if sigma := p.Sigma(); sigma < s.Min || sigma > s.Max {
		return 0
	}
	return s.Tau * s.Tau
}

// Coeffs implements Table.
func (s SASolver) Coeffs(c []float64, h *History) {
	s.step(c, h.At[0], h.To, h.At, s.Predictor)
}

// Correct implements Corrector.
func (s SASolver) Correct(c []float64, h *History) bool {
	if h.At[1].A == 0 {
		return false
	}
	s.step(c, h.At[1], h.At[0], h.At, s.Corrector)
	return true
}

// step writes a step's coefficients with the first order of the evaluations at.
func (s SASolver) step(c []float64, from, to diffusion.Point, at []diffusion.Point, order int) {
	eta := s.churn(from)
	keep, noise := churned(from, to, eta)
	c[0] = keep
	if s.Noisy() {
		c[len(at)+1] = noise
	}
	whole := to.A - from.A*keep // A'·(1-e^-qh), the weights' sum
	if to.B == 0 || from.A == 0 {
		c[1] = whole
		return
	}
	// Nodes and the interval in l-λ.
	var t [3]float64
	n := 0
	for n < min(order, len(at)) && at[n].A > 0 {
		t[n] = math.Log(from.Sigma() / at[n].Sigma())
		n++
	}
	h, q := math.Log(from.Sigma()/to.Sigma()), 1+eta
	// J_m = ∫_0^h q·e^-q(h-t)·t^m dt = m!·q·h^(m+1)·φ_{m+1}(-qh).
	j0 := q * h * phi(1, -q*h)
	j1 := q * h * h * phi(2, -q*h)
	j2 := 2 * q * h * h * h * phi(3, -q*h)
	switch n {
	case 1:
		c[1] = whole
	case 2:
		for j := range 2 {
			o := t[1-j]
			c[1+j] = to.A * (j1 - o*j0) / (t[j] - o)
		}
	case 3:
		for j := range 3 {
			o, p := t[(j+1)%3], t[(j+2)%3]
			c[1+j] = to.A * (j2 - (o+p)*j1 + o*p*j0) / ((t[j] - o) * (t[j] - p))
		}
	}
}
