package symmflow

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fidlab/fidlab/data"
	digitset "github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The names of the tasks in fidlab train: scenes of shapes with masks of their forms, and digits of 28×28 and of 8×8 with their class.
const (
	Shapes = "symmflow-shapes"
	MNIST  = "symmflow-mnist"
	Digits = "symmflow-digits"
)

// config is a job's part of a checkpoint.
type config struct {
	Net      netConfig `json:"net"`
	Channels int       `json:"channels"` // of pictures
	Coding   Coding    `json:"coding"`
	Weight   float64   `json:"weight"`         // of pictures in the loss
	Ends     bool      `json:"ends,omitempty"` // see Loss
	Data     string    `json:"data_sha256"`
}

// netConfig is the network: one of the two.
type netConfig struct {
	UNet *unet.Config `json:"unet,omitempty"`
	MLP  *mlp.Config  `json:"mlp,omitempty"`
}

// with is the same network of so many channels, and as many again that it is told beside them and gives; 0 of out is as many as go in.
func (c netConfig) with(channels, extra, out int) netConfig {
	if c.MLP != nil {
		m := *c.MLP
		m.Channels = channels
		return netConfig{MLP: &m}
	}
	u := *c.UNet
	u.Channels, u.Extra, u.Out = channels, extra, out
	return netConfig{UNet: &u}
}

// make makes the network, which is not started yet.
func (c netConfig) make(params *nn.Params) (models.Net, error) {
	switch {
	case c.UNet != nil && c.MLP == nil:
		if err := c.UNet.Check(); err != nil {
			return nil, data.Errorf("symmflow: %w", err)
		}
		return unet.New(params.At(""), *c.UNet), nil
	case c.MLP != nil && c.UNet == nil:
		if err := c.MLP.Check(); err != nil {
			return nil, data.Errorf("symmflow: %w", err)
		}
		return mlp.New(params.At(""), *c.MLP), nil
	}
	return nil, data.Errorf("symmflow: the configuration has no network, or two; want one")
}

// recipe is one of the tasks.
type recipe struct {
	net         netConfig // but for its channels
	channels    int
	coding      Coding
	weight      float64
	ends        bool
	learn, held func() (*set, error)
}

func always(f func() *set) func() (*set, error) {
	return func() (*set, error) { return f(), nil }
}

// shapesRecipe is the network of squares of 2×2 pixels, which costs a quarter of one of pixels. A square of picture and mask is 24 numbers,
// most of them noise that the velocity must give back: of fewer channels than that nothing is drawn but what is left of the noise.
func shapesRecipe() recipe {
	return recipe{
		net: netConfig{UNet: &unet.Config{
			Height: sceneSide, Width: sceneSide, Patch: 2, Base: 32, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 32,
			Embed: 128, Groups: 8, ScaleShift: true, Waves: ops.WaveConfig{Width: 32, CosFirst: true, Scale: 1000},
		}},
		channels: 3, weight: 0.7, learn: always(learnScenes), held: always(heldScenes),
		coding: Coding{Kind: Palette, Beta: 10, Classes: len(Forms), Palette: Forms},
	}
}

// mnistRecipe weighs pictures and classes alike.
func mnistRecipe() recipe {
	return recipe{
		net: netConfig{UNet: &unet.Config{
			Height: 28, Width: 28, Patch: 2, Base: 16, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 16,
			Embed: 64, Groups: 8, ScaleShift: true, Waves: ops.WaveConfig{Width: 16, CosFirst: true, Scale: 1000},
		}},
		channels: 1, weight: 0.5, learn: learnDigits, held: heldDigits,
		coding: Coding{Kind: Ordinal, Beta: 4, Classes: 10},
	}
}

func init() {
	register(systems.Task{
		Name: Shapes, Text: "scenes of 1 to 3 shapes with masks of their forms, one U-Net that draws and segments, symmetrical flow matching",
		Settings: train.Settings{Steps: 6000, Batch: 32, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.99}},
		LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
	}, shapesRecipe())
	register(systems.Task{
		Name: MNIST, Text: "digits of 28×28 with their class, one U-Net that draws and classifies, symmetrical flow matching",
		Settings: train.Settings{Steps: 6000, Batch: 32, Rate: 2e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.99}},
		LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
	}, mnistRecipe())
	register(systems.Task{
		Name: Digits, Text: "digits of 8×8 with their class, one residual network that draws and classifies, symmetrical flow matching",
		Settings: train.Settings{Steps: 6000, Batch: 128, Rate: 1e-3, Schedule: "cosine", Warmup: 100, Clip: 1, EMA: []float64{0.998, 0.99}},
		LogEvery: 50, SaveEvery: 500, SampleEvery: 2000, EvalEvery: 1000,
	}, digitsRecipe())
}

// digitsRecipe sees all pixels at once, which is what a class wants.
func digitsRecipe() recipe {
	return recipe{
		net:      netConfig{MLP: &mlp.Config{Height: digitset.Side, Width: digitset.Side, Hidden: 192, Blocks: 4, TimeFactor: 1000}},
		channels: 1, weight: 0.5, learn: learnSmall, held: heldSmall,
		coding: Coding{Kind: Ordinal, Beta: 4, Classes: 10},
	}
}

func register(t systems.Task, r recipe) {
	t.Source = "Caetano et al. 2025; Dhariwal and Nichol 2021 (network)"
	t.Draws = "fidlab system symmflow generate"
	t.Make = func(_ context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
		job, m, err := r.job(t.Name, dev, s)
		if err != nil {
			return nil, err
		}
		held, err := r.held()
		if err != nil {
			return nil, err
		}
		tr := newTrial(m, r.weight, held.part(0, min(held.len(), heldCount)))
		job.Sample, job.Evaluate, job.Scores = tr.sheet, tr.evaluate, tr.names()
		return job, nil
	}
	systems.RegisterTask(t)
}

// job is the training of a recipe's network, and the model.
func (r recipe) job(name string, dev *gpu.Device, s train.Settings) (*train.Job, *Model, error) {
	learn, err := r.learn()
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net := r.net.with(r.channels+r.coding.Channels(), 0, 0)
	m, err := build(params, net, r.coding, r.channels)
	if err != nil {
		return nil, nil, err
	}
	params.Init(s.Seeds.Init)
	loss := NewLoss(m, r.weight, s.Batch)
	loss.Ends = r.ends
	feed := newFeed(learn, train.NewStaged(gpu.CPU(), gpu.Float32, append([]int{s.Batch}, learn.shape...)...), s.Batch)
	return &train.Job{
		Name: name, Config: config{net, r.channels, r.coding, r.weight, r.ends, learn.sha256()},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: func(b *train.Batch) *nn.Var {
			x, ids := feed.next(b)
			return loss.Of(b, x, ids)
		},
	}, m, nil
}

func build(params *nn.Params, c netConfig, coding Coding, channels int) (*Model, error) {
	net, err := c.make(params)
	if err != nil {
		return nil, err
	}
	return NewModel(net, coding, channels)
}

// Open makes the model of a checkpoint of one of the tasks, with its weights or their average of a decay (see train.Saved.Load).
func Open(dev *gpu.Device, s *train.Saved, decay float64) (*Model, error) {
	if s.Job != Shapes && s.Job != MNIST && s.Job != Digits {
		return nil, data.Errorf("symmflow: %s is a checkpoint of %s; want one of %s, %s or %s", s.Path, s.Job, Shapes, MNIST, Digits)
	}
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, data.Errorf("symmflow: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	params := nn.NewParams(dev, gpu.Float32)
	m, err := build(params, c.Net, c.Coding, c.Channels)
	if err != nil {
		return nil, fmt.Errorf("symmflow: %s: %w", s.Path, err)
	}
	params.Init(0)
	return m, s.Load(params, "net", decay)
}

// trainHere trains a job's network from nothing and leaves the first average of its weights in it.
func trainHere(ctx context.Context, job *train.Job, s train.Settings) error {
	_, err := bases.TrainThen(ctx, job, s, func(saved *train.Saved) error {
		return saved.Load(job.Nets[0].Params, job.Nets[0].Name, saved.Averages()[0])
	})
	return err
}

// pictures are [n, C, H, W] of values from -1 to 1, each pixel by times as large.
func pictures(v []float32, shape []int, by int) []*imageio.Image {
	list := bases.Pictures(v, shape)
	for i, m := range list {
		list[i] = bases.Enlarged(m, by)
	}
	return list
}
