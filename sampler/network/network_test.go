package network

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// exact is the exact predictor of normal data of one deviation around the mean of a class, written as a network: on any path, of any prediction. Its
// class for none has the mean 0. It checks that no gradient is recorded.
type exact struct {
	t     *testing.T
	net   *nn.Params
	path  diffusion.Path
	pred  diffusion.Pred
	means []float64 // by class, the last for none
	dev   float64
	takes models.Takes
	calls int
}

func newExact(t *testing.T, dt gpu.DType, path diffusion.Path, pred diffusion.Pred) *exact {
	e := &exact{t: t, net: nn.NewParams(gpu.CPU(), dt), path: path, pred: pred, means: []float64{-0.8, 0.5, 0}, dev: 0.3}
	e.net.At("").Param("scale", nn.Ones, 1)
	e.net.Init(0)
	e.takes = models.Takes{Channels: 2, Out: 3, Classes: 2}
	return e
}

func (e *exact) Params() *nn.Params  { return e.net }
func (e *exact) Takes() models.Takes { return e.takes }

func (e *exact) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	e.calls++
	tape, n := x.Tape(), x.Shape()[0]
	cx, c1 := make([]float32, n), make([]float32, n)
	dx, d1 := make([]float64, n), make([]float64, n)
	times := make([]float64, n)
	if err := time.Value().Read64(times); err != nil {
		e.t.Fatal(err)
	}
	for i := range n {
		sigma := e.path.Sigma(times[i])
		a, b := e.path.Input(sigma)
		// x0 given x: mean + k·(x - a·mean), k = a·s²/(a²s² + b²); the prediction is px·x + p0·x0.
		m := e.means[in.Classes.I32()[i]]
		k := a * e.dev * e.dev / (a*a*e.dev*e.dev + b*b)
		px, p0, err := e.pred.FromX0(a, b)
		if err != nil {
			e.t.Fatal(err)
		}
		dx[i], d1[i] = px+p0*k, p0*(m-k*a*m)
		cx[i], c1[i] = float32(dx[i]), float32(d1[i])
	}
	put := func(v32 []float32, v64 []float64) *nn.Var {
		if tape.DType() == gpu.Float64 {
			return tape.Input(gpu.CPU().From64(v64, n, 1, 1, 1))
		}
		return tape.Input(gpu.CPU().From(v32, n, 1, 1, 1))
	}
	y := x.Mul(put(cx, dx)).Add(put(c1, d1)).Mul(tape.Use(e.net.All()[0]))
	if y.NeedsGrad() {
		e.t.Error("a gradient is recorded")
	}
	return nn.Concat(1, y, tape.Const(9, n, 1, x.Shape()[2], x.Shape()[3])) // a third channel that nobody asks for
}

// oracle is the exact x0.
func (e *exact) x0(x, sigma float64, class int) float64 {
	if class < 0 {
		class = 2
	}
	m, s2 := e.means[class], e.dev*e.dev
	return m + s2/(s2+sigma*sigma)*(x-m)
}

func states(n int, double bool) *gpu.Tensor {
	v := make([]float64, n*2*3*4)
	rng.New(4, 4).FillNormal64(v)
	if double {
		return gpu.CPU().From64(v, n, 2, 3, 4)
	}
	x := gpu.CPU().Empty(n, 2, 3, 4)
	for i, e := range v {
		x.F32()[i] = float32(e)
	}
	return x
}

// On every path and of every prediction a network that knows the answer gives it: scaling, conversion, classes, the class for none, a batch
// that is no multiple of the network's.
func TestDenoiserIsExact(t *testing.T) {
	cases := 0
	for _, c := range []struct{ path, pred string }{
		{"vp", "eps"}, {"vp", "x0"}, {"vp-cosine", "v"}, {"vp-sde", "score"}, {"ve", "eps"}, {"edm", "edm"}, {"edm", "x0"}, {"trigflow", "trigflow"},
		{"flow", "flow"}, {"flow-reversed", "flow-reversed"}, {"flow", "v"},
	} {
		path, err := diffusion.PathByName(c.path)
		if err != nil {
			t.Fatal(err)
		}
		pred, err := diffusion.PredByName(c.pred)
		if err != nil {
			t.Fatal(err)
		}
		for _, double := range []bool{true, false} {
			dt, tol := gpu.Float32, 2e-5
			if double {
				dt, tol = gpu.Float64, 1e-10
			}
			net := newExact(t, dt, path, pred)
			den := Denoiser(net, path, pred, Options{Batch: 4})
			sigma := []float64{0.05, 0.3, 1, 2, 10, 0.7, 0.02}
			classes := []int{0, 1, -1, 0, 1, -1, 1}
			x := states(7, double)
			for i, s := range sigma {
				for j := range 24 {
					if double {
						x.F64()[24*i+j] *= 1 + s
					} else {
						x.F32()[24*i+j] *= float32(1 + s)
					}
				}
			}
			out := x.Like()
			if err := den.Denoise(t.Context(), out, x, sigma, sampler.Cond{Classes: classes}); err != nil {
				t.Fatal(err)
			}
			xs, got := make([]float64, x.Len()), make([]float64, x.Len())
			if x.Read64(xs) != nil || out.Read64(got) != nil {
				t.Fatal("read")
			}
			for i, s := range sigma {
				// x0 is a difference of numbers of size s, known to the prediction's digits; a table's times are read back from sigma.
				lim := tol * (1 + s) * (1 + s)
				for j := range 24 {
					if want := net.x0(xs[24*i+j], s, classes[i]); math.Abs(got[24*i+j]-want) > lim {
						t.Errorf("%s, %s, %v at %g: %v, want %v", c.path, c.pred, dt, s, got[24*i+j], want)
						break
					}
				}
			}
			if net.calls != 2 {
				t.Errorf("%d calls for 7 pictures in batches of 4", net.calls)
			}
			cases++
		}
	}
	if cases != 22 {
		t.Errorf("%d cases", cases)
	}
}

// The states may be of another dtype than the network; a picture's bits depend neither on the batch nor on its place.
func TestDTypesAndBatches(t *testing.T) {
	path := diffusion.Flow{}
	net := newExact(t, gpu.Float32, path, diffusion.PredFlow)
	n := New(net, Options{Batch: 3})
	x, x64 := states(8, false), states(8, true)
	times := []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
	cond := sampler.Cond{Classes: []int{0, 1, 0, 1, -1, 1, 0, 0}}
	out, out64 := x.Like(), x64.Like()
	if err := n.Forward(t.Context(), out, x, times, cond); err != nil {
		t.Fatal(err)
	}
	if err := n.Forward(t.Context(), out64, x64, times, cond); err != nil {
		t.Fatal(err)
	}
	for i, v := range out.F32() {
		if float64(v) != out64.F64()[i] {
			t.Fatalf("value %d is %v of float32 states, %v of float64 ones", i, v, out64.F64()[i])
		}
	}
	one := x.Rows(0, 1).Like()
	for i := range 8 {
		if err := n.Forward(t.Context(), one, x.Rows(i, i+1), times[i:i+1], sampler.Cond{Classes: cond.Classes[i : i+1]}); err != nil {
			t.Fatal(err)
		}
		for j, v := range one.F32() {
			if v != out.F32()[24*i+j] {
				t.Fatalf("picture %d alone differs", i)
			}
		}
	}
	// Without classes all are none.
	if err := n.Forward(t.Context(), out, x, times, sampler.Cond{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Forward(t.Context(), out64, x64, times, sampler.Cond{Classes: []int{-1, -1, -1, -1, -1, -1, -1, -1}}); err != nil {
		t.Fatal(err)
	}
	if float64(out.F32()[5]) != out64.F64()[5] {
		t.Error("no classes are not class -1")
	}
}

// A whole run with guidance draws the law that the network knows: means and deviations of the classes.
func TestSamplesOfAClass(t *testing.T) {
	path := diffusion.Flow{}
	net := newExact(t, gpu.Float32, path, diffusion.PredFlow)
	g, err := diffusion.Build(path, diffusion.Spec{Rule: "flow", Steps: 40})
	if err != nil {
		t.Fatal(err)
	}
	solver, err := sampler.ByName("heun")
	if err != nil {
		t.Fatal(err)
	}
	const n = 200
	classes := make([]int, n)
	for i := range classes {
		classes[i] = i % 2
	}
	r, err := sampler.Run(t.Context(), Denoiser(net, path, diffusion.PredFlow, Options{Batch: 50}), solver, g, sampler.Options{N: n, Batch: n, Shape: []int{2, 3, 4}, Cond: sampler.Cond{Classes: classes}})
	if err != nil {
		t.Fatal(err)
	}
	for class := range 2 {
		var s, q, k float64
		for i := class; i < n; i += 2 {
			for _, v := range r.X.F32()[24*i : 24*(i+1)] {
				s, q, k = s+float64(v), q+float64(v)*float64(v), k+1
			}
		}
		mean := s / k
		dev := math.Sqrt(q/k - mean*mean)
		if math.Abs(mean-net.means[class]) > 5*net.dev/math.Sqrt(k) || math.Abs(dev-net.dev) > 0.02 {
			t.Errorf("class %d: mean %.4f and deviation %.4f, want %.4f and %.4f", class, mean, dev, net.means[class], net.dev)
		}
	}
}

func TestRefuses(t *testing.T) {
	net := newExact(t, gpu.Float32, diffusion.Flow{}, diffusion.PredFlow)
	n := New(net, Options{})
	x := states(2, false)
	times := []float64{0.5, 0.5}
	for want, f := range map[string]func() error{
		"class 2, the network has 0 to 1": func() error {
			return n.Forward(t.Context(), x.Like(), x, times, sampler.Cond{Classes: []int{0, 2}})
		},
		"class -2, the": func() error {
			return n.Forward(t.Context(), x.Like(), x, times, sampler.Cond{Classes: []int{-2, 0}})
		},
		`input "text" is given`: func() error {
			return n.Forward(t.Context(), x.Like(), x, times, sampler.Cond{Inputs: map[string]*gpu.Tensor{"text": gpu.CPU().Empty(2, 3, 4)}})
		},
		"the network takes [n, 2, height, width]": func() error {
			return n.Forward(t.Context(), x.Like(), x.View(2, 1, 6, 4), times, sampler.Cond{})
		},
		"at 1 times": func() error { return n.Forward(t.Context(), x.Like(), x, times[:1], sampler.Cond{}) },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	net.takes.Tokens = map[string]int{"text": 4}
	if err := n.Forward(t.Context(), x.Like(), x, times, sampler.Cond{}); err != nil && !strings.Contains(err.Error(), "tokens") {
		t.Error(err)
	}
	n = New(net, Options{})
	if err := n.Forward(t.Context(), x.Like(), x, times, sampler.Cond{}); err == nil || !strings.Contains(err.Error(), `wants tokens "text"`) {
		t.Errorf("no tokens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Forward(ctx, x.Like(), x, times, sampler.Cond{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Inputs of the condition reach the network by their names.
func TestInputs(t *testing.T) {
	p := nn.NewParams(gpu.CPU(), gpu.Float32)
	p.At("").Param("w", nn.Ones, 1)
	p.Init(0)
	net := &told{p}
	n := New(net, Options{Batch: 2})
	x := gpu.CPU().Empty(3, 1, 2, 2)
	cond := sampler.Cond{Inputs: map[string]*gpu.Tensor{
		"text":  gpu.CPU().From([]float32{1, 2, 3, 4, 5, 6}, 3, 2, 1),
		"size":  gpu.CPU().From64([]float64{10, 20, 30}, 3, 1),
		"extra": gpu.CPU().From([]float32{100, 100, 100, 100, 200, 200, 200, 200, 300, 300, 300, 300}, 3, 1, 2, 2),
	}}
	out := x.Like()
	if err := n.Forward(t.Context(), out, x, []float64{0, 0, 0}, cond); err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{1 + 2 + 10 + 100, 3 + 4 + 20 + 200, 5 + 6 + 30 + 300} {
		for j := range 4 {
			if got := out.F32()[4*i+j]; got != want {
				t.Errorf("picture %d: %v, want %v", i, got, want)
			}
		}
	}
}

// told says the sum of all that it is told.
type told struct{ p *nn.Params }

func (n *told) Params() *nn.Params { return n.p }
func (n *told) Takes() models.Takes {
	return models.Takes{Channels: 1, Out: 1, Tokens: map[string]int{"text": 1}, Vectors: map[string]int{"size": 1}, Extra: 1}
}

func (n *told) Forward(x, _ *nn.Var, in models.Inputs) *nn.Var {
	b := x.Shape()[0]
	return x.Add(in.Tokens["text"].States.Sum(1, 2).Reshape(b, 1, 1, 1)).Add(in.Vectors["size"].Reshape(b, 1, 1, 1)).Add(in.Extra)
}
