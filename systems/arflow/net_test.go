package arflow

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

func tiny() Config {
	return Config{Height: 4, Width: 6, Channels: 2, Patch: 2, Dim: 8, Depth: 2, Heads: 2, Classes: 3, TimeFactor: 100}
}

// stirred is a network whose layers that begin at zero do not.
func stirred(dev *gpu.Device, dt gpu.DType, c Config) *Net {
	p := nn.NewParams(dev, dt)
	n := New(p.At(""), c)
	for _, q := range p.All() {
		q.Start = nn.Normal(0.3)
	}
	p.Init(1)
	return n
}

// shown is n pictures, times and classes.
func shown(tape *nn.Tape, c Config, n int) (x, time *nn.Var, in models.Inputs) {
	classes, times := make([]int32, n), make([]float32, n)
	for i := range n {
		classes[i], times[i] = int32(i%(c.Classes+1)), 0.11*float32(i%9)
	}
	x = tape.Input(tape.Device().FromAs(tape.DType(), oracle.Normal(2, n*c.Channels*c.Height*c.Width), n, c.Channels, c.Height, c.Width))
	if c.Classes > 0 {
		in.Classes = gpu.CPU().FromInt32(classes, n)
	}
	return x, tape.Input(tape.Device().FromAs(tape.DType(), times, n)), in
}

func values(t *testing.T, v *nn.Var) []float64 {
	t.Helper()
	out := make([]float64, v.Value().Len())
	if err := v.Value().Read64(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Steps with the state between them are the sequence; a state of zeros is none; and a step does not change the state that it was given.
func TestStepsAreTheSequence(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, gate := range Gates {
			for _, parts := range []int{0, 3} {
				for dt, tol := range map[gpu.DType]float64{gpu.Float64: 1e-12, gpu.Float32: 1e-5} {
					c := tiny()
					c.Gate, c.Parts = gate, parts
					net, tape := stirred(dev, dt, c), nn.NewTape(dev, dt)
					const seqs, length = 2, 4
					tape.Run(func() {
						x, time, in := shown(tape, c, seqs*length)
						want := values(t, net.Sequence(x, time, in, length))
						size := len(want) / (seqs * length)
						var past []*nn.Var
						for _, shape := range net.State() {
							past = append(past, tape.Const(0, append([]int{seqs}, shape...)...))
						}
						for i := range length {
							pick := func(v *nn.Var) *nn.Var {
								s := append([]int{seqs, length}, v.Shape()[1:]...)
								return v.Reshape(s...).Slice(1, i, 1).Reshape(append([]int{seqs}, v.Shape()[1:]...)...)
							}
							ids := make([]int32, seqs)
							for b := range ids {
								ids[b] = in.Classes.I32()[b*length+i]
							}
							one := models.Inputs{Classes: gpu.CPU().FromInt32(ids, seqs)}
							given := values(t, past[0])
							y, next := net.Step(pick(x), pick(time), one, past)
							if apart(values(t, past[0]), given) != 0 {
								t.Error("a step changes the state that it was given")
							}
							got := values(t, y)
							for b := range seqs {
								if e := apart(got[b*size:][:size], want[(b*length+i)*size:][:size]); e > tol {
									t.Errorf("gate %q, %d parts, %v: step %d of sequence %d is %g from the sequence", gate, parts, dt, i, b, e)
								}
							}
							if alone := values(t, net.Forward(pick(x), pick(time), one)); i == 0 && apart(got, alone) > tol {
								t.Errorf("a state of zeros is not none: %g", apart(got, alone))
							} else if i > 0 && apart(got, alone) < 1e-4 {
								t.Errorf("step %d is the same without its past", i)
							}
							past = next
						}
					})
				}
			}
		}
	})
}

// A picture's velocity depends on those before it in its sequence, not on those after it, nor on other sequences.
func TestNothingIsSeenAhead(t *testing.T) {
	c := tiny()
	net, tape := stirred(gpu.CPU(), gpu.Float64, c), nn.NewTape(gpu.CPU(), gpu.Float64)
	const seqs, length, changed = 2, 5, 2 // of the first sequence
	tape.Run(func() {
		x, time, in := shown(tape, c, seqs*length)
		before := values(t, net.Sequence(x, time, in, length))
		size := len(before) / (seqs * length)
		for i := range size {
			x.Value().F64()[changed*size+i] += 0.3
		}
		after := values(t, net.Sequence(x, time, in, length))
		for k := range seqs * length {
			e := apart(before[k*size:][:size], after[k*size:][:size])
			if sees := k >= changed && k < length; sees != (e > 1e-6) || !sees && e != 0 {
				t.Errorf("picture %d changes by %g with picture %d", k, e, changed)
			}
		}
	})
}

// It begins with velocity 0, learns by every parameter once it does not, and gradients of a sequence are differences.
func TestGradients(t *testing.T) {
	c := tiny()
	fresh := nn.NewParams(gpu.CPU(), gpu.Float32)
	zero := New(fresh.At(""), c)
	fresh.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	tape.Run(func() {
		x, time, in := shown(tape, c, 4)
		for _, v := range values(t, zero.Sequence(x, time, in, 2)) {
			if v != 0 {
				t.Fatal("a network that was never trained predicts something")
			}
		}
	})
	net := stirred(gpu.CPU(), gpu.Float64, c)
	tape = nn.NewTape(gpu.CPU(), gpu.Float64)
	loss := func(back bool) (v float64) {
		tape.Run(func() {
			x, time, in := shown(tape, c, 6)
			y := net.Sequence(x, time, in, 3)
			l := y.Mul(tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, y.Value().Len()), y.Shape()...))).Sum()
			if v = l.Item(); back {
				tape.Backward(l)
			}
		})
		return v
	}
	loss(true)
	for _, p := range net.params.All() {
		g := p.Grad().F64()
		most := 0
		for i := range g {
			if math.Abs(g[i]) > math.Abs(g[most]) {
				most = i
			}
		}
		if g[most] == 0 {
			t.Errorf("%s has no gradient", p.Name)
		}
		const step = 1e-5
		w := p.Value.F64()
		was := w[most]
		w[most] = was + step
		hi := loss(false)
		w[most] = was - step
		lo := loss(false)
		w[most] = was
		if want := (hi - lo) / (2 * step); math.Abs(g[most]-want) > 1e-5*(1+math.Abs(want)) {
			t.Errorf("%s: gradient %g, differences say %g", p.Name, g[most], want)
		}
	}
}

func TestSequencesAllocateNothing(t *testing.T) {
	c := tiny()
	net, tape := stirred(gpu.CPU(), gpu.Float32, c), nn.NewTape(gpu.CPU(), gpu.Float32)
	x, time := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(2, 10*48), 10, 2, 4, 6), gpu.CPU().New(gpu.Float32, 10)
	in := models.Inputs{Classes: gpu.CPU().New(gpu.Int32, 10)}
	f := func() { tape.Backward(net.Sequence(tape.Input(x), tape.Input(time), in, 5).Sum()) }
	step := func() { tape.Run(f) }
	step()
	step()
	if n := oracle.Allocations(3, step); n != 0 {
		t.Errorf("%g allocations a step", n)
	}
}

// Names, shapes and numbers of the published networks, which were read from their code; nothing is laid out for it.
func TestPublishedNames(t *testing.T) {
	c, err := Preset("ar-xl-2")
	if err != nil {
		t.Fatal(err)
	}
	p := nn.NewParams(gpu.CPU(), gpu.Float32)
	n := New(p.At(""), c)
	have := map[string]string{"pos_embed": fmt.Sprint(n.place.Shape())}
	for _, q := range p.All() {
		have[q.Name] = fmt.Sprint(q.Shape())
		if q.Value != nil {
			t.Fatalf("%s is laid out", q.Name)
		}
	}
	want := map[string]string{}
	for _, line := range strings.Split(`x_embedder.proj.weight [1152 4 2 2]
x_embedder.proj.bias [1152]
pos_embed [1 256 1152]
t_embedder.mlp.0.weight [1152 256]
t_embedder.mlp.0.bias [1152]
t_embedder.mlp.2.weight [1152 1152]
t_embedder.mlp.2.bias [1152]
y_embedder.embedding_table.weight [1001 1152]
blocks.N.attn.q_proj.weight [1152 1152]
blocks.N.attn.k_proj.weight [1152 1152]
blocks.N.attn.v_proj.weight [1152 1152]
blocks.N.attn.g_proj.weight [1152 1152]
blocks.N.attn.gt_proj.weight [18 1152]
blocks.N.attn.out_proj.weight [1152 1152]
blocks.N.mlp.fc1.weight [4608 1152]
blocks.N.mlp.fc1.bias [4608]
blocks.N.mlp.fc2.weight [1152 4608]
blocks.N.mlp.fc2.bias [1152]
blocks.N.adaLN_modulation.1.weight [6912 1152]
blocks.N.adaLN_modulation.1.bias [6912]
final_layer.linear.weight [32 1152]
final_layer.linear.bias [32]
final_layer.adaLN_modulation.1.weight [2304 1152]
final_layer.adaLN_modulation.1.bias [2304]`, "\n") {
		name, shape, _ := strings.Cut(line, " [")
		if !strings.Contains(name, ".N.") {
			want[name] = "[" + shape
			continue
		}
		for i := range 28 {
			want[strings.Replace(name, ".N.", fmt.Sprintf(".%d.", i), 1)] = "[" + shape
		}
	}
	for name, shape := range want {
		if have[name] != shape {
			t.Errorf("%s is %q, want %s", name, have[name], shape)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d tensors, want %d", len(have), len(want))
	}
	// By hand: a block has 5 d² + 18 d of attention, 8 d² + 5 d of the MLP, 6 d² + 6 d of its condition.
	const d = 1152
	if count := d*17 + (256*d + d) + (d*d + d) + 1001*d + 28*(19*d*d+29*d) + (32*d + 32) + (2*d*d + 2*d); p.Count() != count {
		t.Errorf("%d parameters, want %d", p.Count(), count)
	}
	for _, name := range Presets() {
		if c, err := Preset(name); err != nil || c.Check() != nil {
			t.Errorf("%s: %v, %v", name, err, c.Check())
		}
	}
	if _, err := Preset("ar-xl"); err == nil || !strings.Contains(err.Error(), "want one of ar-b-2") {
		t.Errorf("error %v", err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"chunks of 5 tokens; a picture has 6":      func(c *Config) { c.Chunk = 5 },
		"width 8 in 3 heads":                       func(c *Config) { c.Heads = 3 },
		"width 6; want a multiple of 4":            func(c *Config) { c.Dim = 6 },
		"patches of 4 do not fill pictures of 4×6": func(c *Config) { c.Patch = 4 },
		"6 tokens in 4 parts":                      func(c *Config) { c.Parts = 4 },
		`gate "loud"`:                              func(c *Config) { c.Gate = "loud" },
		"depth 0":                                  func(c *Config) { c.Depth = 0 },
		"a factor of times of -1":                  func(c *Config) { c.TimeFactor = -1 },
		"heads of width 512; want 256 at most":     func(c *Config) { c.Dim, c.Heads = 1024, 2 },
		"classes -1; want 0 or more":               func(c *Config) { c.Classes = -1 },
		"channels 0; want 1 or more":               func(c *Config) { c.Channels = 0 },
	} {
		c := tiny()
		if change(&c); c.Check() == nil || !strings.Contains(c.Check().Error(), want) {
			t.Errorf("error %v, want %q", c.Check(), want)
		}
	}
	c := tiny()
	c.Chunk = 6
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	net, tape := stirred(gpu.CPU(), gpu.Float32, tiny()), nn.NewTape(gpu.CPU(), gpu.Float32)
	x, time, in := shown(tape, tiny(), 4)
	oracle.Refuses(t, map[string]func(){
		"4 pictures in sequences of 3": func() { net.Sequence(x, time, in, 3) },
		"sequences of 0":               func() { net.Sequence(x, time, in, 0) },
		"the past of 1 blocks":         func() { net.Step(x, time, in, make([]*nn.Var, 1)) },
		"models: ":                     func() { net.Forward(x.Slice(1, 0, 1), time, in) },
	})
}

// A checkpoint under the published names, with the average beside the weights and what optimisers keep, is read; its network draws.
func TestPublishedCheckpoint(t *testing.T) {
	c := Config{Height: 16, Width: 16, Channels: 4, Patch: 8, Dim: 16, Depth: 2, Heads: 2, Classes: 10, LearnSigma: true} // as the authors' smallest, narrower
	from := stirred(gpu.CPU(), gpu.Float32, c)
	file := func(name string, edit func(list []tensor.SafetensorsEntry) []tensor.SafetensorsEntry) string {
		var list []tensor.SafetensorsEntry
		for _, n := range from.params.State() {
			v, err := n.Tensor.Floats()
			if err != nil {
				t.Fatal(err)
			}
			half := make([]float32, len(v))
			for i, e := range v {
				half[i] = e / 2
			}
			list = append(list, tensor.SafetensorsEntry{Name: "ema." + n.Name, Array: tensor.FromF32(v, n.Tensor.Shape()...)},
				tensor.SafetensorsEntry{Name: "model.module." + n.Name, Array: tensor.FromF32(half, n.Tensor.Shape()...)})
		}
		path := filepath.Join(t.TempDir(), name)
		if err := tensor.WriteSafetensors(path, edit(list), nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := file("both.safetensors", func(l []tensor.SafetensorsEntry) []tensor.SafetensorsEntry { return l })
	net, err := LoadPublished(gpu.CPU(), all, c)
	if err != nil {
		t.Fatal(err)
	}
	if e := apart(floats(t, net.params.Value()), floats(t, from.params.Value())); e != 0 {
		t.Errorf("the average is %g from what was written", e)
	}
	x, err := Draw(t.Context(), net, Request{N: 2, Steps: 3, Guidance: 1.5, Seed: 1})
	if err != nil || x.Len() != 2*4*16*16 {
		t.Errorf("%v, %v", x, err)
	}
	bare := file("bare.safetensors", func(l []tensor.SafetensorsEntry) (out []tensor.SafetensorsEntry) {
		for _, e := range l {
			if rest, ok := strings.CutPrefix(e.Name, "ema."); ok {
				e.Name = rest
				out = append(out, e)
			}
		}
		return out
	})
	if _, err := LoadPublished(gpu.CPU(), bare, c); err != nil {
		t.Error(err)
	}
	c.Dim = 32
	if _, err := LoadPublished(gpu.CPU(), bare, c); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("error %v", err)
	}
	lacks := file("lacks.safetensors", func(l []tensor.SafetensorsEntry) []tensor.SafetensorsEntry { return l[2:] })
	c.Dim = 16
	if _, err := LoadPublished(gpu.CPU(), lacks, c); err == nil || !strings.Contains(err.Error(), "1 tensors missing") {
		t.Errorf("error %v", err)
	}
}

func floats(t *testing.T, x *gpu.Tensor) []float64 {
	t.Helper()
	out := make([]float64, x.Len())
	if err := x.Read64(out); err != nil {
		t.Fatal(err)
	}
	return out
}
