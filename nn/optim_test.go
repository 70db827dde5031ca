package nn_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
)

// rule is an optimiser of one number, written from the papers' formulas.
type rule func(p float64, grads []float64, lr float64) float64

func adamRule(b1, b2, eps, decay, l2 float64, rectified bool) rule {
	return func(p float64, grads []float64, lr float64) float64 {
		var m, v float64
		for i, g := range grads {
			t := float64(i + 1)
			g += l2 * p
			m, v = b1*m+(1-b1)*g, b2*v+(1-b2)*g*g
			mhat, vhat := m/(1-math.Pow(b1, t)), v/(1-math.Pow(b2, t))
			p -= lr * decay * p
			if !rectified {
				p -= lr * mhat / (math.Sqrt(vhat) + eps)
				continue
			}
			most := 2/(1-b2) - 1
			rho := most - 2*t*math.Pow(b2, t)/(1-math.Pow(b2, t))
			if rho > 5 {
				r := math.Sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
				p -= lr * r * mhat / (math.Sqrt(vhat) + eps)
			} else {
				p -= lr * mhat
			}
		}
		return p
	}
}

func TestOptimizers(t *testing.T) {
	for name, c := range map[string]struct {
		make func(net *nn.Params) nn.Optimizer
		want rule
	}{
		"sgd": {func(n *nn.Params) nn.Optimizer { return nn.NewSGD(n, nn.SGDOptions{Decay: 0.1}) }, func(p float64, grads []float64, lr float64) float64 {
			for _, g := range grads {
				p -= lr * (g + 0.1*p)
			}
			return p
		}},
		"momentum": {func(n *nn.Params) nn.Optimizer { return nn.NewSGD(n, nn.SGDOptions{Momentum: 0.9}) }, func(p float64, grads []float64, lr float64) float64 {
			var v float64
			for _, g := range grads {
				v = 0.9*v + g
				p -= lr * v
			}
			return p
		}},
		"nesterov": {func(n *nn.Params) nn.Optimizer {
			return nn.NewSGD(n, nn.SGDOptions{Momentum: 0.9, Nesterov: true, Decay: 0.1})
		}, func(p float64, grads []float64, lr float64) float64 {
			var v float64
			for _, g := range grads {
				g += 0.1 * p
				v = 0.9*v + g
				p -= lr * (g + 0.9*v)
			}
			return p
		}},
		"adam": {func(n *nn.Params) nn.Optimizer { return nn.NewAdam(n, nn.AdamOptions{}) }, adamRule(0.9, 0.999, 1e-8, 0, 0, false)},
		"adamw": {func(n *nn.Params) nn.Optimizer {
			return nn.NewAdam(n, nn.AdamOptions{Decay: 0.1, Beta2: 0.95, Eps: 1e-3})
		}, adamRule(0.9, 0.95, 1e-3, 0.1, 0, false)},
		"l2":    {func(n *nn.Params) nn.Optimizer { return nn.NewAdam(n, nn.AdamOptions{L2: 0.1, Beta1: 0.5}) }, adamRule(0.5, 0.999, 1e-8, 0, 0.1, false)},
		"radam": {func(n *nn.Params) nn.Optimizer { return nn.NewAdam(n, nn.AdamOptions{Rectified: true}) }, adamRule(0.9, 0.999, 1e-8, 0, 0, true)},
		"lion": {func(n *nn.Params) nn.Optimizer { return nn.NewLion(n, nn.LionOptions{Decay: 0.1}) }, func(p float64, grads []float64, lr float64) float64 {
			var m float64
			for _, g := range grads {
				c := 0.9*m + 0.1*g
				p -= lr * (math.Copysign(1, c) + 0.1*p)
				m = 0.99*m + 0.01*g
			}
			return p
		}},
	} {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			net := nn.NewParams(gpu.CPU(), dt)
			p := net.At("").Param("p", nn.Normal(1), 37)
			net.Init(3)
			start := floats(p.Value)
			opt := c.make(net)
			grads := make([][]float64, 37)
			for step := range 9 { // RAdam changes its rule within
				g := p.Grad()
				v := make([]float32, 37)
				for i := range v {
					v[i] = float32(math.Sin(float64(3*i+step)) + 0.3)
					grads[i] = append(grads[i], float64(v[i]))
				}
				g.Set(v)
				opt.Step(0.01)
				for _, e := range floats(g) {
					if e != 0 {
						t.Fatal("a step left gradients behind")
					}
				}
			}
			tol := 1e-13
			if dt == gpu.Float32 {
				tol = 2e-6
			}
			for i, got := range floats(p.Value) {
				if want := c.want(start[i], grads[i], 0.01); math.Abs(got-want) > tol {
					t.Fatalf("%s, %v: parameter %d is %v, want %v", name, dt, i, got, want)
				}
			}
		}
	}
}

// Groups, frozen parameters and padding: what is not to move does not.
func TestOptimizerGroups(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	var ps []*nn.Param
	for _, name := range []string{"a.weight", "a.bias", "b.weight", "b.bias"} {
		ps = append(ps, net.At("").Param(name, nn.Ones, 3))
	}
	net.Init(0)
	bias := func(name string) bool { return strings.HasSuffix(name, "bias") }
	opt := nn.NewSGD(net, nn.SGDOptions{Decay: 1, Groups: []nn.Group{{Match: bias, LR: 0.5}}})
	ps[2].Frozen = true
	opt.Step(0.1)
	for i, want := range []float64{0.9, 1, 1, 1} { // decay alone; biases have none; one is frozen
		if got := ps[i].Value.F64()[0]; math.Abs(got-want) > 1e-15 {
			t.Errorf("%s is %v, want %v", ps[i].Name, got, want)
		}
	}
	for _, p := range ps {
		p.Grad().Set([]float32{1, 1, 1})
	}
	opt.Step(0.1)
	for i, want := range []float64{0.9 - 0.1*1.9, 0.95, 1, 0.95} {
		if got := ps[i].Value.F64()[0]; math.Abs(got-want) > 1e-15 {
			t.Errorf("%s is %v, want %v", ps[i].Name, got, want)
		}
	}
	net.Freeze(true)
	opt.Step(1)
	if got := ps[1].Value.F64()[0]; math.Abs(got-0.95) > 1e-15 {
		t.Errorf("a frozen network moved to %v", got)
	}
	if got := opt.Steps(); got != 3 {
		t.Errorf("%d steps, want 3", got)
	}
	for i, v := range net.Value().F64() {
		if i%16 >= 3 && v != 0 {
			t.Errorf("padding at %d is %v", i, v)
		}
	}
}

func TestClipNorm(t *testing.T) {
	a, b := nn.NewParams(gpu.CPU(), gpu.Float32), nn.NewParams(gpu.CPU(), gpu.Float32)
	p, q := a.At("").Param("p", nn.Zeros, 2), b.At("").Param("q", nn.Zeros, 1)
	a.Init(0)
	b.Init(0)
	p.Grad().Set([]float32{2, 3})
	q.Grad().Set([]float32{6})
	if norm, ok := nn.ClipNorm(0, a, b); norm != 7 || !ok || q.Grad().F32()[0] != 6 {
		t.Errorf("norm %v, %v, then %v; want 7, and nothing changed", norm, ok, q.Grad().F32())
	}
	if norm, ok := nn.ClipNorm(3.5, a, b); norm != 7 || !ok || q.Grad().F32()[0] != 3 || p.Grad().F32()[1] != 1.5 {
		t.Errorf("norm %v, %v, then %v %v; want half of everything", norm, ok, p.Grad().F32(), q.Grad().F32())
	}
	if norm, _ := nn.ClipNorm(100, a, b); norm != 3.5 || q.Grad().F32()[0] != 3 {
		t.Errorf("norm %v, then %v; want nothing changed", norm, q.Grad().F32())
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		q.Grad().Set([]float32{float32(bad)})
		if _, ok := nn.ClipNorm(1, a, b); ok || p.Grad().F32()[0] != 1 {
			t.Errorf("%v: ok %v, gradients %v; want false, and nothing scaled", bad, ok, p.Grad().F32())
		}
	}
}

func TestEMA(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	p := net.At("").Param("p", nn.Ones, 2)
	net.Init(0)
	warm, plain := nn.NewEMA(net, 0.9), nn.NewEMA(net, 0.9)
	plain.NoWarmup = true
	a, b := 1.0, 1.0
	for n := 1; n <= 20; n++ { // the start is not forgotten yet
		v := math.Sin(float64(n))
		p.Value.F64()[0], p.Value.F64()[1] = v, -v
		warm.Update()
		plain.Update()
		d := math.Min(0.9, float64(1+n)/float64(10+n))
		a, b = d*a+(1-d)*v, 0.9*b+0.1*v
	}
	last := p.Value.F64()[0]
	for _, c := range []struct {
		e    *nn.EMA
		want float64
	}{{warm, a}, {plain, b}} {
		c.e.Swap()
		if got := p.Value.F64()[0]; math.Abs(got-c.want) > 1e-13 {
			t.Errorf("the average is %v, want %v", got, c.want)
		}
		c.e.Swap()
		if got := p.Value.F64()[0]; got != last {
			t.Errorf("after two swaps %v, want %v", got, last)
		}
	}
}

func TestLearningRates(t *testing.T) {
	for name, c := range map[string]struct {
		lr   nn.LR
		want map[int]float64
	}{
		"constant":    {nn.Constant(2), map[int]float64{0: 2, 99: 2}},
		"warmup":      {nn.Warmup(4, nn.Constant(2)), map[int]float64{0: 0.5, 1: 1, 3: 2, 4: 2}},
		"cosine":      {nn.Cosine(3, 1, 10), map[int]float64{0: 3, 5: 2, 10: 1, 20: 1}},
		"linear":      {nn.LinearRate(3, 1, 10), map[int]float64{0: 3, 5: 2, 10: 1, 20: 1}},
		"multistep":   {nn.MultiStep(8, 0.5, 3, 6), map[int]float64{2: 8, 3: 4, 5: 4, 6: 2}},
		"exponential": {nn.Exponential(8, 0.5, 10), map[int]float64{0: 8, 10: 4, 20: 2, 5: 8 / math.Sqrt2}},
		"one cycle":   {nn.OneCycle(1, 0.25, 40), map[int]float64{0: 0.04, 5: 0.52, 10: 1, 25: 0.5 + 2e-6, 40: 4e-6, 50: 4e-6}},
	} {
		for step, want := range c.want {
			if got := c.lr(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: step %d has %v, want %v", name, step, got, want)
			}
		}
	}
}

// A hundred steps with the momentum in bfloat16 are those of loops in float32 with its rounding; half the state; and a checkpoint goes on with the
// same bits.
func TestLionNarrow(t *testing.T) {
	const n, rate, decay = 500, 3e-3, 0.1
	make1 := func() (*nn.Params, *nn.Lion) {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		net.At("a").Param("w", nn.Ones, n)
		net.Init(1)
		return net, nn.NewLion(net, nn.LionOptions{Decay: decay, Narrow: true})
	}
	net, lion := make1()
	w, m := make([]float32, n), make([]float32, n)
	for i := range w {
		w[i] = 1
	}
	walk := func(net *nn.Params, lion *nn.Lion, from, to int) {
		for s := from; s < to; s++ {
			net.Grad().Set(oracle.Normal(uint64(s), n))
			lion.Step(rate)
		}
	}
	path := filepath.Join(t.TempDir(), "c.safetensors")
	walk(net, lion, 0, 50)
	if err := nn.Save(path, nil, []nn.Part{{Of: net}, {Prefix: "opt.", Of: lion}}); err != nil {
		t.Fatal(err)
	}
	walk(net, lion, 50, 100)
	for s := range 100 {
		for i, g := range oracle.Normal(uint64(s), n) {
			b1, b2 := float32(0.9), float32(0.99)
			u := float32(b1*m[i]) + float32((1-b1)*g)
			step := float32(0)
			if u > 0 {
				step = rate
			} else if u < 0 {
				step = -rate
			}
			keep := 1 - rate*decay
			w[i] = float32(float32(keep)*w[i]) - step
			m[i] = gpu.BF16ToFloat(gpu.FloatToBF16(float32(b2*m[i]) + float32((1-b2)*g)))
		}
	}
	for i, v := range floats(net.Value()) {
		if math.Abs(v-float64(w[i])) > 1e-6 {
			t.Fatalf("parameter %d is %v after 100 steps, want %v", i, v, w[i])
		}
	}
	state := lion.State()[1].Tensor
	if state.DType() != gpu.BFloat16 || state.Len() != n {
		t.Errorf("the momentum is %d of %v", state.Len(), state.DType())
	}
	net2, lion2 := make1()
	if r, err := nn.Load(path, nn.LoadOptions{}, nn.Part{Of: net2}, nn.Part{Prefix: "opt.", Of: lion2}); err != nil {
		t.Fatal(r, err)
	}
	walk(net2, lion2, 50, 100)
	if !slices.Equal(floats(net.Value()), floats(net2.Value())) || !slices.Equal(floats(state), floats(lion2.State()[1].Tensor)) {
		t.Error("other bits after a checkpoint")
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "want float32") {
			t.Errorf("float64: panic %q", got)
		}
	}()
	net64 := nn.NewParams(gpu.CPU(), gpu.Float64)
	net64.At("a").Param("w", nn.Ones, 3)
	net64.Init(1)
	nn.NewLion(net64, nn.LionOptions{Narrow: true})
}
