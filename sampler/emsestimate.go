package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// StatisticsOptions say what EstimateStatistics looks at.
type StatisticsOptions struct {
	SigmaMin, SigmaMax float64 // 0 is the path's own end
	Steps              int     // levels beside the first, of equal distance in λ; default 120
	PerValue           bool    // a number for each value of an image, else one for all
	Solver             Solver  // makes the states; default dpm++2m
	Images             Options // how many images, their seed, shape, dtype, device and conditions
}

// EstimateStatistics measures a model's statistics for DPM-Solver-v3 on the
// solver's own trajectories (Zheng et al. 2023, arXiv 2310.13268): with y = x/A and E over images, and values unless PerValue,
//
//	l = E[v∘(I - ∂D/∂y)v], v of values ±1,  f = (1-l)·y - D,
//	f' = -l'·y + (1-l)·(D-y) - D',  s = Cov(f,f')/Var f,  b = E f' - s·E f,
//
// where ' is along the flow, dy/dλ = D - y. D' is a central difference along it
// (at the ends one of three points inwards) in λ of size ∛u, u as in tangent; l'
// is that of the table. A step costs a level five evaluations beside the
// solver's, one less where the denoiser knows its derivative. s is 0 where f does
// not vary.
func EstimateStatistics(ctx context.Context, den Denoiser, path diffusion.Path, o StatisticsOptions) (*ModelStatistics, error) {
	if o.Steps == 0 {
		o.Steps = 120
	}
	if o.Steps < 2 {
		return nil, fmt.Errorf("sampler: model statistics: %d steps; wanted 2 at least", o.Steps)
	}
	if o.Solver == nil {
		o.Solver = DPMMultistep{}
	}
	if o.Images.Trajectory != nil || o.Images.Each != nil {
		return nil, fmt.Errorf("sampler: model statistics: the images' own Trajectory and Each are taken; leave them unset")
	}
	g, err := diffusion.Build(path, diffusion.Spec{Rule: "exponential", Steps: o.Steps, SigmaMin: o.SigmaMin, SigmaMax: o.SigmaMax, End: diffusion.Min})
	if err != nil {
		return nil, err
	}
	width := 1
	if o.PerValue {
		width = sizeOf(o.Images.Shape)
	}
	m := &emsMeter{ctx: ctx, den: den, o: &o.Images, space: g.Space, levels: make([]moments, o.Steps+1)}
	for i := range m.levels {
		for j := range m.levels[i].sum {
			m.levels[i].sum[j] = make([]float64, width)
		}
	}
	o.Images.Trajectory = m.see
	o.Images.Each = func(int, *gpu.Tensor) error { return nil }
	if _, err := Run(ctx, den, o.Solver, g, o.Images); err != nil {
		return nil, err
	}
	out := &ModelStatistics{}
	for _, sigma := range g.Sigmas() {
		out.Lambda = append(out.Lambda, -math.Log(sigma))
	}
	fillStatistics(out, m.levels)
	return out, out.Check()
}

// moments are sums over images, and over values where these share them.
type moments struct {
	n   float64
	sum [nMoments][]float64
}

const (
	sumY = iota
	sumD
	sumSlope // D'
	sumYY
	sumYD
	sumDD
	sumYSlope
	sumDSlope
	sumTrace // v∘(∂D/∂y)v
	nMoments
)

// emsMeter takes the moments of every state that a trajectory passes.
type emsMeter struct {
	ctx    context.Context
	den    Denoiser
	o      *Options
	space  diffusion.Space
	levels []moments

	eval                *Eval
	grad                *tangent
	d, slope, moved, jv *gpu.Tensor
	v                   *gpu.Tensor
	host                [5][]float64
	rows                []int
	at                  []diffusion.Point
}

// see is a Trajectory.
func (m *emsMeter) see(ev Event) error {
	x, n := ev.X, ev.X.Shape()[0]
	first := ev.First - m.o.First
	if m.eval == nil || len(m.rows) != n {
		m.eval, m.grad = NewEval(m.ctx, m.den, x, Cond{}, nil), newTangent(x)
		m.d, m.slope, m.moved, m.jv = x.Like(), x.Like(), x.Like(), x.Like()
		for i := range m.host {
			m.host[i] = make([]float64, x.Len())
		}
		m.rows, m.at = make([]int, n), make([]diffusion.Point, n)
		for i := range m.rows {
			m.rows[i] = i
		}
	}
	e := m.eval
	e.begin(ev.First, first, m.o.Cond.of(first, first+n))
	e.step = ev.Step
	if err := e.Denoise(m.d, x, ev.At); err != nil {
		return err
	}
	if err := m.along(x, ev); err != nil {
		return err
	}
	size := x.Len() / n
	m.v = probe(x, func(i, j int) float32 {
		s := rng.ForImage(m.o.Seed, uint64(ev.First+i), rng.Probe)
		bit := ev.Step*size + j
		return 1 - 2*float32(s.Uint32At(uint64(bit/32))>>(bit%32)&1)
	})
	for i := range m.at {
		m.at[i] = ev.At
	}
	if err := m.grad.along(e, m.jv, x, m.v, m.at, m.rows); err != nil {
		return err
	}
	for i, t := range []*gpu.Tensor{x, m.d, m.slope, m.v, m.jv} {
		if err := t.Read64(m.host[i]); err != nil {
			return err
		}
	}
	level := &m.levels[ev.Step]
	width := len(level.sum[0])
	level.n += float64(x.Len() / width)
	for i, xi := range m.host[0] {
		y, d, s, t := xi/ev.At.A, m.host[1][i], m.host[2][i], ev.At.A*m.host[3][i]*m.host[4][i]
		for j, q := range [nMoments]float64{y, d, s, y * y, y * d, d * d, y * s, d * s, t} {
			level.sum[j][i%width] += q
		}
	}
	return nil
}

// along sets slope to the derivative of D along the flow in λ.
func (m *emsMeter) along(x *gpu.Tensor, ev Event) error {
	h := math.Cbrt(ulp(x))
	// Weights of D at the state, and places and weights of two more.
	mid, t, w := 0.0, [2]float64{1, -1}, [2]float64{0.5, -0.5}
	switch ev.Step {
	case 0:
		mid, t, w = -1.5, [2]float64{1, 2}, [2]float64{2, -0.5}
	case len(m.levels) - 1:
		mid, t, w = 1.5, [2]float64{-1, -2}, [2]float64{-2, 0.5}
	}
	ops.LinComb(m.slope, []float64{mid / h}, m.d)
	for i := range t {
		step := t[i] * h
		a, b := m.space.Scale(ev.At.Sigma() * math.Exp(-step))
		// y + step·(D - y), scaled for the level there.
		ops.LinComb(m.moved, []float64{a * (1 - step) / ev.At.A, a * step}, x, m.d)
		if err := m.eval.Denoise(m.jv, m.moved, diffusion.Point{A: a, B: b}); err != nil {
			return err
		}
		ops.LinComb(m.slope, []float64{1, w[i] / h}, m.slope, m.jv)
	}
	return nil
}

// fillStatistics makes l, s and b of moments at levels of equal distance.
func fillStatistics(out *ModelStatistics, levels []moments) {
	n, width := len(levels), len(levels[0].sum[0])
	for _, t := range []*[][]float64{&out.L, &out.S, &out.B} {
		*t = make([][]float64, n)
		for i := range *t {
			(*t)[i] = make([]float64, width)
		}
	}
	step := (out.Lambda[n-1] - out.Lambda[0]) / float64(n-1)
	for j := range width {
		for i := range levels {
			out.L[i][j] = 1 - levels[i].sum[sumTrace][j]/levels[i].n
		}
		for i := range levels {
			var dl float64
			switch {
			case i == 0:
				dl = (-3*out.L[0][j] + 4*out.L[1][j] - out.L[2][j]) / (2 * step)
			case i == n-1:
				dl = (3*out.L[i][j] - 4*out.L[i-1][j] + out.L[i-2][j]) / (2 * step)
			default:
				dl = (out.L[i+1][j] - out.L[i-1][j]) / (2 * step)
			}
			out.S[i][j], out.B[i][j] = levels[i].regress(out.L[i][j], dl, j)
		}
	}
}

// regress is s and b of number j for l and its derivative.
func (m *moments) regress(l, dl float64, j int) (s, b float64) {
	mean := func(k int) float64 { return m.sum[k][j] / m.n }
	cov := func(k, a, b int) float64 { return mean(k) - mean(a)*mean(b) }
	yy, yd, dd := cov(sumYY, sumY, sumY), cov(sumYD, sumY, sumD), cov(sumDD, sumD, sumD)
	ys, ds := cov(sumYSlope, sumY, sumSlope), cov(sumDSlope, sumD, sumSlope)
	k := 1 - l
	f := k*mean(sumY) - mean(sumD)
	df := -dl*mean(sumY) + k*(mean(sumD)-mean(sumY)) - mean(sumSlope)
	ff := k*k*yy - 2*k*yd + dd
	fdf := k*(-dl*yy+k*(yd-yy)-ys) - (-dl*yd + k*(dd-yd) - ds)
	// Below this share of its terms, a variance is their rounding.
	if ff > 1e-9*(k*k*yy+dd) {
		s = fdf / ff
	}
	return s, df - s*f
}
