package sampler

import "github.com/fidlab/fidlab/diffusion"

// tableau is an explicit Runge-Kutta method: slope j is taken at c[j] of the step,
// from Σ_k a[j][k]·slope_k; the step is Σ_j b[j]·slope_j, its error estimate
// Σ_j e[j]·slope_j where there is one.
type tableau struct {
	name    string
	order   int
	c, b, e []float64
	a       [][]float64
}

var (
	midpoint = tableau{name: "midpoint", order: 2, c: []float64{0, 0.5}, a: [][]float64{{}, {0.5}}, b: []float64{0, 1}}
	rk4      = tableau{
		name: "rk4", order: 4, c: []float64{0, 0.5, 0.5, 1},
		a: [][]float64{{}, {0.5}, {0, 0.5}, {0, 0, 1}}, b: []float64{1. / 6, 1. / 3, 1. / 3, 1. / 6},
	}
	// dormandPrince is the pair of orders 5 and 4 of Dormand and Prince 1980, "A
	// family of embedded Runge-Kutta formulae": its last slope is the
	// next step's first.
	dormandPrince = tableau{
		name: "dopri5", order: 5, c: []float64{0, 1. / 5, 3. / 10, 4. / 5, 8. / 9, 1, 1},
		a: [][]float64{
			{},
			{1. / 5},
			{3. / 40, 9. / 40},
			{44. / 45, -56. / 15, 32. / 9},
			{19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
			{9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
			{35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84},
		},
		b: []float64{35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84, 0},
		e: []float64{71. / 57600, 0, -71. / 16695, 71. / 1920, -17253. / 339200, 22. / 525, -1. / 40},
	}
)

// maxStages bounds the stages of a tableau, by what one combination takes.
const maxStages = 7

// wide is a linear combination of the state at a step's start and of the
// denoised D_0, D_1, … of its stages.
type wide [1 + maxStages]float64

func (c wide) add(k float64, d wide) wide {
	for i := range c {
		c[i] += k * d[i]
	}
	return c
}

// The equation that Runge-Kutta methods solve is dy/dτ = (y - D)/τ: on the flow
// τ is the noise fraction and y the state x, and the slope is the flow's
// velocity; elsewhere τ is sigma and y = x/A.

// lineTime is τ at p.
func lineTime(space diffusion.Space, p diffusion.Point) float64 {
	if space == diffusion.FlowSpace {
		return p.B
	}
	return p.Sigma()
}

// lineScale is x/y at p.
func lineScale(space diffusion.Space, p diffusion.Point) float64 {
	if space == diffusion.FlowSpace {
		return 1
	}
	return p.A
}

// lineAt is the point of τ.
func lineAt(space diffusion.Space, tau float64) diffusion.Point {
	if space == diffusion.FlowSpace {
		return diffusion.Point{A: 1 - tau, B: tau}
	}
	a, b := space.Scale(tau)
	return diffusion.Point{A: a, B: b}
}

// stages is one step of a tableau along the line, as combinations of x and the D.
type stages struct {
	t      *tableau
	space  diffusion.Space
	from   diffusion.Point
	tau, h float64
	slopes [maxStages]wide
}

// begin sets the step and its first slope.
func (s *stages) begin(t *tableau, space diffusion.Space, from diffusion.Point, h float64) {
	s.t, s.space, s.from, s.tau, s.h = t, space, from, lineTime(space, from), h
	s.slope(0, s.y(nil), s.tau)
}

// y is the y that weights of the slopes lead to.
func (s *stages) y(weights []float64) wide {
	y := s.change(weights)
	y[0] += 1 / lineScale(s.space, s.from)
	return y
}

// change is h·Σ_j weights[j]·slope_j.
func (s *stages) change(weights []float64) (y wide) {
	for j, w := range weights {
		y = y.add(s.h*w, s.slopes[j])
	}
	return y
}

// slope sets slope j, of y at tau.
func (s *stages) slope(j int, y wide, tau float64) {
	y[1+j]--
	s.slopes[j] = wide{}.add(1/tau, y)
}

// stage is where slope j ≥ 1 is asked for, and the state there; to stands for
// the end of the step.
func (s *stages) stage(j int, to diffusion.Point) (diffusion.Point, wide) {
	at := to
	if s.t.c[j] < 1 {
		at = lineAt(s.space, s.tau+s.t.c[j]*s.h)
	}
	y := s.y(s.t.a[j])
	s.slope(j, y, lineTime(s.space, at))
	return at, wide{}.add(lineScale(s.space, at), y)
}

// end is the state at the end of the step.
func (s *stages) end(to diffusion.Point) wide {
	return wide{}.add(lineScale(s.space, to), s.y(s.t.b))
}
