package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPMSolver is the single-step DPM-Solver (Lu et al. 2022, arXiv 2206.00927,
// algorithms 1 and 2) or DPM-Solver++ (arXiv 2211.01095) of order 2 or 3, whose
// formulas are exponential's. A step evaluates at its start and at λ + r·h for
// r = R1 and, at order 3, 2/3: levels of its own between two of the grid's.
//
//	x_1 of order 1 from D_0;  x_2 of order 2, Taylor, from D_0 and D_1;  x' from all
//
// Another second node than 2/3 makes order 3 one of order 2 in either form: x_1
// is of first order, and only there does the last formula give D_1 no weight.
// From pure noise and to zero noise, where h is infinite, it is DDIM's.
type DPMSolver struct {
	Order  int
	Noise  bool    // the integral of ε, DPM-Solver; else of D, DPM-Solver++
	R1     float64 // first node, above 0 and below 1, at order 3 below 2/3; 0 is the papers', 1/2 and 1/3
	Taylor bool    // the Taylor form of the last formula, else the midpoint form
	Rest   int     // 1 or 2: order of the last step; 3: the last two are of orders 2 and 1; see DPMFast
}

// DPMFast is the schedule of orders that Lu et al. 2022 (arXiv 2206.00927) call
// DPM-Solver-fast for a budget of evaluations: steps of order 3, then one of
// order rest = budget mod 3, or of 2 and 1 when that is 0; n steps spend 3n-3+rest.
func DPMFast(rest int) DPMSolver {
	switch rest {
	case 0:
		rest = 3
	case 3: // no remainder: Check refuses it
		rest = -1
	}
	return DPMSolver{Order: 3, Noise: true, Rest: rest}
}

// Name is "dpm-solver-2", "dpm++3s" and so on, or "dpm-fast".
func (s DPMSolver) Name() string {
	form := "midpoint"
	if s.Taylor {
		form = "taylor"
	}
	if s.Rest != 0 {
		return name("dpm-fast", "rest=2", s.Rest%3)
	}
	base := fmt.Sprintf("dpm++%ds", s.Order)
	if s.Noise {
		base = fmt.Sprintf("dpm-solver-%d", s.Order)
	}
	return name(base, "r1=0", s.R1, "form=midpoint|taylor", form)
}

// secondNode is where a step of order 3 evaluates last.
const secondNode = 2. / 3

// Check refuses a first node out of place and dpm-fast without its last steps.
func (s DPMSolver) Check(g *diffusion.Grid) error {
	next := 1.0
	if s.Order == 3 {
		next = secondNode
	}
	if !(s.R1 >= 0 && s.R1 < next) {
		return fmt.Errorf("sampler: %s: first node at %g of the step; wanted more than 0 and less than %.4g, or 0 for the usual one", s.Name(), s.R1, next)
	}
	if s.Rest < 0 || s.Rest > 3 {
		return fmt.Errorf("sampler: dpm-fast: rest %d; wanted 0, 1 or 2", s.Rest)
	}
	if s.Rest == 3 {
		return needSteps(s, g, 2)
	}
	return nil
}

// Rises is true: the formulas have no direction.
func (s DPMSolver) Rises() bool { return true }

// orderAt is the order of step i of g.
func (s DPMSolver) orderAt(g *diffusion.Grid, i int) int {
	left := len(g.Steps) - i
	switch st := g.Steps[i]; {
	case st.To.B == 0 || st.From.A == 0:
		return 1
	case s.Rest == 3 && left <= 2:
		return left
	case s.Rest > 0 && s.Rest < 3 && left == 1:
		return s.Rest
	}
	return s.Order
}

// NFE is the order of each step.
func (s DPMSolver) NFE(g *diffusion.Grid) int {
	n := 0
	for i := range g.Steps {
		n += s.orderAt(g, i)
	}
	return n
}

// Start implements Solver.
func (s DPMSolver) Start(like *gpu.Tensor) Stepper {
	if s.R1 == 0 {
		s.R1 = 1 / float64(s.Order)
	}
	n := like.Shape()[0]
	st := &dpmSolver{
		DPMSolver: s, u: like.Like(), terms: make([]*gpu.Tensor, 0, 1+s.Order), ways: make([]dpmWay, n), from: make([]diffusion.Point, n),
		to: make([]diffusion.Point, n), asked: make([]diffusion.Point, n), c: make([]float64, 0, n*(1+s.Order)),
	}
	for range s.Order {
		st.d = append(st.d, like.Like())
	}
	return st
}

type dpmSolver struct {
	DPMSolver
	d     []*gpu.Tensor // D_0, D_1, D_2
	u     *gpu.Tensor   // the state at a node
	terms []*gpu.Tensor

	ways     []dpmWay          // of each image; the first's where they share levels
	from, to []diffusion.Point // of each image
	asked    []diffusion.Point // where an evaluation is
	c        []float64
}

// dpmWay is where a step leads: its nodes, and the states at them.
type dpmWay struct {
	nodes [3]diffusion.Point
	at    [3]combo
}

func (*dpmSolver) ownLevels() {}

func (s *dpmSolver) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	order := s.orderAt(g, i)
	from, to, err := e.levelsOn(x, g, i, s.from, s.to)
	if err != nil {
		return err
	}
	for b := range from {
		if order > 1 && (from[b].A == 0 || to[b].B == 0) {
			return fmt.Errorf("sampler: %s: step %d takes image %d from sigma %.4g to %.4g; a step of order %d needs finite levels above 0",
				s.Name(), i, e.first+b, from[b].Sigma(), to[b].Sigma(), order)
		}
		s.ways[b].nodes[0], s.ways[b].at[0] = from[b], combo{1}
	}
	state, out := x, s.u
	for j := range order {
		asked := s.asked[:len(from)]
		for b := range asked {
			asked[b] = s.ways[b].nodes[j]
		}
		if err := e.askOn(s.d[j], state, asked); err != nil {
			return err
		}
		if j+1 == order {
			out = x
		}
		s.c = s.c[:0]
		for b := range from {
			c := s.next(&s.ways[b], g.Space, to[b], j, order)
			s.c = append(s.c, c[:j+2]...)
		}
		s.terms = append(append(s.terms[:0], x), s.d[:j+1]...)
		if err := e.updateOn(asked, s.d[j], out, s.c, s.terms...); err != nil {
			return err
		}
		state = s.u
	}
	return nil
}

// next is the state after the evaluation at node j of a step of that order: at the
// next node, which it finds, or at the step's end.
func (s *dpmSolver) next(w *dpmWay, space diffusion.Space, to diffusion.Point, j, order int) combo {
	how := exponential{s.Noise, s.Taylor}
	if j+1 == order {
		return how.step(w.nodes[:j+1], w.at[:j+1], to)
	}
	how.taylor = true
	r := [3]float64{0, s.R1, secondNode}
	w.nodes[j+1] = between(space, w.nodes[0], to, r[j+1])
	w.at[j+1] = how.step(w.nodes[:j+1], w.at[:j+1], w.nodes[j+1])
	return w.at[j+1]
}

// between is the point a fraction r of the way from one level to another in λ.
// It has no T: a denoiser's time is its own function of the level.
func between(space diffusion.Space, from, to diffusion.Point, r float64) diffusion.Point {
	a, b := space.Scale(from.Sigma() * math.Pow(to.Sigma()/from.Sigma(), r))
	return diffusion.Point{A: a, B: b}
}
