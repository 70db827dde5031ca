package network

import (
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
)

// adder keeps the sum of the first pixels that it was shown, times a half each step, and predicts that plus the class.
type adder struct {
	net   *nn.Params
	takes models.Takes
}

func newAdder(dev *gpu.Device, dt gpu.DType) *adder {
	a := &adder{nn.NewParams(dev, dt), models.Takes{Channels: 1, Out: 1, Height: 2, Width: 2, Classes: 2}}
	a.net.At("").Param("half", nn.Fill(0.5), 1)
	a.net.Init(0)
	return a
}

func (a *adder) Params() *nn.Params  { return a.net }
func (a *adder) Takes() models.Takes { return a.takes }
func (a *adder) State() [][]int      { return [][]int{{1}, {2, 3}} }

func (a *adder) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	y, _ := a.Step(x, time, in, nil)
	return y
}

func (a *adder) Step(x, _ *nn.Var, in models.Inputs, past []*nn.Var) (*nn.Var, []*nn.Var) {
	t, n := x.Tape(), x.Shape()[0]
	if past == nil {
		past = []*nn.Var{t.Const(0, n, 1), t.Const(0, n, 2, 3)}
	}
	class := make([]float32, n)
	for i := range class {
		class[i] = float32(in.Classes.I32()[i])
	}
	c := t.Input(t.Device().FromAs(t.DType(), class, n, 1))
	said := past[0].Add(c)
	next := past[0].Mul(t.Use(a.net.All()[0])).Add(x.Reshape(n, 4).Slice(1, 0, 1))
	return said.Reshape(n, 1, 1, 1).Add(x.Scale(0)), []*nn.Var{next, past[1].Affine(1, 1)}
}

// firsts are the first values of rows of four.
func firsts(t *testing.T, x *gpu.Tensor) (out []float64) {
	t.Helper()
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(v); i += 4 {
		out = append(out, v[i])
	}
	return out
}

// Each sample has a state of its own, in batches of the network's that do not fit as well; evaluations between two commits do not change
// it; a reset forgets.
func TestStateOfSamples(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		n := New(newAdder(gpu.CPU(), dt), Options{Batch: 2})
		if !n.Remembers() {
			t.Fatal("it does not remember")
		}
		x, out := gpu.CPU().Empty(5, 1, 2, 2), gpu.CPU().Empty(5, 1, 2, 2)
		times, cond := make([]float64, 5), sampler.Cond{Classes: []int{0, 1, 0, 1, -1}}
		if err := n.Forward(t.Context(), out, x, times, cond); err == nil || !strings.Contains(err.Error(), "nobody has reset it") {
			t.Errorf("error %v", err)
		}
		for range 2 { // batches
			n.Reset()
			if err := n.Commit(); err == nil || !strings.Contains(err.Error(), "without an evaluation") {
				t.Errorf("error %v", err)
			}
			kept := make([]float64, 5)
			for step := range 4 {
				for try := range 2 { // the last one counts
					for i := range 20 {
						x.F32()[i] = float32(step*10 + i + 100*(1-try))
					}
					if err := n.Forward(t.Context(), out, x, times, cond); err != nil {
						t.Fatal(err)
					}
					for i, got := range firsts(t, out) {
						if want := kept[i] + []float64{0, 1, 0, 1, 2}[i]; math.Abs(got-want) > 1e-5 {
							t.Errorf("%v, step %d, sample %d: %g, want %g", dt, step, i, got, want)
						}
					}
				}
				if err := n.Commit(); err != nil {
					t.Fatal(err)
				}
				for i := range kept {
					kept[i] = kept[i]/2 + float64(step*10+4*i)
				}
			}
			if err := n.Forward(t.Context(), out.Rows(0, 3), x.Rows(0, 3), times[:3], sampler.Cond{}); err == nil || !strings.Contains(err.Error(), "3 samples asked for, the state is that of 5") {
				t.Errorf("error %v", err)
			}
		}
	}
}

// Both halves of a guided batch have their own states; the result is that of two networks, one for each.
func TestStateOfGuidance(t *testing.T) {
	net := newAdder(gpu.CPU(), gpu.Float64)
	den := func() *sampler.Adapted { return Denoiser(net, diffusion.Flow{}, diffusion.PredX0, Options{Batch: 3}) }
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "uniform", Steps: 5})
	if err != nil {
		t.Fatal(err)
	}
	x := gpu.CPU().From64([]float64{1, 2, 3, 4, 5, 6, 7, 8}, 2, 1, 2, 2)
	o := sampler.Options{N: 2, Shape: []int{1, 2, 2}, Double: true, Noise: x, Cond: sampler.Cond{Classes: []int{0, 1}}}
	guided, err := sampler.Run(t.Context(), &sampler.Guided{Den: den(), Weight: 3}, sampler.DDIM{}, g, o)
	if err != nil {
		t.Fatal(err)
	}
	// By hand: D = null + 3·(class - null), each of what it has kept of the same states.
	for i, got := range firsts(t, guided.X) {
		x, kept := float64(4*i+1), [2]float64{}
		for _, s := range g.Steps {
			class, null := kept[0]+float64(i), kept[1]+2
			d := null + 3*(class-null)
			for k := range kept {
				kept[k] = kept[k]/2 + x
			}
			x = s.To.B/s.From.B*x + (s.To.A-s.To.B/s.From.B*s.From.A)*d
		}
		if math.Abs(got-x) > 1e-12 {
			t.Errorf("sample %d: %g, by hand %g", i, got, x)
		}
	}
}

// Memory is that of two states, however many steps there are.
func TestStateTakesNoMoreRoomLater(t *testing.T) {
	n := New(newAdder(gpu.CPU(), gpu.Float32), Options{Batch: 4})
	x, out := gpu.CPU().Empty(8, 1, 2, 2), gpu.CPU().Empty(8, 1, 2, 2)
	times, cond := make([]float64, 8), sampler.Cond{Classes: make([]int, 8)}
	n.Reset()
	step := func() {
		if err := n.Forward(t.Context(), out, x, times, cond); err != nil {
			t.Fatal(err)
		}
		if err := n.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	step()
	now, next := n.memory.now[0], n.memory.next[0]
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	for range 400 {
		step()
	}
	runtime.ReadMemStats(&b)
	if grown := (b.TotalAlloc - a.TotalAlloc) / 400; grown > 8<<10 { // variables of the test's network
		t.Errorf("%d bytes a step", grown)
	}
	if now != n.memory.now[0] || next != n.memory.next[0] { // an even number of swaps
		t.Error("the state was made anew")
	}
}
