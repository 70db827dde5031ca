package sampler

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// DPMAdaptive is DPM-Solver of adaptive steps (Lu et al. 2022, arXiv 2206.00927)
// with k-diffusion's control: a step of DPM-Solver of order 2 or 3 is
// held against the one of a lower order from the same evaluations,
//
//	err = RMS((x_low - x_high)/max(atol, rtol·max(|x_low|, |x_low of the last step|))),
//	h ← h·f,  f = 1 + arctan(err^-b1·err₋^-b2·err₋₋^-b3 - 1),
//
// in x/A, with b1 = (P+I+D)/p, b2 = -(P+2D)/p, b3 = D/p, and the step stands
// where f ≥ Safety. Unlike there, every image has steps and an error of its own,
// and a step tried again keeps its first evaluation. A step to zero noise is
// DDIM's.
type DPMAdaptive struct {
	Order      int // 2 or 3
	RTol, ATol float64
	H          float64 // first step in λ
	P, I, D    float64
	Safety     float64
}

// Name is "dpm-adaptive" with its options.
func (s DPMAdaptive) Name() string {
	return name("dpm-adaptive", "order=3", s.Order, "rtol=0.05", s.RTol, "atol=0.0078", s.ATol, "h=0.05", s.H,
		"p=0", s.P, "i=1", s.I, "d=0", s.D, "safety=0.81", s.Safety)
}

// Check refuses options out of range, infinite noise, and a single step to zero.
func (s DPMAdaptive) Check(g *diffusion.Grid) error {
	if s.Order != 2 && s.Order != 3 {
		return fmt.Errorf("sampler: dpm-adaptive: order %d; wanted 2 or 3", s.Order)
	}
	if !(s.H > 0) || math.IsInf(s.H, 1) || !(s.Safety > 0 && s.Safety < 1) {
		return fmt.Errorf("sampler: dpm-adaptive: first step %g, safety %g; wanted a step above 0 and a safety between 0 and 1", s.H, s.Safety)
	}
	if !(s.P >= 0 && s.I > 0 && s.D >= 0) || math.IsInf(s.P+s.I+s.D, 1) {
		return fmt.Errorf("sampler: dpm-adaptive: control p=%g i=%g d=%g; wanted p and d of 0 or more and i above 0", s.P, s.I, s.D)
	}
	if err := tolerances(s, s.RTol, s.ATol, g); err != nil {
		return err
	}
	return finiteStart(s, g)
}

// Rises is true: the method has no direction.
func (DPMAdaptive) Rises() bool { return true }

// NFE is Varies.
func (DPMAdaptive) NFE(*diffusion.Grid) int { return Varies }

// Start implements Solver.
func (s DPMAdaptive) Start(like *gpu.Tensor) Stepper {
	n := like.Shape()[0]
	st := &dpmAdaptive{
		DPMAdaptive: s, u: like.Like(), low: like.Like(), last: like.Like(), rows: newRowAsker(like),
		images: make([]attempt, n),
	}
	for range s.Order {
		st.d = append(st.d, like.Like())
	}
	return st
}

// attempt is where an image stands.
type attempt struct {
	at, to diffusion.Point // of the step that is tried
	h      float64         // in λ, above 0
	inv    [3]float64      // 1/err of this and the two accepted steps before
	fresh  bool            // D_0 is yet to be asked for
	nodes  [3]diffusion.Point
	states [3]combo
}

type dpmAdaptive struct {
	DPMAdaptive
	d            []*gpu.Tensor
	u, low, last *gpu.Tensor // the state at a node and at last the new one; the lower order's, and that of the last step
	rows         rowAsker
	images       []attempt
	norms        norms
	coeffs       []float64
}

func (s *dpmAdaptive) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if i == 0 {
		if err := digits(x, s.RTol); err != nil {
			return err
		}
		for b := range s.images {
			s.images[b] = attempt{h: s.H}
		}
		s.last.Copy(x)
	}
	if to.B == 0 {
		if err := e.ask(s.d[0], x, from); err != nil {
			return err
		}
		return e.update(from, s.d[0], x, []float64{0, to.A}, x, s.d[0])
	}
	var active []int
	for b := range s.images {
		s.images[b].at, s.images[b].fresh = from, true
		active = append(active, b)
	}
	for len(active) > 0 {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if err := s.try(e, x, g.Space, to, active); err != nil {
			return err
		}
		active = slices.DeleteFunc(active, func(b int) bool { return s.images[b].at == to })
	}
	return nil
}

// try makes one step of every active image towards to.
func (s *dpmAdaptive) try(e *Eval, x *gpu.Tensor, space diffusion.Space, to diffusion.Point, active []int) error {
	var asked []int
	var at []diffusion.Point
	for _, b := range active {
		c := &s.images[b]
		left := math.Log(c.at.Sigma() / to.Sigma())
		c.to = to
		if r := c.h / math.Abs(left); 1.01*r < 1 {
			c.to = between(space, c.at, to, r)
		}
		if c.to == c.at || c.h < 1e-12 {
			return fmt.Errorf("sampler: step %d: the steps of image %d shrank to nothing at sigma %.4g; loosen the tolerances (relative %g, absolute %g)",
				e.step, e.first+b, c.at.Sigma(), s.RTol, s.ATol)
		}
		c.nodes[0], c.states[0] = c.at, combo{1}
		if c.fresh {
			asked, at = append(asked, b), append(at, c.at)
		}
	}
	if len(asked) > 0 {
		if err := s.rows.ask(e, s.d[0], x, at, asked); err != nil {
			return err
		}
	}
	r := [3]float64{0, 0.5, secondNode}
	if s.Order == 3 {
		r[1] = 1. / 3
	}
	for j := 1; j < s.Order; j++ {
		at = at[:0]
		s.combine(s.u, x, active, 1+j, func(c *attempt) combo {
			c.nodes[j] = between(space, c.at, c.to, r[j])
			c.states[j] = exponential{noise: true, taylor: true}.step(c.nodes[:j], c.states[:j], c.nodes[j])
			at = append(at, c.nodes[j])
			return c.states[j]
		})
		if err := s.rows.ask(e, s.d[j], s.u, at, active); err != nil {
			return err
		}
	}
	ends := exponential{noise: true}
	s.combine(s.low, x, active, s.Order, func(c *attempt) combo {
		return ends.step(c.nodes[:s.Order-1], c.states[:s.Order-1], c.to)
	})
	s.combine(s.u, x, active, 1+s.Order, func(c *attempt) combo {
		return ends.step(c.nodes[:s.Order], c.states[:s.Order], c.to)
	})
	return s.judge(e, x, to, active)
}

// combine sets out to each active image's combination of x and the first n-1 D,
// and to x for the others.
func (s *dpmAdaptive) combine(out, x *gpu.Tensor, active []int, n int, of func(c *attempt) combo) {
	s.coeffs = s.coeffs[:0]
	next := 0
	for b := range s.images {
		w := combo{1}
		if next < len(active) && active[next] == b {
			w = of(&s.images[b])
			next++
		}
		s.coeffs = append(s.coeffs, w[:n]...)
	}
	ops.LinCombRows(out, s.coeffs, append([]*gpu.Tensor{x}, s.d[:n-1]...)...)
}

// judge accepts or rejects every active image's step and sets the next one's size.
func (s *dpmAdaptive) judge(e *Eval, x *gpu.Tensor, to diffusion.Point, active []int) error {
	if err := s.norms.read(s.low, s.u, s.last); err != nil {
		return err
	}
	p := float64(s.Order)
	b1, b2, b3 := (s.P+s.I+s.D)/p, -(s.P+2*s.D)/p, s.D/p
	s.coeffs = s.coeffs[:0]
	next := 0
	for b := range s.images {
		keep, take := 1.0, 0.0
		if next < len(active) && active[next] == b {
			next++
			c := &s.images[b]
			low, high, last := s.norms.image(b)
			sum := 0.0
			for j := range low {
				l := low[j] / c.to.A
				w := (l - high[j]/c.to.A) / max(s.ATol, s.RTol*max(math.Abs(l), math.Abs(last[j]/c.at.A)))
				sum += w * w
			}
			inv := 1 / (math.Sqrt(sum/float64(len(low))) + 1e-8)
			if c.inv == ([3]float64{}) {
				c.inv = [3]float64{inv, inv, inv}
			}
			c.inv[0] = inv
			f := 1 + math.Atan(math.Pow(c.inv[0], b1)*math.Pow(c.inv[1], b2)*math.Pow(c.inv[2], b3)-1)
			tried := math.Abs(math.Log(c.at.Sigma() / c.to.Sigma()))
			cut := c.to == to && tried < c.h // short of the step meant, which it says nothing against
			c.fresh = f >= s.Safety
			if c.fresh {
				c.inv[1], c.inv[2] = c.inv[0], c.inv[1]
				c.at = c.to
				keep, take = 0, 1
			} else {
				e.Reject(b, s.Order-1)
			}
			if cut && c.fresh {
				c.h = max(c.h, tried*f)
			} else {
				c.h = tried * f
			}
		}
		s.coeffs = append(s.coeffs, keep, take)
	}
	ops.LinCombRows(x, s.coeffs, x, s.u)
	ops.LinCombRows(s.last, s.coeffs, s.last, s.low)
	return nil
}
