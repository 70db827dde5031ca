package onnx

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
)

// pretended is a runner that answers with the formula of its test and keeps what
// it was given.
type pretended struct {
	in, out []Port
	answer  func(in map[string]*array, row, i int) float64
	rows    []int // of every call
	direct  bool  // the sample came as the caller's own memory
	memory  []float32
}

func (p *pretended) ports() (in, out []Port) { return p.in, p.out }
func (p *pretended) close() error            { return nil }

func (p *pretended) run(in []*array, out *array) error {
	byName := map[string]*array{}
	rows := 0
	for i, a := range in {
		if a.port.Name != p.in[i].Name || len(a.shape) != len(p.in[i].Shape) {
			return fmt.Errorf("input %d is %v %v, declared %v", i, a.port, a.shape, p.in[i])
		}
		n := int64(1)
		for j, d := range a.shape {
			if want := p.in[i].Shape[j]; want >= 0 && int64(want) != d {
				return fmt.Errorf("input %s has shape %v, declared %v", a.port.Name, a.shape, p.in[i])
			}
			n *= d
		}
		if have := len(a.f32) + len(a.f64) + len(a.f16) + len(a.i64) + len(a.i32); int64(have) != n {
			return fmt.Errorf("input %s has %d values for shape %v", a.port.Name, have, a.shape)
		}
		if byName[a.port.Name] = a; len(a.shape) > 2 {
			rows = int(a.shape[0])
			p.direct = len(p.memory) > 0 && len(a.f32) > 0 && &a.f32[0] == &p.memory[0]
		}
	}
	p.rows = append(p.rows, rows)
	per := 1
	for _, d := range out.shape[1:] {
		per *= int(d)
	}
	for r := range rows {
		for i := range per {
			out.set(r*per+i, p.answer(byName, r, i))
		}
	}
	return nil
}

func pretend(t *testing.T, p *pretended, side string) *Model {
	t.Helper()
	s, err := ParseSidecar([]byte(side))
	if err != nil {
		t.Fatal(err)
	}
	m, err := newModel(p, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ramp is x[b, ...] = 1, 2, 3, …
func ramp(dt gpu.DType, shape ...int) *gpu.Tensor {
	x := gpu.CPU().New(dt, shape...)
	for i := range x.Len() {
		switch dt {
		case gpu.Float64:
			x.F64()[i] = float64(i + 1)
		case gpu.Int32:
			x.I32()[i] = int32(i + 1)
		default:
			x.F32()[i] = float32(i + 1)
		}
	}
	return x
}

func all(x *gpu.Tensor) []float64 {
	out := make([]float64, x.Len())
	for i := range out {
		out[i] = value(x, i)
	}
	return out
}

// A model of every role: times and classes of each image, a text, a constant.
// Batches, the memory of the tensors and the dtypes leave the answer alone.
func TestForward(t *testing.T) {
	for _, fixed := range []int{-1, 1, 4} {
		for _, dt := range []string{"float32", "float64", "float16"} {
			for _, states := range []gpu.DType{gpu.Float32, gpu.Float64} {
				p := &pretended{
					in: []Port{
						{"words", dt, []int{fixed, -1}},
						{"z", dt, []int{fixed, 2, 1, 3}},
						{"t", "int64", []int{fixed}},
						{"y", "int32", []int{fixed}},
						{"w", dt, []int{1}},
						{"scale", dt, nil},
					},
					out: []Port{{"other", dt, []int{fixed}}, {"eps", dt, []int{fixed, 2, 1, 3}}},
					answer: func(in map[string]*array, row, i int) float64 {
						return in["z"].at(6*row+i) + 64*float64(in["t"].i64[row]) + 256*float64(in["y"].i32[row]) + in["words"].at(5*row+4)/4 + in["w"].at(0) + in["scale"].at(0)
					},
				}
				m := pretend(t, p, `{"prediction": "eps", "path": "vp", "sample": "z", "time_input": "t", "class_input": "y", "output": "eps",
					"values": {"w": 0.5, "scale": 2}, "no_class": 5, "classes": 5, "time": {"scale": 0.01, "offset": 1}}`)
				if got := m.Asks(); !slices.Equal(got, []string{"words"}) || !slices.Equal(m.Shape(), []int{2, 1, 3}) {
					t.Fatalf("asks for %v, samples of %v", got, m.Shape())
				}
				const n = 6
				x, times, classes := ramp(states, n, 2, 1, 3), []float64{0, 99, 150, 250, 350, 300}, []int{0, 1, -1, 2, 1, 4}
				p.memory = x.F32()
				words := ramp(gpu.Int32, n, 5)
				out := x.Like()
				if err := m.Forward(context.Background(), out, x, times, classes, map[string]*gpu.Tensor{"words": words}); err != nil {
					t.Fatal(err)
				}
				told := []float64{1, 2, 2, 4, 4, 4} // 1 + t/100, halves to even
				for i, got := range all(out) {
					b := i / 6
					y := []float64{0, 1, 5, 2, 1, 4}[b]
					want := float64(i+1) + 64*told[b] + 256*y + float64(5*b+5)/4 + 2.5
					if tol := map[string]float64{"float16": 1}[dt]; math.Abs(got-want) > tol { // 11 bits of values up to 2048
						t.Errorf("batch %d, %s, states %v: value %d is %g, want %g", fixed, dt, states, i, got, want)
					}
				}
				want := map[int][]int{-1: {6}, 1: {1, 1, 1, 1, 1, 1}, 4: {4, 4}}[fixed]
				if !slices.Equal(p.rows, want) {
					t.Errorf("batch %d: calls of %v images, want %v", fixed, p.rows, want)
				}
				if free := fixed == -1 && dt == "float32" && states == gpu.Float32; p.direct != free && fixed == -1 {
					t.Errorf("batch %d, %s, states %v: the state's own memory %t, want %t", fixed, dt, states, p.direct, free)
				}
			}
		}
	}
}

// Without classes a model that knows a class for none is asked for it.
func TestForwardWithoutClasses(t *testing.T) {
	p := &pretended{
		in:     []Port{{"sample", "float32", []int{-1, 1, 1, 2}}, {"timestep", "float32", nil}, {"class_labels", "int64", []int{-1}}},
		out:    []Port{{"out", "float32", []int{-1, 1, 1, 2}}},
		answer: func(in map[string]*array, row, _ int) float64 { return float64(in["class_labels"].i64[row]) },
	}
	m := pretend(t, p, `{"prediction": "eps", "path": "vp", "no_class": 7, "classes": 7}`)
	x := ramp(gpu.Float32, 3, 1, 1, 2)
	out := x.Like()
	if err := m.Forward(context.Background(), out, x, []float64{1, 1, 1}, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i, got := range all(out) {
		if got != 7 {
			t.Errorf("value %d is of class %g, want 7", i, got)
		}
	}
}

// One time for all: images of other times are asked apart, in order.
func TestForwardOneTime(t *testing.T) {
	for _, shape := range [][]int{nil, {1}} {
		p := &pretended{
			in: []Port{{"sample", "float32", []int{-1, 1, 2, 2}}, {"timestep", "float32", shape}}, out: []Port{{"out", "float32", []int{-1, 2, 2, 2}}},
			answer: func(in map[string]*array, row, i int) float64 {
				if i >= 4 {
					return math.NaN() // a variance, which nobody asked for
				}
				return in["sample"].at(4*row+i) * in["timestep"].at(0)
			},
		}
		m := pretend(t, p, `{"prediction": "flow", "path": "flow", "time": {"kind": "fraction", "scale": 1000}, "batch": 0}`)
		x := ramp(gpu.Float32, 5, 1, 2, 2)
		out := x.Like()
		times := []float64{0.5, 0.5, 0.25, 0.25, 0.125}
		if err := m.Forward(context.Background(), out, x, times, nil, nil); err != nil {
			t.Fatal(err)
		}
		for i, got := range all(out) {
			if want := float64(i+1) * 1000 * times[i/4]; got != want {
				t.Errorf("time %v: value %d is %g, want %g", shape, i, got, want)
			}
		}
		if !slices.Equal(p.rows, []int{2, 2, 1}) {
			t.Errorf("time %v: calls of %v images, want 2, 2 and 1", shape, p.rows)
		}
	}
}

// What the network is told of sigma, by the kinds' formulas.
func TestTimeKinds(t *testing.T) {
	for text, want := range map[string]float64{
		`"path": "ve"`: 3, `"path": "ve", "time": {"kind": "ln-sigma/4"}`: math.Log(3) / 4, `"path": "edm", "time": {"kind": "sigma"}`: 3,
		`"path": "flow", "time": {"kind": "fraction", "scale": 1000}`: 750, `"path": "flow-reversed"`: 0.25,
		`"path": "flow", "time": {"kind": "sigma"}`: 3, `"path": "trigflow", "time": {"offset": 1}`: math.Atan(6) + 1,
	} {
		s, err := ParseSidecar([]byte(`{"prediction": "x0", ` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := s.Convention()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Time.told(p, p.Time(3)); math.Abs(got-want) > 1e-12*math.Abs(want) {
			t.Errorf("%s: told %g at sigma 3, want %g", text, got, want)
		}
	}
}

func TestSignaturesRefused(t *testing.T) {
	sample, step := Port{"sample", "float32", []int{-1, 3, 8, 8}}, Port{"timestep", "int64", nil}
	same := Port{"out", "float32", []int{-1, 3, 8, 8}}
	for want, c := range map[string]struct {
		in, out []Port
		side    string
	}{
		"no input for the state and the time":          {[]Port{sample}, []Port{same}, ``},
		"is of type bool":                              {[]Port{sample, step, {"mask", "bool", nil}}, []Port{same}, ``},
		`sample: there is no "x"`:                      {[]Port{sample, step}, []Port{same}, `, "sample": "x"`},
		`time_input: there is no "t"`:                  {[]Port{sample, step}, []Port{same}, `, "time_input": "t"`},
		`class_input: there is no "y"`:                 {[]Port{sample, step}, []Port{same}, `, "class_input": "y"`},
		`output: there is no "eps"`:                    {[]Port{sample, step}, []Port{same}, `, "output": "eps"`},
		`values: there is no "w"`:                      {[]Port{sample, step}, []Port{same}, `, "values": {"w": 1}`},
		"values: timestep is the state, the time":      {[]Port{sample, step}, []Port{same}, `, "values": {"timestep": 1}`},
		"values: input w is of open size":              {[]Port{sample, step, {"w", "float32", []int{1, -1}}}, []Port{same}, `, "values": {"w": 1}`},
		"output out is of type int64":                  {[]Port{sample, step}, []Port{{"out", "int64", []int{-1, 3, 8, 8}}}, ``},
		"output out against a sample of shape [3 8 8]": {[]Port{sample, step}, []Port{{"out", "float32", []int{-1, 4, 8, 8}}}, ``},
		"name one of its sizes":                        {[]Port{{"sample", "float32", []int{-1, 3, -1, -1}}, step}, []Port{same}, ``},
		"sample of shape [3 4 4]: name":                {[]Port{sample, step}, []Port{same}, `, "shape": [3, 4, 4]`},
		"batch 2; the model takes 4":                   {[]Port{{"sample", "float32", []int{4, 3, 8, 8}}, step}, []Port{same}, `, "batch": 2`},
		"timestep has 2 axes":                          {[]Port{sample, {"timestep", "int64", []int{-1, 1}}}, []Port{same}, ``},
		"no axis for the batch":                        {[]Port{{"sample", "float32", []int{3}}, step}, []Port{same}, ``},
	} {
		s, err := ParseSidecar([]byte(`{"prediction": "eps", "path": "vp"` + c.side + `}`))
		if err != nil {
			t.Fatal(err)
		}
		_, err = newModel(&pretended{in: c.in, out: c.out}, s)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "its inputs are [sample float32") {
			t.Errorf("error %v, want %q and the signature", err, want)
		}
	}
}

func TestForwardRefuses(t *testing.T) {
	p := &pretended{
		in:  []Port{{"sample", "float32", []int{-1, 1, 2, 2}}, {"timestep", "float32", []int{-1}}, {"class_labels", "int64", []int{-1}}, {"text", "float32", []int{-1, 7, 3}}},
		out: []Port{{"out", "float32", []int{-1, 1, 2, 2}}}, answer: func(map[string]*array, int, int) float64 { return 0 },
	}
	m := pretend(t, p, `{"prediction": "eps", "path": "vp", "classes": 10}`)
	x, times, classes := ramp(gpu.Float32, 2, 1, 2, 2), []float64{1, 2}, []int{0, 9}
	text := map[string]*gpu.Tensor{"text": ramp(gpu.Float32, 2, 7, 3)}
	ctx := context.Background()
	if err := m.Forward(ctx, x.Like(), x, times, classes, text); err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"1 times for x of shape [2 1 2 2]":           m.Forward(ctx, x.Like(), x, times[:1], classes, text),
		"samples of [1 2 2]":                         m.Forward(ctx, x.Like(), ramp(gpu.Float32, 2, 5), times, classes, text),
		"asks for the input text float32[-1 7 3]":    m.Forward(ctx, x.Like(), x, times, classes, nil),
		"shape [2 7 4] for 2 images":                 m.Forward(ctx, x.Like(), x, times, classes, map[string]*gpu.Tensor{"text": ramp(gpu.Float32, 2, 7, 4)}),
		`asks for no input "mask"; it asks for [tex`: m.Forward(ctx, x.Like(), x, times, classes, map[string]*gpu.Tensor{"text": text["text"], "mask": x}),
		"give one for each image":                    m.Forward(ctx, x.Like(), x, times, nil, text),
		"image 1 has no class and the sidecar no":    m.Forward(ctx, x.Like(), x, times, []int{0, -1}, text),
		"image 0 wants class 10; the model has 0 to": m.Forward(ctx, x.Like(), x, times, []int{10, 0}, text),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if err := m.Forward(stopped, x.Like(), x, times, classes, text); err != context.Canceled {
		t.Errorf("stopped: %v", err)
	}
	plain := pretend(t, &pretended{in: p.in[:2], out: p.out}, `{"prediction": "eps", "path": "vp"}`)
	if err := plain.Forward(ctx, x.Like(), x, times, classes, nil); err == nil || !strings.Contains(err.Error(), "no input for a class") {
		t.Errorf("class for a model without: %v", err)
	}
}

// A wrong sidecar has the right one among its variants, and none that is itself.
func TestVariants(t *testing.T) {
	p := &pretended{in: []Port{{"sample", "float32", []int{-1, 1, 2, 2}}, {"timestep", "float32", nil}}, out: []Port{{"out", "float32", []int{-1, 1, 2, 2}}}}
	for side, wanted := range map[string][]string{
		`{"prediction": "eps", "path": "vp", "time": {"kind": "sigma"}}`: {"time kind index", "time kind path", "input ve", "time kind path with scale 0.001"},
		`{"prediction": "flow", "path": "flow"}`:                         {"time kind fraction with scale 1000", "data at the other end", "time kind sigma"},
		`{"prediction": "edm", "path": "edm"}`:                           {"time kind sigma"},
	} {
		var names []string
		for _, v := range pretend(t, p, side).Variants() {
			names = append(names, v.Name)
			if v.Name == "data at the other end" && v.Path().Name() != "flow-reversed" || v.Name == "time kind sigma" && v.Sidecar.Time.told(v.Path(), v.Path().Time(3)) != 3 && v.Path().Name() == "flow" {
				t.Errorf("%s: %s is on %s", side, v.Name, v.Path().Name())
			}
		}
		for _, w := range wanted {
			if !slices.Contains(names, w) {
				t.Errorf("%s: variants %q lack %q", side, names, w)
			}
		}
		if slices.Contains(names, "input path") || strings.Contains(side, `"edm"`) && slices.Contains(names, "input ve") {
			t.Errorf("%s: variants %q", side, names)
		}
	}
}
