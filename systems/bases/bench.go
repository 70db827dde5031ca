package bases

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

// Bench is a trained network with its judge and the numbers of a tier: what
// experiments on networks share. Arms draw in a Way; all of an experiment draw as
// many pictures, of the classes in turn, from the same noise.
type Bench struct {
	Net   *Network
	Judge *Judge
	Size  systems.Size
	Ends  int // pictures whose ends are compared with those of many steps; 0: none
	Tier  systems.Tier

	env *systems.Env
}

// The numbers of the tiers. Tiny shows that everything runs; its distances mean nothing.
var benches = map[systems.Tier]struct{ n, seeds, ends, fine, reference int }{
	systems.Tiny:  {16, 2, 2, 6, 100},
	systems.Short: {48, 3, 16, 20, 2000},
	systems.Full:  {1000, 3, 64, 40, 10000},
}

// NewBench takes the fixture of a network, which may be absent.
func NewBench(ctx context.Context, env *systems.Env, name string, tier systems.Tier) (*Bench, error) {
	net, err := systems.Use[*Network](ctx, env, name)
	if err != nil {
		return nil, err
	}
	s := benches[tier]
	j, err := OpenJudge(ctx, env, s.reference)
	if err != nil {
		return nil, err
	}
	return &Bench{Net: net, Judge: j, Size: systems.Size{N: s.n, Seeds: s.seeds}, Ends: s.ends, Tier: tier, env: env}, nil
}

// NetworkMeasures are those of a Bench; rmse only where ends are compared.
func NetworkMeasures(rmse bool) []systems.Measure {
	out := []systems.Measure{
		{Name: "fid", Text: "FID to MNIST's test digits in the built-in encoder's features"},
		{Name: "floor", Text: "that of as many training digits"},
	}
	if rmse {
		out = append(out, systems.Measure{Name: "rmse", Text: "root mean square from where 40 steps of Heun's method take the same noise (short: 20, tiny: 6)"})
	}
	return out
}

// Notes are those of every experiment of the Bench: by how much its number of pictures raises distances.
func (b *Bench) Notes(ctx context.Context) ([]string, error) {
	text, err := b.Judge.Bias(ctx, b.env, b.Size.N)
	return []string{text}, err
}

// Way is how an arm draws.
type Way struct {
	Solver sampler.Solver
	Grid   *diffusion.Grid
	Den    sampler.Denoiser // what is asked; nil is the network itself
	Levels func(step int, x *gpu.Tensor, from, to []diffusion.Point) error
	// Ends are compared with those of this path by this rule; nil compares none.
	Path diffusion.Path
	Rule string
	See  func(e sampler.Event) error // every state on its way
}

// Cost is what solver takes on a grid.
func (b *Bench) Cost(s sampler.Solver, g *diffusion.Grid) systems.Cost {
	n := float64(s.NFE(g))
	return systems.Cost{NFE: n, FLOPs: n * b.Net.FLOPs}
}

// Draw draws d's pictures and measures them.
func (b *Bench) Draw(ctx context.Context, d systems.Draw, w Way) (*systems.Outcome, error) {
	den := w.Den
	if den == nil {
		den = b.Net.Denoiser()
	}
	o := b.Net.Options(d.Seed, d.N)
	o.Levels, o.Trajectory = w.Levels, w.See
	r, err := sampler.Run(ctx, den, w.Solver, w.Grid, o)
	if err != nil {
		return nil, err
	}
	out := &systems.Outcome{
		Values: map[string]float64{"rmse": 0},
		Cost:   systems.Cost{NFE: float64(r.NFE), FLOPs: float64(r.Network) * b.Net.FLOPs},
	}
	if err := b.Judge.Judge(ctx, out, d, b.Net, r.X); err != nil {
		return nil, err
	}
	if ends := min(b.Ends, d.N); w.Path != nil && ends > 0 && d.Split == systems.Test { // tuning does not look at it
		fine, err := b.Net.Fine(ctx, d.Env, w.Path, w.Rule, benches[b.Tier].fine, d.Seed, ends)
		if err != nil {
			return nil, err
		}
		out.Values["rmse"] = RMSE(r.X.Rows(0, ends), fine)
	}
	return out, nil
}

// Gaussian are the statistics of the first n training digits in the network's
// values, with the rank leading pairs, and of each class where classes is set.
func (b *Bench) Gaussian(ctx context.Context, n, rank int, classes bool) (*fid.Spectrum, error) {
	set, err := mnistPictures()
	if err != nil {
		return nil, err
	}
	x, labels := set.train.X, set.train.Labels
	size := len(x) / set.train.Len()
	row := make([]float64, size)
	each := func(ctx context.Context, yield func(int, []float64) error) error {
		for i := range min(n, set.train.Len()) {
			for k, v := range x[i*size : (i+1)*size] {
				row[k] = b.Net.value(v)
			}
			if err := yield(int(labels[i]), row); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	o := fid.SpectrumOptions{Rank: rank, PerClass: classes}
	if n < 1000 { // no covariance worth making
		o.Exact, o.Passes = 1, 1
	}
	return fid.FitSpectrum(ctx, each, size, o)
}

// TestDigits are n of MNIST's test digits in the network's shape and values, drawn by a seed.
func (b *Bench) TestDigits(seed uint64, n int) (*gpu.Tensor, error) {
	set, err := mnistPictures()
	if err != nil {
		return nil, err
	}
	x := subset(set.held, n, seed)
	for i, v := range x {
		x[i] = float32(b.Net.value(v))
	}
	return b.Net.Device.From(x, append([]int{n}, b.Net.Shape...)...), nil
}

// PixelVariance is the mean variance of a clean picture's values, of the first n training digits.
func (b *Bench) PixelVariance(n int) (float64, error) {
	set, err := mnistPictures()
	if err != nil {
		return 0, err
	}
	n = min(n, set.train.Len())
	size := len(set.train.X) / set.train.Len()
	v, err := sampler.PixelVariance(gpu.CPU().From(set.train.X[:n*size], n, size))
	return v * math.Pow((b.Net.Hi-b.Net.Lo)/2, 2), err
}
