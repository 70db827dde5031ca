package shiftsteps

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// levels is Options.Levels.
type levels = func(step int, x *gpu.Tensor, from, to []diffusion.Point) error

// setting is an arm's parameters: "grid" and "S", the solver, the shift by "mode",
// "window", "cutoff" and "by", the "scale" and "slope" of the noise, "together" for
// one shift of the whole batch, "window/stride" for a window that grows with the
// stride, and the "error" that is forced upon states.
type setting struct {
	grid   *diffusion.Grid
	solver sampler.Solver
	den    sampler.Denoiser
	levels levels
	moved  *shifts
}

// shifts collects how far images were moved.
type shifts struct{ n, sum, squares float64 }

func (m *shifts) add(_ int, _, moved []float64) {
	for _, d := range moved {
		m.n, m.sum, m.squares = m.n+1, m.sum+d, m.squares+d*d
	}
}

// note says what was seen; "" of nothing.
func (m *shifts) note() string {
	if m.n == 0 {
		return ""
	}
	mean := m.sum / m.n
	return fmt.Sprintf("moved by %.1f times on average, with a deviation of %.1f", mean, math.Sqrt(math.Max(m.squares/m.n-mean*mean, 0)))
}

// settle reads the parameters of an arm.
func (b *bed) settle(p systems.Params) (*setting, error) {
	return b.settleOn(b, []int{b.Dims}, p)
}

// settleOn is settle of an arm that asks den, for images of a shape.
func (b *bed) settleOn(den sampler.Denoiser, shape []int, p systems.Params) (*setting, error) {
	s := &setting{den: den, moved: &shifts{}}
	rule, name := "paper", "ddim"
	if p.Has("grid") {
		rule = p.Text("grid")
	}
	if p.Has("solver") {
		name = p.Text("solver")
	}
	steps := p.Int("S")
	var err error
	if s.grid, err = grid(rule, steps); err != nil {
		return nil, err
	}
	if s.solver, err = sampler.ByName(name); err != nil {
		return nil, err
	}
	if p.Has("scale") {
		s.den = &sampler.ScaledNoise{Den: den, By: p.Num("scale"), Slope: p.Num("slope")}
	}
	if p.Has("mode") {
		shift := sampler.TimeShift{Mode: sampler.ShiftMode(p.Text("mode")), Cutoff: p.Num("cutoff"), Seen: s.moved.add}
		switch {
		case p.Has("by"):
			shift.By = p.Num("by")
		case p.Has("window/stride"):
			shift.Window = int(p.Num("window/stride") * 1000 / float64(steps))
		default:
			shift.Window = p.Int("window")
		}
		if shift.Mode == sampler.ShiftDebiased {
			shift.DataVariance = b.v0
		}
		if s.levels, err = shift.Levels(s.grid, shape); err != nil {
			return nil, err
		}
	}
	if p.Has("together") && s.levels != nil {
		s.levels = together(s.levels)
	}
	if p.Has("error") {
		s.levels = forced(s.levels, p.Num("error"))
	}
	return s, nil
}

// together is the shift without what is its images' own: all of a batch start from
// the mean of the times that they would have.
func together(each levels) levels {
	return func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
		if err := each(step, x, from, to); err != nil {
			return err
		}
		t := 0.0
		for _, p := range from {
			t += p.T / float64(len(from))
		}
		one := diffusion.AtTime(vp, t)
		for b := range from {
			from[b] = one
		}
		return nil
	}
}

// forced multiplies the states by 1 + e before every step but the first: the error of
// a model that leaves too much, or takes too much, each time.
func forced(then levels, e float64) levels {
	return func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
		if step > 0 {
			ops.LinComb(x, []float64{1 + e}, x)
		}
		if then == nil {
			return sampler.ErrGridLevels
		}
		return then(step, x, from, to)
	}
}

// draw is an arm: samples by its setting, and what is measured of them.
func (b *bed) draw(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	s, err := b.settle(d.Params)
	if err != nil {
		return nil, err
	}
	o := b.Options(d.Seed, d.N)
	o.Levels = s.levels
	off := &offsets{v0: b.v0}
	o.Trajectory = off.see
	r, err := sampler.Run(ctx, s.den, s.solver, s.grid, o)
	if err != nil {
		return nil, err
	}
	exact, floor, err := b.exact(ctx, d.Env, d.Seed, d.N)
	if err != nil {
		return nil, err
	}
	fd, err := b.frechet(r.X)
	if err != nil {
		return nil, err
	}
	out := &systems.Outcome{Cost: systems.Cost{NFE: float64(r.NFE), FLOPs: b.FLOPs() * float64(r.NFE)}}
	out.Values = map[string]float64{"excess": fd - floor, "fd": fd, "floor": floor, "rmse": bases.RMSE(r.X, exact), "bias": off.mean(), "start": s.grid.Steps[0].From.T}
	if d.First {
		out.Pictures = b.pictures(r.X, 12)
		if n := s.moved.note(); n != "" {
			out.Notes = append(out.Notes, n)
		}
	}
	return out, nil
}

// offsets are how far the mean variance of the images is, after each step, from what
// the grid says: |mean Var(x_t) - (A²·v0 + B²)|.
type offsets struct {
	v0    float64
	steps map[int]*offset
}

type offset struct{ n, sum, want float64 }

func (o *offsets) see(e sampler.Event) error {
	if e.Step == 0 || e.At.B == 0 { // the noise itself, and the end
		return nil
	}
	if o.steps == nil {
		o.steps = map[int]*offset{}
	}
	at := o.steps[e.Step]
	if at == nil {
		at = &offset{want: e.At.A*e.At.A*o.v0 + e.At.B*e.At.B}
		o.steps[e.Step] = at
	}
	v := make([]float64, e.X.Shape()[0])
	ops.RowVariance(v, e.X)
	for _, u := range v {
		at.n, at.sum = at.n+1, at.sum+u
	}
	return nil
}

// mean is their mean over the steps.
func (o *offsets) mean() float64 {
	sum := 0.0
	for i := 1; i <= len(o.steps); i++ { // in the order of the steps, for equal bits
		sum += math.Abs(o.steps[i].sum/o.steps[i].n-o.steps[i].want) / float64(len(o.steps))
	}
	return sum
}
