package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// DPMSolverV3 is the multistep solver of Zheng et al. 2023 (arXiv 2310.13268).
// With y = x/A and the statistics l, s, b of
// the model, the equation is
//
//	dy/dλ = -l·y - f,  f = (1-l)·y - D,  f' ≈ s·f + b,
//
// and of g = e^{-ΔS}f - β, which is nearly constant, the derivatives at λ_s come
// from the nodes i of the last steps, g_i = e^{-ΔS_i}f_i - β_i (see growth):
//
//	y' = decay·y - Σ_k power[k]·g⁽ᵏ⁾ - drift
//
// full: g⁽ᵏ⁾ solves Σ_k (λ_i-λ_s)ᵏ/k!·g⁽ᵏ⁾ = g_i - g_s; pseudo: k! times the k-th
// divided difference from λ_s on, which is of second order at most but the
// steadier in few steps. The corrector takes the last step again with the new
// evaluation among the nodes, at no evaluation more, and keeps the f of the
// state before: of the same order (full) or of one more node (pseudo).
//
// Without statistics l = 1 and s = b = 0, and the method is DPM-Solver++. A step
// to zero noise ends at D.
type DPMSolverV3 struct {
	Stats      *ModelStatistics // nil for none
	Order      int              // 1 to 3
	Pseudo     bool             // the predictor's derivatives
	Corrector  string           // "pseudo", "full" or "none"
	LowerFinal bool             // the last steps are of order 2 and 1
}

// Name is "dpm-solver-v3" with its options; the statistics are not among them.
func (s DPMSolverV3) Name() string {
	predictor := "full"
	if s.Pseudo {
		predictor = "pseudo"
	}
	return name("dpm-solver-v3", "order=3", s.Order, "predictor=full|pseudo", predictor, "corrector=pseudo|full|none", s.Corrector, "lower-final=1", s.LowerFinal)
}

// Check refuses other orders, fewer steps than the order, infinite noise, and
// levels outside the statistics.
func (s DPMSolverV3) Check(g *diffusion.Grid) error {
	if s.Order < 1 || s.Order > 3 {
		return fmt.Errorf("sampler: dpm-solver-v3: order %d; wanted 1, 2 or 3", s.Order)
	}
	if s.Stats != nil {
		if err := s.Stats.Check(); err != nil {
			return err
		}
		if g != nil {
			if err := s.Stats.covers(g); err != nil {
				return err
			}
		}
	}
	if err := finiteStart(s, g); err != nil {
		return err
	}
	return needSteps(s, g, s.Order)
}

// Rises is true: the formulas have no direction.
func (DPMSolverV3) Rises() bool { return true }

// NFE is one per step.
func (DPMSolverV3) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// orderAt is the predictor's order in step i of n.
func (s DPMSolverV3) orderAt(i, n int) int {
	p := min(s.Order, i+1)
	if s.LowerFinal {
		p = min(p, n-i)
	}
	return p
}

// maxNodes is what the corrector of order 3 looks at.
const maxNodes = 4

// Start implements Solver. Statistics with rows of another size than an image are
// refused by the first step.
func (s DPMSolverV3) Start(like *gpu.Tensor) Stepper {
	if s.Stats == nil {
		s.Stats = plainStatistics
	}
	w := s.Stats.width()
	st := &dpmSolverV3{DPMSolverV3: s, d: like.Like(), before: like.Like(), grown: newGrowth(w), mixer: newMixer(like, w)}
	for i := range st.nodes {
		st.nodes[i].f = like.Like()
	}
	for i := range st.c {
		st.c[i] = make([]float64, w)
	}
	return st
}

// node is a level with what was found there.
type node struct {
	at     diffusion.Point
	lambda float64
	f      *gpu.Tensor
}

type dpmSolverV3 struct {
	DPMSolverV3
	nodes  [maxNodes]node // latest first
	seen   int
	d      *gpu.Tensor
	before *gpu.Tensor // the state at the start of the last step
	grown  *growth     // of the last step
	mixer  *mixer
	c      [2 + maxNodes][]float64 // of the state, of each f and of the constant 1
	w      [maxNodes][maxNodes]float64
	order  [maxNodes]int
}

func (s *dpmSolverV3) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if i == 0 {
		if w, size := s.Stats.width(), x.Len()/x.Shape()[0]; w != 1 && w != size {
			return fmt.Errorf("sampler: dpm-solver-v3: statistics of %d values for images of %d; wanted those of the same shape, or one for all", w, size)
		}
		s.seen = 0
	}
	oldest := s.nodes[maxNodes-1]
	copy(s.nodes[1:], s.nodes[:maxNodes-1])
	s.nodes[0] = node{from, -math.Log(from.Sigma()), oldest.f}
	s.seen = min(s.seen+1, maxNodes)
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	s.residual(s.c[0], 1/from.A)
	for j := range s.c[1] {
		s.c[1][j] = -1
	}
	if err := s.mixer.mix(e, from, s.d, s.nodes[0].f, s.c[:2], x, s.d); err != nil {
		return err
	}
	if i > 0 && s.Corrector != "none" {
		n := s.orderAt(i-1, len(g.Steps))
		if s.Corrector == "pseudo" {
			n++
		}
		if n = min(n, s.seen); n > 1 {
			// Nodes: the last step's start, this one, then those before.
			s.order = [maxNodes]int{1, 0, 2, 3}
			s.combine(s.order[:n], from, s.Corrector == "pseudo")
			if err := s.apply(e, x, s.before, s.order[:n]); err != nil {
				return err
			}
		}
	}
	s.before.Copy(x)
	if to.B == 0 {
		s.residual(s.c[0], to.A/from.A)
		for j := range s.c[1] {
			s.c[1][j] = -to.A
		}
		return s.mixer.mix(e, from, s.nodes[0].f, x, s.c[:2], x, s.nodes[0].f)
	}
	s.Stats.grow(s.grown, s.nodes[0].lambda, -math.Log(to.Sigma()))
	n := min(s.orderAt(i, len(g.Steps)), s.seen)
	s.order = [maxNodes]int{0, 1, 2, 3}
	s.combine(s.order[:n], to, s.Pseudo)
	return s.apply(e, x, x, s.order[:n])
}

// residual sets c to k·(1-l) at the latest node.
func (s *dpmSolverV3) residual(c []float64, k float64) {
	i, u := s.Stats.cell(s.nodes[0].lambda)
	for j := range c {
		c[j] = k * (1 - rate(s.Stats.L, i, u, j))
	}
}

// combine sets the coefficients of a step to a point that starts at the first of
// the given nodes and whose growth is known.
func (s *dpmSolverV3) combine(order []int, to diffusion.Point, pseudo bool) {
	start := &s.nodes[order[0]]
	s.derivatives(order, pseudo)
	for j := range s.c[0] {
		g := s.grown
		constant := -g.drift[j]
		s.c[0][j] = to.A / start.at.A * g.decay[j]
		for i, n := range order {
			weight := 0.0
			for k := range order {
				weight -= g.power[k][j] * s.w[k][i]
			}
			ds, beta := 0.0, 0.0
			if i > 0 {
				ds, beta = s.Stats.shift(start.lambda, s.nodes[n].lambda, j)
			}
			s.c[1+i][j] = to.A * weight * math.Exp(-ds)
			constant -= weight * beta
		}
		s.c[1+len(order)][j] = to.A * constant
	}
}

// derivatives sets w[k][i], the weight of g at node i in the k-th derivative at the first.
func (s *dpmSolverV3) derivatives(order []int, pseudo bool) {
	n := len(order)
	s.w = [maxNodes][maxNodes]float64{}
	at := func(i int) float64 { return s.nodes[order[i]].lambda }
	s.w[0][0] = 1
	// rows[i] is the divided difference of nodes i to i+k, as weights.
	var rows [maxNodes][maxNodes]float64
	for i := range n {
		rows[i][i] = 1
	}
	// Newton's polynomial Σ_k [0…k]·Π_{i<k}(λ-λ_i): its k-th derivative at λ_0 is
	// that of every product from the k-th on, whose coefficients of (λ-λ_0)ᵏ are c.
	c := [maxNodes]float64{1}
	factorial := 1.0
	for k := 1; k < n; k++ {
		for i := range n - k {
			for j := range n {
				rows[i][j] = (rows[i][j] - rows[i+1][j]) / (at(i) - at(i+k))
			}
		}
		factorial *= float64(k)
		if pseudo {
			for j := range n {
				s.w[k][j] = factorial * rows[0][j]
			}
			continue
		}
		for i := k; i >= 0; i-- { // c ← c·(λ - λ_{k-1})
			c[i] *= at(0) - at(k-1)
			if i > 0 {
				c[i] += c[i-1]
			}
		}
		f := 1.0
		for d := 1; d <= k; d++ {
			f *= float64(d)
			for j := range n {
				s.w[d][j] += f * c[d] * rows[0][j]
			}
		}
	}
}

// apply sets x to the combination of state, the nodes' f and 1.
func (s *dpmSolverV3) apply(e *Eval, x, state *gpu.Tensor, order []int) error {
	var terms [2 + maxNodes]*gpu.Tensor
	terms[0] = state
	for i, n := range order {
		terms[1+i] = s.nodes[n].f
	}
	n := 1 + len(order)
	terms[n] = s.mixer.ones
	return s.mixer.mix(e, s.nodes[0].at, s.nodes[0].f, x, s.c[:n+1], terms[:n+1]...)
}

// mixer makes linear combinations with coefficients for all values of an image or
// for each.
type mixer struct {
	width int
	ones  *gpu.Tensor
	k     []float64
	host  [2][]float64
	terms []*gpu.Tensor
}

func newMixer(like *gpu.Tensor, width int) *mixer {
	m := &mixer{width: width, ones: probe(like, func(int, int) float32 { return 1 }), k: make([]float64, 0, 2+maxNodes), terms: make([]*gpu.Tensor, 0, 2+maxNodes)}
	if width > 1 {
		m.host = [2][]float64{make([]float64, like.Len()), make([]float64, like.Len())}
	}
	return m
}

// mix sets out to Σ_j c[j]·xs[j]; d, for point p, is what to blame when it is not
// finite. The sums of single values' coefficients are made on the host.
func (m *mixer) mix(e *Eval, p diffusion.Point, d, out *gpu.Tensor, c [][]float64, xs ...*gpu.Tensor) error {
	if m.width == 1 {
		m.k, m.terms = m.k[:0], m.terms[:0]
		for j, x := range xs {
			if c[j][0] != 0 || x == d {
				m.k, m.terms = append(m.k, c[j][0]), append(m.terms, x)
			}
		}
		return e.update(p, d, out, m.k, m.terms...)
	}
	sum, v := m.host[0], m.host[1]
	clear(sum)
	for j, x := range xs {
		if err := x.Read64(v); err != nil {
			return err
		}
		for i := range sum {
			sum[i] += c[j][i%m.width] * v[i]
		}
	}
	fromHost(out, sum)
	if _, ok := ops.Finite(out); !ok {
		return e.blame(p, d, out)
	}
	return nil
}

// fromHost sets t to v, rounded to its dtype.
func fromHost(t *gpu.Tensor, v []float64) {
	h := t
	if t.Device().CUDA() {
		h = gpu.CPU().New(t.DType(), t.Shape()...)
	}
	if h.Double() {
		copy(h.F64(), v)
	} else {
		for i, x := range v {
			h.F32()[i] = float32(x)
		}
	}
	if h != t {
		t.Copy(h)
	}
}
