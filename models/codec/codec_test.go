package codec_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// The published sizes, counted without memory for them: as the peers count them in torch.
func TestParameterCounts(t *testing.T) {
	sd := codec.Config{Latent: 4, Widths: []int{128, 256, 512, 512}, Blocks: 2}
	for name, c := range map[string]struct {
		make func(s nn.Scope)
		want int
	}{
		"Stable Diffusion": {func(s nn.Scope) { codec.NewKL(s, sd) }, 83653863},
		"VA-VAE f16d32": {func(s nn.Scope) {
			codec.NewKL(s, codec.Config{Latent: 32, Widths: []int{128, 128, 256, 256, 512}, Blocks: 2, AttendAt: []int{4}})
		}, 69836067},
		"VQ f4": {func(s nn.Scope) {
			codec.NewVQ(s, codec.VQConfig{Config: codec.Config{Latent: 3, Widths: []int{128, 256, 512}, Blocks: 2}, Book: vq.Config{Codes: 8192, Width: 3}})
		}, 55322782},
		"ViT-VQ base": {func(s nn.Scope) {
			codec.NewViT(s, codec.ViTConfig{Size: 256, Patch: 8, Width: 768, Heads: 12, Depth: 12, Latent: 32, Codes: &vq.Config{Codes: 8192, Width: 32}})
		}, 172237347},
		"MMM": {func(s nn.Scope) {
			codec.NewMotion(s, codec.MotionConfig{Channels: 263, Width: 512, Codes: vq.ResidualConfig{Levels: 1, Book: vq.Config{Codes: 8192, Width: 32}}})
		}, 18223911},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		c.make(net.At(""))
		if got := net.Count(); got != c.want {
			t.Errorf("%s: %d parameters, want %d", name, got, c.want)
		}
	}
}

// compVis is the names of an autoencoder of latent diffusion, from its definition: levels of
// blocks, attention at some, a step after all but the last.
func compVis(levels, blocks int, attend []int) (names []string) {
	add := func(prefix string, layers ...string) {
		for _, l := range layers {
			names = append(names, prefix+l+".weight", prefix+l+".bias")
		}
	}
	block := []string{"norm1", "conv1", "norm2", "conv2"}
	attn := []string{"norm", "q", "k", "v", "proj_out"}
	for _, half := range []string{"encoder.", "decoder."} {
		way, step, count := "down.", ".downsample.conv", blocks
		if half == "decoder." {
			way, step, count = "up.", ".upsample.conv", blocks+1
		}
		add(half, "conv_in", "norm_out", "conv_out")
		add(half+"mid.block_1.", block...)
		add(half+"mid.attn_1.", attn...)
		add(half+"mid.block_2.", block...)
		for l := range levels {
			for i := range count {
				add(fmt.Sprintf("%s%s%d.block.%d.", half, way, l, i), block...)
				if slices.Contains(attend, l) {
					add(fmt.Sprintf("%s%s%d.attn.%d.", half, way, l, i), attn...)
				}
			}
			if half == "encoder." && l < levels-1 || half == "decoder." && l > 0 {
				add(fmt.Sprintf("%s%s%d", half, way, l), step)
			}
		}
	}
	add("", "quant_conv", "post_quant_conv")
	return names
}

func TestCompVisNames(t *testing.T) {
	rename := codec.CompVisNames(4)
	for from, want := range map[string]string{
		"first_stage_model.encoder.down.1.block.0.nin_shortcut.weight": "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
		"encoder.down.3.attn.1.proj_out.bias":                          "encoder.down_blocks.3.attentions.1.to_out.0.bias",
		"decoder.up.3.block.2.conv1.weight":                            "decoder.up_blocks.0.resnets.2.conv1.weight",
		"decoder.up.1.upsample.conv.bias":                              "decoder.up_blocks.2.upsamplers.0.conv.bias",
		"decoder.mid.attn_1.norm.weight":                               "decoder.mid_block.attentions.0.group_norm.weight",
		"encoder.norm_out.weight":                                      "encoder.conv_norm_out.weight",
		"quantize.embedding.weight":                                    "quantize.embedding.weight",
		"loss.discriminator.main.0.weight":                             "",
	} {
		if got := rename(from); got != want {
			t.Errorf("%s becomes %s, want %s", from, got, want)
		}
	}
	// All names of a network, each once; shortcuts, where the width changes, are those that differ.
	for _, attend := range [][]int{nil, {3}} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		codec.NewKL(net.At(""), codec.Config{Latent: 4, Widths: []int{32, 32, 32, 32}, Blocks: 2, AttendAt: attend})
		have := map[string]bool{}
		for _, p := range net.All() {
			have[p.Name] = true
		}
		for _, n := range compVis(4, 2, attend) {
			to := rename(n)
			if !have[to] {
				t.Errorf("%s becomes %s, which is no parameter or taken", n, to)
			}
			delete(have, to)
		}
		for n := range have {
			t.Errorf("%s has no name there", n)
		}
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	codec.NewKL(net.At(""), codec.Config{Latent: 4, Widths: []int{32}, PointAttention: true})
	if s := net.Get("encoder.mid_block.attentions.0.to_q.weight").Shape(); !slices.Equal(s, []int{32, 32, 1, 1}) {
		t.Errorf("weights of shape %v, want those of a convolution", s)
	}
}

// small is one of each codec in float64, as a function of pictures or motions with a loss.
func small(dev *gpu.Device, dt gpu.DType) map[string]struct {
	net   *nn.Params
	shape []int
	loss  func(x *nn.Var, train bool) (y, loss *nn.Var)
} {
	type made = struct {
		net   *nn.Params
		shape []int
		loss  func(x *nn.Var, train bool) (y, loss *nn.Var)
	}
	out := map[string]made{}
	conv := codec.Config{Channels: 2, Latent: 3, Widths: []int{4, 8}, Groups: 2}
	net := nn.NewParams(dev, dt)
	kl := codec.NewKL(net.At(""), conv)
	out["kl"] = made{net, []int{2, 2, 4, 4}, func(x *nn.Var, _ bool) (y, loss *nn.Var) {
		d := kl.Encode(x)
		y = kl.Decode(d.Sample(ops.Noise{Seed: 1}))
		return y, nn.MSE(y, x, nil).Add(d.KL().Mean().Scale(0.01))
	}}
	net = nn.NewParams(dev, dt)
	q := codec.NewVQ(net.At(""), codec.VQConfig{Config: conv, Book: vq.Config{Codes: 6, Width: 3}})
	out["vq"] = made{net, []int{2, 2, 4, 4}, func(x *nn.Var, train bool) (y, loss *nn.Var) {
		z, m := q.Encode(x, train)
		y = q.Decode(z)
		return y, nn.MSE(y, x, nil).Add(m.Loss)
	}}
	net = nn.NewParams(dev, dt)
	vit := codec.NewViT(net.At(""), codec.ViTConfig{Channels: 2, Size: 4, Patch: 2, Width: 8, Heads: 2, Depth: 1, Latent: 3, Tokens: 2})
	out["vit"] = made{net, []int{2, 2, 4, 4}, func(x *nn.Var, train bool) (y, loss *nn.Var) {
		z, _ := vit.Encode(x, codec.Text{}, train)
		y = vit.Decode(z)
		return y, nn.MSE(y, x, nil)
	}}
	net = nn.NewParams(dev, dt)
	motion := codec.NewMotion(net.At(""), codec.MotionConfig{Channels: 5, Width: 6, Depth: 2, Codes: vq.ResidualConfig{Levels: 2, Book: vq.Config{Codes: 5, Width: 3}}})
	out["motion"] = made{net, []int{2, 16, 5}, func(x *nn.Var, train bool) (y, loss *nn.Var) {
		z, m := motion.Encode(x, train, 0)
		y = motion.Decode(z)
		return y, codec.MotionLoss(y, x, 1, 2, 0.5).Add(m.Loss)
	}}
	return out
}

func fill(net *nn.Params) {
	for _, p := range net.All() { // zeros and ones would hide mistakes
		if len(p.Shape()) == 1 {
			p.Start = nn.Normal(0.5)
		}
	}
	net.Init(4)
}

// The gradients of whole networks against differences along directions. Those of codes are
// not the loss's, so the two without a book are here; the others are compared with peers.
func TestGradientsAlongDirections(t *testing.T) {
	for name, m := range small(gpu.CPU(), gpu.Float64) {
		if name != "kl" && name != "vit" {
			continue
		}
		fill(m.net)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 2*2*4*4), m.shape...)
		value := func() (v float64) {
			tape.Run(func() {
				_, l := m.loss(tape.Input(x), true)
				v = l.Item()
			})
			return v
		}
		tape.Run(func() {
			_, l := m.loss(tape.Input(x), true)
			tape.Backward(l)
		})
		slab, grad := m.net.Value().F64(), slices.Clone(m.net.Grad().F64())
		start := slices.Clone(slab)
		for k := range 3 {
			dir := oracle.Normal(uint64(10+k), len(slab))
			var want float64
			for i, g := range grad {
				want += g * float64(dir[i])
			}
			at := func(h float64) float64 {
				for i := range slab {
					slab[i] = start[i] + h*float64(dir[i])
				}
				return value()
			}
			got := (at(1e-6) - at(-1e-6)) / 2e-6
			copy(slab, start)
			if math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
				t.Errorf("%s, direction %d: differences give %v, the gradient %v", name, k, got, want)
			}
		}
	}
}

func TestSamplesAreIndependent(t *testing.T) {
	for name, m := range small(gpu.CPU(), gpu.Float64) {
		fill(m.net)
		n := 1
		for _, s := range m.shape {
			n *= s
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		both := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, n), m.shape...)
		tape.NoGrad(func() {
			y, _ := m.loss(tape.Input(both), false)
			if !slices.Equal(y.Shape(), m.shape) {
				t.Errorf("%s: shape %v, want %v", name, y.Shape(), m.shape)
			}
			one, _ := m.loss(tape.Input(both.Rows(0, 1)), false)
			want := y.Value().F64()[:n/2]
			oracle.Close64(t, one.Value().F64(), oracle.Tol{Abs: 1e-13}, func(i int) float64 { return want[i] })
			if t.Failed() {
				t.Fatalf("%s: a sample depends on another", name)
			}
		})
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for name, m := range small(gpu.CPU(), gpu.Float32) {
		m.net.Init(1)
		n := 1
		for _, s := range m.shape {
			n *= s
		}
		x := gpu.CPU().From(oracle.Normal(1, n), m.shape...)
		t.Run(name, func(t *testing.T) {
			network.StepsAllocateNothing(t, m.net, gpu.Float32, func(tape *nn.Tape) *nn.Var {
				_, l := m.loss(tape.Input(x), true)
				return l
			})
		})
	}
}

// A few steps on two samples at least halve the loss of every codec.
func TestCodecsLearn(t *testing.T) {
	for name, m := range small(gpu.CPU(), gpu.Float32) {
		m.net.Init(1)
		n := 1
		for _, s := range m.shape {
			n *= s
		}
		v := oracle.Normal(1, n)
		x := gpu.CPU().From(v, m.shape...)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		opt := nn.NewAdam(m.net, nn.AdamOptions{})
		var first, last float64
		for step := range 300 {
			tape.Run(func() {
				_, l := m.loss(tape.Input(x), true)
				tape.Backward(l)
				if last = l.Item(); step == 0 {
					first = last
				}
			})
			opt.Step(5e-3)
		}
		t.Logf("%s: %.4f to %.4f", name, first, last)
		if !(last < first/2) {
			t.Errorf("%s: the loss went from %v to %v", name, first, last)
		}
	}
}

func TestGaussian(t *testing.T) {
	const n, c = 3, 2
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.NoGrad(func() {
		h := make([]float64, n*2*c*50*50)
		for i := range h {
			if i/2500%4 < c {
				h[i] = 0.5
			} else {
				h[i] = -1
			}
		}
		h[0], h[c*2500] = 1, 500 // limited to 20
		g := codec.NewGaussian(tape.Input(gpu.CPU().From64(h, n, 2*c, 50, 50)))
		z := g.Sample(ops.Noise{Seed: 3, Stream: 7}).Value().F64()
		var sum, square float64
		for _, v := range z[2500:] {
			sum += v
			square += (v - 0.5) * (v - 0.5)
		}
		m := float64(len(z) - 2500)
		if mean, va := sum/m, square/m; math.Abs(mean-0.5) > 5*math.Exp(-0.5)/math.Sqrt(m) || math.Abs(va*math.E-1) > 5*math.Sqrt(2/m) {
			t.Errorf("mean %v and variance %v, want 0.5 and 1/e", mean, va)
		}
		each := (0.25 + math.Exp(-1) + 1 - 1) / 2
		if kl := g.KL().Value().F64(); math.Abs(kl[1]-each*c*2500) > 1e-8 || math.Abs(kl[0]/(each*(c*2500-1)+(1+math.Exp(20)-20-1)/2)-1) > 5000*0x1p-52 {
			t.Errorf("divergences %v, want %v and with a variance of e^20", kl, each*c*2500)
		}
		nll := g.NLL(g.Mean).Value().F64()[1]
		if want := c * 2500 * (math.Log(2*math.Pi) - 1) / 2; math.Abs(nll-want) > 1e-8 {
			t.Errorf("negative log density at the mean %v, want %v", nll, want)
		}
	})
}

func TestPresets(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	net := func() *nn.Params { return nn.NewParams(gpu.CPU(), gpu.Float32) }
	a, b, c, d := net(), net(), net(), net()
	kl, q := codec.NewKL(a.At(""), codec.ShapesVAE()), codec.NewVQ(b.At(""), codec.ShapesVQ())
	vit, m := codec.NewViT(c.At(""), codec.ShapesViT()), codec.NewMotion(d.At(""), codec.MotionVQ(263))
	for _, p := range []*nn.Params{a, b, c, d} {
		p.Init(1)
	}
	tape.NoGrad(func() {
		x, frames := tape.Const(0.1, 2, 3, 32, 32), tape.Const(0.1, 2, 64, 263)
		if s := kl.Encode(x).Mean.Shape(); !slices.Equal(s, []int{2, 4, 8, 8}) {
			t.Errorf("shapes-vae: latents %v", s)
		}
		z, made := q.Encode(x, false)
		if gh, gw := q.Grid(32, 32); made.Index.Len() != 2*64 || gh != 8 || gw != 8 || !slices.Equal(q.Decode(z).Shape(), x.Shape()) {
			t.Errorf("shapes-vq: %d indices", made.Index.Len())
		}
		z, made = vit.Encode(x, codec.Text{}, false)
		if made.Index.Len() != 2*64 || !slices.Equal(vit.Decode(z).Shape(), x.Shape()) {
			t.Errorf("shapes-vit: %d indices", made.Index.Len())
		}
		z, r := m.Encode(frames, false, 0)
		if r.Index.Len() != 2*16 || !slices.Equal(m.Decode(z).Shape(), frames.Shape()) {
			t.Errorf("motion-vq: %d indices", r.Index.Len())
		}
	})
	t.Logf("parameters: vae %d, vq %d, vit %d, motion %d", a.Count(), b.Count(), c.Count(), d.Count())
}

func TestBadConfigs(t *testing.T) {
	conv := codec.Config{Latent: 4, Widths: []int{8, 16}}
	vit := codec.ViTConfig{Size: 8, Patch: 2, Width: 8, Heads: 2, Depth: 1, Latent: 3}
	motion := codec.MotionConfig{Channels: 5, Width: 4, Codes: vq.ResidualConfig{Book: vq.Config{Codes: 4, Width: 2}}}
	for _, err := range []error{conv.Check(), vit.Check(), motion.Check(), codec.ShapesVQ().Check()} {
		if err != nil {
			t.Error(err)
		}
	}
	change := func(f func(c *codec.Config)) error { c := conv; f(&c); return c.Check() }
	changeViT := func(f func(c *codec.ViTConfig)) error { c := vit; f(&c); return c.Check() }
	changeMotion := func(f func(c *codec.MotionConfig)) error { c := motion; f(&c); return c.Check() }
	for want, err := range map[string]error{
		"Channels is -1":              change(func(c *codec.Config) { c.Channels = -1 }),
		"Latent is 0":                 change(func(c *codec.Config) { c.Latent = 0 }),
		"Widths is empty":             change(func(c *codec.Config) { c.Widths = nil }),
		"Widths[1] is 12, want":       change(func(c *codec.Config) { c.Widths = []int{8, 12} }),
		"Blocks is -1":                change(func(c *codec.Config) { c.Blocks = -1 }),
		"Groups is -1":                change(func(c *codec.Config) { c.Groups = -1 }),
		"AttendAt has level 2, want":  change(func(c *codec.Config) { c.AttendAt = []int{2} }),
		"Size is 9 and Patch 2":       changeViT(func(c *codec.ViTConfig) { c.Size = 9 }),
		"Width is 10 in 2 Heads":      changeViT(func(c *codec.ViTConfig) { c.Width = 10 }),
		"Hidden is -1":                changeViT(func(c *codec.ViTConfig) { c.Hidden = -1 }),
		"Depth is 0 and":              changeViT(func(c *codec.ViTConfig) { c.Depth = 0 }),
		"Tokens is -1":                changeViT(func(c *codec.ViTConfig) { c.Tokens = -1 }),
		"Text is -1":                  changeViT(func(c *codec.ViTConfig) { c.Text = -1 }),
		"Codes.Width is 5 and Latent": changeViT(func(c *codec.ViTConfig) { c.Codes = &vq.Config{Codes: 4, Width: 5} }),
		"vq: Codes is 1":              changeViT(func(c *codec.ViTConfig) { c.Codes = &vq.Config{Codes: 1, Width: 3} }),
		"Channels is 0":               changeMotion(func(c *codec.MotionConfig) { c.Channels = 0 }),
		"Width is 0":                  changeMotion(func(c *codec.MotionConfig) { c.Width = 0 }),
		"Downs is -1":                 changeMotion(func(c *codec.MotionConfig) { c.Downs = -1 }),
		"Depth is 30":                 changeMotion(func(c *codec.MotionConfig) { c.Depth = 30 }),
		"vq: Levels is -1":            changeMotion(func(c *codec.MotionConfig) { c.Codes.Levels = -1 }),
		"Book.Width is 2 and Latent 4": codec.VQConfig{
			Config: codec.Config{Latent: 4, Widths: []int{8}, NoQuantConv: true}, Book: vq.Config{Codes: 4, Width: 2},
		}.Check(),
		"pictures of shape [1 2 8 8], want [n, 3": conv.CheckPictures([]int{1, 2, 8, 8}),
		"pictures of 8×7, want multiples of 2":    conv.CheckPictures([]int{1, 3, 8, 7}),
		"pictures of shape [1 3 8 9], want":       vit.CheckPictures([]int{1, 3, 8, 9}),
		"motions of shape [1 8 4], want":          motion.CheckMotions([]int{1, 8, 4}),
		"motions of 7 frames, want a multiple of": motion.CheckMotions([]int{1, 7, 5}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
