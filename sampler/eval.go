package sampler

import (
	"context"
	"errors"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Eval is what a step may ask for: evaluations of the denoiser, counted and
// checked, and noise.
type Eval struct {
	all    Count   // evaluations so far of every image of this batch
	each   []Count // and of each image beside those
	ctx    context.Context
	den    asker
	cost   Coster // the denoiser, when it is one
	cond   Cond
	step   int
	first  int // index of the batch's first image
	offset int // and its place in the run
	points []diffusion.Point
	noise  func(step int, z *gpu.Tensor)
	path   *brownian                                                       // Options.Brownian
	own    func(step int, x *gpu.Tensor, from, to []diffusion.Point) error // Options.Levels

	state     Stateful // the denoiser, when it remembers
	committed int      // how often the state has gone on in this step
}

// Count is what an image took.
type Count struct {
	NFE      int // evaluations of the denoiser
	Network  int // evaluations of the network within it: more, where guidance asks it twice
	Rejected int // of NFE, those of steps that an adaptive solver threw away
}

func (c Count) plus(d Count) Count {
	return Count{c.NFE + d.NFE, c.Network + d.Network, c.Rejected + d.Rejected}
}

// Count is what the batch's image i has taken so far.
func (e *Eval) Count(i int) Count { return e.all.plus(e.each[i]) }

// evaluations is their number so far over all images.
func (e *Eval) evaluations() int {
	n := e.all.NFE * len(e.each)
	for _, c := range e.each {
		n += c.NFE
	}
	return n
}

// Reject says that n evaluations of the batch's image i were in vain.
func (e *Eval) Reject(i, n int) { e.each[i].Rejected += n }

// begin forgets the counts and sets what the batch is.
func (e *Eval) begin(first, offset int, c Cond) {
	e.all, e.first, e.offset, e.cond = Count{}, first, offset, c
	clear(e.each)
}

// batch is the batch's part of t, which has all images of the run, like x its states.
func (e *Eval) batch(what string, t, x *gpu.Tensor) (*gpu.Tensor, error) {
	n := len(e.each)
	if s := t.Shape(); len(s) == 0 || s[0] < e.offset+n || t.Len()/s[0] != x.Len()/n || t.DType() != x.DType() || t.Device() != x.Device() {
		return nil, fmt.Errorf("sampler: %s are %v %v on %v; wanted the run's images, %v of shape %v on %v",
			what, t.DType(), s, t.Device(), x.DType(), x.Shape()[1:], x.Device())
	}
	return t.Rows(e.offset, e.offset+n), nil
}

// NewEval prepares evaluations of den for a batch of like's shape. noise fills
// z, of that shape, with normals for a step.
func NewEval(ctx context.Context, den Denoiser, like *gpu.Tensor, c Cond, noise func(step int, z *gpu.Tensor)) *Eval {
	n := like.Shape()[0]
	e := &Eval{ctx: ctx, den: newAsker(den), cond: c, each: make([]Count, n), points: make([]diffusion.Point, n), noise: noise}
	e.cost, _ = den.(Coster)
	e.state = stateful(den)
	return e
}

// Denoise writes the denoised x, a state at point p, to out. It refuses an
// output that is not finite with a *NotFiniteError.
func (e *Eval) Denoise(out, x *gpu.Tensor, p diffusion.Point) error {
	if err := e.ask(out, x, p); err != nil {
		return err
	}
	if i, ok := ops.Finite(out); !ok {
		return e.notFinite(p, out, i)
	}
	return nil
}

func (e *Eval) notFinite(p diffusion.Point, x *gpu.Tensor, i int) *NotFiniteError {
	return &NotFiniteError{Step: e.step, Sigma: p.Sigma(), Image: e.first + i/(x.Len()/len(e.points))}
}

// update sets out to Σ_j c[j]·xs[j], where d, one of the xs, is what ask wrote
// for point p and nobody has looked at yet. The sum is not finite where d isn't,
// so this check costs no pass over memory.
func (e *Eval) update(p diffusion.Point, d, out *gpu.Tensor, c []float64, xs ...*gpu.Tensor) error {
	if ops.LinCombFinite(out, c, xs...) {
		return nil
	}
	return e.blame(p, d, out)
}

// blame is the error of a state that is not finite: of the denoised d, when that
// is to blame, else of the state itself, which then has overflowed.
func (e *Eval) blame(p diffusion.Point, d, state *gpu.Tensor) error {
	if i, ok := ops.Finite(d); !ok {
		return e.notFinite(p, d, i)
	}
	i, _ := ops.Finite(state)
	err := e.notFinite(p, state, i)
	err.State = true
	return err
}

// updateOn is update with a row of coefficients for all images or of each, as there are points.
func (e *Eval) updateOn(at []diffusion.Point, d, out *gpu.Tensor, c []float64, xs ...*gpu.Tensor) error {
	if len(at) == 1 {
		return e.update(at[0], d, out, c, xs...)
	}
	ops.LinCombRows(out, c, xs...)
	if i, ok := ops.Finite(out); !ok {
		return e.blame(at[i/(out.Len()/len(at))], d, out)
	}
	return nil
}

// combineOn is updateOn of what has been looked at.
func combineOn(rows int, out *gpu.Tensor, c []float64, xs ...*gpu.Tensor) {
	if rows == 1 {
		ops.LinComb(out, c, xs...)
		return
	}
	ops.LinCombRows(out, c, xs...)
}

// levels writes where each image goes from and to in step i of g, and tells
// whether those are the grid's levels for all.
func (e *Eval) levels(x *gpu.Tensor, g *diffusion.Grid, i int, from, to []diffusion.Point) (shared bool, err error) {
	along := func() {
		for b := range from {
			from[b], to[b] = g.Steps[i].From, g.Steps[i].To
		}
	}
	along()
	if e.own == nil {
		return true, nil
	}
	if err = e.own(i, x, from, to); errors.Is(err, ErrGridLevels) {
		along()
		return true, nil
	}
	return false, err
}

// levelsOn is levels in from and to, cut to one point where the images share them.
func (e *Eval) levelsOn(x *gpu.Tensor, g *diffusion.Grid, i int, from, to []diffusion.Point) (_, _ []diffusion.Point, err error) {
	shared, err := e.levels(x, g, i, from, to)
	if shared {
		from, to = from[:1], to[:1]
	}
	return from, to, err
}

// ErrGridLevels is what Options.Levels returns for a step that all images take along
// the grid, as if there were no Levels, at the speed of that and with its bits. It
// ends nothing, as io.EOF is no failure.
// Whether it does must not depend on the states, or an image would depend on its
// neighbours in the batch in the last digit.
var ErrGridLevels = errors.New("sampler: the step goes along the grid")

// ownLevels is implemented by steppers that serve Options.Levels.
type ownLevels interface{ ownLevels() }

// OwnLevels tells whether a solver takes images through levels of their own, as
// Options.Levels and a TimeShift ask.
func OwnLevels(s Solver) bool {
	_, ok := s.Start(gpu.CPU().Empty(1, 1)).(ownLevels)
	return ok
}

// ask is Denoise without the check of the output.
func (e *Eval) ask(out, x *gpu.Tensor, p diffusion.Point) error {
	return e.call(out, x, e.count(p), e.cond, nil)
}

// count notes an evaluation of all images at p, and is that point for each.
func (e *Eval) count(p diffusion.Point) []diffusion.Point {
	e.all = e.all.plus(Count{NFE: 1, Network: e.costAt(p)})
	for i := range e.points {
		e.points[i] = p
	}
	return e.points
}

// askVariance is ask that also writes what the network says of the step's variance.
// at is what count or countEach has noted.
func (e *Eval) askVariance(out, variance, x *gpu.Tensor, at []diffusion.Point) error {
	den, ok := e.den.den.(VarianceDenoiser)
	if !ok {
		return fmt.Errorf("sampler: the denoiser predicts no variance, as ddpm's learned ones need; take variance=fixed_small or fixed_large")
	}
	return e.failed(den.DenoiseVariance(e.ctx, out, variance, x, at, e.cond), nil)
}

// askEach is ask with a point of each image.
func (e *Eval) askEach(out, x *gpu.Tensor, at []diffusion.Point) error {
	return e.call(out, x, e.countEach(at), e.cond, nil)
}

// askOn is ask at one point for all images or at a point of each.
func (e *Eval) askOn(out, x *gpu.Tensor, at []diffusion.Point) error {
	if len(at) == 1 {
		return e.ask(out, x, at[0])
	}
	return e.askEach(out, x, at)
}

// countEach notes an evaluation of each image at its point.
func (e *Eval) countEach(at []diffusion.Point) []diffusion.Point {
	for i, p := range at {
		e.each[i] = e.each[i].plus(Count{NFE: 1, Network: e.costAt(p)})
	}
	return at
}

// costAt is how often an evaluation at p asks the network.
func (e *Eval) costAt(p diffusion.Point) int {
	if e.cost == nil {
		return 1
	}
	return e.cost.Cost(p)
}

// DenoiseRows is Denoise of some images, each at its own point: x and out are
// [len(rows), ...], row i the batch's image rows[i], a state at at[i].
func (e *Eval) DenoiseRows(out, x *gpu.Tensor, at []diffusion.Point, rows []int) error {
	mustBatch("DenoiseRows", out, x, len(rows))
	for i, r := range rows {
		e.each[r] = e.each[r].plus(Count{NFE: 1, Network: e.costAt(at[i])})
	}
	if err := e.call(out, x, at, e.cond.pick(rows), rows); err != nil {
		return err
	}
	return e.finiteRows(out, at, rows)
}

// finiteRows refuses an output of some images that is not finite.
func (e *Eval) finiteRows(out *gpu.Tensor, at []diffusion.Point, rows []int) error {
	if i, ok := ops.Finite(out); !ok {
		row := i / (out.Len() / len(rows))
		return &NotFiniteError{Step: e.step, Sigma: at[row].Sigma(), Image: e.first + rows[row]}
	}
	return nil
}

// call evaluates the denoiser in the form that it knows, for the batch's images rows, nil for all.
func (e *Eval) call(out, x *gpu.Tensor, at []diffusion.Point, c Cond, rows []int) error {
	return e.failed(e.den.ask(e.ctx, out, x, at, c), rows)
}

// askRaw is ask for a denoiser that need not make x0 of what it says.
func (e *Eval) askRaw(x *gpu.Tensor, p diffusion.Point) (f *gpu.Tensor, ax, af float64, err error) {
	f, ax, af, err = e.den.raw.unconverted(e.ctx, x, e.count(p), e.cond)
	return f, ax, af, e.failed(err, nil)
}

// failed names the step, and the image where a wrapper has looked before us.
func (e *Eval) failed(err error, rows []int) error {
	if err == nil {
		return nil
	}
	var bad *NotFiniteError
	if errors.As(err, &bad) {
		if rows != nil {
			bad.Image = rows[bad.Image]
		}
		bad.Step, bad.Image = e.step, bad.Image+e.first
		return bad
	}
	return fmt.Errorf("sampler: step %d: %w", e.step, err)
}

// Noise fills z with normals, each image's from its own stream.
func (e *Eval) Noise(z *gpu.Tensor) { e.noise(e.step, z) }

// NotFiniteError says that a denoiser returned NaN or an infinity.
type NotFiniteError struct {
	Step  int
	Sigma float64
	Image int  // the first image concerned
	State bool // the denoiser's output was finite, but the state made of it is not
}

func (e *NotFiniteError) Error() string {
	if e.State {
		return fmt.Sprintf("sampler: step %d, sigma %.6g: the state of image %d overflowed; the denoiser's output or the start is too large", e.Step, e.Sigma, e.Image)
	}
	return fmt.Sprintf("sampler: step %d, sigma %.6g: the denoiser returned NaN or an infinity for image %d; check its weights and the grid's range", e.Step, e.Sigma, e.Image)
}
