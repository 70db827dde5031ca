package symmflow

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
)

// Least is the s of the path: how much of the data is left in what ends as noise.
const Least = 1e-4

// Model is a network of the velocity of pictures and labels together, [B, Channels + Coding.Channels, H, W] at times t in [0, 1].
type Model struct {
	Net      models.Net
	Coding   Coding
	Channels int // of pictures
}

// NewModel says when the network and the coding do not fit together.
func NewModel(net models.Net, c Coding, channels int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	k := net.Takes()
	if want := channels + c.Channels(); k.Channels != want || k.Out != want {
		return nil, data.Errorf("symmflow: a network of %d channels that gives %d; want %d of pictures and %d of labels both times", k.Channels, k.Out, channels, c.Channels())
	}
	if k.Height < 1 || k.Width < 1 {
		return nil, data.Errorf("symmflow: a network of any size; want one of pictures of one size")
	}
	return &Model{net, c, channels}, nil
}

// Solvers are the ways to integrate, by their names in package sampler: those that solve the flow's equation as it is. Solvers that draw noise, or
// that count on the state being a picture and noise alone, are for other models.
var Solvers = []string{"euler", "midpoint", "heun", "rk4", "dopri5"}

// Options say how to integrate.
type Options struct {
	Steps  int    // of equal length, by their count: 25 steps are exactly 25
	Solver string // of Solvers; "" is euler
	Seed   uint64 // of noise
	First  int    // number of the first picture: its noise is its own whatever comes with it
	Batch  int    // states at a time; 0 is 64
}

// check fills in defaults.
func (o Options) check() (sampler.Solver, Options, error) {
	if o.Steps < 1 {
		return nil, o, data.Errorf("symmflow: %d steps; want 1 or more", o.Steps)
	}
	if o.Solver == "" {
		o.Solver = "euler"
	}
	if !slices.Contains(Solvers, o.Solver) {
		return nil, o, data.Errorf("symmflow: solver %q; want one of %s", o.Solver, strings.Join(Solvers, ", "))
	}
	if o.Solver == "dopri5" && o.Steps < 2 { // the last step, to where noise ends, is its least accurate
		return nil, o, data.Errorf("symmflow: 1 step of dopri5; want 2 or more, of which it takes as many again as it needs")
	}
	s, err := sampler.ByName(o.Solver)
	return s, o, err
}

// grid is n steps of equal length, by their count, on which the share of what is noise falls from 1 to 0. Added up steps of 0.04 would miss
// their end.
func grid(n int) *diffusion.Grid {
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "uniform", Steps: n})
	if err != nil {
		panic("symmflow: " + err.Error()) // there is a step
	}
	return g
}

// shape is that of states.
func (m *Model) shape() []int {
	k := m.Net.Takes()
	return []int{k.Channels, k.Height, k.Width}
}

// walk integrates states z [N, C, H, W]: forward from t = 0 to 1, or backward. For solvers a state is data at its end and noise at its start,
// with a share τ of noise from 1 to 0: forward t = 1-τ, and the network says the velocity towards the end; backward t = τ, and it says
// the one towards the start.
func (m *Model) walk(ctx context.Context, z *gpu.Tensor, forward bool, o Options) (*gpu.Tensor, error) {
	s, o, err := o.check()
	if err != nil {
		return nil, err
	}
	path, pred := diffusion.Flow{}, diffusion.PredFlow
	if forward {
		path, pred = diffusion.Flow{DataAtOne: true}, diffusion.PredFlowReversed
	}
	den := network.Denoiser(m.Net, path, pred, network.Options{Batch: evaluated})
	batch := o.Batch
	if batch == 0 {
		batch = 2 * evaluated
	}
	r, err := sampler.Run(ctx, den, s, grid(o.Steps), sampler.Options{
		N: z.Shape()[0], Batch: batch, Shape: m.shape(), Device: z.Device(), State: z,
	})
	if err != nil {
		return nil, err
	}
	return r.X, nil
}

// evaluated is how many states the network computes at a time.
const evaluated = 32

// start is noise for n states, on the CPU.
func (m *Model) start(n int, o Options) *gpu.Tensor {
	z := gpu.CPU().New(gpu.Float32, append([]int{n}, m.shape()...)...)
	diffusion.UnitNoise(z, nil, o.Seed, uint64(o.First), rng.Init)
	return z
}

// Size is that of pictures.
func (m *Model) Size() (height, width int) {
	k := m.Net.Takes()
	return k.Height, k.Width
}

// parts are the picture's and the label's values of state i of z.
func (m *Model) parts(z []float32, i int) (x, y []float32) {
	s := m.shape()
	pixels := s[1] * s[2]
	one := z[i*s[0]*pixels:][:s[0]*pixels]
	return one[:m.Channels*pixels], one[m.Channels*pixels:]
}

// Generate draws pictures [n, Channels, H, W] with the given labels, values about -1 to 1: forward from noise and the labels with
// their own noise. A label is classes as Coding.Encode takes them.
func (m *Model) Generate(ctx context.Context, labels [][]uint8, o Options) (*gpu.Tensor, error) {
	if len(labels) == 0 {
		return nil, data.Errorf("symmflow: no labels to draw pictures of")
	}
	z := m.start(len(labels), o)
	for i, ids := range labels {
		_, y := m.parts(z.F32(), i)
		if err := m.Coding.Encode(y, ids, rng.ForImage(o.Seed, uint64(o.First+i), rng.Label)); err != nil {
			return nil, fmt.Errorf("label %d: %w", i, err)
		}
	}
	end, err := m.walk(ctx, m.on(z), true, o)
	if err != nil {
		return nil, err
	}
	v, err := end.Floats()
	if err != nil {
		return nil, err
	}
	s := m.shape()
	out := gpu.CPU().New(gpu.Float32, len(labels), m.Channels, s[1], s[2])
	for i := range labels {
		x, _ := m.parts(v, i)
		copy(out.F32()[i*len(x):], x)
	}
	return out, nil
}

// Label reads the labels of pictures [n, Channels, H, W], values from -1 to 1: backward from the pictures and noise. One step of
// Euler's method is ξ - v_y(x, ξ, 1).
func (m *Model) Label(ctx context.Context, x *gpu.Tensor, o Options) ([][]uint8, error) {
	y, err := m.label(ctx, x, o)
	if err != nil {
		return nil, err
	}
	out := make([][]uint8, len(y))
	for i, v := range y {
		out[i] = m.Coding.Decode(v)
	}
	return out, nil
}

// label is Label before it is decoded.
func (m *Model) label(ctx context.Context, x *gpu.Tensor, o Options) ([][]float32, error) {
	s := m.shape()
	if k := x.Shape(); len(k) != 4 || k[1] != m.Channels || k[2] != s[1] || k[3] != s[2] {
		return nil, data.Errorf("symmflow: pictures of shape %v; want [n, %d, %d, %d]", x.Shape(), m.Channels, s[1], s[2])
	}
	given, err := x.Floats()
	if err != nil {
		return nil, err
	}
	n := x.Shape()[0]
	z := m.start(n, o)
	for i := range n {
		to, _ := m.parts(z.F32(), i)
		copy(to, given[i*len(to):])
	}
	end, err := m.walk(ctx, m.on(z), false, o)
	if err != nil {
		return nil, err
	}
	v, err := end.Floats()
	if err != nil {
		return nil, err
	}
	out := make([][]float32, n)
	for i := range out {
		_, out[i] = m.parts(v, i)
	}
	return out, nil
}

// on is z on the network's device.
func (m *Model) on(z *gpu.Tensor) *gpu.Tensor {
	dev := m.Net.Params().Value().Device()
	if !dev.CUDA() {
		return z
	}
	return dev.From(z.F32(), z.Shape()...)
}
