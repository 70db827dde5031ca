package arflow

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The networks' names in fidlab train: of digits of 8×8 by class, and of digits in hidden styles, which are told nothing.
const (
	Task   = "arflow"
	Hidden = "arflow-hidden"
)

// path is that of the authors' times: noise at 0, data at 1.
var path = diffusion.Flow{DataAtOne: true}

const pred = diffusion.PredFlowReversed

// dropped is the share of sequences that are told no class.
const dropped = 0.1

// config is a job's part of a checkpoint.
type config struct {
	Net      Config  `json:"net"`
	Sequence int     `json:"sequence"` // pictures of a sequence of training; 1: it knows no past
	Drop     float64 `json:"drop,omitempty"`
	Data     string  `json:"data_sha256"`
}

// recipe is one of the tasks.
type recipe struct {
	name string
	net  Config
	drop float64
	set  func() (*pictureSet, error)
}

func digitsRecipe() recipe {
	c, err := Preset("ar-s")
	if err != nil {
		panic(err) // it is one of the package's
	}
	return recipe{name: Task, net: c, drop: dropped, set: digitSet}
}

func hiddenRecipe() recipe {
	r := digitsRecipe()
	r.name, r.net.Classes, r.drop, r.set = Hidden, 0, 0, styleSet
	return r
}

// sequence is the usual length of sequences.
const sequence = 5

func init() {
	for _, r := range []recipe{digitsRecipe(), hiddenRecipe()} {
		text := "digits of 8×8 by class, sequences of noised pictures of a class, a transformer of 16 patches and 0.2 M parameters with linear attention to the past, flow matching"
		if r.name == Hidden {
			text = "the same of digits turned and thickened in hidden styles, sequences of one style, of which the network is told nothing"
		}
		systems.RegisterTask(systems.Task{
			Name: r.name, Text: text, Source: "Hui et al. 2025",
			Settings: settings(3000, 16, sequence, fixedRate, 0),
			LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000, Grid: "uniform", Sequences: true,
			Make: func(_ context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
				job, net, err := r.job(dev, s)
				if err != nil {
					return nil, err
				}
				set, err := r.set()
				if err != nil {
					return nil, err
				}
				t, err := newTrial(net, set.held, s.Seq)
				if err != nil {
					return nil, err
				}
				job.Sample, job.Evaluate, job.Scores = t.sheet, t.evaluate, t.names()
				return job, nil
			},
			Path: func(*train.Saved) (diffusion.Path, error) { return path, nil },
			Open: open,
		})
	}
}

// settings of a training of so many sequences a step: the authors' optimiser at a rate for networks this small.
func settings(steps, batch, length int, rate float64, seed uint64) train.Settings {
	return train.Settings{
		Steps: steps, Batch: batch, Seq: length, Rate: rate, Betas: []float64{0.9, 0.95}, Decay: 0.02, Schedule: "cosine", Warmup: min(100, steps/4), Clip: 1,
		EMA: []float64{min(0.99, 1-3/float64(steps+3))}, Seeds: train.SeedsOf(seed),
	}
}

// job is the training of a recipe's network, and the network.
func (r recipe) job(dev *gpu.Device, s train.Settings) (*train.Job, *Net, error) {
	if err := r.net.Check(); err != nil {
		return nil, nil, err
	}
	set, err := r.set()
	if err != nil {
		return nil, nil, err
	}
	groups, err := NewGroups(set.learn, s.Seq)
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := New(params.At(""), r.net)
	params.Init(s.Seeds.Init)
	loss := NewLoss(net, groups, s.Seq, s.Batch, r.drop)
	// Weights of matrices alone decay.
	flat := map[string]bool{}
	for _, p := range params.All() {
		flat[p.Name] = len(p.Shape()) == 1
	}
	apart := nn.Group{Match: func(name string) bool { return flat[name] }, LR: 1}
	return &train.Job{
		Name: r.name, Config: config{r.net, s.Seq, r.drop, set.sum},
		Nets: []*train.Network{{Name: "net", Params: params, Optimizer: s.NewOptimizer(params, apart)}},
		Loss: loss.Of,
	}, net, nil
}

// Alone is a network without a past: one that was trained on single pictures, or one whose past is to be forgotten at every step.
type Alone struct{ models.Net }

// open makes the network of a checkpoint.
func open(dev *gpu.Device, s *train.Saved, decay float64) (*systems.Trained, error) {
	net, c, err := Open(dev, s, decay)
	if err != nil {
		return nil, err
	}
	var as models.Net = net
	if c == 1 {
		as = Alone{net}
	}
	k := net.Takes()
	return &systems.Trained{Net: as, Path: path, Pred: pred, Shape: []int{k.Channels, k.Height, k.Width}, Lo: -1, Hi: 1}, nil
}

// Open makes the network of a checkpoint of one of the tasks, with its weights or their average of a decay (see train.Saved.Load), and says how
// long the sequences were that it learned by.
func Open(dev *gpu.Device, s *train.Saved, decay float64) (*Net, int, error) {
	if s.Job != Task && s.Job != Hidden {
		return nil, 0, data.Errorf("arflow: %s is a checkpoint of %s; want one of %s or %s", s.Path, s.Job, Task, Hidden)
	}
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, 0, data.Errorf("arflow: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	if err := c.Net.Check(); err != nil {
		return nil, 0, fmt.Errorf("arflow: %s: %w", s.Path, err)
	}
	if c.Sequence < 1 {
		return nil, 0, data.Errorf("arflow: %s: sequences of %d pictures; want 1 or more", s.Path, c.Sequence)
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := New(params.At(""), c.Net)
	params.Init(0)
	return net, c.Sequence, s.Load(params, "net", decay)
}

// HeldOut are the pictures held out of one of the tasks, in groups, for sequences of a length.
func HeldOut(task string, length int) (*Groups, error) {
	for _, r := range []recipe{digitsRecipe(), hiddenRecipe()} {
		if r.name == task {
			set, err := r.set()
			if err != nil {
				return nil, err
			}
			return NewGroups(set.held, length)
		}
	}
	return nil, data.Errorf("arflow: no task %q; want %s or %s", task, Task, Hidden)
}

// LastStep is the authors' last step, which leaves the noise out.
const LastStep = 0.04

// Grid is n steps as the authors' sampler makes them: all but the last of equal length from t = 0 to 1-0.04, and the last to 1.
func Grid(n int) (*diffusion.Grid, error) {
	if n < 2 {
		return nil, data.Errorf("arflow: %d steps; want 2 or more, the last of which is %g", n, LastStep)
	}
	times := make([]float64, n)
	for i := range times {
		times[i] = float64(i) * (1 - LastStep) / float64(n-1)
	}
	return diffusion.Build(path, diffusion.Spec{Rule: "times", List: times})
}

// Request is what is drawn.
type Request struct {
	Seed     uint64
	First    int // number of the first picture of the seed
	N, Steps int
	Guidance float64 // weight w of v(none) + w·(v(class) - v(none)); 1: none
	Batch    int     // pictures at a time; 0: 256
	Classes  []int   // of each; nil: the network's in turn
	// Each sees the pictures of a batch as they come, [n, C, H, W]; nil.
	Each func(first int, x *gpu.Tensor) error
}

// Draw draws pictures [N, C, H, W] by Euler-Maruyama, nil where Each is given. Of a network that remembers, every step sees those before it.
func Draw(ctx context.Context, net models.Net, r Request) (*gpu.Tensor, error) {
	g, err := Grid(r.Steps)
	if err != nil {
		return nil, err
	}
	k := net.Takes()
	o := sampler.Options{
		Seed: r.Seed, First: r.First, N: r.N, Batch: r.Batch, Shape: []int{k.Channels, k.Height, k.Width}, Device: net.Params().Value().Device(), Each: r.Each,
		Cond: bases.InTurn(k.Classes, r.N),
	}
	if r.Classes != nil {
		o.Cond.Classes = r.Classes
	}
	if o.Batch == 0 {
		o.Batch = 256
	}
	var den sampler.Denoiser = network.Denoiser(net, path, pred, network.Options{Batch: 64})
	if r.Guidance != 1 {
		den = &sampler.Guided{Den: den, Weight: r.Guidance}
	}
	out, err := sampler.Run(ctx, den, sampler.FlowSDE{Norm: 1}, g, o)
	if err != nil {
		return nil, err
	}
	return out.X, nil
}

// trial tries a network on its way.
type trial struct {
	net    *Net
	as     models.Net
	length int
	loss   *Loss
	held   *train.Examples
	tape   *nn.Tape
	groups *Groups
}

func newTrial(net *Net, held *train.Examples, length int) (*trial, error) {
	groups, err := NewGroups(held, max(length, sequence))
	if err != nil {
		return nil, err
	}
	t := &trial{net: net, as: net, length: length, held: held, groups: groups, tape: nn.NewTape(net.params.Value().Device(), gpu.Float32)}
	t.loss = NewLoss(net, groups, length, bases.HeldBatch, 0)
	if length == 1 {
		t.as = Alone{net}
	}
	return t, nil
}

// names are those of the scores: the held-out loss, that of the last picture of a sequence over that of the same picture alone, and the
// Fréchet distance of the pixels of drawn pictures.
func (t *trial) names() []string {
	if t.length == 1 {
		return []string{"held_out", "frechet"}
	}
	return []string{"held_out", "after_over_alone", "frechet"}
}

func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	loss, err := bases.HeldLoss(ctx, t.tape, t.held.Len(), t.loss.Of)
	if err != nil {
		return nil, err
	}
	out := []float64{loss}
	if t.length > 1 {
		l, err := Losses(ctx, t.net, t.groups, Probe{Length: t.length, N: 512, Times: Matched(9), Seed: bases.HeldSeed})
		if err != nil {
			return nil, err
		}
		out = append(out, l.After/l.Alone)
	}
	x, err := Draw(ctx, t.as, Request{Seed: bases.HeldSeed, N: 1000, Steps: 50, Guidance: 1})
	if err != nil {
		return nil, err
	}
	d, err := bases.SmallDistance(x, t.held)
	return append(out, d), err
}

// sheet is pictures of the classes in turn.
func (t *trial) sheet(ctx context.Context, _ int) (*imageio.Image, error) {
	x, err := Draw(ctx, t.as, Request{Seed: bases.HeldSeed, N: 80, Steps: 50, Guidance: 1})
	if err != nil {
		return nil, err
	}
	v, err := x.Floats()
	if err != nil {
		return nil, err
	}
	return imageio.Grid(bases.SmallPictures(v), 10, 2), nil
}
