package nn_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
)

// adafactorShapes are those of the golden file, in the order of its rule.
var adafactorShapes = map[string][]int{"matrix": {6, 5}, "small": {3, 4}, "vector": {7}, "wide": {2, 9}}

// goldenStep is the rule by which scripts/golden/adafactor.py makes gradients.
func goldenStep(net *nn.Params, step int) {
	for k, name := range []string{"matrix", "small", "vector", "wide"} {
		g := net.Get(name).Grad()
		for i := range g.Len() {
			v := math.Sin(3*float64(i)+float64(step)+float64(k)) * (1 + 3*math.Cos(float64(i)))
			if i%3 != 0 {
				v += 0.3
			}
			g.F64()[i] = v
		}
	}
}

// torch 2's Adafactor goes the same way.
func TestGoldenAdafactor(t *testing.T) {
	var want struct {
		Torch string
		Steps int
		Cases map[string]map[string][]float64
	}
	oracle.GoldenJSON(t, &want, "adafactor", "trajectories.json")
	// torch's eps are the root of the floor, of float64 unless given, and the least size.
	floor := math.Pow(2, -52) * math.Pow(2, -52)
	cases := map[string]struct {
		lr float64
		o  nn.AdafactorOptions
	}{
		"plain":          {0.01, nn.AdafactorOptions{Floor: floor}},
		"decay":          {0.05, nn.AdafactorOptions{Floor: floor, Decay: 0.3}},
		"other settings": {0.02, nn.AdafactorOptions{Floor: 1e-6, Power: 0.5, Clip: 1.5, Eps: 0.5, Decay: 0.01}},
	}
	if len(want.Cases) != 3 {
		t.Fatalf("%d cases in the file, want 3", len(want.Cases))
	}
	for name, golden := range want.Cases {
		net := nn.NewParams(gpu.CPU(), gpu.Float64)
		for n, shape := range adafactorShapes {
			net.At("").Param(n, nn.Zeros, shape...)
		}
		net.Init(0)
		for n := range adafactorShapes {
			v := net.Get(n).Value.F64()
			for i := range v {
				if v[i] = math.Cos(1.7*float64(i) + 0.2); n == "small" {
					v[i] *= 1e-4
				}
			}
		}
		c := cases[name]
		opt := nn.NewAdafactor(net, c.o)
		for step := range want.Steps {
			goldenStep(net, step)
			opt.Step(c.lr)
		}
		for n, v := range golden {
			for i, w := range v {
				if got := net.Get(n).Value.F64()[i]; math.Abs(got-w) > 1e-12 {
					t.Fatalf("%s: %s[%d] is %v, want %v of torch %s", name, n, i, got, w, want.Torch)
				}
			}
		}
	}
}

// adafactorRule is the paper's algorithms 4 and 5 with relative steps, written out for a
// matrix of rows×cols, or a vector where rows is 0.
func adafactorRule(p []float64, rows, cols int, grads [][]float64, lr float64, o nn.AdafactorOptions) []float64 {
	p = slices.Clone(p)
	n := float64(len(p))
	rms := func(v []float64) float64 {
		var s float64
		for _, x := range v {
			s += x * x
		}
		return math.Sqrt(s / n)
	}
	row, col, v, m := make([]float64, rows), make([]float64, cols), make([]float64, len(p)), make([]float64, len(p))
	for k, g := range grads {
		b2 := 1 - math.Pow(float64(k+1), -0.8)
		u := make([]float64, len(p))
		if rows > 0 {
			for i := range row {
				var s float64
				for j := range cols {
					s += g[i*cols+j] * g[i*cols+j] / float64(cols)
				}
				row[i] = b2*row[i] + (1-b2)*s
			}
			for j := range col {
				var s float64
				for i := range rows {
					s += g[i*cols+j] * g[i*cols+j] / float64(rows)
				}
				col[j] = b2*col[j] + (1-b2)*s
			}
			var mean float64
			for _, r := range row {
				mean += r / float64(rows)
			}
			for i := range u {
				v[i] = row[i/cols] * col[i%cols] / mean
			}
		} else {
			for i := range v {
				v[i] = b2*v[i] + (1-b2)*g[i]*g[i]
			}
		}
		for i := range u {
			u[i] = g[i] / math.Sqrt(v[i])
		}
		by := lr * math.Max(1e-3, rms(p))
		if o.Absolute {
			by = lr
		}
		clip := math.Max(1, rms(u))
		for i := range p {
			m[i] = o.Beta1*m[i] + (1-o.Beta1)*u[i]/clip
			p[i] -= lr*o.Decay*p[i] + by*m[i]
		}
	}
	return p
}

func TestAdafactor(t *testing.T) { device.Each(t, testAdafactor) }

func testAdafactor(t *testing.T, dev *gpu.Device) {
	for name, o := range map[string]nn.AdafactorOptions{
		"plain": {}, "momentum": {Beta1: 0.9, Decay: 0.1}, "absolute": {Absolute: true, Decay: 0.2},
	} {
		for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
			net := nn.NewParams(dev, dt)
			shapes := map[string][]int{"kernel": {7, 3, 5, 5}, "tall": {700, 20}, "bias": {9}, "long": {300}, "wide": {3, 1100}}
			for n, s := range shapes {
				net.At("").Param(n, nn.Normal(0.3), s...)
			}
			net.Init(2)
			opt := nn.NewAdafactor(net, o)
			start, grads := map[string][]float64{}, map[string][][]float64{}
			for n := range shapes {
				start[n] = floats(net.Get(n).Value)
			}
			for step := range 12 {
				for n := range shapes {
					g := net.Get(n).Grad()
					v := make([]float32, g.Len())
					for i := range v {
						v[i] = float32(math.Sin(float64(3*i+step)) * (1 + float64(step)/4)) // growing: the clip is felt
					}
					g.Set(v)
					grads[n] = append(grads[n], floats(g))
				}
				opt.Step(0.02)
			}
			tol := 1e-12
			if dt == gpu.Float32 {
				tol = 2e-6
			}
			for n, s := range shapes {
				rows := s[0]
				cols := len(start[n]) / rows
				if len(s) == 1 {
					rows, cols = 0, 0
				}
				want := adafactorRule(start[n], rows, cols, grads[n], 0.02, o)
				for i, got := range floats(net.Get(n).Value) {
					if math.Abs(got-want[i]) > tol {
						t.Fatalf("%s, %v: %s[%d] is %v, want %v", name, dt, n, i, got, want[i])
					}
				}
			}
		}
	}
}

// What it keeps: a number a row and a column, not one an element; groups, frozen parameters
// and no gradient at all are as with the others.
func TestAdafactorState(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	net.At("").Param("w", nn.Ones, 100, 30)
	net.At("").Param("b", nn.Ones, 100)
	net.At("").Param("still", nn.Ones, 4)
	net.Init(0)
	net.Get("still").Frozen = true
	opt := nn.NewAdafactor(net, nn.AdafactorOptions{Decay: 1, Groups: []nn.Group{{Match: func(n string) bool { return n == "b" }, LR: 1}}})
	kept := 0
	for _, s := range opt.State() {
		if s.Name != "steps" {
			kept += s.Tensor.Len()
		}
	}
	if kept != 100+30+100+4 {
		t.Errorf("%d numbers kept, want 234", kept)
	}
	net.Grad()
	opt.Step(0.25)
	for name, want := range map[string]float32{"w": 0.75, "b": 1, "still": 1} {
		for _, v := range net.Get(name).Value.F32() {
			if v != want {
				t.Fatalf("without a gradient %s becomes %v, want %v", name, v, want)
			}
		}
	}
	for name, f := range map[string]func(){
		"beta1 1":       func() { nn.NewAdafactor(net, nn.AdafactorOptions{Beta1: 1}) },
		"clip -1":       func() { nn.NewAdafactor(net, nn.AdafactorOptions{Clip: -1}) },
		"decay NaN":     func() { nn.NewAdafactor(net, nn.AdafactorOptions{Decay: math.NaN()}) },
		"learning rate": func() { opt.Step(-1) },
	} {
		func() {
			defer func() {
				if e := recover(); e == nil || !strings.Contains(e.(string), name) {
					t.Errorf("%s: panic %v", name, e)
				}
			}()
			f()
		}()
	}
}
