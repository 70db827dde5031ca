package unet_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

var _ models.Net = (*unet.UNet)(nil)

// everything is a small network that takes all there is.
func everything() unet.Config {
	return unet.Config{
		Channels: 2, Extra: 1, Out: 4, Base: 8, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{2}, HeadWidth: 8, ScaleShift: true,
		Classes: 3, NoneRow: true, Contexts: []unet.Context{{"text", 5}, {"image", 3}}, Vectors: []unet.Vector{{"size", 4}, {"age", 1}}, Dropout: 0.3,
	}
}

// configs are small networks with every option in one of them.
func configs() map[string]unet.Config {
	return map[string]unet.Config{
		"everything": everything(),
		"plain":      {Channels: 1, Base: 8, Mult: []int{1, 1, 2}, Blocks: 1, AttnAt: []int{1, 4}, Heads: 2, PadEnd: true, Classes: 2},
		"pool":       {Channels: 1, Base: 8, Mult: []int{2, 1}, Blocks: 2, NoMidAttn: true, PoolResample: true, ResidualScale: math.Sqrt(0.5), Waves: ops.WaveConfig{Width: 6}, Embed: 12},
		"resample":   {Channels: 1, Base: 8, Mult: []int{1, 1}, Blocks: 1, AttnAt: []int{1}, Attn: unet.Packed, ResampleBlocks: true, ScaleShift: true, Fourier: 0.5, Classes: 2, Labels: unet.Columns},
		"first":      {Channels: 1, Base: 8, Mult: []int{1, 1}, Blocks: 1, AttnAt: []int{1}, Attn: unet.PackedByChannel, UpLast: true, ResampleBlocks: true, ResampleSkip: true, Classes: 2, Labels: unet.ColumnsFirst},
		"self":       {Channels: 1, Base: 8, Mult: []int{1, 2}, Blocks: 1, AttnAt: []int{1}, Attn: unet.Separate, Transformer: true, Depth: []int{2, 1}, LinearIn: true, Heads: 2},
	}
}

// given is inputs of n samples for a network, drawn from seed.
func given(tape *nn.Tape, k models.Takes, n int, seed uint64) (x, time *nn.Var, in models.Inputs) {
	draw := func(shape ...int) *nn.Var {
		seed++
		size := 1
		for _, d := range shape {
			size *= d
		}
		return tape.Input(tape.Device().FromAs(tape.DType(), oracle.Normal(seed, size), shape...))
	}
	h, w := k.Height, k.Width
	if h == 0 {
		h, w = 2*k.Multiple, k.Multiple
	}
	x, time = draw(n, k.Channels, h, w), draw(n).Abs().Scale(3)
	if k.Classes > 0 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32((i + int(seed)) % (k.Classes + 1))
		}
		in.Classes = gpu.CPU().FromInt32(ids, n)
	}
	for i, name := range []string{"text", "image"} {
		if width := k.Tokens[name]; width > 0 {
			if in.Tokens == nil {
				in.Tokens = map[string]models.Tokens{}
			}
			lens := make([]int32, n)
			for j := range lens {
				lens[j] = int32((j + i) % 4)
			}
			in.Tokens[name] = models.Tokens{States: draw(n, 3, width), Lens: gpu.CPU().FromInt32(lens, n)}
		}
	}
	for _, name := range []string{"size", "age"} {
		if width := k.Vectors[name]; width > 0 {
			if in.Vectors == nil {
				in.Vectors = map[string]*nn.Var{}
			}
			in.Vectors[name] = draw(n, width)
		}
	}
	if k.Extra > 0 {
		in.Extra = draw(n, k.Extra, h, w)
	}
	return x, time, in
}

// built is a network whose layers that start at zero do not.
func built(c unet.Config, dt gpu.DType) *unet.UNet {
	net := nn.NewParams(gpu.CPU(), dt)
	u := unet.New(net.At("net"), c)
	awake(net)
	net.Init(1)
	return u
}

func awake(net *nn.Params) {
	for _, p := range net.All() {
		if !p.Frozen && len(p.Shape()) > 1 {
			p.Start = nn.FanIn
		} else if !p.Frozen {
			p.Start = nn.Normal(0.5)
		}
	}
}

func result(u *unet.UNet, n int) []float64 {
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	var y []float64
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), n, 10)
		y = append(y, u.Forward(x, time, in).Value().F64()...)
	})
	return y
}

// The gradients of whole networks against differences in random directions.
func TestGradients(t *testing.T) {
	for name, c := range configs() {
		t.Run(name, func(t *testing.T) {
			u := built(c, gpu.Float64)
			net := u.Params()
			u.Mask = ops.Mask{Seed: 4}
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			tape.Arena().Poison(true)
			loss := func(back bool) (v float64) {
				tape.Run(func() {
					x, time, in := given(tape, u.Takes(), 2, 20)
					y := u.Forward(x, time, in)
					if want := []int{2, u.Takes().Out, x.Shape()[2], x.Shape()[3]}; fmt.Sprint(y.Shape()) != fmt.Sprint(want) {
						t.Fatalf("shape %v, want %v", y.Shape(), want)
					}
					l := y.Mul(tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(7, y.Value().Len()), y.Shape()...))).Sum()
					if back {
						tape.Backward(l)
					}
					v = l.Item()
				})
				return v
			}
			loss(true)
			for dir := range uint64(3) {
				d, want := oracle.Normal(90+dir, net.Value().Len()), 0.0
				for _, p := range net.All() { // padding between parameters is not theirs, nor are frozen ones moved
					if p.Frozen {
						continue
					}
					for i, g := range p.Grad().F64() {
						want += g * float64(d[i%len(d)])
					}
				}
				move := func(h float64) {
					for _, p := range net.All() {
						if !p.Frozen {
							for i := range p.Value.F64() {
								p.Value.F64()[i] += h * float64(d[i%len(d)])
							}
						}
					}
				}
				const h = 1e-5
				move(h)
				up := loss(false)
				move(-2 * h)
				got := (up - loss(false)) / (2 * h)
				move(h)
				if !(math.Abs(got-want) <= 1e-5*math.Abs(want)+1e-6) {
					t.Errorf("direction %d: differences give %.9g, the gradient %.9g", dir, got, want)
				}
			}
		})
	}
}

// The derivative in a direction of pictures and times, which consistency and mean flows need,
// against differences.
func TestDirections(t *testing.T) {
	for name, c := range configs() {
		u := built(c, gpu.Float64)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		at := func(h float64, jvp bool) (y []float64) {
			tape.Run(func() {
				x, time, in := given(tape, u.Takes(), 2, 20)
				dx := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, x.Value().Len()), x.Shape()...)
				dt := gpu.CPU().From64([]float64{1, -0.5}, 2)
				x, time = tape.Leaf(x.Add(tape.Input(dx).Scale(h)).Value()), tape.Leaf(time.Add(tape.Input(dt).Scale(h)).Value())
				out := u.Forward(x, time, in)
				if jvp {
					out = tape.JVP(out, []*nn.Var{x, time}, []*gpu.Tensor{dx, dt})
				}
				y = append(y, out.Value().F64()...)
			})
			return y
		}
		const h = 1e-5
		got, up, low := at(0, true), at(h, false), at(-h, false)
		for i, v := range got {
			if want := (up[i] - low[i]) / (2 * h); !(math.Abs(v-want) <= 1e-6*(1+math.Abs(want))) {
				t.Fatalf("%s: %v at %d, differences give %v", name, v, i, want)
			}
		}
	}
}

// A sample's prediction does not depend on what else is in the batch.
func TestBatches(t *testing.T) {
	u := built(everything(), gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), 3, 30)
		all := u.Forward(x, time, in).Value().F64()
		size := len(all) / 3
		row := func(v *nn.Var) *nn.Var { return v.Slice(0, 1, 1) }
		one := models.Inputs{
			Classes: gpu.CPU().FromInt32(in.Classes.I32()[1:2], 1), Extra: row(in.Extra), Tokens: map[string]models.Tokens{}, Vectors: map[string]*nn.Var{},
		}
		for name, tok := range in.Tokens {
			one.Tokens[name] = models.Tokens{States: row(tok.States), Lens: gpu.CPU().FromInt32(tok.Lens.I32()[1:2], 1)}
		}
		for name, v := range in.Vectors {
			one.Vectors[name] = row(v)
		}
		got := u.Forward(row(x), row(time), one).Value().F64()
		oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return all[size+i] })
	})
}

// At first a network predicts zeros, its blocks being the identity; and it is a function of
// everything that it is told.
func TestStartAndInputs(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	fresh := unet.New(net.At(""), everything())
	net.Init(1)
	for i, v := range result(fresh, 2) {
		if v != 0 {
			t.Fatalf("at first, %v at %d", v, i)
		}
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	// A block that starts at zero hands on what it was given.
	var before, after []float64
	tape.OnTap("input_blocks.0.0", func(x *nn.Var) *nn.Var { before = append(before, x.Value().F64()...); return x })
	tape.OnTap("input_blocks.1.0", func(x *nn.Var) *nn.Var { after = append(after, x.Value().F64()...); return x })
	tape.Run(func() {
		x, time, in := given(tape, fresh.Takes(), 2, 10)
		fresh.Forward(x, time, in)
	})
	if len(after) == 0 || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("a residual block changes its input at first")
	}
	u := built(everything(), gpu.Float64)
	tape = nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), 2, 10)
		plain := u.Forward(x, time, in).Value().F64()
		differs := func(what string, y *nn.Var) {
			t.Helper()
			for i, v := range y.Value().F64() {
				if math.Abs(v-plain[i]) > 1e-6 {
					return
				}
			}
			t.Errorf("%s makes no difference", what)
		}
		differs("the time", u.Forward(x, time.Affine(1, 1), in))
		for name, change := range map[string]func(in *models.Inputs){
			"the class": func(in *models.Inputs) { in.Classes = gpu.CPU().FromInt32([]int32{2, 2}, 2) },
			"the text":  func(in *models.Inputs) { in.Tokens["text"] = models.Tokens{States: in.Tokens["text"].States.Scale(2)} },
			"the image": func(in *models.Inputs) {
				in.Tokens["image"] = models.Tokens{States: in.Tokens["image"].States, Lens: gpu.CPU().FromInt32([]int32{0, 0}, 2)}
			},
			"the size":           func(in *models.Inputs) { in.Vectors["size"] = in.Vectors["size"].Neg() },
			"the extra channels": func(in *models.Inputs) { in.Extra = in.Extra.Neg() },
		} {
			_, _, other := given(tape, u.Takes(), 2, 10)
			change(&other)
			differs(name, u.Forward(x, time, other))
		}
	})
}

// "No class" without an embedding of its own is the embedding of the time alone.
func TestNoClass(t *testing.T) {
	c := configs()["plain"]
	with := built(c, gpu.Float64)
	c.Classes = 0
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	without := unet.New(net.At("net"), c)
	net.Init(2)
	for _, p := range net.All() {
		p.Value.Copy(with.Params().Get(p.Name).Value)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x, time, _ := given(tape, with.Takes(), 2, 10)
		want := without.Forward(x, time, models.Inputs{}).Value().F64()
		got := with.Forward(x, time, models.Inputs{Classes: gpu.CPU().FromInt32([]int32{2, 2}, 2)}).Value().F64()
		oracle.Close64(t, got, oracle.Tol{Abs: 1e-13}, func(i int) float64 { return want[i] })
	})
}

// Random waves by their formula.
func TestFourier(t *testing.T) {
	u := built(configs()["resample"], gpu.Float64)
	freqs := u.Params().Get("net.time_proj.weight")
	if freqs == nil || !freqs.Frozen || freqs.Shape()[0] != 4 {
		t.Fatal("no frequencies, or they are trained")
	}
	w0, b0 := u.Params().Get("net.time_embed.0.weight").Value.F64(), u.Params().Get("net.time_embed.0.bias").Value.F64()
	w2, b2 := u.Params().Get("net.time_embed.2.weight").Value.F64(), u.Params().Get("net.time_embed.2.bias").Value.F64()
	silu := func(v float64) float64 { return v / (1 + math.Exp(-v)) }
	width := len(b0)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		_, time, in := given(tape, u.Takes(), 1, 10)
		var waves [8]float64
		for i, f := range freqs.Value.F64() {
			a := 2 * math.Pi * f * time.Value().F64()[0]
			waves[i], waves[4+i] = math.Cos(a), math.Sin(a)
		}
		h := make([]float64, width)
		for i := range h {
			h[i] = b0[i]
			for j, v := range waves {
				h[i] += w0[i*8+j] * v
			}
			h[i] = silu(h[i])
		}
		want := append([]float64(nil), b2...)
		for i := range want {
			for j, v := range h {
				want[i] += w2[i*width+j] * v
			}
		}
		in.Classes = gpu.CPU().FromInt32([]int32{2}, 1) // none
		got := unet.Embedding(u, time, in).Value().F64()
		oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return silu(want[i]) })
	})
}

func TestConfigCheck(t *testing.T) {
	for want, change := range map[string]func(c *unet.Config){
		"Channels: 0, want":        func(c *unet.Config) { c.Channels = 0 },
		"Base: 0":                  func(c *unet.Config) { c.Base = 0 },
		"Blocks: 0":                func(c *unet.Config) { c.Blocks = 0 },
		"Out: -1":                  func(c *unet.Config) { c.Out = -1 },
		"Mult: []":                 func(c *unet.Config) { c.Mult = nil },
		"Mult: [1 0]":              func(c *unet.Config) { c.Mult = []int{1, 0} },
		"AttnAt: [3]":              func(c *unet.Config) { c.AttnAt = []int{3} },
		"AttnAt: [4], want powers": func(c *unet.Config) { c.AttnAt = []int{4} },
		"Labels: 9":                func(c *unet.Config) { c.Labels = 9 },
		"Labels: 1 with NoneRow":   func(c *unet.Config) { c.Labels = unet.Columns },
		"Attn: 7":                  func(c *unet.Config) { c.Attn = 7 },
		"Depth: [1]":               func(c *unet.Config) { c.Depth = []int{1} },
		"Height: 9×8":              func(c *unet.Config) { c.Height, c.Width = 9, 8 },
		"Height: 8×0":              func(c *unet.Config) { c.Height = 8 },
		"Dropout: 1":               func(c *unet.Config) { c.Dropout = 1 },
		"Eps: -1":                  func(c *unet.Config) { c.Eps = -1 },
		"PoolResample":             func(c *unet.Config) { c.PoolResample, c.ResampleBlocks = true, true },
		"Waves: 7":                 func(c *unet.Config) { c.Waves.Width = 7 },
		"Contexts":                 func(c *unet.Config) { c.Contexts = append(c.Contexts, unet.Context{Name: "text", Width: 2}) },
		"Contexts: 5 of them":      func(c *unet.Config) { c.Contexts = []unet.Context{{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}, {"e", 1}} },
		"Vectors":                  func(c *unet.Config) { c.Vectors = []unet.Vector{{"", 2}} },
		"Groups: 3 for 8":          func(c *unet.Config) { c.Groups = 3 },
		"Heads: 0 of width 12":     func(c *unet.Config) { c.HeadWidth = 12 },
		"Heads: 5":                 func(c *unet.Config) { c.Heads, c.HeadWidth = 5, 0 },
	} {
		c := everything()
		change(&c)
		err := c.Check()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "unet: Config.") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for name, c := range configs() {
		if err := c.Check(); err != nil {
			t.Error(name, err)
		}
	}
	for _, name := range unet.Presets() {
		c, err := unet.Preset(name)
		if err == nil {
			err = c.Check()
		}
		if err != nil {
			t.Error(name, err)
		}
	}
	if _, err := unet.Preset("big"); err == nil || !strings.Contains(err.Error(), "adm-imagenet64") {
		t.Errorf("unknown preset: %v", err)
	}
}

func TestForwardRefuses(t *testing.T) {
	u := built(everything(), gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x, time, in := given(tape, u.Takes(), 2, 10)
	oracle.Refuses(t, map[string]func(){
		"wants a vector":     func() { u.Forward(x, time, models.Inputs{Classes: in.Classes, Tokens: in.Tokens}) },
		"times of shape [1]": func() { u.Forward(x, time.Slice(0, 0, 1), in) },
		"multiples of 2":     func() { u.Forward(x.Slice(2, 0, 3), time, in) },
	})
}

// The presets for two processor cores are small.
func TestPresetSizes(t *testing.T) {
	for name, most := range map[string]int{"mnist-unet": 1_500_000, "shapes-unet": 2_000_000} {
		c, err := unet.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		unet.New(net.At(""), c)
		if n := net.Count(); n < 500_000 || n > most {
			t.Errorf("%s has %d parameters, want 0.5 million to %d", name, n, most)
		}
	}
}
