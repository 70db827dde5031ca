package sampler

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// Options say what to draw.
type Options struct {
	Seed   uint64
	First  int   // index of the first image: image i has the same noise in every run of this seed
	N      int   // images
	Batch  int   // images at a time; default 64
	Shape  []int // of one image, e.g. [3 32 32]
	Double bool  // states in float64
	Device *gpu.Device
	Cond   Cond // of all N images

	// What replaces the starting noise, [N, Shape...]; at most one may be set.
	Noise *gpu.Tensor // unit noise n: the start is B·n at the grid's first level
	Image *gpu.Tensor // clean images x0: the start is A·x0 + B·n, n from the seed; A·x0 where the grid rises
	State *gpu.Tensor // the starting states themselves

	// Kernel is the noise that runs start with and images are noised by; nil is the Gaussian. With another one (diffusion.PFGMPP) solvers
	// that draw noise on the way are refused: theirs is Gaussian.
	Kernel diffusion.Noise
	// Disturb adds Disturb·B·z, z standard normal, to a state before each step from a level (A, B), and tells the denoiser nothing of it:
	// how gently errors of a model end (Xu et al. 2023, section 5).
	Disturb float64

	// UnitStart begins with the unit noise n itself in place of B·n, as tools do
	// that start any grid from unit noise. Below pure noise that is more than the
	// path has there, which makes up for the data that a low start lacks. Only a
	// grid in VP scaling that falls has it.
	UnitStart bool

	// Trajectory sees the state before the first step (Step 0) and after every step.
	Trajectory func(Event) error
	// Each gets every finished batch; when it is set, Result.X is nil and memory
	// does not grow with N. x is only valid during the call.
	Each func(first int, x *gpu.Tensor) error
	// Progress hears of evaluations done and to do, counted in images; to do is
	// 0 where the solver's NFE varies.
	Progress func(done, total int)
	// Rescue gets the state before a step that failed by a *NotFiniteError; while
	// it is set, every step's start is kept, at the cost of a copy.
	Rescue func(Event) error
	// Levels changes where each image of the batch goes from and to in a step,
	// seeing the states x; the grid's levels come in. It may return ErrGridLevels. Only
	// a Table solver, pndm and the single-step DPM-Solvers have levels of single
	// images. TimeShift makes one.
	Levels func(step int, x *gpu.Tensor, from, to []diffusion.Point) error
	// Brownian makes the noise of stochastic steps the increments of one Brownian
	// path of every image, so that more steps refine the same picture; it costs
	// some ten times the usual draws and the memory of 20 states.
	Brownian bool
	// StepNoise replaces the noise of stochastic steps, [batch, Shape...]; a step
	// of two stages asks twice.
	StepNoise func(first, step int, z *gpu.Tensor)
}

// Event is a state on its way.
type Event struct {
	First int // index of the batch's first image
	Step  int // steps taken so far
	At    diffusion.Point
	X     *gpu.Tensor // [batch, Shape...], scaled as At says; only valid during the call
}

// Result is what Run has drawn.
type Result struct {
	X     *gpu.Tensor // [N, Shape...]: the last states divided by their A, on a rising grid by their B
	Count             // of the image that took most
	Each  []Count     // of each image, where NFE varies; else nil
}

// Run draws o.N images with den along the grid. Image i depends on the seed, i,
// the grid and the solver, never on the batch size. It refuses a grid that the
// solver or the denoiser cannot serve, shapes that do not fit, and outputs of
// the denoiser that are not finite (*NotFiniteError, naming step and sigma).
func Run(ctx context.Context, den Denoiser, s Solver, g *diffusion.Grid, o Options) (*Result, error) {
	given, err := o.check()
	if err != nil {
		return nil, err
	}
	if err := Walks(s, g); err != nil {
		return nil, err
	}
	if g.Rising() && o.Image == nil && o.State == nil {
		return nil, fmt.Errorf("sampler: grid %s rises: it starts from images or states, and none were given", g.Name)
	}
	if o.UnitStart && (g.Rising() || g.Space != diffusion.VPSpace || o.Image != nil || o.State != nil) {
		return nil, fmt.Errorf("sampler: a start of unit noise in grid %s of %v scaling, or with images or states given; wanted a falling grid in VP scaling that starts from noise", g.Name, g.Space)
	}
	if err := checkGrid(den, g); err != nil {
		return nil, err
	}
	if err := CheckStateful(den, s, g); err != nil {
		return nil, err
	}
	r, nfe := &Result{}, s.NFE(g)
	if o.Each == nil {
		r.X = o.empty(o.N)
	}
	w := &walk{ctx: ctx, den: den, s: s, g: g, o: &o, given: given, total: o.N * max(nfe, 0)}
	for lo := 0; lo < o.N; lo += o.Batch {
		n := min(o.Batch, o.N-lo)
		x := w.buffer(r.X, lo, n)
		if err := w.batch(x, lo); err != nil {
			return nil, err
		}
		for i := range n {
			c := w.eval.Count(i)
			if nfe == Varies {
				r.Each = append(r.Each, c)
			} else if c.NFE != nfe {
				panic(fmt.Sprintf("sampler: %s used %d evaluations and promised %d", s.Name(), c.NFE, nfe))
			}
			if c.Network > r.Network || c.Network == r.Network && c.NFE > r.NFE {
				r.Count = c
			}
		}
		if o.Each != nil {
			if err := o.Each(o.First+lo, x); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// Walks tells why a solver cannot walk a grid, nil when it can.
func Walks(s Solver, g *diffusion.Grid) error {
	if err := g.Check(); err != nil {
		return err
	}
	if err := s.Check(g); err != nil {
		return err
	}
	if r, ok := s.(Riser); g.Rising() && !(ok && r.Rises()) {
		return fmt.Errorf("sampler: %s cannot walk a grid that rises to sigma %.4g; use ddim, euler or a Runge-Kutta method", s.Name(), g.Steps[len(g.Steps)-1].To.Sigma())
	}
	return nil
}

// check fills in defaults and returns the tensor that replaces the start.
func (o *Options) check() (*gpu.Tensor, error) {
	if o.N < 1 {
		return nil, fmt.Errorf("sampler: %d images; wanted at least 1", o.N)
	}
	if o.Batch < 0 {
		return nil, fmt.Errorf("sampler: batches of %d; wanted at least 1, or 0 for the default", o.Batch)
	}
	if o.Batch == 0 {
		o.Batch = 64
	}
	if o.First < 0 || o.First+o.N > 1<<47 {
		return nil, fmt.Errorf("sampler: images %d to %d; wanted indices from 0 to 2^47", o.First, o.First+o.N)
	}
	if o.Device == nil {
		o.Device = gpu.CPU()
	}
	size := 1
	for _, d := range o.Shape {
		if d < 1 || size > math.MaxInt32/d {
			return nil, fmt.Errorf("sampler: images of shape %v; wanted sizes of at least 1 and at most 2^31 elements", o.Shape)
		}
		size *= d
	}
	if err := o.Cond.check(o.N); err != nil {
		return nil, err
	}
	if o.Kernel != nil {
		if err := o.Kernel.Check(size); err != nil {
			return nil, err
		}
	}
	if !(o.Disturb >= 0) || math.IsInf(o.Disturb, 1) {
		return nil, fmt.Errorf("sampler: disturbed by %g; wanted a finite number, 0 (not at all) or above", o.Disturb)
	}
	var given *gpu.Tensor
	for _, t := range []*gpu.Tensor{o.Noise, o.Image, o.State} {
		if t == nil {
			continue
		}
		if given != nil {
			return nil, fmt.Errorf("sampler: more than one of noise, images and states was given to start from; wanted one")
		}
		given = t
		if t.Device() != o.Device {
			return nil, fmt.Errorf("sampler: the given start is on %v, the run on %v; move it with To", t.Device(), o.Device)
		}
		want := append([]int{o.N}, o.Shape...)
		if fmt.Sprint(t.Shape()) != fmt.Sprint(want) {
			return nil, fmt.Errorf("sampler: the given start has shape %v; wanted %v", t.Shape(), want)
		}
		if t.Double() != o.Double {
			return nil, fmt.Errorf("sampler: the given start and the states differ in dtype (float64: %t and %t)", t.Double(), o.Double)
		}
		if i, ok := ops.Finite(t); !ok {
			return nil, fmt.Errorf("sampler: the given start is not finite at element %d (image %d)", i, i/size)
		}
	}
	return given, nil
}

func (o *Options) empty(n int) *gpu.Tensor {
	shape := append([]int{n}, o.Shape...)
	if o.Double {
		return o.Device.Empty64(shape...)
	}
	return o.Device.Empty(shape...)
}

// walk is a Run's memory, kept over batches of one size.
type walk struct {
	ctx   context.Context
	den   Denoiser
	s     Solver
	g     *diffusion.Grid
	o     *Options
	given *gpu.Tensor

	eval    *Eval
	stepper Stepper
	own     *gpu.Tensor // the batch's states when there is no result to keep them in
	kept    *gpu.Tensor // the present step's start, for Rescue
	noise   ops.Noise   // of the steps, each image's next normal
	drawn   bool        // a step has drawn noise
	z       *gpu.Tensor // of Disturb, or of a start of other than Gaussian noise
	done    int
	total   int
}

// buffer is where the batch's states live: in the result itself, if there is one.
func (w *walk) buffer(result *gpu.Tensor, lo, n int) *gpu.Tensor {
	if result != nil {
		return rows(result, lo, n)
	}
	if w.own == nil || w.own.Shape()[0] != n {
		w.own = w.o.empty(n)
	}
	return w.own
}

// rows is a view of t's samples lo to lo+n.
func rows(t *gpu.Tensor, lo, n int) *gpu.Tensor { return t.Rows(lo, lo+n) }

func (w *walk) batch(x *gpu.Tensor, lo int) error {
	n := x.Shape()[0]
	if w.eval == nil || len(w.eval.points) != n {
		w.eval = NewEval(w.ctx, w.den, x, Cond{}, w.stepNoise)
		w.eval.own = w.o.Levels
		if w.o.Rescue != nil {
			w.kept = x.Like()
		}
		if w.o.Brownian && w.o.StepNoise == nil {
			w.eval.path = &brownian{}
		}
		w.stepper = w.s.Start(x)
		if _, ok := w.stepper.(ownLevels); w.o.Levels != nil && !ok {
			return fmt.Errorf("sampler: %s takes all images through the same levels; use a solver of one evaluation a step (ddim, dpm++2m), pndm or dpm-solver-2", w.s.Name())
		}
	}
	w.eval.begin(w.o.First+lo, lo, w.o.Cond.of(lo, lo+n))
	if w.eval.state != nil {
		w.eval.state.Reset()
	}
	w.start(x, lo)
	w.noise = ops.ImageNoise(w.o.Seed, uint64(w.o.First+lo), rng.Step)
	if w.eval.path != nil {
		w.eval.path.begin(ops.ImageNoise(w.o.Seed, uint64(w.o.First+lo), rng.Bridge))
	}
	if err := w.tell(0, w.g.Steps[0].From, x, lo); err != nil {
		return err
	}
	for i := range w.g.Steps {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		before := w.eval.evaluations()
		w.eval.step, w.eval.committed = i, 0
		tellStep(w.den, w.g, i)
		if w.o.Rescue != nil {
			w.kept.Copy(x)
		}
		if w.o.Disturb > 0 {
			w.z = likeOf(w.z, x)
			w.stepNoise(i, w.z)
			ops.LinComb(x, []float64{1, w.o.Disturb * w.g.Steps[i].From.B}, x, w.z)
		}
		w.drawn = false
		if err := w.stepper.Step(w.eval, x, w.g, i); err != nil {
			return w.rescue(err, i, lo)
		}
		if err := w.goOn(w.eval.evaluations() - before); err != nil {
			return err
		}
		if w.drawn && !diffusion.IsGaussian(w.o.Kernel) {
			return fmt.Errorf("sampler: %s draws Gaussian noise on the way, and the kernel is %s; wanted a solver that draws none (heun, dpm++2m)",
				w.s.Name(), w.o.Kernel.Name())
		}
		if err := w.o.Device.Err(); err != nil {
			return err
		}
		if err := w.tell(i+1, w.g.Steps[i].To, x, lo); err != nil {
			return err
		}
		if w.done += w.eval.evaluations() - before; w.o.Progress != nil {
			w.o.Progress(w.done, w.total)
		}
	}
	last := w.g.Steps[len(w.g.Steps)-1].To
	scale := last.A
	if w.g.Rising() {
		scale = last.B
	}
	if scale != 1 {
		ops.LinComb(x, []float64{1 / scale}, x)
	}
	return w.o.Device.Sync()
}

// rescue hands out the state before step i, if that is what failed.
func (w *walk) rescue(err error, i, lo int) error {
	var bad *NotFiniteError
	if w.o.Rescue == nil || !errors.As(err, &bad) {
		return err
	}
	return errors.Join(err, w.o.Rescue(Event{First: w.o.First + lo, Step: i, At: w.g.Steps[i].From, X: w.kept}))
}

// start writes the first states of the batch.
func (w *walk) start(x *gpu.Tensor, lo int) {
	p := w.g.Steps[0].From
	n := x.Shape()[0]
	if w.given != nil && w.g.Rising() && w.given == w.o.Image {
		ops.LinComb(x, []float64{p.A}, rows(w.given, lo, n))
		return
	}
	if w.given != nil && w.given != w.o.Image {
		scale := 1.0
		if w.given == w.o.Noise {
			scale = w.startScale(p)
		}
		ops.LinComb(x, []float64{scale}, rows(w.given, lo, n))
		return
	}
	first := uint64(w.o.First + lo)
	switch {
	case w.given == nil:
		diffusion.UnitNoise(x, w.o.Kernel, w.o.Seed, first, rng.Init)
		ops.LinComb(x, []float64{w.startScale(p)}, x)
	case diffusion.IsGaussian(w.o.Kernel):
		ops.AddNoise(x, rows(w.given, lo, n), []float64{p.A, p.B}, ops.ImageNoise(w.o.Seed, first, rng.Init))
	default:
		w.z = likeOf(w.z, x)
		diffusion.UnitNoise(w.z, w.o.Kernel, w.o.Seed, first, rng.Init)
		ops.LinComb(x, []float64{p.A, p.B}, rows(w.given, lo, n), w.z)
	}
}

// likeOf is t where it is like x, else a tensor like x.
func likeOf(t, x *gpu.Tensor) *gpu.Tensor {
	if t != nil && t.Len() == x.Len() {
		return t
	}
	return x.Like()
}

// startScale is the factor of unit noise at the start p.
func (w *walk) startScale(p diffusion.Point) float64 {
	if w.o.UnitStart {
		return 1
	}
	return p.B
}

func (w *walk) tell(step int, at diffusion.Point, x *gpu.Tensor, lo int) error {
	if w.o.Trajectory == nil {
		return nil
	}
	return w.o.Trajectory(Event{First: w.o.First + lo, Step: step, At: at, X: x})
}

func (w *walk) stepNoise(step int, z *gpu.Tensor) {
	w.drawn = true
	if w.o.StepNoise != nil {
		w.o.StepNoise(w.eval.first, step, z)
		return
	}
	ops.Normals(z, w.noise)
	w.noise.From += uint64(z.Len() / z.Shape()[0])
}
