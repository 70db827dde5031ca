package sampler

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPMSinglestep is the single-step DPM-Solver(++) as schedulers with a fixed list
// of levels run it: the nodes inside a step are the grid's own levels, so that
// Order steps of the grid make one step of the method, and every evaluation has
// its level in the list. Step k of a group goes from the group's first state to
// the next level by exponential's formula of order k+1.
//
// An incomplete last group is of the order of its length. A group that begins at
// pure noise begins a step later, and a step to zero noise is x' = D_0.
type DPMSinglestep struct {
	Order      int  // 2 or 3
	Noise      bool // the integral of ε, DPM-Solver; else of D, DPM-Solver++
	Taylor     bool // the Taylor form, else the midpoint form
	LowerFinal bool // the last step is of first order at least when Order divides the number of steps
}

// Name is "dpm-singlestep" with its options.
func (s DPMSinglestep) Name() string {
	form, of := "midpoint", "x0"
	if s.Taylor {
		form = "taylor"
	}
	if s.Noise {
		of = "eps"
	}
	return name("dpm-singlestep", "order=2", s.Order, "of=x0|eps", of, "form=midpoint|taylor", form, "lower-final=0", s.LowerFinal)
}

// Check refuses orders other than 2 and 3 and fewer steps than a group has.
func (s DPMSinglestep) Check(g *diffusion.Grid) error {
	if s.Order != 2 && s.Order != 3 {
		return fmt.Errorf("sampler: dpm-singlestep: order %d; wanted 2 or 3 (ddim is order 1)", s.Order)
	}
	return needSteps(s, g, s.Order)
}

// Rises is true: the formulas have no direction.
func (DPMSinglestep) Rises() bool { return true }

// NFE is one per step.
func (DPMSinglestep) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s DPMSinglestep) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is the order.
func (s DPMSinglestep) Keep() int { return s.Order }

// Noisy is false.
func (DPMSinglestep) Noisy() bool { return false }

// place is the place in its group of step i of n.
func (s DPMSinglestep) place(i, n int) int {
	if s.LowerFinal && n%s.Order == 0 && i == n-1 {
		return 0
	}
	return i % s.Order
}

// Coeffs implements Table. The group's first state comes back from the present
// one and the D since then.
func (s DPMSinglestep) Coeffs(c []float64, h *History) {
	if h.To.B == 0 {
		c[1] = 1
		return
	}
	var nodes [3]diffusion.Point
	var states [3]combo
	k := min(s.place(h.Step, h.Steps), len(h.At)-1)
	if k > 0 && h.At[k].A == 0 {
		k--
	}
	for j := range k + 1 {
		nodes[j] = h.At[k-j]
	}
	how := exponential{s.Noise, s.Taylor}
	states[0] = combo{1}
	for j := range k {
		states[j+1] = how.step(nodes[:j+1], states[:j+1], nodes[j+1])
	}
	x, now := how.step(nodes[:k+1], states[:k+1], h.To), states[k]
	c[0] = x[0] / now[0]
	for j := range k + 1 {
		c[1+k-j] = x[1+j] - c[0]*now[1+j]
	}
}
