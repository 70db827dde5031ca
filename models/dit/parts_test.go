package dit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

func TestBadConfigs(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"Height is 0": func(c *Config) { c.Height = 0 },
		"Heads is -1": func(c *Config) { c.Heads = -1 },
		"Patch 4 does not fill Height×Width 4×6":         func(c *Config) { c.Patch = 4 },
		"Dim 8 is no multiple of Heads 3":                func(c *Config) { c.Heads = 3 },
		"MLP 9 is none":                                  func(c *Config) { c.MLP = 9 },
		"Ratio 0.01 leaves no hidden width":              func(c *Config) { c.Ratio = 0.01 },
		"Norm 9 is none":                                 func(c *Config) { c.Norm = 9 },
		"NormEps is -1":                                  func(c *Config) { c.NormEps = -1 },
		"TimeRamp is missing":                            func(c *Config) { c.Norm = TimeRMS },
		"Modulation 9 is none":                           func(c *Config) { c.Modulation = 9 },
		"Places 9 is none":                               func(c *Config) { c.Places = 9 },
		"Dim 6 with Places SinCos":                       func(c *Config) { c.Dim = 6 },
		"Rotary with heads of width 2":                   func(c *Config) { c.Rotary, c.Heads = true, 4 },
		"QKNorm 9 is none":                               func(c *Config) { c.QKNorm = 9 },
		"Sigma 9 is none":                                func(c *Config) { c.Sigma = 9 },
		"Classes -1 and Extra 0":                         func(c *Config) { c.Classes = -1 },
		"TimeFactor is -1":                               func(c *Config) { c.TimeFactor = -1 },
		"TimeShift is 2":                                 func(c *Config) { c.TimeShift = 2 },
		"with PlainTime, want an even one of at least 4": func(c *Config) { c.Dim, c.Heads, c.Places, c.PlainTime = 2, 1, NoPlaces, true },
		"nothing sees the time":                          func(c *Config) { c.Modulation = NoModulation },
		"nothing sees the Classes":                       func(c *Config) { c.Modulation, c.TimeToken = NoModulation, true },
		"ClassToken without Classes":                     func(c *Config) { c.ClassToken, c.Classes = true, 0 },
		"nothing sees the Vectors": func(c *Config) {
			c.Modulation, c.Norm, c.TimeRamp, c.Classes, c.Vectors = NoModulation, TimeRMS, [2]float64{2, -1}, 0, map[string]int{"size": 1}
		},
		"Depth 2 with LongSkips":       func(c *Config) { c.LongSkips = true },
		"Stem 4 with LongSkips false":  func(c *Config) { c.Stem, c.FinalConv = 4, true },
		"Stem -1 with":                 func(c *Config) { c.Stem = -1 },
		`Tokens or Vectors "text" h`:   func(c *Config) { c.Tokens = map[string]int{"text": 0} },
		"TokenUse 9 is none":           func(c *Config) { c.TokenUse = 9 },
		"JoinTokens with 0 Tokens":     func(c *Config) { c.TokenUse = JoinTokens },
		"JoinLength is 0":              func(c *Config) { c.TokenUse, c.Tokens, c.Places = JoinTokens, map[string]int{"text": 2}, Learned },
		"1 Blocks for Depth 2":         func(c *Config) { c.Blocks = []BlockKind{Dense} },
		"Blocks with LongSkips":        func(c *Config) { c.Blocks, c.TimeToken = []BlockKind{Dense, Dense}, true },
		"block 1 is of kind 9":         func(c *Config) { c.Blocks = []BlockKind{Dense, 9} },
		"block 0 recovers tokens that": func(c *Config) { c.Blocks = []BlockKind{Recover, Dense} },
		"merged tokens are not recov":  func(c *Config) { c.Blocks, c.Grid = []BlockKind{Merge, Dense}, 2 },
		"Grid is 5, want 1 to 4":       func(c *Config) { c.Blocks, c.Grid = []BlockKind{Merge, Recover}, 5 },
	} {
		c := tiny()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			continue
		}
		mustPanic(t, want, func() { New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), c) })
	}
	c := tiny()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestMisuse(t *testing.T) {
	c := tiny()
	c.Depth, c.Blocks, c.Grid = 4, []BlockKind{Pool, Merge, Recover, Dense}, 2
	n := build(c, gpu.Float32, true)
	b := inputsOf(&c, gpu.Float32, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, time, in, _ := b.on(tape, tape.Input)
	for want, f := range map[string]func(){
		"models: pictures of shape [2 2 24]":     func() { n.Forward(x.Reshape(2, 2, 24), time, in) },
		"wants classes":                          func() { n.Forward(x, time, models.Inputs{}) },
		"times of shape [1] for 2 pictures":      func() { n.Forward(x, tape.Const(1, 1), in) },
		"gates of shape [2 3], want [2, 4]":      func() { n.ForwardWith(x, time, in, Options{Gates: tape.Const(1, 2, 3)}) },
		"Skip of 1 blocks, the network has 4":    func() { n.ForwardWith(x, time, in, Options{Skip: []bool{true}}) },
		"block 1 is left out, which merges":      func() { n.ForwardWith(x, time, in, Options{Skip: []bool{false, true, false, false}}) },
		"Grid is 7, want 1 to 4":                 func() { n.ForwardWith(x, time, in, Options{Grid: 7}) },
		"Block: tokens of shape [2 24], want [B": func() { n.Blocks[0].Forward(tape.Const(1, 2, 24), BlockInput{}) },
	} {
		mustPanic(t, want, f)
	}
	in.Control = &models.Residuals{}
	mustPanic(t, "a control, which the network does not take", func() { n.Forward(x, time, in) })

	c = variants()["join"]
	n, b = build(c, gpu.Float32, true), inputsOf(&c, gpu.Float32, 2)
	x, time, in, _ = b.on(tape, tape.Input)
	in.Tokens["text"] = models.Tokens{States: tape.Const(0, 2, 4, 5)}
	mustPanic(t, "4 joined tokens, want 3", func() { n.Forward(x, time, in) })
	c = variants()["skips"]
	n = build(c, gpu.Float32, true)
	mustPanic(t, "Skip is missing", func() { n.Blocks[2].Forward(tape.Const(0, 2, 3, 8), BlockInput{}) })
}

// A gate of 1 is the block, a gate of 0 none, by sample, and exactly so.
func TestGates(t *testing.T) {
	c := tiny()
	n := build(c, gpu.Float32, false)
	b := inputsOf(&c, gpu.Float32, 2)
	with := func(g ...float32) []float64 {
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		x, time, in, _ := b.on(tape, tape.Input)
		return floats(n.ForwardWith(x, time, in, Options{Gates: tape.Input(gpu.CPU().From(g, 2, 2))}).Value())
	}
	plain, less := run(n, b, Options{}), run(n, b, Options{Skip: []bool{true, false}})
	if slices.Equal(plain, less) {
		t.Fatal("a block that is left out makes no difference")
	}
	if !slices.Equal(with(1, 1, 1, 1), plain) {
		t.Error("gates of 1 change the result")
	}
	if !slices.Equal(with(0, 1, 0, 1), less) {
		t.Error("gates of 0 are not the network without that block")
	}
	if got, half := with(0, 1, 1, 1), len(plain)/2; !slices.Equal(got[:half], less[:half]) || !slices.Equal(got[half:], plain[half:]) {
		t.Error("gates are not those of each sample")
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	var tokens [2][]float64 // before and after block 1 with a gate of 0.25
	for i, name := range []string{"blocks.0", "blocks.1"} {
		tape.OnTap(name, func(v *nn.Var) *nn.Var {
			tokens[i] = floats(v.Value())
			return v
		})
	}
	h := n.blocks(tape.Input(gpu.CPU().From(oracle.Normal(1, 2*24*8), 2, 24, 8)), BlockInput{Cond: tape.Const(0.5, 2, 8)}, nil,
		&Options{Gates: tape.Input(gpu.CPU().From([]float32{1, 0.25, 1, 0.25}, 2, 2))})
	for i, v := range floats(h.Value()) {
		if want := 0.25*tokens[1][i] + 0.75*tokens[0][i]; math.Abs(v-want) > 1e-5*(1+math.Abs(v)) {
			t.Fatalf("element %d is %v with a gate of 1/4, want %v", i, v, want)
		}
	}
}

// Pool is attention whose scores are all the same.
func TestPoolIsEqualAttention(t *testing.T) {
	dense, pool := tiny(), tiny()
	dense.Depth, pool.Depth, pool.Blocks = 1, 1, []BlockKind{Pool}
	a, b := build(dense, gpu.Float64, false), build(pool, gpu.Float64, false)
	for _, p := range a.Params().All() {
		if q := b.Params().Get(p.Name); q != nil {
			q.Value.Copy(p.Value)
		}
	}
	w, bias := a.Blocks[0].Attn.QKV.W.Value.F64(), a.Blocks[0].Attn.QKV.B.Value.F64()
	clear(w[:2*8*8])
	clear(bias[:2*8])
	copy(b.Blocks[0].Value.W.Value.F64(), w[2*8*8:])
	copy(b.Blocks[0].Value.B.Value.F64(), bias[2*8:])
	in := inputsOf(&dense, gpu.Float64, 2)
	want := run(a, in, Options{})
	for i, v := range run(b, in, Options{}) {
		if math.Abs(v-want[i]) > 1e-12*(1+math.Abs(v)) {
			t.Fatalf("element %d is %v, attention to all alike gives %v", i, v, want[i])
		}
	}
}

// The few tokens are means over squares as torch's adaptive mean has them, and come back to
// the places that torch's nearest neighbour has; with as many as there are, nothing changes.
func TestFewTokens(t *testing.T) {
	c := tiny() // 4×6
	c.Depth, c.Blocks, c.Grid, c.Rotary = 2, []BlockKind{Merge, Recover}, 3, true
	n := build(c, gpu.Float64, true)
	f := n.fewOf(3)
	pool := f.pool.F64()
	for i := range 9 {
		// Rows 0-1, 1-2, 2-3 of 4; columns 0-1, 2-3, 4-5 of 6.
		var sum float64
		for j := range 24 {
			want := 0.0
			if y, x := j/6, j%6; y >= i/3 && y <= i/3+1 && x/2 == i%3 {
				want = 0.25
			}
			if pool[i*24+j] != want {
				t.Fatalf("weight of token %d in mean %d is %v, want %v", j, i, pool[i*24+j], want)
			}
			sum += pool[i*24+j]
		}
		if sum != 1 {
			t.Errorf("mean %d has weights of sum %v", i, sum)
		}
	}
	rows := []int32{0, 0, 1, 2} // floor(y·3/4)
	for j, got := range f.repeat {
		if want := rows[j/6]*3 + int32(j%6/2); got != want {
			t.Errorf("place %d has token %d, want %d", j, got, want)
		}
	}
	// The middles of rows 0-1.33 and of columns 0-1 are 1/6 and 1/2 patches from the first.
	if a := f.angles.F64(); math.Abs(a[0]-1.0/6) > 1e-15 || math.Abs(a[1]-0.5) > 1e-15 || math.Abs(a[8*2]-(2.5*4.0/3-0.5)) > 1e-14 {
		t.Errorf("angles %v", a)
	}
	if got := n.fewOf(3); got != f {
		t.Error("tables are made twice")
	}
	c = tiny()
	c.Width, c.Depth, c.Blocks, c.Grid = 4, 3, []BlockKind{Merge, Dense, Recover}, 4
	m := build(c, gpu.Float64, false)
	clear(m.Blocks[2].Up.W.Value.F64())
	in := inputsOf(&c, gpu.Float64, 2)
	at4 := run(m, in, Options{})
	if slices.Equal(at4, run(m, in, Options{Grid: 2})) {
		t.Error("another grid makes no difference")
	}
	pool = m.fewOf(4).pool.F64()
	for i, v := range pool {
		if want := 0.0; i/16 == i%16 && v != 1 || i/16 != i%16 && v != want {
			t.Fatalf("with a grid of all tokens weight %d is %v", i, v)
		}
	}
}

// Padding of sequences changes nothing.
func TestPaddingIsNotSeen(t *testing.T) {
	for _, name := range []string{"cross", "join"} {
		c := variants()[name]
		n := build(c, gpu.Float64, false)
		b := inputsOf(&c, gpu.Float64, 2) // of 3 tokens 2 and 3
		was := run(n, b, Options{})
		text := b.tokens["text"].F64()
		for i := 2 * 5; i < 3*5; i++ {
			text[i] += 100
		}
		if !slices.Equal(run(n, b, Options{}), was) {
			t.Errorf("%s: padding is seen", name)
		}
		text[0]++
		if slices.Equal(run(n, b, Options{}), was) {
			t.Errorf("%s: a token is not seen", name)
		}
	}
}

func TestTimeScale(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	s := NewTimeScale(net.At("scale"), 3)
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	times := tape.Input(gpu.CPU().From64([]float64{-1, 1}, 2, 1))
	for _, v := range floats(s.At(times).Value()) {
		if v != 1 {
			t.Errorf("fresh factor %v, want 1", v)
		}
	}
	copy(s.A.Value.F64(), []float64{2, 3, 4})
	copy(s.B.Value.F64(), []float64{-1, 0, 1})
	copy(s.W.Value.F64(), []float64{0, 1, -3})
	copy(s.R.Value.F64(), []float64{0, 0.5, 0})
	got := floats(s.At(times).Value())
	for i, v := range got {
		at := []float64{-1, 1}[i/3]*([]float64{0, 1, -3}[i%3]+1) + []float64{0, 0.5, 0}[i%3]
		a, b := []float64{2, 3, 4}[i%3], []float64{-1, 0, 1}[i%3]
		if want := b + (a-b)/(1+math.Exp(-at)); math.Abs(v-want) > 1e-14 {
			t.Errorf("factor %d is %v, want %v", i, v, want)
		}
	}
}

// A small network learns which class has which picture.
func TestLearns(t *testing.T) {
	c, err := Preset("digits-dit")
	if err != nil {
		t.Fatal(err)
	}
	c.Dim, c.Depth = 32, 2
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	n := New(net.At(""), c)
	net.Init(3)
	opt := nn.NewAdam(net, nn.AdamOptions{})
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	const size = 8
	ids := gpu.CPU().FromInt32([]int32{0, 1, 2, 3, 4, 5, 6, 10}, size)
	goal := gpu.CPU().From(oracle.Normal(5, size*64), size, 1, 8, 8)
	x, times := gpu.CPU().From(make([]float32, size*64), size, 1, 8, 8), gpu.CPU().From([]float32{0, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9, 1}, size)
	var first, last float64
	for i := range 150 {
		tape.Run(func() {
			loss := nn.MSE(n.Forward(tape.Input(x), tape.Input(times), models.Inputs{Classes: ids}), tape.Input(goal), nil)
			last = loss.Item()
			tape.Backward(loss)
		})
		if i == 0 {
			first = last
		}
		opt.Step(3e-3)
	}
	if !(first > 0.8 && last < 0.05) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
}

// The first branch of a ConvNeXt block is a correlation of each channel with 49 weights, row by
// row of the grid.
func TestConvNeXt(t *testing.T) {
	c := tiny()
	c.Blocks, c.Classes, c.Norm, c.Modulation, c.TimeRamp = []BlockKind{ConvNeXt, ConvNeXt}, 0, TimeRMS, NoModulation, [2]float64{2, -1}
	n := build(c, gpu.Float64, false)
	b := n.Blocks[0]
	const h, w, d = 4, 6, 8
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := tape.Input(gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 2*h*w*d), 2, h*w, d))
	var got []float64
	tape.OnTap("blocks.0.attn", func(v *nn.Var) *nn.Var {
		got = floats(v.Value())
		return v
	})
	in := BlockInput{Time: tape.Const(0.5, 2, 1), Width: w}
	b.Forward(x, in)
	k, bias, v := b.Conv.W.Value.F64(), b.Conv.B.Value.F64(), x.Value().F64()
	for i := range got {
		s, row, col, ch := i/(h*w*d), i/(w*d)%h, i/d%w, i%d
		want := bias[ch]
		for y := max(0, row-3); y < min(h, row+4); y++ {
			for x := max(0, col-3); x < min(w, col+4); x++ {
				want += k[ch*49+(y-row+3)*7+x-col+3] * v[((s*h+y)*w+x)*d+ch]
			}
		}
		if math.Abs(got[i]-want) > 1e-12*(1+math.Abs(want)) {
			t.Fatalf("element %d is %v, want %v", i, got[i], want)
		}
	}
	if p := n.Params().Get("blocks.0.dwconv.weight"); p == nil || !slices.Equal(p.Shape(), []int{8, 1, 7, 7}) || n.Params().Get("blocks.0.norm1.scale.param0") != nil {
		t.Error("no blocks.0.dwconv.weight [8 1 7 7], or a norm before it")
	}
	in.Width = 5
	mustPanic(t, "tokens of shape [2 24 8] as a grid of width 5", func() { b.Forward(x, in) })
}
