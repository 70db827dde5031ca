package flow_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
)

// small is the configuration of the golden file.
func small() flow.Config {
	return flow.Config{PictureHeight: 4, PictureWidth: 6, Channels: 2, Patch: 2, Width: 12, Heads: 2, Blocks: 3, Layers: 2, Classes: 3}
}

func made(t testing.TB, c flow.Config, dt gpu.DType) (*nn.Params, *flow.Net) {
	t.Helper()
	net := nn.NewParams(gpu.CPU(), dt)
	m := flow.New(net.At(""), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0.2)
		if strings.Contains(p.Name, "proj_out") {
			p.Start = nn.Normal(0.05)
		}
	}
	net.Init(2)
	return net, m
}

func pictures(dt gpu.DType, n int) *gpu.Tensor {
	return gpu.CPU().FromAs(dt, oracle.Normal(3, n*2*4*6), n, 2, 4, 6)
}

func classes(c flow.Config, n int) *gpu.Tensor {
	if c.Classes == 0 {
		return nil
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(i) % int32(c.Classes+1)
	}
	return gpu.CPU().FromInt32(v, n)
}

func floats(x *gpu.Tensor) []float64 {
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		panic(err)
	}
	return v
}

// The peer is a twin in torch; see scripts/golden/tarflow.py, which holds its blocks to those of the
// authors, and its determinant to that of the Jacobian matrix.
func TestGoldenTarFlow(t *testing.T) {
	cases := 0
	for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-9} {
		f := network.Open(t, "flow", "tarflow.safetensors")
		net := nn.NewParams(gpu.CPU(), dt)
		m := flow.New(net.At(""), small())
		net.Init(1)
		f.Load(net)
		tape := nn.NewTape(gpu.CPU(), dt)
		y, x := f.Ints("y"), f.Tensor(dt, "x")
		tape.Run(func() {
			z, logdet := m.Forward(tape.Input(x), y)
			f.Near("z", z.Value(), tol)
			f.Near("logdet", logdet.Value(), tol)
			f.Near("nll", m.NLL(tape.Input(x), y).Value(), tol)
			loss := m.Loss(tape.Input(x), y)
			f.Near("loss", loss.Value(), tol)
			tape.Backward(loss)
		})
		cases += f.Grads(net, tol)
		tape.Run(func() {
			leaf := tape.Leaf(x)
			f.Near("score", tape.Grad(m.NLL(leaf, y).Sum(), leaf)[0], 10*tol)
		})
		for name, o := range map[string]flow.InverseOptions{"inverse": {}, "guided": {Guidance: 0.7}, "annealed": {Guidance: 0.7, Anneal: true}} {
			o.Classes = y
			got, err := m.Inverse(tape, f.Tensor(dt, "latent"), o)
			if err != nil {
				t.Fatal(err)
			}
			f.Near(name, got, tol)
			cases++
		}
	}
	if cases != 2*(3*(6+2*12)+3) {
		t.Errorf("%d gradients and inverses were compared", cases)
	}
}

// kinds are flows with and without classes and scales.
var kinds = map[string]func(c *flow.Config){
	"classes":  func(*flow.Config) {},
	"plain":    func(c *flow.Config) { c.Classes = 0 },
	"additive": func(c *flow.Config) { c.Additive = true },
}

func TestInverseIsTheInverse(t *testing.T) {
	for name, change := range kinds {
		for dt, tol := range map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-11} {
			c := small()
			change(&c)
			_, m := made(t, c, dt)
			tape := nn.NewTape(gpu.CPU(), dt)
			tape.Arena().Poison(true)
			x, y := pictures(dt, 3), classes(c, 3)
			z := m.Config.Tokens()
			latent := gpu.CPU().New(dt, 3, z, m.Config.Dim())
			tape.Run(func() {
				got, _ := m.Forward(tape.Input(x), y)
				latent.Copy(got.Value())
			})
			if slices.Equal(floats(latent)[:4], floats(x)[:4]) {
				t.Fatalf("%s: the flow is the identity", name)
			}
			back, err := m.Inverse(tape, latent, flow.InverseOptions{Classes: y})
			if err != nil {
				t.Fatal(err)
			}
			want := floats(x)
			for i, v := range floats(back) {
				if !(math.Abs(v-want[i]) <= tol*(1+math.Abs(want[i]))) {
					t.Fatalf("%s, %v: element %d comes back as %v, was %v", name, dt, i, v, want[i])
				}
			}
		}
	}
}

// The determinant is that of the matrix of differences.
func TestDeterminant(t *testing.T) {
	for name, change := range kinds {
		c := small()
		change(&c)
		_, m := made(t, c, gpu.Float64)
		tape := nn.NewTape(gpu.CPU(), gpu.Float64)
		x, y := pictures(gpu.Float64, 1), classes(c, 1)
		n := x.Len()
		value := func() (z []float64, d float64) {
			tape.Run(func() {
				zv, dv := m.Forward(tape.Input(x), y)
				z, d = slices.Clone(floats(zv.Value())), dv.Item()
			})
			return z, d
		}
		_, got := value()
		jacobian := make([][]float64, n) // of columns
		for i := range jacobian {
			const h = 1e-6
			v := x.F64()
			old := v[i]
			v[i] = old + h
			up, _ := value()
			v[i] = old - h
			down, _ := value()
			v[i] = old
			for j := range up {
				up[j] = (up[j] - down[j]) / (2 * h)
			}
			jacobian[i] = up
		}
		if want := logDet(jacobian); math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: the logarithm of the determinant is %v, differences give %v", name, got, want)
		}
		if c.Additive && got != 0 {
			t.Errorf("an additive flow has the determinant e^%v", got)
		}
	}
}

// logDet is the logarithm of |det| by elimination with pivots.
func logDet(a [][]float64) (s float64) {
	for k := range a {
		p := k
		for i := k; i < len(a); i++ {
			if math.Abs(a[i][k]) > math.Abs(a[p][k]) {
				p = i
			}
		}
		a[k], a[p] = a[p], a[k]
		s += math.Log(math.Abs(a[k][k]))
		for i := k + 1; i < len(a); i++ {
			f := a[i][k] / a[k][k]
			for j := k; j < len(a); j++ {
				a[i][j] -= f * a[k][j]
			}
		}
	}
	return s
}

func TestFlowTrains(t *testing.T) {
	for name, change := range kinds {
		c := small()
		change(&c)
		net, m := made(t, c, gpu.Float64)
		t.Run(name, func(t *testing.T) {
			network.Directions(t, net, 4, 1e-6, func(tape *nn.Tape) *nn.Var {
				return m.Loss(tape.Input(pictures(gpu.Float64, 3)), classes(c, 3))
			})
			net32, m32 := made(t, c, gpu.Float32)
			x, y := pictures(gpu.Float32, 3), classes(c, 3)
			network.StepsAllocateNothing(t, net32, gpu.Float32, func(tape *nn.Tape) *nn.Var { return m32.Loss(tape.Input(x), y) })
		})
	}
}

// At the start a flow is the identity, its density the normal distribution's, and bits follow.
func TestFlowAtTheStart(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	m := flow.New(net.At(""), small())
	net.Init(1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := pictures(gpu.Float64, 2)
	nll := floats(m.NLL(tape.Input(x), classes(small(), 2)).Value())
	for r := range 2 {
		want := 0.0
		for _, v := range x.F64()[r*48:][:48] {
			want += v*v/2 + math.Log(2*math.Pi)/2
		}
		if math.Abs(nll[r]-want) > 1e-10 {
			t.Errorf("picture %d has %v nats, want %v", r, nll[r], want)
		}
	}
	// A density that is even over [-1, 1] takes as many bits as there are levels.
	if got := flow.BitsPerDim(48*math.Log(2), 48, 256); math.Abs(got-8) > 1e-12 {
		t.Errorf("%v bits, want 8", got)
	}
	sigma := 0.5 // of a normal distribution the score is -x
	got := m.Denoise(tape, x, classes(small(), 2), sigma)
	for i, v := range floats(got) {
		if want := x.F64()[i] * (1 - sigma*sigma); math.Abs(v-want) > 1e-12 {
			t.Fatalf("element %d is denoised to %v, want %v", i, v, want)
		}
	}
}

// Tokens that were tried and taken back leave no trace; the block's coefficients are the whole's.
func TestContinueEqualsCoefficients(t *testing.T) {
	_, m := made(t, small(), gpu.Float64)
	b, y := m.Blocks[1], classes(small(), 2)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, 2*6*8), 2, 6, 8)
	a, shift := b.Coefficients(tape.Input(x), y)
	cache := b.NewCache(tape, 2)
	check := func(first, n int) {
		t.Helper()
		gotA, gotB := b.Continue(cache, tape.Input(x).Slice(1, first, n), y)
		for name, p := range map[string][2]*nn.Var{"a": {gotA, a}, "b": {gotB, shift}} {
			want := floats(p[1].Slice(1, first+1, n).Value())
			for i, v := range floats(p[0].Value()) {
				if math.Abs(v-want[i]) > 1e-12 {
					t.Fatalf("%s after tokens %d to %d: %v, want %v", name, first, first+n-1, v, want[i])
				}
			}
		}
	}
	check(0, 2)
	b.Continue(cache, tape.Const(9, 2, 3, 8), y)
	cache.Truncate(2)
	check(2, 2)
	cache.Truncate(2)
	check(2, 1)
	check(3, 2)
	// The first token depends on nothing, and a token only on those before it.
	other := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, 2*6*8), 2, 6, 8)
	other.F64()[3*8] += 1
	a2, _ := b.Coefficients(tape.Input(other), y)
	was, is := floats(a.Value()), floats(a2.Value())
	if !slices.Equal(was[:4*8], is[:4*8]) || was[4*8] == is[4*8] || !slices.Equal(was[48:], is[48:]) || was[0] != 0 {
		t.Error("a change of token 3 moves coefficients up to its own, or of the other picture, or none after it")
	}
}

func TestEvaluationsOfTheInverse(t *testing.T) {
	_, m := made(t, small(), gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	latent := gpu.CPU().Zeros(gpu.Float32, 3, 6, 8)
	if _, err := m.Inverse(tape, latent, flow.InverseOptions{Classes: classes(small(), 3)}); err != nil {
		t.Fatal(err)
	}
	for k, b := range m.Blocks {
		if calls, layers := b.Body.Evaluations(); calls != 5 || layers != 5*3*2 {
			t.Errorf("block %d: %d calls and %d layers, want 5 and 30", k, calls, layers)
		}
	}
}

func TestCountsOfFlows(t *testing.T) {
	for _, c := range []struct {
		config flow.Config
		want   int
	}{
		{flow.MNIST(), 4 * (17*96 + 59*96 + 97*32 + 2*(4*97*96+97*384+385*96+4*96))},
		{flow.ImageNet64(), 8 * (13*768 + (1024+1000)*768 + 769*24 + 8*(4*769*768+769*3072+3073*768+4*768))},
	} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		flow.New(net.At(""), c.config)
		if got := net.Count(); got != c.want {
			t.Errorf("%+v has %d values, want %d", c.config, got, c.want)
		}
	}
}

func TestBadFlows(t *testing.T) {
	for want, f := range map[string]func(c *flow.Config){
		"Patch is 3 for pictures of 4×6":  func(c *flow.Config) { c.Patch = 3 },
		"Patch is 0":                      func(c *flow.Config) { c.Patch = 0 },
		"want two patches or more":        func(c *flow.Config) { c.PictureWidth, c.Patch = 4, 4 },
		"Channels is 0":                   func(c *flow.Config) { c.Channels = 0 },
		"Blocks is 0":                     func(c *flow.Config) { c.Blocks = 0 },
		"Layers is 0":                     func(c *flow.Config) { c.Layers = 0 },
		"Classes is -1":                   func(c *flow.Config) { c.Classes = -1 },
		"Heads is 5 for Width 12":         func(c *flow.Config) { c.Heads = 5 },
		"Patch is 2 for pictures of -4×6": func(c *flow.Config) { c.PictureHeight = -4 },
	} {
		c := small()
		f(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	_, m := made(t, small(), gpu.Float32)
	plain := small()
	plain.Classes = 0
	_, none := made(t, plain, gpu.Float32)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x, z := tape.Input(pictures(gpu.Float32, 2)), gpu.CPU().Zeros(gpu.Float32, 2, 6, 8)
	oracle.Refuses(t, map[string]func(){
		"pictures of shape [2 2 4], want":      func() { m.Forward(tape.Const(0, 2, 2, 4), nil) },
		"0 classes for tokens of shape":        func() { m.Forward(x, nil) },
		"3 classes for tokens of shape":        func() { m.Forward(x, classes(small(), 3)) },
		"2 classes for tokens of shape":        func() { none.Forward(x, classes(small(), 2)) },
		"a latent of shape [2 48], want [B, 6": func() { m.Inverse(tape, z.View(2, 48), flow.InverseOptions{}) },
		"guidance 1 of a flow with 0 classes":  func() { none.Inverse(tape, z, flow.InverseOptions{Guidance: 1}) },
		"guidance NaN":                         func() { m.Inverse(tape, z, flow.InverseOptions{Guidance: math.NaN()}) },
		"noise of standard deviation -1":       func() { m.Denoise(tape, z, nil, -1) },
		"after 0, want [B, at most 6, 8]":      func() { m.Blocks[0].Continue(m.Blocks[0].NewCache(tape, 2), tape.Const(0, 2, 7, 8), nil) },
		"tokens of shape [2 5 8], want":        func() { m.Blocks[0].Coefficients(tape.Const(0, 2, 5, 8), nil) },
		"flow: Patch is 0":                     func() { flow.New(nn.NewParams(gpu.CPU(), gpu.Float32).At(""), flow.Config{}) },
	})
	z.F32()[8*6+2*8] = float32(math.Inf(1))
	if _, err := m.Inverse(tape, z, flow.InverseOptions{Classes: classes(small(), 2)}); err == nil || !strings.Contains(err.Error(), "block 2: no finite number for sample 1 at token 2") {
		t.Errorf("the error is %v", err)
	}
}
