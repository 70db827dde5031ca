package bases

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// denoiser is a task of one network that learns to remove noise from pictures; C is the network's configuration.
type denoiser[C any] struct {
	systems.Task
	net   C
	build func(s nn.Scope, c C) (models.Net, error)
	// mask hands the network its dropout, where it has one; the zero Mask ends it. nil: it has none.
	mask      func(net models.Net, m ops.Mask)
	diffusion train.Diffusion
	data      func() (*pictureSet, error)
	// score, besides the held-out loss, judges pictures that the network drew, [n, C, H, W]; nil.
	score      func(set *pictureSet, x *gpu.Tensor) (float64, error)
	scoreName  string
	scoreCount int
}

// pictureSet is what a denoiser learns and what it is tried on, with values from -1 to 1.
type pictureSet struct {
	name        string
	train, held *train.Examples
	classes     int
	from        *dataConfig // of a set that the user brought, else nil
}

// recipe is a denoiser's part of a checkpoint.
type recipe[C any] struct {
	Net       C               `json:"net"`
	Diffusion train.Diffusion `json:"diffusion"`
	Data      dataConfig      `json:"data"`
}

type dataConfig struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of shape, values and labels that are trained on
	// Of a set that the user brought: how its pictures were made one size, and the names of its classes.
	Size    int      `json:"size,omitempty"`
	Fit     string   `json:"fit,omitempty"`
	Resize  string   `json:"resize,omitempty"`
	Classes []string `json:"classes,omitempty"`
}

// halves are what a set that was read has to learn and to try.
func halves(s *pictureSet, err error) (learn, held *train.Examples, _ error) {
	if err != nil {
		return nil, nil, err
	}
	return s.train, s.held, nil
}

// config is the set's part of a checkpoint.
func (s *pictureSet) config() dataConfig {
	if s.from != nil {
		return *s.from
	}
	return dataConfig{Name: s.name, SHA256: s.train.SHA256()}
}

// register adds the task.
func (d denoiser[C]) register() {
	d.Make, d.Path, d.Open, d.Kernels = d.make, d.path, d.open, true
	d.Data = func() (learn, held *train.Examples, err error) { return halves(d.data()) }
	systems.RegisterTask(d.Task)
}

func (d *denoiser[C]) make(_ context.Context, dev *gpu.Device, s train.Settings) (*train.Job, error) {
	set, err := d.data()
	if err != nil {
		return nil, err
	}
	return d.job(dev, s, set)
}

// job is the training of the network on a set.
func (d *denoiser[C]) job(dev *gpu.Device, s train.Settings, set *pictureSet) (*train.Job, error) {
	params := nn.NewParams(dev, gpu.Float32)
	net, err := d.build(params.At(""), d.net)
	if err != nil {
		return nil, err
	}
	params.Init(s.Seeds.Init)
	if s.Kernel != "" {
		other := *d
		other.diffusion.Kernel = s.Kernel
		d = &other
	}
	loss, err := d.diffusion.NewDenoising(net, s.Batch)
	if err != nil {
		return nil, err
	}
	trial, err := d.newTrial(net, set)
	if err != nil {
		return nil, err
	}
	feed := train.NewFeed(set.train, dev, gpu.Float32, s.Batch)
	return &train.Job{
		Name: d.Name, Config: recipe[C]{d.net, d.diffusion, set.config()},
		Nets: []*train.Network{{Name: "net", Params: params}},
		Loss: func(b *train.Batch) *nn.Var {
			x, labels := feed.Next(b)
			if d.mask != nil {
				d.mask(net, b.Mask(0)) // the share is the network's own
				defer d.mask(net, ops.Mask{})
			}
			return loss.Loss(b, x, labels, models.Inputs{})
		},
		Sample: trial.sheet, Evaluate: trial.evaluate, Scores: trial.names,
	}, nil
}

// recipeOf is the part of a checkpoint that is a denoiser's, with what the network was trained on and predicts.
func (d *denoiser[C]) recipeOf(s *train.Saved) (r recipe[C], path diffusion.Path, pred diffusion.Pred, err error) {
	if err := configOf(s, &r); err != nil {
		return r, nil, 0, err
	}
	path, pred, err = conventionOf(s, r.Diffusion)
	return r, path, pred, err
}

// configOf reads a task's part of a checkpoint.
func configOf(s *train.Saved, to any) error {
	if err := json.Unmarshal(s.Config, to); err != nil {
		return fmt.Errorf("bases: %s: the configuration of %s: %w", s.Path, s.Job, err)
	}
	return nil
}

// conventionOf is what a checkpoint's network was trained on and predicts.
func conventionOf(s *train.Saved, d train.Diffusion) (diffusion.Path, diffusion.Pred, error) {
	path, pred, err := d.Convention()
	if err != nil {
		return nil, 0, fmt.Errorf("bases: %s: %w", s.Path, err)
	}
	return path, pred, nil
}

func (d *denoiser[C]) path(s *train.Saved) (diffusion.Path, error) {
	_, path, _, err := d.recipeOf(s)
	return path, err
}

func (d *denoiser[C]) open(dev *gpu.Device, s *train.Saved, decay float64) (*systems.Trained, error) {
	r, path, pred, err := d.recipeOf(s)
	if err != nil {
		return nil, err
	}
	params := nn.NewParams(dev, gpu.Float32)
	net, err := d.build(params.At(""), r.Net)
	if err != nil {
		return nil, fmt.Errorf("bases: %s: %w", s.Path, err)
	}
	params.Init(0)
	if err := s.Load(params, "net", decay); err != nil {
		return nil, err
	}
	k := net.Takes()
	kernel, err := diffusion.NoiseByName(r.Diffusion.Kernel, k.Channels*k.Height*k.Width)
	if err != nil {
		return nil, fmt.Errorf("bases: %s: %w", s.Path, err)
	}
	return &systems.Trained{
		Net: net, Path: path, Pred: pred, Shape: []int{k.Channels, k.Height, k.Width}, Lo: -1, Hi: 1, Names: r.Data.Classes, Kernel: kernel, Diffusion: &r.Diffusion,
	}, nil
}

// The trials of networks on their way.
const (
	heldCount    = 512        // pictures of the held-out loss
	HeldBatch    = 64         // of it at a time
	HeldSeed     = 0x68656c64 // of its noise, which is the same each time
	previewSteps = 18
	previewSide  = 8
)

// trial tries a network while it is trained: its loss on pictures that it does not learn, pictures that it draws.
type trial struct {
	net   models.Net
	set   *pictureSet
	den   *sampler.Adapted
	path  diffusion.Path
	loss  *train.Denoising
	tape  *nn.Tape
	held  *train.Feed
	names []string
	score func(x *gpu.Tensor) (float64, error)
	count int
}

func (d *denoiser[C]) newTrial(net models.Net, set *pictureSet) (*trial, error) {
	conf := d.diffusion
	conf.Drop = 0
	loss, err := conf.NewDenoising(net, HeldBatch)
	if err != nil {
		return nil, err
	}
	dev := net.Params().Value().Device()
	t := &trial{
		net: net, set: set, loss: loss, path: loss.Path, tape: nn.NewTape(dev, gpu.Float32), den: network.Denoiser(net, loss.Path, loss.Pred, network.Options{Batch: 64}),
		held: train.NewFeed(set.held, dev, gpu.Float32, HeldBatch), names: []string{"held_out"},
	}
	if d.score != nil {
		t.names, t.count = append(t.names, d.scoreName), d.scoreCount
		t.score = func(x *gpu.Tensor) (float64, error) { return d.score(set, x) }
	}
	return t, nil
}

// HeldLoss is the mean loss of at most heldCount of n examples held out, the same ones under the same noise each time; loss is that of a batch of
// HeldBatch.
func HeldLoss(ctx context.Context, tape *nn.Tape, n int, loss func(b *train.Batch) *nn.Var) (float64, error) {
	var sum float64
	count := min(heldCount, (n+HeldBatch-1)/HeldBatch*HeldBatch) // a few are seen several times, under other noise
	for first := 0; first < count; first += HeldBatch {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		tape.Run(func() {
			b := &train.Batch{Tape: tape, First: uint64(first), Size: HeldBatch, Seeds: train.SeedsOf(HeldSeed)}
			tape.NoGrad(func() { sum += loss(b).Item() * HeldBatch / float64(count) })
		})
	}
	return sum, nil
}

// evaluate is the loss on pictures held out, the same ones under the same noise each time, and the score of drawn ones.
func (t *trial) evaluate(ctx context.Context, _ int) ([]float64, error) {
	loss, err := HeldLoss(ctx, t.tape, t.set.held.Len(), func(b *train.Batch) *nn.Var {
		x, labels := t.held.Next(b)
		return t.loss.Loss(b, x, labels, models.Inputs{})
	})
	if err != nil {
		return nil, err
	}
	out := []float64{loss}
	if t.score == nil {
		return out, nil
	}
	x, err := t.draw(ctx, t.count)
	if err != nil {
		return nil, err
	}
	v, err := t.score(x)
	return append(out, v), err
}

// usualRule is that of a path's grids.
func usualRule(p diffusion.Path) string {
	if p.Space() == diffusion.FlowSpace {
		return "flow"
	}
	return "karras"
}

// InTurn asks n times for the classes in turn; without classes it is nothing.
func InTurn(classes, n int) (c sampler.Cond) {
	if classes == 0 {
		return c
	}
	c.Classes = make([]int, n)
	for i := range c.Classes {
		c.Classes[i] = i % classes
	}
	return c
}

// Pictures are pictures of a shape [C, H, W], of values from -1 to 1.
func Pictures(v []float32, shape []int) []*imageio.Image {
	size := shape[0] * shape[1] * shape[2]
	var out []*imageio.Image
	for ; len(v) >= size; v = v[size:] {
		out = append(out, imageio.FromPlanar(v[:size], shape[0], shape[1], shape[2], 127.5, 127.5))
	}
	return out
}

// draw draws n pictures, of the classes in turn, by Heun's method.
func (t *trial) draw(ctx context.Context, n int) (*gpu.Tensor, error) {
	g, err := diffusion.Build(t.path, diffusion.Spec{Rule: usualRule(t.path), Steps: previewSteps})
	if err != nil {
		return nil, err
	}
	k := t.net.Takes()
	o := sampler.Options{Seed: HeldSeed, N: n, Batch: 256, Shape: []int{k.Channels, k.Height, k.Width}, Device: t.net.Params().Value().Device(), Kernel: t.loss.Kernel}
	o.Cond = InTurn(k.Classes, n)
	r, err := sampler.Run(ctx, t.den, sampler.Heun{}, g, o)
	if err != nil {
		return nil, err
	}
	return r.X, nil
}

// sheet is a contact sheet of drawn pictures; small ones are enlarged.
func (t *trial) sheet(ctx context.Context, _ int) (*imageio.Image, error) {
	x, err := t.draw(ctx, previewSide*previewSide)
	if err != nil {
		return nil, err
	}
	v, err := x.Floats()
	if err != nil {
		return nil, err
	}
	k := t.net.Takes()
	list := Pictures(v, []int{k.Channels, k.Height, k.Width})
	for i, m := range list {
		list[i] = Enlarged(m, max(1, 32/k.Height))
	}
	return imageio.Grid(list, previewSide, 2), nil
}

// Enlarged repeats every pixel.
func Enlarged(m *imageio.Image, by int) *imageio.Image {
	out := &imageio.Image{Width: m.Width * by, Height: m.Height * by, Pix: make([]uint8, 0, len(m.Pix)*by*by)}
	for y := range m.Height {
		row := make([]uint8, 0, 3*m.Width*by)
		for x := range m.Width {
			for range by {
				row = append(row, m.Pix[3*(y*m.Width+x):][:3]...)
			}
		}
		out.Pix = append(out.Pix, slices.Repeat(row, by)...)
	}
	return out
}

// subset is n of the examples, drawn by a seed: what a judge is shown.
func subset(e *train.Examples, n int, seed uint64) []float32 {
	size := len(e.X) / e.Len()
	var out []float32
	for _, at := range rng.ForImage(seed, 0, rng.Order).Perm(e.Len())[:min(n, e.Len())] {
		out = append(out, e.X[at*size:(at+1)*size]...)
	}
	return out
}
