package critic_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/critic"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

func TestPatchGANSizes(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	p := critic.NewPatchGAN(net.At(""), critic.PatchConfig{})
	if net.Count() != 2765633 { // as torch counts the published one
		t.Errorf("%d parameters", net.Count())
	}
	if p.Receptive() != 70 || p.Smallest() != 24 {
		t.Errorf("patches of %d, pictures of at least %d, want 70 and 24", p.Receptive(), p.Smallest())
	}
	var names []string
	for _, q := range net.All() {
		names = append(names, q.Name)
	}
	want := []string{
		"main.0.weight", "main.0.bias", "main.2.weight", "main.3.weight", "main.3.bias", "main.5.weight", "main.6.weight", "main.6.bias",
		"main.8.weight", "main.9.weight", "main.9.bias", "main.11.weight", "main.11.bias",
	}
	if !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
}

// A judgement depends on its patch and on nothing else: its extent by differences.
func TestPatchIsAllThatIsSeen(t *testing.T) {
	for _, layers := range []int{1, 2, 3} {
		net := nn.NewParams(gpu.CPU(), gpu.Float64)
		p := critic.NewPatchGAN(net.At(""), critic.PatchConfig{Channels: 1, Width: 1, Layers: layers, Norm: critic.None})
		for _, q := range net.All() {
			q.Start = nn.Fill(0.3) // nothing cancels
		}
		net.Init(1)
		const size = 96
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		tape.Run(func() {
			x := tape.Leaf(gpu.CPU().FromAs(gpu.Float64, oracle.Uniform(1, size*size, 1, 2), 1, 1, size, size))
			y := p.Forward(x, false)
			h := y.Shape()[2]
			tape.Backward(y.Slice(2, h/2, 1).Slice(3, h/2, 1))
			rows := 0
			for r := range size {
				if slices.ContainsFunc(x.Grad().F64()[r*size:][:size], func(v float64) bool { return v != 0 }) {
					rows++
				}
			}
			if rows != p.Receptive() {
				t.Errorf("%d layers: a judgement sees %d rows, Receptive says %d", layers, rows, p.Receptive())
			}
		})
	}
}

// A critic learns to tell two kinds of pictures apart, with both losses.
func TestCriticLearns(t *testing.T) {
	for name, loss := range map[string]func(real, fake *nn.Var) *nn.Var{"hinge": nn.HingeCritic, "softplus": nn.SoftplusCritic} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		p := critic.NewPatchGAN(net.At(""), critic.PatchConfig{Channels: 1, Width: 4, Layers: 1, Norm: critic.Group, Groups: 2})
		net.Init(1)
		opt := nn.NewAdam(net, nn.AdamOptions{})
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		var last float64
		for step := range 60 {
			smooth, rough := make([]float32, 4*64), oracle.Normal(uint64(step), 4*64)
			for i := range smooth {
				smooth[i] = float32(math.Sin(float64(i%8) / 3))
			}
			tape.Run(func() {
				l := loss(p.Forward(tape.Input(gpu.CPU().From(smooth, 4, 1, 8, 8)), true), p.Forward(tape.Input(gpu.CPU().From(rough, 4, 1, 8, 8)), true))
				last = l.Item()
				tape.Backward(l)
			})
			opt.Step(5e-3)
		}
		t.Logf("%s: %.3f", name, last)
		if !(last < 0.3) { // judging nothing is 1 and log 2
			t.Errorf("%s: the loss is %v", name, last)
		}
	}
}

// The weight is the ratio of the norms, whose gradients are exact here, and the gradients of
// both losses stay as they are.
func TestAdaptiveWeight(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	w, other := net.At("").Param("w", nn.Ones, 2), net.At("").Param("other", nn.Ones, 2)
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	a, b := gpu.CPU().From64([]float64{3, 4}, 2), gpu.CPU().From64([]float64{0, 0.5}, 2)
	tape.Run(func() {
		h := tape.Use(w).Mul(tape.Use(other))
		base, added := h.Mul(tape.Input(a)).Sum(), h.Mul(tape.Input(b)).Sum()
		if got, want := critic.AdaptiveWeight(base, added, w, 1e-4, 1e4), 5/(0.5+1e-4); math.Abs(got-want) > 1e-12 {
			t.Errorf("weight %v, want %v", got, want)
		}
		if got := critic.AdaptiveWeight(base, added, w, 1e-4, 7); got != 7 {
			t.Errorf("weight %v, want the limit 7", got)
		}
		if got := critic.AdaptiveWeight(base, tape.Use(other).Sum(), w, 1e-4, 1e6); got != 5/1e-4 {
			t.Errorf("weight %v of a loss that does not depend on the parameter, want %v", got, 5/1e-4)
		}
		tape.Backward(base.Add(added.Scale(2)))
		if g := w.Grad().F64(); g[0] != 3 || g[1] != 5 {
			t.Errorf("gradient %v, want 3 and 5", g)
		}
	})
}

// Features of zeros, as ReLUs leave them, have no distance and no gradient that is not finite.
func TestFeaturesOfZeros(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Run(func() {
			a, b := tape.Leaf(gpu.CPU().Zeros(dt, 1, 3, 2)), tape.Leaf(gpu.CPU().FromAs(dt, oracle.Normal(1, 6), 1, 3, 2))
			d := critic.FeatureDistance([]*nn.Var{a, a}, []*nn.Var{a, b}, nil)
			tape.Backward(d)
			if math.Abs(d.Item()-1) > 1e-6 { // of a unit vector from none
				t.Errorf("distance %v, want 1", d.Item())
			}
			for _, g := range []*gpu.Tensor{a.Grad(), b.Grad()} {
				if at, ok := ops.Finite(g); !ok {
					t.Errorf("gradient %d is not finite", at)
				}
			}
		})
	}
}

func features(net *nn.Params) (*nn.MLP, *critic.Taps) {
	return nn.NewMLP(net.At("net"), ops.ReLU, 4, 6, 5), critic.NewTaps("one", "two")
}

func TestTapsAndSteps(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	body, taps := features(net)
	critic.NewHead(net.At("head"), 5, 7)
	head := critic.NewHead(net.At("judge"), 5, 7)
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, y := gpu.CPU().From(oracle.Normal(1, 8), 2, 4), gpu.CPU().From(oracle.Normal(2, 8), 2, 4)
	var in *nn.Var
	run := func() { head.Forward(body.Layers[1].Forward(body.Layers[0].Forward(in).Tap("one")).Tap("two")) }
	var a, b []*nn.Var
	step := func() {
		in = tape.Input(x)
		a = taps.Append(a[:0], tape, run)
		in = tape.Input(y)
		b = taps.Append(b[:0], tape, run)
		d := critic.FeatureDistance(a, b, nil).Mean()
		critic.AdaptiveWeight(d, d, net.All()[0], 1e-4, 1e4)
		tape.Backward(d)
	}
	tape.Run(step)
	if s := a[0].Shape(); len(a) != 2 || !slices.Equal(s, []int{2, 6}) || a[0] == b[0] {
		t.Errorf("%d features of shape %v", len(a), s)
	}
	whole := func() { tape.Run(step) }
	whole()
	if n := oracle.Allocations(10, whole); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
	for want, f := range map[string]func(){
		`nothing passed "two"`:             func() { taps.Append(nil, tape, func() { tape.Const(0, 1).Tap("one") }) },
		"1 and 2 layers with 0 weights":    func() { critic.FeatureDistance(a[:1], b, nil) },
		"layer 1 has shapes [2 5] and [2 ": func() { critic.FeatureDistance(a, []*nn.Var{a[0], a[0]}, nil) },
		"weights [3] for 6 channels":       func() { critic.FeatureDistance(a[:1], b[:1], []*nn.Var{tape.Const(1, 3)}) },
	} {
		oracle.RefusesOne(t, want, f)
	}
}

func TestBadConfigs(t *testing.T) {
	for want, c := range map[string]critic.PatchConfig{
		"Channels is -1": {Channels: -1}, "Width is -1": {Width: -1}, "Layers is 9, want 1 to 8": {Layers: 9}, "Norm is 3": {Norm: 3},
		"Groups is 3 for layers of 8 channels": {Width: 4, Norm: critic.Group, Groups: 3},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	p := critic.NewPatchGAN(net.At(""), critic.PatchConfig{Width: 2})
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.RefusesOne(t, "pictures of shape [1 3 24 23], want [n, 3, height, width] of at least 24", func() { p.Forward(tape.Const(0, 1, 3, 24, 23), false) })
	oracle.RefusesOne(t, "critic: Layers is 9", func() { critic.NewPatchGAN(net.At("x"), critic.PatchConfig{Layers: 9}) })
}

func TestPatchStepsAllocateNothing(t *testing.T) {
	for _, kind := range []critic.Norm{critic.Batch, critic.Group} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		p := critic.NewPatchGAN(net.At(""), critic.PatchConfig{Channels: 1, Width: 4, Layers: 2, Norm: kind, Groups: 2})
		net.Init(1)
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		x := gpu.CPU().From(oracle.Normal(1, 2*144), 2, 1, 12, 12)
		body := func() { tape.Backward(nn.SoftplusGenerator(p.Forward(tape.Input(x), true))) }
		step := func() { tape.Run(body) }
		step()
		step()
		if n := oracle.Allocations(10, step); n >= 1 {
			t.Errorf("norm %d: %v allocations a step", kind, n)
		}
	}
}
