package dit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// tiny is a base of configurations.
func tiny() Config {
	return Config{Height: 4, Width: 6, Channels: 2, Patch: 1, Dim: 8, Depth: 2, Heads: 2, Classes: 3, Ratio: 2}
}

// variants use every part there is at least once.
func variants() map[string]Config {
	all := map[string]Config{}
	add := func(name string, change func(c *Config)) {
		c := tiny()
		change(&c)
		all[name] = c
	}
	add("dit", func(c *Config) { c.Sigma, c.Patch = LearnSigma, 2 })
	add("sit", func(c *Config) { c.Sigma, c.Extra, c.Vectors = DropSigma, 1, map[string]int{"size": 2, "pooled": 3} })
	add("lightning", func(c *Config) { c.Norm, c.MLP, c.Rotary, c.QKNorm = RMS, SwiGLU, true, nn.QKRMS })
	add("no shift", func(c *Config) { c.Norm, c.MLP, c.Modulation, c.Classes = Layer, GEGLU, AdaLNNoShift, 0 })
	add("cross", func(c *Config) { c.Tokens = map[string]int{"text": 5, "image": 3} })
	add("join", func(c *Config) {
		c.Tokens, c.TokenUse, c.Places, c.JoinLength, c.Rotary = map[string]int{"text": 5}, JoinTokens, Learned, 3, true
	})
	add("uvit", func(c *Config) {
		c.Depth, c.Norm, c.MLP, c.Modulation, c.Places, c.NoQKVBias = 3, Layer, GELU, NoModulation, Learned, true
		c.TimeToken, c.ClassToken, c.LongSkips, c.FinalConv = true, true, true, true
	})
	add("stem", func(c *Config) { c.Stem, c.Extra, c.Sigma = 3, 1, DropSigma })
	add("skips", func(c *Config) { c.Depth, c.LongSkips = 3, true })
	add("ramp", func(c *Config) {
		c.Norm, c.Modulation, c.ClassToken, c.TimeRamp, c.FinalConv = TimeRMS, NoModulation, true, [2]float64{2, -1}, true
	})
	add("ramp and modulation", func(c *Config) {
		c.Norm, c.TimeRamp, c.Places, c.PlainTime = TimeRMS, [2]float64{2, -1}, NoPlaces, true
	})
	add("sparse", func(c *Config) {
		c.Depth, c.Blocks, c.Grid, c.Rotary = 6, []BlockKind{Pool, Merge, Merge, Dense, Recover, Dense}, 3, true
	})
	add("convolutions", func(c *Config) { c.Depth, c.Blocks, c.Grid = 4, []BlockKind{ConvNeXt, Merge, ConvNeXt, Recover}, 3 })
	add("convolutions without modulation", func(c *Config) {
		c.Blocks, c.Classes, c.Norm, c.MLP, c.Modulation, c.TimeRamp = []BlockKind{ConvNeXt, ConvNeXt}, 0, TimeRMS, GEGLU, NoModulation, [2]float64{2, -1}
	})
	add("sparse without bias", func(c *Config) {
		c.Depth, c.Blocks, c.Grid, c.NoQKVBias = 3, []BlockKind{Pool, Merge, Recover}, 2, true
	})
	return all
}

// build is a network whose parameters are all away from zero, unless fresh.
func build(c Config, dt gpu.DType, fresh bool) *Net {
	net := nn.NewParams(gpu.CPU(), dt)
	n := New(net.At(""), c)
	if !fresh {
		for _, p := range net.All() {
			p.Start = nn.Normal(0.4)
		}
	}
	net.Init(7)
	return n
}

// batch is inputs for a network, all different.
type batch struct {
	x, time, extra, gates *gpu.Tensor
	classes               *gpu.Tensor
	tokens, vectors       map[string]*gpu.Tensor
	lens                  *gpu.Tensor
}

func inputsOf(c *Config, dt gpu.DType, n int) batch {
	normal := func(seed uint64, shape ...int) *gpu.Tensor {
		size := 1
		for _, d := range shape {
			size *= d
		}
		return gpu.CPU().FromAs(dt, oracle.Normal(seed, size), shape...)
	}
	b := batch{
		x: normal(1, n, c.Channels, c.Height, c.Width), time: gpu.CPU().FromAs(dt, []float32{0.25, 0.75, 0.5}[:n], n),
		tokens: map[string]*gpu.Tensor{}, vectors: map[string]*gpu.Tensor{}, gates: normal(2, n, c.Depth),
	}
	if c.Extra > 0 {
		b.extra = normal(3, n, c.Extra, c.Height, c.Width)
	}
	if c.Classes > 0 {
		b.classes = gpu.CPU().FromInt32([]int32{2, int32(c.Classes), 0}[:n], n)
	}
	for i, name := range sorted(c.Tokens) {
		b.tokens[name] = normal(10+uint64(i), n, 3, c.Tokens[name])
		b.lens = gpu.CPU().FromInt32([]int32{2, 3, 1}[:n], n)
	}
	for i, name := range sorted(c.Vectors) {
		b.vectors[name] = normal(20+uint64(i), n, c.Vectors[name])
	}
	return b
}

// on puts the inputs on a tape; leaf makes those with gradients.
func (b *batch) on(tape *nn.Tape, leaf func(*gpu.Tensor) *nn.Var) (x, time *nn.Var, in models.Inputs, o Options) {
	in = models.Inputs{Classes: b.classes}
	if b.extra != nil {
		in.Extra = leaf(b.extra)
	}
	if len(b.tokens) > 0 {
		in.Tokens = map[string]models.Tokens{}
	}
	for name, t := range b.tokens {
		in.Tokens[name] = models.Tokens{States: leaf(t), Lens: b.lens}
	}
	if len(b.vectors) > 0 {
		in.Vectors = map[string]*nn.Var{}
	}
	for name, t := range b.vectors {
		in.Vectors[name] = leaf(t)
	}
	if b.gates != nil {
		o.Gates = leaf(b.gates)
	}
	return leaf(b.x), leaf(b.time), in, o
}

// run is the result for inputs, copied off the tape.
func run(n *Net, b batch, o Options) []float64 {
	tape := nn.NewTape(gpu.CPU(), n.Params().DType())
	var y []float64
	tape.NoGrad(func() {
		b.gates = nil
		x, time, in, _ := b.on(tape, tape.Input)
		y = floats(n.ForwardWith(x, time, in, o).Value())
	})
	return y
}

func TestGradients(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			n := build(c, gpu.Float64, false)
			b := inputsOf(&c, gpu.Float64, 2)
			var goal []float32
			pass := func(tape *nn.Tape, leaf func(*gpu.Tensor) *nn.Var) *nn.Var {
				x, time, in, o := b.on(tape, leaf)
				y := n.ForwardWith(x, time, in, o)
				if want := []int{2, n.Takes().Out, c.Height, c.Width}; !slices.Equal(y.Shape(), want) {
					t.Fatalf("shape %v, want %v", y.Shape(), want)
				}
				goal = oracle.Normal(9, y.Value().Len())
				return y.Mul(tape.Input(gpu.CPU().FromAs(gpu.Float64, goal, y.Shape()...))).Sum()
			}
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			tape.Arena().Poison(true)
			value := func() (v float64) {
				tape.Reset()
				tape.NoGrad(func() { v = pass(tape, tape.Input).Item() })
				return v
			}
			leaves := map[*gpu.Tensor]*nn.Var{}
			tape.Backward(pass(tape, func(x *gpu.Tensor) *nn.Var {
				leaves[x] = tape.Leaf(x)
				return leaves[x]
			}))
			grads := map[string][]float64{}
			values := map[string]*gpu.Tensor{}
			for _, p := range n.Params().All() {
				grads[p.Name], values[p.Name] = slices.Clone(p.Grad().F64()), p.Value
			}
			for what, x := range map[string]*gpu.Tensor{"x": b.x, "time": b.time, "extra": b.extra, "gates": b.gates} {
				if x != nil {
					grads[what], values[what] = slices.Clone(leaves[x].Grad().F64()), x
				}
			}
			for _, m := range []map[string]*gpu.Tensor{b.tokens, b.vectors} {
				for what, x := range m {
					grads[what], values[what] = slices.Clone(leaves[x].Grad().F64()), x
				}
			}
			for what, g := range grads {
				v := values[what].F64()
				old, dir, want := slices.Clone(v), oracle.Normal(11, len(v)), 0.0
				var size float64
				for i, d := range dir {
					want += g[i] * float64(d)
					size += math.Abs(g[i] * float64(d))
				}
				const step = 1e-5
				at := func(h float64) float64 {
					for i := range v {
						v[i] = old[i] + h*float64(dir[i])
					}
					return value()
				}
				got := (at(step) - at(-step)) / (2 * step)
				copy(v, old)
				if d := math.Abs(got - want); !(d <= 1e-6*(size+1)) {
					t.Errorf("%s: the gradient gives %v in a direction, differences %v", what, want, got)
				}
				// Biases of keys change nothing (and of queries and keys where all places are equal): their gradient is 0.
				if size == 0 {
					t.Errorf("%s: no gradient", what)
				}
			}
		})
	}
}

// A fresh network with modulation gives zeros, and its blocks give what they got.
func TestStart(t *testing.T) {
	for name, c := range variants() {
		if c.Modulation == NoModulation || c.LongSkips {
			continue
		}
		n := build(c, gpu.Float32, true)
		b := inputsOf(&c, gpu.Float32, 2)
		for i, v := range run(n, b, Options{}) {
			if v != 0 {
				t.Fatalf("%s: element %d of a fresh network is %v, want 0", name, i, v)
			}
		}
		// Blocks on the same tokens give what they got.
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		var got [][]float64
		for _, b := range n.Blocks {
			tape.OnTap(b.tap.out, func(v *nn.Var) *nn.Var {
				got = append(got, floats(v.Value()))
				return v
			})
		}
		x, time, in, _ := b.on(tape, tape.Input)
		n.Forward(x, time, in)
		for i := 1; i < len(got); i++ {
			if k := n.Blocks[i].Kind; (k == Dense || n.Blocks[i-1].Kind == Merge && k == Merge) && !slices.Equal(got[i-1], got[i]) {
				t.Errorf("%s: fresh block %d changes its tokens", name, i)
			}
			if n.Blocks[i].Kind == Recover && !slices.Equal(got[0], got[i]) { // block 0 is before Merge
				t.Errorf("%s: fresh block %d does not recover the tokens before Merge", name, i)
			}
		}
		if len(got) != c.Depth {
			t.Errorf("%s: %d taps, want %d", name, len(got), c.Depth)
		}
	}
}

// Samples do not see each other.
func TestSamplesAreApart(t *testing.T) {
	for name, c := range variants() {
		n := build(c, gpu.Float64, false)
		three, two := inputsOf(&c, gpu.Float64, 3), inputsOf(&c, gpu.Float64, 2)
		for _, pair := range [][2]*gpu.Tensor{{three.x, two.x}, {three.extra, two.extra}} {
			if pair[0] != nil {
				copy(pair[1].F64(), pair[0].F64())
			}
		}
		for _, m := range [][2]map[string]*gpu.Tensor{{three.tokens, two.tokens}, {three.vectors, two.vectors}} {
			for k, v := range m[1] {
				copy(v.F64(), m[0][k].F64())
			}
		}
		all, some := run(n, three, Options{}), run(n, two, Options{})
		for i, v := range some {
			if math.Abs(v-all[i]) > 1e-12*(1+math.Abs(v)) {
				t.Fatalf("%s: element %d is %v in a batch of 2, %v in one of 3", name, i, v, all[i])
			}
		}
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for name, c := range variants() {
		n := build(c, gpu.Float32, true)
		b := inputsOf(&c, gpu.Float32, 2)
		in := models.Inputs{Classes: b.classes, Tokens: map[string]models.Tokens{}, Vectors: map[string]*nn.Var{}}
		t.Run(name, func(t *testing.T) {
			network.StepsAllocateNothing(t, n.Params(), gpu.Float32, func(tape *nn.Tape) *nn.Var {
				for k, v := range b.tokens {
					in.Tokens[k] = models.Tokens{States: tape.Input(v), Lens: b.lens}
				}
				for k, v := range b.vectors {
					in.Vectors[k] = tape.Input(v)
				}
				if b.extra != nil {
					in.Extra = tape.Input(b.extra)
				}
				return n.ForwardWith(tape.Input(b.x), tape.Input(b.time), in, Options{Gates: tape.Input(b.gates)}).Square().Mean()
			})
		})
	}
}

func TestTaps(t *testing.T) {
	c := tiny()
	n := build(c, gpu.Float32, false)
	b := inputsOf(&c, gpu.Float32, 2)
	plain := run(n, b, Options{})
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	seen := map[string][]int{}
	for _, name := range []string{"blocks.0", "blocks.0.attn", "blocks.1.mlp", "blocks.1.attn.q", "blocks.1.attn.maps", "blocks.1.attn.out", "blocks.2"} {
		tape.OnTap(name, func(v *nn.Var) *nn.Var {
			seen[name] = slices.Clone(v.Shape())
			return v
		})
	}
	x, time, in, _ := b.on(tape, tape.Input)
	y := floats(n.Forward(x, time, in).Value())
	for name, want := range map[string][]int{
		"blocks.0": {2, 24, 8}, "blocks.0.attn": {2, 24, 8}, "blocks.1.mlp": {2, 24, 8}, "blocks.1.attn.q": {2, 24, 2, 4},
		"blocks.1.attn.maps": {2, 2, 24, 24}, "blocks.1.attn.out": {2, 24, 8},
	} {
		if !slices.Equal(seen[name], want) {
			t.Errorf("tap %s saw shape %v, want %v", name, seen[name], want)
		}
	}
	if seen["blocks.2"] != nil {
		t.Error("a tap of a block that is not there was called")
	}
	for i := range y {
		if math.Abs(y[i]-plain[i]) > 1e-5*(1+math.Abs(y[i])) {
			t.Fatalf("looking changes element %d from %v to %v", i, plain[i], y[i])
		}
	}
	// Without its branches a block is the identity.
	for _, tap := range []string{"blocks.1.attn", "blocks.1.mlp"} {
		tape.OnTap(tap, func(v *nn.Var) *nn.Var { return v.Scale(0) })
	}
	x, time, in, _ = b.on(tape, tape.Input)
	y = floats(n.Forward(x, time, in).Value())
	for i, v := range run(n, b, Options{Skip: []bool{false, true}}) {
		if math.Abs(v-y[i]) > 1e-5*(1+math.Abs(v)) {
			t.Fatalf("element %d is %v without branches, %v without the block", i, y[i], v)
		}
	}
}

func mustPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		v := recover()
		if s, ok := v.(string); !ok || !strings.Contains(s, want) {
			t.Errorf("recovered %v, want %q", v, want)
		}
	}()
	f()
}
