package search

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// Images is the fitness of choices: the Fréchet distance of Run.N samples that a
// model draws by them to a reference. All choices see the same noise, that of
// Run.Seed, in their starts and in the steps of a stochastic sampler.
type Images struct {
	// Den is the model, Wrap what is put around it (guidance, limits), or nil. Where
	// several choices are measured at once each has a wrapper of its own, and Den
	// must serve several goroutines.
	Den    sampler.Denoiser
	Wrap   func(sampler.Denoiser) (sampler.Denoiser, error)
	Solver sampler.Solver
	Levels *Levels
	Ref    *fid.Reference
	Run    sampler.Options // N, Seed, Shape, and as wanted Batch, Double and Device
	// Cond makes the condition of n samples; nil is none.
	Cond func(n int) sampler.Cond
	// Features appends the feature vectors of the samples first, first+1, … of a
	// batch to dst. Nil takes the samples' values themselves.
	Features func(ctx context.Context, first int, x *gpu.Tensor, dst []float32) ([]float32, error)

	once  sync.Once
	noise *gpu.Tensor
}

// maxKeptNoise bounds the values of the starting noise that is kept rather than drawn for every choice.
const maxKeptNoise = 1 << 26

// Check refuses what no choice could be measured with.
func (m *Images) Check() error {
	switch {
	case m.Den == nil || m.Solver == nil || m.Levels == nil || m.Ref == nil:
		return fmt.Errorf("search: a fitness needs a denoiser, a solver, levels and a reference")
	case m.Run.N < 2:
		return fmt.Errorf("search: %d samples for a distance; wanted at least 2", m.Run.N)
	case m.Run.Cond.Classes != nil || m.Run.Cond.Inputs != nil || m.Run.Cond.Others != nil:
		return fmt.Errorf("search: a condition is given for %d samples; wanted it as Cond, for any number", m.Run.N)
	case m.Run.Noise != nil || m.Run.Image != nil || m.Run.State != nil || m.Run.Each != nil:
		return fmt.Errorf("search: samples start from the noise of the seed and are taken here; leave out noise, images, states and what they go to")
	}
	return nil
}

// Held is the same fitness with other noise and n samples, to rank and to report
// by. It refuses the seed of the search, whose noise its winners are fitted to.
func (m *Images) Held(seed uint64, n int) (*Images, error) {
	if seed == m.Run.Seed {
		return nil, fmt.Errorf("search: seed %d is that of the search; wanted another one, whose noise the search has not seen", seed)
	}
	out := &Images{Den: m.Den, Wrap: m.Wrap, Solver: m.Solver, Levels: m.Levels, Ref: m.Ref, Run: m.Run, Cond: m.Cond, Features: m.Features}
	out.Run.Seed, out.Run.N = seed, n
	return out, out.Check()
}

// denoiser is the model with a choice's layers left out, and the counter of those that run.
func (m *Images) denoiser(c Choice) (den sampler.Denoiser, skipping *sampler.Skipping, err error) {
	den = m.Den
	if c.Skips != nil {
		if den, skipping, err = Without(den, c); err != nil {
			return nil, nil, err
		}
	}
	if m.Wrap != nil {
		den, err = m.Wrap(den)
	}
	return den, skipping, err
}

// Without is den with a choice's layers left out. It refuses denoisers that have no named layers.
func Without(den sampler.Denoiser, c Choice) (sampler.Denoiser, *sampler.Skipping, error) {
	layered, ok := den.(sampler.Layered)
	if !ok {
		return nil, nil, fmt.Errorf("search: layers can be left out of networks with named layers only; this one is opaque, as networks in ONNX files are: wanted steps alone")
	}
	skips := make([][]int, len(c.Skips)) // a run's first step is the noisiest
	for i, s := range c.Skips {
		skips[len(skips)-1-i] = s
	}
	s, err := sampler.NewSkipping(layered, skips)
	return s, s, err
}

// Fitness is the distance of a choice's samples, a Fitness[Choice]. Where a layer
// runs that the choice leaves out, it is an error: the network ignores its skips.
func (m *Images) Fitness(ctx context.Context, c Choice) (float64, error) {
	d, err := m.Distance(ctx, c)
	return d.Value, err
}

// Distance is Fitness with its details.
func (m *Images) Distance(ctx context.Context, c Choice) (fid.Distance, error) {
	var none fid.Distance
	stats, err := m.Stats(ctx, c)
	if err != nil {
		return none, err
	}
	d, err := m.Ref.Frechet(stats)
	var numbers *fid.NumericError
	if errors.As(err, &numbers) {
		return none, &UnfitError{err}
	}
	return d, err
}

// Stats are the statistics of a choice's samples.
func (m *Images) Stats(ctx context.Context, c Choice) (*fid.Stats, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	g, err := m.Levels.Grid(c.Steps)
	if err != nil {
		return nil, err
	}
	den, skipping, err := m.denoiser(c)
	if err != nil {
		return nil, err
	}
	o := m.Run
	if m.Cond != nil {
		o.Cond = m.Cond(o.N)
	}
	m.once.Do(func() { m.noise = startNoise(o) })
	o.Noise = m.noise
	var rows []float32
	o.Each = func(first int, x *gpu.Tensor) (err error) {
		if m.Features != nil {
			rows, err = m.Features(ctx, first, x, rows)
			return err
		}
		rows = appendValues(rows, x)
		return x.Device().Err()
	}
	if _, err := sampler.Run(ctx, den, m.Solver, g, o); err != nil {
		var bad *sampler.NotFiniteError
		if errors.As(err, &bad) {
			return nil, &UnfitError{err}
		}
		return nil, err
	}
	if skipping != nil && skipping.Ran() != skipping.Promised() {
		return nil, fmt.Errorf("search: the network ran %d layers, where those that are left out leave %d: it ignores what it is told to leave out", skipping.Ran(), skipping.Promised())
	}
	if len(rows)%o.N != 0 {
		return nil, fmt.Errorf("search: %d values of features for %d samples; wanted as many of each", len(rows), o.N)
	}
	s, err := fid.FromFeatures(rows, o.N, len(rows)/o.N)
	var numbers *fid.NumericError
	if errors.As(err, &numbers) {
		return nil, &UnfitError{err}
	}
	return s, err
}

// startNoise is the unit noise that all choices start from; nil where it is too much to keep.
func startNoise(o sampler.Options) *gpu.Tensor {
	size := o.N
	for _, d := range o.Shape {
		if d < 1 || size > maxKeptNoise/d {
			return nil // sampler.Run refuses sizes below 1
		}
		size *= d
	}
	dev := o.Device
	if dev == nil {
		dev = gpu.CPU()
	}
	shape := append([]int{o.N}, o.Shape...)
	z := dev.Empty(shape...)
	if o.Double {
		z = dev.Empty64(shape...)
	}
	ops.Normals(z, ops.ImageNoise(o.Seed, uint64(o.First), rng.Init))
	return z
}

// appendValues appends the values of a batch.
func appendValues(rows []float32, x *gpu.Tensor) []float32 {
	x = x.To(gpu.CPU())
	if !x.Double() {
		return append(rows, x.F32()...)
	}
	for _, v := range x.F64() {
		rows = append(rows, float32(v))
	}
	return rows
}
