package adapt

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// small is a network with a layer of every kind that takes adapters.
type small struct {
	net   *nn.Params
	conv  *nn.Conv2D
	patch *nn.PatchEmbed
	time  *nn.TimeEmbed
	cross *nn.CrossAttention
	mlp   *nn.MLP
	table *nn.Embedding
}

func newSmall(dt gpu.DType, seed uint64) *small {
	s := &small{net: nn.NewParams(gpu.CPU(), dt)}
	s.conv, s.patch = nn.NewConv2D(s.net.At("conv"), 2, 3, 3), nn.NewPatchEmbed(s.net.At("patch"), 3, 12, 2)
	s.time = nn.NewTimeEmbed(s.net.At("time"), 12, nn.TimeOptions{})
	s.cross = nn.NewCrossAttention(s.net.At("cross"), 12, 5, nn.AttnOptions{Heads: 3})
	s.mlp, s.table = nn.NewMLP(s.net.At("mlp"), ops.GELUTanh, 12, 40, 12), nn.NewEmbedding(s.net.At("table"), 3, 12)
	s.net.Init(seed)
	return s
}

// inputs are pictures, times and a text, the same in both dtypes.
func inputs(dt gpu.DType) (x, time, text *gpu.Tensor) {
	return gpu.CPU().FromAs(dt, oracle.Normal(1, 3*2*4*4), 3, 2, 4, 4), gpu.CPU().FromAs(dt, []float32{0, 0.5, 1}, 3),
		gpu.CPU().FromAs(dt, oracle.Normal(2, 3*4*5), 3, 4, 5)
}

func (s *small) forward(tape *nn.Tape) *nn.Var {
	x, time, text := inputs(tape.DType())
	h := s.patch.Forward(s.conv.Forward(tape.Input(x)))
	c := s.time.Forward(tape.Input(time)).Add(s.table.Forward(tape, gpu.CPU().FromInt32([]int32{0, 2, 1}, 3)))
	h = h.Add(c.Reshape(3, 1, 12))
	h = h.Add(s.cross.Forward(h, nn.Context{States: tape.Input(text)}))
	return h.Add(s.mlp.Forward(h))
}

// result is the bits of what the network gives, after set has told adapters things.
func (s *small) result(set func(tape *nn.Tape)) []float64 {
	tape := nn.NewTape(gpu.CPU(), s.net.DType())
	if set != nil {
		set(tape)
	}
	return floats(s.forward(tape).Value())
}

func floats(t *gpu.Tensor) []float64 {
	v, err := values(t)
	if err != nil {
		panic(err)
	}
	return v
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

// shake makes an adapter one that was trained.
func shake(net *nn.Params) {
	for i, p := range net.All() {
		v := oracle.Normal(uint64(50+i), p.Value.Len())
		for j := range v {
			v[j] *= 0.2
		}
		p.Value.Copy(gpu.CPU().FromAs(net.DType(), v, p.Shape()...))
	}
}

// adapters is one of each kind on a network: its parameters, what it is told, its end.
var adapters = map[string]func(t *testing.T, s *small) (net *nn.Params, set func(tape *nn.Tape), drop func()){
	"lora": func(t *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		l, err := Attach(s.net, LoRAOptions{Rank: 2, Alpha: 4, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		return l.Params(), func(*nn.Tape) {}, l.Drop
	},
	"conv": func(_ *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		net := nn.NewParams(gpu.CPU(), s.net.DType())
		e := ExtendConv(net.At("extra"), s.conv, 3)
		net.Init(3)
		return net, func(tape *nn.Tape) {
			e.Set(tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(4, 3*3*4*4), 3, 3, 4, 4)))
		}, e.Drop
	},
	"patch": func(_ *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		net := nn.NewParams(gpu.CPU(), s.net.DType())
		e := ExtendPatch(net.At("extra"), s.patch, 2)
		net.Init(3)
		return net, func(tape *nn.Tape) {
			e.Set(tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(4, 3*2*4*4), 3, 2, 4, 4)))
		}, e.Drop
	},
	"linear": func(_ *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		net := nn.NewParams(gpu.CPU(), s.net.DType())
		e := ExtendLinear(net.At("extra"), s.time.First, 7)
		net.Init(3)
		return net, func(tape *nn.Tape) {
			e.Set(tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(4, 3*7), 3, 7)))
		}, e.Drop
	},
	"scalars": func(_ *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		net := nn.NewParams(gpu.CPU(), s.net.DType())
		e := NewScalarEmbedding(net.At("scalars"), 2, s.time.Second)
		net.Init(3)
		return net, func(tape *nn.Tape) {
			e.Set(tape.Input(gpu.CPU().FromAs(tape.DType(), []float32{1, 20, 3, 4, 0, 60}, 3, 2)))
		}, e.Drop
	},
	"image prompt": func(_ *testing.T, s *small) (*nn.Params, func(*nn.Tape), func()) {
		net := nn.NewParams(gpu.CPU(), s.net.DType())
		p := NewImagePrompt(net.At("image"), 7, s.cross)
		net.Init(3)
		return net, func(tape *nn.Tape) {
			p.Set(tape.Input(gpu.CPU().FromAs(tape.DType(), oracle.Normal(4, 3*5*7), 3, 5, 7)), gpu.CPU().FromInt32([]int32{5, 2, 1}, 3), 0.7)
		}, p.Drop
	},
}

// The invariant of all: untrained, every bit is what it was; trained, results differ; dropped,
// they are what they were again. Training changes the adapter alone.
func TestUntrainedAdaptersChangeNoBit(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		for name, attach := range adapters {
			s := newSmall(dt, 1)
			was := s.result(nil)
			net, set, drop := attach(t, s)
			if !sameBits(s.result(set), was) {
				t.Errorf("%s in %v: untrained, it changes the result", name, dt)
			}
			before, err := Hash(s.net)
			if err != nil {
				t.Fatal(err)
			}
			s.net.Freeze(true)
			opt := nn.NewAdam(net, nn.AdamOptions{})
			tape := nn.NewTape(gpu.CPU(), dt)
			var first, last float64
			for i := range 30 {
				tape.Run(func() {
					set(tape)
					y := s.forward(tape)
					goal := tape.Input(gpu.CPU().FromAs(dt, oracle.Normal(6, y.Value().Len()), y.Shape()...))
					loss := nn.MSE(y, goal, nil)
					last = loss.Item()
					tape.Backward(loss)
				})
				if i == 0 {
					first = last
				}
				opt.Step(0.02)
			}
			if !(last < 0.99*first) {
				t.Errorf("%s in %v: training took the loss from %v to %v", name, dt, first, last)
			}
			if sameBits(s.result(set), was) {
				t.Errorf("%s in %v: trained, it changes nothing", name, dt)
			}
			if after, _ := Hash(s.net); after != before {
				t.Errorf("%s in %v: training changed the network", name, dt)
			}
			drop()
			if !sameBits(s.result(nil), was) {
				t.Errorf("%s in %v: dropped, it changes the result", name, dt)
			}
		}
	}
}

// Each adds what it says, by other means.
func TestLoRAIsALowRankChange(t *testing.T) {
	s := newSmall(gpu.Float64, 1)
	l, err := Attach(s.net, LoRAOptions{Rank: 3, Alpha: 6, Match: func(n string) bool { return strings.HasPrefix(n, "mlp.") && strings.HasSuffix(n, "weight") }})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Layers(); !slices.Equal(got, []string{"mlp.0.weight", "mlp.1.weight"}) {
		t.Fatalf("layers %v", got)
	}
	if p := l.Params().Get("mlp.0.lora_A.weight"); p == nil || !slices.Equal(p.Shape(), []int{3, 12}) {
		t.Error("no mlp.0.lora_A.weight of shape [3 12]")
	}
	plain := s.result(nil)
	shake(l.Params())
	with := s.result(nil)
	// W + 2·B·A in a network without adapters.
	other := newSmall(gpu.Float64, 1)
	for _, n := range []string{"mlp.0", "mlp.1"} {
		w := other.net.Get(n + ".weight")
		a, b := floats(l.Params().Get(n+".lora_A.weight").Value), floats(l.Params().Get(n+".lora_B.weight").Value)
		in := w.Shape()[1]
		for i := range w.Value.F64() {
			for r := range 3 {
				w.Value.F64()[i] += 2 * b[i/in*3+r] * a[r*in+i%in]
			}
		}
	}
	want := other.result(nil)
	near := func(what string, got, want []float64, tol float64) {
		t.Helper()
		for i, v := range want {
			if math.Abs(got[i]-v) > tol*(1+math.Abs(v)) {
				t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], v)
			}
		}
	}
	near("attached", with, want, 1e-12)
	if slices.Equal(with, plain) {
		t.Error("a trained change does nothing")
	}
	l.Enable(false)
	if !sameBits(s.result(nil), plain) {
		t.Error("switched off, the result is not what it was")
	}
	l.Enable(true)
	if err := l.Merge(); err != nil {
		t.Fatal(err)
	}
	near("merged", s.result(nil), with, 1e-12)
	if err := l.Merge(); err != nil { // is merged already
		t.Fatal(err)
	}
	near("merged", s.result(nil), with, 1e-12)
	l.Unmerge()
	if !sameBits(s.result(nil), with) {
		t.Error("unmerged, the result is not what it was")
	}
	l.Enable(false)
	if !sameBits(s.result(nil), plain) {
		t.Error("unmerged and switched off, the network is not what it was")
	}
	l.Enable(true)
	if err := l.Merge(); err != nil {
		t.Fatal(err)
	}
	l.Drop()
	near("merged for good", s.result(nil), with, 1e-12)
	for name, f := range map[string]func(){"Enable": func() { l.Enable(true) }, "Unmerge": l.Unmerge, "Drop": l.Drop} {
		oracle.RefusesOne(t, "adapt: "+name+" after Drop", f)
	}

	// In float32 the two ways agree to a few units.
	f := newSmall(gpu.Float32, 1)
	l, err = Attach(f.net, LoRAOptions{Rank: 3})
	if err != nil {
		t.Fatal(err)
	}
	shake(l.Params())
	with = f.result(nil)
	if err := l.Merge(); err != nil {
		t.Fatal(err)
	}
	near("merged in float32", f.result(nil), with, 1e-6*10)
	oracle.RefusesOne(t, "the changes are merged; Unmerge first", func() { l.Enable(false) })
}

// New channels of zeros change nothing however the adapter was trained, and others do what one
// layer of all channels would do.
func TestExtraInput(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		s := newSmall(dt, 1)
		was := s.result(nil)
		net := nn.NewParams(gpu.CPU(), dt)
		conv, patch := ExtendConv(net.At("conv"), s.conv, 3), ExtendPatch(net.At("patch"), s.patch, 2)
		lin := ExtendLinear(net.At("lin"), s.time.First, 4)
		net.Init(1)
		shake(net)
		if !sameBits(s.result(nil), was) {
			t.Errorf("%v: without extra channels the result is another", dt)
		}
		if !sameBits(s.result(func(tape *nn.Tape) {
			conv.Set(tape.Const(0, 3, 3, 4, 4))
			patch.Set(tape.Const(0, 3, 2, 4, 4))
			lin.Set(tape.Const(0, 3, 4))
		}), was) {
			t.Errorf("%v: extra channels of zeros change the result", dt)
		}
		conv.Set(nil)
		tape := nn.NewTape(gpu.CPU(), dt)
		x, _, _ := inputs(dt)
		extra := tape.Input(gpu.CPU().FromAs(dt, oracle.Normal(8, 3*3*4*4), 3, 3, 4, 4))
		conv.Set(extra)
		got := floats(s.conv.Forward(tape.Input(x)).Value())
		// One convolution of all five channels.
		all := nn.NewParams(gpu.CPU(), dt)
		wide := nn.NewConv2D(all.At("wide"), 5, 3, 3)
		all.Init(1)
		if err := Widen(wide.W, s.conv.W); err != nil {
			t.Fatal(err)
		}
		wide.B.Value.Copy(s.conv.B.Value)
		plain := floats(s.conv.W.Value)
		for i, v := range floats(wide.W.Value) {
			o, c, k := i/45, i/9%5, i%9
			if want := 0.0; c < 2 && v != plain[(o*2+c)*9+k] || c >= 2 && v != want {
				t.Fatalf("%v: widened weight %d is %v", dt, i, v)
			}
		}
		v := floats(wide.W.Value)
		more := floats(net.Get("conv.weight").Value)
		for i := range v {
			if o, c, k := i/45, i/9%5, i%9; c >= 2 {
				v[i] = more[(o*3+c-2)*9+k]
			}
		}
		put(wide.W.Value, v)
		for i, w := range floats(wide.Forward(nn.Concat(1, tape.Input(x), extra)).Value()) {
			if math.Abs(w-got[i]) > 1e-5*(1+math.Abs(w)) {
				t.Fatalf("%v: element %d is %v, one convolution gives %v", dt, i, got[i], w)
			}
		}
		if err := Widen(s.conv.W, wide.W); err == nil || !strings.Contains(err.Error(), "adapt: conv.weight has shape [3 2 3 3], want that of wide.weight, [3 5 3 3]") {
			t.Error(err)
		}
	}
}

func TestBadAdapters(t *testing.T) {
	s := newSmall(gpu.Float32, 1)
	for want, o := range map[string]LoRAOptions{
		"rank 0 for time.mlp.0.weight of shape [12 256], want 1 to 12": {},
		"rank 6 for cross.to_k.weight of shape [12 5], want 1 to 5":    {Rank: 6, Match: func(n string) bool { return n == "cross.to_k.weight" }},
		"no weight of a linear layer matches among the network's":      {Rank: 1, Match: func(n string) bool { return false }},
		"table.weight is no weight of a linear layer; change Match":    {Rank: 1, Match: func(n string) bool { return strings.HasPrefix(n, "table") }},
		"conv.weight is no weight of a linear layer; change Match":     {Rank: 1, Match: func(n string) bool { return strings.HasPrefix(n, "conv.w") }},
		"time.mlp.0.bias is no weight of a linear layer; change Match": {Rank: 1, Match: func(n string) bool { return strings.HasSuffix(n, "0.bias") }},
	} {
		if _, err := Attach(s.net, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if !sameBits(s.result(nil), newSmall(gpu.Float32, 1).result(nil)) {
		t.Error("an adapter that was refused changed the network")
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	oracle.RefusesOne(t, "0 numbers, want at least 1", func() { NewScalarEmbedding(net.At("s"), 0, s.time.Second) })
	oracle.RefusesOne(t, "no layers, want those of cross-attention", func() { NewImagePrompt(net.At("p"), 3) })
	e := NewScalarEmbedding(net.At("s"), 2, s.time.Second)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.RefusesOne(t, "numbers of shape [3 1], want [B, 2]", func() { e.Set(tape.Const(0, 3, 1)) })
	net.Init(1)
	shake(net)
	oracle.RefusesOne(t, "shapes [3 12] and [2 12] do not repeat to one", func() { // numbers of two samples for three
		e.Set(tape.Const(0, 2, 2))
		s.forward(tape)
	})
	zero := nn.NewParams(gpu.CPU(), gpu.Float32)
	lin, conv := NewZeroLinear(zero.At("l"), 3, 2), NewZeroConv(zero.At("c"), 3, 2, 1)
	zero.Init(1)
	for _, v := range append(floats(lin.Forward(tape.Const(1, 1, 3)).Value()), floats(conv.Forward(tape.Const(1, 1, 3, 2, 2)).Value())...) {
		if v != 0 {
			t.Errorf("a zero layer gives %v", v)
		}
	}
}

// A step with all of them allocates nothing.
func TestStepsAllocateNothing(t *testing.T) {
	s := newSmall(gpu.Float32, 1)
	s.net.Freeze(true)
	l, err := Attach(s.net, LoRAOptions{Rank: 2})
	if err != nil {
		t.Fatal(err)
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	conv, image, scalars := ExtendConv(net.At("conv"), s.conv, 3), NewImagePrompt(net.At("image"), 7, s.cross), NewScalarEmbedding(net.At("scalars"), 2, s.time.Second)
	net.Init(1)
	x, time, text := inputs(gpu.Float32)
	ids, extra := gpu.CPU().FromInt32([]int32{0, 2, 1}, 3), gpu.CPU().From(oracle.Normal(4, 3*3*4*4), 3, 3, 4, 4)
	states, numbers := gpu.CPU().From(oracle.Normal(5, 3*5*7), 3, 5, 7), gpu.CPU().From(oracle.Normal(6, 6), 3, 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	a, b := nn.NewAdam(net, nn.AdamOptions{}), nn.NewAdam(l.Params(), nn.AdamOptions{})
	body := func() {
		conv.Set(tape.Input(extra))
		image.Set(tape.Input(states), nil, 0.5)
		scalars.Set(tape.Input(numbers))
		h := s.patch.Forward(s.conv.Forward(tape.Input(x)))
		h = h.Add(s.time.Forward(tape.Input(time)).Add(s.table.Forward(tape, ids)).Reshape(3, 1, 12))
		h = h.Add(s.cross.Forward(h, nn.Context{States: tape.Input(text)}))
		tape.Backward(s.mlp.Forward(h).Square().Mean())
	}
	step := func() {
		tape.Run(body)
		a.Step(1e-3)
		b.Step(1e-3)
	}
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}
