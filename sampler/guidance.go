package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// CondSet is a condition that guidance may ask a denoiser for.
type CondSet int

// The sets; Other+k is Cond.Others[k].
const (
	Full  CondSet = iota // the run's condition
	Null                 // Guided.Null: no condition, or a negative prompt
	Weak                 // the run's condition, asked of Guided.Weak
	Other                // the run's further conditions
)

// GuidanceRule combines what a denoiser says of several conditions.
type GuidanceRule interface {
	// Needs lists, beside Full, what the rule combines in a step.
	Needs(step int) []CondSet
	// Idle tells whether Full alone is the answer at this weight.
	Idle(weight float64) bool
	// Combine writes the guided x0 to out: preds[0] is Full's, the others are in
	// the order of Needs, weights[b] is for sample b. out is none of the preds.
	Combine(out *gpu.Tensor, preds []*gpu.Tensor, weights []float64, step int) error
}

// Guided is a denoiser under guidance. It asks the network for all conditions of
// a step in one batch, and for nothing else: outside the interval, and at a
// weight that changes nothing, for the run's condition alone. Like Adapted it
// keeps scratch memory and serves one goroutine at a time.
type Guided struct {
	Den    Denoiser
	Weak   Denoiser     // a worse denoiser of the same data, for rules that need it
	Rule   GuidanceRule // nil is Standard{}
	Weight float64      // w: 1 is no guidance beyond the condition
	Lo, Hi float64      // guide where Lo < sigma <= Hi; Hi 0 is no limit
	// Null is the condition of one image that stands for none: with Classes nil it
	// is class -1, and it must have the run's Inputs, the text encoder's answer to
	// an empty prompt for example, or to a negative one.
	Null Cond
	// PlusPlus makes Weight the λ in [0, 1] of CFG++ (Chung et al. 2024, arXiv
	// 2406.08070), which adds noise by the unconditional prediction. For a
	// first-order step that is guidance of weight λ·sigma/(sigma - sigma').
	PlusPlus bool

	grid  *diffusion.Grid
	step  int
	main  asker
	weak  asker
	parts guideParts
}

// guideParts are the arrays of the last batch size, kept.
type guideParts struct {
	x, out  *gpu.Tensor // [sets·n, ...]
	preds   []*gpu.Tensor
	weak    *gpu.Tensor
	at      []diffusion.Point
	weights []float64
	classes []int
	inputs  map[string]*gpu.Tensor
	n, sets int
}

// AtStep implements Stepped.
func (g *Guided) AtStep(grid *diffusion.Grid, i int) {
	g.grid, g.step = grid, i
	tellStep(g.Den, grid, i)
	if g.Weak != nil {
		tellStep(g.Weak, grid, i)
	}
	if s, ok := g.rule().(interface{ begin() }); ok && i == 0 {
		s.begin()
	}
}

// Check implements Checker.
func (g *Guided) Check(grid *diffusion.Grid) error {
	switch {
	case math.IsNaN(g.Weight) || math.IsInf(g.Weight, 0):
		return fmt.Errorf("sampler: guidance weight %g; wanted a finite number", g.Weight)
	case g.PlusPlus && !(g.Weight >= 0 && g.Weight <= 1):
		return fmt.Errorf("sampler: cfg++ weight %g; wanted 0 to 1", g.Weight)
	case !(g.Lo >= 0) || g.Hi != 0 && !(g.Hi > g.Lo):
		return fmt.Errorf("sampler: guidance between sigma %g and %g; wanted 0 <= lo < hi", g.Lo, g.Hi)
	}
	if c, ok := g.rule().(interface{ check() error }); ok {
		if err := c.check(); err != nil {
			return err
		}
	}
	for _, set := range g.rule().Needs(0) {
		if set == Weak && g.Weak == nil {
			return fmt.Errorf("sampler: this guidance needs a weak denoiser, and none was given")
		}
	}
	for _, d := range []Denoiser{g.Den, g.Weak} {
		if err := checkGrid(d, grid); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guided) rule() GuidanceRule {
	if g.Rule == nil {
		return Standard{}
	}
	return g.Rule
}

// on tells whether there is guidance at p.
func (g *Guided) on(p diffusion.Point) bool {
	s := p.Sigma()
	return s > g.Lo && (g.Hi == 0 || s <= g.Hi) && !g.rule().Idle(g.weight())
}

// weight is that of the present step.
func (g *Guided) weight() float64 {
	if !g.PlusPlus || g.grid == nil {
		return g.Weight
	}
	s := g.grid.Steps[g.step]
	return g.Weight / (1 - s.To.Sigma()/s.From.Sigma())
}

// Cost implements Coster.
func (g *Guided) Cost(p diffusion.Point) int {
	n := costOf(g.Den, p)
	if !g.on(p) {
		return n
	}
	total := n
	for _, set := range g.rule().Needs(g.step) {
		if set == Weak {
			total += costOf(g.Weak, p)
		} else {
			total += n
		}
	}
	return total
}

// Denoise implements Denoiser.
func (g *Guided) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return g.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser.
func (g *Guided) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	mustBatch("Guided", out, x, len(at))
	if g.main.den == nil {
		g.main, g.weak = newAsker(g.Den), newAsker(g.Weak)
	}
	var on, off []int
	for i, p := range at {
		if g.on(p) {
			on = append(on, i)
		} else {
			off = append(off, i)
		}
	}
	switch {
	case len(on) == 0:
		c.Others = nil
		return g.main.ask(ctx, out, x, at, c)
	case len(off) == 0:
		return g.guide(ctx, out, x, at, c)
	}
	// Images at levels of their own, on both sides of the interval's ends.
	for _, rows := range [][]int{on, off} {
		px, po := picked(x, rows), withRows(x, len(rows))
		var pat []diffusion.Point
		for _, r := range rows {
			pat = append(pat, at[r])
		}
		if err := g.DenoiseAt(ctx, po, px, pat, c.pick(rows)); err != nil {
			return err
		}
		scatter(out, po, rows)
	}
	return nil
}

// guide asks for all conditions and combines the answers.
func (g *Guided) guide(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	if g.PlusPlus && g.grid == nil {
		return fmt.Errorf("sampler: cfg++ needs to know the steps; use it within Run")
	}
	n, needs, p := len(at), g.rule().Needs(g.step), &g.parts
	asked := []CondSet{Full}
	weak := false
	for _, s := range needs {
		if s == Weak {
			weak = true
		} else {
			asked = append(asked, s)
		}
	}
	conds := make([]Cond, len(asked))
	for i, s := range asked {
		var err error
		if conds[i], err = g.cond(s, c, n); err != nil {
			return err
		}
	}
	all, err := p.join(conds, n)
	if err != nil {
		return err
	}
	if p.x == nil || p.n != n || p.sets != len(asked) || p.x.DType() != x.DType() || p.x.Device() != x.Device() {
		p.x, p.out = withRows(x, n*len(asked)), withRows(x, n*len(asked))
		p.n, p.sets = n, len(asked)
	}
	p.at = p.at[:0]
	for i := range asked {
		p.x.Rows(i*n, (i+1)*n).Copy(x)
		p.at = append(p.at, at...)
	}
	if err := g.main.ask(ctx, p.out, p.x, p.at, all); err != nil {
		return err
	}
	if weak {
		p.weak = fitting(p.weak, x)
		full := c
		full.Others = nil
		if err := g.weak.ask(ctx, p.weak, x, at, full); err != nil {
			return err
		}
	}
	p.preds = append(p.preds[:0], p.out.Rows(0, n))
	next := 1
	for _, s := range needs {
		if s == Weak {
			p.preds = append(p.preds, p.weak)
			continue
		}
		p.preds = append(p.preds, p.out.Rows(next*n, (next+1)*n))
		next++
	}
	p.weights = p.weights[:0]
	for range n {
		p.weights = append(p.weights, g.weight())
	}
	return g.rule().Combine(out, p.preds, p.weights, g.step)
}

// cond is the condition of a set for n images.
func (g *Guided) cond(s CondSet, c Cond, n int) (Cond, error) {
	others := c.Others
	c.Others = nil
	switch {
	case s == Full:
		return c, nil
	case s >= Other:
		if k := int(s - Other); k < len(others) {
			return others[k], nil
		}
		return c, fmt.Errorf("sampler: this guidance needs %d further conditions; the run has %d", s-Other+1, len(others))
	}
	if c.Classes == nil && c.Inputs == nil {
		return c, fmt.Errorf("sampler: guidance of weight %g needs a condition (a class or a prompt), and the run has none", g.Weight)
	}
	var null Cond
	if c.Classes != nil {
		class := -1
		if g.Null.Classes != nil {
			class = g.Null.Classes[0]
		}
		for range n {
			null.Classes = append(null.Classes, class)
		}
	}
	for name, t := range c.Inputs {
		if one := g.Null.Inputs[name]; one == nil || one.Len() != t.Len()/n {
			return c, fmt.Errorf("sampler: guidance needs what stands for no condition: Guided.Null has no input %q of shape %v", name, t.Shape()[1:])
		}
	}
	if c.Inputs != nil {
		null.Inputs = g.Null.Inputs
	}
	return null, nil
}

// join writes conditions of n images each one after another; an input of one
// image serves all n.
func (p *guideParts) join(conds []Cond, n int) (Cond, error) {
	all := Cond{Inputs: p.inputs}
	p.classes = p.classes[:0]
	for i, c := range conds {
		for j := range n {
			class := -1
			if c.Classes != nil {
				class, all.Classes = c.Classes[j], p.classes
			}
			p.classes = append(p.classes, class)
		}
		for name, t := range conds[0].Inputs {
			shape := append([]int{n * len(conds)}, t.Shape()[1:]...)
			whole := p.inputs[name]
			if whole == nil || !slices.Equal(whole.Shape(), shape) || whole.DType() != t.DType() || whole.Device() != t.Device() {
				whole = t.Device().New(t.DType(), shape...)
				if p.inputs == nil {
					p.inputs = map[string]*gpu.Tensor{}
				}
				p.inputs[name], all.Inputs = whole, p.inputs
			}
			in := c.Inputs[name]
			switch part := whole.Rows(i*n, (i+1)*n); {
			case in == nil || in.DType() != t.DType() || in.Len() != part.Len() && in.Len() != part.Len()/n:
				return all, fmt.Errorf("sampler: the conditions of a guided run differ in input %q; wanted one shape for all", name)
			case in.Len() == part.Len():
				part.Copy(in)
			default:
				for j := range n {
					part.Rows(j, j+1).Copy(in)
				}
			}
		}
	}
	if all.Classes != nil {
		all.Classes = p.classes
	}
	return all, nil
}
