package lion

import (
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// two is a network of a weight and a bias whose slab has padding.
func two(dt gpu.DType) *nn.Params {
	net := nn.NewParams(gpu.CPU(), dt)
	net.At("a").Param("weight", nn.Normal(1), 21, 5)
	net.At("a").Param("bias", nn.Normal(1), 21)
	net.Init(7)
	return net
}

func values(net *nn.Params) []float64 {
	var out []float64
	for _, p := range net.All() {
		out = append(out, floats(p.Value)...)
	}
	return out
}

func floats(t *gpu.Tensor) []float64 {
	if v := t.F64(); v != nil {
		return append([]float64(nil), v...)
	}
	var out []float64
	for _, v := range t.F32() {
		out = append(out, float64(v))
	}
	return out
}

// give sets gradients of all nets to the same draws, some of them zero.
func give(r *rng.Stream, nets ...*nn.Params) {
	for i, p := range nets[0].All() {
		v := make([]float32, p.Value.Len())
		for k := range v {
			if r.Intn(10) > 0 {
				v[k] = float32(r.Normal())
			}
		}
		for _, n := range nets {
			n.All()[i].Grad().Set(v)
		}
	}
}

// The programs AdamW and Lion are nn's optimisers.
func TestProgramsAreTheOptimisers(t *testing.T) {
	const steps = 150
	for name, c := range map[string]struct {
		p    *Program
		make func(*nn.Params) nn.Optimizer
	}{
		"adamw": {AdamW(1, 0.9, 0.999, 1e-8, 0.1), func(n *nn.Params) nn.Optimizer { return nn.NewAdam(n, nn.AdamOptions{Decay: 0.1}) }},
		"adamw, other settings": {AdamW(2, 0.8, 0.95, 1e-3, 0.5), func(n *nn.Params) nn.Optimizer {
			return double{nn.NewAdam(n, nn.AdamOptions{Beta1: 0.8, Beta2: 0.95, Eps: 1e-3, Decay: 0.5})}
		}},
		"lion": {Lion(1, 0.9, 0.99, 0.3), func(n *nn.Params) nn.Optimizer { return nn.NewLion(n, nn.LionOptions{Decay: 0.3}) }},
	} {
		for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
			a, b := two(dt), two(dt)
			own, want := NewOptimizer(a, graphOf(t, c.p)), c.make(b)
			start := values(a)
			r := rng.New(4, 0)
			for step := range steps {
				give(r, a, b)
				lr := 0.01 * (1 - float64(step)/steps)
				own.Step(lr)
				want.Step(lr)
			}
			if own.Steps() != steps {
				t.Errorf("%d steps, want %d", own.Steps(), steps)
			}
			far, tol := 0.0, 1e-12
			if dt == gpu.Float32 { // some tens of roundings of values below 4
				tol = 2e-5
			}
			for i, v := range values(b) {
				if d := math.Abs(values(a)[i] - v); !(d <= tol) {
					t.Fatalf("%s, %v: parameter %d is %v, want %v", name, dt, i, values(a)[i], v)
				}
				far = math.Max(far, math.Abs(v-start[i]))
			}
			if far < 0.1 {
				t.Errorf("%s: the parameters moved by %v, want more to compare", name, far)
			}
		}
	}
}

// double is an optimiser at twice the learning rate.
type double struct{ nn.Optimizer }

func (d double) Step(lr float64) { d.Optimizer.Step(2 * lr) }

// Lion against its recurrence, 1000 steps, to the bit: every element is what decay leaves
// of it, less exactly one step, nothing, or minus one step.
func TestLionIsExact(t *testing.T) {
	const decay, b1, b2 = 0.7, 0.9, 0.99
	net := two(gpu.Float64)
	opt := nn.NewLion(net, nn.LionOptions{Decay: decay})
	r := rng.New(5, 0)
	w := values(net)
	m := make([]float64, len(w))
	still := 0
	for step := range 1000 {
		give(r, net)
		var g []float64
		for _, p := range net.All() {
			g = append(g, p.Grad().F64()...)
		}
		lr := 0.01 / float64(1+step%7)
		opt.Step(lr)
		for i, got := range values(net) {
			kept := (1 - lr*decay) * w[i]
			u := 0.0
			if c := b1*m[i] + (1-b1)*g[i]; c != 0 {
				u = math.Copysign(1, c)
			} else {
				still++
			}
			m[i] = b2*m[i] + (1-b2)*g[i]
			if got != kept && got != kept-lr && got != kept+lr {
				t.Fatalf("step %d: parameter %d went from %v to %v, which is no step of %v", step, i, w[i], got, lr)
			}
			if got != kept-lr*u {
				t.Fatalf("step %d: parameter %d is %v, want %v", step, i, got, kept-lr*u)
			}
			w[i] = got
		}
	}
	if still == 0 {
		t.Error("no gradient was zero from the start; the case of no step was not seen")
	}
}

// Two steps by hand tell the order: a momentum that is updated before the sign is taken
// has another sign in the second step.
func TestLionUpdatesMomentumLast(t *testing.T) {
	first := must("tensor m\nm = interpolate(g, m, 0.99)\nc = interpolate(g, m, 0.9)\nupdate = sign(c)\nupdate = update * lr")
	// After a gradient of 1 the momentum is 0.01. Then 0.9·0.01 - 0.1·0.0895 = 0.00005, a
	// step down again; with the momentum updated first, 0.009005, it is 0.9·0.009005 -
	// 0.00895 = -0.00085, a step up.
	between := -0.0895
	for name, c := range map[string]struct {
		p    *Program
		want float64
	}{"lion": {Lion(1, 0.9, 0.99, 0), 0}, "momentum first": {first, 1}} {
		w := []float64{1}
		m := NewMachine[float64](graphOf(t, c.p), 1)
		m.Step(w, []float64{1}, 0.5)
		m.Step(w, []float64{between}, 0.5)
		if w[0] != c.want {
			t.Errorf("%s: after two steps %v, want %v", name, w[0], c.want)
		}
	}
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	p := net.At("").Param("p", nn.Ones, 1)
	net.Init(0)
	opt := nn.NewLion(net, nn.LionOptions{})
	p.Grad().Set([]float32{1})
	opt.Step(0.5)
	p.Grad().Set([]float32{float32(between)})
	opt.Step(0.5)
	if v := p.Value.F64()[0]; v != 0 {
		t.Errorf("nn.Lion is at %v after two steps, want 0: the sign sees the momentum of the step before", v)
	}
}

// No gradient and no momentum: decay alone, in nn and in the program.
func TestSignOfZero(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		a, b := two(dt), two(dt)
		before := values(a)
		a.Grad()
		b.Grad()
		nn.NewLion(a, nn.LionOptions{Decay: 0.5}).Step(0.125)
		NewOptimizer(b, graphOf(t, Lion(1, 0.9, 0.99, 0.5))).Step(0.125)
		for i, w := range before {
			want := w * (1 - 0.0625)
			if dt == gpu.Float32 {
				want = float64(float32(want))
			}
			if got := values(a)[i]; got != want {
				t.Fatalf("%v: %v becomes %v, want %v", dt, w, got, want)
			}
			if got := values(b)[i]; math.Abs(got-want) > 1e-6*math.Abs(w) {
				t.Fatalf("%v: by the program %v becomes %v, want %v", dt, w, got, want)
			}
		}
	}
}

// A schedule scales decay and step alike, and groups keep decay from what is to have none.
func TestDecay(t *testing.T) {
	net := two(gpu.Float64)
	bias := func(name string) bool { return strings.HasSuffix(name, "bias") }
	opt := nn.NewLion(net, nn.LionOptions{Decay: 2, Groups: []nn.Group{{Match: bias, LR: 1}}})
	for _, lr := range []float64{0.25, 0.125, 0.0625} { // a schedule; no gradient: decay alone
		before := values(net)
		net.Grad()
		opt.Step(lr)
		for i, got := range values(net) {
			want := before[i] * (1 - 2*lr)
			if i >= 105 {
				want = before[i]
			}
			if got != want {
				t.Fatalf("lr %v: parameter %d went from %v to %v, want %v", lr, i, before[i], got, want)
			}
		}
	}
}

// State is counted in bytes: by what a checkpoint keeps, and by what making the optimiser
// takes from the heap.
func TestStateBytes(t *testing.T) {
	const n = 1 << 20
	for name, c := range map[string]struct {
		make func(*nn.Params) nn.Optimizer
		want float64 // bytes a parameter
	}{
		"lion":  {func(p *nn.Params) nn.Optimizer { return nn.NewLion(p, nn.LionOptions{}) }, 4},
		"adamw": {func(p *nn.Params) nn.Optimizer { return nn.NewAdam(p, nn.AdamOptions{}) }, 8},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		net.At("").Param("p", nn.Zeros, n)
		net.Init(0)
		net.Grad()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		opt := c.make(net)
		runtime.ReadMemStats(&after)
		kept := 0
		for _, s := range opt.State() {
			if s.Name != "steps" {
				kept += s.Tensor.Len() * 4
			}
		}
		if got := float64(kept) / n; got != c.want {
			t.Errorf("%s keeps %v bytes a parameter, want %v", name, got, c.want)
		}
		if got := float64(after.TotalAlloc-before.TotalAlloc) / n; math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s takes %v bytes a parameter, want %v", name, got, c.want)
		}
	}
}

// The state of one optimiser is not the other's: a checkpoint of AdamW does not load into
// Lion, nor the reverse, and nothing changes; Lion's own goes on bit for bit.
func TestStatesAreNotConverted(t *testing.T) {
	dir := t.TempDir()
	train := func(net *nn.Params, opt nn.Optimizer, seed uint64) {
		r := rng.New(seed, 0)
		for range 3 {
			give(r, net)
			opt.Step(0.01)
		}
	}
	save := func(name string, net *nn.Params, opt nn.Optimizer) string {
		path := filepath.Join(dir, name)
		if err := nn.Save(path, nil, []nn.Part{{Prefix: "net.", Of: net}, {Prefix: "opt.", Of: opt}}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b := two(gpu.Float32), two(gpu.Float32)
	adam, lion := nn.NewAdam(a, nn.AdamOptions{}), nn.NewLion(b, nn.LionOptions{})
	train(a, adam, 1)
	train(b, lion, 2)
	byAdam, byLion := save("adam.safetensors", a, adam), save("lion.safetensors", b, lion)
	state := floats(lion.State()[1].Tensor)
	_, err := nn.Load(byAdam, nn.LoadOptions{}, nn.Part{Prefix: "net.", Of: b}, nn.Part{Prefix: "opt.", Of: lion})
	if err == nil || !strings.Contains(err.Error(), "unexpected  opt.v") {
		t.Errorf("AdamW's state into Lion: %v, want a refusal that names v", err)
	}
	for i, v := range floats(lion.State()[1].Tensor) {
		if v != state[i] {
			t.Fatal("a refused file changed the state")
		}
	}
	_, err = nn.Load(byLion, nn.LoadOptions{}, nn.Part{Prefix: "net.", Of: a}, nn.Part{Prefix: "opt.", Of: adam})
	if err == nil || !strings.Contains(err.Error(), "missing     opt.v") {
		t.Errorf("Lion's state into AdamW: %v, want a refusal that names v", err)
	}
	c := two(gpu.Float32)
	resumed := nn.NewLion(c, nn.LionOptions{})
	if _, err := nn.Load(byLion, nn.LoadOptions{}, nn.Part{Prefix: "net.", Of: c}, nn.Part{Prefix: "opt.", Of: resumed}); err != nil {
		t.Fatal(err)
	}
	train(b, lion, 3)
	train(c, resumed, 3)
	for i, v := range values(b) {
		if values(c)[i] != v {
			t.Fatalf("resumed, parameter %d is %v, want %v", i, values(c)[i], v)
		}
	}
	// A program's state too, scalars included.
	p := AdamW(1, 0.9, 0.999, 1e-8, 0.1)
	d, e := two(gpu.Float64), two(gpu.Float64)
	own, again := NewOptimizer(d, graphOf(t, p)), NewOptimizer(e, graphOf(t, p))
	train(d, own, 4)
	if _, err := nn.Load(save("program.safetensors", d, own), nn.LoadOptions{}, nn.Part{Prefix: "net.", Of: e}, nn.Part{Prefix: "opt.", Of: again}); err != nil {
		t.Fatal(err)
	}
	train(d, own, 5)
	train(e, again, 5)
	for i, v := range values(d) {
		if values(e)[i] != v {
			t.Fatalf("a resumed program has parameter %d at %v, want %v", i, values(e)[i], v)
		}
	}
}

// A gradient that is not finite is seen before the step: it is skipped and counted, and
// neither parameters nor momentum change.
func TestBrokenGradients(t *testing.T) {
	net := two(gpu.Float32)
	opt := nn.NewLion(net, nn.LionOptions{})
	r := rng.New(6, 0)
	skipped := 0
	for step := range 6 {
		give(r, net)
		if step%2 == 1 {
			net.All()[1].Grad().F32()[2] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[step/2]
		}
		before, m := values(net), floats(opt.State()[1].Tensor)
		if _, ok := nn.ClipNorm(0, net); !ok {
			skipped++
			net.ZeroGrad()
			continue
		}
		opt.Step(0.1)
		if values(net)[0] == before[0] || floats(opt.State()[1].Tensor)[0] == m[0] {
			t.Error("a good gradient did nothing")
		}
	}
	for _, v := range append(values(net), floats(opt.State()[1].Tensor)...) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatal("a broken gradient got in")
		}
	}
	if skipped != 3 || opt.Steps() != 3 {
		t.Errorf("%d skipped and %d made, want 3 and 3", skipped, opt.Steps())
	}
}

func TestMisuse(t *testing.T) {
	net := two(gpu.Float32)
	for name, c := range map[string]struct {
		do   func()
		want string
	}{
		"beta 1":         {func() { nn.NewLion(net, nn.LionOptions{Beta1: 1}) }, "betas 1 and 0.99"},
		"beta below 0":   {func() { nn.NewLion(net, nn.LionOptions{Beta2: -0.1}) }, "want betas in (0, 1)"},
		"beta NaN":       {func() { nn.NewLion(net, nn.LionOptions{Beta2: math.NaN()}) }, "want betas in (0, 1)"},
		"decay below 0":  {func() { nn.NewLion(net, nn.LionOptions{Decay: -1}) }, "decay -1"},
		"lr below 0":     {func() { nn.NewLion(net, nn.LionOptions{}).Step(-1) }, "the learning rate is -1"},
		"lr NaN":         {func() { nn.NewLion(net, nn.LionOptions{}).Step(math.NaN()) }, "the learning rate is NaN"},
		"lr·decay":       {func() { nn.NewLion(net, nn.LionOptions{Decay: 10}).Step(0.1) }, "learning rate 0.1 times decay 10"},
		"of a program":   {func() { NewOptimizer(net, graphOf(t, Lion(1, 0.9, 0.99, 0))).Step(-1) }, "the learning rate is -1"},
		"not laid out":   {func() { nn.NewLion(nn.NewParams(gpu.CPU(), gpu.Float32), nn.LionOptions{}) }, "before Init"},
		"program, early": {func() { NewOptimizer(nn.NewParams(gpu.CPU(), gpu.Float32), graphOf(t, Lion(1, 0.9, 0.99, 0))) }, "before Init"},
	} {
		func() {
			defer func() {
				if e := recover(); e == nil || !strings.Contains(e.(string), c.want) {
					t.Errorf("%s: panic %v, want one with %q", name, e, c.want)
				}
			}()
			c.do()
		}()
	}
}
