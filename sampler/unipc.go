package sampler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// UniPC is the predictor-corrector of Zhao et al. 2023 ("UniPC: A Unified
// Predictor-Corrector Framework for Fast Sampling of Diffusion Models"), with
// m the denoised x and z = -h, or the predicted noise and z = h, for the step h =
// λ'-λ in λ = ln(A/B), and r_k = (λ_k-λ)/h for the points before:
//
//	x' = first order's step with a mean of m in place of m
//	   = m_0 + B(h)/expm1(z)·Σ_k ρ_k·(m_k - m_0)/r_k
//	Σ_k r_k^(i-1)·ρ_k = z·i!·φ_{i+1}(z)/B(h),   i = 1, 2, …
//
// The predictor of order p has the p-1 points before, the corrector also the
// evaluation at x', r = 1, which the next step needs anyway: it mends x' after
// that, without another evaluation. B(h) is z for bh1 and expm1(z) for bh2; it
// matters only where the papers' code puts ρ = 1/2 for the solution of the one
// equation of a predictor of second order and a corrector of first. Vary solves
// that one too, and is the authors' variant of varying coefficients.
//
// The corrector adds one to the order: a step of order p leaves an error of order
// p+2. The first steps have as many points as there are; the first, of order 1,
// limits the method's order to 3 in the end. A step to zero noise with m = D
// ends at D.
//
// The correction and the step after it are one combination here, for the
// difference of corrector and predictor is one of the m. The states between steps
// are the predictor's.
type UniPC struct {
	onePerStep
	Order       int // of the predictor, 1 to 5; 0 means 2
	Variant     UniPCVariant
	Noise       bool // m is the predicted noise
	NoCorrector bool
	Skip        []int // steps that go uncorrected
	LowerFinal  LowerFinal
}

// UniPCVariant is the choice of B(h).
type UniPCVariant uint8

// The variants.
const (
	BH2 UniPCVariant = iota
	BH1
	Vary
)

var uniPCVariants = []string{"bh2", "bh1", "vary"}

func (v UniPCVariant) String() string { return uniPCVariants[v] }

func (s UniPC) order() int { return cmp.Or(s.Order, 2) }

// Name is "unipc" with its options.
func (s UniPC) Name() string {
	predict := "x0"
	if s.Noise {
		predict = "eps"
	}
	return name("unipc", "order=2|1|3|4|5", s.order(), "variant=bh2|bh1|vary", s.Variant.String(), "predict=x0|eps", predict,
		"corrector=1", !s.NoCorrector, "skip=[]", s.Skip, lowerShort, s.LowerFinal.String())
}

// Check refuses other orders, steps below 0, and fewer steps than the order.
func (s UniPC) Check(g *diffusion.Grid) error {
	for _, k := range s.Skip {
		if k < 0 || g != nil && k >= len(g.Steps) {
			return fmt.Errorf("sampler: unipc: skip=%d; wanted numbers of steps, from 0", k)
		}
	}
	return needOrder(s, g, s.order(), 1, 5)
}

// Start implements Solver.
func (s UniPC) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is the order, and one for the corrector.
func (s UniPC) Keep() int {
	if s.NoCorrector {
		return s.order()
	}
	return s.order() + 1
}

// KeepsNoise implements NoiseTable.
func (s UniPC) KeepsNoise() bool { return s.Noise }

// Coeffs implements Table.
func (s UniPC) Coeffs(c []float64, h *History) {
	p, order := s.predictor(h)
	p.step(c, h, order, s.Noise)
	if h.Step == 0 || s.NoCorrector || slices.Contains(s.Skip, h.Step-1) {
		return
	}
	before := h.before()
	p, order = s.predictor(&before)
	var r [maxWeights]float64
	r[0] = 1
	before.logNodes(r[1:], order)
	var w weights
	s.means(&w, &before, order+1)
	w.interpolate(r[:order+1])
	for j := range order {
		w[1+j] -= p[j]
	}
	w.mend(c, h, s.Noise)
}

// predictor is the weights of a step, and its order.
func (s UniPC) predictor(h *History) (w weights, order int) {
	order = s.LowerFinal.limit(h.order(s.order()), h)
	if order == 1 || h.To.B == 0 {
		return weights{1}, 1
	}
	var r [maxWeights]float64
	s.means(&w, h, order)
	w.interpolate(h.logNodes(r[:], order))
	return w, order
}

// means sets w to what n weights are made of.
func (s UniPC) means(w *weights, h *History, n int) {
	w.exponential(h, n, s.Noise)
	if n == 2 && s.Variant == BH1 {
		w[1] = 0.5 / phi(1, h.z(s.Noise))
	} else if n == 2 && s.Variant == BH2 {
		w[1] = 0.5
	}
}
