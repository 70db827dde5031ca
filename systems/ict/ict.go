// Package ict is consistency training after "Improved Techniques for Training Consistency Models" (Song and Dhariwal 2024, arXiv
// 2310.14189): a network that maps any noisy point of a trajectory to its start, trained from data alone by making its outputs at two
// neighbouring levels agree, and sampled in one or two evaluations.
//
// The loss is train.Consistency, the solver sampler.Renoise (consistency); here are the network of digits of 8×8 that is trained by
// it (fidlab train digits-ict) and the proof.
//
// Kept: the parametrisation with its boundary, Karras' levels, the doubling curriculum, the draw of levels, the pseudo-Huber distance
// and its constant, the teacher without an average, RAdam, samples with averaged weights.
// Shrunk: CIFAR-10 to digits of 8×8 by class, 400,000 steps to some thousands, 1280 levels to 160.
// Left out: dropout, which a network that is far from learning the set by heart does not need.
package ict

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// Task is the network's name in fidlab train.
const Task = "digits-ict"

// Form is how consistency training is done: the zero value is the improved one, the others take one part of it back, or several.
type Form struct {
	First   int     `json:"first"` // levels of the curriculum less one; 0: 10 and 160, of the first form 2 and 150
	Last    int     `json:"last"`
	Squares bool    `json:"squares,omitempty"`
	Uniform bool    `json:"uniform,omitempty"` // pairs
	Plain   bool    `json:"plain,omitempty"`   // weights
	Roots   bool    `json:"roots,omitempty"`   // the curriculum of the first form
	Average float64 `json:"average,omitempty"` // decay of the teacher's average at first; 0: the teacher has the network's weights
	Fixed   bool    `json:"fixed,omitempty"`   // the last number of levels from the first step on
}

// FirstForm is consistency training as it was first (Song et al. 2023).
var FirstForm = Form{Squares: true, Uniform: true, Plain: true, Roots: true, Average: 0.9}

// config is the job's part of a checkpoint.
type config struct {
	Net  mlp.Config `json:"net"`
	Form Form       `json:"form"`
	Data string     `json:"data_sha256"`
}

var path = diffusion.DefaultEDM()

func netConfig() mlp.Config {
	return mlp.Config{Channels: 1, Height: 8, Width: 8, Hidden: 192, Blocks: 4, Classes: 10, TimeFactor: 100}
}

func init() {
	systems.RegisterTask(systems.Task{
		Name: Task, Text: "digits of 8×8 by class in one step, a residual network of 1.2 M parameters, consistency training",
		Source:   "Song and Dhariwal 2024",
		Settings: train.Settings{Steps: 6000, Batch: 128, Optimizer: "radam", Rate: 5e-4, Clip: 1, EMA: []float64{0.999, 0.99}},
		LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
		Make: func(_ context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
			return Form{}.Job(dev, s, nil)
		},
		Path: func(*train.Saved) (diffusion.Path, error) { return path, nil },
		Open: open,
	})
}

// levels is the curriculum: the number of levels at a step, and the decay of the teacher's average.
func (f Form) levels(step, steps int) (n int, average float64) {
	if f.Fixed {
		return f.Last + 1, f.Average
	}
	if f.Roots {
		return train.ConsistencyCountFirst(step, steps, f.First, f.Last, f.Average)
	}
	return train.ConsistencyCount(step, steps, f.First, f.Last), f.Average
}

// filled is f with its numbers, which it checks.
func (f Form) filled(steps int) (Form, error) {
	if f.First == 0 && f.Last == 0 {
		if f.First, f.Last = 10, 160; f.Roots {
			f.First, f.Last = 2, 150
		}
	}
	if f.First < 1 || f.Last < f.First {
		return f, data.Errorf("ict: levels from %d to %d; want 1 or more, and no fewer in the end", f.First, f.Last)
	}
	stages := 1
	for n := f.First; n < f.Last; n *= 2 {
		stages++
	}
	switch {
	case !f.Roots && !f.Fixed && steps < stages:
		return f, data.Errorf("ict: %d steps for a curriculum of %d stages; want a step for each at least", steps, stages)
	case !(f.Average >= 0 && f.Average < 1):
		return f, data.Errorf("ict: an average of decay %g; want 0 for none, below 1", f.Average)
	}
	return f, nil
}

// Job is the training of Task's network in a form. flow, a denoiser of EDM's form of that shape, makes it distillation; nil.
func (f Form) Job(dev *gpu.Device, s train.Settings, flow models.Net) (*train.Job, error) {
	set, held, err := bases.SmallDigits()
	if err != nil {
		return nil, err
	}
	job, net, err := f.job(dev, s, netConfig(), set, flow)
	if err != nil {
		return nil, err
	}
	trial := &trial{net: net, held: held}
	job.Sample, job.Evaluate, job.Scores = trial.sheet, trial.evaluate, []string{"frechet", "frechet_2"}
	return job, nil
}

// job is the training of any such network on a set, and the consistency model.
func (f Form) job(dev *gpu.Device, s train.Settings, c mlp.Config, set *train.Examples, flow models.Net) (*train.Job, models.Net, error) {
	f, err := f.filled(s.Steps)
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := mlp.New(params.At(""), c)
	params.Init(s.Seeds.Init)
	loss := &train.Consistency{Net: net, Path: path, Squares: f.Squares, Uniform: f.Uniform, Plain: f.Plain, Flow: flow}
	job := &train.Job{
		Name: Task, Config: config{Net: c, Form: f, Data: set.SHA256()},
		Nets: []*train.Network{{Name: "net", Params: params}},
	}
	var teacher *nn.Params
	if f.Average > 0 {
		teacher = nn.NewParams(dev, gpu.Float32)
		loss.Teacher = mlp.New(teacher.At(""), c)
		teacher.Init(s.Seeds.Init)
		job.State = []nn.Part{{Prefix: "teacher.", Of: teacher}}
	}
	feed := train.NewFeed(set, dev, gpu.Float32, s.Batch)
	now, average := 0, 0.0
	var in models.Inputs
	if c.Classes > 0 {
		in.Classes = gpu.CPU().New(gpu.Int32, s.Batch)
	}
	job.Loss = func(b *train.Batch) *nn.Var {
		step := int(b.First / uint64(b.Size) / uint64(max(s.Accum, 1)))
		n, mu := f.levels(step, s.Steps)
		if average = mu; n != now {
			loss.SetLevels(train.ConsistencyLevels(path, n))
			now = n
		}
		x, labels := feed.Next(b)
		if in.Classes != nil {
			copy(in.Classes.I32(), labels)
		}
		return loss.Loss(b, x, in)
	}
	if teacher != nil {
		job.After = func(*train.Batch) {
			ops.Affine(teacher.Value(), average, teacher.Value(), 1-average, params.Value(), 0, false)
		}
	}
	return job, train.Bounded{Net: net, Path: path}, nil
}

// open makes the network of a checkpoint.
func open(dev *gpu.Device, s *train.Saved, decay float64) (*systems.Trained, error) {
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, data.Errorf("ict: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	if err := c.Net.Check(); err != nil {
		return nil, data.Errorf("ict: %s: %w", s.Path, err)
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := mlp.New(params.At(""), c.Net)
	params.Init(0)
	if err := s.Load(params, "net", decay); err != nil {
		return nil, err
	}
	return &systems.Trained{
		Net: train.Bounded{Net: net, Path: path}, Path: path, Pred: diffusion.PredX0, Shape: []int{1, c.Net.Height, c.Net.Width}, Lo: -1, Hi: 1,
	}, nil
}

// secondLevel is where samples of two steps are noised up to; the paper takes 0.821 for CIFAR-10.
const secondLevel = 0.8

// Grid is the levels of samples of one or two steps: all the way from the most noise, and from secondLevel again.
func Grid(steps int, second float64) (*diffusion.Grid, error) {
	switch {
	case steps == 1:
		return diffusion.Build(path, diffusion.Spec{Rule: "sigmas", List: []float64{path.Max}})
	case steps == 2 && second > path.Min && second < path.Max:
		return diffusion.Build(path, diffusion.Spec{Rule: "sigmas", List: []float64{path.Max, second}})
	}
	return nil, fmt.Errorf("ict: %d steps by way of %g; want 1, or 2 by way of a level between %g and %g", steps, second, path.Min, path.Max)
}

// trial tries a network on its way.
type trial struct {
	net  models.Net
	held *train.Examples
}

// draw draws n samples of a consistency model in one step, or in two by way of second, of its classes in turn.
func draw(ctx context.Context, net models.Net, seed uint64, n, steps int, second float64) (*gpu.Tensor, error) {
	g, err := Grid(steps, second)
	if err != nil {
		return nil, err
	}
	k := net.Takes()
	o := sampler.Options{Seed: seed, N: n, Batch: 256, Shape: []int{k.Channels, k.Height, k.Width}, Device: net.Params().Value().Device()}
	o.Cond = bases.InTurn(k.Classes, n)
	den := network.Denoiser(net, path, diffusion.PredX0, network.Options{Batch: 64})
	r, err := sampler.Run(ctx, den, sampler.Renoise{Least: path.Min}, g, o)
	if err != nil {
		return nil, err
	}
	return r.X, nil
}

// evaluate is the Fréchet distance of 1,000 digits of one and of two steps to the test digits, of their pixels.
func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	var out []float64
	for steps := 1; steps <= 2; steps++ {
		x, err := draw(ctx, t.net, 1, 1000, steps, secondLevel)
		if err != nil {
			return nil, err
		}
		d, err := bases.SmallDistance(x, t.held)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// sheet is digits of one step.
func (t *trial) sheet(ctx context.Context, _ int) (*imageio.Image, error) {
	x, err := draw(ctx, t.net, 1, 80, 1, secondLevel)
	if err != nil {
		return nil, err
	}
	v, err := x.Floats()
	if err != nil {
		return nil, err
	}
	return imageio.Grid(bases.SmallPictures(v), 10, 2), nil
}
