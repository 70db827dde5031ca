package lion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// denoising is learning the noise in digits of 8×8 pixels, from -1 to 1.
type denoising struct {
	path   *diffusion.VP
	a, b   []float32 // of signal and noise, by time
	train  []float32 // pixels of the training digits
	val    []float32
	ref    *fid.Reference // the moments of test digits
	points int            // of the curves of its trainings
	// net makes the network; its time runs from 0 to 1.
	net func(s nn.Scope) models.Net
}

// newDenoising reads the data; held is how many digits the validation loss is of.
func newDenoising(held int, net func(s nn.Scope) models.Net) (*denoising, error) {
	p, err := diffusion.PathByName("vp")
	if err != nil {
		return nil, err
	}
	d := &denoising{path: diffusion.TableOf(p), net: net}
	for t := range d.path.Len() {
		at := diffusion.AtTime(d.path, float64(t))
		d.a, d.b = append(d.a, float32(at.A)), append(d.b, float32(at.B))
	}
	read := func(split data.Split, s Span) ([]float32, error) {
		p, err := read(split, s)
		if err != nil {
			return nil, err
		}
		x := make([]float32, len(p.x))
		for i, v := range p.x {
			x[i] = 2*v - 1
		}
		return x, nil
	}
	if d.train, err = read(data.Train, Span{0, 50000}); err != nil {
		return nil, err
	}
	if d.val, err = read(data.Train, Span{50000, 50000 + held}); err != nil {
		return nil, err
	}
	test, err := read(data.Test, Span{0, 10000})
	if err != nil {
		return nil, err
	}
	stats, err := fid.FromFeatures(test, 10000, pixelCount)
	if err != nil {
		return nil, err
	}
	d.ref, err = fid.NewReference(stats)
	return d, err
}

// by is the same with another network.
func (d *denoising) by(net func(s nn.Scope) models.Net) *denoising {
	other := *d
	other.net = net
	return &other
}

// noised is a batch of noised digits with their times and the noise.
type noised struct{ x, time, eps *gpu.Tensor }

func newNoised(n int) *noised {
	return &noised{
		gpu.CPU().Empty(n, 1, digits.Side, digits.Side), gpu.CPU().Empty(n), gpu.CPU().Empty(n, 1, digits.Side, digits.Side),
	}
}

// fill noises digits that pick chooses.
func (d *denoising) fill(b *noised, r *rng.Stream, from []float32, pick func(i int) int) {
	x, eps, time := b.x.F32(), b.eps.F32(), b.time.F32()
	r.FillNormal32(eps)
	for i := range time {
		t := r.Intn(len(d.a))
		time[i] = float32(t) / float32(len(d.a))
		clean := from[pick(i)*pixelCount:][:pixelCount]
		for k, v := range clean {
			x[i*pixelCount+k] = float32(d.a[t]*v) + float32(d.b[t]*eps[i*pixelCount+k])
		}
	}
}

// job is a network and its loss, the mean square error of the noise.
func (d *denoising) job(batch int, seed uint64) (*job, error) {
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := d.net(params.At(""))
	params.Init(seed)
	b, val := newNoised(batch), newNoised(len(d.val)/pixelCount)
	d.fill(val, rng.ForImage(1, 0, rng.Time), d.val, func(i int) int { return i })
	loss := func(t *nn.Tape, b *noised) *nn.Var {
		y := net.Forward(t.Input(b.x), t.Input(b.time), models.Inputs{})
		return nn.MSE(y, t.Input(b.eps), nil)
	}
	return &job{
		net:    params,
		model:  net,
		draw:   func(r *rng.Stream) { d.fill(b, r, d.train, func(int) int { return r.Intn(len(d.train) / pixelCount) }) },
		loss:   func(t *nn.Tape) *nn.Var { return loss(t, b) },
		judge:  func(t *nn.Tape) (float64, float64) { return loss(t, val).Item(), math.NaN() },
		points: d.points,
	}, nil
}

// draws are n samples of a network by DDIM of some steps, [n, 1, 8, 8].
func (d *denoising) draws(ctx context.Context, net models.Net, n, steps int, seed uint64) (*gpu.Tensor, error) {
	g, err := diffusion.Build(d.path, diffusion.Spec{Rule: "trailing", Steps: steps})
	if err != nil {
		return nil, err
	}
	r, err := sampler.Run(ctx, &denoiser{d: d, net: net, tape: nn.NewTape(gpu.CPU(), gpu.Float32)}, sampler.DDIM{Clip: 1}, g,
		sampler.Options{Seed: seed, N: n, Batch: 256, Shape: []int{1, digits.Side, digits.Side}})
	if err != nil {
		return nil, err
	}
	return r.X, nil
}

// distance is the Fréchet distance of samples to the test digits, in pixels.
func (d *denoising) distance(x *gpu.Tensor) (float64, error) {
	stats, err := fid.FromFeatures(x.F32(), x.Shape()[0], pixelCount)
	if err != nil {
		return 0, err
	}
	got, err := d.ref.Frechet(stats)
	return got.Value, err
}

// denoiser is a network as samplers see it: x0 = x - σ·ε.
type denoiser struct {
	d     *denoising
	net   models.Net
	tape  *nn.Tape
	x, at *gpu.Tensor
}

// Denoise implements sampler.Denoiser, for float32 states on the CPU.
func (n *denoiser) Denoise(_ context.Context, out, x *gpu.Tensor, sigma []float64, _ sampler.Cond) error {
	if x.F32() == nil {
		return fmt.Errorf("lion: states %v on %v; wanted float32 on the CPU", x.DType(), x.Device())
	}
	if n.x == nil || n.x.Len() != x.Len() {
		n.x, n.at = gpu.CPU().Empty(x.Shape()...), gpu.CPU().Empty(len(sigma))
	}
	each := x.Len() / len(sigma)
	for i, s := range sigma {
		n.at.F32()[i] = float32(n.d.path.Time(s) / float64(n.d.path.Len()))
		a := float32(1 / math.Sqrt(1+s*s))
		for k, v := range x.F32()[i*each : (i+1)*each] {
			n.x.F32()[i*each+k] = a * v
		}
	}
	n.tape.Run(func() {
		n.tape.NoGrad(func() {
			eps := n.net.Forward(n.tape.Input(n.x), n.tape.Input(n.at), models.Inputs{}).Value().F32()
			for i, s := range sigma {
				for k := i * each; k < (i+1)*each; k++ {
					out.F32()[k] = x.F32()[k] - float32(s)*eps[k]
				}
			}
		})
	})
	return nil
}

// pictures are the first of samples.
func pictures(x *gpu.Tensor, n int) []*imageio.Image {
	var out []*imageio.Image
	for i := range min(n, x.Shape()[0]) {
		out = append(out, imageio.FromPlanar(x.F32()[i*pixelCount:][:pixelCount], 1, digits.Side, digits.Side, 127.5, 127.5))
	}
	return out
}

// plainNet is a denoiser of digits without attention: blocks of two layers around a
// residual, each told the time; a models.Net.
type plainNet struct {
	params *nn.Params
	in     *nn.Linear
	time   *nn.TimeEmbed
	blocks []plainBlock
	norm   *nn.Norm
	out    *nn.Linear
}

type plainBlock struct {
	norm       *nn.Norm
	scale      *nn.Linear // of the time
	wide, back *nn.Linear
}

func newPlainNet(s nn.Scope, width, depth int) *plainNet {
	n := &plainNet{params: s.Params(), in: nn.NewLinear(s.At("in"), pixelCount, width), time: nn.NewTimeEmbed(s.At("time"), width, nn.TimeOptions{Waves: ops.WaveConfig{Width: 64, Scale: 1000}})}
	for i := range depth {
		b := s.At(fmt.Sprint("blocks.", i))
		n.blocks = append(n.blocks, plainBlock{
			nn.NewLayerNorm(b.At("norm"), width), nn.NewLinear(b.At("scale"), width, width).Zero(),
			nn.NewLinear(b.At("wide"), width, 2*width).Then(ops.SiLU), nn.NewLinear(b.At("back"), 2*width, width).Zero(),
		})
	}
	n.norm, n.out = nn.NewLayerNorm(s.At("norm"), width), nn.NewLinear(s.At("out"), width, pixelCount).Zero()
	return n
}

func (n *plainNet) Params() *nn.Params { return n.params }

func (n *plainNet) Takes() models.Takes {
	return models.Takes{Channels: 1, Out: 1, Height: digits.Side, Width: digits.Side}
}

func (n *plainNet) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	if err := n.Takes().Check(x.Shape(), in); err != nil {
		panic("lion: plainNet: " + err.Error())
	}
	b := x.Shape()[0]
	t := n.time.Forward(time).SiLU()
	h := n.in.Forward(x.Reshape(b, pixelCount))
	for _, k := range n.blocks {
		h = h.Add(k.back.Forward(k.wide.Forward(k.norm.Modulate(h, k.scale.Forward(t), nil))))
	}
	return n.out.Forward(n.norm.Forward(h)).Reshape(b, 1, digits.Side, digits.Side)
}
