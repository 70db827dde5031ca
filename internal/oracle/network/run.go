package network

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Run compares a network on a tape with a golden file whose results have weights ("cot." of
// "out."), that make one loss, and that has sums of the parameters' gradients: "sums" is p·g and
// g·g of each "w." in the order of names.
type Run struct {
	*File
	dt   gpu.DType
	Net  *nn.Params
	Tape *nn.Tape

	leaves map[string]*nn.Var
	loss   *nn.Var
	cases  int
}

// StartRun opens the golden file for a network of that dtype, which is still to be registered in
// Net and loaded.
func StartRun(t *testing.T, dt gpu.DType, elem ...string) *Run {
	t.Helper()
	return &Run{File: Open(t, elem...), dt: dt, Net: nn.NewParams(gpu.CPU(), dt), Tape: nn.NewTape(gpu.CPU(), dt), leaves: map[string]*nn.Var{}}
}

// Load gives the network the file's parameters, under the peer's names; averages of buffers begin
// anew.
func (g *Run) Load() {
	g.t.Helper()
	g.Net.Init(1)
	g.load(g.Net, nn.LoadOptions{Missing: true})
	for _, p := range g.Net.All() {
		if _, _, err := g.f.Shape("w." + p.Name); err != nil {
			g.t.Fatalf("the golden file has no parameter %s", p.Name)
		}
	}
}

// Input is the tensor "in." of that name on the tape, whose gradient Gradients compares with "grad.".
func (g *Run) Input(name string) *nn.Var {
	g.t.Helper()
	v := g.Tape.Leaf(g.Tensor(g.dt, "in."+name))
	g.leaves[name] = v
	return v
}

// Equal compares with relative error of the whole: 1e-10 in float64, 1e-4 in float32.
func (g *Run) Equal(what string, got *gpu.Tensor, want []float64) {
	g.t.Helper()
	tol, size := 1e-4, 0.0
	if g.dt == gpu.Float64 {
		tol = 1e-10
	}
	for _, v := range want {
		size = max(size, math.Abs(v))
	}
	v := make([]float64, got.Len())
	if err := got.Read64(v); err != nil || len(v) != len(want) {
		g.t.Fatalf("%s: shape %v, the peer has %d elements (%v)", what, got.Shape(), len(want), err)
	}
	for i := range v {
		if !(math.Abs(v[i]-want[i]) <= tol*size) {
			g.t.Fatalf("%v, %s: element %d is %v, the peer has %v", g.dt, what, i, v[i], want[i])
		}
	}
	g.cases++
}

// Result compares a result and adds its share to the loss.
func (g *Run) Result(name string, v *nn.Var) {
	g.t.Helper()
	want, _ := g.Values("out." + name)
	g.Equal(name, v.Value(), want)
	c := v.Mul(g.Tape.Input(g.Tensor(g.dt, "cot."+name)).Reshape(v.Shape()...)).Sum()
	if g.loss == nil {
		g.loss = c
	} else {
		g.loss = g.loss.Add(c)
	}
}

// Indices compares whole numbers with "index." of that name.
func (g *Run) Indices(name string, got *gpu.Tensor) {
	g.t.Helper()
	want := g.read("index." + name).F64()
	for i, k := range got.I32() {
		if float64(k) != want[i] {
			g.t.Fatalf("%s: index %d is %d, the peer has %v", name, i, k, want[i])
		}
	}
	g.cases++
}

// Gradients walks back and compares the gradients by inputs and the sums of all parameters.
func (g *Run) Gradients() {
	g.t.Helper()
	g.Tape.Backward(g.loss)
	for name, v := range g.leaves {
		want, _ := g.Values("grad." + name)
		g.Equal("gradient by "+name, v.Grad(), want)
	}
	sums, _ := g.Values("sums")
	names := g.Params()
	var size float64
	for i := range names {
		size = max(size, math.Abs(sums[2*i]), sums[2*i+1])
	}
	for i, n := range names {
		p := g.Net.Get(n)
		if p == nil {
			g.t.Fatalf("there is no parameter %s", n)
		}
		var pg, gg float64
		v, d := make([]float64, p.Value.Len()), make([]float64, p.Value.Len())
		if p.Value.Read64(v) != nil || p.Grad().Read64(d) != nil {
			g.t.Fatal(n)
		}
		for j := range v {
			pg += v[j] * d[j]
			gg += d[j] * d[j]
		}
		tol := 1e-10
		if g.dt == gpu.Float32 {
			tol = 2e-4
		}
		// A bias before a norm has no gradient but rounding's: the floor is of the greatest sum.
		if math.Abs(gg-sums[2*i+1]) > tol*(sums[2*i+1]+1e-6*size) || math.Abs(pg-sums[2*i]) > tol*(math.Sqrt(sums[2*i+1])*norm(v)+1e-6*size) {
			g.t.Fatalf("%v, gradient by %s: p·g %v and g·g %v, the peer has %v and %v", g.dt, n, pg, gg, sums[2*i], sums[2*i+1])
		}
		g.cases++
	}
}

func norm(v []float64) (s float64) {
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s)
}

// Done fails unless that many comparisons were made.
func (g *Run) Done(cases int) {
	g.t.Helper()
	if g.cases != cases {
		g.t.Errorf("%d comparisons, want %d", g.cases, cases)
	}
}
