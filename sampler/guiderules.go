package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Standard is guidance away from one other prediction: with D the condition's x0
// and D_0 the other's, D_0 + w·(D - D_0). From Null it is classifier-free
// guidance (Ho and Salimans 2022, arXiv 2207.12598), or a negative prompt where
// Guided.Null is one; from Weak it is autoguidance (Karras et al. 2024, arXiv
// 2406.02507).
type Standard struct {
	From    CondSet // Null or Weak; the zero value is Null
	Rescale float64 // share of the added spread that is taken back (Lin et al. 2024, arXiv 2305.08891), 0 to 1
}

// Needs implements GuidanceRule.
func (r Standard) Needs(int) []CondSet {
	if r.From == Full {
		return []CondSet{Null}
	}
	return []CondSet{r.From}
}

// Idle is true at w = 1.
func (r Standard) Idle(w float64) bool { return w == 1 }

func (r Standard) check() error {
	if !(r.Rescale >= 0 && r.Rescale <= 1) {
		return fmt.Errorf("sampler: guidance rescale %g; wanted 0 to 1", r.Rescale)
	}
	return nil
}

// Combine implements GuidanceRule.
func (r Standard) Combine(out *gpu.Tensor, preds []*gpu.Tensor, w []float64, _ int) error {
	ops.Guide(out, preds[0], preds[1], w, r.Rescale)
	return nil
}

// Multi adds up several conditions (Liu et al. 2022, arXiv 2206.01714): with D_k
// that of Cond.Others[k],
//
//	D_0 + w·(D - D_0) + Σ_k Weights[k]·(D_k - D_0)
type Multi struct{ Weights []float64 }

// maxOthers keeps a sum within one pass over memory.
const maxOthers = 6

// Needs implements GuidanceRule.
func (r Multi) Needs(int) []CondSet { return others(Null, len(r.Weights)) }

func others(first CondSet, n int) []CondSet {
	sets := []CondSet{first}
	for k := range n {
		sets = append(sets, Other+CondSet(k))
	}
	return sets
}

// Idle is true where all other weights are 0.
func (r Multi) Idle(w float64) bool {
	for _, v := range r.Weights {
		if v != 0 {
			return false
		}
	}
	return w == 1
}

func (r Multi) check() error { return checkWeights("several conditions", r.Weights) }

func checkWeights(what string, weights []float64) error {
	if len(weights) > maxOthers {
		return fmt.Errorf("sampler: guidance by %s: %d further conditions; wanted at most %d", what, len(weights), maxOthers)
	}
	for _, v := range weights {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("sampler: guidance by %s: weights %v; wanted finite numbers", what, weights)
		}
	}
	return nil
}

// Combine implements GuidanceRule.
func (r Multi) Combine(out *gpu.Tensor, preds []*gpu.Tensor, w []float64, _ int) error {
	c := make([]float64, 0, len(w)*len(preds))
	for _, v := range w {
		rest := 1 - v
		for _, k := range r.Weights {
			rest -= k
		}
		c = append(append(c, v, rest), r.Weights...)
	}
	ops.LinCombRows(out, c, preds...)
	return nil
}

// PerpNeg is guidance by negative prompts that cannot undo the prompt
// (Armandpour et al. 2023, arXiv 2304.04968): of each v_k = D_k - D_0 only the
// part perpendicular to d = D - D_0 counts,
//
//	D_0 + w·(d + Σ_k Weights[k]·(v_k - (v_k·d/d·d)·d))
//
// with negative weights for what is to be avoided.
type PerpNeg struct {
	Weights []float64

	d, v *gpu.Tensor
}

// Needs implements GuidanceRule.
func (r *PerpNeg) Needs(int) []CondSet { return others(Null, len(r.Weights)) }

// Idle is false: at w = 1 the negative prompts still count.
func (r *PerpNeg) Idle(float64) bool { return false }

func (r *PerpNeg) check() error { return checkWeights("negative prompts", r.Weights) }

// Combine implements GuidanceRule.
func (r *PerpNeg) Combine(out *gpu.Tensor, preds []*gpu.Tensor, w []float64, _ int) error {
	r.d, r.v = fitting(r.d, out), fitting(r.v, out)
	d, v := r.d, r.v
	ops.LinComb(d, []float64{1, -1}, preds[0], preds[1])
	ops.Guide(out, preds[0], preds[1], w, 0)
	products := make([]ops.Products, len(w))
	c := make([]float64, 3*len(w))
	for k, weight := range r.Weights {
		ops.LinComb(v, []float64{1, -1}, preds[2+k], preds[1])
		ops.RowProducts(products, v, d)
		for b, p := range products {
			along := 0.0
			if p.BB > 0 {
				along = p.AB / p.BB
			}
			c[3*b], c[3*b+1], c[3*b+2] = 1, w[b]*weight, -w[b]*weight*along
		}
		ops.LinCombRows(out, c, out, v, d)
	}
	return nil
}

// Projected is adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416,
// algorithm 1): with m ← D - D_0 + Momentum·m, shortened to the length Norm, and
// split into the parts along and across D,
//
//	D + (w-1)·(m_across + Parallel·m_along)
//
// Parallel 1, no limit and no momentum is Standard. The paper takes Parallel 0,
// Norm 2.5 to 15 and a momentum of -0.5 to -0.75. With momentum it needs a solver
// that takes all images of a batch together.
type Projected struct {
	Parallel, Norm, Momentum float64 // Norm 0 is no limit

	m *gpu.Tensor
}

// Needs implements GuidanceRule.
func (r *Projected) Needs(int) []CondSet { return []CondSet{Null} }

// Idle is true at w = 1.
func (r *Projected) Idle(w float64) bool { return w == 1 }

func (r *Projected) begin() { r.m = nil }

func (r *Projected) check() error {
	if !(r.Norm >= 0) || !(r.Momentum > -1 && r.Momentum < 1) || math.IsNaN(r.Parallel) || math.IsInf(r.Parallel, 0) {
		return fmt.Errorf("sampler: projected guidance: parallel %g, norm %g, momentum %g; wanted a finite share, a length >= 0 and a momentum between -1 and 1",
			r.Parallel, r.Norm, r.Momentum)
	}
	return nil
}

// Combine implements GuidanceRule.
func (r *Projected) Combine(out *gpu.Tensor, preds []*gpu.Tensor, w []float64, _ int) error {
	m := r.m
	switch {
	case m == nil || r.Momentum == 0:
		m = fitting(m, out)
		ops.LinComb(m, []float64{1, -1}, preds[0], preds[1])
	case m.Len() != out.Len():
		return fmt.Errorf("sampler: projected guidance with momentum was asked for %d images after others; use a solver that takes the batch together", len(w))
	default:
		ops.LinComb(m, []float64{1, -1, r.Momentum}, preds[0], preds[1], m)
	}
	r.m = m
	products := make([]ops.Products, len(w))
	ops.RowProducts(products, m, preds[0])
	c := make([]float64, 0, 2*len(w))
	for b, p := range products {
		short := 1.0
		if norm := math.Sqrt(p.AA); r.Norm > 0 && norm > r.Norm {
			short = r.Norm / norm
		}
		along := 0.0
		if p.BB > 0 {
			along = short * p.AB / p.BB
		}
		f := w[b] - 1
		c = append(c, 1+f*(r.Parallel-1)*along, f*short)
	}
	ops.LinCombRows(out, c, preds[0], m)
	return nil
}

// Interleaved guides by one of two dropped conditions in turn (Chen et al. 2022,
// Re-Imagen, arXiv 2209.14491): in a share of the steps D_A + w·(D - D_A), in the
// others D_B + WeightB·(D - D_B), where A and B are sets that lack the one
// condition or the other.
type Interleaved struct {
	A, B    CondSet
	WeightB float64
	Share   float64 // of the steps that take A, 0 to 1
	Random  bool    // drawn for each step by Seed, instead of spread evenly
	Seed    uint64
}

// TakesA tells which one a step takes.
func (r Interleaved) TakesA(step int) bool {
	if r.Random {
		return rng.New(r.Seed, uint64(step)).Float64() < r.Share
	}
	// The whole number of A so far grows in this step; 1e-9 absorbs the rounding of the share.
	return math.Floor(float64(step+1)*r.Share+1e-9) > math.Floor(float64(step)*r.Share+1e-9)
}

// Needs implements GuidanceRule.
func (r Interleaved) Needs(step int) []CondSet {
	if r.TakesA(step) {
		return []CondSet{r.A}
	}
	return []CondSet{r.B}
}

// Idle is true where both weights are 1.
func (r Interleaved) Idle(w float64) bool { return w == 1 && r.WeightB == 1 }

func (r Interleaved) check() error {
	if !(r.Share >= 0 && r.Share <= 1) || math.IsNaN(r.WeightB) || math.IsInf(r.WeightB, 0) || r.A == Full || r.B == Full {
		return fmt.Errorf("sampler: interleaved guidance: share %g, weight %g, sets %d and %d; wanted a share of 0 to 1, a finite weight and sets that lack a condition", r.Share, r.WeightB, r.A, r.B)
	}
	return nil
}

// Combine implements GuidanceRule.
func (r Interleaved) Combine(out *gpu.Tensor, preds []*gpu.Tensor, w []float64, step int) error {
	if !r.TakesA(step) {
		for b := range w {
			w[b] = r.WeightB
		}
	}
	ops.Guide(out, preds[0], preds[1], w, 0)
	return nil
}
