package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Table is a solver whose step is one evaluation of the denoiser and one linear
// combination of what it has seen, so that a table of coefficients is all there
// is to it. With D_0 the denoised x of this step, D_1 the previous step's, …:
//
//	x' = c[0]·x + Σ_j c[1+j]·D_j + c[last]·z
//
// StartTable makes its Stepper, which moves every array once, keeps the D_j,
// and serves images at levels of their own (Options.Levels).
type Table interface {
	Solver
	// Keep is how many D a step may use, with D_0.
	Keep() int
	// Noisy tells whether there is a z.
	Noisy() bool
	// Coeffs writes the coefficients of x, of D_0 to D_{len(h.At)-1} and, for a
	// noisy solver, of z.
	Coeffs(c []float64, h *History)
}

// Corrector is a Table that mends the state by the evaluation at it before it
// goes on: with x₋ and z₋ what the previous step started from and its noise,
//
//	x = c[0]·x₋ + Σ_j c[1+j]·D_j + c[last]·z₋
type Corrector interface {
	Table
	// Correct writes those coefficients, or tells that this step has none. It is
	// not asked in the first step.
	Correct(c []float64, h *History) bool
}

// NoiseTable is a Table that may combine the predicted noise N_j = (x_j -
// A_j·D_j)/B_j, with x_j the state that D_j was made of, in place of D_j:
//
//	x' = c[0]·x + Σ_j c[1+j]·N_j + c[1+len(h.At)]·D_0 + c[last]·z
//
// A pass over memory makes N_0. A step from pure noise, which N_0 repeats, needs
// D_0; other steps leave its coefficient at 0.
type NoiseTable interface {
	Table
	KeepsNoise() bool
}

// History is where a step stands.
type History struct {
	At          []diffusion.Point // At[j] is where D_j was asked for; a step starts at At[0]
	To          diffusion.Point
	Step, Steps int // number of this step, and of all
}

// Last tells whether this is the grid's last step.
func (h *History) Last() bool { return h.Step == h.Steps-1 }

// StartTable is the Start of a Table.
func StartTable(s Table, like *gpu.Tensor) Stepper {
	n, keep := like.Shape()[0], s.Keep()
	t := &table{s: s, d: make([]*gpu.Tensor, keep), from: make([]diffusion.Point, n), to: make([]diffusion.Point, n)}
	for i := range t.d {
		t.d[i] = like.Like()
	}
	t.past = make([][]diffusion.Point, keep)
	for i := range t.past {
		t.past[i] = make([]diffusion.Point, n)
	}
	t.h.At = make([]diffusion.Point, keep)
	if s.Noisy() {
		t.z, t.churn = like.Like(), churnOf(s)
	}
	if c, ok := s.(Corrector); ok {
		t.corrector, t.before = c, like.Like()
	}
	if nt, ok := s.(NoiseTable); ok && nt.KeepsNoise() {
		t.fresh = like.Like()
		t.unit = make([]float64, 2*n)
	}
	t.c = make([]float64, n*(keep+3))
	t.terms, t.k = make([]*gpu.Tensor, 0, keep+3), make([]float64, 0, keep+3)
	return t
}

type table struct {
	s         Table
	corrector Corrector
	d         []*gpu.Tensor // the kept D, or N, latest first
	fresh     *gpu.Tensor   // D_0, where N is kept
	unit      []float64     // [n, 2], of x and D_0 in N_0
	raw       *gpu.Tensor   // what the denoiser said in this step, where it is not D_0 …
	ax, af    float64       // … which is ax·x + af·raw
	mid       [2]float64    // of x and raw in what is kept
	z         *gpu.Tensor
	before    *gpu.Tensor // the state at the start of the previous step, for a corrector
	churn     func(diffusion.Point) float64
	seen      int // how many of d hold something
	mixed     int // steps until no point of the past is an image's own; 0: all are the grid's

	from, to []diffusion.Point   // of each image, in this step
	past     [][]diffusion.Point // of each D, the point of each image
	h        History
	c        []float64
	terms    []*gpu.Tensor
	k        []float64 // the coefficients that are not 0, with their terms
}

func (*table) ownLevels() {}

func (t *table) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	shared, err := t.look(e, x, g, i, t.corrector == nil)
	if err != nil {
		return err
	}
	if t.corrector != nil {
		if i > 0 {
			if err := t.combine(e, x, t.before, shared, true); err != nil {
				return err
			}
		}
		t.before.Copy(x)
	}
	if t.z != nil {
		if err := t.draw(e, shared); err != nil {
			return err
		}
	}
	return t.combine(e, x, x, shared, false)
}

// look evaluates the denoiser at x in step i and puts what it says in front of
// the kept; with late, what is kept may be left to combine. It tells whether all
// images are, and have been, at the same levels.
func (t *table) look(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int, late bool) (shared bool, err error) {
	shared, err = e.levels(x, g, i, t.from, t.to)
	if err != nil {
		return shared, err
	}
	if i == 0 {
		t.seen, t.mixed = 0, 0
	}
	// A step along the grid is shared once every point that it combines is.
	if !shared {
		t.mixed = len(t.d)
	} else if t.mixed > 0 {
		t.mixed--
		shared = t.mixed == 0
	}
	last := len(t.d) - 1
	oldest, points := t.d[last], t.past[last]
	copy(t.d[1:], t.d[:last])
	copy(t.past[1:], t.past[:last])
	t.d[0], t.past[0] = oldest, points
	copy(points, t.from)
	t.seen = min(t.seen+1, len(t.d))
	t.h.Step, t.h.Steps = i, len(g.Steps)

	into := t.d[0]
	if t.fresh != nil {
		into = t.fresh
	}
	if t.raw = nil; late && shared && e.den.raw != nil {
		return shared, t.lookRaw(e, x)
	}
	if shared {
		err = e.ask(into, x, t.from[0])
	} else {
		err = e.askEach(into, x, t.from)
	}
	if err != nil || t.fresh == nil {
		return shared, err
	}
	for b, p := range t.from {
		t.unit[2*b], t.unit[2*b+1] = 1/p.B, -p.A/p.B
	}
	if shared {
		ops.LinComb(t.d[0], t.unit[:2], x, t.fresh)
	} else {
		ops.LinCombRows(t.d[0], t.unit, x, t.fresh)
	}
	return shared, nil
}

// lookRaw is look for a denoiser that says f with D_0 = ax·x + af·f. What is
// kept of D or N is made on the way to the new state, and nothing is where none is.
func (t *table) lookRaw(e *Eval, x *gpu.Tensor) (err error) {
	if t.raw, t.ax, t.af, err = e.askRaw(x, t.from[0]); err != nil {
		return err
	}
	t.mid = [2]float64{t.ax, t.af}
	if p := t.from[0]; t.fresh != nil {
		t.mid = [2]float64{(1 - p.A*t.ax) / p.B, -p.A * t.af / p.B}
	}
	return nil
}

// denoised is what the denoiser said last.
func (t *table) denoised() *gpu.Tensor {
	if t.raw != nil {
		return t.raw
	}
	if t.fresh != nil {
		return t.fresh
	}
	return t.d[0]
}

// foldRaw turns the coefficient of D_0, where no D_0 was made, into those of x and f.
func (t *table) foldRaw() {
	at := 1
	if t.fresh != nil {
		at += t.seen
	} else if len(t.d) > 1 {
		return
	}
	t.c[0] += t.c[at] * t.ax
	t.c[at] *= t.af
}

// draw makes the noise of a step.
func (t *table) draw(e *Eval, shared bool) error {
	if shared {
		return e.Increment(t.z, t.from[0], t.to[0], t.churn(t.from[0]))
	}
	return e.incrementEach(t.z, t.from, t.to, t.churn)
}

// combine sets x to the step's, or the correction's, combination of state, the D
// and z, with one row of coefficients for all images or a row of each.
func (t *table) combine(e *Eval, x, state *gpu.Tensor, shared, correct bool) error {
	k := 1 + t.seen
	if t.fresh != nil {
		k++
	}
	if t.z != nil {
		k++
	}
	images := len(t.from)
	if shared {
		images = 1
	}
	for b := range images {
		t.h.At = t.h.At[:t.seen]
		for j := range t.h.At {
			t.h.At[j] = t.past[j][b]
		}
		t.h.To = t.to[b]
		c := t.c[b*k : (b+1)*k]
		clear(c)
		if !correct {
			t.s.Coeffs(c, &t.h)
		} else if !t.corrector.Correct(c, &t.h) {
			return nil
		}
	}
	t.terms = t.terms[:0]
	if !shared {
		t.terms = append(append(t.terms, state), t.d[:t.seen]...)
		for _, more := range []*gpu.Tensor{t.fresh, t.z} {
			if more != nil {
				t.terms = append(t.terms, more)
			}
		}
		ops.LinCombRows(x, t.c[:images*k], t.terms...)
		if at, ok := ops.Finite(x); !ok {
			return e.blame(t.from[at/(x.Len()/images)], t.denoised(), x)
		}
		return nil
	}
	// A term of coefficient 0 costs no pass; D_0, or N_0, always stays, so that
	// what is not finite shows.
	t.k = t.k[:0]
	if t.raw != nil {
		t.foldRaw()
	}
	add := func(c float64, x *gpu.Tensor, always bool) {
		if c != 0 || always {
			t.k, t.terms = append(t.k, c), append(t.terms, x)
		}
	}
	add(t.c[0], state, false)
	if t.raw != nil && len(t.d) == 1 && t.fresh == nil {
		add(t.c[1], t.raw, true)
	} else {
		for j := range t.seen {
			add(t.c[1+j], t.d[j], j == 0)
		}
		if t.fresh != nil {
			add(t.c[1+t.seen], t.denoised(), false)
		}
	}
	if t.z != nil {
		add(t.c[k-1], t.z, false)
	}
	if t.raw == nil || len(t.d) == 1 && t.fresh == nil {
		return e.update(t.from[0], t.denoised(), x, t.k, t.terms...)
	}
	if ops.LinCombThen(t.d[0], t.mid[:], x, t.raw, x, t.k, t.terms...) {
		return nil
	}
	return e.blame(t.from[0], t.raw, x)
}
