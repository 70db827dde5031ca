package tower_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

// convPair has the convolutional tower in the vision transformer's place.
func convPair() tower.CLIPConfig {
	c := small()
	c.Conv = &tower.ConvConfig{Widths: []int{4, 8}, Groups: 2}
	return c
}

// plainPair has the network of plain layers there.
func plainPair() tower.CLIPConfig {
	c := small()
	c.Plain = &tower.PlainConfig{Widths: []int{4, 8}, Steps: []int{2, 1}, Groups: 2, Out: 6}
	return c
}

func pictures(dt gpu.DType, n int) *gpu.Tensor {
	return gpu.CPU().FromAs(dt, oracle.Normal(11, n*3*64), n, 3, 8, 8)
}

func texts() *gpu.Tensor {
	return gpu.CPU().FromInt32([]int32{1, 5, 9, 29, 0, 0, 1, 7, 7, 3, 28, 29, 29, 2, 2, 0, 0, 0}, 3, 6)
}

func made(t testing.TB, c tower.CLIPConfig, dt gpu.DType) (*nn.Params, *tower.CLIP) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	m := tower.NewCLIP(net.At(""), c)
	for _, p := range net.All() {
		if p != m.LogScale {
			p.Start = nn.Normal(0.3)
		}
	}
	net.Init(3)
	return net, m
}

func TestPairsOfTowers(t *testing.T) {
	for name, c := range map[string]tower.CLIPConfig{"vit": small(), "conv": convPair(), "plain": plainPair()} {
		net, m := made(t, c, gpu.Float64)
		t.Run(name, func(t *testing.T) {
			network.Directions(t, net, 4, 1e-6, func(tape *nn.Tape) *nn.Var {
				return m.Loss(m.ImageEmbedding(tape.Input(pictures(gpu.Float64, 3))), m.TextEmbedding(tape, texts()))
			})
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			tokens, pooled := m.Image.Forward(tape.Input(pictures(gpu.Float64, 3)))
			want := map[string][2][]int{"vit": {{3, 5, 16}, {3, 16}}, "conv": {{3, 16, 8}, {3, 8}}, "plain": {{3, 16, 8}, {3, 6}}}[name]
			if !slices.Equal(tokens.Shape(), want[0]) || !slices.Equal(pooled.Shape(), want[1]) {
				t.Errorf("tokens %v and a vector %v, want %v", tokens.Shape(), pooled.Shape(), want)
			}
			for r, v := range floats(m.ImageEmbedding(tape.Input(pictures(gpu.Float64, 3))).Square().Sum(1).Value()) {
				if math.Abs(v-1) > 1e-12 {
					t.Errorf("the squared length of embedding %d is %v", r, v)
				}
			}
			network32, m32 := made(t, c, gpu.Float32)
			x, ids := pictures(gpu.Float32, 3), texts()
			network.StepsAllocateNothing(t, network32, gpu.Float32, func(tape *nn.Tape) *nn.Var {
				return m32.Loss(m32.ImageEmbedding(tape.Input(x)), m32.TextEmbedding(tape, ids))
			})
		})
	}
}

// The vectors of a picture and of a text depend on nothing beside them and nothing after the end.
func TestVectorsOfTheirOwn(t *testing.T) {
	for _, c := range []tower.CLIPConfig{small(), convPair(), plainPair()} {
		_, m := made(t, c, gpu.Float64)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		all := floats(m.ImageEmbedding(tape.Input(pictures(gpu.Float64, 3))).Value())
		one := floats(m.ImageEmbedding(tape.Input(pictures(gpu.Float64, 3).Rows(1, 2))).Value())
		for i, v := range one {
			if math.Abs(v-all[10+i]) > 1e-12 {
				t.Fatalf("element %d is %v alone, %v among others", i, v, all[10+i])
			}
		}
		before := floats(m.TextEmbedding(tape, texts()).Value())
		other := texts()
		copy(other.I32()[4:], []int32{17, 29})
		if after := floats(m.TextEmbedding(tape, other).Value()); !slices.Equal(before, after) {
			t.Error("a text's vector changes with its padding")
		}
		other.I32()[2] = 8
		if after := floats(m.TextEmbedding(tape, other).Value()); slices.Equal(before[:10], after[:10]) || !slices.Equal(before[10:], after[10:]) {
			t.Error("a text's vector does not change with the text, or others' do")
		}
		if lens := m.Text.Lens(tape, texts()).I32(); !slices.Equal(lens, []int32{4, 6, 1}) {
			t.Errorf("lengths %v, want 4, 6 and 1", lens)
		}
	}
	c := small()
	c.Text.End = -1
	_, m := made(t, c, gpu.Float64)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	if lens := m.Text.Lens(tape, gpu.CPU().FromInt32([]int32{1, 4, 2, 4, 3, 0, 0, 0}, 2, 4)).I32(); !slices.Equal(lens, []int32{2, 1}) {
		t.Errorf("lengths up to the greatest id %v, want 2 and 1", lens)
	}
}

// The results of blocks and levels can be looked at and replaced.
func TestTapsOfTowers(t *testing.T) {
	for _, c := range []tower.CLIPConfig{small(), convPair(), plainPair()} {
		_, m := made(t, c, gpu.Float32)
		var taps []string
		switch i := m.Image.(type) {
		case *tower.ViT:
			taps = i.Body.Taps()
		case *tower.Conv:
			taps = i.Taps()
		case *tower.Plain:
			taps = i.Taps()
		}
		taps = append(slices.Clone(taps), m.Text.Body.Taps()...)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		var seen []string
		for _, name := range taps {
			tape.OnTap(name, func(x *nn.Var) *nn.Var {
				seen = append(seen, name)
				return x
			})
		}
		m.ImageEmbedding(tape.Input(pictures(gpu.Float32, 1)))
		m.TextEmbedding(tape, texts())
		if !slices.Equal(seen, taps) || len(taps) != 4 || taps[2] != "text_model.encoder.layers.0" {
			t.Errorf("taps %v passed %v", taps, seen)
		}
	}
}

// logSumExp is by its definition.
func logSumExp(v []float64) (s float64) {
	for _, e := range v {
		s += math.Exp(e)
	}
	return math.Log(s)
}

func TestNCE(t *testing.T) {
	const b, d, e = 4, 3, 2
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	in := func(seed uint64, shape ...int) *nn.Var {
		n := 1
		for _, s := range shape {
			n *= s
		}
		return tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(seed, n), shape...)).Unit(0)
	}
	q, k, shared, own, scale := in(1, b, d), in(2, b, d), in(3, e, d), in(4, b, e, d), tape.Const(7)
	dot := func(x []float64, i int, y []float64, j int) (s float64) {
		for c := range d {
			s += x[i*d+c] * y[j*d+c]
		}
		return 7 * s
	}
	qv, kv, sv, ov := floats(q.Value()), floats(k.Value()), floats(shared.Value()), floats(own.Value())
	for name, c := range map[string]struct {
		o     tower.NCE
		extra *nn.Var
		other func(i int) []float64
	}{
		"in batch": {tower.NCE{InBatch: true}, nil, func(int) []float64 { return nil }},
		"and shared": {tower.NCE{InBatch: true}, shared, func(i int) []float64 {
			return []float64{dot(qv, i, sv, 0), dot(qv, i, sv, 1)}
		}},
		"and own": {tower.NCE{InBatch: true}, own, func(i int) []float64 {
			return []float64{dot(qv, i, ov, i*e), dot(qv, i, ov, i*e+1)}
		}},
		"own alone": {tower.NCE{}, own, func(i int) []float64 {
			return []float64{dot(qv, i, ov, i*e), dot(qv, i, ov, i*e+1)}
		}},
		"shared alone": {tower.NCE{}, shared, func(i int) []float64 {
			return []float64{dot(qv, i, sv, 0), dot(qv, i, sv, 1)}
		}},
	} {
		var want float64
		for i := range b {
			all := c.other(i)
			for j := range b {
				if c.o.InBatch || i == j {
					all = append(all, dot(qv, i, kv, j))
				}
			}
			want += (logSumExp(all) - dot(qv, i, kv, i)) / b
		}
		if got := c.o.Loss(q, k, c.extra, scale).Item(); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestClones(t *testing.T) {
	net, m := made(t, small(), gpu.Float32)
	frozen, its := m.Clone(false)
	free, _ := m.Clone(true)
	a, err := tower.Fingerprint(net)
	b, err2 := tower.Fingerprint(its)
	if err != nil || err2 != nil || a != b || len(a) != 64 {
		t.Errorf("fingerprints %q and %q of a network and its copy (%v, %v)", a, b, err, err2)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Input(pictures(gpu.Float32, 2))
	if frozen.ImageEmbedding(x).NeedsGrad() || !free.ImageEmbedding(x).NeedsGrad() {
		t.Error("a frozen copy wants gradients, or a free one does not")
	}
	if !slices.Equal(floats(frozen.ImageEmbedding(x).Value()), floats(m.ImageEmbedding(x).Value())) {
		t.Error("the copy gives other vectors")
	}
	m.LogScale.Value.F32()[0] = 9
	m.ClampScale()
	if s := m.Scale(tape).Item(); math.Abs(s-100) > 1e-3 {
		t.Errorf("the scale is %v after ClampScale, want 100", s)
	}
	if c, err := tower.Fingerprint(net); err != nil || c == a {
		t.Errorf("the fingerprint stays %q after a change (%v)", c, err)
	}
}

func TestCountsOfTowers(t *testing.T) {
	for _, c := range []struct {
		config tower.CLIPConfig
		want   int
	}{
		{tower.ViTB32(), 151_277_313}, // as transformers counts openai/clip-vit-base-patch32
		{tower.TinyCLIP(), 4*(4*97*96+97*384+385*96+4*96) + (1+48+65+4)*96 + 3*(4*65*64+65*256+257*64+4*64) + (64+16+2)*64 + (96+64)*64 + 1},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		tower.NewCLIP(net.At(""), c.config)
		if got := net.Count(); got != c.want {
			t.Errorf("%+v has %d values, want %d", c.config, got, c.want)
		}
	}
}

// A pair learns which text goes with which picture, in as many steps as a test may take.
func TestPairLearns(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	m := tower.NewCLIP(net.At(""), convPair())
	net.Init(1)
	opt := nn.NewAdam(net, nn.AdamOptions{})
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	const n = 6
	v, ids := oracle.Normal(5, n*3*64), make([]int32, n*3)
	for i := range n {
		for j := range 3 * 64 { // a picture of one colour and noise
			v[i*192+j] = 0.3*v[i*192+j] + float32((i>>(j/64))&1)
		}
		copy(ids[3*i:], []int32{1, int32(3 + i), 29})
	}
	x, text := gpu.CPU().From(v, n, 3, 8, 8), gpu.CPU().FromInt32(ids, n, 3)
	var first, last float64
	for step := range 60 {
		tape.Run(func() {
			loss := m.Loss(m.ImageEmbedding(tape.Input(x)), m.TextEmbedding(tape, text))
			tape.Backward(loss)
			last = loss.Item()
		})
		if step == 0 {
			first = last
		}
		opt.Step(3e-3)
		m.ClampScale()
	}
	if first < 1 || last > 0.1 {
		t.Errorf("the loss went from %v to %v, want from over 1 (log 6 is 1.8) to under 0.1", first, last)
	}
}

func TestBadTowers(t *testing.T) {
	for want, f := range map[string]func(c *tower.CLIPConfig){
		"Embed is 0":                     func(c *tower.CLIPConfig) { c.Embed = 0 },
		"Patch is 3 for Size 8":          func(c *tower.CLIPConfig) { c.Vision.Patch = 3 },
		"Channels is -1":                 func(c *tower.CLIPConfig) { c.Vision.Channels = -1 },
		"Depth is 0, want at least 1 (V": func(c *tower.CLIPConfig) { c.Vision.Depth = 0 },
		"Depth is 0, want at least 1 (T": func(c *tower.CLIPConfig) { c.Text.Depth = 0 },
		"Heads is 3 for Width 16":        func(c *tower.CLIPConfig) { c.Vision.Heads = 3 },
		"Vocab is 0":                     func(c *tower.CLIPConfig) { c.Text.Vocab = 0 },
		"MaxLen is 0":                    func(c *tower.CLIPConfig) { c.Text.MaxLen = 0 },
		"End is 30":                      func(c *tower.CLIPConfig) { c.Text.End = 30 },
		"Widths is empty":                func(c *tower.CLIPConfig) { c.Conv = &tower.ConvConfig{} },
		"Widths[1] is 12, want a multip": func(c *tower.CLIPConfig) { c.Conv = &tower.ConvConfig{Widths: []int{8, 12}} },
		"Groups is -1":                   func(c *tower.CLIPConfig) { c.Conv = &tower.ConvConfig{Widths: []int{8}, Groups: -1} },
		"Channels is -2":                 func(c *tower.CLIPConfig) { c.Conv = &tower.ConvConfig{Widths: []int{8}, Channels: -2} },
	} {
		c := small()
		f(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	_, m := made(t, small(), gpu.Float32)
	_, conv := made(t, convPair(), gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, gru := tape.Const(0, 2, 3), tower.NewGRU(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), 3, 2, 1, false)
	oracle.Refuses(t, map[string]func(){
		"pictures of shape [2 3 4 8], want [B, 3, 8, 8]": func() { m.Image.Forward(tape.Const(0, 2, 3, 4, 8)) },
		"pictures of shape [2 1 4 8], want [B, 3, H, W]": func() { conv.Image.Forward(tape.Const(0, 2, 1, 4, 8)) },
		"ids of shape [1 9], want [B, 1 to 8]":           func() { m.Text.Forward(tape, gpu.CPU().FromInt32(make([]int32, 9), 1, 9)) },
		"text 1 of shape [2 2] has no end, id 29":        func() { m.Text.Forward(tape, gpu.CPU().FromInt32([]int32{1, 29, 0, 0}, 2, 2)) },
		"queries of shape [2 3] and keys of shape [3 3]": func() { tower.NCE{}.Loss(x, tape.Const(0, 3, 3), nil, tape.Const(1)) },
		"more keys of shape [4 2] for queries":           func() { tower.NCE{}.Loss(x, x, tape.Const(0, 4, 2), tape.Const(1)) },
		"a query has no other keys":                      func() { tower.NCE{}.Loss(x, x, nil, tape.Const(1)) },
		"sequences of shape [2 3], want [B, at least 1":  func() { gru.Forward(x, nil) },
		"1 lengths for sequences of shape [2 4 3]":       func() { gru.Forward(tape.Const(0, 2, 4, 3), gpu.CPU().FromInt32([]int32{1}, 1)) },
		"0 inputs, 2 hidden, 1 layers":                   func() { tower.NewGRU(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), 0, 2, 1, false) },
		"tower: Embed is 0":                              func() { tower.NewCLIP(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), tower.CLIPConfig{}) },
		"NewStack: 0 blocks":                             func() { tower.NewStack(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), 0, tower.BlockConfig{}) },
	})
}

func TestFromOpenAIRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		name  string
		shape []int
	}{
		`"visual.layer1.0.conv1.weight", which CLIP with a vision`: {"visual.layer1.0.conv1.weight", []int{2}},
		`"transformer.resblocks.0.mlp.c_gate.weight", which a bl`:  {"transformer.resblocks.0.mlp.c_gate.weight", []int{2}},
		"has shape [4 2], want [3·width, ...]":                     {"transformer.resblocks.0.attn.in_proj_weight", []int{4, 2}},
		"visual.proj has shape [8], want two axes":                 {"visual.proj", []int{8}},
	} {
		n := 1
		for _, d := range c.shape {
			n *= d
		}
		path := t.TempDir() + "/x.safetensors"
		if err := tensor.WriteSafetensors(path, []tensor.SafetensorsEntry{{Name: c.name, Array: tensor.FromF32(make([]float32, n), c.shape...)}}, nil); err != nil {
			t.Fatal(err)
		}
		f, err := tensor.OpenSafetensors(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tower.FromOpenAI(f); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("the error is %v, want %q and the file's name in it", err, want)
		}
		f.Close()
	}
}

func TestGRUTrains(t *testing.T) {
	for _, both := range []bool{false, true} {
		net := nn.NewParams(gpu.CPU(), gpu.Float64)
		m := tower.NewGRU(net.At("gru"), 3, 4, 2, both)
		net.Init(1)
		x, lens := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 2*5*3), 2, 5, 3), gpu.CPU().FromInt32([]int32{5, 2}, 2)
		for _, l := range []*gpu.Tensor{nil, lens} {
			network.Directions(t, net, 3, 1e-6, func(tape *nn.Tape) *nn.Var {
				y, last := m.Forward(tape.Input(x), l)
				return y.Square().Sum().Add(last.Square().Sum())
			})
			network.StepsAllocateNothing(t, net, gpu.Float64, func(tape *nn.Tape) *nn.Var {
				_, last := m.Forward(tape.Input(x), l)
				return last.Square().Sum()
			})
		}
	}
}
