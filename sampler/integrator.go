package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// rowAsker evaluates some images of a batch, each at its own point.
type rowAsker struct{ in, out *gpu.Tensor }

func newRowAsker(like *gpu.Tensor) rowAsker { return rowAsker{like.Like(), like.Like()} }

// ask writes the denoised rows of x to those rows of d; at[i] is the point of
// image rows[i].
func (r *rowAsker) ask(e *Eval, d, x *gpu.Tensor, at []diffusion.Point, rows []int) error {
	if len(rows) == x.Shape()[0] {
		return e.DenoiseRows(d, x, at, rows)
	}
	out := r.out.Rows(0, len(rows))
	if err := e.DenoiseRows(out, gather(r.in, x, rows), at, rows); err != nil {
		return err
	}
	scatter(d, out, rows)
	return nil
}

// side is a set of integrals along the way of every image, beside its state.
type side struct {
	per int // integrals of an image
	// slopes writes the integrands of image rows[i] at at[i] to q[rows[i]·per:],
	// where u is the states of the whole batch.
	slopes func(e *Eval, q []float64, u *gpu.Tensor, at []diffusion.Point, rows []int) error
	value  []float64            // of every image
	q      [maxStages][]float64 // the slopes at each stage
}

// course is how far an image has come.
type course struct {
	tau, h   float64 // h is 0 before the first step
	before   float64 // error of the last accepted step
	rejected bool    // the last step was
	asked    int     // evaluations before this step
	now      stages
	to       diffusion.Point // end of the step
}

// integrator solves dy/dτ = (y - D)/τ with Dormand and Prince's pair, every image
// with steps of its own, so that none depends on its neighbours. The error of a
// step is the root mean square over the image of err/(atol + rtol·max(|y|,|y'|));
// a side integral's counts beside it. Steps follow Gustafsson's PI control as
// Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", set it
// for this pair: h is multiplied by 0.9·err^-0.17·err₋^0.04, within 0.2 and 10.
type integrator struct {
	rtol, atol float64
	d          [maxStages]*gpu.Tensor
	u, err     *gpu.Tensor
	rows       rowAsker
	images     []course
	side       *side // nil when only the states matter

	active []int
	at     []diffusion.Point
	coeffs []float64
	terms  []*gpu.Tensor
	norms  norms
}

const (
	pairSafety, pairLeast, pairMost = 0.9, 0.2, 10
	pairBeta                        = 0.04
	pairAlpha                       = 0.2 - 0.75*pairBeta
)

func newIntegrator(like *gpu.Tensor, rtol, atol float64) *integrator {
	n := like.Shape()[0]
	g := &integrator{rtol: rtol, atol: atol, u: like.Like(), err: like.Like(), rows: newRowAsker(like), images: make([]course, n)}
	for j := range g.d {
		g.d[j] = like.Like()
	}
	return g
}

// digits refuses a relative tolerance finer than what the states can show.
func digits(x *gpu.Tensor, rtol float64) error {
	if least := 10 * ulp(x); rtol < least {
		return fmt.Errorf("sampler: relative tolerance %g; states in %v show no less than %.2g: loosen it, or sample in float64", rtol, x.DType(), least)
	}
	return nil
}

// ulp is the relative distance of neighbouring values.
func ulp(x *gpu.Tensor) float64 {
	if x.Double() {
		return 0x1p-52
	}
	return 0x1p-23
}

// start forgets everything and asks for the D at the start.
func (g *integrator) start(e *Eval, x *gpu.Tensor, space diffusion.Space, from diffusion.Point) error {
	if err := digits(x, g.rtol); err != nil {
		return err
	}
	g.all()
	for i := range g.images {
		g.images[i] = course{tau: lineTime(space, from), before: 1e-4}
		g.at = append(g.at, from)
	}
	return g.evaluate(e, 0, x)
}

// all makes all images active and clears the list of points.
func (g *integrator) all() {
	g.active, g.at = g.active[:0], g.at[:0]
	for i := range g.images {
		g.active = append(g.active, i)
	}
}

// evaluate asks for D_j, and the side's slopes, of the active images.
func (g *integrator) evaluate(e *Eval, j int, u *gpu.Tensor) error {
	if err := g.rows.ask(e, g.d[j], u, g.at, g.active); err != nil {
		return err
	}
	if g.side == nil {
		return nil
	}
	return g.side.slopes(e, g.side.q[j], u, g.at, g.active)
}

// walk takes x from where it is to a point above zero, the D at its start being known.
func (g *integrator) walk(e *Eval, x *gpu.Tensor, space diffusion.Space, from, to diffusion.Point) error {
	g.all()
	goal := lineTime(space, to)
	if g.images[0].h == 0 {
		if err := g.guess(x, space, from, goal); err != nil {
			return err
		}
	}
	starts := make([]diffusion.Point, len(g.images))
	for i := range starts {
		starts[i], g.images[i].tau = from, lineTime(space, from)
	}
	for len(g.active) > 0 {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		for _, i := range g.active {
			c := &g.images[i]
			h := goal - c.tau
			c.to, c.asked = to, e.Count(i).NFE
			// A last step is stretched rather than followed by a splinter.
			if math.Abs(h) > 1.01*math.Abs(c.h) {
				h = math.Copysign(c.h, h)
				c.to = lineAt(space, c.tau+h)
			}
			if math.Abs(h) <= 16*0x1p-52*math.Abs(c.tau) {
				return fmt.Errorf("sampler: step %d: the steps of image %d shrank to nothing at sigma %.4g, as at a jump of the denoiser; loosen the tolerances (relative %g, absolute %g)",
					e.step, e.first+i, c.to.Sigma(), g.rtol, g.atol)
			}
			c.now.begin(&dormandPrince, space, starts[i], h)
		}
		for j := 1; j < maxStages; j++ {
			g.at = g.at[:0]
			g.combine(g.u, 1+j, 1, func(c *course) wide {
				p, w := c.now.stage(j, c.to)
				g.at = append(g.at, p)
				return w
			}, x)
			if err := g.evaluate(e, j, g.u); err != nil {
				return err
			}
		}
		g.combine(g.err, 1+maxStages, 0, func(c *course) wide { return c.now.change(dormandPrince.e) }, x)
		if err := g.judge(e, x, starts); err != nil {
			return err
		}
		left := g.active[:0]
		for _, i := range g.active {
			if starts[i] != to {
				left = append(left, i)
			}
		}
		g.active = left
	}
	return nil
}

// combine sets out to each active image's combination of x and the first n-1 D;
// another image's x is multiplied by rest.
func (g *integrator) combine(out *gpu.Tensor, n int, rest float64, of func(c *course) wide, x *gpu.Tensor) {
	g.coeffs = g.coeffs[:0]
	next := 0
	for i := range g.images {
		w := wide{rest}
		if next < len(g.active) && g.active[next] == i {
			w = of(&g.images[i])
			next++
		}
		g.coeffs = append(g.coeffs, w[:n]...)
	}
	g.terms = append(append(g.terms[:0], x), g.d[:n-1]...)
	ops.LinCombRows(out, g.coeffs, g.terms...)
}

// judge accepts or rejects the step of every active image and sets the next one's size.
func (g *integrator) judge(e *Eval, x *gpu.Tensor, starts []diffusion.Point) error {
	if err := g.norms.read(x, g.u, g.err); err != nil {
		return err
	}
	g.coeffs = g.coeffs[:0]
	next := 0
	for i := range g.images {
		keep, take := 1.0, 0.0
		if next < len(g.active) && g.active[next] == i {
			next++
			c := &g.images[i]
			err := g.errorOf(i, starts[i])
			if !(err <= 1) {
				c.h = math.Abs(c.now.h) * max(pairLeast, min(1, pairSafety*math.Pow(err, -pairAlpha)))
				c.rejected = true
				e.Reject(i, e.Count(i).NFE-c.asked)
			} else {
				grow := min(pairMost, max(pairLeast, pairSafety*math.Pow(err, -pairAlpha)*math.Pow(c.before, pairBeta)))
				if c.rejected {
					grow = min(1, grow)
				}
				h := math.Abs(c.now.h)
				if h < c.h { // cut short by the end: that says nothing against the step meant
					c.h = max(c.h, h*grow)
				} else {
					c.h = h * grow
				}
				c.before, c.rejected = max(err, 1e-4), false
				c.tau, starts[i] = lineTime(c.now.space, c.to), c.to
				g.side.accept(i, &c.now)
				keep, take = 0, 1
			}
		}
		g.coeffs = append(g.coeffs, keep, take)
	}
	ops.LinCombRows(x, g.coeffs, x, g.u)
	ops.LinCombRows(g.d[0], g.coeffs, g.d[0], g.d[maxStages-1])
	return nil
}

// errorOf is the error of image i's step in units of the tolerance.
func (g *integrator) errorOf(i int, start diffusion.Point) float64 {
	c := &g.images[i]
	a, b := lineScale(c.now.space, start), lineScale(c.now.space, c.to)
	x, u, d := g.norms.image(i)
	sum := 0.0
	for j := range d {
		w := d[j] / (g.atol + g.rtol*max(math.Abs(x[j]/a), math.Abs(u[j]/b)))
		sum += w * w
	}
	err := math.Sqrt(sum / float64(len(d)))
	if s := g.side; s != nil {
		for k := i * s.per; k < (i+1)*s.per; k++ {
			change, miss := 0.0, 0.0
			for j := range s.q {
				change += c.now.h * dormandPrince.b[j] * s.q[j][k]
				miss += c.now.h * dormandPrince.e[j] * s.q[j][k]
			}
			err = max(err, math.Abs(miss)/(g.atol+g.rtol*max(math.Abs(s.value[k]), math.Abs(s.value[k]+change))))
		}
	}
	return err
}

// accept adds image i's step to its integrals and keeps its last slope.
func (s *side) accept(i int, now *stages) {
	if s == nil {
		return
	}
	for k := i * s.per; k < (i+1)*s.per; k++ {
		for j := range s.q {
			s.value[k] += now.h * dormandPrince.b[j] * s.q[j][k]
		}
		s.q[0][k] = s.q[maxStages-1][k]
	}
}

// guess sets the first step of every image to a hundredth of |y|/|v|, both in
// units of the tolerance (Hairer, Nørsett and Wanner, II.4).
func (g *integrator) guess(x *gpu.Tensor, space diffusion.Space, from diffusion.Point, goal float64) error {
	if err := g.norms.read(x, g.d[0], g.d[0]); err != nil {
		return err
	}
	a, tau := lineScale(space, from), lineTime(space, from)
	for i := range g.images {
		xs, ds, _ := g.norms.image(i)
		var y2, v2 float64
		for j := range xs {
			y := xs[j] / a
			scale := g.atol + g.rtol*math.Abs(y)
			y2 += y / scale * (y / scale)
			v := (y - ds[j]) / tau / scale
			v2 += v * v
		}
		h := math.Abs(goal-tau) / 100
		if y2 > 0 && v2 > 0 {
			h = min(math.Abs(goal-tau), math.Sqrt(y2/v2)/100)
		}
		g.images[i].h = h
	}
	return nil
}

// norms has three tensors on the host, for sums over an image.
type norms struct {
	v    [3][]float64
	size int
}

func (n *norms) read(ts ...*gpu.Tensor) error {
	n.size = ts[0].Len() / ts[0].Shape()[0]
	for i, t := range ts {
		if len(n.v[i]) != t.Len() {
			n.v[i] = make([]float64, t.Len())
		}
		if err := t.Read64(n.v[i]); err != nil {
			return err
		}
	}
	return nil
}

// image is the values of image i.
func (n *norms) image(i int) (a, b, c []float64) {
	lo, hi := i*n.size, (i+1)*n.size
	return n.v[0][lo:hi], n.v[1][lo:hi], n.v[2][lo:hi]
}
