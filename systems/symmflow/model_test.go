package symmflow

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid/measure"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// exact is the network of a law whose velocity is known: the pixels of a picture are apart, each is of a class k with equal chance, gray of
// mean gray[k] and deviation dev, its label's three colours of means that are the palette's and of that deviation. Of one class alone
//
//	v = E[u] + cov(u, z)/var(z)·(z - E[z])
//
// in every channel; of several it is the mean of theirs by what z says of the class. The levels of gray lie far apart: the flow keeps a
// label with its picture where at every time one of both tells the class, as pictures of many pixels do. Levels of -0.8, 0 and 0.8 are
// lost in the noise at t = 1/2, and what comes back is another label.
type exact struct {
	params  *nn.Params
	gray    []float64
	palette label.Palette
	dev     float64
	side    int
	asked   [][]float32 // what it was asked, where it is not nil
	times   []float32
}

func newExact(dev float64) *exact {
	e := &exact{params: nn.NewParams(gpu.CPU(), gpu.Float32), gray: []float64{-8, 0, 8}, palette: Forms[:3], dev: dev, side: 4}
	e.params.At("").Param("none", nn.Zeros, 1)
	e.params.Init(1)
	return e
}

func (e *exact) model(t *testing.T) *Model {
	t.Helper()
	m, err := NewModel(e, Coding{Kind: Palette, Beta: 10, Classes: 3, Palette: e.palette}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (e *exact) Params() *nn.Params { return e.params }

func (e *exact) Takes() models.Takes {
	return models.Takes{Channels: 4, Out: 4, Height: e.side, Width: e.side}
}

func (e *exact) Forward(x, time *nn.Var, _ models.Inputs) *nn.Var {
	z, ts := x.Value().F32(), time.Value().F32()
	out := x.Value().Like()
	pixels := e.side * e.side
	if e.asked != nil {
		e.asked, e.times = append(e.asked, slices.Clone(z)), append(e.times, ts...)
	}
	for b, t := range ts {
		for p := range pixels {
			at := func(ch int) int { return (b*4+ch)*pixels + p }
			v := e.velocity([4]float64{float64(z[at(0)]), float64(z[at(1)]), float64(z[at(2)]), float64(z[at(3)])}, float64(t))
			for ch := range v {
				out.F32()[at(ch)] = float32(v[ch])
			}
		}
	}
	return x.Tape().Input(out)
}

func (e *exact) velocity(z [4]float64, t float64) (v [4]float64) {
	const s = 1e-4
	keep, d2 := 1-(1-s)*t, e.dev*e.dev
	var logs [3]float64
	var each [3][4]float64
	for k := range e.gray {
		for ch := range z {
			var mean, variance, move, cov float64
			if ch == 0 { // keep·ξ + t·x
				mean, variance = t*e.gray[k], keep*keep+t*t*d2
				move, cov = e.gray[k], t*d2-(1-s)*keep
			} else { // keep·y + t·ξ
				y := 2*float64(e.palette[k].Color[ch-1])/255 - 1
				mean, variance = keep*y, keep*keep*d2+t*t
				move, cov = -(1-s)*y, t-(1-s)*keep*d2
			}
			off := z[ch] - mean
			each[k][ch] = move + cov/variance*off
			logs[k] -= off*off/(2*variance) + math.Log(variance)/2
		}
	}
	most := math.Max(logs[0], math.Max(logs[1], logs[2]))
	var sum float64
	for k := range logs {
		logs[k] = math.Exp(logs[k] - most)
		sum += logs[k]
	}
	for k := range logs {
		for ch := range v {
			v[ch] += logs[k] / sum * each[k][ch]
		}
	}
	return v
}

// masks are n random masks of the law, and a picture of each.
func (e *exact) masks(n int) (ids [][]uint8, x *gpu.Tensor) {
	r := rng.New(7, 7)
	pixels := e.side * e.side
	x = gpu.CPU().New(gpu.Float32, n, 1, e.side, e.side)
	for i := range n {
		m := make([]uint8, pixels)
		for p := range m {
			m[p] = uint8(r.Intn(3))
			x.F32()[i*pixels+p] = float32(e.gray[m[p]] + e.dev*r.Normal())
		}
		ids = append(ids, m)
	}
	return ids, x
}

func confused(t *testing.T, truth, said [][]uint8) *measure.Confusion {
	t.Helper()
	c := measure.NewConfusion(3)
	for i := range truth {
		if err := c.Add(truth[i], said[i]); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Where the velocity is exact, labels are read in one step and in many, by every solver; time or sign reversed, they are not.
func TestLabelExact(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	truth, x := e.masks(12)
	for _, o := range []Options{{Steps: 1}, {Steps: 25}, {Steps: 20, Solver: "midpoint"}, {Steps: 20, Solver: "heun"}, {Steps: 20, Solver: "rk4"}, {Steps: 2, Solver: "dopri5"}} {
		o.Seed = 3
		said, err := m.Label(t.Context(), x, o)
		if err != nil {
			t.Fatal(err)
		}
		if v := confused(t, truth, said).MeanIoU(); v <= 0.95 {
			t.Errorf("%+v: mIoU %g", o, v)
		}
	}
	z := m.start(12, Options{Seed: 3})
	for i := range truth {
		to, _ := m.parts(z.F32(), i)
		copy(to, x.F32()[i*len(to):])
	}
	wrong, err := m.walk(t.Context(), z, true, Options{Steps: 25}) // the same states as if they were at t = 0
	if err != nil {
		t.Fatal(err)
	}
	var said [][]uint8
	for i := range truth {
		_, y := m.parts(wrong.F32(), i)
		said = append(said, m.Coding.Decode(y))
	}
	if v := confused(t, truth, said).MeanIoU(); v > 0.6 {
		t.Errorf("time reversed the mIoU is %g: the test shows nothing", v)
	}
}

// Forward from a mask in 200 steps and backward with fresh noise returns the mask; pictures have the law's levels and deviation.
func TestRoundTrip(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	truth, _ := e.masks(12)
	x, err := m.Generate(t.Context(), truth, Options{Steps: 200, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	var sum, squares, n float64
	for i, ids := range truth {
		for p, k := range ids {
			off := float64(x.F32()[i*len(ids)+p]) - e.gray[k]
			if math.Abs(off) > 0.6 {
				t.Fatalf("a pixel of class %d is %g", k, x.F32()[i*len(ids)+p])
			}
			sum, squares, n = sum+off, squares+off*off, n+1
		}
	}
	if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.04 || math.Abs(dev-0.1) > 0.03 {
		t.Errorf("pixels are off by %g ± %g, want 0 ± 0.1", mean, dev)
	}
	said, err := m.Label(t.Context(), x, Options{Steps: 200, Seed: 6})
	if err != nil {
		t.Fatal(err)
	}
	if v := confused(t, truth, said).MeanIoU(); v <= 0.95 {
		t.Errorf("the masks that come back have an mIoU of %g", v)
	}
}

// One class is a normal law, whose flow is a line: x = gray + √(s²+dev²)·ξ. The error falls with the steps by the solver's order.
func TestNormalFlow(t *testing.T) {
	e := newExact(0.5)
	e.gray, e.palette = []float64{0.3, 0.3, 0.3}, slices.Clone(e.palette)
	m := e.model(t)
	for k := range e.palette {
		e.palette[k].Color = [3]uint8{200, 100, 50} // one law, whatever the class
	}
	ids := [][]uint8{make([]uint8, 16), make([]uint8, 16)}
	noise := m.start(2, Options{Seed: 9})
	off := func(solver string, steps int) float64 {
		x, err := m.Generate(t.Context(), ids, Options{Steps: steps, Solver: solver, Seed: 9})
		if err != nil {
			t.Fatal(err)
		}
		var most float64
		for i := range ids {
			xi, _ := m.parts(noise.F32(), i)
			for p, n := range xi {
				want := 0.3 + math.Sqrt(1e-8+0.25)*float64(n)
				most = math.Max(most, math.Abs(float64(x.F32()[i*16+p])-want))
			}
		}
		return most
	}
	for solver, order := range map[string]float64{"euler": 1, "midpoint": 2, "heun": 2} {
		a, b := off(solver, 20), off(solver, 80)
		if got := math.Log(a/b) / math.Log(4); got < order-0.1 {
			t.Errorf("%s: errors of %g and %g in 20 and 80 steps, order %.2f, want %g or more", solver, a, b, got, order)
		}
	}
	if v := off("rk4", 40); v > 2e-4 {
		t.Errorf("rk4 in 40 steps is off by %g", v)
	}
}

// n steps are n evaluations at k/n, each time once, and one step of a label is ξ - v_y(x, ξ, 1). Whoever counts int(1/step) steps loses some.
func TestStepsByCount(t *testing.T) {
	lost := 0
	for n := 1; n <= 200; n++ {
		steps := grid(n).Steps
		v := []float64{steps[0].From.B}
		for _, s := range steps {
			v = append(v, s.To.B)
		}
		if len(v) != n+1 || v[0] != 1 || v[n] != 0 {
			t.Errorf("%d steps: %d bounds from %g to %g", n, len(v), v[0], v[n])
		}
		if step := 1 / float64(n); int(1/step) != n {
			lost++
		}
	}
	if lost == 0 {
		t.Error("int(1/step) is right for all: the test shows nothing")
	}
	e := newExact(0.1)
	m := e.model(t)
	e.asked = [][]float32{}
	_, x := e.masks(1)
	if _, err := m.Generate(t.Context(), [][]uint8{make([]uint8, 16)}, Options{Steps: 25}); err != nil {
		t.Fatal(err)
	}
	if len(e.asked) != 25 {
		t.Errorf("25 steps of 0.04 asked %d times", len(e.asked))
	}
	for k := range e.asked {
		if got, want := e.times[k*evaluated], float64(k)*0.04; math.Abs(float64(got)-want) > 1e-6 {
			t.Errorf("evaluation %d is at %g, want %g", k, got, want)
		}
	}
	e.asked, e.times = [][]float32{}, nil
	y, err := m.label(t.Context(), x, Options{Steps: 1, Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.asked) != 1 || e.times[0] != 1 {
		t.Fatalf("one step asked %d times, at %v", len(e.asked), e.times)
	}
	_, noise := m.parts(m.start(1, Options{Seed: 4}).F32(), 0)
	_, given := m.parts(e.asked[0], 0)
	if !slices.Equal(noise, given) {
		t.Error("at t = 1 the label's channels are not the noise alone")
	}
	for p := range 16 {
		z := [4]float64{float64(x.F32()[p]), float64(noise[p]), float64(noise[16+p]), float64(noise[32+p])}
		v := e.velocity(z, 1)
		for ch := range 3 {
			if want := z[1+ch] - v[1+ch]; math.Abs(float64(y[0][ch*16+p])-want) > 1e-5 {
				t.Errorf("pixel %d, channel %d: %g, want ξ - v = %g", p, ch, y[0][ch*16+p], want)
			}
		}
	}
}

// A picture depends on the seed, its number and its label, not on the others.
func TestPicturesApart(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	truth, _ := e.masks(5)
	all, err := m.Generate(t.Context(), truth, Options{Steps: 4, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	last, err := m.Generate(t.Context(), truth[3:], Options{Steps: 4, Seed: 2, First: 3, Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(all.F32()[3*16:], last.F32()) {
		t.Error("pictures 3 and 4 differ when drawn alone")
	}
}

func TestModelRefused(t *testing.T) {
	e := newExact(0.1)
	m := e.model(t)
	truth, x := e.masks(1)
	for want, o := range map[string]Options{
		"0 steps; want 1 or more": {}, "-3 steps": {Steps: -3}, `solver "ddpm"; want one of euler, midpoint`: {Steps: 1, Solver: "ddpm"},
		"1 step of dopri5; want 2 or more": {Steps: 1, Solver: "dopri5"},
	} {
		if _, err := m.Generate(t.Context(), truth, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("generate: %v, want %q", err, want)
		}
		if _, err := m.Label(t.Context(), x, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("label: %v, want %q", err, want)
		}
	}
	o := Options{Steps: 1}
	if _, err := m.Generate(t.Context(), [][]uint8{{3}}, o); err == nil || !strings.Contains(err.Error(), "label 0: symmflow: a label of 1 classes for 16 pixels") {
		t.Error(err)
	}
	if _, err := m.Generate(t.Context(), [][]uint8{slices.Repeat([]uint8{3}, 16)}, o); err == nil || !strings.Contains(err.Error(), "class 3 at place 0") {
		t.Error(err)
	}
	if _, err := m.Generate(t.Context(), nil, o); err == nil || !strings.Contains(err.Error(), "no labels") {
		t.Error(err)
	}
	for _, shape := range [][]int{{1, 3, 4, 4}, {1, 1, 8, 8}, {16, 16}} {
		if _, err := m.Label(t.Context(), gpu.CPU().New(gpu.Float32, shape...), o); err == nil || !strings.Contains(err.Error(), "want [n, 1, 4, 4]") {
			t.Errorf("%v: %v", shape, err)
		}
	}
	if _, err := NewModel(e, Coding{Kind: OneHot, Beta: 4, Classes: 4}, 1); err == nil || !strings.Contains(err.Error(), "a network of 4 channels that gives 4; want 1 of pictures and 4 of labels") {
		t.Error(err)
	}
}
