package gsjacobi

import (
	"context"
	"encoding/json"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The networks' names in fidlab train: digits of 28×28 in 49 patches of 4×4, and in 196 of 2×2.
const (
	Task     = "tarflow"
	FineTask = "tarflow-fine"
)

// Trained is the flow of a checkpoint.
type Trained struct {
	Net   *flow.Net
	Noise float64 // standard deviation of the noise that pictures had in training, which lie in [-1, 1]
}

// config is the job's part of a checkpoint.
type config struct {
	Net   flow.Config `json:"net"`
	Noise float64     `json:"noise"`
	Drop  float64     `json:"drop"`
	Data  dataConfig  `json:"data"`
}

type dataConfig struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// trainingNoise is the upper end of the paper's 0.05 to 0.15, at which small flows draw steadily; classes are left out of a tenth of the examples.
const (
	trainingNoise = 0.15
	dropped       = 0.1
)

// settings are the tasks': TarFlow's optimiser, at a rate for networks this small.
func settings(steps, batch int) train.Settings {
	return train.Settings{
		Steps: steps, Batch: batch, Rate: 1e-3, Betas: []float64{0.9, 0.95}, Decay: 1e-4, Schedule: "cosine", Warmup: min(100, max(steps/10, 1)), Clip: 1,
	}
}

// fine is flow.MNIST in patches of 2×2.
func fine() flow.Config {
	c := flow.MNIST()
	c.Patch = 2
	return c
}

func init() {
	for _, t := range []struct {
		name, text string
		net        flow.Config
		set        train.Settings
	}{
		{Task, "digits of 28×28 by class, a TarFlow of 49 patches, 4 blocks and 0.94 M parameters, exact likelihood", flow.MNIST(), settings(2000, 32)},
		{FineTask, "the same in 196 patches of 2×2", fine(), settings(2000, 16)},
	} {
		systems.RegisterTask(systems.Task{
			Name: t.name, Text: t.text, Source: "Zhai et al. 2024", Settings: t.set,
			LogEvery: 25, SaveEvery: 250, SampleEvery: 1000, EvalEvery: 500, Draws: "fidlab system gsjacobi sample",
			Make: func(_ context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
				job, _, err := newJob(dev, t.name, s, t.net, heldCount)
				return job, err
			},
		})
	}
}

// newJob is the training of a flow of digits of 28×28, and the flow. It is tried on count digits, a multiple of bases.HeldBatch.
func newJob(dev *gpu.Device, name string, s train.Settings, c flow.Config, count int) (*train.Job, *flow.Net, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	set, held, err := bases.Digits()
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := flow.New(params.At(""), c)
	params.Init(s.Seeds.Init)
	feed := train.NewFeed(set, dev, gpu.Float32, s.Batch)
	l := &loss{net: net, noise: trainingNoise, drop: dropped}
	trial := &trial{count: count, loss: &loss{net: net, noise: trainingNoise}, held: held, tape: nn.NewTape(dev, gpu.Float32), feed: train.NewFeed(held, dev, gpu.Float32, bases.HeldBatch)}
	return &train.Job{
		Name: name, Config: config{c, l.noise, l.drop, dataConfig{"mnist", set.SHA256()}},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: func(b *train.Batch) *nn.Var {
			x, labels := feed.Next(b)
			x, classes := l.noised(b, x, labels)
			return net.Loss(b.Tape.Input(x), classes)
		},
		Sample: trial.sheet, Evaluate: trial.evaluate, Scores: []string{"bpd"},
		Finish: func(ctx context.Context) error { return trial.spread(ctx, set) },
	}, net, nil
}

// loss is what a flow learns by.
type loss struct {
	net         *flow.Net
	noise, drop float64
	x           *gpu.Tensor
	classes     *gpu.Tensor
}

// noised is the pictures of a batch with noise, and their classes, some of them left out.
func (l *loss) noised(b *train.Batch, x *gpu.Tensor, labels []int32) (*gpu.Tensor, *gpu.Tensor) {
	if l.x == nil || l.x.Len() != x.Len() {
		l.x, l.classes = x.Like(), gpu.CPU().New(gpu.Int32, b.Size)
	}
	ops.AddNoise(l.x, x, []float64{1, l.noise}, ops.ImageNoise(b.Seeds.Noise, b.First, rng.Noising))
	if l.net.Config.Classes == 0 {
		return l.x, nil
	}
	return l.x, b.Tell(l.classes, labels, l.net.Config.Classes, l.drop)
}

// The trials of flows on their way.
const (
	heldCount = 512
	sheetSide = 8
)

type trial struct {
	*loss
	count int
	held  *train.Examples
	tape  *nn.Tape
	feed  *train.Feed
}

// evaluate is the bits a pixel of digits held out, of 256 levels, under the noise of training, the same each time.
func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	nats, err := bases.HeldLoss(ctx, t.tape, t.count, func(b *train.Batch) *nn.Var {
		x, labels := t.feed.Next(b)
		x, classes := t.noised(b, x, labels)
		return t.net.NLL(t.tape.Input(x), classes).Mean()
	})
	c := &t.net.Config
	return []float64{flow.BitsPerDim(nats, c.Tokens()*c.Dim(), 256)}, err
}

// spread sets the flow's Var to the mean square of latents of training digits, as the authors' code does: samples are drawn from latents
// of that variance.
func (t *trial) spread(ctx context.Context, set *train.Examples) error {
	feed := train.NewFeed(set, t.tape.Device(), gpu.Float32, bases.HeldBatch)
	sum := make([]float64, t.net.Var.Len())
	for first := 0; first < t.count; first += bases.HeldBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.tape.Run(func() {
			b := &train.Batch{Tape: t.tape, First: uint64(first), Size: bases.HeldBatch, Seeds: train.SeedsOf(bases.HeldSeed + 1)}
			x, labels := feed.Next(b)
			x, classes := t.noised(b, x, labels)
			t.tape.NoGrad(func() {
				z, _ := t.net.Forward(t.tape.Input(x), classes)
				addTo(sum, z.Square().Mean(0))
			})
		})
	}
	v := make([]float32, len(sum))
	for i, e := range sum {
		v[i] = float32(e * bases.HeldBatch / float64(t.count))
	}
	t.net.Var.Set(v)
	return t.tape.Device().Err()
}

// sheet is digits of the classes in turn, drawn and denoised.
func (t *trial) sheet(_ context.Context, _ int) (*imageio.Image, error) {
	c := &t.net.Config
	x, _, err := Draw(t.tape, &Trained{t.net, t.noise}, Uniform(*c, Setting{Segments: 1, Start: FromZeros}), Request{Seed: bases.HeldSeed, N: sheetSide * sheetSide, Denoise: 1})
	if err != nil {
		return nil, err
	}
	list, err := Pictures(x)
	if err != nil {
		return nil, err
	}
	return imageio.Grid(list, sheetSide, 2), nil
}

// Pictures are those of x [n, C, H, W], values from -1 to 1.
func Pictures(x *gpu.Tensor) ([]*imageio.Image, error) {
	v, err := x.Floats()
	if err != nil {
		return nil, err
	}
	return bases.Pictures(v, x.Shape()[1:]), nil
}

// Open makes the flow of a checkpoint, with the weights or their average of a decay.
func Open(dev *gpu.Device, s *train.Saved, decay float64) (*Trained, error) {
	if s.Job != Task && s.Job != FineTask {
		return nil, data.Errorf("gsjacobi: %s: it is of %s, no flow; fidlab train %s makes one", s.Path, s.Job, Task)
	}
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, data.Errorf("gsjacobi: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	if err := c.Net.Check(); err != nil {
		return nil, data.Errorf("gsjacobi: %s: %w", s.Path, err)
	}
	if !(c.Noise >= 0) || math.IsInf(c.Noise, 0) {
		return nil, data.Errorf("gsjacobi: %s: noise of standard deviation %g", s.Path, c.Noise)
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := flow.New(params.At(""), c.Net)
	params.Init(0)
	if err := s.Load(params, "net", decay); err != nil {
		return nil, err
	}
	return &Trained{net, c.Noise}, nil
}

// Analyze is Analyze of the flow on its first n training digits with the noise of a seed, which is not that of training.
func (m *Trained) Analyze(t *nn.Tape, n int, seed uint64, bound float64) (*Report, error) {
	set, _, err := bases.Digits()
	if err != nil {
		return nil, err
	}
	c := &m.Net.Config
	shape := []int{1, c.Channels, c.PictureHeight, c.PictureWidth}
	size := c.Channels * c.PictureHeight * c.PictureWidth
	if shape[0] = min(n, set.Len()); size != len(set.X)/set.Len() || n < 1 {
		return nil, refuse("%d digits for a flow of pictures %v", n, shape[1:])
	}
	x := t.Device().FromAs(t.DType(), set.X[:shape[0]*size], shape...)
	noisy := x.Like()
	ops.AddNoise(noisy, x, []float64{1, m.Noise}, ops.ImageNoise(seed, 1<<40, rng.Noising))
	return Analyze(t, m.Net, noisy, bound)
}

// Request is what is drawn.
type Request struct {
	Seed  uint64
	First int // number of the first sample of the seed
	N     int
	Batch int // samples at a time; 0: all
	// Classes of the samples, -1 for none; nil: the flow's in turn.
	Classes []int
	Options
	// Denoise is the factor of the step x + factor·noise²·∇log p(x) after sampling, which takes the noise of training away; 0: none.
	Denoise float64
	// Each sees the samples of a batch, [n, C, H, W], as they come; nil.
	Each func(first int, x *gpu.Tensor) error
}

// Draw draws samples [N, C, H, W] of the noise of a seed. Sample i of a seed is the same in any batch.
func Draw(t *nn.Tape, m *Trained, s Strategy, r Request) (*gpu.Tensor, []*Stats, error) {
	return draw(t, m, r, func(z *gpu.Tensor, o Options) (*gpu.Tensor, *Stats, error) { return Sample(t, m.Net, z, s, o) })
}

func draw(t *nn.Tape, m *Trained, r Request, sample func(z *gpu.Tensor, o Options) (*gpu.Tensor, *Stats, error)) (*gpu.Tensor, []*Stats, error) {
	c, dev := &m.Net.Config, t.Device()
	switch {
	case r.N < 1 || r.Batch < 0 || r.First < 0:
		return nil, nil, refuse("%d samples from number %d on, %d at a time; want at least 1", r.N, r.First, r.Batch)
	case !(r.Denoise >= 0) || math.IsInf(r.Denoise, 0):
		return nil, nil, refuse("a denoising step of factor %g; want a finite number, 0 for none", r.Denoise)
	case r.Classes != nil && (c.Classes == 0 || len(r.Classes) != r.N):
		return nil, nil, refuse("%d classes for %d samples of a flow with %d", len(r.Classes), r.N, c.Classes)
	}
	batch := r.N
	if r.Batch > 0 {
		batch = min(batch, r.Batch)
	}
	out := dev.New(t.DType(), r.N, c.Channels, c.PictureHeight, c.PictureWidth)
	var all []*Stats
	for first := 0; first < r.N; first += batch {
		n := min(batch, r.N-first)
		o := r.Options
		o.Classes = r.classes(c, first, n)
		z := dev.New(t.DType(), n, c.Tokens(), c.Dim())
		ops.Normals(z, ops.ImageNoise(r.Seed, uint64(r.First+first), rng.Init))
		x, stats, err := sample(z, o)
		if err != nil {
			return nil, all, err
		}
		if r.Denoise > 0 {
			x = m.Net.Denoise(t, x, o.Classes, m.Noise*math.Sqrt(r.Denoise))
		}
		all = append(all, stats)
		out.Rows(first, first+n).Copy(x)
		if r.Each != nil {
			if err := r.Each(first, x); err != nil {
				return nil, all, err
			}
		}
	}
	return out, all, dev.Err()
}

// classes are those of n samples.
func (r *Request) classes(c *flow.Config, first, n int) *gpu.Tensor {
	if c.Classes == 0 {
		return nil
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32((r.First + first + i) % c.Classes)
		if r.Classes != nil {
			if v[i] = int32(r.Classes[first+i]); v[i] < 0 {
				v[i] = int32(c.Classes)
			}
		}
	}
	return gpu.CPU().FromInt32(v, n)
}
