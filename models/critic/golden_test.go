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
	"github.com/fidlab/fidlab/tensor"
)

// golden is a file of scripts/golden/codec.py: weights, inputs, results and gradients, of which
// each parameter has two sums.
type golden struct {
	t    *testing.T
	f    *tensor.Safetensors
	dt   gpu.DType
	net  *nn.Params
	tape *nn.Tape

	leaves map[string]*nn.Var
	loss   *nn.Var
	cases  int
}

func openGolden(t *testing.T, dt gpu.DType, name string) *golden {
	t.Helper()
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "critic", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &golden{t: t, f: f, dt: dt, net: nn.NewParams(gpu.CPU(), dt), tape: nn.NewTape(gpu.CPU(), dt), leaves: map[string]*nn.Var{}}
}

func (g *golden) read(name string) ([]float64, []int) {
	g.t.Helper()
	a, err := g.f.Read(name)
	if err != nil {
		g.t.Fatal(err)
	}
	_, shape, _ := g.f.Shape(name)
	return a.F64(), shape
}

// load gives the network the file's weights, under the peer's names; running averages begin anew.
func (g *golden) load() {
	g.t.Helper()
	g.net.Init(1)
	_, err := nn.LoadFrom(g.f, nn.LoadOptions{Rename: func(n string) string {
		if !strings.HasPrefix(n, "w.") {
			return ""
		}
		return strings.TrimPrefix(n, "w.")
	}, Missing: true}, nn.Part{Of: g.net})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *golden) tensor(name string) *gpu.Tensor {
	g.t.Helper()
	v, shape := g.read(name)
	if g.dt == gpu.Float64 {
		return gpu.CPU().From64(v, shape...)
	}
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	return gpu.CPU().From(f, shape...)
}

func (g *golden) input(name string) *nn.Var {
	g.t.Helper()
	v := g.tape.Leaf(g.tensor("in." + name))
	g.leaves[name] = v
	return v
}

// near compares with relative error of the whole: 1e-10 in float64, 1e-4 in float32.
func (g *golden) near(what string, got *gpu.Tensor, want []float64) {
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

// result compares a result and adds its share to the loss.
func (g *golden) result(name string, v *nn.Var) {
	g.t.Helper()
	want, _ := g.read("out." + name)
	g.near(name, v.Value(), want)
	c := v.Mul(g.tape.Input(g.tensor("cot." + name)).Reshape(v.Shape()...)).Sum()
	if g.loss == nil {
		g.loss = c
	} else {
		g.loss = g.loss.Add(c)
	}
}

// gradients walks back and compares the gradients by inputs and the sums of all parameters.
func (g *golden) gradients() {
	g.t.Helper()
	g.tape.Backward(g.loss)
	for name, v := range g.leaves {
		want, _ := g.read("grad." + name)
		g.near("gradient by "+name, v.Grad(), want)
	}
	sums, _ := g.read("sums")
	var names []string
	for _, n := range g.f.Names() {
		if strings.HasPrefix(n, "w.") {
			names = append(names, strings.TrimPrefix(n, "w."))
		}
	}
	slices.Sort(names)
	var size float64
	for i := range names {
		size = max(size, math.Abs(sums[2*i]), sums[2*i+1])
	}
	for i, n := range names {
		p := g.net.Get(n)
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

func (g *golden) done(cases int) {
	g.t.Helper()
	if g.cases != cases {
		g.t.Errorf("%d comparisons, want %d", g.cases, cases)
	}
}

var dtypes = []gpu.DType{gpu.Float64, gpu.Float32}

func TestGoldenPatchGAN(t *testing.T) {
	for name, kind := range map[string]critic.Norm{"batch": critic.Batch, "group": critic.Group, "none": critic.None} {
		for _, dt := range dtypes {
			g := openGolden(t, dt, "patch_"+name)
			p := critic.NewPatchGAN(g.net.At(""), critic.PatchConfig{Channels: 2, Width: 4, Norm: kind, Groups: 2})
			g.load()
			g.tape.Run(func() {
				x := g.input("real")
				real, fake := p.Forward(x, true), p.Forward(g.input("fake"), true)
				g.result("real", real)
				g.result("fake", fake)
				g.result("hinge", nn.HingeCritic(real, fake))
				g.result("hinge_g", nn.HingeGenerator(fake))
				g.result("softplus", nn.SoftplusCritic(real, fake))
				g.result("softplus_g", nn.SoftplusGenerator(fake))
				extra := 0
				if kind == critic.Batch {
					extra = 3
					for _, s := range g.net.State() {
						for _, part := range []string{"mean", "var"} {
							if s.Name == "main.3.running_"+part {
								g.result(part, g.tape.Input(s.Tensor)) // after both batches
							}
						}
					}
					g.result("still", p.Forward(x, false))
				}
				g.gradients()
				g.done(6 + extra + 2 + len(g.net.All()))
			})
		}
	}
}

func TestGoldenFeatureDistance(t *testing.T) {
	for _, dt := range dtypes {
		g := openGolden(t, dt, "features")
		w := []*nn.Param{g.net.At("lin").Param("0", nn.Ones, 1, 3, 1, 1), g.net.At("lin").Param("1", nn.Ones, 1, 5, 1, 1)}
		g.load()
		g.tape.Run(func() {
			a := []*nn.Var{g.input("a0"), g.input("a1")}
			b := []*nn.Var{g.input("b0"), g.input("b1")}
			g.result("d", critic.FeatureDistance(a, b, []*nn.Var{g.tape.Use(w[0]), g.tape.Use(w[1])}))
			g.gradients()
		})
		g.done(1 + 4 + 2)
	}
}
