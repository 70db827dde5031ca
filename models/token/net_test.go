package token_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/token"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// kinds are networks of each kind, small.
var kinds = map[string]token.Config{
	"plain":    {Causal: true},
	"tied":     {Causal: true, Tied: true, Places: token.SinCos, Act: tower.GELUTanh},
	"rotary":   {Causal: true, Places: token.Rotary, RMS: true, Act: tower.SwiGLU, NoBias: true, KVHeads: 1, QKNorm: nn.QKRMS},
	"post":     {Causal: true, Post: true, Act: tower.QuickGELU},
	"class":    {Causal: true, Classes: 3, Places: token.Rotary},
	"text":     {Causal: true, Front: 5, Places: token.SinCos},
	"both":     {Causal: true, Classes: 3, Front: 5, Ada: 6},
	"cross":    {Causal: true, Cross: 5, Places: token.Rotary, Halves: true},
	"modulate": {Causal: true, Ada: 6, Places: token.None},
	"masked":   {Places: token.Learned},
	"filled":   {Classes: 3, Cross: 5, Ada: 6, Out: 9},
}

// made is a network of a kind whose parameters are all at work, and inputs for it.
func made(t testing.TB, kind string, dt gpu.DType, batch int) (*nn.Params, *token.Net, func(tape *nn.Tape) token.Inputs) {
	t.Helper()
	c := kinds[kind]
	c.Vocab, c.MaxLen, c.Width, c.Depth, c.Heads = 7, 24, 12, 2, 2
	net := nn.NewParams(gpu.CPU(), dt)
	m := token.New(net.At(""), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0.3)
	}
	net.Init(4)
	front, cond := gpu.CPU().FromAs(dt, oracle.Normal(1, batch*4*5), batch, 4, 5), gpu.CPU().FromAs(dt, oracle.Normal(2, batch*6), batch, 6)
	lens, classes := make([]int32, batch), make([]int32, batch)
	for i := range lens {
		lens[i], classes[i] = int32(4-i%3), int32(i%4)
	}
	l, k := gpu.CPU().FromInt32(lens, batch), gpu.CPU().FromInt32(classes, batch)
	return net, m, func(tape *nn.Tape) token.Inputs {
		var in token.Inputs
		if c.Classes > 0 {
			in.Classes = k
		}
		if c.Front > 0 {
			in.Front = nn.Context{States: tape.Input(front), Lens: l}
		}
		if c.Cross > 0 {
			in.Context = nn.Context{States: tape.Input(front), Lens: l}
		}
		if c.Ada > 0 {
			in.Cond = tape.Input(cond)
		}
		return in
	}
}

// text is ids of batch sequences of n tokens.
func text(batch, n int) *gpu.Tensor {
	v := make([]int32, batch*n)
	for i := range v {
		v[i] = int32((i*i + 3*i/n) % 7)
	}
	return gpu.CPU().FromInt32(v, batch, n)
}

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

// logits is Forward's result, outside of the tape.
func logits(tape *nn.Tape, m *token.Net, ids *gpu.Tensor, in func(*nn.Tape) token.Inputs) (v []float64, shape []int) {
	tape.Run(func() {
		y := m.Forward(tape, ids, in(tape))
		v, shape = floats(y.Value()), slices.Clone(y.Shape())
	})
	return v, shape
}

func TestShapesAndGradients(t *testing.T) {
	for kind, c := range kinds {
		net, m, in := made(t, kind, gpu.Float64, 2)
		_, shape := logits(nn.NewTape(gpu.CPU(), gpu.Float64), m, text(2, 5), in)
		want := []int{2, 5, 7}
		if c.Causal && (c.Classes > 0 || c.Front > 0) {
			want[1]++
		}
		if c.Out > 0 {
			want[2] = c.Out
		}
		if !slices.Equal(shape, want) {
			t.Errorf("%s: logits of shape %v, want %v", kind, shape, want)
		}
		t.Run(kind, func(t *testing.T) {
			network.Directions(t, net, 4, 1e-6, func(tape *nn.Tape) *nn.Var {
				x := in(tape)
				if !c.Causal {
					x.Lens = gpu.CPU().FromInt32([]int32{4, 6}, 2)
				}
				return m.Forward(tape, text(2, 5), x).Tanh().Sum()
			})
		})
	}
}

// What comes later changes nothing before it, to the last bit; what comes before does.
func TestCausality(t *testing.T) {
	for kind, c := range kinds {
		if !c.Causal {
			continue
		}
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			_, m, in := made(t, kind, dt, 2)
			tape := nn.NewTape(gpu.CPU(), dt)
			ids := text(2, 9)
			before, shape := logits(tape, m, ids, in)
			const at = 5
			for b := range 2 {
				ids.I32()[b*9+at] = (ids.I32()[b*9+at] + 1) % 7
			}
			after, _ := logits(tape, m, ids, in)
			extra := shape[1] - 9 // predicted by what is in front
			moved := 0
			for i := range before {
				place := i / shape[2] % shape[1]
				if place < at+extra && before[i] != after[i] {
					t.Fatalf("%s, %v: the logits at %d changed with token %d", kind, dt, place-extra, at)
				}
				if place >= at+extra && before[i] != after[i] {
					moved++
				}
			}
			if want := 2 * (9 - at) * shape[2]; moved < want*9/10 {
				t.Errorf("%s, %v: %d of %d logits from the changed token on moved", kind, dt, moved, want)
			}
		}
	}
	_, m, in := made(t, "masked", gpu.Float64, 1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	ids := text(1, 9)
	before, _ := logits(tape, m, ids, in)
	ids.I32()[8]++
	after, _ := logits(tape, m, ids, in)
	if before[0] == after[0] {
		t.Error("a network that is not causal does not see what comes later")
	}
}

// A sequence's logits do not depend on those beside it.
func TestBatchMates(t *testing.T) {
	for kind := range kinds {
		_, m, in := made(t, kind, gpu.Float32, 3)
		_, one, in1 := made(t, kind, gpu.Float32, 1)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		all, _ := logits(tape, m, text(3, 6), in)
		alone, _ := logits(tape, one, gpu.CPU().FromInt32(text(3, 6).I32()[:6], 1, 6), in1)
		for i, v := range alone {
			if math.Abs(v-all[i]) > 1e-5*(1+math.Abs(v)) {
				t.Fatalf("%s: logit %d is %v alone and %v among others", kind, i, v, all[i])
			}
		}
	}
}

// A vector that modulates and cross-attention's layers start without effect where they should.
func TestModulationStartsAsNothing(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	b := tower.NewBlock(net.At("b"), tower.BlockConfig{Width: 8, Heads: 2, Ada: 3})
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 2*5*8), 2, 5, 8))
	c := tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(2, 6), 2, 3))
	if y := b.Forward(x, &tower.Call{Cond: c}); !slices.Equal(floats(y.Value()), floats(x.Value())) {
		t.Error("a block that a vector modulates is not the identity at the start")
	}
}

func TestDropoutIsReplayed(t *testing.T) {
	_, m, in := made(t, "plain", gpu.Float32, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	run := func(seed uint64, p float64) []float64 {
		v, _ := logits(tape, m, text(2, 5), func(tape *nn.Tape) token.Inputs {
			x := in(tape)
			x.Drop.Seed, x.Drop.P = seed, p
			return x
		})
		return v
	}
	if !slices.Equal(run(1, 0.3), run(1, 0.3)) {
		t.Error("the same mask gives other logits")
	}
	if slices.Equal(run(1, 0.3), run(2, 0.3)) || slices.Equal(run(1, 0.3), run(1, 0)) {
		t.Error("the mask has no effect")
	}
}

func TestStepsOfTrainingAllocateNothing(t *testing.T) {
	for _, kind := range []string{"tied", "rotary", "both", "cross", "masked"} {
		for _, dt := range []gpu.DType{gpu.Float32} {
			net, m, in := made(t, kind, dt, 2)
			ids, n := text(2, 6), 6
			if c := m.Config; c.Causal && (c.Classes > 0 || c.Front > 0) {
				n++
			}
			labels := text(2, n)
			t.Run(kind, func(t *testing.T) {
				network.StepsAllocateNothing(t, net, dt, func(tape *nn.Tape) *nn.Var {
					return nn.CrossEntropy(m.Forward(tape, ids, in(tape)), labels, 0).Mean()
				})
			})
		}
	}
}

func TestCountsOfParameters(t *testing.T) {
	for _, c := range []struct {
		config token.Config
		want   int
	}{
		{token.GPT2(), 124_439_808}, // as transformers counts them
		{token.DigitsAR(), 4*12*96*96 + 4*13*96 + 2*96 + (16+49+11+16)*96},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		token.New(net.At(""), c.config)
		if got := net.Count(); got != c.want {
			t.Errorf("%+v has %d values, want %d", c.config, got, c.want)
		}
	}
}

func TestBadConfigs(t *testing.T) {
	good := token.Config{Vocab: 7, MaxLen: 8, Width: 12, Depth: 1, Heads: 2}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(c *token.Config){
		"Vocab is -1":                  func(c *token.Config) { c.Vocab = -1 },
		"Out is -2":                    func(c *token.Config) { c.Out = -2 },
		"Out is 0 with Vocab 0":        func(c *token.Config) { c.Vocab = 0 },
		"MaxLen is 0":                  func(c *token.Config) { c.MaxLen = 0 },
		"Depth is 0":                   func(c *token.Config) { c.Depth = 0 },
		"Heads is 5 for Width 12":      func(c *token.Config) { c.Heads = 5 },
		"KVHeads is 3":                 func(c *token.Config) { c.KVHeads = 3 },
		"Width is 0":                   func(c *token.Config) { c.Width = 0 },
		"Hidden is -1":                 func(c *token.Config) { c.Hidden = -1 },
		"Places 9 is none":             func(c *token.Config) { c.Places = 9 },
		"makes heads of 3":             func(c *token.Config) { c.Places, c.Heads = token.Rotary, 4 },
		"Width is 9":                   func(c *token.Config) { c.Places, c.Width, c.Heads = token.SinCos, 9, 3 },
		"Tied with Out 5":              func(c *token.Config) { c.Tied, c.Out = true, 5 },
		"Ada with Post":                func(c *token.Config) { c.Ada, c.Post = 3, true },
		"Ada is -1":                    func(c *token.Config) { c.Ada = -1 },
		"Act 7 is none":                func(c *token.Config) { c.Act = 7 },
		"QKNorm 9 is none":             func(c *token.Config) { c.QKNorm = 9 },
		"Cross is -1":                  func(c *token.Config) { c.Cross = -1 },
		"Classes is -1":                func(c *token.Config) { c.Classes = -1 },
		"Front is -2":                  func(c *token.Config) { c.Front = -2 },
		"Theta is NaN":                 func(c *token.Config) { c.Theta = math.NaN() },
		"Eps is -1":                    func(c *token.Config) { c.Eps = -1 },
		"heads of 400, want at most 2": func(c *token.Config) { c.Width, c.Heads = 800, 2 },
	} {
		c := good
		f(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}

func TestMisuse(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	_, plain, none := made(t, "plain", gpu.Float32, 2)
	_, class, _ := made(t, "class", gpu.Float32, 2)
	_, masked, _ := made(t, "masked", gpu.Float32, 2)
	_, ada, _ := made(t, "modulate", gpu.Float32, 2)
	states := nn.Context{States: tape.Input(gpu.CPU().Zeros(gpu.Float32, 2, 3, 5))}
	oracle.Refuses(t, map[string]func(){
		"ids of shape [4], want [B, L]":       func() { plain.Forward(tape, gpu.CPU().FromInt32(make([]int32, 4), 4), none(tape)) },
		"places 0 to 29, the network has 24":  func() { plain.Forward(tape, text(1, 30), none(tape)) },
		"classes given: false":                func() { class.Forward(tape, text(2, 3), token.Inputs{}) },
		"classes given: true":                 func() { plain.Forward(tape, text(2, 3), token.Inputs{Classes: gpu.CPU().FromInt32([]int32{0, 1}, 2)}) },
		"1 classes for 2 sequences":           func() { class.Forward(tape, text(2, 3), token.Inputs{Classes: gpu.CPU().FromInt32([]int32{0}, 1)}) },
		"states in front given: true":         func() { plain.Forward(tape, text(2, 3), token.Inputs{Front: states}) },
		"for a network without Cross":         func() { plain.Forward(tape, text(2, 3), token.Inputs{Context: states}) },
		"lengths for a causal network":        func() { plain.Forward(tape, text(2, 3), token.Inputs{Lens: gpu.CPU().FromInt32([]int32{1, 2}, 2)}) },
		"a vector of shape []":                func() { ada.Forward(tape, text(2, 3), token.Inputs{}) },
		"for a block without Ada":             func() { plain.Forward(tape, text(2, 3), token.Inputs{Cond: tape.Const(0, 2, 6)}) },
		"the network is not causal":           func() { masked.NewCache(tape, 2, 5, 0) },
		"room for 5 tokens, 5 pinned":         func() { plain.NewCache(tape, 2, 5, 5) },
		"for a cache of 2 sequences":          func() { plain.Step(plain.NewCache(tape, 2, 5, 0), tape, text(3, 1)) },
		"Truncate: to 3 of 0 tokens":          func() { plain.NewCache(tape, 2, 5, 0).Truncate(3) },
		"vectors of shape [2 3 5], want":      func() { plain.ForwardStates(states.States, none(tape)) },
		"id 7 at 0, want 0 to 6":              func() { plain.Forward(tape, gpu.CPU().FromInt32([]int32{7}, 1, 1), none(tape)) },
		"an encoder that is causal: true":     func() { token.NewPair(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), plain.Config, plain.Config) },
		"token: Vocab is -3":                  func() { token.New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), token.Config{Vocab: -3}) },
		"a mask of shape [1 4 4] for queries": func() { plain.Forward(tape, text(2, 3), token.Inputs{Mask: nn.BlockCausal(4).Pairs}) },
	})
}
